//! Rows of a memory device and its manager, but for what is added and released.

use fabric_emu::cci::ReturnCode::{InvalidInput, InvalidPayloadLength};
use fabric_emu::cci::tunnel::TunnelTarget;
use pool_core::units::MIB;

use super::base;
use super::rig::{
    ADDED, BOTH, DEAD, ELSEWHERE, FOREIGN, GONE, HALF, KEPT, LEAVING, NO_TAG, OFFERED, PIECES,
    POOL, SINGLE, SWITCH, UNKNOWN,
};
use super::row::{Row, b1, b2, b4, b8};

pub(crate) fn rows() -> Vec<Row> {
    [
        divisions(),
        heads(),
        regions(),
        blocks(),
        extents(),
        references(),
        tags(),
    ]
    .concat()
}

fn divisions() -> Vec<Row> {
    let base = base::allocations();
    let mut rows: Vec<Row> = [3, 4, 16, 0x80, 0xff]
        .map(|start| base.with(&[b1(0, start)], InvalidInput, "no such logical device"))
        .to_vec();
    rows.push(base.with(&[b1(1, 0)], InvalidInput, "a limit is from 1 to 255"));
    let one = base.at(SINGLE);
    rows.push(one.with(&[b1(0, 1)], InvalidInput, "no such logical device"));
    rows
}

fn heads() -> Vec<Row> {
    let (map, heads) = (base::head_map(), base::heads());
    let mut rows: Vec<Row> = [2, 3, 0x80, 0xff]
        .map(|start| map.with(&[b1(0, start)], InvalidInput, "no such logical device"))
        .to_vec();
    rows.push(map.with(&[b1(1, 0)], InvalidInput, "a limit is from 1 to 255"));
    for (start, count) in [
        (0, 3),
        (1, 2),
        (2, 1),
        (3, 0),
        (0, 0xff),
        (0xff, 1),
        (0xff, 0xff),
    ] {
        rows.push(heads.with(&[b1(0, start), b1(1, count)], InvalidInput, "no such heads"));
    }
    rows
}

/// Of which host the regions are.
fn regions() -> Vec<Row> {
    let config = base::one_of_each()
        .into_iter()
        .find(|base| base.number() == 0x5601);
    let config = config.expect("it is one of them");
    let rule = "no such logical device";
    let mut rows: Vec<Row> = [3, 4, 0x0100, 0x8000, 0xffff]
        .map(|host| config.with(&[b2(0, host)], InvalidInput, rule))
        .to_vec();
    rows.push(config.at(SINGLE).with(&[b2(0, 1)], InvalidInput, rule));
    rows
}

fn blocks() -> Vec<Row> {
    let base = base::configure();
    let mut rows = Vec::new();
    for region in [6, 7] {
        rows.push(base.with(&[b1(0, region)], InvalidInput, "no such region"));
    }
    for region in [8, 9, 0x80, 0xff] {
        rows.push(base.with(&[b1(0, region)], InvalidInput, "regions are 0 to 7"));
    }
    for region in [0, 1, 2] {
        let same = [b1(0, region), b8(4, 2 * MIB)];
        rows.push(base.with(&same, InvalidInput, "some of it is in use"));
    }
    for block in [0, 1, 32, 63] {
        rows.push(base.with(&[b8(4, block)], InvalidInput, "a block has a line at least"));
    }
    for block in [65, 192, 3 * MIB, u64::MAX] {
        rows.push(base.with(&[b8(4, block)], InvalidInput, "a block is a power of two"));
    }
    for block in [512 * MIB, 1 << 40, 1 << 63] {
        rows.push(base.with(&[b8(4, block)], InvalidInput, "a block divides the region"));
    }
    for flags in [0x02, 0x04, 0x80, 0xfe, 0xff] {
        rows.push(base.with(&[b1(0x0c, flags)], InvalidInput, "reserved bits"));
    }
    rows.push(
        base.at(SINGLE)
            .with(&[b1(0, 1)], InvalidInput, "no such region"),
    );
    rows.push(
        base.at(SINGLE)
            .with(&[b1(0, 0)], InvalidInput, "some of it is in use"),
    );
    rows
}

fn extents() -> Vec<Row> {
    let rule = "past the end of the list";
    let mut rows: Vec<Row> = [10, 11, 0x8000_0000, u32::MAX]
        .map(|first| base::host_extents(first).no(InvalidInput, rule))
        .to_vec();
    let base = base::host_extents(0);
    for (host, first) in [(1, 3), (2, 1), (2, u32::MAX)] {
        rows.push(base.with(&[b2(0, host), b4(8, first)], InvalidInput, rule));
    }
    for host in [3, 0x0100, 0xffff] {
        rows.push(base.with(&[b2(0, host)], InvalidInput, "no such logical device"));
    }
    rows.push(
        base.at(SINGLE)
            .with(&[b2(0, 1)], InvalidInput, "no such logical device"),
    );
    rows
}

fn references() -> Vec<Row> {
    let unknown = [
        (UNKNOWN, "nothing has the tag"),
        (NO_TAG, "what has no tag has no reference"),
        (GONE, "what had the tag is being zeroed"),
        (DEAD, "what had the tag was taken away"),
        (ELSEWHERE, "the tag is of another device"),
    ];
    let mut rows = Vec::new();
    for (tag, rule) in unknown {
        rows.push(base::add_reference(tag).no(InvalidInput, rule));
        rows.push(base::remove_reference(tag).no(InvalidInput, rule));
    }
    for tag in [BOTH, KEPT] {
        rows.push(base::add_reference(tag).no(InvalidInput, "there is a reference"));
    }
    for tag in [ADDED, LEAVING, HALF, OFFERED, PIECES, FOREIGN] {
        rows.push(base::remove_reference(tag).no(InvalidInput, "there is no reference"));
    }
    rows.push(
        base::remove_reference(ELSEWHERE)
            .at(SINGLE)
            .no(InvalidInput, "no reference"),
    );
    rows.push(
        base::add_reference(ADDED)
            .at(SINGLE)
            .no(InvalidInput, "of another device"),
    );
    rows.push(
        base::remove_reference(BOTH)
            .at(SINGLE)
            .no(InvalidInput, "of another device"),
    );
    let way = [(2, TunnelTarget::PortOrLd)];
    rows.push(
        base::add_reference(KEPT)
            .through(SWITCH, &way)
            .no(InvalidInput, "twice"),
    );
    rows.push(base::add_reference(ADDED).long(0x20, "there is one tag"));
    rows
}

/// There are eight.
fn tags() -> Vec<Row> {
    let rule = "past the end of the list";
    let mut rows: Vec<Row> = [9, 10, 0x8000_0000, u32::MAX]
        .map(|first| base::tags(first).no(InvalidInput, rule))
        .to_vec();
    rows.push(base::tags(2).at(SINGLE).no(InvalidInput, rule));
    let base = base::tags(0).at(POOL);
    rows.push(base.with(
        &[b4(8, 0)],
        InvalidPayloadLength,
        "as long as the command says",
    ));
    rows
}
