//! A client of one socket for commands: what a fabric manager or a host asks.
//!
//! # Late answers
//! An answer is known by its tag and opcode. One that did not come in time may come later, behind
//! answers to later commands, and one may come twice: such an answer is counted, and dropped. So
//! that it is never taken for another one:
//! 1. A tag whose answer was missed is not used again before that answer has come.
//! 2. What answers no command of this connection is told as wrong.

use std::collections::BTreeMap;
use std::path::Path;

use nix::errno::Errno;
use pool_core::Nanos;
use pool_core::clock::{Backoff, Deadline};

use super::client::{ConnectError, Lost, Messages};
use crate::cci::generic::Empty;
use crate::cci::{Category, Malformed, Message, MessageError, Request, Response, ReturnCode};

/// A command has no answer with something in it. Only after [`AskError::Refused`],
/// [`AskError::Begun`], [`AskError::TooLong`], [`AskError::TagTaken`] and, where all of the command
/// was sent, [`AskError::TimedOut`] can the connection be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The code says why; nothing has changed.
    #[error("the command was refused: {0:?}")]
    Refused(ReturnCode),
    /// It goes on in the background: [`Remote::finish`] waits for its end.
    #[error("the command goes on in the background")]
    Begun,
    /// The connection was closed instead of an answer: nobody is behind the interface now, or the
    /// emulator ended. Connect anew once something has changed.
    #[error("nobody answers: nothing is bound there, or the emulator is gone")]
    Dropped,
    /// The answer did not come in time, and the command may have been done: look, on this
    /// connection or a new one. The answer is dropped when it comes.
    #[error("no answer came in time: the command may have been done")]
    TimedOut,
    /// What came is no answer to the command. Connect anew; do not rely on it.
    #[error("the answer is none: {0}")]
    Malformed(WrongAnswer),
    /// The command's list is longer than a message can be: send it in parts. Nothing was sent.
    #[error("the command is longer than a message can be")]
    TooLong,
    /// An answer under its tag may come yet. Take another tag; where none is left, connect anew.
    /// Nothing was sent.
    #[error("an answer under the command's tag may come yet: take another one, or connect anew")]
    TagTaken,
    /// A system call failed. Connect anew.
    #[error("the connection failed: {0}")]
    Os(Errno),
}

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrongAnswer {
    /// It is no message.
    #[error(transparent)]
    Message(MessageError),
    /// Its payload is not that of the command's answers.
    #[error(transparent)]
    Payload(Malformed),
    /// It answers something else.
    #[error("it answers another command")]
    Other,
    /// It is longer than it may be.
    #[error("it is longer than an answer may be")]
    Long,
}

/// The longest answer: what the longest payload makes.
const ANSWER_BYTES_MAX: usize = crate::cci::MAX_PAYLOAD + Message::HEADER_BYTES;
/// How long is waited for an answer where nothing else is said.
const PATIENCE: Nanos = Nanos::from_millis(10_000);

/// A connection to one interface.
#[derive(Debug)]
pub struct Remote {
    messages: Messages,
    patience: Nanos,
    tag: u8,
    /// By tag: what was asked last under it, and whether the answer to that has not come.
    asked: BTreeMap<u8, (u16, bool)>,
    dropped: u64,
    /// Whether what comes next is no beginning of a message.
    is_out_of_step: bool,
}

/// Tag and opcode of a message; none where its header is not there.
fn whose(message: &[u8]) -> Option<(u8, u16)> {
    let [_, tag, _, low, high, ..] = *message.first_chunk::<{ Message::HEADER_BYTES }>()?;
    Some((tag, u16::from_le_bytes([low, high])))
}

impl Remote {
    /// Connects to a socket for commands.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect(path: &Path) -> Result<Self, ConnectError> {
        Self::connect_within(path, PATIENCE)
    }

    /// The same, and waits no longer than `patience` to be taken in, and for each answer.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect_within(path: &Path, patience: Nanos) -> Result<Self, ConnectError> {
        Ok(Self {
            messages: Messages::connect(path, Deadline::after(patience))?,
            patience,
            tag: 0,
            asked: BTreeMap::new(),
            dropped: 0,
            is_out_of_step: false,
        })
    }

    /// The same, with another time to wait for each answer.
    #[must_use]
    pub const fn with_patience(mut self, patience: Nanos) -> Self {
        self.patience = patience;
        self
    }

    /// Sends a command, and reads its answer.
    ///
    /// # Errors
    /// [`AskError`].
    pub fn ask(&mut self, request: &Request) -> Result<Response, AskError> {
        self.tag = self.next_tag().ok_or(AskError::TagTaken)?;
        let asked = Message::request(self.tag, request).map_err(|_| AskError::TooLong)?;
        let bytes = self.exchange(&asked.encode())?;
        let answer = self.judge(&asked, &bytes)?;
        match answer.return_code {
            ReturnCode::Success => {
                let response = Response::decode_for(request, &answer.payload);
                response.map_err(|error| self.wrong(WrongAnswer::Payload(error)))
            }
            ReturnCode::BackgroundCommandStarted => Err(AskError::Begun),
            code => Err(AskError::Refused(code)),
        }
    }

    /// How many answers came that nobody waited for any more: late, or twice.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The next tag under which no answer may come yet.
    fn next_tag(&self) -> Option<u8> {
        let tags = (1..=u8::MAX).chain([0]);
        let mut tags = tags.map(|step| self.tag.wrapping_add(step));
        tags.find(|tag| !self.is_missed(*tag))
    }

    fn is_missed(&self, tag: u8) -> bool {
        self.asked
            .get(&tag)
            .is_some_and(|&(_, is_missed)| is_missed)
    }

    /// Sends the bytes of a message as they are, and receives those of its answer. Two messages
    /// one after the other have other tags, or an answer that comes twice is taken for the second.
    ///
    /// # Errors
    /// [`AskError`], none of which says how the command ended.
    pub fn exchange(&mut self, message: &[u8]) -> Result<Vec<u8>, AskError> {
        if self.is_out_of_step {
            return Err(AskError::Dropped);
        }
        let deadline = Deadline::after(self.patience);
        let asked = whose(message);
        if let Some((tag, opcode)) = asked {
            if self.is_missed(tag) {
                return Err(AskError::TagTaken);
            }
            self.asked.insert(tag, (opcode, true));
        }
        let sent = self.messages.send(message, deadline);
        sent.map_err(|lost| self.lost(lost, true))?;
        loop {
            let next = self
                .messages
                .next((Message::length, ANSWER_BYTES_MAX), deadline);
            let answer = next.map_err(|lost| self.lost(lost, asked.is_none()))?;
            let of = whose(&answer);
            if of == asked || asked.is_none() || !self.takes(of) {
                self.takes(asked);
                return Ok(answer);
            }
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// Notes that an answer has come; whether it is one to a command of this connection.
    fn takes(&mut self, of: Option<(u8, u16)>) -> bool {
        let Some((tag, opcode)) = of else {
            return false;
        };
        match self.asked.get_mut(&tag) {
            Some((asked, is_missed)) if *asked == opcode => {
                *is_missed = false;
                true
            }
            _ => false,
        }
    }

    fn lost(&mut self, lost: Lost, is_cut: bool) -> AskError {
        self.is_out_of_step |= is_cut || lost != Lost::TimedOut;
        match lost {
            Lost::Closed => AskError::Dropped,
            Lost::TimedOut => AskError::TimedOut,
            Lost::TooLong => AskError::Malformed(WrongAnswer::Long),
            Lost::Os(errno) => AskError::Os(errno),
        }
    }

    /// Waits until what was begun in the background is over, by asking for its status. How it
    /// ended.
    ///
    /// # Errors
    /// [`AskError::TimedOut`] where it goes on at the deadline: the connection is as before. The
    /// others are those of [`Remote::ask`].
    pub fn finish(&mut self, deadline: Deadline) -> Result<ReturnCode, AskError> {
        let mut backoff = Backoff::new(Nanos::new(50_000), Nanos::from_millis(5));
        loop {
            let is_last = deadline.expired();
            let status = self.ask(&Request::BackgroundOperationStatus(Empty))?;
            let Response::BackgroundOperationStatus(status) = status else {
                return Err(self.wrong(WrongAnswer::Other));
            };
            if status.status & 1 == 0 {
                return Ok(status.return_code);
            }
            if is_last || !backoff.pause(deadline) {
                return Err(AskError::TimedOut);
            }
        }
    }

    fn judge(&mut self, asked: &Message, bytes: &[u8]) -> Result<Message, AskError> {
        let answer = Message::decode(bytes);
        let answer = answer.map_err(|error| self.wrong(WrongAnswer::Message(error)))?;
        let is_its = answer.category == Category::Response
            && (answer.tag, answer.opcode) == (asked.tag, asked.opcode);
        if is_its {
            Ok(answer)
        } else {
            Err(self.wrong(WrongAnswer::Other))
        }
    }

    fn wrong(&mut self, why: WrongAnswer) -> AskError {
        self.is_out_of_step = true;
        AskError::Malformed(why)
    }
}
