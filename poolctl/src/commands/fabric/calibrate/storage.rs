//! Storage, where it is asked for: a file that has no name, read and written past the page cache.
//!
//! One access at a time, so rates are those of a queue of one: a drive may do more. What is on
//! memory, or takes no direct access, is not measured.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use pool_core::clock;
use pool_core::rng::Rng;
use pool_core::units::MIB;

use super::Effort;
use super::overlay::Overlay;
use super::spread::Spread;
use crate::error::CtlError;

const PAGE: usize = 4_096;
/// Bytes of one transfer in bulk.
const BULK: usize = 1 << 20;
/// The file, in transfers in bulk.
const TRANSFERS: u64 = 64;

/// Where direct accesses may go to and come from.
#[derive(Debug, Clone, Copy)]
#[repr(align(4096))]
struct Aligned([u8; BULK]);

/// The least that direct accesses move.
#[derive(Debug, Clone, Copy)]
#[repr(align(4096))]
struct Page([u8; PAGE]);

/// Adds what it can measure in a folder.
pub(super) fn measure(
    effort: Effort,
    folder: &Path,
    overlay: &mut Overlay,
) -> Result<(), CtlError> {
    let failed = |source| CtlError::File {
        path: folder.to_owned(),
        source,
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    let no_name = options.custom_flags((OFlag::O_TMPFILE | OFlag::O_DIRECT).bits());
    let file = match no_name.open(folder) {
        Ok(file) => file,
        // Only a file system that knows no such file, or no direct access, says so.
        Err(error)
            if [nix::errno::Errno::EINVAL, nix::errno::Errno::EOPNOTSUPP]
                .map(|errno| Some(errno as i32))
                .contains(&error.raw_os_error()) =>
        {
            overlay.leave_out(
                "nvme",
                "the file system takes no direct access without a name",
            );
            return Ok(());
        }
        Err(error) => return Err(failed(error)),
    };
    let kind = fstatfs(&file).map_err(|errno| failed(errno.into()))?;
    if kind.filesystem_type() == TMPFS_MAGIC {
        overlay.leave_out("nvme", "the folder is in memory");
        return Ok(());
    }
    let write = bulk(effort, &file, true).map_err(failed)?;
    let read = bulk(effort, &file, false).map_err(failed)?;
    let latency = pages(effort, &file).map_err(failed)?;
    let of = |what: &str| format!("{what} of a file of {TRANSFERS} MiB, one at a time, direct");
    overlay.time(
        ("nvme", "latency"),
        latency,
        &of("reading 4 KiB at places that are drawn"),
    );
    for (key, measured, what) in [
        ("bandwidth_read", read, "reading 1 MiB after the other"),
        ("bandwidth_write", write, "writing 1 MiB after the other"),
    ] {
        match measured {
            Some(spread) => overlay.rate(("nvme", key), spread, &of(what)),
            None => overlay.leave_out(&format!("nvme.{key}"), "no run came to an end"),
        }
    }
    Ok(())
}

/// MB/s of going through the whole file.
fn bulk(effort: Effort, file: &File, is_write: bool) -> std::io::Result<Option<Spread>> {
    let mut buffer = vec![Aligned([7; BULK])];
    let deadline = effort.deadline();
    let mut runs = Vec::new();
    while runs.len() < effort.runs && (runs.is_empty() || !deadline.expired()) {
        let start = clock::now();
        for transfer in 0..TRANSFERS {
            let at = transfer * MIB;
            for Aligned(bytes) in &mut buffer {
                if is_write {
                    file.write_all_at(bytes, at)?;
                } else {
                    file.read_exact_at(bytes, at)?;
                }
            }
        }
        if is_write {
            file.sync_data()?;
        }
        let took = clock::now().saturating_since(start).get().max(1);
        runs.push((TRANSFERS * MIB).saturating_mul(1_000) / took);
    }
    Ok(Spread::of(runs))
}

/// Picoseconds of one read.
fn pages(effort: Effort, file: &File) -> std::io::Result<Option<Spread>> {
    let mut page = Box::new(Page([0; PAGE]));
    let mut rng = Rng::new(1);
    let deadline = effort.deadline();
    let mut runs = Vec::new();
    // Each read is a run: a drive is slow enough for the clock, and its spread is of interest.
    while runs.len() < effort.runs.saturating_mul(10) && !deadline.expired() {
        let at = rng.below(TRANSFERS * MIB / PAGE as u64) * PAGE as u64;
        let start = clock::now();
        file.read_exact_at(&mut page.0, at)?;
        runs.push(
            clock::now()
                .saturating_since(start)
                .get()
                .saturating_mul(1_000),
        );
    }
    Ok(Spread::of(runs))
}
