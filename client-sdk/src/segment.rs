//! A segment in the hands of a program.

use pool_core::clock::Deadline;
use pool_core::mem::Access;
use pool_core::sync::Arc;
use pool_core::sync::atomic::AtomicU64;
use pool_core::{Bytes, GroupTag, Incarnation, PoolAddr, SegmentId};
use pool_proto::session::v1::{self as session, request};

use crate::atomic::{SharedU32, SharedU64};
use crate::domain::Domain;
use crate::error::{AccessError, Error};
use crate::held::Fate;
use crate::info::PieceInfo;
use crate::pool::Life;
use crate::table::{Errand, HeldRef};
use crate::view::{Element, View, ViewMut, bytes_of};
use crate::wire::{self, Answer};

/// Whether a segment may be ended under others who hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Force {
    /// It may not: the call is refused.
    No,
    /// It may: they are told that it was revoked.
    Yes,
}

/// A handle of a segment: memory at the same address in every process.
///
/// A process maps a segment once, however many handles it has. The last one that is dropped closes
/// the segment; a segment that was not created persistent ends when its last holder has closed it.
///
/// Other processes may change the memory at any time. Views and atomic words copy in and out and
/// never lend a reference; once the segment is revoked or lost every access is an error.
#[derive(Debug)]
pub struct Segment {
    // In this order: the segment is released while the session lives.
    held: HeldRef,
    life: Arc<Life>,
    access: Access,
}

impl Segment {
    pub(crate) fn held(&self) -> &HeldRef {
        &self.held
    }

    pub(crate) const fn parts(&mut self) -> (&mut HeldRef, &Arc<Life>) {
        (&mut self.held, &self.life)
    }

    pub(crate) fn into_parts(self) -> (HeldRef, Arc<Life>) {
        (self.held, self.life)
    }

    pub(crate) const fn life(&self) -> &Arc<Life> {
        &self.life
    }

    pub(crate) const fn new(life: Arc<Life>, held: HeldRef, access: Access) -> Self {
        Self { held, life, access }
    }

    /// Holds the segment and its session, whatever becomes of the handles. It is none itself.
    pub(crate) fn keep(&self) -> Self {
        let (held, life) = (self.held.again(), Arc::clone(&self.life));
        Self::new(life, held, self.access)
    }

    /// The daemon's name for it, never used again.
    #[must_use]
    pub fn id(&self) -> SegmentId {
        self.held.id()
    }

    /// Where it is, in this and every other process.
    #[must_use]
    pub fn addr(&self) -> PoolAddr {
        self.held.addr()
    }

    /// The address as a pointer, for code that takes one. It stays readable (and writable, where
    /// the segment is held read-write) for as long as the handle lives, but whoever reads through
    /// it is not told of a revocation and finds zeros after one, and must expect other processes to
    /// change what is there.
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.held.mapped().as_ptr()
    }

    /// How large it is: for a forked child, nothing. Other processes of the tenant may resize it.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        let bytes = self.held.peek(|detail| detail.info.bytes);
        bytes.unwrap_or(Bytes::ZERO)
    }

    /// Rises with each new backing of the same addresses. A forked child is told the first one.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        let now = self.held.peek(|detail| detail.info.incarnation);
        now.unwrap_or(self.held.first_incarnation())
    }

    /// Empty where it has none, and for a forked child.
    #[must_use]
    pub fn name(&self) -> String {
        let name = self.held.peek(|detail| detail.info.name.clone());
        name.unwrap_or_default()
    }

    /// Where it lies. Empty for a forked child.
    #[must_use]
    pub fn tier(&self) -> String {
        let tier = self.held.peek(|detail| detail.info.tier.clone());
        tier.unwrap_or_default()
    }

    /// What this handle may do.
    #[must_use]
    pub fn access(&self) -> Access {
        if self.is_sealed() {
            Access::ReadOnly
        } else {
            self.access
        }
    }

    /// Whether nobody writes it any more, as far as this process has heard: see [`Self::seal`].
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.held.is_sealed()
    }

    /// By what other hosts [join](crate::Pool::join) it, where it lies in a tier that hosts share.
    /// It is a secret: whoever has it may read the segment once it is sealed. None for a forked
    /// child.
    #[must_use]
    pub fn tag(&self) -> Option<GroupTag> {
        self.held.peek(|detail| detail.info.tag).flatten()
    }

    /// All of it is ordinary DRAM that stands for something else.
    #[must_use]
    pub fn is_emulated(&self) -> bool {
        let pieces = self.pieces();
        !pieces.is_empty() && pieces.iter().all(|piece| piece.emulated)
    }

    /// Its parts, in order: none where it was taken away, and for a forked child.
    #[must_use]
    pub fn pieces(&self) -> Vec<PieceInfo> {
        let info = |piece: &wire::Piece| PieceInfo {
            offset: piece.offset,
            bytes: piece.bytes,
            device: piece.device.clone(),
            emulated: piece.emulated,
            pages: piece.pages,
        };
        let pieces = self
            .held
            .peek(|detail| detail.pieces.iter().map(info).collect());
        pieces.unwrap_or_default()
    }

    /// The `count` elements from `offset`, to read.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn view<T: Element>(
        &self,
        offset: Bytes,
        count: usize,
    ) -> Result<View<'_, T>, AccessError> {
        View::new(&self.held, offset, count)
    }

    /// The `count` elements from `offset`, to read and write.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn view_mut<T: Element>(
        &self,
        offset: Bytes,
        count: usize,
    ) -> Result<ViewMut<'_, T>, AccessError> {
        self.check_writable()?;
        ViewMut::new(&self.held, offset, count)
    }

    /// The word at `offset`, to be shared with other processes.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn atomic_u32(&self, offset: Bytes) -> Result<SharedU32<'_>, AccessError> {
        self.check_writable()?;
        SharedU32::new(&self.held, offset)
    }

    /// The word at `offset`, to be shared with other processes.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn atomic_u64(&self, offset: Bytes) -> Result<SharedU64<'_>, AccessError> {
        self.check_writable()?;
        SharedU64::new(&self.held, offset)
    }

    /// The `count` words from `offset`, for what is laid out as words that several processes or
    /// hosts change, as the board of hosts that have one device is. As with [`Segment::as_ptr`],
    /// whoever loads them is not told that the segment was taken away, and finds zeros then.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn words(&self, offset: Bytes, count: usize) -> Result<&[AtomicU64], AccessError> {
        self.check_writable()?;
        self.held.check(offset.get(), bytes_of::<u64>(count))?;
        Ok(self.held.mapped().atomics_u64(offset, count)?)
    }

    fn check_writable(&self) -> Result<(), AccessError> {
        match self.access {
            _ if self.is_sealed() => Err(AccessError::Sealed { segment: self.id() }),
            Access::ReadOnly => Err(AccessError::ReadOnly),
            Access::ReadWrite => Ok(()),
        }
    }

    /// Lets another tenant open the segment.
    ///
    /// # Errors
    /// [`Error`].
    pub fn share(&self, tenant: &str, access: Access) -> Result<(), Error> {
        let ask = session::Share {
            segment_id: self.id().number(),
            tenant: tenant.to_owned(),
            access: wire::access(access),
        };
        self.life.shared().call(request::Body::Share(ask))?.done()
    }

    /// Takes the segment away from another tenant: its clients are cut off at once, and the
    /// contents go on in a new incarnation that it has never seen.
    ///
    /// # Errors
    /// [`Error`]; [`Error::HeldHere`] where another handle of this process could write meanwhile.
    /// Where no answer came in time every access is [`AccessError::InDoubt`] until there is one.
    pub fn revoke(&mut self, tenant: &str) -> Result<(), Error> {
        let ask = session::Revoke {
            segment_id: self.id().number(),
            tenant: tenant.to_owned(),
        };
        self.change_alone(request::Body::Revoke(ask))
    }

    /// Makes the segment larger or smaller, in its place. What is added is zero; a smaller size
    /// must end where a piece does.
    ///
    /// # Errors
    /// [`Error`]. Where what was added cannot be mapped the segment stays as it was here, and
    /// follows by itself once there is room: make it smaller again to do without.
    pub fn resize(&mut self, bytes: Bytes) -> Result<(), Error> {
        let ask = session::Resize {
            segment_id: self.id().number(),
            bytes: bytes.get(),
        };
        self.change(request::Body::Resize(ask), self.life.shared().deadline())
    }

    /// Moves the contents to another tier, at the same address.
    ///
    /// # Errors
    /// As [`Segment::revoke`].
    pub fn relocate(&mut self, tier: &str) -> Result<(), Error> {
        let ask = session::Relocate {
            segment_id: self.id().number(),
            tier: tier.to_owned(),
        };
        self.change_alone(request::Body::Relocate(ask))
    }

    /// Brings size and mapping up to date now. An event does the same a moment later by itself.
    ///
    /// # Errors
    /// [`Error`].
    pub fn refresh(&mut self) -> Result<(), Error> {
        self.bring_up_to_date(self.life.shared().deadline())
    }

    /// Ends the segment for everybody. Its memory is zeroed and its name is free again.
    ///
    /// # Errors
    /// [`Error`]; where others hold it and `force` says no. The handle is gone either way.
    pub fn free(self, force: Force) -> Result<(), Error> {
        let Self { held, life, .. } = self;
        let (shared, id) = (life.shared(), held.id());
        let deadline = shared.deadline();
        let mut session = shared.session(deadline)?;
        held.check_live()?;
        // First, while the table has the segment: what is not in it is closed wherever the session
        // is taken up, and would be gone before it is to be freed.
        session.settle(shared, deadline)?;
        let others = held.others();
        if others > 0 {
            if force == Force::No {
                return Err(Error::HeldHere {
                    segment: id,
                    others,
                });
            }
            held.end(Fate::Revoked)
                .inspect_err(|_| shared.queue(Errand::Close(id)))?;
        }
        held.let_go();
        let ask = session::Free {
            segment_id: id.number(),
            force: force == Force::Yes,
        };
        let answer = session.ask(shared, request::Body::Free(ask), deadline);
        let freed = answer.and_then(Answer::done);
        if freed.is_err() && !session.awaits(id) {
            // Unmapped before it was to be freed, so that the memory is back at once: it is held no
            // more whether the daemon refused or was not asked at all.
            shared.queue(Errand::Close(id));
        }
        freed
    }

    /// The domain, where it is one.
    ///
    /// # Errors
    /// [`Error::NotADomain`].
    pub fn into_domain(self) -> Result<Domain, Error> {
        Domain::new(self)
    }

    /// Closes the handle. To drop it does the same.
    pub fn close(self) {
        drop(self);
    }

    /// Asks for a change under which nobody may write, and maps what came of it.
    fn change_alone(&self, body: request::Body) -> Result<(), Error> {
        let (shared, segment) = (self.life.shared(), self.id());
        let deadline = shared.deadline();
        let mut session = shared.session(deadline)?;
        session.settle(shared, deadline)?;
        self.held.check_live()?;
        let others = self.held.others();
        if others > 0 {
            return Err(Error::HeldHere { segment, others });
        }
        self.held.suspend();
        let changed = session
            .ask(shared, body, deadline)
            .and_then(|answer| answer.granted(shared.window.range()))
            .and_then(|grant| shared.update(&self.held, grant));
        // Where it is not known what became of it, or not understood, a refresh brings that.
        let known = !session.awaits(segment) && !matches!(changed, Err(Error::Protocol(_)));
        match &changed {
            Err(_) if known && self.held.resume() => {}
            Err(error) if known || matches!(error, Error::Protocol(_)) => shared.postpone(segment),
            _ => {}
        }
        changed
    }

    /// Maps what the segment is by now, where it is told until the deadline.
    pub(crate) fn bring_up_to_date(&self, deadline: Deadline) -> Result<(), Error> {
        let ask = session::Refresh {
            segment_id: self.id().number(),
        };
        self.change(request::Body::Refresh(ask), deadline)
    }

    /// Asks for a change, and maps what came of it.
    fn change(&self, body: request::Body, deadline: Deadline) -> Result<(), Error> {
        let shared = self.life.shared();
        let mut session = shared.session(deadline)?;
        self.held.check_live()?;
        let answer = session.call_by(body, deadline)?;
        let grant = answer.granted(shared.window.range())?;
        shared.update(&self.held, grant).inspect_err(|_| {
            if self.held.fate() == Fate::Live {
                shared.postpone(self.id());
            }
        })
    }
}
