//! What the models of leases share: one unit, what is in it, and how its members sleep.
//!
//! The contents are the number of the version that they are: whoever publishes version 7 writes 7.
//! So any two of them that do not belong together are seen at once.

mod page;

use coherence::{Member, ModelWait, Own, Slot, State};
use pool_core::descriptor::Descriptor;
use pool_core::sync::atomic::Ordering::Acquire;
use pool_core::sync::{Arc, thread};

use page::Page;

/// The first member.
pub(crate) const A: Slot = slot(1);
/// The second one.
pub(crate) const B: Slot = slot(2);

const fn slot(index: u8) -> Slot {
    match Slot::new(index) {
        Some(slot) => slot,
        None => Slot::DAEMON,
    }
}

/// One unit.
pub(crate) struct Unit {
    pub(crate) line: Descriptor,
    pub(crate) page: Page,
    pub(crate) wait: ModelWait,
}

impl Unit {
    /// One that was never written.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            line: Descriptor::default(),
            page: Page::new(),
            wait: ModelWait::default(),
        })
    }

    /// The member at `slot`, of which there is no other.
    pub(crate) fn member(&self, slot: Slot) -> Member<&ModelWait> {
        Member::new(slot, &self.wait)
    }

    /// The word as it is now.
    pub(crate) fn own(&self) -> Own {
        Own::judge(self.line.own.load(Acquire)).expect("nobody here writes a word that is none")
    }

    /// Nobody holds it, and nobody is said to want it.
    pub(crate) fn assert_at_rest(&self) {
        let own = self.own();
        assert_eq!(own.state(), State::Free, "{own:?}");
        assert!(!own.is_recalled() && !own.has_waiters(), "{own:?}");
    }
}

/// A thread that does `work` with the unit.
pub(crate) fn spawn<T: Send + 'static>(
    unit: &Arc<Unit>,
    work: impl FnOnce(&Unit) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let unit = Arc::clone(unit);
    thread::spawn(move || work(&unit))
}
