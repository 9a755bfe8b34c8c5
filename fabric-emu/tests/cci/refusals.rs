//! What is refused whatever state a component is in, and with which code.

use fabric_emu::cci::{Malformed, Opcode, Request, Response, ReturnCode};

use crate::{hex, refused};

#[test]
fn an_unknown_command_is_unsupported() {
    for opcode in [
        0x0000, 0x0006, 0x0104, 0x4001, 0x5103, 0x5301, 0x5609, 0xc000, 0xffff,
    ] {
        refused(opcode, "", ReturnCode::Unsupported);
        assert_eq!(
            Response::decode(opcode, &[]),
            Err(Malformed::Opcode(opcode))
        );
        assert_eq!(Opcode::of(opcode), None);
    }
}

#[test]
fn a_payload_where_there_is_to_be_none_is_too_long() {
    for opcode in [0x0001, 0x0005, 0x4000, 0x4400, 0x5100, 0x5600] {
        refused(opcode, "00", ReturnCode::InvalidPayloadLength);
    }
}

#[test]
fn a_reserved_encoding_is_an_invalid_input() {
    for (opcode, text) in [
        (0x0100, "05"),
        (0x0101, "05 00 00 000000"),
        (0x5102, "00 03"),
        (0x5202, "00 00 03"),
        (0x5300, "00 02 0c00 000000010000000000000000"),
        (
            0x5604,
            "0000 04 00 0100000000000000 00000000000000000000000000000000",
        ),
        (
            0x5605,
            "0000 02 00 0100000000000000 00000000000000000000000000000000",
        ),
    ] {
        refused(opcode, text, ReturnCode::InvalidInput);
    }
}

#[test]
fn a_reserved_bit_beside_flags_is_an_invalid_input() {
    for (opcode, text) in [
        (0x0101, "00 02 00 000000"),
        (0x4300, "0200000000000000 0100000000000000"),
        (0x4802, "00000000 02 000000"),
        (0x4803, "00000000 80 000000"),
        (0x5202, "00 00 10"),
        (0x5602, "00 000000 0000200000000000 02 000000"),
        (
            0x5604,
            "0000 10 00 0100000000000000 00000000000000000000000000000000",
        ),
        (
            0x5605,
            "0000 40 00 0100000000000000 00000000000000000000000000000000",
        ),
        (
            0x5605,
            "0000 80 00 0100000000000000 00000000000000000000000000000000",
        ),
    ] {
        refused(opcode, text, ReturnCode::InvalidInput);
    }
    let aer = ["00 00 0000 20000000", &"00".repeat(32)].concat();
    refused(0x5203, &aer, ReturnCode::InvalidInput);
}

#[test]
fn a_number_out_of_its_range_is_an_invalid_input() {
    for (opcode, text) in [
        (0x0004, "07"),
        (0x0004, "15"),
        (0x5200, "00 00 01 00"),
        (0x5200, "00 01 00"),
        (0x5401, "00 00"),
        (0x5402, "00 00 0000"),
        (0x5500, "00 00"),
        (0x5602, "08 000000 0000200000000000 00 000000"),
        // No such region; nothing to add; nothing to release.
        (
            0x5604,
            "0000 00 08 0100000000000000 00000000000000000000000000000000",
        ),
        (
            0x5604,
            "0000 03 08 0000000000000000 00000000000000000000000000000000",
        ),
        (
            0x5604,
            "0000 01 00 0000000000000000 00000000000000000000000000000000",
        ),
        (
            0x5605,
            "0000 00 00 0000000000000000 00000000000000000000000000000000",
        ),
    ] {
        refused(opcode, text, ReturnCode::InvalidInput);
    }
}

#[test]
fn poison_is_for_whole_lines() {
    refused(
        0x4301,
        "2000000000000000",
        ReturnCode::InvalidPhysicalAddress,
    );
    let clear = ["0100000000000000", &"00".repeat(64)].concat();
    refused(0x4302, &clear, ReturnCode::InvalidPhysicalAddress);
}

#[test]
fn extents_are_listed_where_they_are_prescribed_and_nowhere_else() {
    let extent = "00".repeat(40);
    for (opcode, other, prescriptive) in [(0x5604, "00", "02"), (0x5605, "00", "01")] {
        let head = |policy| {
            [
                "0000",
                policy,
                "00 0100000000000000 00000000000000000000000000000000",
            ]
            .concat()
        };
        refused(
            opcode,
            &head(prescriptive),
            ReturnCode::InvalidPayloadLength,
        );
        let none = [&head(prescriptive), "00000000"].concat();
        refused(opcode, &none, ReturnCode::InvalidExtentList);
        let one = [&head(other), "01000000", &extent].concat();
        refused(opcode, &one, ReturnCode::InvalidInput);
        let missing = [&head(prescriptive), "02000000", &extent].concat();
        refused(opcode, &missing, ReturnCode::InvalidPayloadLength);
    }
}

#[test]
fn what_is_in_a_tunnel_is_a_whole_request() {
    // Too short for a header; longer and shorter than its header says; an answer; a reserved bit.
    refused(0x5300, "00 00 0100 00", ReturnCode::InvalidPayloadLength);
    let message = "00 00 0d00 000000010000000000000000 00";
    refused(0x5300, message, ReturnCode::InvalidPayloadLength);
    let message = "00 00 0c00 000000010001000000000000";
    refused(0x5300, message, ReturnCode::InvalidPayloadLength);
    refused(
        0x5300,
        "00 00 0c00 010000010000000000000000",
        ReturnCode::InvalidInput,
    );
    refused(
        0x5300,
        "00 00 0c00 000001010000000000000000",
        ReturnCode::InvalidInput,
    );
}

#[test]
fn reserved_bytes_are_not_looked_at_and_leave_as_zero() {
    for (opcode, text, clean) in [
        (0x5201, "01 02 03 99 0500", "01 02 03 00 0500"),
        (0x0101, "00 00 00 999999", "00 00 00 000000"),
        (
            0x5603,
            "0000 9999 00000000 00000000",
            "0000 0000 00000000 00000000",
        ),
    ] {
        let request = Request::decode(opcode, &hex(text)).expect("a request");
        assert_eq!(request.encode(), (opcode, hex(clean)));
    }
}

#[test]
fn a_device_has_no_more_than_8_regions() {
    let limits = "00".repeat(16);
    let answer = |count: u8| {
        let regions = "00".repeat(0x28 * usize::from(count));
        hex(&[
            &format!("{count:02x}{count:02x} 000000000000"),
            &regions[..],
            &limits,
        ]
        .concat())
    };
    assert!(Response::decode(0x4800, &answer(8)).is_ok());
    assert_eq!(Response::decode(0x4800, &answer(9)), Err(Malformed::Length));
}

#[test]
fn an_answer_with_a_reserved_encoding_is_not_understood() {
    for (opcode, text) in [
        (0x0002, "00 00 0000 2100 0000"),
        (
            0x5101,
            "01 000000 04 06 03 00 05 06 10 08 3f 06 05 04 02 0500 0f",
        ),
        (
            0x5101,
            "01 000000 04 03 03 00 05 06 10 08 3f 06 05 0b 02 0500 0f",
        ),
        (0x5200, "01 000000 00 02 00 00"),
        (0x5200, "01 000000 00 01 00 01 05 00 00 00"),
        (0x5401, "01 03 00 00"),
        (0x5300, "0c00 0000 000000010000000000000000"),
    ] {
        assert_eq!(
            Response::decode(opcode, &hex(text)),
            Err(Malformed::Value),
            "{opcode:#06x}"
        );
    }
}
