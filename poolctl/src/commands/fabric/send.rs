//! `poolctl fabric send`: one command and its answer, as bytes.

use std::fmt::Write as _;

use fabric_emu::cci::{Category, Message, ReturnCode};
use fabric_emu::serve::{AskError, Remote, WrongAnswer};
use serde::Serialize;

use crate::Verdict;
use crate::cli::Send;
use crate::error::CtlError;
use crate::output::Output;

/// What was answered.
#[derive(Debug, Serialize)]
struct Answer {
    return_code: u16,
    name: String,
    background: bool,
    payload: String,
}

impl Answer {
    fn text(&self) -> String {
        let head = format!("{:04x}h {}\n", self.return_code, self.name);
        if self.payload.is_empty() {
            return head;
        }
        format!("{head}{}\n", self.payload)
    }
}

pub(super) fn run(send: &Send, output: &mut Output) -> Result<Verdict, CtlError> {
    let payload = send.payload.0.clone();
    let message = Message {
        category: Category::Request,
        tag: 1,
        opcode: send.opcode,
        background: false,
        return_code: ReturnCode::Success,
        vendor_status: 0,
        payload: payload.try_into().map_err(|_| AskError::TooLong)?,
    };
    let answer = Remote::connect(&send.socket)?.exchange(&message.encode())?;
    let answer = Message::decode(&answer)
        .map_err(|error| AskError::Malformed(WrongAnswer::Message(error)))?;
    let code = answer.return_code;
    let told = Answer {
        return_code: code.number(),
        name: format!("{code:?}"),
        background: answer.background,
        payload: hex(&answer.payload),
    };
    output.show(&told, Answer::text)?;
    let is_done = matches!(
        code,
        ReturnCode::Success | ReturnCode::BackgroundCommandStarted
    );
    Ok(if is_done { Verdict::Yes } else { Verdict::No })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A text takes whatever is written.
        let _written = write!(text, "{byte:02x}");
        text
    })
}
