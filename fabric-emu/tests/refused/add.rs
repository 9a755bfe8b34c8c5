//! Rows of capacity that a manager adds (5604h).

use fabric_emu::cci::ReturnCode::{
    InvalidExtentList, InvalidInput, InvalidPayloadLength, ResourcesExhausted,
};
use fabric_emu::cci::Tag;

use super::base;
use super::rig::{
    ADDED, BLOCK, BOTH, COARSE, COHERENT, DEAD, ELSEWHERE, END, FOREIGN, GONE, HALF, KEPT, LEAVING,
    NO_TAG, OFFERED, PIECES, PRIVATE, SHARED, SINGLE, UNKNOWN,
};
use super::row::{Edit, Row, b1, b2, b4, b8, bytes};

pub(crate) fn rows() -> Vec<Row> {
    [
        fields(),
        lengths(),
        tags(),
        shared(),
        kinds(),
        prescribed(),
        lists(),
    ]
    .concat()
}

/// An extent: where it begins, how long it is, and its tag.
type Listed = (u64, u64, Tag);

fn tag(tag: Tag) -> Edit {
    bytes(0x0c, &tag.0)
}

/// What all policies have.
fn fields() -> Vec<Row> {
    let add = base::free();
    let mut rows = Vec::new();
    let rule = "no such logical device";
    for host in [3, 4, 0x0100, 0xffff] {
        for policy in [0, 1] {
            rows.push(add.with(&[b2(0, host), b1(2, policy)], InvalidInput, rule));
        }
        rows.push(base::shared().with(&[b2(0, host)], InvalidInput, rule));
    }
    for policy in [4, 5, 0x10, 0x80, 0xff] {
        rows.push(add.with(&[b1(2, policy)], InvalidInput, "no such policy"));
    }
    for region in [6, 7] {
        for policy in [0, 1] {
            rows.push(add.with(
                &[b1(2, policy), b1(3, region)],
                InvalidInput,
                "no such region",
            ));
        }
        rows.push(base::shared().with(&[b1(3, region)], InvalidInput, "no such region"));
    }
    for region in [8, 0x80, 0xff] {
        for policy in [0, 1] {
            let rule = "regions are 0 to 7";
            rows.push(add.with(&[b1(2, policy), b1(3, region)], InvalidInput, rule));
        }
        rows.push(base::shared().with(&[b1(3, region)], InvalidInput, "regions are 0 to 7"));
    }
    rows.push(add.at(SINGLE).with(&[b2(0, 1)], InvalidInput, rule));
    rows.push(
        add.at(SINGLE)
            .with(&[b1(3, 1)], InvalidInput, "no such region"),
    );
    rows
}

fn lengths() -> Vec<Row> {
    let mut rows = Vec::new();
    for policy in [0, 1] {
        let add = |edits: &[Edit], code, rule| {
            let mut all = vec![b1(2, policy)];
            all.extend(edits.iter().map(Edit::same));
            base::free().with(&all, code, rule)
        };
        rows.push(add(&[b8(4, 0)], InvalidInput, "no bytes"));
        for length in [1, 64, BLOCK - 1, BLOCK + 1, 3 * BLOCK / 2, u64::MAX] {
            rows.push(add(&[b8(4, length)], InvalidInput, "no number of blocks"));
        }
        let coarse = [b1(3, 5), b8(4, BLOCK)];
        rows.push(add(
            &coarse,
            InvalidInput,
            "no number of blocks of that region",
        ));
        for length in [127 * BLOCK, 128 * BLOCK, 1 << 40, 1 << 63] {
            let rule = "the region has not as many addresses left";
            rows.push(add(&[b8(4, length)], ResourcesExhausted, rule));
        }
        let device = [b1(3, 5), b8(4, 128 * BLOCK)];
        rows.push(add(
            &device,
            ResourcesExhausted,
            "the device has not as much",
        ));
        let edits = [b1(2, policy), b4(0x1c, 1)];
        let rule = "the count promises an extent";
        rows.push(base::free().with(&edits, InvalidPayloadLength, rule));
    }
    // 116 blocks are left, but a hole and the blocks taken lie between.
    let rule = "no such piece in one";
    rows.push(base::free().with(&[b1(2, 1), b8(4, 116 * BLOCK)], ResourcesExhausted, rule));
    rows
}

/// Tags that memory has already, and none where one is needed.
fn tags() -> Vec<Row> {
    let mut rows = Vec::new();
    for policy in [0, 1] {
        for used in [ADDED, BOTH, LEAVING, HALF, OFFERED, KEPT, PIECES, FOREIGN] {
            let edits = [b1(2, policy), tag(used)];
            rows.push(base::free().with(&edits, InvalidInput, "other memory has the tag"));
        }
        for region in [0, 1, 3] {
            let edits = [b1(2, policy), b1(3, region), tag(NO_TAG)];
            rows.push(base::free().with(&edits, InvalidInput, "what may be shared has a tag"));
        }
    }
    let used = base::prescribed(&[(PRIVATE + 20 * BLOCK, BLOCK, ADDED)]);
    rows.push(used.no(InvalidInput, "other memory has the tag"));
    let none = base::prescribed(&[(SHARED + 20 * BLOCK, BLOCK, NO_TAG)]);
    rows.push(none.no(InvalidInput, "what may be shared has a tag"));
    rows
}

fn shared() -> Vec<Row> {
    let add = base::shared();
    let mut rows = Vec::new();
    let unknown = [
        (UNKNOWN, "nothing has the tag"),
        (NO_TAG, "what has no tag is not shared"),
        (GONE, "what had the tag is being zeroed"),
        (DEAD, "what had the tag was taken away"),
        (ELSEWHERE, "the tag is of another device"),
    ];
    for (unknown, rule) in unknown {
        rows.push(add.with(&[tag(unknown)], InvalidInput, rule));
    }
    for private in [LEAVING, OFFERED] {
        let rule = "what has the tag is in a region that is not shared";
        rows.push(add.with(&[tag(private)], InvalidInput, rule));
    }
    let rule = "the host has it";
    rows.push(add.with(&[b2(0, 0)], InvalidInput, rule));
    rows.push(add.with(&[tag(BOTH)], InvalidInput, rule));
    rows.push(add.with(&[b2(0, 0), tag(BOTH)], InvalidInput, rule));
    rows.push(add.with(&[b2(0, 0), tag(PIECES)], InvalidInput, rule));
    rows.push(add.with(&[b2(0, 0), b1(3, 1), tag(HALF)], InvalidInput, rule));
    rows.push(add.with(
        &[b1(3, 1), tag(HALF)],
        InvalidInput,
        "the host was offered it",
    ));
    rows.push(add.with(
        &[b4(0x1c, 1)],
        InvalidPayloadLength,
        "the count promises an extent",
    ));
    rows.push(
        add.at(SINGLE)
            .with(&[b2(0, 0)], InvalidInput, "the tag is of another device"),
    );
    rows
}

/// Regions that are not like that of the tag.
fn kinds() -> Vec<Row> {
    let add = base::shared();
    let mut rows = Vec::new();
    for host in [1, 2] {
        for region in [2, 4] {
            let edits = [b2(0, host), b1(3, region)];
            rows.push(add.with(&edits, InvalidInput, "the region is not shared"));
        }
        let edits = |region| [b2(0, host), b1(3, region)];
        let rule = "the region is kept coherent by hardware";
        rows.push(add.with(&edits(1), InvalidInput, rule));
        rows.push(add.with(&edits(5), InvalidInput, "the region has larger blocks"));
        let rule = "the region is kept coherent by software";
        let half = [b2(0, 2), b1(3, if host == 1 { 0 } else { 3 }), tag(HALF)];
        rows.push(add.with(&half, InvalidInput, rule));
    }
    rows
}

fn prescribed() -> Vec<Row> {
    let at = PRIVATE + 20 * BLOCK;
    let all: [(&[Listed], &'static str); 13] = [
        (&[], "no extent"),
        (&[(at, 0, UNKNOWN)], "no bytes"),
        (
            &[(at, BLOCK, UNKNOWN), (at + BLOCK, 0, UNKNOWN)],
            "no bytes",
        ),
        (&[(u64::MAX, 1, UNKNOWN)], "past the end of the numbers"),
        (&[(at, u64::MAX, UNKNOWN)], "past the end of the numbers"),
        (&[(0, BLOCK, UNKNOWN)], "fixed memory"),
        (
            &[(SHARED - BLOCK, BLOCK, UNKNOWN)],
            "before the first region",
        ),
        (&[(END, BLOCK, UNKNOWN)], "after the last region"),
        (
            &[(END - BLOCK, 2 * BLOCK, UNKNOWN)],
            "partly after the last region",
        ),
        (&[(COHERENT - BLOCK, 2 * BLOCK, UNKNOWN)], "in two regions"),
        (
            &[(at, BLOCK, UNKNOWN), (COARSE, 4 * BLOCK, UNKNOWN)],
            "in two regions",
        ),
        (
            &[(at, BLOCK, UNKNOWN), (at + BLOCK, BLOCK, GONE)],
            "of two tags",
        ),
        (
            &[(at, BLOCK, UNKNOWN), (at + BLOCK, BLOCK, NO_TAG)],
            "of two tags",
        ),
    ];
    let mut rows: Vec<Row> = all
        .map(|(extents, rule)| base::prescribed(extents).no(InvalidExtentList, rule))
        .to_vec();
    let base = base::prescribed(&[(at, BLOCK, UNKNOWN)]);
    for host in [3, 0xffff] {
        rows.push(base.with(&[b2(0, host)], InvalidInput, "no such logical device"));
    }
    rows
}

/// Counts of a prescribed list.
fn lists() -> Vec<Row> {
    let at = PRIVATE + 20 * BLOCK;
    let base = base::prescribed(&[(at, BLOCK, UNKNOWN), (at + BLOCK, BLOCK, UNKNOWN)]);
    let rule = "the count is not that of the extents";
    let mut rows: Vec<Row> = [0, 1, 3, 0xffff, 0x8000_0000, u32::MAX]
        .map(|count| base.with(&[b4(0x1c, count)], InvalidPayloadLength, rule))
        .to_vec();
    let length = base.payload().len();
    for less in [1, 0x27, 0x28, 0x4f] {
        rows.push(base.long(length - less, "an extent is cut off"));
    }
    rows.push(base.long(0x1c, "what is prescribed has a count"));
    for policy in [0, 1, 3] {
        let rule = "no list where nothing is prescribed";
        let edits = [
            b1(2, policy),
            b1(3, 2),
            b8(4, BLOCK),
            bytes(0x0c, &UNKNOWN.0),
        ];
        rows.push(base.with(&edits, InvalidInput, rule));
    }
    rows
}
