//! One segment that this process holds: its mapping, and the word that says what may be accessed.
//!
//! A segment has one mapping in a process, however many handles there are.
//!
//! # Protocol
//! `limit` is the number of bytes that may be accessed. Whoever accesses memory checks the limit
//! before and again after: only bytes that were read while the limit still allowed it are given to
//! the program. What is taken away is taken from the limit first; then zero pages take the place of
//! the memory, so that an access in between meets no hole; then the descriptors are closed. The
//! kernel changes a mapping for all threads of the process before it returns (each processor that
//! runs one is interrupted), so a reader that meets a zero page reads the lower limit after it.
//!
//! A segment is suspended while a request of this process moves it: the daemon copies the contents
//! meanwhile, and what was written after that would be lost. Where no answer came in time it stays
//! so until there is one.
//!
//! # Invariants
//! 1. Every byte below the largest limit there ever was stays accessible while the value lives.
//! 2. A `fate` other than live is final, and is stored before the limit becomes 0.
//! 3. A limit of 0 with a live fate is read while the segment is suspended, and in forked children
//!    (see [`pool_core::mem::OwnWord`]): they inherit the value, but not the mapping.

use std::os::fd::AsFd;

use pool_core::mem::{Access, MapError, Mapped, OwnWord, Region, Window};
use pool_core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use pool_core::sync::{Mutex, MutexGuard, lock};
use pool_core::{Bytes, PoolAddr, SegmentId};

use crate::error::{AccessError, Error, ProtocolError};
use crate::info::SegmentInfo;
use crate::wire::{Grant, Piece};

/// What became of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Fate {
    Live = 0,
    Revoked = 1,
    Lost = 2,
}

#[derive(Debug)]
pub(crate) struct Held {
    id: SegmentId,
    addr: PoolAddr,
    region: Region,
    limit: OwnWord,
    fate: AtomicU8,
    suspended: AtomicBool,
    detail: Mutex<Detail>,
    /// How many handles the program has. References that calls and events take for a moment are
    /// none. It rises under the lock of the session only.
    pub(crate) handles: AtomicUsize,
}

/// What was last granted. Whoever changes the mapping holds its lock.
#[derive(Debug)]
pub(crate) struct Detail {
    pub(crate) info: SegmentInfo,
    pub(crate) access: Access,
    pub(crate) pieces: Vec<Piece>,
}

impl Held {
    /// Maps a segment that the process does not hold yet.
    pub(crate) fn map(window: &Window, grant: Grant) -> Result<Self, MapError> {
        let Grant {
            info,
            access,
            pieces,
        } = grant;
        let region = window.claim(info.addr, info.capacity)?;
        for piece in &pieces {
            region.map(
                piece.offset,
                piece.bytes,
                piece.file.as_fd(),
                Bytes::ZERO,
                access,
            )?;
        }
        let limit = OwnWord::new()?;
        limit.store(info.bytes.get(), Ordering::Release);
        let (id, addr, fate) = (info.id, info.addr, AtomicU8::new(Fate::Live as u8));
        let detail = Mutex::new(Detail {
            info,
            access,
            pieces,
        });
        Ok(Self {
            id,
            addr,
            region,
            limit,
            fate,
            suspended: AtomicBool::new(false),
            detail,
            handles: AtomicUsize::new(0),
        })
    }

    pub(crate) const fn id(&self) -> SegmentId {
        self.id
    }

    pub(crate) const fn addr(&self) -> PoolAddr {
        self.addr
    }

    pub(crate) fn detail(&self) -> MutexGuard<'_, Detail> {
        lock(&self.detail)
    }

    /// All bytes that were ever accessible (invariant 1). To be used between two checks.
    pub(crate) fn mapped(&self) -> Mapped<'_> {
        self.region.mapped()
    }

    pub(crate) fn limit(&self) -> Bytes {
        Bytes::new(self.limit.load(Ordering::Acquire))
    }

    /// Whether the `len` bytes from `offset` may be accessed.
    #[inline]
    pub(crate) fn check(&self, offset: u64, len: u64) -> Result<(), AccessError> {
        // Acquire pairs with the release of `update`: whoever sees the limit sees the mapping.
        match offset.checked_add(len) {
            Some(end) if end <= self.limit.load(Ordering::Acquire) => Ok(()),
            _ => Err(self.denied(Bytes::new(offset), Bytes::new(len))),
        }
    }

    /// Whether it was not taken away yet.
    pub(crate) fn check_live(&self) -> Result<(), AccessError> {
        let segment = self.id;
        match self.fate() {
            Fate::Live => Ok(()),
            Fate::Revoked => Err(AccessError::Revoked { segment }),
            Fate::Lost => Err(AccessError::Lost { segment }),
        }
    }

    #[cold]
    fn denied(&self, offset: Bytes, len: Bytes) -> AccessError {
        if let Err(error) = self.check_live() {
            return error;
        }
        let (suspended, size) = (self.suspended.load(Ordering::Acquire), self.limit());
        // What is inside by now was not when the access was checked.
        let inside = offset.checked_add(len).is_some_and(|end| end <= size);
        if self.region.is_inherited() {
            AccessError::Forked
        } else if suspended || inside {
            AccessError::InDoubt { segment: self.id }
        } else {
            AccessError::Outside { offset, len, size }
        }
    }

    pub(crate) fn fate(&self) -> Fate {
        match self.fate.load(Ordering::Acquire) {
            0 => Fate::Live,
            1 => Fate::Revoked,
            _ => Fate::Lost,
        }
    }

    /// Takes over what the daemon granted anew: another size, other files, more access.
    ///
    /// # Errors
    /// Where the mapping failed, the segment is lost to this process and says so.
    pub(crate) fn update(&self, grant: Grant) -> Result<(), Error> {
        let mut detail = self.detail();
        self.check_live()?;
        if (grant.info.id, grant.info.addr) != (self.id, self.addr) {
            return Err(ProtocolError::Place.into());
        }
        if grant.access < detail.access {
            return Err(ProtocolError::Field("access").into());
        }
        let mapped = self.remap(&detail, &grant);
        if let Err(error) = mapped {
            self.end_with(&mut detail, Fate::Lost)?;
            return Err(error.into());
        }
        let Grant {
            info,
            access,
            pieces,
        } = grant;
        *detail = Detail {
            info,
            access,
            pieces,
        };
        self.admit(&detail);
        Ok(())
    }

    /// Refuses all access until the segment is resumed or brought up to date.
    pub(crate) fn suspend(&self) {
        let _detail = self.detail();
        self.suspended.store(true, Ordering::Release);
        self.limit.store(0, Ordering::Release);
    }

    /// Allows access again to what was last granted.
    pub(crate) fn resume(&self) {
        self.admit(&self.detail());
    }

    /// Allows access to all of it, unless it was taken away.
    fn admit(&self, detail: &Detail) {
        if self.fate() != Fate::Live {
            return;
        }
        self.limit.store(detail.info.bytes.get(), Ordering::Release);
        self.suspended.store(false, Ordering::Release);
        if self.fate() != Fate::Live {
            // `end` came in between, and waits for the lock: what it stored is final.
            self.limit.store(0, Ordering::Release);
        }
    }

    fn remap(&self, before: &Detail, grant: &Grant) -> Result<(), MapError> {
        let (old, new) = (before.info.bytes, grant.info.bytes);
        self.region.extend(grant.info.capacity)?;
        if new < old {
            self.limit.store(new.get(), Ordering::Release);
        }
        let stands = |piece: &Piece| {
            let place = |piece: &Piece| (piece.offset, piece.bytes, piece.backing);
            grant.access == before.access
                && before
                    .pieces
                    .iter()
                    .any(|other| place(other) == place(piece))
        };
        for piece in grant.pieces.iter().filter(|piece| !stands(piece)) {
            let (offset, bytes, file) = (piece.offset, piece.bytes, piece.file.as_fd());
            self.region
                .map(offset, bytes, file, Bytes::ZERO, grant.access)?;
        }
        match self.mapped().bytes().checked_sub(new) {
            Some(rest) if rest > Bytes::ZERO => self.region.zero(new, rest),
            _ => Ok(()),
        }
    }

    /// Ends all access, for good.
    ///
    /// # Errors
    /// Where the memory could not be replaced it stays mapped, and nobody accesses it.
    pub(crate) fn end(&self, fate: Fate) -> Result<(), MapError> {
        let (live, ended) = (Fate::Live as u8, fate as u8);
        let first = self
            .fate
            .compare_exchange(live, ended, Ordering::AcqRel, Ordering::Acquire);
        self.limit.store(0, Ordering::Release);
        if first.is_err() {
            return Ok(());
        }
        let mut detail = self.detail();
        self.end_with(&mut detail, fate)
    }

    fn end_with(&self, detail: &mut Detail, fate: Fate) -> Result<(), MapError> {
        self.fate.store(fate as u8, Ordering::Release);
        self.limit.store(0, Ordering::Release);
        detail.pieces.clear();
        match self.mapped().bytes() {
            Bytes::ZERO => Ok(()),
            mapped => self.region.zero(Bytes::ZERO, mapped),
        }
    }
}
