//! Rows of what a host says about dynamic capacity.
//!
//! Host 0 was offered what is dead since, then what is under [`OFFERED`](super::rig::OFFERED).
//! Host 1 was offered what is under [`HALF`](super::rig::HALF).

use fabric_emu::cci::ReturnCode::{
    InvalidExtentList, InvalidInput, InvalidPayloadLength, ResourcesExhausted,
};
use fabric_emu::cci::tunnel::TunnelTarget;

use super::base::{extents, give, take};
use super::rig::{BLOCK, COHERENT, H0, H0_SINGLE, H1, POOL, PRIVATE, SHARED};
use super::row::{Base, Row, b1, b4};

pub(crate) fn rows() -> Vec<Row> {
    [
        lists(),
        heads(),
        answers(),
        answers_to_what_is_dead(),
        releases(),
        parts(),
    ]
    .concat()
}

fn lists() -> Vec<Row> {
    let rule = "past the end of the list";
    let mut rows: Vec<Row> = [10, 11, 1_000, 0x8000_0000, u32::MAX]
        .map(|first| extents(first).no(InvalidInput, rule))
        .to_vec();
    // Host 1 has two extents, and one at the single device is host 0's.
    rows.extend([3, u32::MAX].map(|first| extents(first).at(H1).no(InvalidInput, rule)));
    rows.extend([2, u32::MAX].map(|first| extents(first).at(H0_SINGLE).no(InvalidInput, rule)));
    let nothing = extents(1).through(POOL, &[(2, TunnelTarget::PortOrLd)]);
    rows.push(nothing.no(InvalidInput, rule));
    rows
}

/// Both commands begin alike.
fn heads() -> Vec<Row> {
    let both = [
        take(&[(COHERENT, 2 * BLOCK)]),
        give(&[(PRIVATE, 4 * BLOCK)]),
    ];
    let mut rows = Vec::new();
    for base in both {
        for flags in [0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff] {
            rows.push(base.with(&[b1(4, flags)], InvalidInput, "reserved bits"));
        }
        let rule = "a list that goes on is more than is kept";
        rows.push(base.with(&[b1(4, 1)], ResourcesExhausted, rule));
        for count in [0, 2, 0xff, 0x10000, 0x8000_0000, u32::MAX] {
            let rule = "the count is not that of the extents";
            rows.push(base.with(&[b4(0, count)], InvalidPayloadLength, rule));
        }
    }
    rows
}

/// Lists that no state makes good, at an address where an extent begins.
fn bad_lists(list: fn(&[(u64, u64)]) -> Base, at: u64, to: fn(Base) -> Base) -> Vec<Row> {
    let whole = 2 * BLOCK;
    let all: [(&[(u64, u64)], &'static str); 11] = [
        (&[(at, 0)], "no bytes"),
        (&[(at, whole), (at, 0)], "no bytes"),
        (&[(at, 1)], "no whole block"),
        (&[(at, BLOCK - 1)], "no whole block"),
        (&[(at, BLOCK + 64)], "no whole block"),
        (&[(at + 1, BLOCK)], "begins in a block"),
        (&[(at + BLOCK / 2, BLOCK)], "begins in a block"),
        (&[(at, whole), (at, whole)], "named twice"),
        (&[(at, BLOCK), (at, BLOCK)], "named twice"),
        (&[(at, whole), (at + BLOCK, BLOCK)], "overlap"),
        (&[(at + BLOCK, BLOCK), (at, whole)], "overlap"),
    ];
    all.map(|(extents, rule)| to(list(extents)).no(InvalidExtentList, rule))
        .to_vec()
}

fn answers() -> Vec<Row> {
    let mut rows = bad_lists(take, COHERENT, |base| base);
    let rule = "what is shared is taken as a whole";
    rows.push(take(&[(COHERENT, BLOCK)]).no(InvalidInput, rule));
    rows.push(take(&[(COHERENT + BLOCK, BLOCK)]).no(InvalidInput, rule));
    let rule = "nothing was offered";
    for spans in [&[][..], &[(SHARED, BLOCK)], &[(SHARED + BLOCK, BLOCK)]] {
        rows.push(take(spans).at(H0_SINGLE).no(InvalidInput, rule));
    }
    let empty = |spans| take(spans).through(POOL, &[(2, TunnelTarget::PortOrLd)]);
    rows.push(empty(&[]).no(InvalidInput, rule));
    rows.push(empty(&[(COHERENT, 2 * BLOCK)]).no(InvalidInput, rule));
    rows
}

fn answers_to_what_is_dead() -> Vec<Row> {
    bad_lists(take, PRIVATE + 6 * BLOCK, |base| base.at(H0))
}

fn releases() -> Vec<Row> {
    let mut rows = bad_lists(give, PRIVATE + 4 * BLOCK, |base| base);
    rows.extend(bad_lists(give, PRIVATE + 2 * BLOCK, |base| base));
    rows.extend(bad_lists(give, SHARED, |base| base));
    rows.push(give(&[]).no(InvalidInput, "nothing is named"));
    rows.push(give(&[]).at(H1).no(InvalidInput, "nothing is named"));
    rows.push(give(&[]).at(H0_SINGLE).no(InvalidInput, "nothing is named"));
    rows
}

/// Parts of what may be shared.
fn parts() -> Vec<Row> {
    let rule = "what may be shared is given back as a whole";
    let all: [&[(u64, u64)]; 8] = [
        &[(SHARED, BLOCK)],
        &[(SHARED + BLOCK, BLOCK)],
        &[(SHARED + 2 * BLOCK, BLOCK)],
        &[(SHARED + 6 * BLOCK, BLOCK)],
        &[(SHARED + 8 * BLOCK, BLOCK)],
        &[(COHERENT, BLOCK)],
        &[(SHARED, 2 * BLOCK), (SHARED + 8 * BLOCK, BLOCK)],
        &[(PRIVATE + 4 * BLOCK, 2 * BLOCK), (COHERENT + BLOCK, BLOCK)],
    ];
    let mut rows: Vec<Row> = all
        .iter()
        .map(|spans| give(spans).no(InvalidInput, rule))
        .collect();
    rows.push(give(&[(SHARED, BLOCK)]).at(H1).no(InvalidInput, rule));
    rows.push(
        give(&[(SHARED + BLOCK, BLOCK)])
            .at(H1)
            .no(InvalidInput, rule),
    );
    rows
}
