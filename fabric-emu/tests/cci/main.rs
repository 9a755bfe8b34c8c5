//! Commands and answers, byte by byte: each layout as it is in the tables of the specification.
//!
//! The bytes are written by hand, a field a line, so that they can be held against the tables.

#![forbid(unsafe_code)]

use fabric_emu::cci::{List, Malformed, Request, Response, ReturnCode};

mod dynamic_capacity;
mod error_records;
mod generic;
mod memory_device;
mod message;
mod refusals;
mod switch;

/// Bytes as text: pairs of digits, with blanks and lines wherever they help to read.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|each| !each.is_whitespace())
        .map(|each| u8::try_from(each.to_digit(16).expect("a digit")).expect("less than 16"))
        .collect();
    assert!(digits.len().is_multiple_of(2), "half a byte in {text}");
    digits
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// This byte, and each that is one more than the last.
fn counting<const N: usize>(first: u8) -> [u8; N] {
    let mut byte = first.wrapping_sub(1);
    core::array::from_fn(|_| {
        byte = byte.wrapping_add(1);
        byte
    })
}

fn list<T, const MAX: usize>(all: Vec<T>) -> List<T, MAX> {
    List::try_from(all).expect("a list that fits")
}

/// Lengths, besides its own, that a payload may also be cut to.
type Cuts<'a> = &'a [usize];

#[track_caller]
fn request(opcode: u16, text: &str, value: &Request) {
    request_cut(opcode, text, value, &[]);
}

#[track_caller]
fn request_cut(opcode: u16, text: &str, value: &Request, cuts: Cuts<'_>) {
    let bytes = hex(text);
    assert_eq!(Request::decode(opcode, &bytes).as_ref(), Ok(value));
    assert_eq!(value.encode(), (opcode, bytes.clone()));
    for length in (0..bytes.len()).filter(|length| !cuts.contains(length)) {
        let cut = Request::decode(opcode, &bytes[..length]);
        assert_eq!(
            cut,
            Err(ReturnCode::InvalidPayloadLength),
            "cut to {length}"
        );
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(
        Request::decode(opcode, &longer),
        Err(ReturnCode::InvalidPayloadLength)
    );
}

#[track_caller]
fn response(opcode: u16, text: &str, value: &Response) {
    response_cut(opcode, text, value, &[]);
}

#[track_caller]
fn response_cut(opcode: u16, text: &str, value: &Response, cuts: Cuts<'_>) {
    let bytes = hex(text);
    assert_eq!(Response::decode(opcode, &bytes).as_ref(), Ok(value));
    assert_eq!(value.encode(), (opcode, bytes.clone()));
    for length in (0..bytes.len()).filter(|length| !cuts.contains(length)) {
        let cut = Response::decode(opcode, &bytes[..length]);
        assert_eq!(cut, Err(Malformed::Length), "cut to {length}");
    }
    let longer = [&bytes[..], &[0]].concat();
    if !cuts.contains(&longer.len()) {
        assert_eq!(Response::decode(opcode, &longer), Err(Malformed::Length));
    }
}

/// The component answers this code, whatever state it is in.
#[track_caller]
fn refused(opcode: u16, text: &str, code: ReturnCode) {
    assert_eq!(
        Request::decode(opcode, &hex(text)),
        Err(code),
        "{opcode:#06x} {text}"
    );
}
