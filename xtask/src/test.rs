//! `cargo xtask test`: every test of the workspace, as a newcomer runs them.
//!
//! Two runs of `cargo test`: first the programs and libraries, then the examples in the
//! documentation. Between them stands the list of what was skipped and why, so that the last line
//! is cargo's own. A test is skipped in one of two ways, and both are found in cargo's output:
//! it carries `#[ignore = "why"]`, or it finds at run time that the machine cannot run it and
//! writes a line `skipped: NAME: WHY` to its standard output (past the capture of the test
//! harness, so that a plain `cargo test` shows it too).

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::command::{cargo, run as run_command, shown};

/// Runs all tests; fails unless all that could run have passed.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let programs = ["--lib", "--bins", "--tests", "--examples", "--no-fail-fast"];
    let skipped = run_watched(cargo(root).args(["test", "--workspace"]).args(programs))?;
    print!("{}", report(&skipped));
    println!("The examples in the documentation:");
    run_command(cargo(root).args(["test", "--workspace", "--doc", "--no-fail-fast"]))
}

/// Runs `command`, passes its output on line by line, and returns the skips it told of.
fn run_watched(command: &mut Command) -> anyhow::Result<Vec<String>> {
    let shown = shown(command);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let stdout = child
        .stdout
        .take()
        .context("the child has no standard output")?;
    let watched = pass_on(BufReader::new(stdout), io::stdout());
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for `{shown}`"))?;
    let skipped = watched.with_context(|| format!("cannot read the output of `{shown}`"))?;
    if !status.success() {
        print!("{}", report(&skipped));
        bail!("`{shown}` failed: {status}");
    }
    Ok(skipped)
}

/// Copies `lines` to `out` and collects the skips among them.
fn pass_on(mut lines: impl BufRead, mut out: impl Write) -> io::Result<Vec<String>> {
    let mut skipped = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        // Bytes, not a `String`: a test may print anything.
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Ok(skipped);
        }
        out.write_all(&line)?;
        skipped.extend(skip_in(String::from_utf8_lossy(&line).trim_end()));
    }
}

/// The skip that a line of output tells of, as `NAME: WHY`.
fn skip_in(line: &str) -> Option<String> {
    if let Some(told) = line.strip_prefix("skipped: ") {
        return Some(told.to_owned());
    }
    let (name, verdict) = line.strip_prefix("test ")?.split_once(" ... ")?;
    // With one thread the harness writes the name first, and the test writes after it.
    if let Some(told) = verdict.strip_prefix("skipped: ") {
        return Some(told.to_owned());
    }
    let reason = verdict.strip_prefix("ignored")?;
    let reason = reason
        .strip_prefix(", ")
        .unwrap_or("ignored, and no reason is given");
    Some(format!("{name}: {reason}"))
}

fn report(skipped: &[String]) -> String {
    if skipped.is_empty() {
        return "\nNo test was skipped.\n".to_owned();
    }
    let mut text = format!("\nSkipped on this machine: {}\n", skipped.len());
    for skip in skipped {
        text.push_str("  ");
        text.push_str(skip);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_is_found_whichever_way_it_is_told() {
        let output = "running 4 tests\n\
            test a::passes ... ok\n\
            skipped: a::needs_root: run as root to switch user ids\n\
            test a::huge ... skipped: a::huge: no huge pages are reserved\n\
            test a::slow ... ignored, takes an hour\n\
            test a::bare ... ignored\n\
            test result: ok. 2 passed; 0 failed; 2 ignored; 0 measured\n";
        let mut shown = Vec::new();
        let skipped = pass_on(output.as_bytes(), &mut shown).unwrap();
        assert_eq!(shown, output.as_bytes(), "all of it stays in view");
        assert_eq!(
            skipped,
            [
                "a::needs_root: run as root to switch user ids",
                "a::huge: no huge pages are reserved",
                "a::slow: takes an hour",
                "a::bare: ignored, and no reason is given",
            ]
        );
    }

    #[test]
    fn the_report_names_each_skip_and_says_so_when_there_is_none() {
        assert!(report(&[]).contains("No test was skipped"));
        let text = report(&["a: because".to_owned(), "b: so".to_owned()]);
        assert!(
            text.contains("machine: 2\n  a: because\n  b: so\n"),
            "{text}"
        );
    }

    #[test]
    fn a_failing_command_fails_the_run() {
        let error = run_watched(&mut Command::new("false")).unwrap_err();
        assert!(error.to_string().contains("`false` failed"), "{error}");
    }
}
