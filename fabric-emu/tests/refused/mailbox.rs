//! Rows of events and poison.

use fabric_emu::cci::ReturnCode::{
    InvalidHandle, InvalidInput, InvalidPayloadLength, InvalidPhysicalAddress,
};
use pool_core::units::MIB;

use super::base;
use super::rig::{
    BLOCK, COARSE, COHERENT, END, FINE, H0, H0_SINGLE, H1, POOL, PRIVATE, READ_ONLY, SHARED,
};
use super::row::{Base, Row, b1, b8};

pub(crate) fn rows() -> Vec<Row> {
    [events(), clears(), interrupts(), poison_lists(), lines()].concat()
}

fn events() -> Vec<Row> {
    let mut rows = Vec::new();
    for cci in [H0, POOL] {
        let read = |log| {
            base::events()
                .at(cci)
                .with(&[b1(0, log)], InvalidInput, "no such log")
        };
        rows.extend([5, 6, 0x10, 0x80, 0xff].map(read));
    }
    rows
}

fn clears() -> Vec<Row> {
    let mut rows = Vec::new();
    for cci in [H0, POOL] {
        let clear = |handles: &[u16]| base::clear(handles).at(cci);
        let one = clear(&[1]);
        rows.extend(
            [5, 0x80, 0xff].map(|log| one.with(&[b1(0, log)], InvalidInput, "no such log")),
        );
        let bits = [0x02, 0x04, 0x80, 0xfe];
        rows.extend(bits.map(|bits| one.with(&[b1(1, bits)], InvalidInput, "reserved bits")));
        rows.push(one.with(&[b1(1, 1)], InvalidInput, "all, and some by their handles"));
        let all = clear(&[]);
        rows.push(all.with(&[b1(1, 1)], InvalidInput, "all, but none was lost"));
        let wrong: [(&[u16], &'static str); 9] = [
            (&[0], "no record has handle 0"),
            (&[2], "an older record is left"),
            (&[1, 3], "an older record is left"),
            (&[2, 1], "not from the oldest on"),
            (&[1, 1], "named twice"),
            (&[1, 2, 2], "named twice"),
            (&[200], "no such record"),
            (&[1, 0xffff], "no such record"),
            (&[0x0100], "no such record"),
        ];
        rows.extend(wrong.map(|(handles, rule)| clear(handles).no(InvalidHandle, rule)));
        let many: Vec<u16> = (1..=255).collect();
        rows.push(clear(&many).no(InvalidHandle, "more than there are"));
        for log in 1..4 {
            rows.push(one.with(&[b1(0, log)], InvalidHandle, "the log has no records"));
        }
        // Poison was injected, of which the informational log of the host tells.
        let rule = "the log has no such record";
        rows.push(clear(&[200]).with(&[b1(0, 0)], InvalidHandle, rule));
        let two = clear(&[1, 2]);
        for count in [0, 1, 3, 0xff] {
            let rule = "the count is not that of the handles";
            rows.push(two.with(&[b1(2, count)], InvalidPayloadLength, rule));
        }
    }
    rows
}

fn interrupts() -> Vec<Row> {
    let base = base::interrupts();
    let mut rows = Vec::new();
    for at in 0..5 {
        rows.push(base.with(&[b1(at, 0x03)], InvalidInput, "mode 3 is reserved"));
        rows.push(base.with(&[b1(at, 0x04)], InvalidInput, "bit 2 is reserved"));
        rows.push(base.with(&[b1(at, 0x09)], InvalidInput, "bit 3 is reserved"));
        rows.push(base.with(&[b1(at, 0xff)], InvalidInput, "mode 3 is reserved"));
    }
    rows
}

fn poison_lists() -> Vec<Row> {
    let base = base::poison_list();
    let bits = [0x02, 0x04, 0x08, 0x10, 0x20, 0x3f];
    bits.map(|bits| base.with(&[b8(0, bits)], InvalidInput, "bits 5:1 are reserved"))
        .to_vec()
}

/// Addresses of logical device 0 at which host 0 has no line.
const NOWHERE: [(u64, &str); 15] = [
    (128 * MIB, "after the fixed memory"),
    (SHARED - 64, "before the first region"),
    (SHARED + 4 * BLOCK, "given back"),
    (SHARED + 7 * BLOCK, "between two extents"),
    (SHARED + 9 * BLOCK, "after the last extent of a tag"),
    (SHARED + 10 * BLOCK, "given back, and being zeroed"),
    (COHERENT + 2 * BLOCK, "after the extent of a region"),
    (PRIVATE + 6 * BLOCK, "dead"),
    (PRIVATE + 8 * BLOCK, "offered and not taken"),
    (READ_ONLY, "nothing is in the region"),
    (FINE, "nothing is in the region"),
    (COARSE, "nothing is in the region"),
    (END - 64, "nothing is in the region"),
    (END, "after the last region"),
    (u64::MAX - 63, "after the last region"),
];

fn lines() -> Vec<Row> {
    let both: [fn(u64) -> Base; 2] = [base::inject, base::clear_poison];
    let mut rows = Vec::new();
    for at in both {
        for odd in [1, 2, 0x20, 0x3f, 0x1001, 0x103f, u64::MAX] {
            let rule = "no line begins there";
            rows.push(at(0x1000).with(&[b8(0, odd)], InvalidPhysicalAddress, rule));
        }
        for (address, rule) in NOWHERE {
            rows.push(at(address).no(InvalidPhysicalAddress, rule));
        }
        let of_another = "another host's";
        rows.push(
            at(PRIVATE + 4 * BLOCK)
                .at(H1)
                .no(InvalidPhysicalAddress, of_another),
        );
        rows.push(
            at(SHARED + 2 * BLOCK)
                .at(H1)
                .no(InvalidPhysicalAddress, of_another),
        );
        rows.push(
            at(COHERENT)
                .at(H1)
                .no(InvalidPhysicalAddress, "offered and not taken"),
        );
        let rule = "another device's";
        rows.push(
            at(SHARED + BLOCK)
                .at(H0_SINGLE)
                .no(InvalidPhysicalAddress, rule),
        );
        rows.push(at(PRIVATE).at(H0_SINGLE).no(InvalidPhysicalAddress, rule));
    }
    rows
}
