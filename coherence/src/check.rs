//! What must hold of every unit of a domain, whatever its members do: for `poolctl check`, and for
//! tests.

use pool_core::descriptor::Descriptor;
use pool_core::sync::atomic::Ordering::Acquire;

use crate::own::{CorruptWord, Own, State};
use crate::slot::Slots;

/// A unit is not as it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A member has overwritten the word.
    #[error("unit {unit}: {corrupt}")]
    Corrupt {
        /// Which unit.
        unit: u32,
        /// What was found.
        corrupt: CorruptWord,
    },
    /// Somebody holds it who is no member. To be recovered.
    #[error("unit {unit} is held by {}, where no member is", Slots::from_bits(*strangers))]
    Stranger {
        /// Which unit.
        unit: u32,
        /// Holders that are no members: a bit a slot.
        strangers: u32,
    },
    /// It is fenced, and no recovery is under way.
    #[error("unit {unit} is fenced and nobody recovers it")]
    LeftFenced {
        /// Which unit.
        unit: u32,
    },
}

/// How many units are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// Nobody holds them.
    pub free: u32,
    /// Held for reading.
    pub shared: u32,
    /// Held for writing.
    pub exclusive: u32,
    /// The daemon decides about them.
    pub fenced: u32,
    /// Their contents are lost.
    pub lost: u32,
    /// Withdrawn.
    pub retired: u32,
}

/// Counts the units of a domain whose living members are `members`, a bit a slot, and tells each
/// one that is not as it must be.
pub fn check(lines: &[Descriptor], members: u32, mut tell: impl FnMut(Violation)) -> Census {
    let mut census = Census::default();
    for (line, unit) in lines.iter().zip(0..) {
        let own = match Own::judge(line.own.load(Acquire)) {
            Ok(own) => own,
            Err(corrupt) => {
                tell(Violation::Corrupt { unit, corrupt });
                continue;
            }
        };
        let strangers = own.holders() & !members;
        if strangers != 0 {
            tell(Violation::Stranger { unit, strangers });
        }
        let count = match own.state() {
            State::Free => &mut census.free,
            State::Shared => &mut census.shared,
            State::Exclusive => &mut census.exclusive,
            State::Fenced => {
                tell(Violation::LeftFenced { unit });
                &mut census.fenced
            }
            State::Lost => &mut census.lost,
            State::Retired => &mut census.retired,
        };
        *count = count.saturating_add(1);
    }
    census
}
