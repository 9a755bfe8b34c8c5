//! The situations a fabric is put in, and the rows of each.

use fabric_emu::capacity::Selection;
use fabric_emu::cci::ReturnCode::{
    Busy, InjectPoisonLimitReached, InvalidHandle, InvalidInput, InvalidPayloadLength,
    InvalidPhysicalAddress, ResourcesExhausted, RetryRequired, Unsupported,
};
use fabric_emu::cci::dcd::{UpdatedExtent, UpdatedExtentList};
use fabric_emu::cci::generic::{Empty, ResponseMessageLimit, Timestamp};
use fabric_emu::cci::poison::{InjectPoisonRequest, Line};
use fabric_emu::cci::tunnel::TunnelTarget::PortOrLd;
use fabric_emu::cci::virtual_switch::BindVppbRequest;
use fabric_emu::cci::{Request, Tag};
use fabric_emu::fabric::{Event, Fault};
use fabric_emu::id::{HostId, LdId, MemdevId, Node, Port, PortId, SwitchId, VcsId, VppbId};
use fabric_emu::memdev::{CORRECTED_MOST, Found};
use fabric_emu::refusal::Refusal;
use fabric_emu::timing::Picos;
use pool_core::units::GIB;

use super::base;
use super::rig::{
    ADDED, BLOCK, BOTH, COHERENT, END, FINE, FINE_BLOCK, H0, H0_SINGLE, H1, HEADS, KEPT, LEAVING,
    NO_TAG, POOL, PRIVATE, Rig, SHARED, SINGLE, SWITCH, Situation, UNKNOWN, span,
};
use super::row::{Answer, Base, Row, b1, b2, b8, bytes};

/// Where host 0 maps its logical device.
const WINDOW: u64 = 4 * GIB;
/// Extents of the fine region that are offered together.
const MANY: u64 = 100;

/// Some is given back, some is read and written, some is poisoned; components are told the time.
pub(crate) fn use_memory(rig: &mut Rig) {
    let extent = |at, blocks| UpdatedExtent {
        start_dpa: at,
        length: blocks * BLOCK,
    };
    let extents = vec![
        extent(SHARED + 4 * BLOCK, 2),
        extent(SHARED + 10 * BLOCK, 1),
    ];
    let list = UpdatedExtentList {
        flags: 0,
        extents: extents.try_into().unwrap(),
    };
    rig.ask(H0, &Request::ReleaseDc(list));
    let host = HostId(0);
    let (memdev, ld) = (MemdevId(0), LdId(0));
    rig.step(&Event::Map {
        host,
        span: span(WINDOW, END),
        memdev,
        ld,
        address: 0,
    });
    let content = [5; 64];
    for at in [SHARED, COHERENT, COHERENT + 64, 0x2000] {
        rig.step(&Event::Store {
            host,
            address: WINDOW + at,
            content,
        });
    }
    rig.step(&Event::Load {
        host,
        address: WINDOW + SHARED + 64,
    });
    rig.step(&Event::Flush {
        host,
        span: span(WINDOW + 0x2000, 64),
    });
    rig.step(&Event::Fault(Fault::Poison {
        memdev,
        physical: 0x4000,
    }));
    let physical_address = Line::at(SHARED + 128).unwrap();
    rig.ask(
        H0,
        &Request::InjectPoison(InjectPoisonRequest { physical_address }),
    );
    let timestamp = Request::SetTimestamp(Timestamp {
        timestamp_ns: 1_000,
    });
    for cci in [H0, H1, H0_SINGLE, SWITCH, POOL, SINGLE, HEADS] {
        rig.ask(cci, &timestamp);
    }
}

/// Has a fabric that is rich be in that situation besides.
pub(crate) fn put(rig: &mut Rig, situation: Situation) {
    match situation {
        Situation::Rich => {}
        Situation::Busy => {
            let bind = BindVppbRequest {
                vcs_id: VcsId(1),
                vppb_id: VppbId(2),
                port_id: PortId(4),
                ld_id: BindVppbRequest::NO_LD,
            };
            rig.ask(SWITCH, &Request::BindVppb(bind));
            rig.ask(H0, &Request::Sanitize(Empty));
        }
        Situation::Overflow => fill_log(rig),
        Situation::Broken => {
            let port = Port {
                node: Node::Switch(SwitchId(0)),
                port: PortId(2),
            };
            rig.step(&Event::Fault(Fault::LinkFails(port)));
            rig.step(&Event::Fault(Fault::MemdevVanishes(MemdevId(1))));
        }
        Situation::Short => {
            let limit = Request::SetResponseMessageLimit(ResponseMessageLimit { limit: 8 });
            for cci in [H0, SWITCH, POOL] {
                rig.ask(cci, &limit);
            }
        }
        Situation::Poisoned => {
            let media = rig.fabric.memdev_mut(MemdevId(0)).unwrap().media_mut();
            let mut lines = (0x10_0000..).step_by(64);
            while media.poison(lines.next().unwrap(), Found::Unknown) {}
        }
        Situation::Erred => err(rig),
        Situation::Tracked => track(rig),
    }
}

fn err(rig: &mut Rig) {
    let (memdev, ld) = (MemdevId(0), LdId(0));
    let free = rig.fabric.memdev_mut(memdev).unwrap().bytes() - 3 * 64;
    let corrects = |errors| Fault::MemdevCorrects { memdev, ld, errors };
    for errors in [1, 1, 1, CORRECTED_MOST, 1] {
        rig.step(&Event::Fault(corrects(errors)));
    }
    for physical in [0, free] {
        rig.step(&Event::Fault(Fault::MemdevScrubs {
            memdev,
            physical,
            lines: 3,
        }));
    }
}

fn erred() -> Vec<Row> {
    let then = |base: Base| base.while_in(Situation::Erred);
    let mut rows = Vec::new();
    for (cci, logs) in [(H0, &[0, 1, 2][..]), (POOL, &[2])] {
        for &log in logs {
            let of = |handles: &[u16]| then(base::clear(handles)).at(cci);
            let many: Vec<u16> = (1..=100).collect();
            for handles in [
                &[0][..],
                &[2],
                &[1, 3],
                &[2, 1],
                &[1, 1],
                &[1, 2, 2],
                &many,
                &[0x0100],
                &[0xffff],
            ] {
                let rule = "not from the oldest of that log on";
                rows.push(of(handles).with(&[b1(0, log)], InvalidHandle, rule));
            }
            let all = [b1(0, log), b1(1, 1)];
            rows.push(of(&[]).with(&all, InvalidInput, "all, but none was lost"));
            rows.push(of(&[1]).with(&all, InvalidInput, "all, and some by their handles"));
            rows.push(of(&[]).with(&[b1(0, log)], InvalidInput, "neither all nor any handle"));
            rows.push(of(&[1]).with(&[b1(0, log), b1(1, 2)], InvalidInput, "reserved bits"));
            let short = [b1(0, log), b1(2, 2)];
            let rule = "the count is not that of the handles";
            rows.push(of(&[1]).with(&short, InvalidPayloadLength, rule));
        }
        let rule = "the log has no records";
        rows.push(
            then(base::clear(&[1]))
                .at(cci)
                .with(&[b1(0, 3)], InvalidHandle, rule),
        );
    }
    rows
}

fn room(rig: &mut Rig) -> u64 {
    let log = rig.fabric.memdev_mut(MemdevId(0)).unwrap().log_mut(LdId(0));
    log.unwrap().room().try_into().unwrap()
}

/// Offers as much as there is room for in the log, then takes an extent of it away.
fn fill_log(rig: &mut Rig) {
    let mut at = FINE;
    while room(rig) > 0 {
        let spans: Vec<_> = (0..room(rig).min(MANY))
            .map(|number| (at + number * 2 * FINE_BLOCK, FINE_BLOCK))
            .collect();
        at += MANY * 2 * FINE_BLOCK;
        rig.offer(0, 0, NO_TAG, &spans);
    }
    rig.remove(PRIVATE, BLOCK, true);
    let log = rig.fabric.memdev_mut(MemdevId(0)).unwrap().log_mut(LdId(0));
    assert!(log.unwrap().overflow().is_some());
}

/// Offers extents with a tag each, until that is too many of extents, and then of tags.
fn track(rig: &mut Rig) {
    let device = rig.fabric.memdev_mut(MemdevId(0)).unwrap();
    for ld in 0..2_u16 {
        for number in 0_u16.. {
            let mut tag = [0xee; 16];
            tag[0..2].copy_from_slice(&ld.to_le_bytes());
            tag[2..4].copy_from_slice(&number.to_le_bytes());
            let at = span(FINE + u64::from(number) * 2 * FINE_BLOCK, FINE_BLOCK);
            let what = Selection::Prescriptive(vec![at]);
            match device.add(Picos::ZERO, (LdId(ld), 4), &what, Tag(tag)) {
                Ok(_) => {}
                Err(Refusal::Exhausted(_)) => break,
                Err(error) => panic!("{error}"),
            }
            let log = device.log_mut(LdId(ld)).unwrap();
            let handles: Vec<u16> = log.oldest(1).0.map(|(handle, _)| handle).collect();
            log.clear(&handles).unwrap();
        }
    }
    assert_eq!(device.capacity().room(LdId(0)), Ok((0, 0)));
    assert_eq!(device.capacity().room(LdId(1)), Ok((0, 0)));
    assert_eq!(device.capacity().room(LdId(2)), Ok((512, 0)));
}

pub(crate) fn rows() -> Vec<Row> {
    [
        busy(),
        overflow(),
        broken(),
        short(),
        poisoned(),
        erred(),
        tracked(),
    ]
    .concat()
}

fn busy() -> Vec<Row> {
    let while_busy = |base: Base| base.while_in(Situation::Busy);
    let (bind, unbind) = (while_busy(base::bind()), while_busy(base::unbind()));
    let goes_on = "another bridge is being bound";
    let also = "whatever goes on";
    vec![
        bind.no(Busy, goes_on),
        bind.with(&[b1(1, 2)], Busy, "that bridge is being bound"),
        bind.with(&[b1(0, 2), b1(1, 0), b1(2, 2), b2(4, 2)], Busy, goes_on),
        unbind.no(Busy, goes_on),
        unbind.with(&[b1(1, 0)], Busy, goes_on),
        unbind.with(&[b1(0, 1), b1(1, 0), b1(2, 2)], Busy, goes_on),
        while_busy(base::sanitize()).no(Busy, "it is being sanitized"),
        bind.with(&[b1(0, 3)], InvalidInput, also),
        bind.with(&[b1(0, 0), b1(1, 0)], InvalidInput, also),
        bind.with(&[b1(2, 3)], InvalidInput, also),
        unbind.with(&[b1(1, 2)], InvalidInput, also),
        unbind.with(&[b1(2, 3)], InvalidInput, also),
        bind.long(5, also),
        unbind.long(4, also),
        while_busy(base::sanitize()).long(1, also),
        while_busy(base::sanitize())
            .at(SWITCH)
            .no(Unsupported, also),
        while_busy(base::bind()).at(H0).no(Unsupported, also),
        while_busy(base::abort())
            .at(H1)
            .no(InvalidInput, "nothing goes on there"),
        while_busy(base::abort())
            .at(POOL)
            .no(InvalidInput, "nothing goes on there"),
        while_busy(base::abort())
            .at(SINGLE)
            .no(InvalidInput, "nothing goes on there"),
    ]
}

fn overflow() -> Vec<Row> {
    let then = |base: Base| base.while_in(Situation::Overflow);
    let (free, release) = (then(base::free()), then(base::release()));
    let kept = [b2(0, 0), bytes(0x0c, &KEPT.0)];
    let listed = base::prescribed(&[(PRIVATE + 20 * BLOCK, BLOCK, UNKNOWN)]);
    let rule = "the log of the host is full";
    let also = "whatever the log has";
    let mut rows = vec![
        free.no(RetryRequired, rule),
        free.with(&[b1(2, 1)], RetryRequired, rule),
        free.with(&[bytes(0x0c, &[0; 16])], RetryRequired, rule),
        then(listed).no(RetryRequired, rule),
        then(base::shared()).with(&kept, RetryRequired, rule),
        then(base::prescribed_release(&[(SHARED, 2 * BLOCK)])).no(RetryRequired, rule),
        then(base::prescribed_release(&[(COHERENT, 2 * BLOCK)])).no(RetryRequired, rule),
        release.with(&[b8(4, BLOCK)], RetryRequired, rule),
        release.with(&[b1(2, 0x20), b8(4, BLOCK)], RetryRequired, rule),
        release.with(
            &[b8(4, 2 * BLOCK), bytes(0x0c, &ADDED.0)],
            RetryRequired,
            rule,
        ),
        free.with(&[b8(4, BLOCK + 1)], InvalidInput, also),
        free.with(&[b1(3, 6)], InvalidInput, also),
        free.with(&[bytes(0x0c, &LEAVING.0)], InvalidInput, also),
        then(base::shared()).with(&[b2(0, 0)], InvalidInput, also),
        release.with(&[b8(4, 100 * BLOCK)], InvalidInput, also),
        then(base::prescribed_release(&[(SHARED, BLOCK)])).no(InvalidInput, also),
        then(base::clear(&[1])).with(&[b1(1, 1)], InvalidInput, "all, and some"),
        then(base::clear(&[])).no(
            InvalidInput,
            "neither all nor any handle, and some were lost",
        ),
    ];
    for handles in [&[2][..], &[0], &[1, 3], &[257], &[0xffff]] {
        let rule = "not from the oldest on";
        rows.push(then(base::clear(handles)).no(InvalidHandle, rule));
    }
    let all = then(base::clear(&[]))
        .at(H1)
        .with(&[b1(1, 1)], InvalidInput, "none was lost there");
    rows.push(all);
    rows
}

fn broken() -> Vec<Row> {
    let then = |base: Base| base.while_in(Situation::Broken);
    let dropped = |base: Base, rule| then(base).whole(Answer::Dropped, rule);
    let (down, gone) = ("the link is down", "the device is gone");
    let mut rows = Vec::new();
    for cci in [H0, H1] {
        for base in [
            base::limit(),
            base::events(),
            base::sanitize(),
            base::extents(0),
        ] {
            rows.push(dropped(base.at(cci), down));
        }
        rows.push(dropped(
            base::give(&[(SHARED + 2 * BLOCK, 2 * BLOCK)]).at(cci),
            down,
        ));
        rows.push(dropped(base::take(&[]).at(cci), down));
    }
    for base in [
        base::limit(),
        base::extents(0),
        base::give(&[(SHARED, BLOCK)]),
    ] {
        rows.push(dropped(base.at(H0_SINGLE), gone));
    }
    for base in [
        base::free(),
        base::release(),
        base::allocations(),
        base::add_reference(ADDED),
    ] {
        rows.push(dropped(base.at(SINGLE), gone));
    }
    for (base, rule) in [
        (base::limit(), down),
        (base::free(), down),
        (base::tags(0), down),
    ] {
        let one_layer = |port| {
            let mut row = then(base.clone()).through(SWITCH, &[(port, PortOrLd)]);
            row = row.while_in(Situation::Broken);
            row.no(InvalidInput, if port == 2 { rule } else { gone })
        };
        rows.extend([2, 3].map(one_layer));
    }
    let deep = [(2, PortOrLd), (0, PortOrLd)];
    rows.push(
        then(base::sanitize())
            .through(SWITCH, &deep)
            .no(InvalidInput, down),
    );
    rows
}

fn short() -> Vec<Row> {
    let then = |base: Base| base.while_in(Situation::Short);
    let rule = "the answer is too long, and not cut";
    let mut rows = Vec::new();
    for count in [16, 17, 100, 255] {
        let asked = then(base::ports(&vec![2; count]));
        rows.push(asked.no(InvalidPayloadLength, rule));
        let asked = then(base::virtual_switches(&vec![1; count]));
        rows.push(asked.no(InvalidPayloadLength, rule));
    }
    let listed = then(base::extents(0));
    let nine = &[bytes(0, &9_u32.to_le_bytes())];
    rows.push(
        listed
            .through(POOL, &[(0, PortOrLd)])
            .with(nine, InvalidPayloadLength, rule),
    );
    rows
}

fn poisoned() -> Vec<Row> {
    let then = |base: Base| base.while_in(Situation::Poisoned);
    let rule = "no more are listed as poisoned";
    let mut rows: Vec<Row> = [0, 0x1000, SHARED, SHARED + 2 * BLOCK, COHERENT, PRIVATE]
        .map(|at| then(base::inject(at)).no(InjectPoisonLimitReached, rule))
        .to_vec();
    for at in [0, SHARED, PRIVATE] {
        rows.push(
            then(base::inject(at))
                .at(H1)
                .no(InjectPoisonLimitReached, rule),
        );
    }
    let also = "whatever is poisoned";
    for at in [SHARED - 64, PRIVATE + 8 * BLOCK] {
        rows.push(then(base::inject(at)).no(InvalidPhysicalAddress, also));
    }
    rows.push(then(base::inject(0)).with(&[b8(0, 1)], InvalidPhysicalAddress, also));
    rows
}

fn tracked() -> Vec<Row> {
    let then = |base: Base| base.while_in(Situation::Tracked);
    let free = then(base::free());
    let listed = then(base::prescribed(&[(PRIVATE, BLOCK, UNKNOWN)]));
    let unlisted = then(base::prescribed(&[(PRIVATE, BLOCK, NO_TAG)]));
    let (tags, extents) = (
        "no more tags are kept track of",
        "no more extents are kept track of",
    );
    let mut rows = Vec::new();
    for ld in [0, 1, 2] {
        for (policy, region) in [(0, 0), (0, 2), (1, 1), (1, 2), (1, 4)] {
            let edits = [b2(0, ld), b1(2, policy), b1(3, region)];
            rows.push(free.with(&edits, ResourcesExhausted, tags));
        }
        rows.push(listed.with(&[b2(0, ld)], ResourcesExhausted, tags));
    }
    for ld in [0, 1] {
        for policy in [0, 1] {
            let edits = [b2(0, ld), b1(2, policy), bytes(0x0c, &[0; 16])];
            rows.push(free.with(&edits, ResourcesExhausted, extents));
        }
        rows.push(unlisted.with(&[b2(0, ld)], ResourcesExhausted, extents));
    }
    let also = "however much is kept track of";
    rows.push(free.with(&[bytes(0x0c, &BOTH.0), b1(2, 3)], InvalidInput, also));
    rows.push(free.with(
        &[b2(0, 2), bytes(0x0c, &[0; 16]), b8(4, 64)],
        InvalidInput,
        also,
    ));
    rows
}
