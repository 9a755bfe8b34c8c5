//! What the daemon does to the words of a domain before it moves the contents away from holders
//! that live and do not let go.
//!
//! It goes through all units, as often as it takes, until nobody but those holders can write any:
//!
//! | it finds a unit | it makes it |
//! |---|---|
//! | free, or read | read by the daemon as well |
//! | lost | set aside: fenced, in the same epoch |
//! | written by one that is to be evicted | fenced, once that may be so |
//! | written by anybody else | recalled, and comes back |
//! | fenced | as it is, and noted |
//! | retired | as it is |
//!
//! Then the contents are copied, the copy becomes what the units have, and [`crate::recover`] gives
//! every unit back: the daemon's own hold, and all that the evicted have.
//!
//! # Why the copy is whole
//! 1. A unit that is held to be copied is written by nobody: a writer needs it free, or read by
//!    itself alone. Who reads goes on reading where the contents were, and they stay there.
//! 2. A unit that is fenced is nobody's. Its writer may live, and store where it has it mapped:
//!    that is not where anybody looks later. What it left is judged only after the copy, in the
//!    copy.
//! 3. A lost unit could be restored where the contents were, and what was published then would be
//!    gone with the copy: so it is set aside.
//!
//! The fence is noted at once, as a recovery does: before the contents have another place. A writer
//! that was fenced while it was granted the unit, and reads that place, reads the note as well, and
//! knows that it has nothing.
//!
//! A unit that is let go and written again may be written each time that it is looked at. So it is
//! looked at [`LOOKS_MAX`] times on end, and then told of with its holder and epoch: how often that
//! may be another one, and for how long the same, is for the caller to say.

use pool_core::descriptor::Descriptor;
use pool_core::{crash_point, planted};

use crate::own::{Epoch, Own, State};
use crate::recover::{RecoverError, note_fence};
use crate::slot::Slot;
use crate::word::{exchange, judged};

/// How often a unit that somebody writes is looked at before it is left for later. Models look
/// less.
pub const LOOKS_MAX: u32 = if cfg!(loom) { 3 } else { 200 };

/// What keeps a unit from being copied, if anything does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Nobody will write it.
    Still,
    /// One that is to be evicted writes it, and is not fenced yet.
    Evicted,
    /// Somebody else writes it, and has been asked to let go.
    Written {
        /// Who.
        slot: Slot,
        /// Since when.
        epoch: Epoch,
    },
}

/// Takes a unit to be copied, away from none but those at the slots of the set `evicted`, whom it
/// fences where `fences`.
///
/// # Errors
/// [`RecoverError`]: nobody can tell who holds it.
pub fn hold(line: &Descriptor, evicted: u32, fences: bool) -> Result<Held, RecoverError> {
    let mut written = None;
    for _ in 0..LOOKS_MAX {
        let own = judged(line)?;
        let changed = match own.state() {
            State::Shared if own.is_held_by(Slot::DAEMON) => return Ok(Held::Still),
            State::Retired => return Ok(Held::Still),
            State::Fenced => {
                // Whoever fenced it may have died before the note.
                note_fence(line, own.epoch());
                return Ok(Held::Still);
            }
            State::Free | State::Shared => own.held_to_copy(),
            State::Lost if planted!("evict.leaves_what_is_lost") => return Ok(Held::Still),
            State::Lost => own.set_aside(),
            State::Exclusive if own.holders() & evicted != 0 && !fences => {
                return Ok(Held::Evicted);
            }
            State::Exclusive if own.holders() & evicted != 0 => own.fence(),
            State::Exclusive => {
                written = Some(own);
                Ok(own.recalled())
            }
        };
        // The changes are those of the state that was found.
        let Ok(changed) = changed else { continue };
        if (changed == own || exchange(line, own, changed)) && changed.state() != State::Exclusive {
            crash_point!("evict.unit_taken");
            if changed.state() == State::Fenced && !planted!("evict.notes_no_fence") {
                note_fence(line, changed.epoch());
            }
            return Ok(Held::Still);
        }
    }
    written.and_then(written_by).ok_or(RecoverError::Contended)
}

fn written_by(own: Own) -> Option<Held> {
    let slot = u8::try_from(own.holders().trailing_zeros()).ok();
    let (slot, epoch) = (slot.and_then(Slot::new)?, own.epoch());
    Some(Held::Written { slot, epoch })
}
