//! What is shown in a machine, by name: `cargo xtask cxl-vm --list`.

mod conformance;
mod daemon;
mod discovery;
mod hosts;
mod hotplug;
mod moves;
mod operator;
mod pool;
mod regions;
mod tool;

use anyhow::bail;

/// Runs one of them, or a process that one of them needs.
pub(crate) fn run(name: &str, words: &[String]) -> anyhow::Result<()> {
    match name {
        "reader" => pool::reader(words),
        "counter" => pool::counter(words),
        "looker" => hotplug::looker(),
        "moves-reader" => moves::reader(),
        "conformance" => conformance::run(),
        "discovery" => discovery::run(),
        "regions" => regions::run(),
        "pool" => pool::run(),
        "hotplug" => hotplug::run(),
        "moves" => moves::run(),
        "operator" => operator::run(),
        "two-hosts" => hosts::run(words),
        "interleave" => regions::interleave(),
        _ => bail!("this guest knows no scenario {name:?}"),
    }
}
