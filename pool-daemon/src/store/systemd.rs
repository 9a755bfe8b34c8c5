//! The descriptor store of the service manager.
//!
//! systemd keeps descriptors for a service whose unit says `FileDescriptorStoreMax=`, and passes
//! them to its next start, by name. It says so in the environment: `NOTIFY_SOCKET` where to send
//! them, `FDSTORE` how many it takes. Older versions than 254 do not say that: the unit does, in
//! `TIERPOOL_FDSTORE`, which is asked only then.
//!
//! # Ordering
//! The manager answers nothing to a descriptor. Instead each put and remove is followed by a
//! barrier, one end of a pipe that the manager closes when it has come to it in the same queue:
//! only then is the descriptor called kept. Without that, a daemon that answers a client and is
//! killed right after would rest on the manager attributing a message to a process that is gone.
//!
//! The manager does not say either that it is full: it closes what is too much. So this side
//! counts.
//!
//! # Invariants
//! 1. The descriptors that the manager passed under our names are owned by what `recover` returned
//!    the first time, and by nothing else.

#![expect(
    unsafe_code,
    reason = "descriptors that come as numbers in the environment"
)]

use std::collections::BTreeSet;
use std::env;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use pool_core::clock::Deadline;
use pool_core::packet;
use pool_core::sync::atomic::{AtomicBool, Ordering};
use pool_core::{BackingId, Nanos};
use sd_notify::NotifyState;

use super::{DescriptorStore, StoreError, backing_of, name_of, put_each};
use crate::sys::{self, Failed};

/// How long the manager may take to come to a message.
const ANSWER: Nanos = Nanos::from_millis(10_000);

/// Whether the descriptors that the manager passed have an owner.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The manager's store, for this service.
#[derive(Debug)]
pub struct ServiceManager {
    kept: BTreeSet<BackingId>,
    limit: usize,
}

impl ServiceManager {
    /// The store, where a service manager has one for this process.
    #[must_use]
    pub fn from_environment() -> Option<Self> {
        env::var_os("NOTIFY_SOCKET")?;
        let limit = ["FDSTORE", "TIERPOOL_FDSTORE"].map(env::var);
        let limit = limit.into_iter().find_map(Result::ok)?.parse().ok()?;
        let kept = BTreeSet::new();
        (limit > 0).then_some(Self { kept, limit })
    }
}

impl DescriptorStore for ServiceManager {
    fn kind(&self) -> &'static str {
        "systemd"
    }

    fn recover(&mut self) -> Result<Vec<(BackingId, OwnedFd)>, StoreError> {
        if TAKEN.swap(true, Ordering::Relaxed) {
            return Err(StoreError::OutOfOrder);
        }
        let passed = sd_notify::listen_fds_with_names().map_err(|error| failed(&error))?;
        let ours = passed.filter_map(|(number, name)| Some((number, backing_of(&name)?)));
        let take = |(number, backing)| {
            // SAFETY: the environment gives this descriptor to this process, and `listen_fds` has
            // found it open; nobody has taken it before (invariant 1).
            (backing, unsafe { OwnedFd::from_raw_fd(number) })
        };
        let recovered: Vec<_> = ours.map(take).collect();
        self.kept = recovered.iter().map(|(backing, _)| *backing).collect();
        Ok(recovered)
    }

    fn put(&mut self, backing: BackingId, file: BorrowedFd<'_>) -> Result<(), StoreError> {
        let limit = self.limit;
        if self.kept.len() >= limit && !self.kept.contains(&backing) {
            return Err(StoreError::Full { limit });
        }
        let name = name_of(backing);
        let state = [
            NotifyState::FdStore,
            NotifyState::FdName(&name),
            // Memory is always ready: there is nothing to watch it for.
            NotifyState::Custom("FDPOLL=0"),
        ];
        sd_notify::notify_with_fds(&state, &[file]).map_err(|error| failed(&error))?;
        pass_barrier()?;
        self.kept.insert(backing);
        Ok(())
    }

    /// The manager is there as long as the machine is: what failed is sent again.
    fn refill(
        &mut self,
        files: &[(BackingId, BorrowedFd<'_>)],
    ) -> Result<Vec<BackingId>, StoreError> {
        let wanted: BTreeSet<_> = files.iter().map(|(backing, _)| *backing).collect();
        let stale: Vec<_> = self.kept.difference(&wanted).copied().collect();
        stale
            .into_iter()
            .try_for_each(|backing| self.remove(backing))?;
        let kept = self.kept.clone();
        let missing = files.iter().filter(|(backing, _)| !kept.contains(backing));
        put_each(missing, |backing, file| self.put(backing, file))
    }

    fn remove(&mut self, backing: BackingId) -> Result<(), StoreError> {
        let name = name_of(backing);
        let state = [NotifyState::FdStoreRemove, NotifyState::FdName(&name)];
        sd_notify::notify(&state).map_err(|error| failed(&error))?;
        pass_barrier()?;
        self.kept.remove(&backing);
        Ok(())
    }
}

/// Waits until the manager has come to everything sent before.
fn pass_barrier() -> Result<(), StoreError> {
    let (ours, theirs) = sys::pipe()?;
    let state = [NotifyState::Custom("BARRIER=1")];
    sd_notify::notify_with_fds(&state, &[theirs.as_fd()]).map_err(|error| failed(&error))?;
    drop(theirs);
    Ok(packet::wait_readable(
        ours.as_fd(),
        Deadline::after(ANSWER),
    )?)
}

fn failed(error: &io::Error) -> Failed {
    sys::failed("sd_notify", error)
}
