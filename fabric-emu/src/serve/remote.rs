//! A client of one socket for commands: what a fabric manager or a host asks.

use std::path::Path;

use nix::errno::Errno;
use pool_core::Nanos;
use pool_core::clock::{Backoff, Deadline};

use super::client::{ConnectError, Lost, Messages};
use crate::cci::generic::Empty;
use crate::cci::{Category, Malformed, Message, MessageError, Request, Response, ReturnCode};

/// A command has no answer with something in it. Only after [`AskError::Refused`],
/// [`AskError::Begun`] and [`AskError::TooLong`] can the connection be used again.
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
    /// The answer did not come in time, and the command may have been done. Connect anew, and look.
    #[error("no answer came in time: the command may have been done")]
    TimedOut,
    /// What came is no answer to the command. Connect anew; do not rely on it.
    #[error("the answer is none: {0}")]
    Malformed(WrongAnswer),
    /// The command's list is longer than a message can be: send it in parts. Nothing was sent.
    #[error("the command is longer than a message can be")]
    TooLong,
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
    /// Whether an answer was missed: what comes next answers something else.
    is_out_of_step: bool,
}

impl Remote {
    /// Connects to a socket for commands.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect(path: &Path) -> Result<Self, ConnectError> {
        Ok(Self {
            messages: Messages::connect(path, Deadline::after(PATIENCE))?,
            patience: PATIENCE,
            tag: 0,
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
        self.tag = self.tag.wrapping_add(1);
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

    /// Sends the bytes of a message as they are, and receives those of its answer.
    ///
    /// # Errors
    /// [`AskError`], none of which says how the command ended.
    pub fn exchange(&mut self, message: &[u8]) -> Result<Vec<u8>, AskError> {
        if self.is_out_of_step {
            return Err(AskError::Dropped);
        }
        let deadline = Deadline::after(self.patience);
        let form = (Message::length, ANSWER_BYTES_MAX);
        let answer = self.messages.exchange(message, form, deadline);
        answer.map_err(|lost| {
            self.is_out_of_step = true;
            match lost {
                Lost::Closed => AskError::Dropped,
                Lost::TimedOut => AskError::TimedOut,
                Lost::TooLong => AskError::Malformed(WrongAnswer::Long),
                Lost::Os(errno) => AskError::Os(errno),
            }
        })
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
