//! What the database sees of its medium, and what the first sector says about the rest.
//!
//! The database keeps its header in the first 320 bytes of the file and no more than that in the
//! first page. One byte of the header alone says which of two commits is the last, and no checksum
//! covers it: with one bit changed the file would open as it was one commit ago, in silence. So we
//! write the beginning of the header twice.
//!
//! # Layout of the first sector, 512 bytes
//! | bytes | what |
//! |---|---|
//! | 0..320 | the database's header |
//! | 320..384 | again its first 64 bytes: what the checksums of the database do not cover |
//! | 384..420 | the boot of the machine with which the file ends, or zeros where it outlives it |
//! | 420..456 | the same again |
//! | 456..512 | zeros |
//!
//! # Invariants
//! 1. The header and its copies are one write of one sector: a kill or a loss of power leaves all
//!    of it or nothing, so a difference between copies is damage and not a crash.
//! 2. Where the sector names no boot, every acknowledged commit was synced. Where it names one, the
//!    contents are whole during that boot only. It is synced before and after it changes from one
//!    to the other, and nothing is written in between.

use std::io;

use pool_core::sync::Arc;
use redb::StorageBackend;

use super::medium::Medium;

const SECTOR_BYTES: usize = 512;
const HEADER_BYTES: usize = 320;
const MIRRORED_BYTES: usize = 64;
const STAMP_BYTES: usize = 36;
/// What the header of every database begins with.
const MAGIC: &[u8] = b"redb";
const STAMP_AT: usize = HEADER_BYTES + MIRRORED_BYTES;

const _: () = assert!(STAMP_AT + 2 * STAMP_BYTES <= SECTOR_BYTES);

/// The boot of the machine with which a file ends, as the kernel writes it: 36 characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp([u8; STAMP_BYTES]);

impl Stamp {
    /// Of a file that outlives the machine's power.
    pub(super) const LASTING: Self = Self([0; STAMP_BYTES]);

    /// Of a file that ends with the boot of this id; `None` where it is not 36 ASCII characters.
    pub(super) fn of_boot(boot_id: &str) -> Option<Self> {
        let id = <[u8; STAMP_BYTES]>::try_from(boot_id.as_bytes()).ok()?;
        id.iter().all(u8::is_ascii_graphic).then_some(Self(id))
    }
}

/// The first sector does not agree with itself.
#[derive(Debug)]
pub(super) struct Mismatch(pub(super) &'static str);

/// The medium of one journal, as the database uses it.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    medium: Arc<dyn Medium>,
    stamp: Stamp,
}

impl Storage {
    /// The contents of `medium`, which from now on end with `stamp`.
    pub(super) fn new(medium: Arc<dyn Medium>, stamp: Stamp) -> Self {
        Self { medium, stamp }
    }

    /// The stamp that the contents of `medium` have.
    pub(super) fn stamp_of(medium: &dyn Medium) -> io::Result<Result<Stamp, Mismatch>> {
        if medium.len()? < SECTOR_BYTES as u64 {
            return Ok(Err(Mismatch("it is cut short")));
        }
        let mut sector = [0; SECTOR_BYTES];
        medium.read(0, &mut sector)?;
        Ok(stamp_in(&sector))
    }

    /// Gives the contents this storage's stamp in place of the one they have.
    pub(super) fn restamp(&self) -> io::Result<()> {
        let mut header = [0; HEADER_BYTES];
        self.medium.read(0, &mut header)?;
        self.medium.sync()?;
        self.write_header(&header)?;
        self.medium.sync()
    }

    fn write_header(&self, header: &[u8; HEADER_BYTES]) -> io::Result<()> {
        let mut sector = [0; SECTOR_BYTES];
        let (first, rest) = sector.split_at_mut(HEADER_BYTES);
        first.copy_from_slice(header);
        let (mirror, rest) = rest.split_at_mut(MIRRORED_BYTES);
        mirror.copy_from_slice(&header[..MIRRORED_BYTES]);
        for copy in rest.chunks_exact_mut(STAMP_BYTES).take(2) {
            copy.copy_from_slice(&self.stamp.0);
        }
        self.medium.write(0, &sector)
    }
}

fn stamp_in(sector: &[u8; SECTOR_BYTES]) -> Result<Stamp, Mismatch> {
    let (header, rest) = sector.split_at(HEADER_BYTES);
    if !header.starts_with(MAGIC) {
        return Err(Mismatch("it does not begin as a database"));
    }
    let (mirror, rest) = rest.split_at(MIRRORED_BYTES);
    if mirror != &header[..MIRRORED_BYTES] {
        return Err(Mismatch("its header and the copy of it differ"));
    }
    let (stamp, rest) = rest.split_at(STAMP_BYTES);
    let (again, zeros) = rest.split_at(STAMP_BYTES);
    if stamp != again {
        return Err(Mismatch("the boot that it names and the copy of it differ"));
    }
    if zeros.iter().any(|&byte| byte != 0) {
        return Err(Mismatch("its first sector has bytes that nobody wrote"));
    }
    let boot = std::str::from_utf8(stamp).ok().and_then(Stamp::of_boot);
    match boot {
        Some(boot) => Ok(boot),
        None if stamp == Stamp::LASTING.0 => Ok(Stamp::LASTING),
        None => Err(Mismatch("the boot that it names is none")),
    }
}

impl StorageBackend for Storage {
    fn len(&self) -> io::Result<u64> {
        self.medium.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.medium.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.medium.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        // What ends with the boot is in the kernel's hands once it is written, and needs no more.
        if self.stamp == Stamp::LASTING {
            self.medium.sync()
        } else {
            Ok(())
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset >= SECTOR_BYTES as u64 {
            return self.medium.write(offset, data);
        }
        let header = <&[u8; HEADER_BYTES]>::try_from(data)
            .ok()
            .filter(|_| offset == 0);
        let header = header.ok_or_else(|| {
            let text = format!(
                "{} bytes at {offset} are no header of the database",
                data.len()
            );
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        self.write_header(header)
    }
}
