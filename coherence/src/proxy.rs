//! Leases for a member that may not write the ownership words, made in its place by the daemon.
//!
//! Such a member has a slot like every other, and nobody but the daemon changes its bit. So a lease
//! that is held already was given by the daemon, and to ask for it once more gives it again: an
//! answer that was lost is asked for anew.
//!
//! The daemon does not wait, neither for a unit nor for a word that changes all the time.

use pool_core::descriptor::Descriptor;

use crate::error::LeaseError;
use crate::grant::{Grant, granted};
use crate::own::{Refused, State};
use crate::recover::TRIES_MAX;
use crate::slot::Slot;
use crate::wait::Wait;
use crate::word::{exchange, judged, refusal, wake};

/// Leases the unit of `line` for reading in the place of the member at `slot`, now or not at all.
///
/// # Errors
/// [`LeaseError`].
pub fn lease(line: &Descriptor, slot: Slot) -> Result<Grant, LeaseError> {
    for _ in 0..TRIES_MAX {
        let own = judged(line)?;
        if own.state() == State::Shared && own.is_held_by(slot) {
            return Ok(granted(line, own));
        }
        let changed = own
            .grant_shared(slot)
            .map_err(|refused| refusal(refused, line))?;
        if exchange(line, own, changed) {
            return Ok(granted(line, changed));
        }
    }
    Err(LeaseError::Busy(Refused::Held))
}

/// Lets go of a unit in the place of the member at `slot`; whether it was held.
///
/// # Errors
/// [`LeaseError::Corrupt`]; [`LeaseError::Busy`] where the word changes all the time, which that of
/// honest members does not.
pub fn let_go(line: &Descriptor, slot: Slot, wait: &impl Wait) -> Result<bool, LeaseError> {
    for _ in 0..TRIES_MAX {
        let own = judged(line)?;
        let Ok(changed) = own.release_shared(slot, own.epoch()) else {
            return Ok(false);
        };
        if exchange(line, own, changed) {
            if own.has_waiters() && !changed.has_waiters() {
                wake(line, wait);
            }
            return Ok(true);
        }
    }
    Err(LeaseError::Busy(Refused::Held))
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use pool_core::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::member::Member;
    use crate::own::Own;
    use crate::wait::ModelWait;

    const ONE: Slot = Slot::new(1).unwrap();
    const TWO: Slot = Slot::new(2).unwrap();

    #[test]
    fn a_lease_that_is_asked_for_again_is_the_same_and_one_release_ends_it() {
        let line = Descriptor::default();
        let first = lease(&line, TWO).unwrap();
        assert_eq!(lease(&line, TWO), Ok(first));
        let own = Own::judge(line.own.load(Relaxed)).unwrap();
        assert!(own.is_held_by(TWO) && !own.is_crowded());
        let wait = ModelWait::default();
        assert_eq!(let_go(&line, TWO, &wait), Ok(true));
        assert_eq!(let_go(&line, TWO, &wait), Ok(false));
        assert_eq!(line.own.load(Relaxed) & u64::from(u32::MAX), 0);
    }

    #[test]
    fn what_a_writer_holds_is_refused_and_left_as_it_is() {
        let line = Descriptor::default();
        let writer = Member::new(ONE, ModelWait::default());
        writer.try_exclusive(&line).unwrap();
        let before = line.own.load(Relaxed);
        assert_eq!(lease(&line, TWO), Err(LeaseError::Busy(Refused::Held)));
        assert_eq!(let_go(&line, ONE, &ModelWait::default()), Ok(false));
        assert_eq!(line.own.load(Relaxed), before);
    }
}
