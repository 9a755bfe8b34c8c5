//! The laws that every kind of device holds, over files of CXL memory in both modes: the very
//! program that holds them for other devices.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::regions::RULE;
use crate::boot;
use crate::say;

pub(super) fn run() -> anyhow::Result<()> {
    fs::write(RULE, "online_movable")?;
    boot::load("kmem")?;
    let mut laws = Command::new("/bin/device_conformance");
    laws.args(["devdax::", "kmem::", "child::"])
        .env("TIERPOOL_DEVDAX_SERIAL", 0xa0.to_string())
        .env("TIERPOOL_KMEM_SERIAL", 0xa1.to_string());
    let output = laws.output().context("the laws do not start")?;
    let told = String::from_utf8_lossy(&output.stdout);
    print!("{told}{}", String::from_utf8_lossy(&output.stderr));
    let skipped = told.lines().filter(|line| line.contains("skipped: "));
    let skipped: Vec<&str> = skipped.collect();
    ensure!(skipped.is_empty(), "{}", skipped.join(", "));
    let end = told.lines().find(|line| line.starts_with("test result"));
    let end = end.context("the laws came to no end")?;
    ensure!(output.status.success(), "{end}");
    say::told(&format!("in both modes: {end}"));
    Ok(())
}
