//! A row of the table, and how it is written: a payload that is accepted, what is changed in it,
//! and what is answered then.

use std::fmt;

use fabric_emu::cci::tunnel::{TunnelRequest, TunnelTarget};
use fabric_emu::cci::{Category, Message, Request, ReturnCode};
use fabric_emu::fabric::Cci;

use super::rig::Situation;

/// How long the header of a message is.
const HEADER: usize = 12;

/// How an interface answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// With this code, and without a payload unless that is Success.
    Code(ReturnCode),
    /// Not at all.
    Dropped,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "{code:?}"),
            Self::Dropped => f.write_str("nothing"),
        }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) situation: Situation,
    pub(crate) cci: Cci,
    pub(crate) message: Vec<u8>,
    /// In how many tunnels the command is, and so its answer.
    pub(crate) layers: usize,
    pub(crate) answer: Answer,
    pub(crate) what: String,
    pub(crate) rule: &'static str,
}

impl Row {
    /// The command that is answered so, by its number.
    pub(crate) fn command(&self) -> String {
        self.what.split(' ').next().unwrap_or_default().to_owned()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            situation,
            cci,
            what,
            answer,
            rule,
            ..
        } = self;
        let layers = "tunnel, ".repeat(self.layers);
        write!(
            f,
            "{situation:?} | {cci:?} | {layers}{what} | {answer} | {rule}"
        )
    }
}

/// Bytes that are put in a payload.
pub(crate) struct Edit(usize, Vec<u8>);

impl Edit {
    /// The same once more.
    pub(crate) fn same(&self) -> Self {
        Self(self.0, self.1.clone())
    }
}

pub(crate) fn b1(at: usize, value: u8) -> Edit {
    Edit(at, vec![value])
}

pub(crate) fn b2(at: usize, value: u16) -> Edit {
    Edit(at, value.to_le_bytes().to_vec())
}

pub(crate) fn b4(at: usize, value: u32) -> Edit {
    Edit(at, value.to_le_bytes().to_vec())
}

pub(crate) fn b8(at: usize, value: u64) -> Edit {
    Edit(at, value.to_le_bytes().to_vec())
}

pub(crate) fn bytes(at: usize, value: &[u8]) -> Edit {
    Edit(at, value.to_vec())
}

/// A command that is accepted, and where it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    situation: Situation,
    cci: Cci,
    /// The ends of the tunnels it is sent through, from the first.
    way: Vec<(u8, TunnelTarget)>,
    opcode: u16,
    payload: Vec<u8>,
}

impl Base {
    pub(crate) fn new(cci: Cci, request: &Request) -> Self {
        let (opcode, payload) = request.encode();
        Self {
            situation: Situation::Rich,
            cci,
            way: Vec::new(),
            opcode,
            payload,
        }
    }

    pub(crate) fn number(&self) -> u16 {
        self.opcode
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The same at another interface.
    pub(crate) fn at(&self, cci: Cci) -> Self {
        Self {
            cci,
            way: Vec::new(),
            ..self.clone()
        }
    }

    /// The same through tunnels.
    pub(crate) fn through(&self, cci: Cci, way: &[(u8, TunnelTarget)]) -> Self {
        Self {
            cci,
            way: way.to_vec(),
            ..self.clone()
        }
    }

    /// The same in another situation.
    pub(crate) fn while_in(&self, situation: Situation) -> Self {
        Self {
            situation,
            ..self.clone()
        }
    }

    /// Another opcode.
    pub(crate) fn opcode(&self, opcode: u16) -> Self {
        Self {
            opcode,
            ..self.clone()
        }
    }

    /// As it is, with what is answered.
    pub(crate) fn whole(&self, answer: Answer, rule: &'static str) -> Row {
        self.row("as it is".to_owned(), self.payload.clone(), answer, rule)
    }

    /// As it is, and refused.
    pub(crate) fn no(&self, code: ReturnCode, rule: &'static str) -> Row {
        self.whole(Answer::Code(code), rule)
    }

    /// With other bytes in some places, and refused.
    pub(crate) fn with(&self, edits: &[Edit], code: ReturnCode, rule: &'static str) -> Row {
        let mut payload = self.payload.clone();
        let mut what = Vec::new();
        for Edit(at, value) in edits {
            let end = at + value.len();
            payload.resize(payload.len().max(end), 0);
            payload[*at..end].copy_from_slice(value);
            what.push(format!("@{at:02x}={}", hex(value)));
        }
        self.row(what.join(" "), payload, Answer::Code(code), rule)
    }

    /// With another payload, and refused.
    pub(crate) fn of(&self, payload: &[u8], code: ReturnCode, rule: &'static str) -> Row {
        self.row(hex(payload), payload.to_vec(), Answer::Code(code), rule)
    }

    /// With a payload of another length, and refused for it.
    pub(crate) fn long(&self, length: usize, rule: &'static str) -> Row {
        let mut payload = self.payload.clone();
        payload.resize(length, 0);
        let what = format!("{length} of {} bytes", self.payload.len());
        self.row(
            what,
            payload,
            Answer::Code(ReturnCode::InvalidPayloadLength),
            rule,
        )
    }

    fn row(&self, what: String, payload: Vec<u8>, answer: Answer, rule: &'static str) -> Row {
        let mut message = message(self.opcode, &payload);
        for &(port_or_ld_id, target_type) in self.way.iter().rev() {
            let command = message.try_into().expect("it fits");
            let tunnel = TunnelRequest {
                port_or_ld_id,
                target_type,
                command,
            };
            let (opcode, payload) = Request::TunnelManagementCommand(tunnel).encode();
            message = self::message(opcode, &payload);
        }
        Row {
            situation: self.situation,
            cci: self.cci,
            message,
            layers: self.way.len(),
            answer,
            what: format!("{:04x} {what}", self.opcode),
            rule,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let shown = bytes.iter().take(64).map(|byte| format!("{byte:02x}"));
    let more = if bytes.len() > 64 { "..." } else { "" };
    shown.collect::<String>() + more
}

/// A command as a message.
pub(crate) fn message(opcode: u16, payload: &[u8]) -> Vec<u8> {
    let message = Message {
        category: Category::Request,
        tag: 7,
        opcode,
        background: false,
        return_code: ReturnCode::Success,
        vendor_status: 0,
        payload: payload.to_vec().try_into().expect("it fits"),
    };
    let bytes = message.encode();
    assert_eq!(bytes.len(), HEADER + payload.len());
    bytes
}
