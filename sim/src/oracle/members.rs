//! Who is a member of a domain, as the words of the domain say it.
//!
//! # Rules
//! - *who has a slot lives*: whoever is granted a slot finds its word saying that he does.
//! - *an era is of one member*: no two that were granted the same slot have had the same era in it.

use std::collections::BTreeMap;

use coherence::Slot;
use pool_core::SegmentId;

use crate::broken::{Checked, broken, holds};

/// Who was which member.
#[derive(Debug, Default)]
pub(crate) struct Eras {
    clients: BTreeMap<(SegmentId, Slot, u64), u64>,
}

impl Eras {
    /// A client is granted a slot, whose word says that the member of this era lives.
    pub(crate) fn granted(
        &mut self,
        (segment, slot): (SegmentId, Slot),
        living: Option<u64>,
        client: u64,
    ) -> Checked<u64> {
        let Some(era) = living else {
            let told = format_args!("client {client} is granted {slot} of {segment}, and is gone");
            return broken("who has a slot lives", told);
        };
        let before = self.clients.insert((segment, slot, era), client);
        let is_one = before.is_none_or(|before| before == client);
        holds(is_one, "an era is of one member", || {
            format!("era {era} of {slot} of {segment} is client {client}, and was {before:?}")
        })?;
        Ok(era)
    }

    /// A segment has ended.
    pub(crate) fn ended(&mut self, segment: SegmentId) {
        self.clients.retain(|(of, ..), _| *of != segment);
    }
}
