//! Robust words: the first notice of a client's death.
//!
//! Each client gets a page of its own and registers a robust futex in it; when its thread ends,
//! however it ends, the kernel marks the word and wakes a waiter, before the address space is torn
//! down: for a process with many pages that is tens of milliseconds before its sockets and its
//! pidfd tell. One thread here waits for all words together.
//!
//! The word lies in memory that the client writes. A client that lies about it only says of itself
//! that it is dead: it is taken at its word, and its memory still waits for proof. One that keeps
//! changing its word is no longer looked at; nor are clients beyond what one thread can wait for.
//! For them the socket and the pidfd tell.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sys::eventfd::EventFd;
use nix::sys::memfd::MFdFlags;
use pool_core::clock::Deadline;
use pool_core::futex::{self, OWNER_DIED, WAIT_ANY_MAX, WaitedAny};
use pool_core::limits::LIVENESS_PAGE_BYTES;
use pool_core::mem::{Access, FileMap};
use pool_core::sync::atomic::{AtomicU32, Ordering};
use pool_core::sync::{Arc, Mutex, lock, thread};
use pool_core::{Bytes, ClientId};

use super::ReactorError;
use crate::device::identity::SEALS;
use crate::sys;

/// Times a word may change before it is no longer looked at: an honest one does once or twice.
const CHANGES_MAX: u32 = 16;

#[derive(Debug, Default)]
struct State {
    pages: BTreeMap<ClientId, Arc<FileMap>>,
    dead: Vec<ClientId>,
    ending: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Changed and woken whenever the thread is to look at the state anew.
    round: AtomicU32,
    /// Readable while there are dead clients to be collected.
    event: EventFd,
}

/// The thread that waits. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Liveness {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Liveness {
    pub(super) fn new() -> Result<Self, ReactorError> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            round: AtomicU32::new(0),
            event: sys::event()?,
        });
        let watcher = Arc::clone(&shared);
        let spawned = thread::Builder::new()
            .name("liveness".to_owned())
            .spawn(move || watcher.watch());
        let thread = Some(spawned.map_err(|error| sys::failed("clone", &error))?);
        Ok(Self { shared, thread })
    }

    pub(super) fn event_fd(&self) -> BorrowedFd<'_> {
        self.shared.event.as_fd()
    }

    /// A page for a client, watched from now on, and the descriptor the client gets of it.
    pub(super) fn page_for(&self, client: ClientId) -> Result<OwnedFd, ReactorError> {
        let file = sys::memfd(
            "tierpool-liveness",
            MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING,
        )?;
        sys::make_private(file.as_fd())?;
        sys::set_length(file.as_fd(), LIVENESS_PAGE_BYTES)?;
        sys::add_seals(file.as_fd(), SEALS)?;
        let map = FileMap::new(
            file.as_fd(),
            Bytes::ZERO,
            Bytes::new(LIVENESS_PAGE_BYTES),
            Access::ReadWrite,
        )?;
        let theirs = sys::reopen(file.as_fd(), OFlag::O_RDWR)?;
        lock(&self.shared.state).pages.insert(client, Arc::new(map));
        self.shared.look_again();
        Ok(theirs)
    }

    pub(super) fn forget(&self, client: ClientId) {
        if lock(&self.shared.state).pages.remove(&client).is_some() {
            self.shared.look_again();
        }
    }

    /// The clients whose words say that they are dead, each told once.
    pub(super) fn dead(&self) -> Vec<ClientId> {
        sys::take_event(&self.shared.event);
        std::mem::take(&mut lock(&self.shared.state).dead)
    }
}

impl Drop for Liveness {
    fn drop(&mut self) {
        lock(&self.shared.state).ending = true;
        self.shared.look_again();
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the liveness thread panicked");
        }
    }
}

impl Shared {
    fn look_again(&self) {
        // Release pairs with the acquire in `watch`: what was changed before is seen in the next
        // round.
        self.round.fetch_add(1, Ordering::Release);
        if let Err(error) = futex::wake(&self.round, 1) {
            tracing::error!(%error, "the liveness thread cannot be woken");
        }
    }

    fn watch(&self) {
        let mut seen = Seen::new();
        loop {
            let round = self.round.load(Ordering::Acquire);
            let pages: Vec<_> = {
                let state = lock(&self.state);
                if state.ending {
                    return;
                }
                // One place is left for `round`.
                state
                    .pages
                    .iter()
                    .take(WAIT_ANY_MAX - 1)
                    .map(|(&id, page)| (id, Arc::clone(page)))
                    .collect()
            };
            seen.retain(|client, _| pages.iter().any(|(id, _)| id == client));
            self.look(&pages, &mut seen);
            match self.wait_for_change(round, &pages, &seen) {
                // A wake-up that changed nothing counts as a change: nobody makes this thread spin.
                Ok(Some(client)) => {
                    if let Some((_, changes)) = seen.get_mut(&client) {
                        *changes += 1;
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    // Without it the sockets and the pidfds tell.
                    tracing::error!(%error, "robust words are not watched any more");
                    return;
                }
            }
        }
    }

    /// Notes what each word is, and takes out those that say death or change too often.
    fn look(&self, pages: &[(ClientId, Arc<FileMap>)], seen: &mut Seen) {
        for (client, page) in pages {
            let Some(now) = word(page).map(|word| word.load(Ordering::Acquire)) else {
                continue;
            };
            let (last, changes) = seen.entry(*client).or_insert((now, 0));
            if *last != now {
                (*last, *changes) = (now, *changes + 1);
            }
            let died = now & OWNER_DIED != 0;
            if died || *changes > CHANGES_MAX {
                let mut state = lock(&self.state);
                if state.pages.remove(client).is_some() && died {
                    state.dead.push(*client);
                    sys::raise_event(&self.event);
                }
                // The next round waits without it.
                self.round.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until a word is another one than it was seen, or the set of words changes; tells whose
    /// word somebody woke.
    fn wait_for_change(
        &self,
        round: u32,
        pages: &[(ClientId, Arc<FileMap>)],
        seen: &Seen,
    ) -> Result<Option<ClientId>, futex::FutexError> {
        let words = pages
            .iter()
            .filter_map(|(client, page)| Some((*client, word(page)?, seen.get(client)?.0)));
        let (clients, words): (Vec<_>, Vec<_>) = words
            .map(|(client, word, seen)| (client, (word, seen)))
            .unzip();
        let words: Vec<_> = std::iter::once((&self.round, round)).chain(words).collect();
        match futex::wait_any(&words, Deadline::NEVER)? {
            WaitedAny::Woken { index } => Ok(index
                .checked_sub(1)
                .and_then(|index| clients.get(index))
                .copied()),
            WaitedAny::Changed | WaitedAny::TimedOut => Ok(None),
        }
    }
}

/// What each word was last, and how often it has changed.
type Seen = BTreeMap<ClientId, (u32, u32)>;

fn word(map: &FileMap) -> Option<&AtomicU32> {
    // The page is mapped read-write and longer than a word: it is always there.
    map.mapped().atomic_u32(Bytes::ZERO).ok()
}
