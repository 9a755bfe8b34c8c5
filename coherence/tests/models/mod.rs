//! What the models of leases share: one unit, what is in it, and how its members sleep.
//!
//! The contents are the number of the version that they are: whoever publishes version 7 writes 7.
//! So any two of them that do not belong together are seen at once.
//!
//! # Which thread goes first
//! loom 0.7 remembers one last access of each atomic. Where a thread loads a word and then changes
//! it, the load is what it remembers, and it does not turn that change around with a load that
//! another thread made before. So each model is explored twice: from the schedule in which the
//! thread of the model goes first, and from the one in which it lets each thread that it spawns go
//! first.

mod page;

use coherence::{Member, ModelWait, Own, Slot, State};
use pool_core::descriptor::Descriptor;
use pool_core::sync::atomic::Ordering::Acquire;
use pool_core::sync::{Arc, model, thread};

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
    turned: bool,
}

impl Unit {
    /// One that was never written. Where it is `turned`, threads that are spawned go first.
    pub(crate) fn new(turned: bool) -> Arc<Self> {
        Arc::new(Self {
            turned,
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
    let theirs = Arc::clone(unit);
    let thread = thread::spawn(move || work(&theirs));
    if unit.turned {
        thread::yield_now();
    }
    thread
}

/// Runs `body` from both schedules: see above.
pub(crate) fn explore(body: impl Fn(bool) + Copy + Send + Sync + 'static) {
    for turned in [false, true] {
        model(move || body(turned));
    }
}
