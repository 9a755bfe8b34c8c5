//! The message around a payload.

use fabric_emu::cci::{Category, Message, MessageError, ReturnCode};

use crate::{hex, list};

const ANSWER: &str = "
    01
    2a
    00
    0152
    0300 80
    0100
    cdab
    010203";

fn answer() -> Message {
    Message {
        category: Category::Response,
        tag: 0x2a,
        opcode: 0x5201,
        background: true,
        return_code: ReturnCode::BackgroundCommandStarted,
        vendor_status: 0xabcd,
        payload: list(vec![1, 2, 3]),
    }
}

#[test]
fn a_message_is_its_header_and_its_payload() {
    let bytes = hex(ANSWER);
    assert_eq!(Message::decode(&bytes), Ok(answer()));
    assert_eq!(answer().encode(), bytes);
    assert_eq!(Message::length(&bytes), Some(15));
    assert_eq!(Message::length(&bytes[..7]), None);
}

#[test]
fn a_request_has_category_0() {
    let message = Message {
        category: Category::Request,
        background: false,
        return_code: ReturnCode::Success,
        vendor_status: 0,
        ..answer()
    };
    assert_eq!(
        message.encode(),
        hex("00 2a 00 0152 030000 0000 0000 010203")
    );
}

#[test]
fn the_length_has_21_bits() {
    let message = Message {
        payload: list(vec![0; 0x1f_ffff]),
        ..answer()
    };
    let bytes = message.encode();
    assert_eq!(bytes[5..8], [0xff, 0xff, 0x9f]);
    assert_eq!(Message::decode(&bytes), Ok(message));
}

#[test]
fn a_message_that_was_cut_is_told_from_one_that_never_was() {
    let bytes = hex(ANSWER);
    for have in 0..12 {
        assert_eq!(
            Message::decode(&bytes[..have]),
            Err(MessageError::Short { have })
        );
    }
    for have in 0..3 {
        let cut = Message::decode(&bytes[..12 + have]);
        assert_eq!(cut, Err(MessageError::Length { said: 3, have }));
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(
        Message::decode(&longer),
        Err(MessageError::Length { said: 3, have: 4 })
    );
}

#[test]
fn what_is_reserved_in_a_header_is_refused() {
    for (place, bit) in [(0, 0x10), (0, 0x80), (2, 0x01), (7, 0x20), (7, 0x40)] {
        let mut bytes = hex(ANSWER);
        bytes[place] |= bit;
        assert_eq!(
            Message::decode(&bytes),
            Err(MessageError::Reserved),
            "{place} {bit:#x}"
        );
    }
    let mut bytes = hex(ANSWER);
    bytes[0] = 2;
    assert_eq!(Message::decode(&bytes), Err(MessageError::Category(2)));
    bytes[0] = 1;
    bytes[8] = 0x21;
    assert_eq!(Message::decode(&bytes), Err(MessageError::ReturnCode(0x21)));
}
