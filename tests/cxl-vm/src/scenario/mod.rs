//! What is shown in a machine, by name: `cargo xtask cxl-vm --list`.

mod discovery;
mod tool;

use anyhow::bail;

/// Runs one of them.
pub(crate) fn run(name: &str) -> anyhow::Result<()> {
    match name {
        "discovery" => discovery::run(),
        _ => bail!("this guest knows no scenario {name:?}"),
    }
}
