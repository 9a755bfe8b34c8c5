//! Which segments this process holds, and what the daemon is still to be told about them.
//!
//! # Invariants
//! 1. A segment has at most one [`Held`] in the table, and it is in the table for as long as a
//!    [`HeldRef`] names it.
//! 2. The last [`HeldRef`] of a segment removes it, unmaps it, closes its descriptors and queues
//!    its close under one lock. So whoever sends the queue before a request never lets the daemon
//!    hear of a close before it has happened, nor the request before the close.
//! 3. A close that is still queued when the segment is granted again was overtaken by that grant,
//!    and is forgotten.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Deref;
use std::sync::Weak;

use pool_core::clock::{Backoff, Deadline};
use pool_core::limits::CLIENT_SEGMENTS_MAX;
use pool_core::mem::MapError;
use pool_core::sync::atomic::Ordering;
use pool_core::sync::{Arc, lock};
use pool_core::{Incarnation, Nanos, SegmentId};
use pool_proto::session::v1::{self as session, request};

use crate::error::Error;
use crate::event::Event;
use crate::held::{Fate, Held};
use crate::info::SegmentInfo;
use crate::shared::Shared;
use crate::wire::Grant;

/// What the daemon is to be told, which nobody waits for the answer of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    /// A segment is held no more: it is unmapped, and its descriptors are closed.
    Close(SegmentId),
    /// One was created for nobody.
    Free(SegmentId),
    /// A unit that was leased by a request is let go.
    Unit(SegmentId, u32),
    /// Somebody else does not let go of a unit that this process waits for.
    Recall(SegmentId, u32),
}

impl Errand {
    pub(crate) fn request(self) -> request::Body {
        match self {
            Self::Close(id) => request::Body::Close(session::Close {
                segment_id: id.number(),
            }),
            Self::Free(id) => request::Body::Free(session::Free {
                segment_id: id.number(),
                force: true,
            }),
            Self::Unit(id, unit) => request::Body::Release(session::Release {
                segment_id: id.number(),
                unit,
            }),
            Self::Recall(id, unit) => request::Body::Recall(session::Recall {
                segment_id: id.number(),
                unit,
            }),
        }
    }
}

/// What an event says of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    Lost,
    /// The grant of this incarnation has ended, or, where none is named, whatever is held.
    Revoked(Option<Incarnation>),
    Changed,
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    held: BTreeMap<SegmentId, Weak<Held>>,
    pub(crate) errands: VecDeque<Errand>,
    /// To be refreshed.
    pub(crate) stale: BTreeSet<SegmentId>,
    /// News of segments that are not in the table: an event can overtake the grant it is about.
    /// Ids are never used again, so what is about a segment of before does no harm.
    early: BTreeMap<SegmentId, News>,
}

impl Table {
    pub(crate) fn queue(&mut self, errand: Errand) {
        self.errands.push_back(errand);
    }

    /// Queues a close, unless it is queued.
    fn close_once(&mut self, id: SegmentId) {
        self.queue_once(Errand::Close(id));
    }

    /// Queues what is told once however often it is queued.
    pub(crate) fn queue_once(&mut self, errand: Errand) {
        if !self.errands.contains(&errand) {
            self.queue(errand);
        }
    }

    /// Forgets a close that a grant has overtaken (invariant 3).
    pub(crate) fn forget_close(&mut self, id: SegmentId) {
        self.errands.retain(|queued| *queued != Errand::Close(id));
    }

    fn keep_early(&mut self, id: SegmentId, news: News) {
        self.early.insert(id, news);
        if self.early.len() > CLIENT_SEGMENTS_MAX {
            self.early.pop_first();
        }
    }
}

/// One reason why this process holds a segment.
#[derive(Debug)]
pub(crate) struct HeldRef {
    shared: Arc<Shared>,
    /// `None` only while it is dropped.
    held: Option<Arc<Held>>,
    /// It is a handle of the program's, and counted as one.
    handle: bool,
}

impl Deref for HeldRef {
    type Target = Held;

    fn deref(&self) -> &Held {
        self.held.as_ref().expect("it is taken by `drop` alone")
    }
}

impl HeldRef {
    /// Counts it as a handle of the program's. The caller holds the session.
    fn into_handle(mut self) -> Self {
        self.handle = true;
        self.handles.fetch_add(1, Ordering::Relaxed);
        self
    }

    /// One more reason to hold it, which is no handle.
    pub(crate) fn again(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            held: self.held.clone(),
            handle: false,
        }
    }

    /// How many other handles there are. No more will come while the caller holds the session.
    pub(crate) fn others(&self) -> usize {
        // Acquire pairs with the release of `uncount`: a handle that is gone writes no more.
        let handles = self.handles.load(Ordering::Acquire);
        handles.saturating_sub(usize::from(self.handle))
    }

    fn uncount(&mut self) {
        if std::mem::take(&mut self.handle) {
            self.handles.fetch_sub(1, Ordering::Release);
        }
    }

    /// What is held, for what must not keep it.
    pub(crate) fn downgrade(&self) -> Weak<Held> {
        self.held.as_ref().map(Arc::downgrade).unwrap_or_default()
    }

    /// Does `act` with what is held, which nobody else has then: others have it for a moment at
    /// most, to look at it. The caller holds the session, and there are no other handles.
    ///
    /// # Errors
    /// [`Error::HeldHere`] where it is had by somebody until the deadline; [`Error::Map`] where it
    /// was taken away meanwhile and that failed.
    pub(crate) fn alone<R>(
        &mut self,
        deadline: Deadline,
        act: impl FnOnce(&mut Held) -> R,
    ) -> Result<R, Error> {
        let segment = self.id();
        let mut backoff = Backoff::new(Nanos::new(1_000), Nanos::from_millis(1));
        let mut held = self.held.take();
        let outcome = loop {
            match held.map(Arc::try_unwrap) {
                Some(Ok(mut alone)) => {
                    let outcome = act(&mut alone);
                    held = Some(Arc::new(alone));
                    break Ok(outcome);
                }
                Some(Err(shared)) => held = Some(shared),
                None => held = None,
            }
            if held.is_none() || !backoff.pause(deadline) {
                let others = 1;
                break Err(Error::HeldHere { segment, others });
            }
        };
        self.held = held;
        self.shared.clone().enter(self)?;
        outcome
    }

    /// Lets go without telling the daemon, which is told something else. False where others hold
    /// the segment still.
    pub(crate) fn let_go(mut self) -> bool {
        self.uncount();
        self.shared.clone().remove(self.held.take(), None)
    }
}

impl Drop for HeldRef {
    fn drop(&mut self) {
        if self.held.is_some() {
            self.uncount();
        }
        let held = self.held.take();
        // A segment that ended was released when it did.
        let close = held.as_ref().filter(|held| held.fate() == Fate::Live);
        let close = close.map(|held| Errand::Close(held.id()));
        self.shared.remove(held, close);
    }
}

impl Shared {
    /// Lets go of one reference, and releases the segment with the last one.
    fn remove(&self, held: Option<Arc<Held>>, close: Option<Errand>) -> bool {
        let Some(held) = held else {
            return false;
        };
        if self.check_owner().is_err() {
            return false; // A forked child has copies, of which nobody knows.
        }
        let mut table = lock(&self.table);
        let id = held.id();
        let Some(held) = Arc::into_inner(held) else {
            return false;
        };
        table.held.remove(&id);
        table.stale.remove(&id);
        drop(held);
        table.errands.extend(close);
        drop(table);
        if close.is_some() {
            self.wake();
        }
        true
    }

    /// Queues something to be told to the daemon.
    pub(crate) fn queue(&self, errand: Errand) {
        lock(&self.table).queue(errand);
        self.wake();
    }

    /// Has the daemon told that this process waits for a unit, unless that is to be told already.
    pub(crate) fn recall(&self, id: SegmentId, unit: u32) {
        lock(&self.table).queue_once(Errand::Recall(id, unit));
        self.wake();
    }

    /// The segment, where this process holds it.
    pub(crate) fn find(self: &Arc<Self>, id: SegmentId) -> Option<HeldRef> {
        let table = lock(&self.table);
        let held = table.held.get(&id)?.upgrade()?;
        Some(HeldRef {
            shared: Arc::clone(self),
            held: Some(held),
            handle: false,
        })
    }

    /// Whether what `name` names, if it is held, may be opened read-write. A domain of which this
    /// process leases units by requests may not: its threads would no longer know of each other's
    /// leases. The caller holds the session.
    pub(crate) fn check_may_widen(self: &Arc<Self>, name: &str) -> Result<(), Error> {
        for held in self.holdings() {
            let by_requests = held.membership().filter(|its| its.requests.is_some());
            if by_requests.is_none() || held.fate() != Fate::Live {
                continue;
            }
            let is_named = |info: &SegmentInfo| {
                let named_in = name.split_once(':').unwrap_or((&self.tenant, name));
                named_in == (&info.tenant, &info.name)
            };
            if held.peek(|detail| is_named(&detail.info)) == Some(true) {
                return Err(Error::HeldHere {
                    segment: held.id(),
                    others: held.others(),
                });
            }
        }
        Ok(())
    }

    /// Every segment this process holds.
    pub(crate) fn holdings(self: &Arc<Self>) -> Vec<HeldRef> {
        let table = lock(&self.table);
        let held = table.held.values().filter_map(Weak::upgrade);
        held.map(|held| HeldRef {
            shared: Arc::clone(self),
            held: Some(held),
            handle: false,
        })
        .collect()
    }

    /// Takes over what was granted: maps it, or brings what is mapped up to date. The caller holds
    /// the session, so grants are taken over in the order in which they were made.
    ///
    /// # Errors
    /// Where it could not be mapped it is queued to be let go as `unwanted` says.
    pub(crate) fn hold(self: &Arc<Self>, grant: Grant, unwanted: Errand) -> Result<HeldRef, Error> {
        let id = grant.info.id;
        lock(&self.table).forget_close(id);
        if let Some(held) = self.find(id) {
            return self.hold_again(held, grant);
        }
        let held = Held::map(&self.window, grant).inspect_err(|_: &MapError| {
            self.queue(unwanted);
        })?;
        let held = HeldRef {
            shared: Arc::clone(self),
            held: Some(Arc::new(held)),
            handle: false,
        };
        self.enter(&held)?;
        Ok(held.into_handle())
    }

    /// Puts what is held into the table, and acts on what was heard of it before.
    fn enter(self: &Arc<Self>, held: &HeldRef) -> Result<(), MapError> {
        let id = held.id();
        let mut table = lock(&self.table);
        table.held.insert(id, held.downgrade());
        let early = table.early.remove(&id);
        drop(table);
        if let Some(news) = early {
            self.tell(id, news)?;
        }
        Ok(())
    }

    /// Takes over a grant of a segment that has handles. Where these are of before it was taken
    /// away, they keep its addresses, and the grant is given back.
    fn hold_again(&self, held: HeldRef, grant: Grant) -> Result<HeldRef, Error> {
        let (id, addr, len) = (held.id(), grant.info.addr, grant.info.capacity);
        let updated = self.update(&held, grant);
        match updated {
            Err(error) if held.fate() != Fate::Live => {
                lock(&self.table).close_once(id);
                self.wake();
                Err(match error {
                    Error::Access(_) => Error::AddressHeld { addr, len },
                    error => error,
                })
            }
            updated => updated.map(|()| held.into_handle()),
        }
    }

    /// Queues to be closed what the daemon says is held and nobody here knows of. What an
    /// unresolved request brings is among it until that is resolved, which comes first.
    pub(crate) fn close_unknown(self: &Arc<Self>, said: impl Iterator<Item = SegmentId>) {
        let live = |held: &Weak<Held>| {
            let held = held.upgrade();
            held.is_some_and(|held| held.fate() == Fate::Live)
        };
        let mut table = lock(&self.table);
        for id in said {
            if !table.held.get(&id).is_some_and(live) {
                table.close_once(id);
            }
        }
    }

    /// Brings a segment up to date.
    ///
    /// # Errors
    /// Where the mapping failed the segment is lost, and queued to be released.
    pub(crate) fn update(&self, held: &HeldRef, grant: Grant) -> Result<(), Error> {
        let before = held.fate();
        held.update(grant).inspect_err(|_| {
            if before == Fate::Live && held.fate() == Fate::Lost {
                self.queue(Errand::Close(held.id()));
            }
        })
    }

    /// Has a segment brought up to date later.
    pub(crate) fn postpone(&self, id: SegmentId) {
        lock(&self.table).stale.insert(id);
        self.wake();
    }

    /// Brings a segment up to date of which nobody asks just now, and tells the program.
    ///
    /// # Errors
    /// Where it is as it was, and can be brought up to date once there is room for it.
    pub(crate) fn follow(&self, held: &HeldRef, grant: Grant) -> Result<(), Error> {
        let segment = held.id();
        let event = match self.update(held, grant) {
            Ok(()) => Event::Changed { segment },
            Err(_) if held.fate() == Fate::Lost => Event::Lost { segment },
            Err(_) if held.fate() == Fate::Revoked => return Ok(()),
            Err(error) => return Err(error),
        };
        self.events.publish(&event);
        Ok(())
    }

    /// Acts on an event about a segment. False where the event is of before what is held now, or
    /// the segment has ended already.
    pub(crate) fn tell(self: &Arc<Self>, id: SegmentId, news: News) -> Result<bool, MapError> {
        let mut table = lock(&self.table);
        let Some(held) = table.held.get(&id).and_then(Weak::upgrade) else {
            table.keep_early(id, news);
            return Ok(true);
        };
        let ended = match news {
            News::Changed => {
                table.stale.insert(id);
                None
            }
            News::Lost => Some(Fate::Lost),
            News::Revoked(_) => Some(Fate::Revoked),
        };
        drop(table);
        let held = HeldRef {
            shared: Arc::clone(self),
            held: Some(held),
            handle: false,
        };
        let told = ended.map_or(Ok(true), |fate| {
            let ended = match news {
                News::Revoked(Some(meant)) => held.end_grant(fate, meant),
                _ => held.end(fate),
            };
            // A segment that had ended was released when it did, and a newer grant is held.
            if ended != Ok(false) {
                self.queue(Errand::Close(id));
            }
            ended
        });
        self.wake();
        told
    }
}
