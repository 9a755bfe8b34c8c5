//! The word that decides who holds a unit, and every change it can go through.
//!
//! Pure: a change is computed here and made by one compare-exchange elsewhere, so that the models,
//! the explorer and the running system share one table. A change that is refused gives the reason
//! and no word.
//!
//! ```text
//! bit 63..61 state: 0 free, 1 shared, 2 exclusive, 3 fenced, 4 lost, 5 retired
//!     60     crowded: some process holds it shared by more than one of its threads
//!     59     recall: somebody waits whose turn it is; nobody new is let in
//!     58     waiters: somebody sleeps until the word changes
//!     57..32 epoch: rises with each exclusive grant and each fence, modulo 2^26
//!     31..0  holders: a bit a slot
//! ```
//!
//! | from | to | by whom | condition |
//! |---|---|---|---|
//! | free, shared | shared, one holder more | member | not recalled |
//! | free, recalled | shared; exclusive, epoch + 1 | member | recalled it, or left so for a cap |
//! | shared | shared and crowded | one more thread of a holder | not recalled |
//! | shared | shared by one less, or free | that holder, or the daemon in its place | |
//! | free | exclusive, epoch + 1 | member | not recalled |
//! | shared by me alone | exclusive, epoch + 1 | that holder | not crowded; never waited for |
//! | exclusive | free | that holder | same epoch |
//! | exclusive | shared by me, recall cleared | that holder | same epoch |
//! | exclusive | exclusive of another, epoch + 1 | that holder | same epoch |
//! | exclusive | lost, no holders | that holder, which wrote half of a change | same epoch |
//! | exclusive | fenced, epoch + 1, no holders | daemon | holder dead, or stuck and cut off |
//! | fenced | free, lost | daemon | |
//! | lost | exclusive, epoch + 1 | member that rewrites all of it | |
//! | free, shared | shared, by the daemon too | daemon | it copies the unit |
//! | lost | fenced, same epoch | daemon | it copies the unit |
//! | free, fenced, lost | retired | daemon | |
//!
//! # Invariants
//! 1. Exclusive means one holder; shared one or more; every other state none.
//! 2. Crowded is said of shared units only.
//! 3. The epoch changes with every change of who may write, so a holder that was fenced is refused
//!    whatever happened since. It counts modulo 2^26: a holder that slept through exactly a
//!    multiple of 67,108,864 exclusive grants of one unit, the last of them to another thread of
//!    its own process, is taken for that one.

use core::fmt;

use crate::slot::Slot;

const HOLDERS: u64 = 0xffff_ffff;
const EPOCH_SHIFT: u32 = 32;
const WAITERS: u64 = 1 << 58;
const RECALL: u64 = 1 << 59;
const CROWDED: u64 = 1 << 60;
const STATE_SHIFT: u32 = 61;

/// What a unit is to those who want it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Nobody holds it.
    Free = 0,
    /// Its holders read it, and nobody writes it.
    Shared = 1,
    /// Its one holder reads and writes it.
    Exclusive = 2,
    /// The daemon decides what becomes of it.
    Fenced = 3,
    /// Its last writer died, or was cut off, and the contents are not to be trusted.
    Lost = 4,
    /// It is a unit no more.
    Retired = 5,
}

/// Rises with each exclusive grant and each fence of a unit, modulo 2^26.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(u32);

impl Epoch {
    /// Bits of an epoch.
    pub const BITS: u32 = 26;
    const MASK: u32 = (1 << Self::BITS) - 1;

    /// The epoch with this number, of which the lowest 26 bits count.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number & Self::MASK)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The one after it.
    #[must_use]
    pub const fn after(self) -> Self {
        Self::new(self.0.wrapping_add(1))
    }

    /// The one before it.
    #[must_use]
    pub const fn before(self) -> Self {
        Self::new(self.0.wrapping_sub(1))
    }
}

/// Why a change of the word is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// Somebody else holds it. Wait.
    #[error("another member holds the unit")]
    Held,
    /// A thread of this process holds it shared. Join it.
    #[error("this process holds the unit shared")]
    HeldHere,
    /// Somebody waits whose turn it is. Wait.
    #[error("somebody else has waited for the unit")]
    Recalled,
    /// The daemon decides about it. Wait.
    #[error("the unit is being recovered")]
    Fenced,
    /// The contents are gone.
    #[error("the contents of the unit are lost")]
    Lost,
    /// It is a unit no more.
    #[error("the unit has been withdrawn")]
    Retired,
    /// What is to be given back is not held: it was revoked.
    #[error("the unit is not held any more")]
    NotHeld,
    /// The change is not for a unit in this state.
    #[error("the unit is in no state for this")]
    State,
}

impl Refused {
    /// Whether it ends by itself, so that waiting makes sense.
    #[must_use]
    pub const fn passes(self) -> bool {
        matches!(
            self,
            Self::Held | Self::HeldHere | Self::Recalled | Self::Fenced
        )
    }
}

/// A value of the word that no change leads to: a member has overwritten it, or the file is not
/// what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an ownership word of {word:#018x} is none: invariant {invariant} is broken")]
pub struct CorruptWord {
    /// What was found.
    pub word: u64,
    /// The invariant of this module that it breaks; 0 for a state that does not exist.
    pub invariant: u8,
}

/// One value of the word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Own(u64);

impl Own {
    /// The bits that anybody may change at any time, whoever holds it.
    pub(crate) const MARKS: u64 = WAITERS | RECALL;

    /// Judges a word that was read from shared memory.
    ///
    /// # Errors
    /// [`CorruptWord`].
    #[inline]
    pub const fn judge(word: u64) -> Result<Self, CorruptWord> {
        let own = Self(word);
        let holders = own.holders();
        let (fits, crowded_fits) = match word >> STATE_SHIFT {
            1 => (holders != 0, true),
            2 => (holders.is_power_of_two(), word & CROWDED == 0),
            0 | 3..=5 => (holders == 0, word & CROWDED == 0),
            _ => return Err(CorruptWord { word, invariant: 0 }),
        };
        if !fits {
            return Err(CorruptWord { word, invariant: 1 });
        }
        if !crowded_fits {
            return Err(CorruptWord { word, invariant: 2 });
        }
        Ok(own)
    }

    /// The word that was read, where it is that of a free unit for which nobody has asked: most
    /// words that are to be changed are, and no other test is needed then.
    #[inline]
    pub(crate) const fn at_rest(word: u64) -> Option<Self> {
        let epoch = (Epoch::MASK as u64) << EPOCH_SHIFT;
        if word & !(epoch | WAITERS) == 0 {
            Some(Self(word))
        } else {
            None
        }
    }

    /// The word as it is stored.
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// The state of the unit.
    #[inline]
    #[must_use]
    pub const fn state(self) -> State {
        match self.0 >> STATE_SHIFT {
            0 => State::Free,
            1 => State::Shared,
            2 => State::Exclusive,
            3 => State::Fenced,
            4 => State::Lost,
            _ => State::Retired,
        }
    }

    /// Who holds it: a bit a slot.
    #[inline]
    #[must_use]
    pub const fn holders(self) -> u32 {
        (self.0 & HOLDERS) as u32
    }

    /// Whether `slot` holds it.
    #[inline]
    #[must_use]
    pub const fn is_held_by(self, slot: Slot) -> bool {
        self.holders() & slot.bit() != 0
    }

    /// The epoch.
    #[inline]
    #[must_use]
    pub const fn epoch(self) -> Epoch {
        Epoch::new((self.0 >> EPOCH_SHIFT) as u32)
    }

    /// Whether somebody waits whose turn it is.
    #[must_use]
    pub const fn is_recalled(self) -> bool {
        self.0 & RECALL != 0
    }

    /// Whether somebody sleeps until it changes.
    #[must_use]
    pub const fn has_waiters(self) -> bool {
        self.0 & WAITERS != 0
    }

    /// Whether several threads of one process hold it shared.
    #[must_use]
    pub const fn is_crowded(self) -> bool {
        self.0 & CROWDED != 0
    }

    const fn with_state(self, state: State) -> Self {
        Self(self.0 & !(7 << STATE_SHIFT) | (state as u64) << STATE_SHIFT)
    }

    const fn with_holders(self, holders: u32) -> Self {
        Self(self.0 & !HOLDERS | holders as u64)
    }

    const fn with_epoch(self, epoch: Epoch) -> Self {
        let mask = (Epoch::MASK as u64) << EPOCH_SHIFT;
        Self(self.0 & !mask | (epoch.number() as u64) << EPOCH_SHIFT)
    }

    const fn without(self, flags: u64) -> Self {
        Self(self.0 & !flags)
    }

    const fn with(self, flags: u64) -> Self {
        Self(self.0 | flags)
    }

    /// Why nobody may have a unit that is in neither of the states in which it can be granted.
    pub(crate) const fn refusal(self) -> Refused {
        match self.state() {
            State::Free | State::Shared | State::Exclusive => Refused::Held,
            State::Fenced => Refused::Fenced,
            State::Lost => Refused::Lost,
            State::Retired => Refused::Retired,
        }
    }

    /// Whether a member reads it. The daemon does where it moves the contents, and counts for none.
    #[must_use]
    pub const fn is_read_by_a_member(self) -> bool {
        let members = self.holders() & !Slot::DAEMON.bit();
        matches!(self.state(), State::Shared) && members != 0
    }

    /// `slot` reads it as well, where a member reads it: of a unit that ends with its last holder.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn grant_shared_beside(self, slot: Slot) -> Result<Self, Refused> {
        match self.state() {
            State::Lost | State::Retired => Err(self.refusal()),
            State::Shared if self.is_read_by_a_member() => self.grant_shared(slot),
            _ => Err(Refused::State),
        }
    }

    /// `slot` reads it as well.
    ///
    /// # Errors
    /// [`Refused`].
    #[inline]
    pub fn grant_shared(self, slot: Slot) -> Result<Self, Refused> {
        if self.is_recalled() && self.state() == State::Free {
            return Err(Refused::Recalled);
        }
        self.grant_shared_in_turn(slot)
    }

    /// `slot` reads it as well, also where a free unit is recalled: by `slot` itself, or by
    /// somebody that has left it so for a whole cap. Who died while it waited must not keep others
    /// out for ever.
    ///
    /// # Errors
    /// [`Refused`].
    #[inline]
    pub fn grant_shared_in_turn(self, slot: Slot) -> Result<Self, Refused> {
        match self.state() {
            State::Free => Ok(self
                .with_state(State::Shared)
                .with_holders(slot.bit())
                .without(RECALL)),
            State::Shared if self.is_recalled() => Err(Refused::Recalled),
            State::Shared if self.is_held_by(slot) => Err(Refused::HeldHere),
            State::Shared => Ok(self.with_holders(self.holders() | slot.bit())),
            _ => Err(self.refusal()),
        }
    }

    /// One more thread of `slot`, which reads it already.
    ///
    /// # Errors
    /// [`Refused`].
    pub const fn join(self, slot: Slot) -> Result<Self, Refused> {
        match self.state() {
            State::Shared if !self.is_held_by(slot) => Err(Refused::NotHeld),
            State::Shared if self.is_recalled() => Err(Refused::Recalled),
            State::Shared => Ok(self.with(CROWDED)),
            _ => Err(Refused::NotHeld),
        }
    }

    /// `slot` reads it no more. Whoever sleeps is to be woken where that made it free.
    ///
    /// # Errors
    /// [`Refused::NotHeld`].
    #[inline]
    pub const fn release_shared(self, slot: Slot, epoch: Epoch) -> Result<Self, Refused> {
        if !self.is_shared_by(slot, epoch) {
            return Err(Refused::NotHeld);
        }
        let left = self.with_holders(self.holders() & !slot.bit());
        if left.holders() == 0 {
            return Ok(left.with_state(State::Free).without(CROWDED | WAITERS));
        }
        Ok(left)
    }

    /// Whether `slot` reads it since `epoch`.
    #[inline]
    #[must_use]
    pub const fn is_shared_by(self, slot: Slot, epoch: Epoch) -> bool {
        matches!(self.state(), State::Shared) && self.is_held_by(slot) && self.epoch().0 == epoch.0
    }

    /// Whether `slot` writes it since `epoch`.
    #[inline]
    #[must_use]
    pub const fn is_exclusive_of(self, slot: Slot, epoch: Epoch) -> bool {
        matches!(self.state(), State::Exclusive)
            && self.is_held_by(slot)
            && self.epoch().0 == epoch.0
    }

    const fn to_exclusive(self, slot: Slot) -> Self {
        self.with_state(State::Exclusive)
            .with_holders(slot.bit())
            .with_epoch(self.epoch().after())
    }

    /// `slot` reads and writes it, alone.
    ///
    /// # Errors
    /// [`Refused`].
    #[inline]
    pub const fn grant_exclusive(self, slot: Slot) -> Result<Self, Refused> {
        match self.state() {
            State::Free if self.is_recalled() => Err(Refused::Recalled),
            _ => self.grant_exclusive_in_turn(slot),
        }
    }

    /// `slot` reads and writes it, alone, also where it is recalled: by `slot` itself, or by
    /// somebody that has left it free for a whole cap.
    ///
    /// # Errors
    /// [`Refused`].
    #[inline]
    pub const fn grant_exclusive_in_turn(self, slot: Slot) -> Result<Self, Refused> {
        match self.state() {
            // Whoever sleeps is woken by the release; whoever else has asked asks once more.
            State::Free => Ok(self.to_exclusive(slot).without(RECALL)),
            _ => Err(self.refusal()),
        }
    }

    /// `slot`, which reads it alone, writes it as well. It is refused rather than waited for: two
    /// readers that both waited for the other to leave would wait for ever.
    ///
    /// # Errors
    /// [`Refused`].
    pub const fn upgrade(self, slot: Slot, epoch: Epoch) -> Result<Self, Refused> {
        if !self.is_shared_by(slot, epoch) {
            return Err(Refused::NotHeld);
        }
        if self.holders() != slot.bit() {
            return Err(Refused::Held);
        }
        if self.is_crowded() {
            return Err(Refused::HeldHere);
        }
        Ok(self.to_exclusive(slot))
    }

    /// `slot` holds it no more, and whoever sleeps is to be woken. Who has asked for it keeps its
    /// turn.
    ///
    /// # Errors
    /// [`Refused::NotHeld`].
    #[inline]
    pub const fn release_exclusive(self, slot: Slot, epoch: Epoch) -> Result<Self, Refused> {
        if !self.is_exclusive_of(slot, epoch) {
            return Err(Refused::NotHeld);
        }
        Ok(self
            .with_state(State::Free)
            .with_holders(0)
            .without(WAITERS))
    }

    /// `slot` goes on reading it and writes it no more; whoever sleeps is to be woken. Readers are
    /// let in, and one of them may be who has asked; writers ask once more.
    ///
    /// # Errors
    /// [`Refused::NotHeld`].
    pub const fn downgrade(self, slot: Slot, epoch: Epoch) -> Result<Self, Refused> {
        if !self.is_exclusive_of(slot, epoch) {
            return Err(Refused::NotHeld);
        }
        Ok(self.with_state(State::Shared).without(WAITERS | RECALL))
    }

    /// `slot` hands it to the member at `to`, which alone reads and writes it from then on; whoever
    /// sleeps is to be woken. Who has asked for it keeps its turn.
    ///
    /// # Errors
    /// [`Refused::NotHeld`].
    pub const fn hand_over(self, slot: Slot, epoch: Epoch, to: Slot) -> Result<Self, Refused> {
        if !self.is_exclusive_of(slot, epoch) {
            return Err(Refused::NotHeld);
        }
        Ok(self.to_exclusive(to).without(WAITERS))
    }

    /// `slot` gives the contents up, half of a change in them; whoever sleeps is to be woken.
    ///
    /// # Errors
    /// [`Refused::NotHeld`].
    pub const fn abandon(self, slot: Slot, epoch: Epoch) -> Result<Self, Refused> {
        if !self.is_exclusive_of(slot, epoch) {
            return Err(Refused::NotHeld);
        }
        Ok(self
            .with_state(State::Lost)
            .with_holders(0)
            .without(WAITERS | RECALL))
    }

    /// Somebody sleeps until it changes.
    #[must_use]
    pub const fn awaited(self) -> Self {
        self.with(WAITERS)
    }

    /// Somebody sleeps whose turn it is next.
    #[must_use]
    pub const fn recalled(self) -> Self {
        self.with(WAITERS | RECALL)
    }

    /// Who has asked for it does so no more. Others who sleep are to be woken: those who still have
    /// no other way ask again, and whoever else wants it is let in.
    #[must_use]
    pub const fn recall_ended(self) -> Self {
        self.without(WAITERS | RECALL)
    }

    /// The daemon reads it as well, to copy it: nobody writes it until it lets go. Who has asked
    /// for it keeps its turn.
    ///
    /// # Errors
    /// [`Refused`].
    pub const fn held_to_copy(self) -> Result<Self, Refused> {
        match self.state() {
            State::Free | State::Shared => Ok(self
                .with_state(State::Shared)
                .with_holders(self.holders() | Slot::DAEMON.bit())),
            _ => Err(self.refusal()),
        }
    }

    /// The daemon keeps a lost unit from being restored while it copies it. Its epoch stays, so the
    /// note of its last good version does.
    ///
    /// # Errors
    /// [`Refused::State`] of a unit that is not lost.
    pub const fn set_aside(self) -> Result<Self, Refused> {
        match self.state() {
            State::Lost => Ok(self.with_state(State::Fenced)),
            _ => Err(Refused::State),
        }
    }

    /// Cuts the writer off. Whoever sleeps goes on sleeping.
    ///
    /// # Errors
    /// [`Refused::State`] of a unit that nobody writes.
    pub const fn fence(self) -> Result<Self, Refused> {
        match self.state() {
            State::Exclusive => Ok(self
                .with_state(State::Fenced)
                .with_holders(0)
                .with_epoch(self.epoch().after())),
            _ => Err(Refused::State),
        }
    }

    /// A fenced unit whose contents are right is free; whoever sleeps is to be woken.
    ///
    /// # Errors
    /// [`Refused::State`].
    pub const fn repaired(self) -> Result<Self, Refused> {
        match self.state() {
            State::Fenced => Ok(self.with_state(State::Free).without(WAITERS)),
            _ => Err(Refused::State),
        }
    }

    /// The contents of a fenced unit are lost; whoever sleeps is to be woken.
    ///
    /// # Errors
    /// [`Refused::State`].
    pub const fn lost(self) -> Result<Self, Refused> {
        match self.state() {
            State::Fenced => Ok(self.with_state(State::Lost).without(WAITERS | RECALL)),
            _ => Err(Refused::State),
        }
    }

    /// `slot` writes all of a lost unit anew.
    ///
    /// # Errors
    /// [`Refused::State`].
    pub const fn restore(self, slot: Slot) -> Result<Self, Refused> {
        match self.state() {
            State::Lost => Ok(self.to_exclusive(slot)),
            State::Fenced | State::Retired => Err(self.refusal()),
            _ => Err(Refused::State),
        }
    }

    /// It is a unit no more; whoever sleeps is to be woken.
    ///
    /// # Errors
    /// [`Refused::State`] of a unit that is held.
    pub const fn retire(self) -> Result<Self, Refused> {
        match self.state() {
            State::Free | State::Fenced | State::Lost => {
                Ok(self.with_state(State::Retired).without(WAITERS | RECALL))
            }
            _ => Err(Refused::State),
        }
    }
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {:#x}", self.state(), self.holders())?;
        write!(f, ", epoch {}", self.epoch().number())?;
        for (set, name) in [
            (self.is_crowded(), "crowded"),
            (self.is_recalled(), "recalled"),
            (self.has_waiters(), "awaited"),
        ] {
            if set {
                write!(f, ", {name}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
