//! What is shown in a machine, by name: `cargo xtask cxl-vm --list`.

mod discovery;
mod regions;
mod tool;

use anyhow::bail;

/// Runs one of them.
pub(crate) fn run(name: &str) -> anyhow::Result<()> {
    match name {
        "discovery" => discovery::run(),
        "regions" => regions::run(),
        "interleave" => regions::interleave(),
        _ => bail!("this guest knows no scenario {name:?}"),
    }
}
