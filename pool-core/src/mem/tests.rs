use std::io::IoSliceMut;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::{ftruncate, getpid};

use super::*;
use crate::WindowRange;
use crate::sync::atomic::Ordering::{Relaxed, SeqCst};
use crate::units::{EXTENT_BYTES, PAGE_BYTES, TIB};

mod file_map;
mod own_word;
mod view;
mod window;

const EXTENT: Bytes = Bytes::new(EXTENT_BYTES);

fn extents(count: u64) -> Bytes {
    Bytes::new(count * EXTENT_BYTES)
}

/// A range that no other test of this process uses.
fn range(count: u64) -> WindowRange {
    static NEXT: AtomicU64 = AtomicU64::new(0x3000_0000_0000);
    let base = NEXT.fetch_add(TIB, Relaxed);
    WindowRange::new(PoolAddr::new(base), extents(count)).unwrap()
}

fn file(bytes: u64) -> OwnedFd {
    let file = memfd_create("mem", MFdFlags::MFD_CLOEXEC).unwrap();
    ftruncate(&file, i64::try_from(bytes).unwrap()).unwrap();
    file
}

fn map(file: &OwnedFd, access: Access) -> FileMap {
    FileMap::new(file.as_fd(), Bytes::ZERO, Bytes::new(PAGE_BYTES), access).unwrap()
}

/// What a system call finds at `addr`: no access of ours, so it cannot fault.
fn probe(addr: PoolAddr) -> Result<u8, Errno> {
    let mut byte = [0];
    let remote = RemoteIoVec {
        base: usize::try_from(addr.get()).unwrap(),
        len: 1,
    };
    process_vm_readv(getpid(), &mut [IoSliceMut::new(&mut byte)], &[remote])?;
    Ok(byte[0])
}

/// The flags of the mapping at `addr`, as in `rd wr dc dd`.
fn flags(addr: PoolAddr) -> String {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in smaps.lines() {
        if let Some((start, rest)) = line.split_once('-')
            && let Ok(start) = u64::from_str_radix(start, 16)
            && let Ok(end) = u64::from_str_radix(rest.split(' ').next().unwrap(), 16)
        {
            inside = (start..end).contains(&addr.get());
        }
        if inside && let Some(flags) = line.strip_prefix("VmFlags: ") {
            return flags.to_owned();
        }
    }
    String::new()
}
