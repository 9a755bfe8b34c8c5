//! `cargo xtask preload`: real programs run over the preloaded library.
//!
//! Each runs twice, in an empty folder: without the library and with it. It passes where both runs
//! end well and print the same, and where the library was really loaded: the loader is asked for
//! each command, and the scripts look at the memory of the processes themselves. What cannot run
//! here is told with the reason and counted; a failure makes the command fail.

pub(crate) mod measure;
mod place;
mod programs;
mod report;

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use self::measure::Measured;
use self::place::Place;
use self::programs::{PRELUDE, PROGRAMS, Program};
use self::report::Verdict;
use crate::command::{cargo, run as run_command, target_directory};

/// Lines of a failed run's errors that are shown.
const LINES_SHOWN: usize = 12;

/// What to run, and how to show it.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Print one JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
    /// Run the programs that are nearly everywhere, with little work for each.
    #[arg(long)]
    short: bool,
    /// Run this one alone.
    #[arg(long, value_name = "PROGRAM")]
    only: Option<String>,
    /// Preload this library instead of the one that is built here.
    #[arg(long, value_name = "FILE", env = "TIERPOOL_LIBRARY")]
    library: Option<PathBuf>,
}

/// One command: where it works and with what.
struct Stage<'a> {
    root: &'a Path,
    folder: PathBuf,
    library: &'a Path,
    scale: u32,
}

/// Runs the programs.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let target = target_directory(root)?;
    let library = library(root, &target, arguments)?;
    let stage = Stage {
        root,
        folder: target.join(format!("preload/run.{}", std::process::id())),
        library: &library,
        scale: if arguments.short { 1 } else { 10 },
    };
    let chosen = |program: &&Program| match &arguments.only {
        Some(name) => program.name == name,
        None => program.is_short || !arguments.short,
    };
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    if !arguments.json {
        println!("preloaded: {}", library.display());
        report::show_head();
    }
    for program in PROGRAMS.iter().filter(chosen) {
        let verdict = match Place::of(program, &target) {
            Ok(place) => stage.judge(program, &place)?,
            Err(why) => Verdict::Skipped(why),
        };
        match verdict {
            Verdict::Passed { .. } => passed += 1,
            Verdict::Failed(_) => failed += 1,
            Verdict::Skipped(_) => skipped += 1,
        }
        report::show(program, &verdict, arguments.json);
    }
    if passed + failed + skipped == 0 {
        let names: Vec<_> = PROGRAMS.iter().map(|program| program.name).collect();
        bail!("no such program; there are {}", names.join(", "));
    }
    if !arguments.json {
        println!("{passed} passed, {failed} failed, {skipped} skipped");
    }
    if failed > 0 {
        bail!("{failed} programs fail over the library");
    }
    fs::remove_dir_all(&stage.folder).or_else(|error| match error.kind() {
        // All were skipped.
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    Ok(())
}

/// The library to preload: the one that was named, or the one of this tree.
fn library(root: &Path, target: &Path, arguments: &Arguments) -> anyhow::Result<PathBuf> {
    if let Some(named) = &arguments.library {
        return named
            .canonicalize()
            .with_context(|| format!("no library {}", named.display()));
    }
    let package = ["--package", "tierpool-c"];
    run_command(
        cargo(root)
            .args(["build", "--release", "--quiet"])
            .args(package),
    )?;
    Ok(target.join("release/libtierpool.so"))
}

impl Stage<'_> {
    /// Runs a program both ways.
    fn judge(&self, program: &Program, place: &Place) -> anyhow::Result<Verdict> {
        if let Err(why) = place.loads(program, self.library) {
            return Ok(Verdict::Failed(why));
        }
        let (plain, printed) = self.measured(program, place, None)?;
        if let Some(why) = plain.failure {
            return Ok(Verdict::Failed(format!("without the library: {why}")));
        }
        let (preloaded, printed_then) = self.measured(program, place, Some(self.library))?;
        if let Some(why) = preloaded.failure {
            return Ok(Verdict::Failed(why));
        }
        if let Some(difference) = difference(&printed, &printed_then) {
            return Ok(Verdict::Failed(difference));
        }
        if printed.is_empty() {
            return Ok(Verdict::Failed("it printed nothing to compare".to_owned()));
        }
        Ok(Verdict::Passed { plain, preloaded })
    }

    /// Runs a script once: how that went, and what it printed.
    fn measured(
        &self,
        program: &Program,
        place: &Place,
        preload: Option<&Path>,
    ) -> anyhow::Result<(Measured, String)> {
        let way = if preload.is_some() { "with" } else { "plain" };
        let folder = self.folder.join(program.name).join(way);
        // The same for both ways: some programs print their folder, or write it into files.
        let work = self.folder.join(program.name).join("work");
        for folder in [&folder, &work] {
            fs::create_dir_all(folder)
                .with_context(|| format!("no folder {}", folder.display()))?;
        }
        let script = folder.join("script.sh");
        fs::write(&script, format!("{PRELUDE}{}", program.script))?;
        let (printed, errors) = (folder.join("printed"), folder.join("errors"));
        let report = folder.join("report");

        let mut command = Command::new(env::current_exe()?);
        command.arg("measure").arg(&report);
        if let Some(library) = preload {
            command.arg("--preload").arg(library);
        }
        command.arg("--").arg("bash").arg(&script);
        command.env_remove("LD_LIBRARY_PATH");
        place.show_to(&mut command);
        command
            .current_dir(&work)
            .env("SCALE", self.scale.to_string())
            .env("TREE", self.root)
            .env("LIBRARY", self.library)
            .env("HOME", &work)
            .env("TMPDIR", &work)
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .env("PYTHONHASHSEED", "0")
            .env_remove("LD_PRELOAD")
            .env_remove("BASH_ENV")
            .stdin(Stdio::null())
            .stdout(File::create(&printed)?)
            .stderr(File::create(&errors)?);
        run_command(&mut command)?;
        fs::rename(&work, folder.join("work"))?;

        let mut measured = measure::read(&report)?;
        if let Some(why) = &mut measured.failure {
            let told = String::from_utf8_lossy(&fs::read(&errors)?).into_owned();
            let lines: Vec<_> = told.lines().collect();
            let shown = lines.len().saturating_sub(LINES_SHOWN);
            let told = lines[shown..].join("\n");
            *why = format!("{why}; all of it is in {}\n{told}", folder.display());
        }
        let printed = String::from_utf8_lossy(&fs::read(&printed)?).into_owned();
        Ok((measured, printed))
    }
}

/// The first line in which two outputs differ.
fn difference(plain: &str, preloaded: &str) -> Option<String> {
    let (mut plain, mut preloaded) = (plain.lines(), preloaded.lines());
    for line in 1.. {
        let (left, right) = (plain.next(), preloaded.next());
        if left.is_none() && right.is_none() {
            return None;
        }
        if left != right {
            let shown = |line: Option<&str>| line.unwrap_or("(nothing)").to_owned();
            return Some(format!(
                "line {line} of the output differs\nwithout: {}\nwith:    {}",
                shown(left),
                shown(right)
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_differ_where_a_line_does_or_is_missing() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(difference("", ""), None);
        let told = difference("a\nb\n", "a\nc\n").unwrap();
        assert!(
            told.contains("line 2") && told.contains("without: b"),
            "{told}"
        );
        let told = difference("a\n", "a\nmore\n").unwrap();
        assert!(
            told.contains("(nothing)") && told.contains("with:    more"),
            "{told}"
        );
    }

    #[test]
    fn names_are_unique_and_every_script_prints() {
        for (index, program) in PROGRAMS.iter().enumerate() {
            let same = PROGRAMS[..index]
                .iter()
                .any(|other| other.name == program.name);
            assert!(!same, "{}", program.name);
            assert!(!program.script.trim().is_empty() && !program.needs.is_empty());
        }
        assert!(PROGRAMS.iter().filter(|program| program.is_short).count() >= 6);
    }
}
