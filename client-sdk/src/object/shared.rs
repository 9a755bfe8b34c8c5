//! An object that was published.

use std::fmt;
use std::marker::PhantomData;

use coherence::Epoch;
use pool_core::Bytes;

use super::draft::checksum;
use super::header::{HEADER, Header};
use super::{ObjectError, Objects};
use crate::lease::LeaseError;
use crate::lease::read::ReadGuard;
use crate::lease::view::LeasedView;
use crate::view::{Element, bytes_of};

/// A published array, held: it stays what it is, where it is, for as long as this lives. The object
/// is gone when the last of these is, in all processes.
///
/// No lease lets anybody write it. Members that hold the space read-write trust each other to ask
/// for one; [`Shared::verify`] finds out.
pub struct Shared<'o, T> {
    objects: &'o Objects,
    guard: ReadGuard<'o>,
    unit: u32,
    count: usize,
    name: Box<str>,
    sum: Option<u64>,
    element: PhantomData<fn() -> T>,
}

impl<'o, T: Element> Shared<'o, T> {
    pub(super) fn new(
        objects: &'o Objects,
        guard: ReadGuard<'o>,
        header: &Header,
        unit: u32,
    ) -> Result<Self, ObjectError> {
        let name = header.name();
        if header.kind != T::KIND {
            return Err(ObjectError::WrongType {
                name: name.to_owned(),
                found: header.kind,
                asked: T::KIND,
            });
        }
        // Whoever takes the address takes the length as well.
        if Bytes::new(bytes_of::<T>(header.count)) > objects.object_bytes_max() {
            return Err(ObjectError::Damaged { unit });
        }
        Ok(Self {
            objects,
            guard,
            unit,
            count: header.count,
            name: name.into(),
            sum: header.sum,
            element: PhantomData,
        })
    }

    /// The name it was published under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many elements there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The elements.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub fn view(&self) -> Result<LeasedView<'_, T>, LeaseError> {
        self.guard.view(HEADER, self.count)
    }

    /// The address of the first element, for code that takes one: `None` in a domain of simulated
    /// caches. It stays readable while this lives; see [`ReadGuard::as_ptr`].
    #[must_use]
    pub fn as_ptr(&self) -> Option<*const T> {
        let start = self.guard.as_ptr()?;
        // A unit is larger than its header.
        let header = HEADER.to_usize()?;
        Some(start.wrapping_add(header).cast())
    }

    /// Whether the elements are those that were published. Reads all of them.
    ///
    /// # Errors
    /// [`ObjectError::Damaged`], [`ObjectError::Unsummed`]; [`ObjectError::Lease`].
    pub fn verify(&self) -> Result<(), ObjectError> {
        let unit = self.unit;
        let sum = self.sum.ok_or(ObjectError::Unsummed { unit })?;
        if checksum(&self.view()?)? == sum {
            Ok(())
        } else {
            Err(ObjectError::Damaged { unit })
        }
    }

    /// Holds the object once more.
    ///
    /// # Errors
    /// [`ObjectError::Lease`] where it was taken away from this process.
    pub fn try_clone(&self) -> Result<Self, ObjectError> {
        let weak = self.downgrade();
        let again = weak.upgrade()?;
        let unit = self.unit;
        again.ok_or(LeaseError::Revoked { unit }.into())
    }

    /// Knows the object without holding it.
    #[must_use]
    pub fn downgrade(&self) -> WeakShared<'o, T> {
        WeakShared {
            objects: self.objects,
            unit: self.unit,
            epoch: self.guard.epoch(),
            element: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Shared<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({:?}, {} elements)", self.name, self.count)
    }
}

/// Knows an object, and does not keep it alive.
pub struct WeakShared<'o, T> {
    objects: &'o Objects,
    unit: u32,
    epoch: Epoch,
    element: PhantomData<fn() -> T>,
}

impl<'o, T: Element> WeakShared<'o, T> {
    /// Holds the object, where it lives still; nothing where it is gone.
    ///
    /// # Errors
    /// [`ObjectError::Lease`].
    pub fn upgrade(&self) -> Result<Option<Shared<'o, T>>, ObjectError> {
        let Some(guard) = self.objects.domain.unit(self.unit)?.try_read_beside()? else {
            return Ok(None);
        };
        if guard.epoch() != self.epoch {
            return Ok(None);
        }
        let header = Header::read(&guard, self.objects.object_bytes_max())?;
        let damaged = ObjectError::Damaged { unit: self.unit };
        let header = header.ok_or(damaged)?;
        Shared::new(self.objects, guard, &header, self.unit).map(Some)
    }
}

impl<T> Clone for WeakShared<'_, T> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<T> fmt::Debug for WeakShared<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WeakShared(unit {})", self.unit)
    }
}
