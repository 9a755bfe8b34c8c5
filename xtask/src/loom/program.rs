//! The programs that hold models: built under the model checker, and asked for their tests.
//!
//! They have a target folder of their own, so that neither build undoes the other. They are
//! optimised, for a model runs its body up to millions of times, and keep the checks of a debug
//! build.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::command::{cargo, output, shown, target_directory};
use crate::tidy::Model;

/// How the optimised profile differs here: it checks more, and is built sooner.
const PROFILE: [(&str, &str); 3] = [
    ("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
];
/// Far more than any model of ours needs; a model that loops without end fails at it.
const BRANCHES: &str = "100000";
/// Has the model checker tell how many schedules it explored, and nothing else.
const LOG: &str = "loom::model=info";

/// One built test program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// The folder of its member.
    pub(super) package: String,
    /// The integration test; `None` for the tests within the library.
    pub(super) target: Option<String>,
    pub(super) path: PathBuf,
}

impl Program {
    /// The names of its tests.
    pub(super) fn tests(&self) -> anyhow::Result<Vec<String>> {
        let list = output(Command::new(&self.path).args(["--list", "--format", "terse"]))?;
        let names = list.lines().filter_map(|line| line.strip_suffix(": test"));
        Ok(names.map(str::to_owned).collect())
    }

    /// What a reader calls `test`.
    pub(super) fn shown(&self, test: &str) -> String {
        let within = [Some(self.package.as_str()), self.target.as_deref()];
        let words = within.into_iter().flatten().chain([test]);
        words.collect::<Vec<_>>().join("::")
    }

    /// The command that runs `test` under all schedules with at most `preemptions`, with the bug
    /// `bug` in the code under test.
    pub(super) fn command(&self, test: &str, bug: Option<&str>, preemptions: u8) -> Command {
        let mut command = Command::new(&self.path);
        for (name, _) in std::env::vars_os() {
            // A bound, or a planned failure, of whoever calls would be there in silence.
            if is_ours(&name.to_string_lossy()) {
                command.env_remove(name);
            }
        }
        command
            .env("LOOM_MAX_PREEMPTIONS", preemptions.to_string())
            .env("LOOM_MAX_BRANCHES", BRANCHES)
            .env("LOOM_LOG", LOG)
            .env("NO_COLOR", "1")
            // Frames of the model checker itself.
            .env("RUST_BACKTRACE", "0")
            .envs(bug.map(|bug| ("TIERPOOL_BUG", bug)))
            .args(["--exact", test, "--nocapture"]);
        command
    }
}

/// Whether an environment variable of this name changes what a model does.
fn is_ours(name: &str) -> bool {
    name.starts_with("LOOM_") || name.starts_with("TIERPOOL_")
}

/// `command` of a [`Program`] as one would type it, at `root`.
pub(super) fn typed(root: &Path, command: &Command) -> String {
    let path = Path::new(command.get_program());
    let path = path.strip_prefix(root).unwrap_or(path).display();
    let mut words: Vec<_> = command
        .get_envs()
        .filter_map(|(name, value)| {
            let (name, value) = (name.to_string_lossy(), value?.to_string_lossy());
            Some(format!("{name}={value}"))
        })
        .collect();
    words.push(path.to_string());
    words.extend(command.get_args().map(|word| word.to_string_lossy().into()));
    words.join(" ")
}

/// Builds the programs that hold `models`.
pub(super) fn build(root: &Path, models: &[Model]) -> anyhow::Result<Vec<Program>> {
    let mut command = cargo(root);
    command.args(["test", "--no-run", "--release"]);
    command.args(["--message-format", "json-render-diagnostics"]);
    command
        .arg("--target-dir")
        .arg(target_directory(root)?.join("loom"));
    command.envs(PROFILE).env("RUSTFLAGS", flags());
    command.env_remove("CARGO_ENCODED_RUSTFLAGS");
    command.args(scope(models));
    let built = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{}`", shown(&command)))?;
    if !built.status.success() {
        bail!("`{}` failed: {}", shown(&command), built.status);
    }
    programs(root, &String::from_utf8(built.stdout)?)
}

/// The caller's flags for the compiler, and the one that puts the model checker in place.
fn flags() -> OsString {
    let mut flags = std::env::var_os("RUSTFLAGS").unwrap_or_default();
    flags.push(" --cfg loom");
    flags
}

/// What cargo shall build: each member that has models, and of it nothing that has none.
fn scope(models: &[Model]) -> Vec<String> {
    let mut scope = BTreeSet::new();
    for model in models {
        scope.insert(format!("--package={}", model.package));
        scope.insert(match &model.target {
            Some(target) => format!("--test={target}"),
            None => "--lib".to_owned(),
        });
    }
    scope.into_iter().collect()
}

/// The programs that cargo says it built, in its messages of one JSON object a line.
fn programs(root: &Path, messages: &str) -> anyhow::Result<Vec<Program>> {
    let mut programs = Vec::new();
    for message in messages.lines() {
        let message: Value = serde_json::from_str(message).context("cargo wrote no JSON")?;
        let Some(path) = message["executable"].as_str() else {
            continue;
        };
        let folder = message["manifest_path"]
            .as_str()
            .and_then(|manifest| Path::new(manifest).parent()?.strip_prefix(root).ok())
            .context("cargo built a program of another form than we know")?;
        let target = &message["target"];
        let is_test = target["kind"][0] == "test";
        programs.push(Program {
            package: folder.display().to_string(),
            target: target["name"].as_str().filter(|_| is_test).map(Into::into),
            path: path.into(),
        });
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(package: &str, target: Option<&str>) -> Model {
        Model {
            package: package.to_owned(),
            target: target.map(str::to_owned),
            name: "law".to_owned(),
            catches: Vec::new(),
        }
    }

    fn program(target: Option<&str>) -> Program {
        Program {
            package: "pool".to_owned(),
            target: target.map(str::to_owned),
            path: "/tree/target/loom/release/deps/loom_a-1".into(),
        }
    }

    #[test]
    fn what_holds_models_is_built_and_nothing_else() {
        let models = [
            model("ring", Some("loom_a")),
            model("ring", Some("loom_b")),
            model("pool", None),
            model("ring", Some("loom_a")),
        ];
        assert_eq!(
            scope(&models),
            [
                "--lib",
                "--package=pool",
                "--package=ring",
                "--test=loom_a",
                "--test=loom_b"
            ]
        );
    }

    #[test]
    fn the_programs_are_those_that_cargo_names() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","manifest_path":"/r/loom-0.7.3/Cargo.toml","#,
            r#""target":{"kind":["lib"],"name":"loom"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/tree/pool/Cargo.toml","#,
            r#""target":{"kind":["test"],"name":"loom_a"},"#,
            r#""executable":"/tree/target/loom/release/deps/loom_a-1"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/tree/pool/Cargo.toml","#,
            r#""target":{"kind":["lib"],"name":"pool"},"#,
            r#""executable":"/tree/target/loom/release/deps/loom_a-1"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
            "\n",
        );
        let found = programs(Path::new("/tree"), messages).unwrap();
        assert_eq!(found, [program(Some("loom_a")), program(None)]);
    }

    #[test]
    fn a_run_is_told_as_one_types_it() {
        let program = program(Some("loom_a"));
        assert_eq!(program.shown("law"), "pool::loom_a::law");
        let command = program.command("law", Some("ring.lost"), 3);
        assert_eq!(
            typed(Path::new("/tree"), &command),
            "LOOM_LOG=loom::model=info LOOM_MAX_BRANCHES=100000 LOOM_MAX_PREEMPTIONS=3 \
             NO_COLOR=1 RUST_BACKTRACE=0 TIERPOOL_BUG=ring.lost \
             target/loom/release/deps/loom_a-1 --exact law --nocapture"
        );
        assert!(!typed(Path::new("/tree"), &program.command("law", None, 3)).contains("BUG"));
    }

    #[test]
    fn what_bounds_a_model_comes_from_here_alone() {
        for name in ["LOOM_MAX_PERMUTATIONS", "LOOM_MAX_DURATION", "TIERPOOL_BUG"] {
            assert!(is_ours(name), "{name}");
        }
        assert!(!is_ours("PATH"));
    }
}
