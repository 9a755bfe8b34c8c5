//! The data set in the pool: staged once, read where it lies by everybody it is shared with.
//!
//! # Layout
//! A segment `digits` in tier `pooled`: four words (magic, version, rows, CRC-32 of the bytes of
//! all pixels and labels), the pixels at [`PIXELS_AT`], the labels after them.
//!
//! It is shared when it is whole, and not before: the daemon stands between the last store of who
//! stages it and the first load of who opens it, so that no ordering of the accesses is needed.

use anyhow::bail;
use client_sdk::{Access, AccessError, Bytes, Create, Pool, Segment, View};
use flate2::Crc;

use crate::data::{Digits, PIXELS};
use crate::model::Examples;

/// The name of the segment.
const NAME: &str = "digits";
/// The largest tier: written once, read often.
const TIER: &str = "pooled";

const MAGIC: u32 = 0x7469_4744;
const VERSION: u32 = 1;
/// On a page of their own.
const PIXELS_AT: u64 = 4096;

/// Bytes of a pixel.
const PIXEL_BYTES: u64 = 4;

/// The data set, held by this process.
#[derive(Debug)]
pub(crate) struct Staged {
    segment: Segment,
    rows: u32,
}

impl Staged {
    /// Stages `digits` in a new segment, which outlives the process.
    pub(crate) fn create(pool: &Pool, digits: &Digits) -> anyhow::Result<Self> {
        let rows = u32::try_from(digits.labels.len())?;
        let bytes = Bytes::new(labels_at(rows) + u64::from(rows));
        let segment = pool.create(&Create::new(TIER, bytes).name(NAME).persistent())?;
        let staged = Self { segment, rows };
        let (pixels, labels) = (digits.pixels.len(), digits.labels.len());
        let at = Bytes::new(PIXELS_AT);
        staged
            .segment
            .view_mut::<f32>(at, pixels)?
            .write_from(0, &digits.pixels)?;
        let at = Bytes::new(labels_at(rows));
        staged
            .segment
            .view_mut::<u8>(at, labels)?
            .write_from(0, &digits.labels)?;
        let header = [MAGIC, VERSION, rows, staged.rows()?.checksum()?];
        staged
            .segment
            .view_mut::<u32>(Bytes::ZERO, header.len())?
            .write_from(0, &header)?;
        Ok(staged)
    }

    /// Opens the data set that another tenant staged, and proves that it is whole.
    pub(crate) fn open(pool: &Pool, tenant: &str) -> anyhow::Result<Self> {
        let segment = pool.open(&format!("{tenant}:{NAME}"), Access::ReadOnly)?;
        let mut header = [0_u32; 4];
        segment
            .view(Bytes::ZERO, header.len())?
            .read_into(0, &mut header)?;
        let [magic, version, rows, checksum] = header;
        if (magic, version) != (MAGIC, VERSION) {
            bail!("{tenant} has staged no data set of version {VERSION}");
        }
        let staged = Self { segment, rows };
        let found = staged.rows()?.checksum()?;
        if found != checksum {
            bail!("the data set of {tenant} has checksum {found:08x}, not {checksum:08x}");
        }
        Ok(staged)
    }

    pub(crate) fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Gives the segment back.
    pub(crate) fn into_segment(self) -> Segment {
        self.segment
    }

    /// How many digits there are.
    pub(crate) fn count(&self) -> u32 {
        self.rows
    }

    /// The digits, where they lie.
    pub(crate) fn rows(&self) -> Result<Rows<'_>, AccessError> {
        let count = self.rows as usize;
        Ok(Rows {
            pixels: self.segment.view(Bytes::new(PIXELS_AT), count * PIXELS)?,
            labels: self.segment.view(Bytes::new(labels_at(self.rows)), count)?,
        })
    }
}

/// Where the labels of so many rows begin. Below 2^41, and so without overflow.
fn labels_at(rows: u32) -> u64 {
    PIXELS_AT + u64::from(rows) * PIXELS as u64 * PIXEL_BYTES
}

/// Digits in the pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    pixels: View<'a, f32>,
    labels: View<'a, u8>,
}

impl Rows<'_> {
    fn checksum(&self) -> Result<u32, AccessError> {
        let mut crc = Crc::new();
        for pixel in self.pixels.iter() {
            crc.update(&pixel?.to_le_bytes());
        }
        for label in self.labels.iter() {
            crc.update(&[label?]);
        }
        Ok(crc.sum())
    }
}

impl Examples<AccessError> for Rows<'_> {
    fn pixel(&self, row: u32, index: usize) -> Result<f32, AccessError> {
        self.pixels.get(row as usize * PIXELS + index)
    }

    fn label(&self, row: u32) -> Result<u8, AccessError> {
        self.labels.get(row as usize)
    }
}
