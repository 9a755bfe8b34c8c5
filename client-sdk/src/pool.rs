//! The pool as a program sees it: create segments, open them, ask about them.

use std::mem::ManuallyDrop;
use std::ops::Range;
use std::sync::PoisonError;
use std::time::Duration;

use pool_core::bare_thread::BareThread;
use pool_core::clock::Deadline;
use pool_core::mem::Access;
use pool_core::sync::atomic::Ordering;
use pool_core::sync::{Arc, Mutex};
use pool_core::{Bytes, ClientId, GroupTag, Nanos};
use pool_proto::common::v1::Lifetime;
use pool_proto::session::v1::{self as session, request};

use crate::attach::AttachOptions;
use crate::domain::{Domain, DomainOptions};
use crate::error::{Error, ProtocolError};
use crate::event::Events;
use crate::info::{SegmentInfo, SegmentList, TierInfo};
use crate::reserve::Reserve;
use crate::segment::Segment;
use crate::session::unwanted;
use crate::shared::{SessionGuard, Shared};
use crate::table::HeldRef;
use crate::turn::forget_lines;
use crate::wire;

/// A session with the daemon of a pool. Clones are the same session; it ends, and its thread with
/// it, when the last clone and the last segment are dropped.
///
/// Every call may be made from any thread. Calls that ask the daemon are made one after the other,
/// and wait until it answers or the timeout of [`AttachOptions`] has passed; where the daemon
/// restarts meanwhile they go on with the new one.
///
/// In a forked child every call fails with [`Error::Forked`]: attach anew there.
#[derive(Debug, Clone)]
pub struct Pool {
    life: Arc<Life>,
}

impl Pool {
    /// Attaches this process. Where there is no daemon's socket it fails at once, unless
    /// [`AttachOptions::wait_for_daemon`] says otherwise.
    ///
    /// # Errors
    /// [`Error`], and nothing is left behind.
    pub fn attach(options: &AttachOptions) -> Result<Self, Error> {
        options.attach()
    }

    pub(crate) const fn new(life: Arc<Life>) -> Self {
        Self { life }
    }

    /// Creates a segment: zeroed memory that is really there, held read-write.
    ///
    /// # Errors
    /// [`Error`]; of class exhausted where quota, tier or machine have not so much.
    pub fn create(&self, create: &Create) -> Result<Segment, Error> {
        self.life.create(create)
    }

    /// Opens a segment by its name: `name` of the own tenant, or `tenant:name`.
    ///
    /// # Errors
    /// [`Error`]; what may not be opened is not found. [`Reason::Sealed`](crate::Reason::Sealed)
    /// where nobody writes it any more. [`Error::HeldHere`] where a domain is to be opened
    /// read-write that this process holds read-only.
    pub fn open(&self, name: &str, access: Access) -> Result<Segment, Error> {
        let shared = self.life.shared();
        let deadline = shared.deadline();
        let mut session = shared.session(deadline)?;
        if access == Access::ReadWrite {
            shared.check_may_widen(name)?;
        }
        let ask = session::Open {
            name: name.to_owned(),
            access: wire::access(access),
        };
        let held = take(shared, &mut session, request::Body::Open(ask), deadline)?;
        Ok(Segment::new(Arc::clone(&self.life), held, access))
    }

    /// Opens, read-only, what a process on another host has made in a tier that hosts share, and
    /// has [sealed](Segment::seal): at the same address as there, so that pointers in it hold here.
    /// It is this host's until it is freed here, whatever becomes of the other one; where this host
    /// has it already, the answer is the segment that it is, with the name and lifetime it has.
    ///
    /// # Errors
    /// [`Error`]; [`Reason::NotFound`](crate::Reason::NotFound) where no host has sealed it, or
    /// its maker has freed it. Sealing is known to other hosts a moment after it is done.
    pub fn join(&self, join: &Join) -> Result<Segment, Error> {
        let shared = self.life.shared();
        let deadline = shared.deadline();
        let mut session = shared.session(deadline)?;
        let body = request::Body::Join(join.ask.clone());
        let held = take(shared, &mut session, body, deadline)?;
        // Its memory may have been this host's before, and lines of then be in its caches.
        forget_lines(&held)?;
        Ok(Segment::new(Arc::clone(&self.life), held, Access::ReadOnly))
    }

    /// Creates a domain: a segment of zeroed units that are leased. `create`'s size is that of the
    /// units: a whole number of them and of extents of 2 MiB, which is not rounded. Their words,
    /// the directory, take 4 KiB and 64 bytes a unit more, rounded up to whole extents (one for up
    /// to 32,704 units), and are charged as well: the quota has to have room for both.
    ///
    /// # Errors
    /// As [`Pool::create`].
    pub fn create_domain(&self, create: &Create, options: &DomainOptions) -> Result<Domain, Error> {
        let mut create = create.clone();
        create.ask.coherence = Some(options.ask());
        self.life.create(&create)?.into_domain()
    }

    /// Opens a domain by its name.
    ///
    /// # Errors
    /// As [`Pool::open`]; [`Error::NotADomain`].
    pub fn open_domain(&self, name: &str, access: Access) -> Result<Domain, Error> {
        self.open(name, access)?.into_domain()
    }

    /// Keeps `depth` segments (at most 256) of `bytes` ready, for [`Reserve::take`].
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub fn reserve(&self, tier: &str, bytes: Bytes, depth: usize) -> Result<Reserve, Error> {
        self.life.shared().check_owner()?;
        Ok(Reserve::new(Arc::clone(&self.life), tier, bytes, depth))
    }

    /// Every event from now on.
    #[must_use]
    pub fn events(&self) -> Events {
        let shared = self.life.shared();
        shared.events.subscribe(Arc::clone(shared))
    }

    /// The segments that the tenant owns or may open.
    ///
    /// # Errors
    /// [`Error`].
    pub fn segments(&self) -> Result<SegmentList, Error> {
        self.life
            .shared()
            .call(request::Body::List(session::List {}))?
            .listed()
    }

    /// The tiers of the pool, fastest first.
    ///
    /// # Errors
    /// [`Error`].
    pub fn tiers(&self) -> Result<Vec<TierInfo>, Error> {
        self.life
            .shared()
            .call(request::Body::Tiers(session::Tiers {}))?
            .tiers()
    }

    /// When a call that begins now is to have ended.
    pub(crate) fn deadline(&self) -> Deadline {
        self.life.shared().deadline()
    }

    /// The addresses that segments are at.
    pub(crate) fn window(&self) -> Range<usize> {
        let range = self.life.shared().window.range();
        let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let (base, len) = (number(range.base().get()), number(range.len().get()));
        base..base.saturating_add(len)
    }

    /// The daemon's name for this session.
    #[must_use]
    pub fn id(&self) -> ClientId {
        self.life.shared().client
    }

    /// The tenant that pays for what this session creates.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.life.shared().tenant
    }

    /// Rises with each start of the daemon.
    #[must_use]
    pub fn daemon_epoch(&self) -> u64 {
        self.life.shared().epoch.load(Ordering::Relaxed)
    }

    /// Daemon and client run as the same user: what may be written is up to courtesy.
    #[must_use]
    pub fn advisory_isolation(&self) -> bool {
        self.life.shared().advisory_isolation
    }
}

/// Asks for a segment and takes it over.
fn take(
    shared: &Arc<Shared>,
    session: &mut SessionGuard<'_>,
    body: request::Body,
    deadline: Deadline,
) -> Result<HeldRef, Error> {
    let answer = session.call_by(body.clone(), deadline)?;
    let grant = answer.granted(shared.window.range())?;
    let unwanted = unwanted(&body, grant.info.id);
    if let request::Body::Create(ask) = &body {
        if shared.find(grant.info.id).is_some() {
            return Err(ProtocolError::Field("segment_id").into());
        }
        is_as_asked(ask, &grant.info).inspect_err(|_| shared.queue(unwanted))?;
    }
    shared.hold(grant, unwanted)
}

/// Whether a new segment is what was asked for.
fn is_as_asked(ask: &session::Create, info: &SegmentInfo) -> Result<(), ProtocolError> {
    if info.bytes.get() < ask.bytes {
        return Err(ProtocolError::Field("bytes"));
    }
    if info.domain.is_some() != ask.coherence.is_some() {
        return Err(ProtocolError::Field("coherence"));
    }
    let (addr, align) = (info.addr, Bytes::new(ask.align));
    if ask.align > 0 && !addr.get().is_multiple_of(ask.align) {
        return Err(ProtocolError::Misaligned { addr, align });
    }
    Ok(())
}

/// A group that hosts share, to be joined.
#[derive(Debug, Clone)]
pub struct Join {
    ask: session::Join,
}

impl Join {
    /// What has this tag, in a tier that hosts share. It has no name here, and is this host's until
    /// its last handle is dropped.
    #[must_use]
    pub fn new(tier: &str, tag: GroupTag) -> Self {
        let ask = session::Join {
            tier: tier.to_owned(),
            tag: tag.to_string(),
            name: String::new(),
            lifetime: Lifetime::Held.into(),
        };
        Self { ask }
    }

    /// A name, unique within the tenant, by which other processes of this host open it.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.ask.name);
        self
    }

    /// This host's until it is freed here, even where nobody holds it. It needs a name.
    #[must_use]
    pub fn persistent(mut self) -> Self {
        self.ask.lifetime = Lifetime::Persistent.into();
        self
    }
}

/// A segment to be created.
#[derive(Debug, Clone)]
pub struct Create {
    ask: session::Create,
}

impl Create {
    /// `bytes` of the tier, rounded up to whole extents of 2 MiB. It has no name and is freed when
    /// its last handle is dropped.
    #[must_use]
    pub fn new(tier: &str, bytes: Bytes) -> Self {
        let ask = session::Create {
            tier: tier.to_owned(),
            bytes: bytes.get(),
            lifetime: Lifetime::Held.into(),
            ..session::Create::default()
        };
        Self { ask }
    }

    /// A name, unique within the tenant, by which it is opened.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.ask.name);
        self
    }

    /// Kept until it is freed, even where nobody holds it. It needs a name.
    #[must_use]
    pub fn persistent(mut self) -> Self {
        self.ask.lifetime = Lifetime::Persistent.into();
        self
    }

    /// Address space for it to grow into.
    #[must_use]
    pub fn capacity(mut self, bytes: Bytes) -> Self {
        self.ask.capacity_bytes = bytes.get();
        self
    }

    /// Beginning at a multiple of `bytes`: a power of two, from an extent of 2 MiB to the size of
    /// the window. Of 0, and where nothing is said, it begins at any extent.
    ///
    /// It is the address that is the multiple, in every process and for as long as the segment
    /// lives: also where it grows or moves, and after the daemon was started anew. So where all
    /// segments of a kind are as large as they are aligned, the address of a byte tells which one
    /// it is in. Of a domain it is the directory that begins there; the units lie behind it.
    ///
    /// # Errors
    /// Of the call that creates it: [`Reason::OutOfRange`](crate::Reason::OutOfRange) where `bytes`
    /// cannot be had, [`Reason::WindowFull`](crate::Reason::WindowFull) where no gap between other
    /// segments has such a place with the capacity behind it, and [`ProtocolError::Misaligned`]
    /// where the daemon knows of no alignment.
    #[must_use]
    pub fn align(mut self, bytes: Bytes) -> Self {
        self.ask.align = bytes.get();
        self
    }

    /// In pieces of at most this size, so that it can shrink in such steps.
    #[must_use]
    pub fn piece(mut self, bytes: Bytes) -> Self {
        self.ask.piece_bytes = bytes.get();
        self
    }

    /// How long to wait for burst memory of others to be given back, on top of the timeout. Other
    /// calls of the session have their turn after it, and the daemon hears of what is closed
    /// meanwhile after it, too: let a session of its own wait where others have to go on.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.ask.wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self
    }

    pub(crate) fn ask(
        &self,
        shared: &Arc<Shared>,
        session: &mut SessionGuard<'_>,
        deadline: Deadline,
    ) -> Result<HeldRef, Error> {
        take(
            shared,
            session,
            request::Body::Create(self.ask.clone()),
            deadline,
        )
    }

    /// When a call for it that begins now is to have ended.
    fn deadline(&self, shared: &Shared) -> Deadline {
        let wait = Nanos::from_millis(self.ask.wait_ms);
        Deadline::after(shared.timeout.saturating_add(wait))
    }
}

/// What keeps a session going: it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Life {
    shared: Arc<Shared>,
    /// `None` once it is joined.
    thread: Mutex<Option<BareThread>>,
}

impl Life {
    pub(crate) const fn new(shared: Arc<Shared>, thread: BareThread) -> Self {
        Self {
            shared,
            thread: Mutex::new(Some(thread)),
        }
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn create(self: &Arc<Self>, create: &Create) -> Result<Segment, Error> {
        let deadline = create.deadline(&self.shared);
        let mut session = self.shared.session(deadline)?;
        let held = create.ask(&self.shared, &mut session, deadline)?;
        Ok(Segment::new(Arc::clone(self), held, Access::ReadWrite))
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let thread = self
            .thread
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if self.shared.check_owner().is_err() {
            // A forked child: neither thread nor session are its own. To let go of the thread would
            // be to let go of one of the child's that has its number.
            let _parents = ManuallyDrop::new(thread);
            return;
        }
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.wake();
        // A thread that panicked has ended as well.
        if let Some(thread) = thread {
            thread.join();
        }
        if let Ok(mut session) = self.shared.session(self.shared.deadline()) {
            session.give_back(&self.shared);
            session.detach();
        }
    }
}
