//! The window of this process, and the regions of it that are mapped.
//!
//! A [`Window`] is address space only: reserved, accessible to nobody. A [`Region`] is a part of it
//! in use: files are mapped into it one after the other from its start on, and what is mapped stays
//! accessible until the region is dropped, or emptied by who has it alone. In between, other files
//! or zero pages can be put in the place of what is there, in one step and under the eyes of
//! readers: that is how a segment moves to a new incarnation, and how one that was taken away ends
//! without a fault. What may be written may be written until then, too: a writable part is never
//! replaced by a read-only one.
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
use crate::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicPtr, AtomicU64};
use crate::sync::{Arc, Mutex, lock};
use crate::units::{Bytes, EXTENT_BYTES};

/// The reserved window. Clones are the same one; the reservation ends with the last clone and
/// region.
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

    /// The window at `range` that all users of this process share. It is reserved once and stays so
    /// for the life of the process: whoever asks for it later finds it where it was.
    ///
    /// A forked child has windows of its own, whatever its parent did when it was forked.
    ///
    /// # Errors
    /// As for [`Window::reserve`].
    pub fn shared(range: WindowRange) -> Result<Self, MapError> {
        let mut windows = lock(&windows_of_this_process().windows);
        if let Some(window) = windows.iter().find(|window| window.range() == range) {
            return Ok(window.clone());
        }
        let window = Self::reserve(range)?;
        windows.push(window.clone());
        Ok(window)
    }

    /// The addresses that are reserved.
    #[must_use]
    pub fn range(&self) -> WindowRange {
        self.0.range
    }

    /// Takes the `len` bytes at `at` for a region, nothing of which is mapped yet.
    ///
    /// # Errors
    /// [`MapError::Claimed`] while a region there is in use, [`MapError::Outside`] of the window,
    /// [`MapError::NotExtents`], [`MapError::Forked`].
    pub fn claim(&self, at: PoolAddr, len: Bytes) -> Result<Region, MapError> {
        self.0.check_owner()?;
        let _inside = self.0.part(at, len)?;
        let mut claims = lock(&self.0.claims);
        if !claims
            .range(..=at)
            .next_back()
            .is_none_or(|(&start, &other)| ends_by(start, other, at))
            || !is_free_behind(&claims, at, len)
        {
            return Err(MapError::Claimed { at, len });
        }
        claims.insert(at, len);
        Ok(Region {
            reservation: Arc::clone(&self.0),
            at,
            readable: AtomicU64::new(0),
            writable: AtomicU64::new(0),
            state: Mutex::new(State {
                claimed: len,
                released: false,
            }),
        })
    }
}

/// The windows that users of a process share.
struct SharedWindows {
    process: Pid,
    windows: Mutex<Vec<Window>>,
}

/// Those of this process. What a child inherits is its parent's, with a lock that nobody is left to
/// free perhaps: it makes another one.
fn windows_of_this_process() -> &'static SharedWindows {
    static NEWEST: AtomicPtr<SharedWindows> = AtomicPtr::new(core::ptr::null_mut());
    let process = getpid();
    let inherited = NEWEST.load(Acquire);
    // SAFETY: null, or what a box was leaked for, below.
    if let Some(newest) = unsafe { inherited.as_ref() }
        && newest.process == process
    {
        return newest;
    }
    let windows = Mutex::default();
    let fresh = Box::into_raw(Box::new(SharedWindows { process, windows }));
    let newest = match NEWEST.compare_exchange(inherited, fresh, AcqRel, Acquire) {
        Ok(_) => fresh,
        Err(newest) => {
            // SAFETY: from a box, and nobody else knows of it.
            drop(unsafe { Box::from_raw(fresh) });
            newest
        }
    };
    // SAFETY: from a box that stays for the life of the process: its own, or that of the thread of
    // this process that was faster.
    unsafe { &*newest }
}

/// Whether a claim of `len` from `start` has ended by `at`, which is not before `start`.
fn ends_by(start: PoolAddr, len: Bytes, at: PoolAddr) -> bool {
    at.checked_offset_from(start)
        .is_some_and(|distance| distance >= len)
}

/// Whether no claim starts behind `at` and within `len` of it.
fn is_free_behind(claims: &BTreeMap<PoolAddr, Bytes>, at: PoolAddr, len: Bytes) -> bool {
    let behind = at
        .checked_add(Bytes::new(1))
        .map(|behind| claims.range(behind..).next());
    behind.is_some_and(|next| next.is_none_or(|(&start, _)| ends_by(at, len, start)))
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

    /// The `len` bytes from `at` of a claim, which are inside.
    fn span_of(&self, at: PoolAddr, len: Bytes) -> Span {
        let span = at.checked_offset_from(self.range.base());
        let span = span.and_then(|offset| self.span.part(offset, len));
        // A claim was checked to be inside. Were it not, no bytes would be the safe answer.
        span.unwrap_or(self.span.empty())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.check_owner().is_ok() {
            // SAFETY: this process reserved it (invariant 4), and every region, which holds an
            // `Arc` of `self`, is gone. A failure leaves addresses that nobody can use, which hurts
            // nobody.
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
    at: PoolAddr,
    /// Bytes from the start that are accessible. Never less while it is borrowed (invariant 5).
    readable: AtomicU64,
    /// Bytes from the start that may be written. Never less while it is borrowed, and never more
    /// than `readable` (invariant 5).
    writable: AtomicU64,
    /// Held while the mapping is changed.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What the claim in the reservation says.
    claimed: Bytes,
    released: bool,
}

impl Region {
    /// Where the region starts.
    #[must_use]
    pub const fn addr(&self) -> PoolAddr {
        self.at
    }

    /// How many bytes of the window it has, mapped or not.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        lock(&self.state).claimed
    }

    /// Whether this process was forked from the one whose region it is, and has a copy of the value
    /// only.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        self.reservation.check_owner().is_err()
    }

    /// Takes addresses behind the region until it has `len` bytes. Does nothing where it has them.
    ///
    /// # Errors
    /// [`MapError::Claimed`] where a region there is in use, [`MapError::Outside`] of the window,
    /// [`MapError::NotExtents`], [`MapError::Forked`].
    pub fn extend(&self, len: Bytes) -> Result<(), MapError> {
        self.reservation.check_owner()?;
        let mut state = lock(&self.state);
        if len <= state.claimed {
            return Ok(());
        }
        let _inside = self.reservation.part(self.at, len)?;
        let mut claims = lock(&self.reservation.claims);
        if !is_free_behind(&claims, self.at, len) {
            return Err(MapError::Claimed { at: self.at, len });
        }
        claims.insert(self.at, len);
        state.claimed = len;
        Ok(())
    }

    /// Maps the `len` bytes of `file` from `file_offset` at `offset`: behind what is mapped, or in
    /// its place. Every page is entered at once. Readers of the range see the old bytes or the new
    /// ones, page by page, and nothing else.
    ///
    /// # Errors
    /// [`MapError`]. After [`MapError::Os`] a range that was mapped before holds what it held, or
    /// the file, or, where the kernel had taken the old mapping away already, zero pages. Which
    /// one is not told: stop accessing it before you put zero pages in its place.
    pub fn map(
        &self,
        offset: Bytes,
        len: Bytes,
        file: BorrowedFd<'_>,
        file_offset: Bytes,
        access: Access,
    ) -> Result<(), MapError> {
        sys::check_file_len(file, file_offset, len)?;
        let part = self.change(offset, len, Some(access), |part, access| {
            // SAFETY: `change` says why the place is ours and the access enough.
            unsafe { sys::place_file(part, file, file_offset, access) }
        })?;
        // Not under the lock: this may take 100 ms for each GiB of small pages. A failure leaves
        // the file where it is: readers would take zeros for its bytes.
        sys::populate(part)
    }

    /// Puts private zero pages at `offset`: behind what is mapped, or in its place. No reader meets
    /// a hole, and no writer reaches the file that was there.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn zero(&self, offset: Bytes, len: Bytes) -> Result<(), MapError> {
        self.change(offset, len, None, |part, access| {
            // SAFETY: as in `map`.
            unsafe { sys::place_zeros(part, access) }
        })?;
        Ok(())
    }

    /// Has `place` put memory with `access`, or else with what there was, at a part of the region.
    /// The part lies in a reservation of this process (invariant 4), is behind what is mapped or in
    /// its place, and may be written only if the access says so. Hides it from children.
    fn change(
        &self,
        offset: Bytes,
        len: Bytes,
        access: Option<Access>,
        place: impl FnOnce(Span, Access) -> Result<(), MapError>,
    ) -> Result<Span, MapError> {
        self.reservation.check_owner()?;
        let state = lock(&self.state);
        let part = self.part(offset, len, state.claimed)?;
        let (readable, writable) = (Bytes::new(self.readable.load(Relaxed)), self.writable());
        if offset > readable {
            let mapped = self.at.checked_add(readable).unwrap_or(self.at);
            return Err(MapError::Gap {
                at: part.addr(),
                mapped,
            });
        }
        let before = if offset < writable {
            Access::ReadWrite
        } else {
            Access::ReadOnly
        };
        let access = access.unwrap_or(before);
        if access < before {
            return Err(MapError::Narrower {
                at: part.addr(),
                len,
            });
        }
        place(part, access).or_else(|error| {
            // SAFETY: the place is ours, as above, and `access` is what `place` was to give.
            unsafe { sys::fill_hole(part, access) }.and(Err(error))
        })?;
        sys::hide(part)?;
        let end = part
            .addr()
            .checked_offset_from(self.at)
            .and_then(|start| start.checked_add(len));
        let end = end.unwrap_or(readable);
        // Release pairs with the acquire in `mapped`: `writable` first, so that what is readable is
        // never thought writable before it is.
        if access == Access::ReadWrite && offset <= writable {
            self.writable.store(end.max(writable).get(), Release);
        }
        self.readable.store(end.max(readable).get(), Release);
        Ok(part)
    }

    /// The accessible bytes of the region, from its start on: to write, where all of them may be.
    #[must_use]
    pub fn mapped(&self) -> Mapped<'_> {
        // Acquire pairs with the release in `change`: whoever sees the length sees the mapping.
        let readable = Bytes::new(self.readable.load(Acquire));
        let access = if self.writable() >= readable {
            Access::ReadWrite
        } else {
            Access::ReadOnly
        };
        // SAFETY: these bytes stay accessible for as long as the region is borrowed (invariant 5).
        unsafe { Mapped::new(self.reservation.span_of(self.at, readable), access) }
    }

    fn writable(&self) -> Bytes {
        Bytes::new(self.writable.load(Acquire))
    }

    /// Takes all that is mapped away: no file is mapped, nothing is accessible, and the addresses
    /// stay the region's. What is mapped next may be read-only where all could be written before.
    /// Nobody has a view of it, since nobody else borrows it.
    ///
    /// # Errors
    /// [`MapError::Forked`]; [`MapError::Os`], after which nothing is handed out any more, and the
    /// files may still be mapped.
    pub fn clear(&mut self) -> Result<(), MapError> {
        self.reservation.check_owner()?;
        let state = lock(&self.state);
        let span = self.reservation.span_of(self.at, state.claimed);
        self.writable.store(0, Release);
        self.readable.store(0, Release);
        // SAFETY: the region lies in a reservation of this process (invariant 4), and nothing
        // borrows from it: it is borrowed mutably.
        unsafe { sys::place_reservation(span) }?;
        sys::hide(span)
    }

    /// Puts the reservation back, as a drop does, and says whether that went well.
    ///
    /// # Errors
    /// [`MapError::Os`]. The drop that follows tries once more; where that fails too, the files
    /// stay mapped and the addresses in use until the process ends.
    pub fn release(self) -> Result<(), MapError> {
        self.give_back()
    }

    fn part(&self, offset: Bytes, len: Bytes, size: Bytes) -> Result<Span, MapError> {
        let start = self.at;
        let at = start.checked_add(offset).unwrap_or(PoolAddr::new(u64::MAX));
        if offset.checked_add(len).is_none_or(|end| end > size) {
            return Err(MapError::Outside {
                at,
                len,
                start,
                size,
            });
        }
        self.reservation.part(at, len)
    }

    fn give_back(&self) -> Result<(), MapError> {
        // A forked child has inherited the value, but neither reservation nor mapping, and perhaps
        // a lock that nobody is left to free.
        if self.reservation.check_owner().is_err() {
            return Ok(());
        }
        let mut state = lock(&self.state);
        if state.released {
            return Ok(());
        }
        let span = self.reservation.span_of(self.at, state.claimed);
        // SAFETY: the region lies in a reservation of this process (invariant 4), and nothing
        // borrows from it any more: its owner drops it.
        unsafe { sys::place_reservation(span) }?;
        // Only now, so that no other region can have the addresses before.
        lock(&self.reservation.claims).remove(&self.at);
        state.released = true;
        sys::hide(span)
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
        // Without the lock, which a forked child may find taken for ever.
        write!(f, "Region(at {}, {:?})", self.addr(), self.mapped())
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
