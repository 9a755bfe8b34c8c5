//! Rows of capacity that a manager wants back (5605h).

use fabric_emu::cci::ReturnCode::{InvalidExtentList, InvalidInput, InvalidPayloadLength};
use fabric_emu::cci::Tag;

use super::base;
use super::rig::{
    ADDED, BLOCK, BOTH, COHERENT, DEAD, ELSEWHERE, FOREIGN, GONE, HALF, KEPT, OFFERED, PIECES,
    PRIVATE, SHARED, SINGLE, UNKNOWN,
};
use super::row::{Edit, Row, b1, b2, b4, b8, bytes};

/// Flags: the host is not asked; memory is zeroed.
const FORCED: u8 = 1 << 4;
const SANITIZE: u8 = 1 << 5;

pub(crate) fn rows() -> Vec<Row> {
    [fields(), tags(), parts(), lists(), counts()].concat()
}

fn tag(tag: Tag) -> Edit {
    bytes(0x0c, &tag.0)
}

fn fields() -> Vec<Row> {
    let release = base::release();
    let mut rows = Vec::new();
    for host in [3, 4, 0x0100, 0xffff] {
        let rule = "no such logical device";
        rows.push(release.with(&[b2(0, host)], InvalidInput, rule));
        rows.push(release.with(&[b2(0, host), b1(2, FORCED)], InvalidInput, rule));
        let list = base::prescribed_release(&[(SHARED, 2 * BLOCK)]);
        rows.push(list.with(&[b2(0, host)], InvalidInput, rule));
    }
    for policy in [2, 3, 0x0f, FORCED | 2, SANITIZE | 8] {
        rows.push(release.with(&[b1(2, policy)], InvalidInput, "no such policy"));
    }
    for flags in [0x40, 0x80, 0xc0, 0xff] {
        rows.push(release.with(&[b1(2, flags)], InvalidInput, "reserved bits"));
    }
    rows.push(
        release
            .at(SINGLE)
            .with(&[b2(0, 1)], InvalidInput, "no such logical device"),
    );
    rows
}

/// By tag, of what host 0 has not, or not as much of.
fn tags() -> Vec<Row> {
    let release = base::release();
    let mut rows = Vec::new();
    let unknown = [
        (UNKNOWN, "nothing has the tag"),
        (GONE, "what had the tag is being zeroed"),
        (DEAD, "what had the tag was taken away"),
        (KEPT, "no host has it"),
        (FOREIGN, "another host has it"),
        (ELSEWHERE, "the tag is of another device"),
    ];
    for flags in [0, FORCED, SANITIZE, FORCED | SANITIZE] {
        for (unknown, rule) in unknown {
            let edits = [b1(2, flags), b8(4, BLOCK), tag(unknown)];
            rows.push(release.with(&edits, InvalidInput, rule));
        }
        rows.push(release.with(&[b1(2, flags), b8(4, 0)], InvalidInput, "no bytes"));
        for length in [5 * BLOCK, 1 << 40, 1 << 63] {
            let rule = "the tag has less";
            rows.push(release.with(&[b1(2, flags), b8(4, length)], InvalidInput, rule));
        }
    }
    for flags in [0, SANITIZE] {
        let edits = [b1(2, flags), tag(OFFERED)];
        rows.push(release.with(&edits, InvalidInput, "offered and not taken"));
        let edits = [b2(0, 1), b1(2, flags), tag(HALF)];
        rows.push(release.with(&edits, InvalidInput, "offered and not taken"));
    }
    rows
}

/// Parts of what may be shared.
fn parts() -> Vec<Row> {
    let mut rows = Vec::new();
    let rule = "what may be shared leaves as a whole";
    for flags in [0, FORCED] {
        for (host, shared) in [(0, ADDED), (0, BOTH), (1, BOTH), (0, HALF), (0, PIECES)] {
            let edits = [b2(0, host), b1(2, flags), b8(4, BLOCK), tag(shared)];
            rows.push(base::release().with(&edits, InvalidInput, rule));
        }
        for at in [
            SHARED,
            SHARED + 3 * BLOCK,
            SHARED + 6 * BLOCK,
            SHARED + 8 * BLOCK,
            COHERENT,
        ] {
            let list = base::prescribed_release(&[(at, BLOCK)]);
            rows.push(list.with(&[b1(2, flags | 1)], InvalidInput, rule));
        }
    }
    rows
}

fn lists() -> Vec<Row> {
    let at = PRIVATE + 4 * BLOCK;
    let whole = 2 * BLOCK;
    let all: [(&[(u64, u64)], &'static str); 9] = [
        (&[], "no extent"),
        (&[(at, 0)], "no bytes"),
        (&[(at, BLOCK), (at + BLOCK, 0)], "no bytes"),
        (&[(at, BLOCK / 2)], "no whole block"),
        (&[(at + 64, BLOCK)], "begins in a block"),
        (&[(at, whole), (at, whole)], "named twice"),
        (&[(at, BLOCK), (at, BLOCK)], "named twice"),
        (&[(at, whole), (at + BLOCK, BLOCK)], "overlap"),
        (&[(at + BLOCK, BLOCK), (at, whole)], "overlap"),
    ];
    let mut rows = Vec::new();
    for flags in [1, FORCED | 1, SANITIZE | 1] {
        for (spans, rule) in all {
            let list = base::prescribed_release(spans);
            rows.push(list.with(&[b1(2, flags)], InvalidExtentList, rule));
        }
    }
    rows
}

/// Counts of a prescribed list.
fn counts() -> Vec<Row> {
    let base = base::prescribed_release(&[(PRIVATE, BLOCK), (PRIVATE + BLOCK, BLOCK)]);
    let rule = "the count is not that of the extents";
    let mut rows: Vec<Row> = [0, 1, 3, 0xffff, 0x8000_0000, u32::MAX]
        .map(|count| base.with(&[b4(0x1c, count)], InvalidPayloadLength, rule))
        .to_vec();
    let length = base.payload().len();
    for less in [1, 0x27, 0x28, 0x4f] {
        rows.push(base.long(length - less, "an extent is cut off"));
    }
    rows.push(base.long(0x1c, "what is prescribed has a count"));
    rows.push(base.with(&[b1(2, 0), b8(4, BLOCK)], InvalidInput, "no list by tag"));
    let rule = "the count promises an extent";
    rows.push(base::release().with(&[b4(0x1c, 1)], InvalidPayloadLength, rule));
    rows
}
