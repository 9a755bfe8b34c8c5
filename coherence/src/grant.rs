//! A grant: the change of the word that makes it, and what is read with it.
//!
//! # Protocol
//! The word is exchanged first, and then version and place are read: so they are those of the
//! grant, for they change only while somebody holds the unit, or the daemon has fenced it. Whoever
//! is to write makes sure that it was not fenced in between: see [`take_exclusive`].

use pool_core::descriptor::Descriptor;
use pool_core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use pool_core::{crash_point, planted};

use crate::base;
use crate::own::{Epoch, Own, State};
use crate::word::exchange;

/// What was granted with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The ownership word that made it. Its epoch gives the unit back.
    pub own: Own,
    /// The version of the contents.
    pub version: u64,
    /// The incarnation of the memory that holds them.
    pub backing: u64,
}

impl Grant {
    /// The epoch of the grant.
    #[inline]
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.own.epoch()
    }
}

/// Makes a grant, which is the change of the word from `from` to `to`. `None` where it is another
/// word by now.
#[inline]
pub(crate) fn take(line: &Descriptor, from: Own, to: Own) -> Option<Grant> {
    let early = planted!("member.reads_before_grant").then(|| granted(line, to));
    if !exchange(line, from, to) {
        return None;
    }
    if to.state() == State::Exclusive {
        crash_point!("lease.exclusive_granted");
    }
    Some(early.unwrap_or_else(|| granted(line, to)))
}

/// [`take`], to write.
#[inline]
pub(crate) fn take_exclusive(line: &Descriptor, from: Own, to: Own) -> Option<Grant> {
    let drops = planted!("member.takes_the_marks");
    let to = if drops { to.recall_ended() } else { to };
    let grant = take(line, from, to)?;
    (stands(line, &grant) || planted!("member.trusts_a_late_place")).then_some(grant)
}

/// Whether the holder was not fenced before it had read where the contents are, so that it may
/// store there.
#[inline]
pub(crate) fn stands(line: &Descriptor, grant: &Grant) -> bool {
    // The acquire of the place pairs with the release of whoever moved the contents, who had noted
    // the fence before: who reads the new place reads that note, or a later one. The word is looked
    // at only where the note does not say enough: a processor that has just exchanged a word is
    // slow to load the same one. Who sleeps here through 2^25 epochs may take a later note for an
    // older one: the word refuses it before its first access all the same.
    base::is_before(line.base.load(Relaxed), grant.epoch()) || is_still_its(line, *grant)
}

/// Whether the word is that of the grant, but for what anybody may have marked. Where it is, a note
/// so old that it may soon be taken for one of this epoch is renewed: of a unit that is leased
/// again and again and never changed.
#[cold]
#[inline(never)]
fn is_still_its(line: &Descriptor, grant: Grant) -> bool {
    // Acquire pairs with the release of each note: one of somebody who came later shows that the
    // word is not this holder's any more.
    let noted = line.base.load(Acquire);
    let is_its = line.own.load(Acquire) & !Own::MARKS == grant.own.word() & !Own::MARKS;
    let for_it = base::epoch(noted) == grant.epoch();
    if is_its && !for_it && !planted!("grant.keeps_an_old_note") {
        let renewed = base::pack(grant.epoch().before(), grant.version);
        // It fails where the daemon has noted a fence.
        let _ = line.base.compare_exchange(noted, renewed, Release, Relaxed);
    }
    is_its
}

/// What goes with a grant that has just been made.
#[inline]
pub(crate) fn granted(line: &Descriptor, own: Own) -> Grant {
    // The compare-exchange before it acquired what belongs to the grant. Acquire pairs with the
    // release of whoever moves the contents: what a holder that was fenced since looks at next is
    // not older than the place it reads here.
    Grant {
        own,
        // Acquire pairs with the release of whoever raises it in a recovery, for the same reason.
        version: line.version.load(Acquire),
        backing: line.backing.load(Acquire),
    }
}
