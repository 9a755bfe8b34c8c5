//! In place of the peer that this program was built without: it says so.

use anyhow::bail;

const WHY: &str = "built without the feature `peers` of tierpool-benches";

/// It does not take part.
pub(super) const VERSION: Result<fn() -> &'static str, &'static str> = Err(WHY);

/// What nobody can have.
#[derive(Debug)]
pub(super) enum Mail {}

impl Mail {
    pub(super) fn new(_run: u32, _number: u32) -> anyhow::Result<Self> {
        bail!(WHY)
    }

    pub(super) fn send(&self, _value: u64) -> anyhow::Result<()> {
        match *self {}
    }

    pub(super) fn receive(&self) -> anyhow::Result<u64> {
        match *self {}
    }
}
