//! Real programs run over the preloaded library: the short run of `cargo xtask preload`, and that
//! it fails where it should.
//!
//! `TIERPOOL_LIBRARY` names another library than the one that is built here.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn preload(library: Option<&Path>, only: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["preload", "--short"]);
    if let Some(library) = library {
        command.arg("--library").arg(library);
    }
    if let Some(program) = only {
        command.arg("--only").arg(program);
    }
    command.output().expect("xtask starts")
}

fn shown(output: &Output) -> String {
    let parts = [&output.stdout, &output.stderr].map(|part| String::from_utf8_lossy(part));
    parts.concat()
}

/// The malloc of `tests/c/broken.c`, with a bug; nothing where there is no compiler.
fn broken(bug: &str) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/c/broken.c");
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{bug}.so"));
    let mut compile = Command::new("cc");
    compile
        .args(["-O2", "-w", "-fno-builtin", "-shared", "-fPIC", "-pthread"])
        .arg(format!("-D{bug}"))
        .arg("-o")
        .args([&library, &source]);
    let output = compile.output().ok()?;
    assert!(output.status.success(), "{}", shown(&output));
    Some(library)
}

#[test]
fn real_programs_do_the_same_over_the_library() {
    let output = preload(None, None);
    let shown = shown(&output);
    assert!(output.status.success(), "{shown}");
    let mut ran = 0;
    for line in shown.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            [_, "pass", ..] => ran += 1,
            [program, "SKIPPED", ..] => {
                let why = format!("preload::{program}: it is not installed");
                // Past the capture of the harness, for `cargo xtask test` to collect.
                let told = writeln!(std::io::stdout(), "skipped: {why}");
                assert!(told.is_ok());
            }
            _ => {}
        }
    }
    assert!(ran > 0, "{shown}");
}

#[test]
fn a_program_over_a_broken_malloc_fails() {
    let Some(library) = broken("HANDED_OUT_TWICE") else {
        let told = writeln!(
            std::io::stdout(),
            "skipped: preload::broken: no cc is installed"
        );
        return assert!(told.is_ok());
    };
    let output = preload(Some(&library), Some("bash"));
    let shown = shown(&output);
    assert!(
        !output.status.success() && shown.contains("FAIL"),
        "{shown}"
    );
}

#[test]
fn a_library_that_is_not_loaded_is_noticed() {
    // The loader only warns of a file that is no library, and goes on with the system's malloc.
    let output = preload(Some(Path::new("/etc/passwd")), Some("bash"));
    let shown = shown(&output);
    assert!(!output.status.success(), "{shown}");
    assert!(shown.contains("is not loaded into bash"), "{shown}");
}
