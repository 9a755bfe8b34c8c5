//! Which library is preloaded.
//!
//! `TIERPOOL_LIBRARY` names it; `system` there stands for the C library's own malloc, so that one
//! can see that a check is right. Where it is not set, the library is built as its users build it.
//! Any file but `libtierpool.so` is taken for another allocator, which has not promised all that
//! ours has: cases that are promises of ours alone are skipped with it, and say so.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// How the library's file is called.
const FILE: &str = "libtierpool.so";
/// Its package.
const PACKAGE: &str = "tierpool-c";

/// A library to preload.
#[derive(Debug, Clone)]
pub(crate) struct Library {
    /// Its absolute path, or nothing for the malloc of the C library.
    pub(crate) path: Option<PathBuf>,
    /// Whether it promises what Tierpool's does.
    pub(crate) is_ours: bool,
}

impl Library {
    /// The one under test.
    pub(crate) fn under_test() -> &'static Self {
        static LIBRARY: OnceLock<Library> = OnceLock::new();
        LIBRARY.get_or_init(|| match env::var_os("TIERPOOL_LIBRARY") {
            Some(named) => Self::named(&named),
            None => Self::built(),
        })
    }

    fn named(named: &OsString) -> Self {
        if named == "system" {
            return Self {
                path: None,
                is_ours: false,
            };
        }
        let path = Path::new(named).canonicalize();
        let path = path.unwrap_or_else(|error| panic!("TIERPOOL_LIBRARY {named:?}: {error}"));
        Self {
            is_ours: path.file_name().is_some_and(|name| name == FILE),
            path: Some(path),
        }
    }

    fn built() -> Self {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(env!("CARGO_MANIFEST_DIR")).args([
            "build",
            "--quiet",
            "--release",
            "--package",
            PACKAGE,
            "--message-format",
            "json-render-diagnostics",
        ]);
        let output = command.output().expect("cargo starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{PACKAGE} is not built: {}\n{errors}",
            output.status
        );
        let messages = String::from_utf8_lossy(&output.stdout);
        let artifact = messages.lines().find_map(artifact);
        Self {
            path: Some(artifact.expect("cargo tells where it put the library")),
            is_ours: true,
        }
    }

    /// Loads it into what `command` starts.
    pub(crate) fn load_into(&self, command: &mut Command) {
        if let Some(path) = &self.path {
            command.env("LD_PRELOAD", path).env("CHECK_LIBRARY", path);
        }
        if self.is_ours {
            command.env("CHECK_OURS", "1");
        }
    }
}

/// The library in a message of cargo's, if it tells of it.
fn artifact(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let mut files = message["filenames"].as_array()?.iter();
    files.find_map(|file| {
        let path = Path::new(file.as_str()?);
        path.file_name()
            .is_some_and(|name| name == FILE)
            .then(|| path.to_owned())
    })
}
