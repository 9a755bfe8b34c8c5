//! The daemon's descriptors: one master a backing, its duplicate in the descriptor store, and the
//! watch over what is in quarantine.
//!
//! # Invariants
//! 1. A master's file description is the daemon's and the store's alone: what is given away is
//!    opened anew. So the proof of release (see [`crate::device`]) speaks of everybody else.
//! 2. A descriptor is in the store before the journal knows its backing, and until the journal
//!    knows it no more: what a restarted daemon finds there and its journal does not name was never
//!    granted, or is proven gone. What a full store has no place for is put there as soon as it has
//!    one, and kept by the daemon and its clients alone until then.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pool_core::{BackingId, DeviceId, Nanos, clock, crash_point};
use pool_proto::common::v1::Access;

use crate::device::open_for;
use crate::device::proof::is_held_elsewhere;
use crate::engine::command::WorldError;
use crate::store::{DescriptorStore, StoreError};

/// The first and the longest time between two looks at a file in quarantine.
const LOOK_FIRST: Nanos = Nanos::from_millis(1);
const LOOK_LAST: Nanos = Nanos::from_millis(1_000);
/// The time between two tries to fill a store that fails.
const REFILL_PAUSE: Nanos = Nanos::from_millis(1_000);

#[derive(Debug)]
struct Master {
    file: OwnedFd,
    device: DeviceId,
}

/// When a file in quarantine is looked at next.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Nanos,
    pause: Nanos,
    since: Nanos,
}

/// Every descriptor of a backing that the daemon has.
#[derive(Debug)]
pub(super) struct Files {
    masters: BTreeMap<BackingId, Master>,
    quarantined: BTreeMap<BackingId, Look>,
    store: Box<dyn DescriptorStore>,
    /// What the store, which was full, does not have.
    left_out: BTreeSet<BackingId>,
    /// Set while the store has failed: when it is filled anew.
    refill_at: Option<Nanos>,
    /// It was filled anew since it worked, and failed again: from then on after a pause.
    has_failed_again: bool,
}

impl Files {
    pub(super) fn new(store: Box<dyn DescriptorStore>) -> Self {
        Self {
            masters: BTreeMap::new(),
            quarantined: BTreeMap::new(),
            store,
            left_out: BTreeSet::new(),
            refill_at: None,
            has_failed_again: false,
        }
    }

    pub(super) fn store_kind(&self) -> &'static str {
        self.store.kind()
    }

    pub(super) fn store_mut(&mut self) -> &mut dyn DescriptorStore {
        &mut *self.store
    }

    /// Takes a file over that the store does not have yet.
    ///
    /// A store that fails costs nothing but what it is for: until it is filled anew, the file is
    /// kept by the daemon and its clients alone. Who needs more asks [`Files::is_kept`].
    pub(super) fn add(&mut self, backing: BackingId, device: DeviceId, file: OwnedFd) {
        crash_point!("store.before-put");
        let put = self.store.put(backing, file.as_fd());
        crash_point!("store.after-put");
        self.take_over(backing, device, file);
        self.refill_after(put, backing);
    }

    /// Whether the store has the file for certain: it works, has a place for it, and has answered.
    pub(super) fn is_kept(&mut self, backing: BackingId) -> bool {
        if self.refill_at.is_none() {
            let settled = self.store.settle();
            self.refill_after(settled, backing);
        }
        self.refill_at.is_none() && !self.left_out.contains(&backing)
    }

    fn refill_after(&mut self, outcome: Result<(), StoreError>, backing: BackingId) {
        match outcome {
            Ok(()) => {}
            Err(full @ StoreError::Full { .. }) => {
                if self.left_out.is_empty() {
                    tracing::warn!(%full, "what is granted now is kept by its clients alone");
                }
                self.left_out.insert(backing);
            }
            Err(error) => {
                tracing::error!(%backing, %error, "the descriptor store failed: it is filled anew");
                self.refill_at.get_or_insert(clock::now());
            }
        }
    }

    /// Puts into a place that has become free what the store had no place for.
    fn put_left_out(&mut self) {
        let waits = |id: &&BackingId| self.masters.contains_key(id);
        let Some(backing) = self.left_out.iter().find(waits).copied() else {
            return;
        };
        let Some(file) = self.masters.get(&backing) else {
            return;
        };
        let put = self.store.put(backing, file.file.as_fd());
        self.left_out.remove(&backing);
        self.refill_after(put, backing);
    }

    /// The connection to the store, to be polled for its end.
    pub(super) fn store_connection(&self) -> Option<BorrowedFd<'_>> {
        self.store.connection()
    }

    /// The store is gone, with all it kept.
    pub(super) fn store_is_gone(&mut self, now: Nanos) {
        tracing::error!("the descriptor store is gone: it is filled anew");
        self.refill_at = Some(now);
    }

    /// When the store is to be filled anew.
    pub(super) fn refill_at(&self) -> Option<Nanos> {
        self.refill_at
    }

    /// Fills a store that failed with what there is.
    pub(super) fn refill(&mut self, now: Nanos) {
        let files: Vec<_> = self
            .masters
            .iter()
            .map(|(&id, master)| (id, master.file.as_fd()))
            .collect();
        self.refill_at = match self.store.refill(&files) {
            Ok(left_out) => {
                self.left_out = left_out.into_iter().collect();
                self.has_failed_again = false;
                None
            }
            Err(error) => {
                tracing::error!(%error, files = files.len(), "descriptors would not survive the \
                 daemon alone");
                let is_first = !std::mem::replace(&mut self.has_failed_again, true);
                let pause = if is_first { Nanos::ZERO } else { REFILL_PAUSE };
                Some(now.saturating_add(pause))
            }
        };
    }

    /// Takes a file over that came from the store, or needs none.
    pub(super) fn take_over(&mut self, backing: BackingId, device: DeviceId, file: OwnedFd) {
        self.masters.insert(backing, Master { file, device });
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = BackingId> {
        self.masters.keys().copied()
    }

    pub(super) fn master(&self, backing: BackingId) -> Option<BorrowedFd<'_>> {
        self.masters.get(&backing).map(|master| master.file.as_fd())
    }

    /// A descriptor to be given away.
    pub(super) fn open_for(
        &self,
        backing: BackingId,
        access: Access,
    ) -> Result<OwnedFd, WorldError> {
        let master = self.master(backing).ok_or(WorldError::Os {
            call: "open",
            errno: libc::ENOENT,
        })?;
        open_for(master, access)
    }

    /// Looks at a file from now on until nothing of it is left elsewhere.
    pub(super) fn watch(&mut self, backing: BackingId, now: Nanos) {
        let look = Look {
            at: now,
            pause: LOOK_FIRST,
            since: now,
        };
        self.quarantined.entry(backing).or_insert(look);
    }

    /// Somebody has let go of something: looks at everything again at once.
    pub(super) fn look_at_all(&mut self, now: Nanos) {
        for look in self.quarantined.values_mut() {
            (look.at, look.pause) = (now, LOOK_FIRST);
        }
    }

    pub(super) fn next_look(&self) -> Option<Nanos> {
        self.quarantined.values().map(|look| look.at).min()
    }

    /// When the file entered quarantine that has been there longest.
    pub(super) fn oldest_quarantine(&self) -> Option<Nanos> {
        self.quarantined.values().map(|look| look.since).min()
    }

    /// Takes out the files that are proven to be nobody else's any more.
    pub(super) fn proven(&mut self, now: Nanos) -> Vec<(BackingId, DeviceId, OwnedFd)> {
        let due: Vec<_> = self
            .quarantined
            .iter()
            .filter(|(_, look)| look.at <= now)
            .map(|(&id, _)| id)
            .collect();
        due.into_iter()
            .filter_map(|id| self.prove(id, now))
            .collect()
    }

    fn prove(&mut self, id: BackingId, now: Nanos) -> Option<(BackingId, DeviceId, OwnedFd)> {
        let held = match self.master(id).map(is_held_elsewhere) {
            Some(Ok(held)) => held,
            Some(Err(error)) => {
                tracing::error!(backing = %id, %error, "a file in quarantine cannot be looked at");
                true
            }
            None => {
                // Taken out by `discard` meanwhile.
                self.quarantined.remove(&id);
                return None;
            }
        };
        if held {
            let look = self.quarantined.get_mut(&id)?;
            look.pause = Nanos::new(look.pause.get().saturating_mul(2)).min(LOOK_LAST);
            look.at = now.saturating_add(look.pause);
            return None;
        }
        self.quarantined.remove(&id);
        let (device, file) = self.discard(id)?;
        Some((id, device, file))
    }

    /// Takes a file out that is to be destroyed.
    pub(super) fn discard(&mut self, id: BackingId) -> Option<(DeviceId, OwnedFd)> {
        self.quarantined.remove(&id);
        self.masters
            .remove(&id)
            .map(|master| (master.device, master.file))
    }

    /// Puts a file back that could not be destroyed; it is tried again.
    pub(super) fn restore(&mut self, id: BackingId, device: DeviceId, file: OwnedFd, now: Nanos) {
        self.take_over(id, device, file);
        let look = Look {
            at: now.saturating_add(LOOK_LAST),
            pause: LOOK_LAST,
            since: now,
        };
        self.quarantined.insert(id, look);
    }

    /// Nothing of the file is left: the store lets go of it too. Where it fails, a restarted daemon
    /// finds the file there, does not know it, and closes it.
    pub(super) fn forget(&mut self, id: BackingId) {
        if self.left_out.remove(&id) {
            return;
        }
        let removed = self.store.remove(id);
        let has_place = removed.is_ok();
        self.refill_after(removed, id);
        if has_place {
            self.put_left_out();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use pool_core::sync::{Arc, Mutex, lock};

    use super::*;

    /// What a store of two places has, and how often it was asked to put something.
    #[derive(Debug, Default)]
    struct Kept {
        ids: BTreeSet<BackingId>,
        puts: usize,
    }

    #[derive(Debug, Default, Clone)]
    struct TwoPlaces(Arc<Mutex<Kept>>);

    impl DescriptorStore for TwoPlaces {
        fn kind(&self) -> &'static str {
            "two places"
        }

        fn recover(&mut self) -> Result<Vec<(BackingId, OwnedFd)>, StoreError> {
            Ok(Vec::new())
        }

        fn put(&mut self, backing: BackingId, _file: BorrowedFd<'_>) -> Result<(), StoreError> {
            let mut kept = lock(&self.0);
            kept.puts += 1;
            if kept.ids.len() == 2 {
                return Err(StoreError::Full { limit: 2 });
            }
            kept.ids.insert(backing);
            Ok(())
        }

        fn refill(
            &mut self,
            _files: &[(BackingId, BorrowedFd<'_>)],
        ) -> Result<Vec<BackingId>, StoreError> {
            unreachable!("a full store is not filled anew")
        }

        fn remove(&mut self, backing: BackingId) -> Result<(), StoreError> {
            lock(&self.0).ids.remove(&backing);
            Ok(())
        }
    }

    #[test]
    fn a_full_store_has_not_failed_and_takes_the_rest_as_places_become_free() {
        let store = TwoPlaces::default();
        let mut files = Files::new(Box::new(store.clone()));
        let ids = [1, 2, 3, 4].map(|number| BackingId::new(number).unwrap());
        for id in ids {
            files.add(id, DeviceId::FIRST, File::open("/dev/null").unwrap().into());
        }
        let kept = || lock(&store.0).ids.iter().copied().collect::<Vec<_>>();
        assert_eq!((kept(), files.refill_at()), (ids[..2].to_vec(), None));
        assert_eq!(ids.map(|id| files.is_kept(id)), [true, true, false, false]);
        // One that never was in the store leaves no place, one that was does.
        files.discard(ids[2]);
        files.forget(ids[2]);
        assert_eq!(kept(), ids[..2]);
        files.discard(ids[0]);
        files.forget(ids[0]);
        assert_eq!(kept(), [ids[1], ids[3]]);
        assert_eq!(lock(&store.0).puts, 5);
        assert_eq!(files.refill_at(), None);
    }
}
