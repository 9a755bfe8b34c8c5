//! What may happen to a fabric, and what comes of it.

use super::cdat::Told;
use super::command::Cci;
use super::fault::Fault;
use crate::cci::{Malformed, ReturnCode};
use crate::id::{HostId, LdId, MemdevId};
use crate::media::Line;
use crate::span::Span;
use crate::timing::Picos;

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A host sets its decoders: a range of its addresses leads to a logical device that it
    /// reaches, from an address of that on.
    Map {
        /// Which host.
        host: HostId,
        /// Its addresses.
        span: Span,
        /// The device.
        memdev: MemdevId,
        /// The logical device.
        ld: LdId,
        /// Where the range begins there.
        address: u64,
    },
    /// It has them lead nowhere.
    Unmap {
        /// Which host.
        host: HostId,
        /// The first address of the range.
        start: u64,
    },
    /// It reads the line of an address.
    Load {
        /// Which host.
        host: HostId,
        /// The address.
        address: u64,
    },
    /// It writes the line of an address.
    Store {
        /// Which host.
        host: HostId,
        /// The address.
        address: u64,
        /// What it writes.
        content: Line,
    },
    /// It writes back what it wrote of a range, and keeps it in its caches.
    WriteBack {
        /// Which host.
        host: HostId,
        /// The range.
        span: Span,
    },
    /// The same, and its caches let go of the range.
    Flush {
        /// Which host.
        host: HostId,
        /// The range.
        span: Span,
    },
    /// It begins to copy so many bytes in bulk, past its caches: from its own memory to an address,
    /// from an address to its own memory, or from one address to another.
    Copy {
        /// Which host.
        host: HostId,
        /// From where; its own memory where there is none.
        from: Option<u64>,
        /// To where; its own memory where there is none.
        to: Option<u64>,
        /// How many bytes.
        bytes: u64,
    },
    /// It reads the table in which a device or a switch tells how fast it is, as real hosts do by a
    /// mailbox in its configuration space (DOE).
    ReadCdat {
        /// Which host.
        host: HostId,
        /// Of what.
        of: Told,
    },
    /// A message comes in at an interface for commands.
    Command {
        /// Which one.
        cci: Cci,
        /// The bytes of the message.
        message: Vec<u8>,
    },
    /// Something goes wrong, or is well again.
    Fault(Fault),
}

/// Why an access failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The host is dead, or there is none of that number.
    #[error("the host is dead, or there is none of that number")]
    Dead,
    /// The host is not dead, and does not start anew.
    #[error("the host is alive")]
    Alive,
    /// The range, or the memory behind it, is mapped already; or it is empty, not of whole lines,
    /// or one too many.
    #[error("the range overlaps another one, is not of whole lines, or is one too many")]
    BadRange,
    /// The host has set no more addresses aside for memory of the fabric (its `window`).
    #[error("the host has set aside no more addresses")]
    NoAddresses,
    /// The memory is kept coherent by the device, which needs the host to give lines back.
    #[error("the host takes no back-invalidates, and the memory needs them")]
    Incoherent,
    /// No decoder leads anywhere from the address.
    #[error("nothing is mapped at the address")]
    Unmapped,
    /// A link on the way is down, a bridge is not bound, or the device is gone.
    #[error("the device is not reached")]
    Unreachable,
    /// The logical device has no memory at the address.
    #[error("no memory is at the address")]
    NoMemory,
    /// The memory is only read.
    #[error("the memory is read-only")]
    ReadOnly,
    /// What the line held is lost.
    #[error("the line is poisoned")]
    Poisoned,
    /// A request or its answer never gets through, and the host gave up. What was written may be
    /// there all the same.
    #[error("nothing answers in time")]
    TimedOut,
    /// The device keeps its data to itself, lest what is wrong with it spreads.
    #[error("the device is viral")]
    Viral,
    /// As many copies go on as can.
    #[error("as many copies go on as can")]
    TooMany,
    /// A copy would not end before the time does, or another one would not. Copy less at once.
    #[error("the copy would not end before the time does, or another one would not")]
    TooLong,
    /// A device lists no more lines that are bad, and not one of them turned bad.
    #[error("the device lists no more bad lines: 1,024 are as many as it keeps track of")]
    NoRoom,
    /// A link is not trained to that: it was made for less, or nothing is like that.
    #[error("the link cannot be trained to that")]
    NotSo,
}

/// Why a command has no answer with something in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Asked {
    /// It was refused: the code says why.
    #[error("the command was refused: {0:?}")]
    Refused(ReturnCode),
    /// Its list is longer than a message can be: send it in parts. Nothing was sent.
    #[error("the command is longer than a message can be")]
    TooLong,
    /// It was done, and its answer is not what the table says.
    #[error("the answer cannot be read: {0:?}")]
    Unreadable(Malformed),
    /// It was done or not, and what came back is no message.
    #[error("what came back is no message")]
    Garbled,
    /// It goes on in the background, until what is due next.
    #[error("the command goes on in the background")]
    Begun,
    /// Nobody is there to answer, or the answer is lost or late.
    #[error("nobody answers: the host does not reach it, or the device is gone")]
    Dropped,
}

/// What came of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// It was done.
    Done,
    /// The answer to a command: the bytes of a message.
    Answer(Vec<u8>),
    /// What came in was no command, or came where nobody is, or it or its answer was lost: there is
    /// no answer.
    Dropped,
    /// The command was done, and its answer comes later, as [`Effect::Late`] of this number. It
    /// never comes where the interface starts anew or is out of reach by then.
    Deferred {
        /// When.
        due: Picos,
        /// What it is known by.
        number: u64,
    },
    /// An answer to an earlier command comes late: the bytes of a message.
    Late {
        /// From which interface.
        cci: Cci,
        /// The number under which it was deferred.
        number: u64,
        /// The message.
        answer: Vec<u8>,
    },
    /// Something went wrong by itself, as it was planned; what came of it follows.
    Struck {
        /// When.
        at: Picos,
        /// What.
        fault: Fault,
    },
    /// What a host read, and whether it came out of its caches.
    Loaded {
        /// The line.
        content: Line,
        /// Whether it was there.
        is_hit: bool,
        /// How long that took, in emulated time.
        took: Picos,
    },
    /// A host wrote to its caches, or wrote back what it had written.
    Written {
        /// How long that took, in emulated time: until the line was the host's to write, or
        /// until the last line was in memory.
        took: Picos,
    },
    /// The bytes of a table: see [`Cdat`](crate::cdat::Cdat).
    Cdat(Vec<u8>),
    /// A copy goes on until [`Effect::Copied`] or [`Effect::CopyFailed`] of this number.
    Copying {
        /// What it is known by.
        copy: u64,
    },
    /// A copy is over.
    Copied {
        /// Which.
        copy: u64,
        /// How long that took, in emulated time.
        took: Picos,
    },
    /// A copy goes on no more, and some of its bytes may be there.
    CopyFailed {
        /// Which.
        copy: u64,
        /// Why.
        why: AccessError,
    },
    /// The access failed. What that took is not told: a host finds out in its own time.
    Failed(AccessError),
    /// What a host had written did not reach memory: an address of the host.
    Lost {
        /// Which host.
        host: HostId,
        /// The address of the line.
        address: u64,
        /// Why.
        why: AccessError,
    },
    /// A host died with so many lines that it had not written back.
    LostLines {
        /// Which host.
        host: HostId,
        /// How many.
        lines: usize,
    },
}
