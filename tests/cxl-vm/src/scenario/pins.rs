//! A page that a client has pinned for I/O stays its own, and nobody else's, until it is let go of:
//! also where that client has closed everything else.
//!
//! The pin is a pipe that was given the page without a copy (`vmsplice`). A slice whose driver is
//! taken away ends only once the kernel has every page back, so its extents stay in quarantine.

use std::fs::{self, File};
use std::io::{IoSlice, Read as _};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use client_sdk::{Access, AttachOptions, Create, Force, Pool};
use nix::fcntl::{SpliceFFlags, vmsplice};
use pool_core::clock::{Deadline, eventually};
use pool_core::units::MIB;
use pool_core::{Bytes, EXTENT_BYTES};

use super::daemon::{Daemon, PATIENCE};
use super::hotplug::{DEVICES, device};
use crate::say;

const NAME: &str = "pinned";
const BYTES: Bytes = Bytes::new(2 * EXTENT_BYTES);
/// What is pinned, in bytes.
const PAGE: usize = 4096;
/// All of the device.
const ALL: u64 = 512 * MIB;
/// What each byte of the page is.
const FILL: u8 = 0x5a;
/// How long an answer is waited for.
const SOON: Duration = Duration::from_secs(120);
/// When the first file is there, the page is pinned; when the second one is, it is looked at.
const PINNED: &str = "/run/pinned";
const LOOK: &str = "/run/look";

pub(super) fn run() -> anyhow::Result<()> {
    let daemon = Daemon::start(DEVICES)?;
    // To zero nearly all of the device takes a while.
    let options = AttachOptions::new().socket(Daemon::socket());
    let pool = Pool::attach(&options.timeout(SOON))?;
    let segment = pool.create(&Create::new("pooled", BYTES).name(NAME).persistent())?;
    segment.view_mut::<u8>(Bytes::ZERO, PAGE)?.fill(FILL)?;
    let mut pinner = Command::new("/init").arg("pinner").spawn()?;
    await_file(PINNED).context("nothing is pinned")?;
    segment.free(Force::Yes)?;
    // Whatever else there is of the device is somebody else's now, and zero.
    let rest = pool.create(&Create::new("pooled", Bytes::new(ALL - BYTES.get())))?;
    let near = device(&daemon, "near")?;
    ensure!(near["free_bytes"] == 0, "what is pinned is free: {near}");
    ensure!(near["quarantined_bytes"] == BYTES.get(), "{near}");
    fs::write(LOOK, "")?;
    let ended = pinner.wait()?;
    ensure!(ended.success(), "who has pinned it ended with {ended}");
    rest.close();
    drop(pool);
    daemon.is_at_rest()?;
    say::told("a page that is pinned is nobody else's until it is let go of");
    Ok(())
}

/// The other process: pins a page, lets go of all else, and finds the page as it was.
pub(super) fn pinner() -> anyhow::Result<()> {
    let pool = Pool::attach(&AttachOptions::new().socket(Daemon::socket()))?;
    let segment = pool.open(NAME, Access::ReadOnly)?;
    let (read, write) = nix::unistd::pipe()?;
    // SAFETY: the page is mapped until the segment is closed below, and nobody writes it from here
    // on; the kernel reads it, and no code of this process.
    let page = unsafe { std::slice::from_raw_parts(segment.as_ptr(), PAGE) };
    let pinned = vmsplice(&write, &[IoSlice::new(page)], SpliceFFlags::empty())?;
    ensure!(pinned == PAGE, "{pinned} bytes are pinned");
    segment.close();
    drop(pool);
    fs::write(PINNED, "")?;
    await_file(LOOK)?;
    let mut found = vec![0; PAGE];
    File::from(read).read_exact(&mut found)?;
    let wrong = found.iter().position(|byte| *byte != FILL);
    ensure!(wrong.is_none(), "the page has changed at {wrong:?}");
    Ok(())
}

fn await_file(path: &str) -> anyhow::Result<()> {
    let came = eventually(Deadline::after(PATIENCE), || {
        fs::exists(path).ok()?.then_some(())
    });
    ensure!(came.is_ok(), "{path} does not come");
    Ok(())
}
