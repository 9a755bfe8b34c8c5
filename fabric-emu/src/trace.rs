//! What happened to a fabric, folded into one number: two runs in which the same happened have the
//! same, and it is a chance in 2^64 that two others have.
//!
//! # The form
//! Each step is a row of bytes: the time, the event, and what came of it, in order. A number is 8
//! bytes, the least first; a text or a list of bytes is its length and then its bytes; each kind of
//! event, effect and error has a number of its own, which stands before its fields. The row is
//! hashed (XXH3, 64 bits) with the hash of all before as its seed. So the number depends on
//! nothing but what happened: no map, no address, no layout of this build.
//!
//! What is done past the fabric ([`Fabric::memdev_mut`](crate::fabric::Fabric::memdev_mut)) is
//! seen by what comes of it alone.

use pool_core::planted;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::fabric::{AccessError, Cci, Effect, Event, Told};
use crate::id::{HostId, LdId, MemdevId, Node, Port};
use crate::span::Span;
use crate::timing::Picos;

mod fault;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trace(u64);

impl Trace {
    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Something happened at a time, or nothing but that the time went on.
    pub(crate) fn fold(&mut self, now: Picos, event: Option<&Event>, effects: &[Effect]) {
        let mut row = Row::with_room();
        if !planted!("trace.leaves_out_the_time") {
            row.time(now);
        }
        match event {
            None => row.number(0_u64),
            Some(happened) => row.event(happened),
        }
        row.number(effects.len() as u64);
        for effect in effects {
            row.effect(effect);
        }
        self.0 = xxh3_64_with_seed(&row.0, self.0);
    }
}

/// The bytes of one step.
struct Row(Vec<u8>);

/// Bytes of most rows: an access with its line, and what came of it. Making room once, and not as
/// the row grows, halves what a load costs that hits.
const ROOM: usize = 256;

impl Row {
    fn with_room() -> Self {
        Self(Vec::with_capacity(ROOM))
    }

    fn number(&mut self, number: impl Into<u64>) {
        self.0.extend_from_slice(&number.into().to_le_bytes());
    }

    fn numbers(&mut self, numbers: impl IntoIterator<Item = u64>) {
        numbers.into_iter().for_each(|number| self.number(number));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn time(&mut self, time: Picos) {
        self.number(time.get());
    }

    fn span(&mut self, span: Span) {
        self.numbers([span.start, span.bytes]);
    }

    fn port(&mut self, Port { node, port }: Port) {
        let (kind, id) = match node {
            Node::Host(id) => (0, id.0),
            Node::Switch(id) => (1, id.0),
            Node::Memdev(id) => (2, id.0),
        };
        self.numbers([kind, id.into(), port.0.into()]);
    }

    fn cci(&mut self, cci: Cci) {
        match cci {
            Cci::Mailbox { host, memdev, ld } => {
                self.number(0_u64);
                self.ids(host, memdev, ld);
            }
            Cci::Switch(switch) => self.numbers([1, switch.0.into()]),
            Cci::Memdev(memdev) => self.numbers([2, memdev.0.into()]),
        }
    }

    fn ids(&mut self, host: HostId, memdev: MemdevId, ld: LdId) {
        self.numbers([host.0.into(), memdev.0.into(), ld.0.into()]);
    }

    fn event(&mut self, event: &Event) {
        match *event {
            Event::Map {
                host,
                span,
                memdev,
                ld,
                address,
            } => {
                self.number(1_u64);
                self.ids(host, memdev, ld);
                self.span(span);
                self.number(address);
            }
            Event::Unmap { host, start } => self.numbers([2, host.0.into(), start]),
            Event::Load { host, address } => self.numbers([3, host.0.into(), address]),
            Event::Store {
                host,
                address,
                ref content,
            } => {
                self.numbers([4, host.0.into(), address]);
                self.bytes(content);
            }
            Event::WriteBack { host, span } => {
                self.numbers([5, host.0.into()]);
                self.span(span);
            }
            Event::Flush { host, span } => {
                self.numbers([6, host.0.into()]);
                self.span(span);
            }
            Event::Command { cci, ref message } => {
                self.number(7_u64);
                self.cci(cci);
                self.bytes(message);
            }
            Event::Copy {
                host,
                from,
                to,
                bytes,
            } => {
                self.numbers([9, host.0.into()]);
                self.maybe(from);
                self.maybe(to);
                self.number(bytes);
            }
            Event::ReadCdat { host, of } => {
                self.numbers([10, host.0.into()]);
                match of {
                    Told::Memdev(memdev, ld) => self.numbers([0, memdev.0.into(), ld.0.into()]),
                    Told::Switch(switch) => self.numbers([1, switch.0.into()]),
                }
            }
            Event::Fault(ref fault) => {
                self.number(8_u64);
                self.fault(fault);
            }
        }
    }

    fn effect(&mut self, effect: &Effect) {
        match *effect {
            Effect::Done => self.number(1_u64),
            Effect::Answer(ref bytes) => {
                self.number(2_u64);
                self.bytes(bytes);
            }
            Effect::Dropped => self.number(3_u64),
            Effect::Loaded {
                ref content,
                is_hit,
                took,
            } => {
                self.numbers([4, is_hit.into(), took.get()]);
                self.bytes(content);
            }
            Effect::Written { took } => self.numbers([5, took.get()]),
            Effect::Failed(why) => self.numbers([6, error(why)]),
            Effect::Lost { host, address, why } => {
                self.numbers([7, host.0.into(), address, error(why)]);
            }
            Effect::LostLines { host, lines } => self.numbers([8, host.0.into(), lines as u64]),
            Effect::Late {
                cci,
                number,
                ref answer,
            } => {
                self.numbers([9, number]);
                self.cci(cci);
                self.bytes(answer);
            }
            Effect::Struck { at, ref fault } => {
                self.numbers([10, at.get()]);
                self.fault(fault);
            }
            Effect::Copying { copy } => self.numbers([12, copy]),
            Effect::Copied { copy, took } => self.numbers([13, copy, took.get()]),
            Effect::CopyFailed { copy, why } => self.numbers([14, copy, error(why)]),
            Effect::Cdat(ref bytes) => {
                self.number(15_u64);
                self.bytes(bytes);
            }
            Effect::Deferred { due, number } => self.numbers([11, due.get(), number]),
        }
    }
}

const fn error(error: AccessError) -> u64 {
    match error {
        AccessError::Dead => 1,
        AccessError::Alive => 2,
        AccessError::BadRange => 3,
        AccessError::Incoherent => 4,
        AccessError::Unmapped => 5,
        AccessError::Unreachable => 6,
        AccessError::NoMemory => 7,
        AccessError::ReadOnly => 8,
        AccessError::Poisoned => 9,
        AccessError::TimedOut => 10,
        AccessError::Viral => 11,
        AccessError::NotSo => 12,
        AccessError::NoAddresses => 13,
        AccessError::TooMany => 14,
        AccessError::NoRoom => 15,
        AccessError::TooLong => 16,
    }
}
