//! The slots of all churners, read by the test: whole, and never from the past.

use std::collections::{BTreeMap, BTreeSet};

use pool_core::Bytes;
use pool_core::sync::atomic::{Ordering, fence};
use pool_proto::common::v1::{Access, ErrorReason};
use tierpool_tests::churn::{CHURNERS, slot_name, tenant_of};
use tierpool_tests::client::{Held, Session, Unanswered, ask, granted};
use tierpool_tests::daemon::Daemon;
use tierpool_tests::slot::{self, Words};
use tierpool_tests::until;

/// Which segment each slot was last, and what was read there.
#[derive(Default)]
pub(crate) struct Slots {
    seen: BTreeMap<u64, (u64, u64)>,
    /// The slots in which something was read.
    written: BTreeSet<u64>,
}

/// A segment as the words of a slot, to be read.
struct Memory<'h>(&'h Held);

impl Words for Memory<'_> {
    type Error = &'static str;

    fn load(&self, index: usize) -> Result<u64, Self::Error> {
        let (_, mapped) = self.0.pieces().next().ok_or("a slot is one piece")?;
        let view = mapped.view(Bytes::new(index as u64 * 8), 1);
        let word = view
            .ok()
            .and_then(|view| view.get(0))
            .ok_or("outside of the slot")?;
        // Pairs with the release by which a churner says which half counts.
        fence(Ordering::Acquire);
        Ok(word)
    }

    fn store(&self, _index: usize, _value: u64) -> Result<(), Self::Error> {
        Err("it is only read")
    }
}

impl Slots {
    /// Reads every slot there is.
    pub(crate) fn look(&mut self, daemon: &Daemon) {
        for number in 0..CHURNERS {
            let mut session = daemon.attach(tenant_of(number));
            if let Some(held) = open(&mut session, number) {
                let found = slot::read(&Memory(&held)).unwrap();
                let found = found.unwrap_or_else(|torn| panic!("slot {number} is torn: {torn}"));
                let (segment, seen) = self.seen.entry(number).or_default();
                // A slot that was freed and made anew, under another id, begins with nothing.
                let is_new = held.id() > *segment;
                assert!(
                    held.id() >= *segment && (found >= *seen || (is_new && found == 0)),
                    "slot {number}: {found} after {seen}"
                );
                (*segment, *seen) = (held.id(), found);
                self.written.extend((found > 0).then_some(number));
                drop(held);
            }
            session.ask(ask::detach());
        }
    }

    pub(crate) fn were_written(&self) -> bool {
        (0..CHURNERS).all(|number| self.written.contains(&number))
    }
}

/// Opens a slot, if it is there.
fn open(session: &mut Session, number: u64) -> Option<Held> {
    until("a slot does not move", || {
        match session.try_ask(ask::open(&slot_name(number), Access::ReadOnly)) {
            Ok(answer) => Some(Some(granted(answer))),
            Err(Unanswered::Refused(error)) => match error.reason() {
                ErrorReason::NotFound | ErrorReason::Revoked => Some(None),
                // It is on its way to another tier.
                ErrorReason::Busy => None,
                _ => panic!("{error:?}"),
            },
            Err(gone) => panic!("{gone}"),
        }
    })
}

/// Frees what outlived everybody.
pub(crate) fn free_all(daemon: &Daemon) {
    for number in 0..CHURNERS {
        let mut session = daemon.attach(tenant_of(number));
        if let Some(slot) = session.list().remove(&slot_name(number)) {
            session.ask(ask::free(slot.segment_id, true));
        }
        session.ask(ask::detach());
    }
}
