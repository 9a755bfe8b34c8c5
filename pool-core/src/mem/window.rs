//! The window of this process, and the regions of it that are mapped.
//!
//! A [`Window`] is address space only: reserved, accessible to nobody. A [`Region`] is a part of it
//! in use: files are mapped into it one after the other from its start on, and what is mapped stays
//! accessible until the region is dropped. In between, other files or zero pages can be put in the
//! place of what is there, in one step and under the eyes of readers: that is how a segment moves
//! to a new incarnation, and how one that was taken away ends without a fault.
//!
//! # Forks
//! A child inherits neither the reservation nor the mappings (`MADV_DONTFORK`), and all calls on a
//! window or region that it inherited fail with [`MapError::Forked`]. Between the mapping of a file
//! and that advice lie two system calls: a child that another thread forks in between keeps the
//! mapping until it ends or executes a program, and whoever waits for the file to be released waits
//! for the child.

use core::fmt;
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use nix::unistd::{Pid, getpid};

use super::sys::{self, Span};
use super::{Access, MapError, Mapped};
use crate::addr::{PoolAddr, WindowRange};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, lock};
use crate::units::{Bytes, EXTENT_BYTES};

/// The reserved window. Clones are the same one; the reservation ends with the last clone and region.
#[derive(Debug, Clone)]
pub struct Window(Arc<Reservation>);

#[derive(Debug)]
struct Reservation {
    range: WindowRange,
    span: Span,
    owner: Pid,
    /// The regions in use: where each starts, and its length. They do not overlap (invariant 5).
    claims: Mutex<BTreeMap<PoolAddr, Bytes>>,
}

impl Window {
    /// Reserves `range` in this process.
    ///
    /// # Errors
    /// [`MapError::Taken`] where anything lies in it, an earlier reservation included;
    /// [`MapError::Os`].
    pub fn reserve(range: WindowRange) -> Result<Self, MapError> {
        let (base, len) = (range.base(), range.len());
        let Some(span) = sys::reserve(base, len)? else {
            return Err(MapError::Taken {
                base,
                len,
                occupant: occupant(range),
            });
        };
        let claims = Mutex::new(BTreeMap::new());
        Ok(Self(Arc::new(Reservation {
            range,
            span,
            owner: getpid(),
            claims,
        })))
    }

    /// The addresses that are reserved.
    #[must_use]
    pub fn range(&self) -> WindowRange {
        self.0.range
    }

    /// Takes the `len` bytes at `at` for a region with `access`, nothing of which is mapped yet.
    ///
    /// # Errors
    /// [`MapError::Claimed`] while a region there is in use, [`MapError::Outside`] of the window,
    /// [`MapError::NotExtents`], [`MapError::Forked`].
    pub fn claim(&self, at: PoolAddr, len: Bytes, access: Access) -> Result<Region, MapError> {
        self.0.check_owner()?;
        let span = self.0.part(at, len)?;
        let mut claims = lock(&self.0.claims);
        // The claims do not overlap, so only the last one that starts before the end of this one
        // can reach into it.
        let end = at.checked_add(len).ok_or(MapError::Claimed { at, len })?;
        if let Some((&start, &other)) = claims.range(..end).next_back()
            && at
                .checked_offset_from(start)
                .is_none_or(|distance| distance < other)
        {
            return Err(MapError::Claimed { at, len });
        }
        claims.insert(at, len);
        let reservation = Arc::clone(&self.0);
        let state = Mutex::new(State::InUse);
        Ok(Region {
            reservation,
            span,
            access,
            mapped: AtomicU64::new(0),
            state,
        })
    }
}

impl Reservation {
    fn check_owner(&self) -> Result<(), MapError> {
        if self.owner == getpid() {
            Ok(())
        } else {
            Err(MapError::Forked)
        }
    }

    fn part(&self, at: PoolAddr, len: Bytes) -> Result<Span, MapError> {
        let (start, size) = (self.range.base(), self.range.len());
        let outside = MapError::Outside {
            at,
            len,
            start,
            size,
        };
        let span = at
            .checked_offset_from(start)
            .and_then(|offset| self.span.part(offset, len));
        let span = span.filter(|span| span.len() > 0).ok_or(outside)?;
        check_extents(at, len)?;
        Ok(span)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.check_owner().is_ok() {
            // SAFETY: this process reserved it (invariant 4), and every region, which holds an `Arc` of
            // `self`, is gone. A failure leaves addresses that nobody can use, which hurts nobody.
            let _ = unsafe { sys::release(self.span) };
        }
    }
}

fn check_extents(at: PoolAddr, len: Bytes) -> Result<(), MapError> {
    if at.is_extent_aligned() && len.get().is_multiple_of(EXTENT_BYTES) {
        Ok(())
    } else {
        Err(MapError::NotExtents { at, len })
    }
}

/// A part of the window in use. Dropping it puts the reservation back.
pub struct Region {
    reservation: Arc<Reservation>,
    span: Span,
    access: Access,
    /// Bytes from the start that are accessible. Never less than before (invariant 5).
    mapped: AtomicU64,
    /// Held while the mapping is changed.
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    InUse,
    Released,
}

impl Region {
    /// Where the region starts.
    #[must_use]
    pub fn addr(&self) -> PoolAddr {
        self.span.addr()
    }

    /// How many bytes it has, mapped or not.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.span.bytes()
    }

    /// Maps the `len` bytes of `file` from `file_offset` at `offset`: behind what is mapped, or in
    /// its place. Every page is entered at once. Readers of the range see the old bytes or the new
    /// ones, page by page, and nothing else.
    ///
    /// # Errors
    /// [`MapError`]. After [`MapError::Os`] a range that was mapped before may hold zero pages.
    pub fn map(
        &self,
        offset: Bytes,
        len: Bytes,
        file: BorrowedFd<'_>,
        file_offset: Bytes,
    ) -> Result<(), MapError> {
        sys::check_file_len(file, file_offset, len)?;
        let part = self.change(offset, len, |part| {
            // SAFETY: `change` says why the place is ours; the access is the region's.
            unsafe { sys::place_file(part, file, file_offset, self.access) }
        })?;
        // Not under the lock: this may take 100 ms for each GiB of small pages.
        sys::populate(part).or_else(|error| self.zero(offset, len).and(Err(error)))
    }

    /// Puts private zero pages at `offset`: behind what is mapped, or in its place. No reader meets
    /// a hole, and no writer reaches the file that was there.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn zero(&self, offset: Bytes, len: Bytes) -> Result<(), MapError> {
        // SAFETY: as in `map`.
        self.change(offset, len, |part| unsafe {
            sys::place_zeros(part, self.access)
        })?;
        Ok(())
    }

    /// Has `place` put memory at a part of the region, which lies in a reservation of this process
    /// (invariant 4) and is behind what is mapped or in its place, and hides it from children.
    fn change(
        &self,
        offset: Bytes,
        len: Bytes,
        place: impl FnOnce(Span) -> Result<(), MapError>,
    ) -> Result<Span, MapError> {
        self.reservation.check_owner()?;
        let part = self.part(offset, len)?;
        let _changing = lock(&self.state);
        let mapped = self.mapped().bytes();
        if offset > mapped {
            let mapped = self.addr().checked_add(mapped).unwrap_or(part.addr());
            return Err(MapError::Gap {
                at: part.addr(),
                mapped,
            });
        }
        place(part)?;
        sys::hide(part).or_else(|error| {
            // SAFETY: the place is ours, as above.
            unsafe { sys::place_zeros(part, self.access) }.and(Err(error))
        })?;
        let end = mapped.get().max(offset.get() + len.get());
        // Release pairs with the acquire in `mapped`.
        self.mapped.store(end, Ordering::Release);
        Ok(part)
    }

    /// The accessible bytes of the region, from its start on.
    #[must_use]
    pub fn mapped(&self) -> Mapped<'_> {
        // Acquire pairs with the release in `change`: whoever sees the length sees the mapping.
        let len = Bytes::new(self.mapped.load(Ordering::Acquire));
        let span = self.span.part(Bytes::ZERO, len).unwrap_or(self.span);
        // SAFETY: these bytes stay accessible for as long as the region is borrowed (invariant 5).
        unsafe { Mapped::new(span, self.access) }
    }

    /// Puts the reservation back, as a drop does, and says whether that went well.
    ///
    /// # Errors
    /// [`MapError::Os`]. The drop that follows tries once more; where that fails too, the files stay
    /// mapped and the addresses in use until the process ends.
    pub fn release(self) -> Result<(), MapError> {
        self.give_back()
    }

    fn part(&self, offset: Bytes, len: Bytes) -> Result<Span, MapError> {
        let (start, size) = (self.addr(), self.bytes());
        let at = start.checked_add(offset).unwrap_or(PoolAddr::new(u64::MAX));
        let part = self.span.part(offset, len).filter(|part| part.len() > 0);
        let part = part.ok_or(MapError::Outside {
            at,
            len,
            start,
            size,
        })?;
        check_extents(at, len)?;
        Ok(part)
    }

    fn give_back(&self) -> Result<(), MapError> {
        let mut state = lock(&self.state);
        // A forked child has inherited the value, but neither reservation nor mapping.
        if *state == State::Released || self.reservation.check_owner().is_err() {
            return Ok(());
        }
        // SAFETY: the region lies in a reservation of this process (invariant 4), and nothing borrows
        // from it any more: its owner drops it.
        unsafe { sys::place_reservation(self.span) }?;
        // Only now, so that no other region can have the addresses before.
        lock(&self.reservation.claims).remove(&self.addr());
        *state = State::Released;
        sys::hide(self.span)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // Where the kernel refuses, the claim stands and the addresses are never used again by this
        // process. Who must know calls `release`.
        let _ = self.give_back();
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Region({} at {}, of which {:?})",
            self.bytes(),
            self.addr(),
            self.mapped()
        )
    }
}

/// What lies in `range` of this process, for the eyes of whoever has to move it.
fn occupant(range: WindowRange) -> Box<str> {
    match std::fs::read_to_string("/proc/self/maps") {
        Err(error) => format!("by what cannot be told: /proc/self/maps: {error}").into(),
        Ok(maps) => maps
            .lines()
            .find(|line| overlaps(line, range))
            .unwrap_or("by something that is gone by now: try again")
            .into(),
    }
}

/// Whether a line of `/proc/self/maps` is about addresses in `range`.
fn overlaps(line: &str, range: WindowRange) -> bool {
    let bounds = line
        .split_once(' ')
        .and_then(|(bounds, _)| bounds.split_once('-'));
    let parse = |text| u64::from_str_radix(text, 16).ok();
    let Some((Some(start), Some(end))) = bounds.map(|(start, end)| (parse(start), parse(end)))
    else {
        return false;
    };
    let base = range.base().get();
    start < base.saturating_add(range.len().get()) && end > base
}
