//! Commands: who answers which, and what.
//!
//! A command comes as a message to one of three kinds of interfaces. A host has a *mailbox* at
//! each logical device that it reaches. A manager has an interface at each switch, and one at each
//! memory device, for what its heads and logical devices share (the LD pool of the specification).
//! A tunnel leads on from a switch to a memory device, and from there to a logical device.
//!
//! # Protocol
//! 1. What is no message, or no request, is dropped: there is nobody to answer to.
//! 2. What the interface does not do is Unsupported, whatever its payload.
//! 3. Then the payload is read, then the command is done or refused. What is refused changes
//!    nothing.
//! 4. An answer is as long as the interface was told that answers may be, at most: lists are cut,
//!    and what follows is asked for by the next command. What cannot be cut is Invalid Payload
//!    Length then.
//! 5. A command that goes on in the background is one at a time, at each interface.
//!
//! # Files
//! [`component`]: time, limits and what goes on in the background. [`generic`]: what all answer.
//! [`events`]: logs. [`mailbox`]: a host and its logical device. [`capacity`]: dynamic capacity.
//! [`memdev`]: what logical devices and heads there are. [`switch`]: ports and bridges.

use serde::{Deserialize, Serialize};

use super::Fabric;
use super::event::Effect;
use super::fault::Glitch;
use super::time::Direction;
use crate::cci::{Category, List, Message, Opcode, Request, Response, ReturnCode};
use crate::id::{HostId, LdId, MemdevId, SwitchId};
use crate::memdev::Memdev;
use crate::timing::Picos;
use crate::topology::MemdevKind;

mod capacity;
mod component;
mod events;
mod generic;
mod mailbox;
mod memdev;
mod switch;
#[cfg(test)]
mod tests;

pub(super) use component::{Component, Timer};

/// An interface that takes commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Cci {
    /// That of a host at a logical device.
    Mailbox {
        /// Which host.
        host: HostId,
        /// The device.
        memdev: MemdevId,
        /// The logical device.
        ld: LdId,
    },
    /// That of a manager at a switch.
    Switch(SwitchId),
    /// That of a manager at a memory device.
    Memdev(MemdevId),
}

impl Cci {
    /// Whether it is one of a host.
    pub(super) fn is_of_host(self, of: HostId) -> bool {
        matches!(self, Self::Mailbox { host, .. } if host == of)
    }

    /// Whether it is one of a memory device.
    pub(super) fn is_of_memdev(self, of: MemdevId) -> bool {
        matches!(self, Self::Mailbox { memdev, .. } | Self::Memdev(memdev) if memdev == of)
    }
}

/// Late answers that an interface keeps; one more is lost.
const MOST_LATE: usize = 64;

/// A logical device of a memory device.
type Logical = (MemdevId, LdId);

/// What became of a command that was not refused.
#[derive(Debug)]
enum Done {
    /// It is done, and this is the answer.
    Now(Response),
    /// It goes on in the background.
    Begun,
}

type Answer = Result<Done, ReturnCode>;

impl From<Response> for Done {
    fn from(response: Response) -> Self {
        Self::Now(response)
    }
}

impl Fabric {
    /// A message comes in at an interface.
    pub(super) fn command(&mut self, cci: Cci, bytes: &[u8], effects: &mut Vec<Effect>) {
        match Message::decode(bytes) {
            Ok(message) if message.category == Category::Request && self.has_way_to(cci) => {
                self.hear(cci, &message, effects);
            }
            _ => effects.push(Effect::Dropped),
        }
    }

    /// A request comes in, or something is wrong with it.
    fn hear(&mut self, cci: Cci, request: &Message, effects: &mut Vec<Effect>) {
        let glitch = self.glitch(cci);
        let refused = match glitch {
            Some(Glitch::NotHeard) => return effects.push(Effect::Dropped),
            Some(Glitch::Busy) => Some(ReturnCode::Busy),
            Some(Glitch::RetryRequired) => Some(ReturnCode::RetryRequired),
            _ => None,
        };
        let mut answer = match refused {
            Some(code) => refusal(request, code).encode(),
            None => self.answer(cci, request, usize::MAX).encode(),
        };
        match glitch {
            Some(Glitch::AnswerLost) => return effects.push(Effect::Dropped),
            Some(Glitch::AnsweredTwice) => effects.push(Effect::Answer(answer.clone())),
            Some(Glitch::AnsweredLate(later)) => {
                return effects.push(self.defer(cci, later, answer));
            }
            Some(Glitch::AnswerCut(bytes)) => answer.truncate(bytes.into()),
            _ => {}
        }
        effects.push(if self.is_heard(cci) {
            Effect::Answer(answer)
        } else {
            Effect::Dropped
        });
    }

    /// Has an answer come later.
    fn defer(&mut self, cci: Cci, later: Picos, answer: Vec<u8>) -> Effect {
        let is_one = |timer: &&Timer| matches!(timer, Timer::Answer(at, _) if *at == cci);
        if self.timers.values().filter(is_one).count() >= MOST_LATE {
            return Effect::Dropped;
        }
        let due = self.now.saturating_add(later);
        let (due, number) = self.at(due, Timer::Answer(cci, answer));
        Effect::Deferred { due, number }
    }

    /// Whether an answer that was deferred is still to come.
    #[must_use]
    pub fn is_to_come(&self, due: Picos, number: u64) -> bool {
        self.timers.contains_key(&(due, number))
    }

    /// Whether a late answer of an interface gets through to who asked.
    pub(super) fn is_heard_late(&self, cci: Cci) -> bool {
        match cci {
            Cci::Mailbox { host, memdev, ld } => {
                self.is_alive(host) && self.reaches(host, memdev, ld) && self.is_heard(cci)
            }
            Cci::Switch(_) | Cci::Memdev(_) => true,
        }
    }

    /// Whether what an interface answers gets through to who asked.
    fn is_heard(&self, cci: Cci) -> bool {
        match cci {
            Cci::Mailbox { host, memdev, ld } => {
                let way = self
                    .reached
                    .get(host.index())
                    .and_then(|it| it.get(&(memdev, ld)));
                way.is_none_or(|way| !self.times.is_blocked(way, Direction::Up))
            }
            Cci::Switch(_) | Cci::Memdev(_) => true,
        }
    }

    fn has_way_to(&self, cci: Cci) -> bool {
        match cci {
            Cci::Mailbox { host, memdev, ld } => {
                let is_alive = self
                    .hosts
                    .get(host.index())
                    .is_some_and(|host| host.is_alive);
                let way = self
                    .reached
                    .get(host.index())
                    .and_then(|it| it.get(&(memdev, ld)));
                is_alive && way.is_some_and(|way| !self.times.is_blocked(way, Direction::Down))
            }
            Cci::Switch(switch) => switch.index() < self.switches.len(),
            Cci::Memdev(memdev) => self.gone.get(memdev.index()) == Some(&false),
        }
    }

    /// The answer to a request, as a message with a payload of `most` bytes at most.
    fn answer(&mut self, cci: Cci, request: &Message, most: usize) -> Message {
        let room = self.room_for_answer(cci).min(most);
        let mut answer = refusal(request, ReturnCode::Success);
        match self.execute(cci, request, room) {
            Ok(Done::Begun) => {
                answer.background = true;
                answer.return_code = ReturnCode::BackgroundCommandStarted;
            }
            Ok(Done::Now(response)) => {
                let (_, payload) = response.encode();
                // What can be cut was cut.
                let fits = payload.len() <= room;
                match List::try_from(payload) {
                    Ok(payload) if fits => answer.payload = payload,
                    _ => answer.return_code = ReturnCode::InvalidPayloadLength,
                }
            }
            Err(code) => answer.return_code = code,
        }
        answer
    }

    fn execute(&mut self, cci: Cci, message: &Message, room: usize) -> Answer {
        let opcode = Opcode::of(message.opcode).ok_or(ReturnCode::Unsupported)?;
        if !self.supports(cci, opcode) {
            return Err(ReturnCode::Unsupported);
        }
        let request = Request::decode(message.opcode, &message.payload)?;
        match cci {
            _ if generic::is_generic(opcode) => self.generic(cci, &request),
            Cci::Mailbox { memdev, ld, .. } => self.mailbox(cci, (memdev, ld), &request, room),
            Cci::Switch(switch) => self.switch_command((cci, switch), request),
            Cci::Memdev(memdev) => self.memdev_command((cci, memdev), request, room),
        }
    }

    /// How long the payload of an answer may be.
    fn room_for_answer(&self, cci: Cci) -> usize {
        let limit = self.component(cci).limit;
        (1_usize << limit).saturating_sub(Message::HEADER_BYTES)
    }

    /// Which commands an interface does.
    fn supports(&self, cci: Cci, opcode: Opcode) -> bool {
        let (Cci::Memdev(memdev), 0x5500 | 0x5501) = (cci, opcode.number()) else {
            return is_of_kind(cci, opcode);
        };
        let kind = self.memdev(memdev).map(Memdev::kind);
        matches!(kind, Some(MemdevKind::MultiHeaded(_)))
    }

    /// The commands that an interface does.
    fn supported(&self, cci: Cci) -> impl Iterator<Item = Opcode> {
        Opcode::ALL
            .iter()
            .copied()
            .filter(move |&opcode| self.supports(cci, opcode))
    }
}

/// An answer without anything in it but a code.
const fn refusal(request: &Message, return_code: ReturnCode) -> Message {
    Message {
        category: Category::Response,
        tag: request.tag,
        opcode: request.opcode,
        background: false,
        return_code,
        vendor_status: 0,
        payload: List::new(),
    }
}

/// Which commands interfaces of a kind do.
fn is_of_kind(cci: Cci, opcode: Opcode) -> bool {
    let number = opcode.number();
    let set = number >> 8;
    generic::is_generic(opcode)
        || match cci {
            Cci::Mailbox { .. } => matches!(set, 0x01 | 0x40..=0x48),
            Cci::Switch(_) => matches!(set, 0x51 | 0x52) || number == 0x5300,
            Cci::Memdev(_) => {
                // Allocations are what the topology says: 5402h would change them.
                matches!(number, 0x0100 | 0x0101 | 0x5300 | 0x5400 | 0x5401)
                    || matches!(set, 0x55 | 0x56)
            }
        }
}

/// Those of `all` from place `first` on, `most` at most.
fn part<T: Clone>(all: &[T], first: usize, most: usize) -> Vec<T> {
    all.iter().skip(first).take(most).cloned().collect()
}

/// A list that fits, by what its caller has cut it to.
fn list<T, const MAX: usize>(all: Vec<T>) -> Result<List<T, MAX>, ReturnCode> {
    List::try_from(all).map_err(|_| ReturnCode::InternalError)
}

/// A number that a field has room for; the most that it has where there is more.
fn cut<N: TryFrom<usize>>(number: usize, most: N) -> N {
    N::try_from(number).unwrap_or(most)
}

/// Time of the fabric in whole nanoseconds.
const fn nanos(time: Picos) -> u64 {
    time.get() / 1_000
}
