//! What can go wrong, in one enum, with a class that says whose fault it is and what to do next.

use allocator::pool::HeapError;
use std::fmt;
use std::path::PathBuf;

use coherence::Slots;
use nix::errno::Errno;
use pool_core::futex::FutexError;
use pool_core::mem::{BoundsError, MapError};
use pool_core::packet::PacketError;
use pool_core::{Bytes, Nanos, PoolAddr, SegmentId};
use pool_proto::common::v1 as common;

/// Which rule of the daemon refused a request.
pub use pool_proto::common::v1::ErrorReason as Reason;

/// Whose fault an error is, and so what its receiver does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The call was wrong. Mend it; the same one fails again.
    Caller,
    /// Memory, quota or another bounded thing is used up. Free some, or ask for less, then retry.
    Exhausted,
    /// The contents are gone, or a race was lost. Build anew from what is left.
    Lost,
    /// What was held is held no more. Drop it, and ask anew.
    Revoked,
    /// The daemon does not answer. What is held stays usable; retry later.
    Unreachable,
    /// Bytes are not what they must be. Stop using them.
    Corrupt,
}

/// Why a call failed.
#[expect(
    clippy::error_impl_error,
    reason = "the one error of the crate, named as its users name it"
)]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The daemon refused, and changed nothing. Its class and message say what to do.
    #[error(transparent)]
    Refused(Box<Refused>),
    /// An access to a segment's memory failed.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// There is no socket where the daemon's was said to be, or where sockets are. Start the
    /// daemon, name its socket, or [wait](crate::AttachOptions::wait_for_daemon) for one that is
    /// being started.
    #[error(
        "there is no daemon at {}: start pool-daemon, or name the session socket of the one that \
         runs (TIERPOOL_SOCKET, or `AttachOptions::socket`; `AttachOptions::wait_for_daemon` \
         waits for one that is being started)",
        either(tried)
    )]
    NoDaemon {
        /// Where there is none.
        tried: Vec<PathBuf>,
    },
    /// The daemon did not answer in time. What is held stays usable; retry, or raise the timeout.
    /// The request may have been carried out: if so, its result is given back by the next call.
    #[error(
        "no answer from the daemon at {} within {} ms",
        socket.display(), waited.get() / 1_000_000
    )]
    Unreachable {
        /// The daemon's socket.
        socket: PathBuf,
        /// How long was waited.
        waited: Nanos,
    },
    /// Somebody else can have put up the socket there. Name the socket, if it is the right one.
    #[error(
        "{} belongs to uid {owner} with mode {mode:o}: others can have put up a socket there; \
         set TIERPOOL_SOCKET if it is the right one",
        folder.display()
    )]
    Untrusted {
        /// Where the socket is.
        folder: PathBuf,
        /// Whose folder it is.
        owner: u32,
        /// Its permissions.
        mode: u32,
    },
    /// The daemon may not be talked to. Ask the operator for access to the socket; or, where the
    /// class is exhausted, raise the limits of the process.
    #[error("{} cannot be connected to: {errno}", socket.display())]
    Socket {
        /// The daemon's socket.
        socket: PathBuf,
        /// What the kernel answered.
        errno: Errno,
    },
    /// The daemon does not know this session any more: what was held is lost. Attach anew.
    #[error("the daemon does not know this session any more: attach anew")]
    SessionEnded,
    /// This process was forked from the one that attached. Attach anew.
    #[error("this process was forked from the one that attached: attach anew")]
    Forked,
    /// Other handles of this process hold the segment, and would be cut off. Drop them first.
    #[error("{others} other handles of this process hold {segment}: drop them first")]
    HeldHere {
        /// Which segment.
        segment: SegmentId,
        /// How many others.
        others: usize,
    },
    /// A handle of a segment that was taken away still has the addresses. Drop it, then ask again.
    #[error("a handle of a revoked or lost segment still has {len} at {addr}: drop it first")]
    AddressHeld {
        /// Where the new segment was to be.
        addr: PoolAddr,
        /// Its size.
        len: Bytes,
    },
    /// The segment was not created as a domain: it has no units that could be leased.
    #[error("{segment} is no domain: create it as one")]
    NotADomain {
        /// Which segment.
        segment: SegmentId,
    },
    /// The segment is a domain, whose members see each other's writes by its mode. Lease its units.
    #[error("{segment} is a domain: lease its units")]
    IsADomain {
        /// Which segment.
        segment: SegmentId,
    },
    /// Lines of the segment may be left in the caches of this host. Open it where it was closed,
    /// and do the same again before another host has its turn.
    #[error("lines of {segment} may be left in this host's caches: {cause}; do it again")]
    NotFlushed {
        /// Which segment.
        segment: SegmentId,
        /// Why they could not be dropped.
        cause: Box<Error>,
    },
    /// A call about a heap did nothing: see there.
    #[error(transparent)]
    Heap(#[from] HeapError),
    /// Memory could not be reserved or mapped.
    #[error(transparent)]
    Map(MapError),
    /// The daemon's answer is not what the protocol says. Nothing of it was used. Report it.
    #[error("the daemon broke the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// A message could not be sent or received. Usually the process is out of descriptors: a
    /// segment needs one for each piece (see `ulimit -n`). Or, where the class says so, what was
    /// asked does not fit a message.
    #[error(transparent)]
    Packet(PacketError),
    /// A thread or another object of the kernel could not be had. Raise the limits of the process.
    #[error("{call}: {errno}")]
    System {
        /// What was asked for.
        call: &'static str,
        /// What the kernel answered.
        errno: Errno,
    },
}

impl Error {
    /// Whose fault it is, and so what to do next.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Refused(refused) => refused.class,
            Self::Access(error) => error.class(),
            Self::NoDaemon { .. } | Self::Unreachable { .. } => ErrorClass::Unreachable,
            Self::Socket { errno, .. } if is_shortage(*errno) => ErrorClass::Exhausted,
            Self::Socket { .. } | Self::Forked | Self::HeldHere { .. } => ErrorClass::Caller,
            Self::AddressHeld { .. } | Self::Untrusted { .. } => ErrorClass::Caller,
            Self::NotADomain { .. } | Self::IsADomain { .. } => ErrorClass::Caller,
            Self::NotFlushed { cause, .. } => cause.class(),
            Self::Heap(error) => class_of(error),
            Self::SessionEnded => ErrorClass::Lost,
            Self::Map(MapError::FileTooShort { .. }) | Self::Protocol(_) => ErrorClass::Corrupt,
            Self::Packet(
                PacketError::TooLarge { .. }
                | PacketError::Empty
                | PacketError::TooManyDescriptors { .. },
            ) => ErrorClass::Caller,
            Self::Map(MapError::Os { .. }) | Self::Packet(_) => ErrorClass::Exhausted,
            Self::Map(_) => ErrorClass::Caller,
            Self::System { .. } => ErrorClass::Exhausted,
        }
    }

    /// Which rule of the daemon refused, where it was the daemon.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Refused(refused) => Some(refused.reason),
            _ => None,
        }
    }
}

/// The class of what went wrong in a heap: that of its cause, where it has one.
fn class_of(error: &HeapError) -> ErrorClass {
    match error {
        HeapError::Exhausted(cause) | HeapError::Map(cause) | HeapError::Remove(cause) => {
            let cause = cause.cause::<Error>();
            cause.map_or(ErrorClass::Exhausted, Error::class)
        }
        HeapError::TooManyChunks | HeapError::TooManyThreads | HeapError::TooManyRoots => {
            ErrorClass::Exhausted
        }
        HeapError::Ended => ErrorClass::Lost,
        HeapError::Damaged { .. } | HeapError::OtherFormat => ErrorClass::Corrupt,
        _ => ErrorClass::Caller,
    }
}

/// One path or the other, as it is told to people.
fn either(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(" or ")
}

/// Whether the process or the machine has none left of what was asked for.
const fn is_shortage(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS
    )
}

impl From<MapError> for Error {
    fn from(error: MapError) -> Self {
        match error {
            MapError::Forked => Self::Forked,
            MapError::Claimed { at, len } => Self::AddressHeld { addr: at, len },
            error => Self::Map(error),
        }
    }
}

impl From<FutexError> for Error {
    fn from(error: FutexError) -> Self {
        match error {
            FutexError::Os { call, errno } => Self::System { call, errno },
            _ => Self::System {
                call: "futex",
                errno: Errno::EINVAL,
            },
        }
    }
}

/// A refusal of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// Whose fault it is.
    pub class: ErrorClass,
    /// Which rule.
    pub reason: Reason,
    /// One sentence that names the numbers and says what to do next.
    pub message: String,
    /// The bound, where the reason has one.
    pub limit: u64,
    /// How much of it is used.
    pub used: u64,
    /// How much was asked.
    pub asked: u64,
}

impl From<common::Error> for Error {
    fn from(error: common::Error) -> Self {
        use common::ErrorClass as Wire;
        let class = match error.class() {
            Wire::Unspecified | Wire::Corrupt => ErrorClass::Corrupt,
            Wire::Caller => ErrorClass::Caller,
            Wire::Exhausted => ErrorClass::Exhausted,
            Wire::Lost => ErrorClass::Lost,
            Wire::Revoked => ErrorClass::Revoked,
            Wire::Unreachable => ErrorClass::Unreachable,
        };
        let reason = error.reason();
        let common::Error {
            message,
            limit,
            used,
            asked,
            ..
        } = error;
        Self::Refused(Box::new(Refused {
            class,
            reason,
            message,
            limit,
            used,
            asked,
        }))
    }
}

/// Who keeps a unit, a bit a slot, as it is told to people.
pub(crate) struct Holders(pub(crate) u32);

impl fmt::Display for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str(
                "nobody: the daemon decides about it, or somebody who has waited goes first",
            ),
            holders => Slots::from_bits(holders).fmt(f),
        }
    }
}

/// An access to a segment's memory failed. No wrong byte was returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// The range is not inside the segment, or not inside it any more. Ask for one that is.
    #[error("{len} at offset {offset} are not inside the {size} there are")]
    Outside {
        /// Where the range starts.
        offset: Bytes,
        /// How long it is.
        len: Bytes,
        /// How much there is.
        size: Bytes,
    },
    /// Elements of this type cannot start there. Choose a multiple of `align`.
    #[error("{addr} is no multiple of {align}")]
    Misaligned {
        /// Where the first element was to be.
        addr: PoolAddr,
        /// What its address must be a multiple of.
        align: usize,
    },
    /// The segment is held read-only. Open it read-write.
    #[error("the segment is held read-only")]
    ReadOnly,
    /// The segment is sealed, and nobody writes it any more. Write to another one.
    #[error("{segment} is sealed: nobody writes it any more")]
    Sealed {
        /// Which.
        segment: SegmentId,
    },
    /// The segment was taken away. Drop it, and ask anew.
    #[error("{segment} was revoked: drop it and ask anew")]
    Revoked {
        /// Which.
        segment: SegmentId,
    },
    /// The contents of the segment are gone. Build them anew.
    #[error("the contents of {segment} are lost: build them anew")]
    Lost {
        /// Which.
        segment: SegmentId,
    },
    /// The segment was to be moved or taken from a tenant, and the daemon has not said in time
    /// whether it was: what is written now could be lost. Refresh the segment, which waits for the
    /// answer, or try again later: it is asked for in the background as well.
    #[error("a change of {segment} is not answered yet: refresh it, or try again later")]
    InDoubt {
        /// Which.
        segment: SegmentId,
    },
    /// This process was forked from the one that holds the segment. Attach anew.
    #[error("this process was forked from the one that attached: attach anew")]
    Forked,
}

impl AccessError {
    /// Whose fault it is, and so what to do next.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Outside { .. } | Self::Misaligned { .. } | Self::ReadOnly | Self::Forked => {
                ErrorClass::Caller
            }
            Self::Sealed { .. } => ErrorClass::Caller,
            Self::Revoked { .. } => ErrorClass::Revoked,
            Self::Lost { .. } => ErrorClass::Lost,
            Self::InDoubt { .. } => ErrorClass::Unreachable,
        }
    }
}

impl From<BoundsError> for AccessError {
    fn from(error: BoundsError) -> Self {
        match error {
            BoundsError::Outside { offset, len, size } => Self::Outside { offset, len, size },
            BoundsError::Misaligned { addr, align } => Self::Misaligned { addr, align },
            _ => Self::ReadOnly,
        }
    }
}

/// What was wrong with a message of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// It cannot be decoded.
    #[error("a message cannot be decoded")]
    Undecodable,
    /// It answers a request that was not sent.
    #[error("an answer to request {got} while {sent} was asked")]
    RequestId {
        /// The request in flight.
        sent: u64,
        /// What the answer says.
        got: u64,
    },
    /// It is not an answer to this kind of request.
    #[error("an answer of another kind than the request")]
    Kind,
    /// It came with another number of descriptors than it says.
    #[error("{got} descriptors where there should be {expected}")]
    Descriptors {
        /// What the message needs.
        expected: usize,
        /// What came.
        got: usize,
    },
    /// A field does not hold what it must.
    #[error("the field {0} does not hold what it must")]
    Field(&'static str),
    /// The pieces of a segment are not all of it, one after the other.
    #[error("the pieces of a segment do not cover it")]
    Pieces,
    /// A segment is not where it was, or not in the window.
    #[error("a segment is at another address than it can be")]
    Place,
    /// A new segment does not begin where it was asked to. It was given back. The daemon may be of
    /// before there was [`align`](crate::Create::align).
    #[error("a segment that was to begin at a multiple of {align} begins at {addr}")]
    Misaligned {
        /// Where it begins.
        addr: PoolAddr,
        /// What that was to be a multiple of.
        align: Bytes,
    },
}
