//! Devices whose memory other hosts have as well, each with a daemon of its own.
//!
//! Such a device is one segment or none, so that an offset in it means the same to every host. The
//! daemons know nothing of each other: who may read and write what of it is settled by those who
//! have the segments, as `coherence::host` does. So nothing is done to such a segment that would
//! copy its contents, take a part of them, or promise anything of them.
//!
//! # Invariants
//! 1. What is granted in such a tier is all of its device, in one piece and one file.
//! 2. It is never moved, neither away from there nor to there, resized, shared with another tenant,
//!    sealed, or made a domain.

use pool_core::SegmentId;

use super::grant::Wanted;
use super::{Engine, Refusal};

/// What is refused of such a segment, and why.
pub(super) const IS_WHOLE: &str = "other hosts have the same memory: it is one segment of one \
                                   tenant, and stays where it is, as large as it is";

impl Engine {
    /// Whether other hosts have the memory of a tier.
    fn is_of_hosts(&self, tier: usize) -> bool {
        let mut devices = self.devices_of(tier);
        devices.any(|device| device.plan.whole)
    }

    /// # Errors
    /// [`Refusal::NotPermitted`] where other hosts have the memory of the segment.
    pub(super) fn not_of_hosts(&self, id: SegmentId) -> Result<(), Refusal> {
        if self.is_of_hosts(self.segment(id)?.tier) {
            return Err(Refusal::NotPermitted(IS_WHOLE));
        }
        Ok(())
    }

    /// # Errors
    /// [`Refusal::NotPermitted`] where other hosts have the memory of the tier: what is copied
    /// there would be over what they have.
    pub(super) fn takes_contents(&self, tier: usize) -> Result<(), Refusal> {
        if self.is_of_hosts(tier) {
            return Err(Refusal::NotPermitted(IS_WHOLE));
        }
        Ok(())
    }

    /// # Errors
    /// [`Refusal::Malformed`] where a part is asked for of memory that other hosts have, or more
    /// than a plain segment.
    pub(super) fn is_whole_where_it_must_be(&self, wanted: &Wanted) -> Result<(), Refusal> {
        let is_all = wanted.extents == self.tier_most(wanted.tier) && wanted.has_one_file();
        if self.is_of_hosts(wanted.tier) && !is_all {
            return Err(Refusal::Malformed(
                "other hosts have the memory of the tier, which is granted as a whole: ask for as \
                 many bytes as the tier has, without capacity_bytes, piece_bytes and coherence",
            ));
        }
        Ok(())
    }
}
