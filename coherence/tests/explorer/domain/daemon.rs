//! What the daemon knows of the domain, what of it its journal keeps, and how that changes: as
//! `domain.rs`, `mend.rs` and `evict.rs` of the engine have it, without clocks.

use coherence::Slot;

use super::ALL;

pub(super) const OWN: u32 = Slot::DAEMON.bit();

/// What goes through the units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Work {
    Nothing,
    /// It takes back what is held in the slots of all three sets.
    Recovers {
        slots: u32,
        moved: u32,
        taken_back: u32,
        settles: bool,
        in_order: bool,
    },
    /// It takes the units, to copy them.
    Takes,
    Copies,
}

/// Members that are to be no members any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Eviction {
    pub(super) slots: u32,
    /// What they write may be fenced: it is journaled.
    pub(super) fences: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Daemon {
    pub(super) work: Work,
    /// The unit that is next.
    pub(super) unit: u8,
    /// Who was found writing in this pass.
    pub(super) writers: u32,
    /// Journaled: who has a slot, whose process may live that has none any more, in which memory
    /// the contents are, whose contents have moved, and of an eviction that it fences.
    pub(super) members: u32,
    pub(super) awaited: u32,
    /// Of those whose processes have ended, the evicted that are not recovered yet.
    pub(super) ended: u32,
    pub(super) incarnation: u8,
    pub(super) moved: u32,
    pub(super) eviction: Option<Eviction>,
    /// Not journaled, or a part of it only.
    pub(super) left: u32,
    pub(super) gone: u32,
    pub(super) cut_off: u32,
    pub(super) to_take_back: u32,
    pub(super) ready: bool,
}

impl Daemon {
    /// The members are there, and nothing has happened.
    pub(super) const FIRST: Self = Self {
        work: Work::Nothing,
        unit: 0,
        writers: 0,
        members: ALL & !OWN,
        awaited: 0,
        ended: 0,
        incarnation: 0,
        moved: 0,
        eviction: None,
        left: 0,
        gone: 0,
        cut_off: 0,
        to_take_back: 0,
        ready: true,
    };

    /// What it is when it starts again.
    pub(super) fn restarted(&self) -> Self {
        let eviction = self.eviction.filter(|eviction| eviction.fences);
        let awaited = self.awaited | self.ended;
        Self {
            members: self.members,
            awaited,
            incarnation: self.incarnation,
            moved: eviction.map_or(self.moved, |_| 0),
            eviction,
            left: !self.members & ALL,
            cut_off: self.cut_off & awaited,
            ready: false,
            ..Self::FIRST
        }
    }

    /// What an eviction takes away, and the daemon's own holds.
    fn evicted(&self) -> u32 {
        self.eviction.map_or(0, |eviction| eviction.slots | OWN)
    }

    /// Whether a new member may be given the slot.
    pub(super) fn may_come(&self, slot: u32) -> bool {
        let taken = self.members | self.left | self.evicted() | self.moved;
        self.ready && taken & slot == 0
    }

    /// The recovery that is due.
    pub(super) fn due(&self) -> Option<Work> {
        let slots = self.left & !self.awaited & !self.evicted();
        let (moved, taken_back) = (self.moved, self.to_take_back);
        let nothing = slots | moved | taken_back == 0 && self.ready;
        (!nothing && self.work == Work::Nothing).then_some(Work::Recovers {
            slots,
            moved,
            taken_back,
            settles: self.eviction.is_none(),
            in_order: self.ready && moved == 0 && self.gone & slots == 0,
        })
    }

    /// The eviction whose next step is due.
    pub(super) fn evicts(&self) -> Option<Eviction> {
        let may = self.ready && self.moved == 0 && self.work == Work::Nothing;
        self.eviction.filter(|_| may)
    }

    pub(super) fn begins(&mut self, work: Work) {
        (self.work, self.unit, self.writers) = (work, 0, 0);
    }

    /// One that had a slot is taken for dead.
    pub(super) fn is_gone(&mut self, slots: u32) {
        self.members &= !slots;
        self.left |= slots;
        self.gone |= slots;
    }

    /// The process has ended of one that had a slot.
    pub(super) fn has_ended(&mut self, slot: u32) {
        self.awaited &= !slot;
        self.ended |= self.cut_off & slot;
    }

    /// What was held at `slots` is held no more, nor what had `moved` and was to be `taken_back`.
    pub(super) fn has_recovered(&mut self, slots: u32, moved: u32, taken_back: u32) {
        self.left &= !slots;
        self.gone &= !slots;
        self.cut_off &= !slots;
        self.ended &= !slots;
        self.moved &= !moved;
        self.to_take_back &= !taken_back;
        self.ready = true;
        self.begins(Work::Nothing);
    }

    /// All units were taken, or are written by others: of whom those at the slots `more` are to be
    /// evicted as well.
    pub(super) fn has_taken(&mut self, more: u32) {
        let others_write = self.writers != 0;
        self.begins(Work::Nothing);
        let Some(eviction) = &mut self.eviction else {
            return;
        };
        eviction.slots |= more;
        if others_write {
            return;
        }
        if eviction.fences {
            self.work = Work::Copies;
        } else {
            eviction.fences = true;
        }
    }

    /// The copies are what the members have by now, and the evicted are no members any more. Those
    /// of them whose processes live are awaited.
    pub(super) fn has_moved(&mut self, living: u32) {
        let Some(eviction) = self.eviction.take() else {
            return;
        };
        let slots = eviction.slots;
        self.incarnation = 1;
        self.moved |= slots | OWN;
        self.cut_off |= slots;
        self.awaited |= slots & living;
        self.is_gone(slots & self.members);
        self.begins(Work::Nothing);
    }

    /// The eviction cannot be done, or there is nobody to evict any more. Once it fences it is
    /// begun anew unless it `ends`.
    pub(super) fn gives_up(&mut self, ends: bool) {
        self.eviction = self.eviction.filter(|eviction| eviction.fences && !ends);
        self.moved |= OWN;
        self.begins(Work::Nothing);
    }
}
