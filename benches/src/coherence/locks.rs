//! Everything that can be taken and let go of: the leases, and what they are compared with.
//!
//! Each fails in its own way, which is told as any error only where it happened: to turn one type
//! of result into another copies what was granted, and that would be measured as well.

use std::cell::Cell;
use std::convert::Infallible;

use coherence::{FutexWait, Grant, LeaseError, Member};
use nix::errno::Errno;
use parking_lot::{
    Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockUpgradableReadGuard, RwLockWriteGuard,
};
use pool_core::clock::Deadline;
use pool_core::descriptor::Descriptor;
use pool_core::sync::atomic::AtomicU64;
use pool_core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use super::pthread::RobustMutex;

/// One of them.
pub(super) trait Lock {
    /// What is had while it is held.
    type Held<'a>
    where
        Self: 'a;
    /// Why it is not had, or was not held to the end.
    type Fault: std::error::Error + Send + Sync + 'static;

    /// Takes it, waiting where it must.
    fn acquire(&self) -> Result<Self::Held<'_>, Self::Fault>;

    /// Lets go of it.
    fn release<'a>(&'a self, held: Self::Held<'a>) -> Result<(), Self::Fault>;
}

/// A unit, for one member.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit<'a> {
    pub(super) member: &'a Member<FutexWait>,
    pub(super) number: u32,
    pub(super) line: &'a Descriptor,
    /// The end of all patience: of a run, not of an acquire.
    pub(super) until: Deadline,
}

/// A lease for writing.
#[derive(Debug)]
pub(super) struct Exclusive<'a> {
    pub(super) unit: Unit<'a>,
    /// Whether what was written is published.
    pub(super) publishes: bool,
}

impl Lock for Exclusive<'_> {
    type Held<'a>
        = Grant
    where
        Self: 'a;
    type Fault = LeaseError;

    #[inline]
    fn acquire(&self) -> Result<Grant, LeaseError> {
        self.unit.member.exclusive(self.unit.line, self.unit.until)
    }

    #[inline]
    fn release(&self, held: Grant) -> Result<(), LeaseError> {
        let Unit { member, line, .. } = self.unit;
        member
            .release_exclusive(line, &held, self.publishes)
            .map(drop)
    }
}

/// A lease for reading.
#[derive(Debug)]
pub(super) struct Shared<'a>(pub(super) Unit<'a>);

impl Lock for Shared<'_> {
    type Held<'a>
        = Grant
    where
        Self: 'a;
    type Fault = LeaseError;

    #[inline]
    fn acquire(&self) -> Result<Grant, LeaseError> {
        let Unit {
            member,
            number,
            line,
            until,
        } = self.0;
        member.shared(number, line, until)
    }

    #[inline]
    fn release(&self, held: Grant) -> Result<(), LeaseError> {
        self.0
            .member
            .release_shared(self.0.number, self.0.line, &held)
    }
}

/// A lease for reading that becomes one for writing, and one for reading again.
#[derive(Debug)]
pub(super) struct Upgrade<'a> {
    pub(super) unit: Unit<'a>,
    pub(super) reads: Cell<Grant>,
}

impl Lock for Upgrade<'_> {
    type Held<'a>
        = Grant
    where
        Self: 'a;
    type Fault = LeaseError;

    #[inline]
    fn acquire(&self) -> Result<Grant, LeaseError> {
        self.unit
            .member
            .try_upgrade(self.unit.line, &self.reads.get())
    }

    #[inline]
    fn release(&self, held: Grant) -> Result<(), LeaseError> {
        let reads = self.unit.member.downgrade(self.unit.line, &held, false)?;
        self.reads.set(reads);
        Ok(())
    }
}

/// One compare-exchange, and nothing to let go of. By two at a time it is a counter.
#[derive(Debug)]
pub(super) struct CompareExchange<'a> {
    word: &'a AtomicU64,
    seen: Cell<u64>,
}

impl<'a> CompareExchange<'a> {
    pub(super) fn new(word: &'a AtomicU64) -> Self {
        let seen = Cell::new(word.load(Relaxed));
        Self { word, seen }
    }
}

impl Lock for CompareExchange<'_> {
    type Held<'a>
        = ()
    where
        Self: 'a;
    type Fault = Infallible;

    #[inline]
    fn acquire(&self) -> Result<(), Infallible> {
        let mut seen = self.seen.get();
        loop {
            let after = seen.wrapping_add(1);
            match self.word.compare_exchange(seen, after, AcqRel, Relaxed) {
                Ok(_) => break self.seen.set(after),
                Err(now) => seen = now,
            }
        }
        Ok(())
    }

    #[inline]
    fn release(&self, (): ()) -> Result<(), Infallible> {
        Ok(())
    }
}

/// The least that a lease by one word can do, and nothing is judged: the word is looked at and
/// exchanged, two others of its line are looked at, and the word is exchanged back.
#[derive(Debug)]
pub(super) struct BareLease<'a>(pub(super) [&'a AtomicU64; 3]);

impl Lock for BareLease<'_> {
    /// What the word was, and what the others are.
    type Held<'a>
        = (u64, [u64; 2])
    where
        Self: 'a;
    type Fault = Infallible;

    #[inline]
    fn acquire(&self) -> Result<(u64, [u64; 2]), Infallible> {
        let [word, version, place] = self.0;
        let mut seen = word.load(Acquire);
        loop {
            match word.compare_exchange(seen, seen.wrapping_add(1), AcqRel, Acquire) {
                Ok(_) => return Ok((seen, [version.load(Acquire), place.load(Acquire)])),
                Err(now) => seen = now,
            }
        }
    }

    #[inline]
    fn release(&self, (before, _): (u64, [u64; 2])) -> Result<(), Infallible> {
        let [word, ..] = self.0;
        let mut seen = before.wrapping_add(1);
        while let Err(now) = word.compare_exchange(seen, seen.wrapping_sub(1), AcqRel, Acquire) {
            seen = now;
        }
        Ok(())
    }
}

impl Lock for RobustMutex<'_> {
    type Held<'a>
        = ()
    where
        Self: 'a;
    type Fault = Errno;

    #[inline]
    fn acquire(&self) -> Result<(), Errno> {
        self.lock()
    }

    #[inline]
    fn release(&self, (): ()) -> Result<(), Errno> {
        self.unlock()
    }
}

impl Lock for Mutex<()> {
    type Held<'a> = MutexGuard<'a, ()>;
    type Fault = Infallible;

    #[inline]
    fn acquire(&self) -> Result<MutexGuard<'_, ()>, Infallible> {
        Ok(self.lock())
    }

    #[inline]
    fn release<'a>(&'a self, held: MutexGuard<'a, ()>) -> Result<(), Infallible> {
        drop(held);
        Ok(())
    }
}

/// The peer's lock, for reading.
#[derive(Debug, Default)]
pub(super) struct Read(pub(super) RwLock<()>);

impl Lock for Read {
    type Held<'a> = RwLockReadGuard<'a, ()>;
    type Fault = Infallible;

    #[inline]
    fn acquire(&self) -> Result<RwLockReadGuard<'_, ()>, Infallible> {
        Ok(self.0.read())
    }

    #[inline]
    fn release<'a>(&'a self, held: RwLockReadGuard<'a, ()>) -> Result<(), Infallible> {
        drop(held);
        Ok(())
    }
}

/// The peer's lock, for writing.
#[derive(Debug, Default)]
pub(super) struct Write(RwLock<()>);

impl Lock for Write {
    type Held<'a> = RwLockWriteGuard<'a, ()>;
    type Fault = Infallible;

    #[inline]
    fn acquire(&self) -> Result<RwLockWriteGuard<'_, ()>, Infallible> {
        Ok(self.0.write())
    }

    #[inline]
    fn release<'a>(&'a self, held: RwLockWriteGuard<'a, ()>) -> Result<(), Infallible> {
        drop(held);
        Ok(())
    }
}

/// The peer's lock, held so that it may become one for writing, and becoming it.
pub(super) struct PeerUpgrade<'l>(Cell<Option<RwLockUpgradableReadGuard<'l, ()>>>);

impl<'l> PeerUpgrade<'l> {
    pub(super) fn of(lock: &'l RwLock<()>) -> Self {
        Self(Cell::new(Some(lock.upgradable_read())))
    }
}

impl<'l> Lock for PeerUpgrade<'l> {
    type Held<'a>
        = Option<RwLockWriteGuard<'l, ()>>
    where
        Self: 'a;
    type Fault = Infallible;

    #[inline]
    fn acquire(&self) -> Result<Option<RwLockWriteGuard<'l, ()>>, Infallible> {
        Ok(self.0.take().map(RwLockUpgradableReadGuard::upgrade))
    }

    #[inline]
    fn release(&self, held: Option<RwLockWriteGuard<'l, ()>>) -> Result<(), Infallible> {
        let reads = held.map(RwLockWriteGuard::downgrade_to_upgradable);
        self.0.set(reads);
        Ok(())
    }
}
