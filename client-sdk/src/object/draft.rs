//! An object that is being written.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use pool_core::crash_point;
use xxhash_rust::xxh3::Xxh3Default;

use super::header::{HEADER, Header};
use super::shared::Shared;
use super::{ObjectError, Objects, check_name, hash_of};
use crate::lease::LeaseError;
use crate::lease::view::{LeasedView, LeasedViewMut};
use crate::lease::write::WriteGuard;
use crate::view::Element;

/// An array that one process writes and nobody else sees. Dropped, it is gone.
pub struct Draft<'o, T> {
    objects: &'o Objects,
    guard: WriteGuard<'o>,
    unit: u32,
    count: usize,
    element: PhantomData<fn() -> T>,
}

/// A draft that could not be published, and why.
#[derive(thiserror::Error)]
#[error("{error}")]
pub struct Unpublished<'o, T> {
    /// Why.
    #[source]
    pub error: ObjectError,
    /// The draft as it was, to be published otherwise; nothing where it was taken away.
    pub draft: Option<Box<Draft<'o, T>>>,
}

impl<T> fmt::Debug for Unpublished<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unpublished({:?})", self.error)
    }
}

impl<T> From<Unpublished<'_, T>> for ObjectError {
    fn from(unpublished: Unpublished<'_, T>) -> Self {
        unpublished.error
    }
}

impl<'o, T: Element> Draft<'o, T> {
    pub(super) fn new(
        objects: &'o Objects,
        mut guard: WriteGuard<'o>,
        unit: u32,
        count: usize,
    ) -> Result<Self, LeaseError> {
        // Before anything of what was there is overwritten: nobody is to take it for that any more.
        Header::erase(&mut guard)?;
        Ok(Self {
            objects,
            guard,
            unit,
            count,
            element: PhantomData,
        })
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

    /// The elements, to be written.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub fn view_mut(&mut self) -> Result<LeasedViewMut<'_, T>, LeaseError> {
        self.guard.view_mut(HEADER, self.count)
    }

    /// Publishes the object under a name, with a checksum of its elements, which takes time in
    /// proportion to their number. Waits for others who publish as long as [`Objects::TIMEOUT`].
    ///
    /// # Errors
    /// As [`Draft::publish_within`].
    pub fn publish(self, name: &str) -> Result<Shared<'o, T>, Unpublished<'o, T>> {
        self.publish_within(name, Objects::TIMEOUT)
    }

    /// Publishes the object under a name, with a checksum, and waits at most `timeout` for others
    /// who publish at this moment. The checksum comes first, and its time is not counted.
    ///
    /// # Errors
    /// [`ObjectError::NameTaken`], [`ObjectError::BadName`], [`ObjectError::TimedOut`];
    /// [`ObjectError`].
    pub fn publish_within(
        self,
        name: &str,
        timeout: Duration,
    ) -> Result<Shared<'o, T>, Unpublished<'o, T>> {
        match self.view().and_then(|view| checksum(&view)) {
            Ok(sum) => self.publish_with(name, Some(sum), timeout),
            Err(error) => Err(Unpublished {
                error: error.into(),
                draft: Some(Box::new(self)),
            }),
        }
    }

    /// Publishes the object under a name, without a checksum: in the same time however large it is.
    ///
    /// # Errors
    /// As [`Draft::publish_within`].
    pub fn publish_unsummed(self, name: &str) -> Result<Shared<'o, T>, Unpublished<'o, T>> {
        self.publish_unsummed_within(name, Objects::TIMEOUT)
    }

    /// Publishes the object without a checksum, and waits at most `timeout` for others who publish
    /// at this moment.
    ///
    /// # Errors
    /// As [`Draft::publish_within`].
    pub fn publish_unsummed_within(
        self,
        name: &str,
        timeout: Duration,
    ) -> Result<Shared<'o, T>, Unpublished<'o, T>> {
        self.publish_with(name, None, timeout)
    }

    fn publish_with(
        mut self,
        name: &str,
        sum: Option<u64>,
        timeout: Duration,
    ) -> Result<Shared<'o, T>, Unpublished<'o, T>> {
        let header = Header::new(T::KIND, self.count, sum, name);
        let mut index = match self.prepare(&header, timeout) {
            Ok(index) => index,
            Err(error) => {
                let draft = Some(Box::new(self));
                return Err(Unpublished { error, draft });
            }
        };
        let Self {
            objects,
            guard,
            unit,
            ..
        } = self;
        let published = guard.downgrade().map_err(ObjectError::from);
        let listed = published.and_then(|guard| {
            crash_point!("object.published");
            let len = objects.index_len();
            let at = usize::try_from(unit).unwrap_or(usize::MAX);
            let mut entries = index.view_mut::<u64>(pool_core::Bytes::ZERO, len)?;
            entries.set(at, hash_of(name))?;
            crash_point!("object.listed");
            index.release()?;
            Ok(guard)
        });
        let shared = listed.and_then(|guard| Shared::new(objects, guard, &header, unit));
        shared.map_err(|error| Unpublished { error, draft: None })
    }

    /// Writes the header, and takes the index for writing, where the name is free.
    fn prepare(
        &mut self,
        header: &Header,
        timeout: Duration,
    ) -> Result<WriteGuard<'o>, ObjectError> {
        let name = header.name();
        check_name(name)?;
        header.write(&mut self.guard)?;
        let objects = self.objects;
        let index = objects.index()?.write(timeout);
        let index = index.map_err(|error| objects.index_refused(error))?;
        let entries = index.view::<u64>(pool_core::Bytes::ZERO, objects.index_len())?;
        let taken = objects.candidates(
            hash_of(name),
            |start, to| entries.read_into(start, to),
            |unit| Ok(objects.living(unit, name)?.is_some()),
        )?;
        if taken {
            let name = name.to_owned();
            return Err(ObjectError::NameTaken { name });
        }
        Ok(index)
    }
}

/// The checksum of the elements, in the order of their bytes.
pub(super) fn checksum<T: Element>(view: &LeasedView<'_, T>) -> Result<u64, LeaseError> {
    const BLOCK: usize = 1024;
    let (mut hasher, mut block) = (Xxh3Default::new(), [T::default(); BLOCK]);
    let mut bytes = [0; BLOCK * 8];
    for start in (0..view.len()).step_by(BLOCK) {
        let count = BLOCK.min(view.len() - start);
        view.read_into(start, &mut block[..count])?;
        for (element, to) in block[..count].iter().zip(bytes.chunks_mut(size_of::<T>())) {
            to.copy_from_slice(&element.to_memory()[..size_of::<T>()]);
        }
        hasher.update(&bytes[..count * size_of::<T>()]);
    }
    Ok(hasher.digest())
}

impl<T> fmt::Debug for Draft<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Draft({} elements in unit {})", self.count, self.unit)
    }
}
