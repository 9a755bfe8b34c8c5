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
//! What is replaced is taken from the limit as well until it is. Whoever meets the limit waits
//! until the change is over: where it succeeded there were no zeros, else the segment has ended.
//!
//! A segment that is to be sealed, or whose turn ends, is unmapped by whoever has it alone, and
//! suspended; what is granted then is mapped as if it were new, with the access that it came with.
//!
//! A segment is suspended while a request of this process moves it: the daemon copies the contents
//! meanwhile, and what was written after that would be lost. Where no answer came in time it stays
//! so until there is one.
//!
//! # Invariants
//! 1. Every byte below the largest limit there ever was stays accessible while the value is
//!    borrowed.
//! 2. A `fate` other than live is final, and is stored before the limit becomes 0.
//! 3. A limit of 0 with a live fate is read while the segment is suspended, and in forked children
//!    (see [`pool_core::mem::OwnWord`]): they inherit the value, but not the mapping.

use std::os::fd::AsFd;

use pool_core::mem::{Access, MapError, Mapped, OwnWord, Region, Window};
use pool_core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use pool_core::sync::{Mutex, MutexGuard, lock};
use pool_core::{Bytes, Incarnation, PoolAddr, SegmentId};

use crate::error::{AccessError, Error, ProtocolError};
use crate::info::SegmentInfo;
use crate::membership::Membership;
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
    /// The incarnation it was first held with.
    first: Incarnation,
    region: Region,
    limit: OwnWord,
    fate: AtomicU8,
    suspended: AtomicBool,
    /// Nobody writes it any more.
    sealed: AtomicBool,
    /// The incarnation that is mapped, once it is.
    incarnation: AtomicU64,
    /// Where the segment is a domain.
    membership: Option<Membership>,
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
            slot,
            pieces,
            ..
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
        let (id, addr, first) = (info.id, info.addr, info.incarnation);
        let sealed = info.sealed;
        let membership = info
            .domain
            .map(|domain| Membership::new(domain, slot, access, id, region.mapped()));
        let fate = AtomicU8::new(Fate::Live as u8);
        let detail = Mutex::new(Detail {
            info,
            access,
            pieces,
        });
        Ok(Self {
            id,
            addr,
            first,
            region,
            limit,
            fate,
            suspended: AtomicBool::new(false),
            sealed: AtomicBool::new(sealed),
            incarnation: AtomicU64::new(first.number()),
            membership,
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

    /// Looks at what was last granted. `None` in a forked child, which may find the lock taken for
    /// ever.
    pub(crate) fn peek<R>(&self, look: impl FnOnce(&Detail) -> R) -> Option<R> {
        (!self.region.is_inherited()).then(|| look(&self.detail()))
    }

    pub(crate) const fn first_incarnation(&self) -> Incarnation {
        self.first
    }

    /// What this process is in the domain, where the segment is one.
    pub(crate) const fn membership(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }

    /// The incarnation that is mapped, by its number.
    #[inline]
    pub(crate) fn incarnation(&self) -> u64 {
        // Acquire pairs with the release in `update`: whoever sees it sees the mapping.
        self.incarnation.load(Ordering::Acquire)
    }

    pub(crate) fn detail(&self) -> MutexGuard<'_, Detail> {
        lock(&self.detail)
    }

    /// All bytes that were ever accessible (invariant 1). To be used between two checks.
    pub(crate) fn mapped(&self) -> Mapped<'_> {
        self.region.mapped()
    }

    /// Whether the `len` bytes from `offset` may be accessed.
    #[inline]
    pub(crate) fn check(&self, offset: u64, len: u64) -> Result<(), AccessError> {
        if self.is_inside(offset, len) {
            Ok(())
        } else {
            self.check_again(offset, len)
        }
    }

    #[inline]
    fn is_inside(&self, offset: u64, len: u64) -> bool {
        // Acquire pairs with the release of `update`: whoever sees the limit sees the mapping.
        let limit = self.limit.load(Ordering::Acquire);
        offset.checked_add(len).is_some_and(|end| end <= limit)
    }

    /// Whether the mapping is that of this process, and the segment was not taken away: so what was
    /// leased of it can be given back.
    #[inline]
    pub(crate) fn check_standing(&self) -> Result<(), AccessError> {
        if self.is_standing() {
            Ok(())
        } else {
            self.check_standing_again()
        }
    }

    /// Whether something of it may be accessed, and so the mapping is that of this process.
    #[inline]
    pub(crate) fn is_standing(&self) -> bool {
        // Acquire, as in `is_inside`.
        self.limit.load(Ordering::Acquire) != 0
    }

    #[cold]
    fn check_standing_again(&self) -> Result<(), AccessError> {
        self.check_live()?;
        if self.region.is_inherited() {
            return Err(AccessError::Forked);
        }
        Ok(())
    }

    /// Waits for a change of the mapping that is under way, and looks again.
    #[cold]
    fn check_again(&self, offset: u64, len: u64) -> Result<(), AccessError> {
        self.check_live()?;
        if self.region.is_inherited() {
            return Err(AccessError::Forked);
        }
        let detail = self.detail();
        self.check_live()?;
        if self.is_inside(offset, len) {
            return Ok(());
        }
        if self.suspended.load(Ordering::Acquire) {
            return Err(AccessError::InDoubt { segment: self.id });
        }
        let (offset, len) = (Bytes::new(offset), Bytes::new(len));
        let size = detail.info.bytes;
        Err(AccessError::Outside { offset, len, size })
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
    /// Where what is added could not be mapped, the segment is as it was. Where what was there
    /// could not be replaced, or is not what the segment is by now, it is lost to this process and
    /// says so.
    pub(crate) fn update(&self, grant: Grant) -> Result<(), Error> {
        let mut detail = self.detail();
        self.check_live()?;
        if (grant.info.id, grant.info.addr) != (self.id, self.addr) {
            return Err(ProtocolError::Place.into());
        }
        // How a domain is leased depends on it.
        let fixed = self.membership.is_some() && grant.access != detail.access;
        let narrower = grant.access < detail.access && !(grant.info.sealed && self.is_unmapped());
        if narrower || fixed {
            return Err(ProtocolError::Field("access").into());
        }
        if grant.info.domain != detail.info.domain {
            return Err(ProtocolError::Field("coherence").into());
        }
        let slot = self.membership.as_ref().map(Membership::slot);
        if slot.is_some_and(|slot| slot != grant.slot) {
            if grant.info.incarnation > detail.info.incarnation {
                // Evicted from the domain, it has come back before it has heard of that.
                return Err(AccessError::Revoked { segment: self.id }.into());
            }
            return Err(ProtocolError::Field("slot").into());
        }
        if let Err(error) = self.append(&detail, &grant) {
            let same = grant.info.incarnation == detail.info.incarnation;
            if !same || self.cut(detail.info.bytes).is_err() {
                self.lose(&mut detail)?;
            }
            return Err(error.into());
        }
        if let Err(error) = self.replace(&detail, &grant) {
            self.lose(&mut detail)?;
            return Err(error.into());
        }
        let Grant {
            info,
            access,
            pieces,
            ..
        } = grant;
        self.incarnation
            .store(info.incarnation.number(), Ordering::Release);
        self.sealed.store(info.sealed, Ordering::Release);
        *detail = Detail {
            info,
            access,
            pieces,
        };
        self.admit(&detail);
        Ok(())
    }

    /// Maps what is added behind what may be accessed.
    fn append(&self, before: &Detail, grant: &Grant) -> Result<(), MapError> {
        self.region.extend(grant.info.capacity)?;
        let added = grant.pieces.iter();
        let mut added = added.filter(|piece| self.is_added(before, grant, piece));
        added.try_for_each(|piece| self.map_piece(piece, grant.access))
    }

    /// Maps what takes the place of something. What it takes the place of is not accessed
    /// meanwhile: where the kernel fails there are zeros.
    fn replace(&self, before: &Detail, grant: &Grant) -> Result<(), MapError> {
        let stands = |piece: &Piece| {
            let place = |piece: &Piece| (piece.offset, piece.bytes, piece.backing);
            let mut pieces = before.pieces.iter();
            let same = grant.access == before.access && !self.is_unmapped();
            same && pieces.any(|other| place(other) == place(piece))
        };
        let replaced = grant.pieces.iter();
        let replaced = replaced
            .filter(|piece| !stands(piece) && !self.is_added(before, grant, piece))
            .collect::<Vec<_>>();
        let first = replaced.iter().map(|piece| piece.offset).min();
        let stand = first.unwrap_or(before.info.bytes).min(grant.info.bytes);
        self.limit.fetch_min(stand.get(), Ordering::Release);
        for piece in replaced {
            self.map_piece(piece, grant.access)?;
        }
        self.cut(grant.info.bytes)
    }

    fn map_piece(&self, piece: &Piece, access: Access) -> Result<(), MapError> {
        let (offset, bytes, file) = (piece.offset, piece.bytes, piece.file.as_fd());
        self.region.map(offset, bytes, file, Bytes::ZERO, access)
    }

    /// Puts zeros behind the first `bytes`.
    fn cut(&self, bytes: Bytes) -> Result<(), MapError> {
        match self.mapped().bytes().checked_sub(bytes) {
            Some(rest) if rest > Bytes::ZERO => self.region.zero(bytes, rest),
            _ => Ok(()),
        }
    }

    /// Refuses all access until the segment is resumed or brought up to date.
    pub(crate) fn suspend(&self) {
        let _detail = self.detail();
        self.suspended.store(true, Ordering::Release);
        self.limit.store(0, Ordering::Release);
    }

    /// Allows access again to what was last granted. False where that is not mapped.
    #[must_use]
    pub(crate) fn resume(&self) -> bool {
        let detail = self.detail();
        let mapped = !self.is_unmapped();
        if mapped {
            self.admit(&detail);
        }
        mapped
    }

    /// Takes the segment out of the window and suspends it, until it is granted anew. Returns its
    /// pieces: to be put back before the daemon may ask for their files.
    ///
    /// # Errors
    /// Where it may still be mapped: nobody accesses it all the same.
    pub(crate) fn unmap(&mut self) -> Result<Vec<Piece>, MapError> {
        self.suspended.store(true, Ordering::Release);
        self.limit.store(0, Ordering::Release);
        self.region.clear()?;
        Ok(std::mem::take(&mut self.detail().pieces))
    }

    /// Takes the pieces back, unless the segment was taken away meanwhile.
    pub(crate) fn put_back(&self, pieces: Vec<Piece>) {
        let mut detail = self.detail();
        if self.fate() == Fate::Live {
            detail.pieces = pieces;
        }
    }

    fn is_unmapped(&self) -> bool {
        self.mapped().bytes() == Bytes::ZERO
    }

    /// Whether nobody writes it any more.
    pub(crate) fn is_sealed(&self) -> bool {
        // Acquire pairs with the release of `update`.
        self.sealed.load(Ordering::Acquire)
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

    /// Ends all access, for good. False where it had ended.
    ///
    /// # Errors
    /// Where the memory could not be replaced it stays mapped, and nobody accesses it.
    pub(crate) fn end(&self, fate: Fate) -> Result<bool, MapError> {
        let first = self.decide(fate);
        if first {
            self.take_away(&mut self.detail())?;
        }
        Ok(first)
    }

    /// Ends all access to the grant of incarnation `meant`. False where what is held is newer, or
    /// had ended.
    ///
    /// # Errors
    /// As [`Self::end`].
    pub(crate) fn end_grant(&self, fate: Fate, meant: Incarnation) -> Result<bool, MapError> {
        let mut detail = self.detail();
        let first = detail.info.incarnation <= meant && self.decide(fate);
        if first {
            self.take_away(&mut detail)?;
        }
        Ok(first)
    }

    /// Ends all access because the mapping failed, unless it had ended.
    fn lose(&self, detail: &mut Detail) -> Result<(), MapError> {
        self.decide(Fate::Lost);
        self.take_away(detail)
    }

    /// False where the fate is decided already.
    fn decide(&self, fate: Fate) -> bool {
        let (live, ended) = (Fate::Live as u8, fate as u8);
        let decided = self
            .fate
            .compare_exchange(live, ended, Ordering::AcqRel, Ordering::Acquire);
        self.limit.store(0, Ordering::Release);
        decided.is_ok()
    }

    /// Under the lock of whoever allows access: an `admit` that did not see the fate yet has stored
    /// its limit before, and this one is final.
    fn take_away(&self, detail: &mut Detail) -> Result<(), MapError> {
        self.limit.store(0, Ordering::Release);
        detail.pieces.clear();
        self.cut(Bytes::ZERO)
    }

    /// Whether a piece of a grant lies behind all that may be accessed before it. Where the access
    /// changes as well, or nothing is mapped, all is mapped anew in order: what may be written
    /// begins at the start.
    fn is_added(&self, before: &Detail, grant: &Grant, piece: &Piece) -> bool {
        let stands = grant.access == before.access && !self.is_unmapped();
        piece.offset >= before.info.bytes && stands
    }
}
