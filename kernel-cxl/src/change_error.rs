//! Why something cannot be changed, and how files are told a value.

use std::fs;
use std::io;
use std::path::PathBuf;

use pool_core::Bytes;

use crate::dax::DaxDriver;
use crate::sysfs::{Folder, SysfsError};

/// Something was not changed, or could not be. All that is refused before a file is written has
/// changed nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// No device has this serial number. Plug it in, or see which there are.
    #[error("no device has the serial number {0:#x}")]
    NoMemdev(u64),
    /// A device is named twice.
    #[error("the device {0:#x} is named twice")]
    Twice(u64),
    /// A region needs a device.
    #[error("a region needs at least one device")]
    NoDevice,
    /// The driver did not take the device, or found no way to it from the root. See the kernel's
    /// log for why.
    #[error("the device {serial:#x} ({name}) is not in use by the driver: {reason}")]
    NotReady {
        /// Which.
        serial: u64,
        /// Its name now.
        name: String,
        /// What it lacks.
        reason: &'static str,
    },
    /// No window of volatile memory leads to these devices in this way.
    #[error("no window for volatile memory leads to {}", serials_told(.0))]
    NoWindow(Vec<u64>),
    /// The size is none that a region may have.
    #[error("a region of {ways} devices is a multiple of {unit}, and not {bytes}")]
    Size {
        /// What was asked for.
        bytes: Bytes,
        /// Over how many devices.
        ways: u32,
        /// What it has to be a multiple of.
        unit: Bytes,
    },
    /// The kernel interleaves no such number of devices, or not so many bytes of each.
    #[error("no region is interleaved over {ways} devices by {granularity} bytes")]
    Interleave {
        /// How many devices.
        ways: usize,
        /// How many bytes of each in turn.
        granularity: u32,
    },
    /// The window that leads there goes from one way to the next by another number of bytes. Ask
    /// for that one.
    #[error(
        "the window {window} takes turns by {granularity} bytes, and what lies in it has to as \
         well: ask for that, and not for {wanted}"
    )]
    WindowInterleave {
        /// Which.
        window: String,
        /// Its number.
        granularity: u32,
        /// What was asked for.
        wanted: u32,
    },
    /// The device has not so much left above what its regions have: they are a stack. Destroy the
    /// last one made, or ask for less.
    #[error("the device {serial:#x} has {left} left, and not {wanted}")]
    DeviceFull {
        /// Which.
        serial: u64,
        /// What was wanted of it.
        wanted: Bytes,
        /// What it has.
        left: Bytes,
    },
    /// Each decoder of the device is in use: it has no more regions. Destroy one, or cut one into
    /// dax devices.
    #[error("each decoder of the device {0:#x} is in use")]
    NoDecoder(u64),
    /// No stretch of the window is so long. Destroy a region in it, or ask for less.
    #[error("the window {window} has no {wanted} in one piece, only {left}")]
    WindowFull {
        /// Which.
        window: String,
        /// What was wanted.
        wanted: Bytes,
        /// The longest.
        left: Bytes,
    },
    /// There is no such region.
    #[error("there is no region {0}")]
    NoRegion(String),
    /// Of a device's regions the last one made goes first: destroy that.
    #[error("{region} is not the last region of the device {serial:#x}: destroy {first} first")]
    NotLast {
        /// Which was to go.
        region: String,
        /// On which device.
        serial: u64,
        /// Which one has to go before it.
        first: String,
    },
    /// A dax device of it is driven by somebody. Take it from there first.
    #[error("{device} of {region} is in use by {driver}: {}", away(device, driver))]
    InUse {
        /// The region.
        region: String,
        /// The dax device.
        device: String,
        /// Its driver.
        driver: String,
    },
    /// It is memory that keeps what it holds, with which this project has nothing to do. Use `cxl`.
    #[error("{0} is persistent memory: nothing here destroys it, `cxl destroy-region` does")]
    Persistent(String),
    /// The firmware made it and keeps it: the kernel would let go of it half-way. Have the firmware
    /// not make it.
    #[error(
        "the firmware has made {region} and locked {locked}: it stays until the firmware's setup \
         says otherwise"
    )]
    Locked {
        /// The region.
        region: String,
        /// The region itself, or one of its decoders.
        locked: String,
    },
    /// Another program of this project makes or destroys a region. Try again.
    #[error("another program makes or destroys a region just now: try again")]
    Busy,
    /// There is no such dax device.
    #[error("there is no dax device {0}")]
    NoDax(String),
    /// Memory of a node would come where the kernel keeps what it cannot move, and could never be
    /// taken away again. Write `online_movable` into that file first.
    #[error("{path} says {found:?}: write online_movable into it, or the memory stays for ever")]
    NotMovable {
        /// The kernel's rule for memory that is new.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// Blocks of its memory are in use by the kernel. Take them offline first: whoever unbinds the
    /// driver before has lost the memory until the machine starts again.
    #[error("{online} blocks of {device} are online: take them offline first")]
    Online {
        /// The dax device.
        device: String,
        /// How many.
        online: usize,
    },
    /// A block was put online for what cannot be moved as well, by another one or at the start of
    /// the machine: its memory may never come back. Have it put online as movable, after a start.
    #[error("{block} of {device} is online in {zones:?} and not as movable memory alone")]
    Unmovable {
        /// The dax device.
        device: String,
        /// The block.
        block: String,
        /// The kernel's zones that it is in.
        zones: String,
    },
    /// The kernel has no such driver now. Load its module.
    #[error("the kernel has no driver {0} for dax devices: load its module")]
    NoDriver(&'static str),
    /// The kernel refused.
    #[error("{path} does not take {value:?}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What was written.
        value: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// The kernel did what it was told, and what was to come of it did not come.
    #[error("{0} did not come")]
    DidNotCome(String),
    /// A report of the media is of a form that no kernel we know has: what it tells of is not
    /// known. Use a kernel that this project knows.
    #[error("what is told of the media cannot be read: {0}")]
    OddReport(String),
    /// The device has more bad lines than its list holds: nobody can say which. Have it mended.
    #[error("the device {0:#x} has more poison than its list of poison has room for")]
    ListOverflowed(u64),
    /// The device has more entries than it says it can have, and the kernel reads no more.
    #[error("the list of poison of the device {0:#x} goes on where the kernel has stopped")]
    ListCut(u64),
    /// The kernel's files could not be read.
    #[error(transparent)]
    Sysfs(#[from] SysfsError),
}

/// How a dax device is taken from its driver.
fn away(device: &str, driver: &str) -> String {
    let before = if driver == DaxDriver::Kmem.name() {
        "write offline into the state of each block of its memory (/sys/devices/system/memory)"
    } else {
        "end who maps it"
    };
    format!("{before}, then write {device} into /sys/bus/dax/drivers/{driver}/unbind")
}

/// Serial numbers as they are told everywhere: `0xa0, 0xa1`.
#[must_use]
pub fn serials_told(serials: &[u64]) -> String {
    let serials = serials.iter().map(|serial| format!("{serial:#x}"));
    serials.collect::<Vec<_>>().join(", ")
}

impl Folder {
    /// Tells a file a value.
    pub(crate) fn write(&self, name: &str, value: &str) -> Result<(), ChangeError> {
        let path = self.path.join(name);
        // The kernel takes what one call writes, so there is no file to be made or cut.
        let written = fs::OpenOptions::new().write(true).open(&path);
        let written =
            written.and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()));
        written.map_err(|source| ChangeError::Write {
            path,
            value: value.to_owned(),
            source,
        })
    }
}
