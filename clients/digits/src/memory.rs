//! Values in private memory: for the reference, which knows no pool, and for tests.

use crate::data::{Digits, PIXELS};
use crate::model::{Examples, Values};

/// An index past the end: a mistake of the arithmetic, never of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no value {0}")]
pub(crate) struct Missing(usize);

impl Values for [f32] {
    type Error = Missing;

    fn at(&self, index: usize) -> Result<f32, Missing> {
        self.get(index).copied().ok_or(Missing(index))
    }
}

impl Values for Vec<f32> {
    type Error = Missing;

    fn at(&self, index: usize) -> Result<f32, Missing> {
        self.as_slice().at(index)
    }
}

impl Examples<Missing> for Digits {
    fn pixel(&self, row: u32, index: usize) -> Result<f32, Missing> {
        self.pixels.as_slice().at(row as usize * PIXELS + index)
    }

    fn label(&self, row: u32) -> Result<u8, Missing> {
        let row = row as usize;
        self.labels.get(row).copied().ok_or(Missing(row))
    }
}
