//! The first process of a virtual machine of `cargo xtask cxl-vm`.
//!
//! It makes the machine a machine (`boot`), runs the scenario that the kernel's command line names
//! in a process of its own, buries whoever dies meanwhile, says on the console what came of it,
//! and turns the machine off. Lines that begin with `cxl-vm: ` are for whoever started it.

#![forbid(unsafe_code)]

mod boot;
mod say;
mod scenario;

use std::env;
use std::process::Command;

use anyhow::{Context as _, bail};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

fn main() {
    let is_first = nix::unistd::getpid() == Pid::from_raw(1);
    if !is_first {
        let words: Vec<String> = env::args().skip(1).collect();
        let name = words.first().map_or("", String::as_str);
        if let Err(why) = scenario::run(name, words.get(1..).unwrap_or_default()) {
            say::failed(&why);
            std::process::exit(1);
        }
        return;
    }
    match first() {
        Ok(()) => say::passed(),
        Err(why) => say::failed(&why),
    }
    boot::turn_off();
}

/// What the first process does.
fn first() -> anyhow::Result<()> {
    let options = boot::prepare()?;
    let mut child = Command::new("/init");
    child.args([&options.scenario, &options.name]);
    let child = child.env("PATH", "/bin").spawn();
    let child = child.context("the scenario does not start")?;
    let pid = i32::try_from(child.id()).context("a process has a number")?;
    match bury_until(Pid::from_raw(pid))? {
        WaitStatus::Exited(_, 0) => Ok(()),
        status => bail!("the scenario ended with {status:?}"),
    }
}

/// Waits for whoever ends until that one does.
fn bury_until(awaited: Pid) -> anyhow::Result<WaitStatus> {
    loop {
        let status = waitpid(None, Some(WaitPidFlag::__WALL))?;
        if status.pid() == Some(awaited) {
            return Ok(status);
        }
    }
}
