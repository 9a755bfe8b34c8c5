//! What is gone, above all after a restart: what lived in the memory of a machine that was started
//! anew, and segments that miss a descriptor which nobody brings back.

use std::collections::BTreeSet;

use pool_core::{ClientId, SegmentId};
use pool_proto::session::v1::{self as session, event};

use crate::engine::Engine;
use crate::engine::segment::Backing;

impl Engine {
    /// The machine was started anew: no client lives, and volatile memory is empty.
    pub(super) fn forget_last_boot(&mut self) {
        let clients: Vec<_> = self.clients.keys().copied().collect();
        for client in clients {
            self.client_gone(client);
        }
        let volatile = |backing: &Backing| {
            self.devices
                .get(&backing.device)
                .is_some_and(|d| !d.plan.persistent)
        };
        let gone: Vec<_> = self
            .backings
            .values()
            .filter(|b| volatile(b))
            .map(|b| (b.id, b.segment, b.quarantined))
            .collect();
        // What was in quarantine already was no piece of its segment any more.
        for &(_, segment, _) in gone.iter().filter(|(_, _, quarantined)| !quarantined) {
            self.lose(segment);
        }
        for &(backing, ..) in &gone {
            self.released(backing);
        }
    }

    /// When descriptors have been awaited long enough, segments that still miss one are lost,
    /// unless a holder that may bring it is still to come.
    pub(in crate::engine) fn end_grace(&mut self) {
        if self.grace_until.is_none_or(|until| self.now < until) {
            return;
        }
        self.grace_until = None;
        let missing: BTreeSet<_> = self
            .backings
            .values()
            .filter(|b| !b.present && b.built.is_some())
            .map(|b| b.segment)
            .collect();
        for segment in missing.into_iter().chain(self.freed_groups()) {
            self.lose_if_nobody_comes(segment);
            self.release_unprovable(segment);
        }
    }

    /// Loses a segment that misses a descriptor which no awaited client can bring any more.
    pub(in crate::engine) fn lose_if_nobody_comes(&mut self, id: SegmentId) {
        let Some(segment) = self.live_segment(id) else {
            return;
        };
        let awaited = |client: &ClientId| {
            self.clients
                .get(client)
                .is_some_and(|client| !client.attached)
        };
        if self.grace_until.is_none()
            && !segment.backings.iter().all(|id| self.is_present(*id))
            && !segment.holders.keys().any(awaited)
        {
            self.lose(id);
        }
    }

    pub(in crate::engine) fn lose(&mut self, id: SegmentId) {
        let Some(segment) = self.live_segment(id) else {
            return;
        };
        let holders: Vec<_> = segment.holders.keys().copied().collect();
        self.publish_segment("segment-lost", id, String::new());
        for holder in holders {
            self.evict(
                holder,
                id,
                event::Body::Lost(session::Lost {
                    segment_id: id.number(),
                }),
            );
        }
        self.end_segment(id);
    }
}
