//! Sharing a segment without coherence between hosts: by turns, and read-only.
//!
//! Where caches of several hosts are kept the same neither by hardware nor by the rules of a domain
//! (see [`coherence::cache::Sharing`]), a segment is shared soundly in two ways: one host at a time
//! has it mapped, or nobody writes it any more. Both rest on one step. A process unmaps the
//! segment, then writes back and drops every line of it, then lets go. Lines are dropped through a
//! mapping of their own: a processor may load a line of what is mapped at any time, because a
//! neighbour was loaded or a branch guessed wrong, and one that came back in between would be stale
//! in the next turn.
//!
//! The instructions drop a line from every cache of the host, whichever of its processes loaded it.
//!
//! # Invariants
//! 1. While lines are dropped this process has the segment mapped nowhere but in the mapping
//!    through which they are dropped, which loads nothing and ends before the segment is let go.
//! 2. Every line of every piece is dropped, read or written, or the caller is told otherwise.

use std::os::fd::AsFd as _;

use pool_core::clock::Deadline;
use pool_core::flush::Flusher;
use pool_core::mem::{Access, FileMap, MapError};
use pool_core::{Bytes, SegmentId, planted};
use pool_proto::session::v1::{self as session, request};

use crate::error::{AccessError, Error};
use crate::held::Held;
use crate::segment::Segment;
use crate::shared::SessionGuard;
use crate::table::{Errand, HeldRef};
use crate::wire::{Grant, Piece};

/// The most that is mapped at once to drop lines: the page tables of more would be a burden.
const STRIDE: Bytes = Bytes::new(256 << 20);

impl Segment {
    /// Ends this process's turn with a segment that hosts use by turns: unmaps it, writes back and
    /// drops every line of it from the caches of this host, and closes it. When this returns
    /// without an error, memory holds what was written, and no cache of this host holds any of it.
    /// To be called by readers, too: a line that was only read would be stale in the next turn.
    ///
    /// # Whose turn it is
    /// The turn of a host ends when *every* process of it has closed the segment, the last one by
    /// this call; one call by the last process drops the lines of all. [`SegmentInfo::holders`]
    /// and [`Segment::other_holders`] tell how many processes hold it. A process that died has
    /// dropped nothing: open the segment once more on its host, and close it so. The daemon of
    /// today serves one machine: it counts that machine's processes, and keeps no other host out.
    /// Who begins when is for the program to agree upon between its hosts; on one host, whose
    /// caches are coherent, this costs time and changes nothing that can be seen. A segment that
    /// nobody holds is freed, unless it was created persistent.
    ///
    /// It takes about 0.2 s for each GiB; other calls of the session wait.
    ///
    /// [`SegmentInfo::holders`]: crate::SegmentInfo::holders
    ///
    /// # Errors
    /// [`Error::HeldHere`] where other handles of this process hold the segment,
    /// [`Error::IsADomain`], [`Error::Access`], [`Error::Forked`]: the handle is closed as by
    /// [`Segment::close`], and no line was dropped. [`Error::NotFlushed`]: it is closed, and lines
    /// may be left. In all these cases open it and do this again before the turn is over. Any other
    /// error, as [`Error::Unreachable`]: the lines are dropped and all is done, but the daemon has
    /// not heard yet that the segment is closed. It is told as soon as it can be.
    pub fn flush_and_close(self) -> Result<(), Error> {
        let (mut held, life) = self.into_parts();
        let (shared, segment) = (life.shared(), held.id());
        shared.check_owner()?;
        let not_flushed = |cause: Error| Error::NotFlushed {
            segment,
            cause: Box::new(cause),
        };
        let deadline = shared.deadline();
        let mut session = shared.session(deadline).map_err(not_flushed)?;
        // The lines are dropped without the daemon, unless it moves the segment just now.
        if let Err(error) = session.settle(shared, deadline)
            && session.awaits(segment)
        {
            return Err(not_flushed(error));
        }
        check_alone(&held)?;
        let unmapped = held.alone(deadline, Held::unmap).map_err(not_flushed)?;
        let pieces = unmapped.map_err(|error| not_flushed(error.into()))?;
        let spared = planted!("turn.spares_what_was_only_read");
        let spared = spared && held.detail().access == Access::ReadOnly;
        let dropped = if spared { Ok(()) } else { drop_lines(&pieces) };
        drop(pieces);
        held.let_go();
        shared.queue(Errand::Close(segment));
        dropped.map_err(|error| not_flushed(error.into()))?;
        session.settle(shared, shared.deadline())
    }

    /// Seals the segment: from now on nobody writes it, in this or any other process, until it is
    /// freed. Before that every line of it is written back and dropped from the caches of this
    /// host, so that any host may read it from memory, and none ever holds a line that is not what
    /// is there. The handle reads only from then on, and so does a pointer of [`Segment::as_ptr`]:
    /// a store by it ends the process.
    ///
    /// To open a sealed segment read-write, to share it so or to resize it is refused with
    /// [`Reason::Sealed`], also after a restart of the daemon. It can still be shared read-only,
    /// moved, and freed. Where it is sealed already nothing happens.
    ///
    /// The daemon sees to it that no client may write. That no process of the owning tenant kept a
    /// mapping past its close it cannot see: they trust each other. Other *hosts* that had it
    /// before must have ended their turns by [`Segment::flush_and_close`].
    ///
    /// It takes about 0.2 s for each GiB; other calls of the session wait.
    ///
    /// [`Reason::Sealed`]: crate::Reason::Sealed
    ///
    /// # Errors
    /// [`Error::HeldHere`] where other handles of this process hold the segment;
    /// [`Error::Refused`] with [`Reason::InUse`](crate::Reason::InUse) where another client or
    /// tenant may write it or wrote it meanwhile: nothing was changed. [`Error::IsADomain`];
    /// [`AccessError::ReadOnly`]; [`Error::NotFlushed`]: it was not sealed. Where no answer came in
    /// time every access is [`AccessError::InDoubt`] until there is one: the segment is sealed
    /// then, or as it was.
    pub fn seal(&mut self) -> Result<(), Error> {
        if self.is_sealed() {
            return Ok(());
        }
        if self.access() == Access::ReadOnly {
            return Err(AccessError::ReadOnly.into());
        }
        let (held, life) = self.parts();
        let shared = life.shared();
        let deadline = shared.deadline();
        let mut session = shared.session(deadline)?;
        session.settle(shared, deadline)?;
        check_alone(held)?;
        if held.is_sealed() {
            return Ok(()); // By a call before, whose answer has come only now.
        }
        let grant = refresh(&mut session, held.id(), deadline)?;
        let writers = grant.writers;
        shared.update(held, grant)?;
        let unmapped = held.alone(deadline, Held::unmap)?;
        let sealed = unmapped
            .map_err(Error::from)
            .and_then(|pieces| seal(&mut session, held, pieces, writers));
        if sealed.is_err() {
            map_again(&mut session, held);
        }
        sealed
    }

    /// How many processes hold the segment besides this one, as the daemon knows: those of its own
    /// machine, of every tenant.
    ///
    /// # Errors
    /// [`Error`].
    pub fn other_holders(&self) -> Result<u32, Error> {
        self.bring_up_to_date(self.life().shared().deadline())?;
        let holders = self.held().peek(|detail| detail.info.holders);
        Ok(holders.map_or(0, |holders| holders.saturating_sub(1)))
    }
}

/// Makes sure that this is the only handle of the segment, and that it is none of a domain. The
/// caller holds the session.
fn check_alone(held: &HeldRef) -> Result<(), Error> {
    let segment = held.id();
    held.check_live()?;
    if held.membership().is_some() {
        return Err(Error::IsADomain { segment });
    }
    match held.others() {
        0 => Ok(()),
        others => Err(Error::HeldHere { segment, others }),
    }
}

fn refresh(
    session: &mut SessionGuard<'_>,
    segment: SegmentId,
    deadline: Deadline,
) -> Result<Grant, Error> {
    let shared = session.shared();
    let segment_id = segment.number();
    let ask = session::Refresh { segment_id };
    let answer = session.ask(shared, request::Body::Refresh(ask), deadline)?;
    answer.granted(shared.window.range())
}

/// Seals the segment, which is not mapped, and maps it to be read.
fn seal(
    session: &mut SessionGuard<'_>,
    held: &HeldRef,
    pieces: Vec<Piece>,
    writers: u64,
) -> Result<(), Error> {
    let (shared, segment) = (session.shared(), held.id());
    let dropped = drop_lines(&pieces);
    held.put_back(pieces);
    dropped.map_err(|error| Error::NotFlushed {
        segment,
        cause: Box::new(error.into()),
    })?;
    let segment_id = segment.number();
    let ask = session::Seal {
        segment_id,
        writers,
    };
    let answer = session.ask(shared, request::Body::Seal(ask), shared.deadline())?;
    shared.update(held, answer.granted(shared.window.range())?)
}

/// Has a segment mapped again that was not sealed. Where it is not known whether it was, or there
/// is no room now, the background thread goes on with it.
fn map_again(session: &mut SessionGuard<'_>, held: &HeldRef) {
    let (shared, id) = (session.shared(), held.id());
    if session.awaits(id) || held.check_live().is_err() {
        return;
    }
    let mapped = refresh(session, id, shared.deadline());
    let mapped = mapped.and_then(|grant| shared.update(held, grant));
    if mapped.is_err() {
        shared.postpone(id);
    }
}

/// Drops every line of a segment that nobody writes: what this host's caches have of it may be of
/// before.
pub(crate) fn forget_lines(held: &HeldRef) -> Result<(), Error> {
    let dropped = held.peek(|detail| drop_lines(&detail.pieces));
    Ok(dropped.unwrap_or(Ok(()))?)
}

/// Writes back and drops every line of the pieces, which are not mapped.
fn drop_lines(mut pieces: &[Piece]) -> Result<(), MapError> {
    if planted!("turn.forgets_the_last_piece") {
        pieces = pieces.split_last().map_or(pieces, |(_, rest)| rest);
    }
    let flusher = Flusher::detect();
    pieces
        .iter()
        .try_for_each(|piece| drop_lines_of(&flusher, piece))
}

fn drop_lines_of(flusher: &Flusher, piece: &Piece) -> Result<(), MapError> {
    let mut offset = Bytes::ZERO;
    while let Some(left) = piece
        .bytes
        .checked_sub(offset)
        .filter(|left| left.get() > 0)
    {
        let len = left.min(STRIDE);
        let map = FileMap::new(piece.file.as_fd(), offset, len, Access::ReadOnly)?;
        let dropped = flusher.invalidate(&map.mapped(), Bytes::ZERO, len);
        debug_assert!(dropped.is_ok(), "what was mapped is all of it");
        // Before the mapping ends, and so before anything is told to anybody.
        flusher.fence_all();
        offset = offset.checked_add(len).unwrap_or(piece.bytes);
    }
    Ok(())
}
