//! Objects: arrays that are written once by one process, then published under a name, and read by
//! any number of processes for as long as one of them holds them.
//!
//! # Layout
//! An object space is a domain. Its first units are the index, each of the others is room for one
//! object: a header (see [`header`]), then the elements.
//!
//! The index has 64 bits for each unit: the hash of the name of the object that was published there
//! last. It is a hint, and may be of an object that is gone: what counts is the lease of the unit
//! and the name in its header.
//!
//! # Protocol
//! An object lives exactly as long as somebody holds its unit for reading. So there is no count
//! beside the holders of the unit, nothing to be freed, and nothing that the death of a process
//! could leave behind: the daemon takes its leases back, and with the last one the object is gone.
//!
//! - *Draft*: a unit that is free, leased for writing. Nobody else can see it.
//! - *Publish*: under a lease of the index for writing, which lets one publish at a time: no living
//!   object has the name; the lease of the unit becomes one for reading, and nobody had it in
//!   between; the hash is written to the index.
//! - *Look up*: under a lease of the index for reading: the units whose hash fits. Then each of
//!   them is leased *beside* a holder, which fails where nobody holds it; and the name in the
//!   header is compared under that lease. What is found is held already, and cannot go away.
//! - A *weak* handle knows unit and epoch. A unit that was drafted anew has another epoch.
//!
//! # Waiting
//! Nothing but the index is ever waited for: a call that needs it takes a timeout, or has that of
//! [`Objects::TIMEOUT`]. A draft, a handle and a weak handle are had at once or not at all.
//!
//! The domain keeps contents on the death of a writer: a draft whose writer died is a free unit
//! with garbage, and an index that was half written is a list of hints.

use std::time::Duration;

use coherence::Slot;
use pool_core::limits::{NAME_BYTES_MAX, is_name};
use pool_core::mem::Access;
use pool_core::sync::atomic::AtomicU32;
use pool_core::sync::atomic::Ordering::Relaxed;
use pool_core::{Bytes, SegmentId, crash_point};
use xxhash_rust::xxh3::xxh3_64;

use crate::domain::{Domain, DomainOptions};
use crate::error::{AccessError, Error, ErrorClass, Holders};
use crate::info::OnDeath;
use crate::lease::{LeaseError, Units};
use crate::pool::{Create, Pool};
use crate::view::{Element, bytes_of};

pub(crate) mod draft;
mod header;
pub(crate) mod shared;

use draft::Draft;
use header::{HEADER, Header};
use shared::Shared;

/// Hashes read from the index at once.
const CHUNK: usize = 512;

/// An object could not be made, published or found. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// The segment is no object space: make one with [`Pool::create_objects`].
    #[error("{segment} is no object space")]
    NotObjects {
        /// Which segment.
        segment: SegmentId,
    },
    /// Every unit has an object or a draft. Drop some, or make a larger space.
    #[error("all {units} places for objects are taken")]
    Full {
        /// How many there are.
        units: u32,
    },
    /// The object does not fit a unit. Make a space of larger units.
    #[error("{asked} do not fit a unit, which has room for {room}")]
    TooLarge {
        /// Bytes of its elements.
        asked: Bytes,
        /// Bytes that fit.
        room: Bytes,
    },
    /// Give a name of 1 to 128 letters, digits and `-`, `_`, `.`, `/`.
    #[error("{name:?} cannot be the name of an object")]
    BadName {
        /// What was given, as far as it fits a name.
        name: String,
    },
    /// A living object has the name. Take another one, or wait until it is gone.
    #[error("an object named {name:?} is there")]
    NameTaken {
        /// Which name.
        name: String,
    },
    /// No living object has the name.
    #[error("no object is named {name:?}")]
    NotFound {
        /// Which name.
        name: String,
    },
    /// The object has elements of another type. Ask for that one.
    #[error("object {name:?} has elements of kind {found}, and {asked} was asked for")]
    WrongType {
        /// Which object.
        name: String,
        /// The kind of its elements, see [`Element::KIND`].
        found: u8,
        /// The kind that was asked for.
        asked: u8,
    },
    /// The elements are not those that were published: a member wrote to them without a lease.
    #[error("the contents of the object in unit {unit} are not those that were published")]
    Damaged {
        /// Which unit.
        unit: u32,
    },
    /// The object was published without a checksum, so nobody can say whether it is whole.
    #[error("the object in unit {unit} has no checksum")]
    Unsummed {
        /// Which unit.
        unit: u32,
    },
    /// Others published until the timeout had passed, and the index could not be had. Try again,
    /// with a longer timeout, or find out which of them does not let go.
    #[error(
        "the index of {segment} was held until the deadline, at last by {}", Holders(*holders)
    )]
    TimedOut {
        /// Of which space.
        segment: SegmentId,
        /// Who held it, as in [`LeaseError::Busy`].
        holders: u32,
    },
    /// A unit could not be leased, or is held no more.
    #[error(transparent)]
    Lease(#[from] LeaseError),
}

impl ObjectError {
    /// Whose fault it is, and so what to do next.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Full { .. } | Self::TimedOut { .. } => ErrorClass::Exhausted,
            Self::NotFound { .. } => ErrorClass::Lost,
            Self::Damaged { .. } => ErrorClass::Corrupt,
            Self::Lease(error) => error.class(),
            _ => ErrorClass::Caller,
        }
    }
}

/// An object space in the hands of a program.
///
/// Objects are arrays of numbers ([`Element`]). One is made as a [`Draft`], published under a name,
/// and from then on read as a [`Shared`], in this and every other process that has the space open.
/// It is gone when the last `Shared` of all processes is.
#[derive(Debug)]
pub struct Objects {
    domain: Domain,
    /// Where the next draft looks for room first.
    cursor: AtomicU32,
}

impl Pool {
    /// Creates a space for objects of at most `unit` bytes each, headers of 256 bytes included:
    /// `create` says where, how large, and under which name others open it. `unit` is a power of
    /// two of at least 4,096. Besides, the tenant is charged for the directory of the domain: 4 KiB
    /// and 64 bytes a unit, rounded up to whole extents of 2 MiB. So its quota has to have room for
    /// the size that `create` says and an extent, or more of them past 32,704 units.
    ///
    /// # Errors
    /// As [`Pool::create_domain`].
    pub fn create_objects(&self, create: &Create, unit: Bytes) -> Result<Objects, Error> {
        let options = DomainOptions::new()
            .unit_bytes(unit)
            .on_death(OnDeath::Keep);
        self.create_domain(create, &options).map(Objects::new)
    }

    /// Opens a space for objects. A process that opens it read-only can look up and read.
    ///
    /// # Errors
    /// As [`Pool::open_domain`].
    pub fn open_objects(&self, name: &str, access: Access) -> Result<Objects, Error> {
        self.open_domain(name, access).map(Objects::new)
    }
}

impl Objects {
    /// How long a call waits for the index that names no timeout of its own: 10 s. Others hold the
    /// index for as long as it takes them to look through it, which is microseconds; a publisher
    /// that died holds it until the daemon has taken note.
    pub const TIMEOUT: Duration = Duration::from_secs(10);

    fn new(domain: Domain) -> Self {
        // Members begin apart, so that they do not meet at the same units.
        let apart = domain.units() / u32::from(coherence::Slot::COUNT);
        let start = u32::from(domain.slot().index()).saturating_mul(apart);
        Self {
            domain,
            cursor: AtomicU32::new(start),
        }
    }

    /// The domain it is: for sharing it with another tenant, and for tools.
    #[must_use]
    pub const fn domain(&self) -> &Domain {
        &self.domain
    }

    /// How many objects there can be.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.domain.units().saturating_sub(self.index_units())
    }

    /// Bytes of elements that one object can have.
    #[must_use]
    pub fn object_bytes_max(&self) -> Bytes {
        let room = self.domain.unit_bytes().checked_sub(HEADER);
        room.unwrap_or(Bytes::ZERO)
    }

    /// Room for `count` elements that nobody else can see yet. What is in it is of no use: it may
    /// be of an object that was there before.
    ///
    /// # Errors
    /// [`ObjectError::TooLarge`], [`ObjectError::Full`]; [`ObjectError`].
    pub fn draft<T: Element>(&self, count: usize) -> Result<Draft<'_, T>, ObjectError> {
        let (asked, room) = (Bytes::new(bytes_of::<T>(count)), self.object_bytes_max());
        if asked > room {
            return Err(ObjectError::TooLarge { asked, room });
        }
        if self.domain.access() == Access::ReadOnly {
            return Err(LeaseError::from(AccessError::ReadOnly).into());
        }
        let (first, units) = (self.index_units(), self.capacity());
        // Relaxed: where it points is a matter of speed only.
        let start = self.cursor.fetch_add(1, Relaxed);
        let mut moving = None;
        for step in 0..units {
            let unit = first + start.wrapping_add(step) % units;
            let place = self.domain.unit(unit)?;
            let guard = match place.try_write() {
                // Held by the daemon alone, for a moment.
                Err(LeaseError::Busy { holders, .. }) if holders == Slot::DAEMON.bit() => {
                    let segment = self.domain.id();
                    moving = Some(LeaseError::Moving { unit, segment });
                    continue;
                }
                Err(LeaseError::Busy { .. }) => continue,
                // A draft that was given up by a thread that panicked.
                Err(LeaseError::Lost { .. }) => match place.restore() {
                    Err(LeaseError::NotLost { .. }) => continue,
                    restored => restored?,
                },
                taken => taken?,
            };
            crash_point!("object.drafted");
            return Ok(Draft::new(self, guard, unit, count)?);
        }
        Err(moving.map_or(ObjectError::Full { units }, ObjectError::from))
    }

    /// The living object of this name, held from now on. Waits for those who publish at this moment
    /// as long as [`Objects::TIMEOUT`], and not for an object that is not published yet.
    ///
    /// # Errors
    /// As [`Objects::get_within`].
    pub fn get<T: Element>(&self, name: &str) -> Result<Shared<'_, T>, ObjectError> {
        self.get_within(name, Self::TIMEOUT)
    }

    /// The living object of this name, held from now on. Waits at most `timeout` for those who
    /// publish at this moment, and not for an object that is not published yet; with none it looks
    /// now or not at all.
    ///
    /// # Errors
    /// [`ObjectError::NotFound`], [`ObjectError::WrongType`], [`ObjectError::TimedOut`];
    /// [`ObjectError`].
    pub fn get_within<T: Element>(
        &self,
        name: &str,
        timeout: Duration,
    ) -> Result<Shared<'_, T>, ObjectError> {
        check_name(name)?;
        let index = self.index()?.read(timeout);
        let index = index.map_err(|error| self.index_refused(error))?;
        let view = index.view::<u64>(Bytes::ZERO, self.index_len())?;
        let mut found = None;
        self.candidates(
            hash_of(name),
            |start, to| view.read_into(start, to),
            |unit| {
                found = self.living(unit, name)?;
                crash_point!("object.looked_up");
                Ok(found.is_some())
            },
        )?;
        drop(index);
        let (guard, header, unit) = found.ok_or_else(|| ObjectError::NotFound {
            name: name.to_owned(),
        })?;
        Shared::new(self, guard, &header, unit)
    }

    /// The units that the index is in.
    fn index(&self) -> Result<Units<'_>, LeaseError> {
        let bytes = u64::from(self.domain.units()).saturating_mul(8);
        self.domain.range(Bytes::ZERO, Bytes::new(bytes))
    }

    /// Why the index cannot be had.
    fn index_refused(&self, refused: LeaseError) -> ObjectError {
        match refused {
            LeaseError::TimedOut { holders, .. } => ObjectError::TimedOut {
                segment: self.domain.id(),
                holders,
            },
            error => error.into(),
        }
    }

    /// How many hashes it has.
    fn index_len(&self) -> usize {
        // At most 2^20.
        usize::try_from(self.domain.units()).unwrap_or(0)
    }

    fn index_units(&self) -> u32 {
        let bytes = u64::from(self.domain.units()).saturating_mul(8);
        let units = bytes.div_ceil(self.domain.unit_bytes().get());
        // No more than there are units, for one has 4,096 bytes at least.
        u32::try_from(units).unwrap_or(u32::MAX)
    }

    /// Asks `is_it` of each unit whose hash is `hash`, until one is.
    fn candidates(
        &self,
        hash: u64,
        mut read: impl FnMut(usize, &mut [u64]) -> Result<(), LeaseError>,
        mut is_it: impl FnMut(u32) -> Result<bool, ObjectError>,
    ) -> Result<bool, ObjectError> {
        let mut hashes = [0; CHUNK];
        for start in (0..self.index_len()).step_by(CHUNK) {
            let count = CHUNK.min(self.index_len() - start);
            read(start, &mut hashes[..count])?;
            for (found, unit) in hashes[..count].iter().zip(start..) {
                let unit = u32::try_from(unit).unwrap_or(u32::MAX);
                if *found == hash && unit >= self.index_units() && is_it(unit)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The object in `unit`, held, where it lives and has this name.
    fn living(
        &self,
        unit: u32,
        name: &str,
    ) -> Result<Option<(crate::ReadGuard<'_>, Header, u32)>, ObjectError> {
        let Some(guard) = self.domain.unit(unit)?.try_read_beside()? else {
            return Ok(None);
        };
        let header = Header::read(&guard, self.object_bytes_max())?;
        Ok(header
            .filter(|header| header.is_named(name))
            .map(|header| (guard, header, unit)))
    }
}

/// The hash of a name, as the index has it: never 0, which stands for none.
fn hash_of(name: &str) -> u64 {
    xxh3_64(name.as_bytes()).max(1)
}

fn check_name(name: &str) -> Result<(), ObjectError> {
    if is_name(name) {
        return Ok(());
    }
    let name = name.chars().take(NAME_BYTES_MAX).collect();
    Err(ObjectError::BadName { name })
}
