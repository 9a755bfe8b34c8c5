//! Commands that one component passes on to another.
//!
//! 5300h. Compared with the tables as published, with libcxlmi and with QEMU, which agree. The
//! fmapi library of Jackrabbit Labs puts a byte for the kind of transport before the message, which
//! none of them has; it is not read here.

use super::bytes::Malformed;
use super::layout::{codes, listed};
use super::message::{Category, Message, MessageError};

codes! {
    /// How a tunnel ends.
    TunnelTarget: u8 {
        /// At the port of a switch, or at a logical device of a memory device.
        0 PortOrLd,
        /// At what all heads of a memory device share.
        1 LdPool,
    }
}

listed! {
    /// A command to be passed on (5300h).
    TunnelRequest = 0x04 {
        /// The port, for a switch; the logical device, for a memory device.
        0x00 port_or_ld_id: u8,
        /// Which of the two, or neither.
        0x01 target_type: TunnelTarget,
    } then {
        /// The command, as a whole message. It may be a tunnel again.
        command: [u8; 0xffff], u16 at 0x02
    } check holds_request
}

listed! {
    /// What came back (5300h).
    TunnelResponse = 0x04 {
    } then {
        /// The answer, as a whole message.
        response: [u8; 0xffff], u16 at 0x00
    } check holds_response
}

fn holds_request(tunnel: &TunnelRequest) -> Result<(), Malformed> {
    holds(&tunnel.command, Category::Request)
}

fn holds_response(tunnel: &TunnelResponse) -> Result<(), Malformed> {
    holds(&tunnel.response, Category::Response)
}

/// One layer is looked at, so that no depth of tunnels can exhaust the stack.
fn holds(bytes: &[u8], category: Category) -> Result<(), Malformed> {
    match Message::decode(bytes) {
        Ok(message) if message.category == category => Ok(()),
        Err(MessageError::Short { .. } | MessageError::Length { .. }) => Err(Malformed::Length),
        _ => Err(Malformed::Value),
    }
}
