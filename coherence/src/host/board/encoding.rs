//! Messages and records as words. Whatever is no message or record that a correct host writes is
//! refused.
//!
//! ```text
//! a message   word 1  bit 63..32 extent   31..24 detail   23..16 right   15..8 slot   7..0 kind
//!             word 2  era
//!             3..6    what the kind has, in the order of its fields; 0 beyond that
//! an extent   word 1  bit 63..32 slots of holders   7..0 kind
//!             2, 3    epoch, version
//!             4..     of each slot the ticket of its grant; of a lost one the last good version
//! a host      1..3    era, boot, standing
//! the term    word 1
//! ```

use std::collections::BTreeMap;

use super::BLOCK_WORDS;
use crate::host::message::{Ask, Denial, Outcome, Right, Tell, ToHome, ToPeer};
use crate::host::row::{Row, Standing, State};

/// Words of a message: those of a line but for number and seal.
pub(super) type Words = [u64; 6];

/// Either kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    ToHome(ToHome),
    ToPeer(ToPeer),
}

/// The parts of the first word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Head {
    kind: u8,
    slot: u8,
    right: u8,
    detail: u8,
    extent: u32,
}

impl Head {
    fn word(self) -> u64 {
        let [a, b, c, d] = self.extent.to_le_bytes();
        let bytes = [self.kind, self.slot, self.right, self.detail, a, b, c, d];
        u64::from_le_bytes(bytes)
    }

    fn of(word: u64) -> Self {
        let [kind, slot, right, detail, a, b, c, d] = word.to_le_bytes();
        Self {
            kind,
            slot,
            right,
            detail,
            extent: u32::from_le_bytes([a, b, c, d]),
        }
    }
}

const fn right(number: u8) -> Option<Right> {
    match number {
        0 => Some(Right::Nothing),
        1 => Some(Right::Shared),
        2 => Some(Right::Exclusive),
        _ => None,
    }
}

const fn outcome(number: u8, version: u64) -> Option<Outcome> {
    match number {
        0 if version == 0 => Some(Outcome::Unused),
        1 => Some(Outcome::Wrote { version }),
        2 => Some(Outcome::Torn { version }),
        _ => None,
    }
}

const fn outcome_words(outcome: Outcome) -> (u8, u64) {
    match outcome {
        Outcome::Unused => (0, 0),
        Outcome::Wrote { version } => (1, version),
        Outcome::Torn { version } => (2, version),
    }
}

fn denial(number: u8, word: u64) -> Option<Denial> {
    let plain = |why| (word == 0).then_some(why);
    match number {
        0 => Some(Denial::Unavailable {
            holder: u8::try_from(word).ok()?,
        }),
        1 => Some(Denial::Lost { last_good: word }),
        2 => plain(Denial::Withdrawn),
        3 => plain(Denial::Busy),
        4 => plain(Denial::UnknownExtent),
        5 => plain(Denial::NotMember),
        _ => None,
    }
}

fn denial_words(why: Denial) -> (u8, u64) {
    match why {
        Denial::Unavailable { holder } => (0, u64::from(holder)),
        Denial::Lost { last_good } => (1, last_good),
        Denial::Withdrawn => (2, 0),
        Denial::Busy => (3, 0),
        Denial::UnknownExtent => (4, 0),
        Denial::NotMember => (5, 0),
    }
}

/// The words of a message.
pub(super) fn encode(message: Message) -> Words {
    let ((mut head, rest), slot, era) = match message {
        Message::ToHome(ToHome { from, era, ask }) => (encode_ask(ask), from, era),
        Message::ToPeer(ToPeer { to, era, tell }) => (encode_tell(tell), to, era),
    };
    head.slot = slot;
    let [a, b, c, d] = rest;
    [head.word(), era, a, b, c, d]
}

fn encode_ask(ask: Ask) -> (Head, [u64; 4]) {
    let mut head = Head::default();
    let rest = match ask {
        Ask::Join { boot } => {
            head.kind = 1;
            [boot, 0, 0, 0]
        }
        Ask::Request {
            extent,
            ticket,
            right,
            floor,
        } => {
            (head.kind, head.extent, head.right) = (2, extent, right as u8);
            [ticket, floor, 0, 0]
        }
        Ask::Release {
            extent,
            ticket,
            epoch,
            keep,
            outcome,
            floor,
        } => {
            let (detail, version) = outcome_words(outcome);
            (head.kind, head.extent, head.right) = (3, extent, keep as u8);
            head.detail = detail;
            [ticket, epoch, version, floor]
        }
        Ask::Announce {
            extent,
            ticket,
            right,
            epoch,
        } => {
            (head.kind, head.extent, head.right) = (4, extent, right as u8);
            [ticket, epoch, 0, 0]
        }
        Ask::Announced { term } => {
            head.kind = 5;
            [term, 0, 0, 0]
        }
    };
    (head, rest)
}

fn encode_tell(tell: Tell) -> (Head, [u64; 4]) {
    let mut head = Head::default();
    let (kind, rest) = match tell {
        Tell::Welcome { boot } => (16, [boot, 0, 0, 0]),
        Tell::NotFenced { boot } => (17, [boot, 0, 0, 0]),
        Tell::Behind { boot, latest } => (18, [boot, latest, 0, 0]),
        Tell::Grant {
            extent,
            ticket,
            right,
            epoch,
            version,
        } => {
            (head.extent, head.right) = (extent, right as u8);
            (19, [ticket, epoch, version, 0])
        }
        Tell::Refuse {
            extent,
            ticket,
            why,
        } => {
            let (detail, word) = denial_words(why);
            (head.extent, head.detail) = (extent, detail);
            (20, [ticket, word, 0, 0])
        }
        Tell::Recall { extent, ticket, to } => {
            (head.extent, head.right) = (extent, to as u8);
            (21, [ticket, 0, 0, 0])
        }
        Tell::Released {
            extent,
            ticket,
            keep,
        } => {
            (head.extent, head.right) = (extent, keep as u8);
            (22, [ticket, 0, 0, 0])
        }
        Tell::Void { extent, ticket } => {
            head.extent = extent;
            (23, [ticket, 0, 0, 0])
        }
        Tell::Hello { term } => (24, [term, 0, 0, 0]),
        Tell::Dead => (25, [0; 4]),
    };
    head.kind = kind;
    (head, rest)
}

/// The message that these words are; none where they are no message, or one that would be written
/// in other words.
pub(super) fn decode(words: Words) -> Option<Message> {
    let [head, era, rest @ ..] = words;
    let head = Head::of(head);
    let message = if head.kind < 16 {
        let (from, ask) = (head.slot, decode_ask(head, rest)?);
        Message::ToHome(ToHome { from, era, ask })
    } else {
        let (to, tell) = (head.slot, decode_tell(head, rest)?);
        Message::ToPeer(ToPeer { to, era, tell })
    };
    (encode(message) == words).then_some(message)
}

fn decode_ask(head: Head, [a, b, c, d]: [u64; 4]) -> Option<Ask> {
    let extent = head.extent;
    Some(match head.kind {
        1 => Ask::Join { boot: a },
        2 => Ask::Request {
            extent,
            ticket: a,
            right: right(head.right)?,
            floor: b,
        },
        3 => Ask::Release {
            extent,
            ticket: a,
            epoch: b,
            keep: right(head.right)?,
            outcome: outcome(head.detail, c)?,
            floor: d,
        },
        4 => Ask::Announce {
            extent,
            ticket: a,
            right: right(head.right)?,
            epoch: b,
        },
        5 => Ask::Announced { term: a },
        _ => return None,
    })
}

fn decode_tell(head: Head, [a, b, c, _]: [u64; 4]) -> Option<Tell> {
    let (extent, ticket) = (head.extent, a);
    Some(match head.kind {
        16 => Tell::Welcome { boot: a },
        17 => Tell::NotFenced { boot: a },
        18 => Tell::Behind { boot: a, latest: b },
        19 => Tell::Grant {
            extent,
            ticket,
            right: right(head.right)?,
            epoch: b,
            version: c,
        },
        20 => Tell::Refuse {
            extent,
            ticket,
            why: denial(head.detail, b)?,
        },
        21 => Tell::Recall {
            extent,
            ticket,
            to: right(head.right)?,
        },
        22 => Tell::Released {
            extent,
            ticket,
            keep: right(head.right)?,
        },
        23 => Tell::Void { extent, ticket },
        24 => Tell::Hello { term: a },
        25 => Tell::Dead,
        _ => return None,
    })
}

/// The first word of what an extent's row says of tickets.
const TICKETS: usize = 4;

/// The words of an extent's row.
pub(super) fn encode_row(row: &Row) -> [u64; BLOCK_WORDS] {
    let mut words = [0; BLOCK_WORDS];
    let mut holders = 0_u32;
    let mut holds = |words: &mut [u64; BLOCK_WORDS], slot: u8, ticket: u64| {
        holders |= 1 << (slot % 32);
        words[TICKETS + usize::from(slot % 32)] = ticket;
    };
    let kind: u8 = match &row.state {
        State::Free => 1,
        State::Shared(tickets) => {
            for (slot, ticket) in tickets {
                holds(&mut words, *slot, *ticket);
            }
            2
        }
        State::Owned { slot, ticket } => {
            holds(&mut words, *slot, *ticket);
            3
        }
        State::Lost { last_good } => {
            words[TICKETS] = *last_good;
            4
        }
        State::Withdrawn => 5,
    };
    words[1] = u64::from(holders) << 32 | u64::from(kind);
    (words[2], words[3]) = (row.epoch, row.version);
    words
}

/// The extent's row that these words are, on a board of so many hosts.
pub(super) fn decode_row(words: &[u64; BLOCK_WORDS], hosts: u8) -> Option<Row> {
    let holders = words[1] >> 32;
    let tickets: BTreeMap<u8, u64> = (0..hosts)
        .filter(|slot| holders >> slot & 1 == 1)
        .map(|slot| (slot, words[TICKETS + usize::from(slot)]))
        .collect();
    let state = match words[1] & 0xffff_ffff {
        1 => State::Free,
        2 => State::Shared(tickets),
        3 => {
            let (slot, ticket) = tickets.into_iter().next()?;
            State::Owned { slot, ticket }
        }
        4 => State::Lost {
            last_good: words[TICKETS],
        },
        5 => State::Withdrawn,
        _ => return None,
    };
    let row = Row {
        epoch: words[2],
        version: words[3],
        state,
    };
    // The first word and those of the tickets; number and seal were looked at.
    let end = TICKETS + usize::from(hosts);
    (encode_row(&row)[1..end] == words[1..end]).then_some(row)
}

/// How a host stands, by its number in a row.
pub(super) const fn standing(number: u64) -> Option<Standing> {
    match number {
        1 => Some(Standing::Member),
        2 => Some(Standing::Condemned),
        3 => Some(Standing::Fenced),
        _ => None,
    }
}
