//! What C holds: a pool, and a heap with what each thread has of it.
//!
//! Each thread that allocates or frees has a [`ThreadHeap`] of its own, in a seat. The heap knows
//! all seats, to empty them when it is closed; a thread knows its own ones, to find and at its end
//! to empty them. A seat is locked by its thread, and by who closes the heap.
//!
//! # Invariants
//! 1. A handle is a box that was leaked to C, until it is closed.
//! 2. In a forked child nothing but [`Own`] is looked at: a lock may be held there by nobody.

use std::cell::RefCell;

use client_sdk::{HeapError, Pool, PoolHeap, ThreadHeap};
use pool_core::mem::OwnWord;
use pool_core::sync::atomic::AtomicU64;
use pool_core::sync::atomic::Ordering::Relaxed;
use pool_core::sync::{Arc, Mutex, lock};

use crate::code::{Code, Failure};

/// Whether this is still the process that made something.
#[derive(Debug)]
pub(crate) struct Own(OwnWord);

impl Own {
    pub(crate) fn new() -> Result<Self, Failure> {
        let word = OwnWord::new()?;
        word.store(1, Relaxed);
        Ok(Self(word))
    }

    pub(crate) fn is_forked(&self) -> bool {
        self.0.load(Relaxed) == 0
    }

    fn check(&self) -> Result<(), Failure> {
        if self.is_forked() {
            let what = "this process was forked from the one whose handle this is";
            return Err(Failure::new(Code::Forked, what));
        }
        Ok(())
    }
}

/// `struct tierpool_pool` of `tierpool.h`.
#[derive(Debug)]
pub(crate) struct PoolHandle {
    own: Own,
    pool: Pool,
}

impl PoolHandle {
    pub(crate) fn new(pool: Pool) -> Result<Self, Failure> {
        let own = Own::new()?;
        Ok(Self { own, pool })
    }

    pub(crate) fn pool(&self) -> Result<&Pool, Failure> {
        self.own.check()?;
        Ok(&self.pool)
    }
}

/// `struct tierpool_heap` of `tierpool.h`.
#[derive(Debug)]
pub(crate) struct HeapHandle {
    own: Own,
    /// Unlike that of all other handles of this process.
    id: u64,
    seats: Mutex<Vec<Arc<Seat>>>,
    heap: PoolHeap,
}

/// What a thread has of a heap: nothing once the thread has ended, or the heap is closed.
#[derive(Debug)]
struct Seat(Mutex<Option<ThreadHeap>>);

/// The seats of a thread, with the heaps that they are of.
#[derive(Debug, Default)]
struct Seats(Vec<(u64, Arc<Seat>)>);

impl Drop for Seats {
    fn drop(&mut self) {
        for (_, seat) in self.0.drain(..) {
            // Where it is locked, its heap is being closed, by this process or one that it was
            // forked from.
            if let Ok(mut seat) = seat.0.try_lock() {
                drop(seat.take());
            }
        }
    }
}

std::thread_local! {
    static MINE: RefCell<Seats> = RefCell::default();
}

impl HeapHandle {
    pub(crate) fn new(heap: PoolHeap) -> Result<Self, Failure> {
        static HANDLES: AtomicU64 = AtomicU64::new(0);
        Ok(Self {
            own: Own::new()?,
            id: HANDLES.fetch_add(1, Relaxed),
            seats: Mutex::default(),
            heap,
        })
    }

    pub(crate) fn heap(&self) -> Result<&PoolHeap, Failure> {
        self.own.check()?;
        Ok(&self.heap)
    }

    /// Calls `act` with what this thread has of the heap.
    pub(crate) fn with_thread<R>(
        &self,
        act: impl FnOnce(&mut ThreadHeap) -> Result<R, HeapError>,
    ) -> Result<R, Failure> {
        self.own.check()?;
        let seat = MINE.try_with(|mine| self.seat(&mut mine.borrow_mut()));
        let Ok(seat) = seat else {
            // The thread is about to end, and has given up what it had.
            return Ok(act(&mut self.heap.thread()?)?);
        };
        let seat = seat?;
        let mut mine = lock(&seat.0);
        match mine.as_mut() {
            Some(mine) => Ok(act(mine)?),
            None => Err(Failure::new(Code::Invalid, "the heap is being closed")),
        }
    }

    /// Has this thread keep nothing ready, if it has anything of the heap.
    pub(crate) fn rest_if_known(&self) -> Result<(), Failure> {
        self.own.check()?;
        let is_mine = |mine: &RefCell<Seats>| mine.borrow().0.iter().any(|(id, _)| *id == self.id);
        if MINE.try_with(is_mine).unwrap_or(false) {
            self.with_thread(ThreadHeap::rest)?;
        }
        Ok(())
    }

    /// The seat of the thread that has `mine`.
    fn seat(&self, mine: &mut Seats) -> Result<Arc<Seat>, Failure> {
        if let Some((_, seat)) = mine.0.iter().find(|(id, _)| *id == self.id) {
            return Ok(Arc::clone(seat));
        }
        let seat = Arc::new(Seat(Mutex::new(Some(self.heap.thread()?))));
        let mut seats = lock(&self.seats);
        // What ended meanwhile: threads of this heap, and heaps of this thread.
        seats.retain(|seat| Arc::strong_count(seat) > 1);
        mine.0.retain(|(_, seat)| Arc::strong_count(seat) > 1);
        seats.push(Arc::clone(&seat));
        mine.0.push((self.id, Arc::clone(&seat)));
        Ok(seat)
    }

    /// Whether this process may close it: only the one that opened it.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.own.check()
    }
}

impl Drop for HeapHandle {
    /// What threads have of it ends first: the memory goes back with the last of it.
    fn drop(&mut self) {
        for seat in lock(&self.seats).drain(..) {
            drop(lock(&seat.0).take());
        }
    }
}
