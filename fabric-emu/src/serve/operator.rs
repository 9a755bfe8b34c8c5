//! A client of the socket for operators: faults, and what there is.

use std::path::Path;

use nix::errno::Errno;
use pool_core::Nanos;
use pool_core::clock::Deadline;

use super::client::{ConnectError, Lost, Messages};
use super::control::{Order, State, Told};
use super::names::Door;
use crate::fabric::Fault;
use crate::timing::Picos;

/// How long is waited for an answer.
const PATIENCE: Nanos = Nanos::from_millis(10_000);
/// The longest answer: what the largest topology that is served can tell, and more.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// An order was not carried out. Only after [`OperatorError::Refused`] can the connection be used
/// again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// The emulator said no, and why. Nothing has changed.
    #[error("refused: {0}")]
    Refused(String),
    /// The emulator ended, or has dropped this connection. Connect anew.
    #[error("the emulator has closed the connection: connect anew")]
    Closed,
    /// No answer came in time. Connect anew, and look what there is.
    #[error("no answer came in time: connect anew, and look what there is")]
    TimedOut,
    /// What came is no answer. Use a client of the emulator's version.
    #[error("what came is no answer: {0}")]
    Malformed(String),
    /// A system call failed. Connect anew.
    #[error("the connection failed: {0}")]
    Os(Errno),
}

/// A connection of an operator.
#[derive(Debug)]
pub struct Operator(Messages);

impl Operator {
    /// Connects to the fabric that is served in a directory.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect(directory: &Path) -> Result<Self, ConnectError> {
        let path = directory.join(Door::Control.to_string());
        let messages = Messages::connect(&path, Deadline::after(PATIENCE))?;
        Ok(Self(messages))
    }

    /// What there is now.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub fn state(&mut self) -> Result<State, OperatorError> {
        match self.ask(Order::State)? {
            Told::State(state) => Ok(state),
            Told::Refused(why) => Err(OperatorError::Refused(why)),
            Told::Done { .. } => Err(OperatorError::Malformed("it is no state".to_owned())),
        }
    }

    /// Has something go wrong, or be well again. How many lines that hosts had written are lost.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub fn fault(&mut self, fault: Fault) -> Result<usize, OperatorError> {
        self.order(Order::Fault(fault))
    }

    /// Has so much time go by, with the faults that are planned by then; in the mode `virtual`. How
    /// many lines that hosts had written are lost.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub fn advance(&mut self, by: Picos) -> Result<usize, OperatorError> {
        self.order(Order::Advance(by))
    }

    fn order(&mut self, order: Order) -> Result<usize, OperatorError> {
        match self.ask(order)? {
            Told::Done { lost_lines } => Ok(lost_lines),
            Told::Refused(why) => Err(OperatorError::Refused(why)),
            Told::State(_) => Err(OperatorError::Malformed("it is a state".to_owned())),
        }
    }

    fn ask(&mut self, order: Order) -> Result<Told, OperatorError> {
        let wrong = |error: serde_json::Error| OperatorError::Malformed(error.to_string());
        let mut line = serde_json::to_vec(&order).map_err(wrong)?;
        line.push(b'\n');
        let whole = |bytes: &[u8]| {
            let end = bytes.iter().position(|&byte| byte == b'\n');
            end.map(|end| end + 1)
        };
        let form = (whole, ANSWER_BYTES_MAX);
        let answer = self.0.exchange(&line, form, Deadline::after(PATIENCE));
        let answer = answer.map_err(|lost| match lost {
            Lost::Closed => OperatorError::Closed,
            Lost::TimedOut => OperatorError::TimedOut,
            Lost::TooLong => OperatorError::Malformed("it has no end".to_owned()),
            Lost::Os(errno) => OperatorError::Os(errno),
        })?;
        serde_json::from_slice(&answer).map_err(wrong)
    }
}
