//! The tools `cxl` and `daxctl`, which what we read is compared with.

use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// What a tool lists.
pub(super) fn list(tool: &str, words: &[&str]) -> anyhow::Result<Value> {
    let text = run(tool, words)?;
    // Where there is nothing they print nothing.
    if text.trim().is_empty() {
        return Ok(Value::Array(Vec::new()));
    }
    serde_json::from_str(&text).with_context(|| format!("{tool} lists no JSON: {text}"))
}

/// Has a tool do something.
pub(super) fn run(tool: &str, words: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(tool).args(words).output();
    let output = output.with_context(|| format!("{tool} does not start"))?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.success(),
        "{tool} {words:?}: {}: {errors}",
        output.status
    );
    Ok(String::from_utf8(output.stdout)?)
}
