//! Bugs that a fabric is likely to have, planted one at a time, and the laws that each breaks. One
//! test: a planted bug is there for the whole process.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fabric_emu::capacity::{Capacity, NO_TAG, Region, Removal, Selection};
use fabric_emu::cci::{Category, Message, Request, ReturnCode, Tag, generic::Empty};
use fabric_emu::fabric::{Cci, Effect, Event, Fabric, Fault};
use fabric_emu::id::{HostId, LdId, MemdevId, Node, Port, PortId, SwitchId, VcsId, VppbId};
use fabric_emu::media::Media;
use fabric_emu::schedule::Schedule;
use fabric_emu::span::Span;
use fabric_emu::switch::Bound;
use fabric_emu::timing::{Picos, Server};
use fabric_emu::topology::{Topology, shapes};
use pool_core::fault::plant;
use pool_core::rng::Rng;
use pool_core::units::KIB;

#[path = "../examples/trace/scene.rs"]
mod scene;

const POOL: MemdevId = MemdevId(0);
const SWITCH: SwitchId = SwitchId(0);
const TAG: Tag = Tag([3; 16]);

fn span(start: u64, bytes: u64) -> Span {
    Span::new(start, bytes).expect("it has bytes")
}

/// Random acts on a device: its invariants hold, and what a host was told to have it has.
fn capacity() {
    let region = |start, is_sharable| Region {
        span: span(start, 32),
        block: 4,
        is_sharable,
        is_read_only: false,
        sanitizes: false,
        is_hardware_coherent: false,
    };
    let regions = vec![region(0, false), region(64, true)];
    let mut device = Capacity::new(span(1_000, 48), &[regions.clone(), regions]);
    let mut rng = Rng::new(1);
    for _ in 0..3_000 {
        let ld = LdId(u16::from(rng.once_in(2)));
        let tag = [NO_TAG, TAG][usize::from(rng.once_in(2))];
        let region = usize::from(rng.once_in(2));
        let extents = device.extents(ld).expect("it is there");
        let some = extents.first().map(|extent| span(extent.span.start, 4));
        // What is refused is refused; the invariants tell of the rest.
        let _refused = match rng.below(7) {
            0 => device
                .offer((ld, region), &Selection::Free(8), tag, 9)
                .map(|_| ()),
            1 => device
                .offer((ld, 1), &Selection::Shared, TAG, 9)
                .map(|_| ()),
            2 => device.answer(ld, &[]).map(|_| ()),
            3 => take_all(&mut device, ld),
            4 => device
                .release(ld, &some.into_iter().collect::<Vec<_>>())
                .map(|_| ()),
            5 => {
                let removal = Removal::Tagged { tag, bytes: 8 };
                device.remove(ld, &removal, (true, false), 9).map(|_| ())
            }
            _ => device.vacate(ld).map(|_| ()),
        };
        device.check().expect("the invariants hold");
    }
}

/// The host takes all that it is offered first, wherever that is.
fn take_all(device: &mut Capacity, ld: LdId) -> Result<(), fabric_emu::refusal::Refusal> {
    for start in (0..96).step_by(4) {
        for bytes in [8, 4] {
            if device.answer(ld, &[span(start, bytes)]).is_ok() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Something of a region that is not sharable has one host.
fn sharing() {
    let region = |is_sharable| Region {
        span: span(if is_sharable { 64 } else { 0 }, 32),
        block: 4,
        is_sharable,
        is_read_only: false,
        sanitizes: false,
        is_hardware_coherent: false,
    };
    let regions = vec![region(false), region(true)];
    let mut device = Capacity::new(span(0, 48), &[regions.clone(), regions]);
    device
        .offer((LdId(0), 0), &Selection::Free(8), TAG, 9)
        .expect("there is room");
    let shared = device.offer((LdId(1), 1), &Selection::Shared, TAG, 9);
    assert!(shared.is_err(), "what is not sharable was shared");
}

/// Two hosts of a switch with the same memory, kept coherent by hardware or by nobody.
fn two_hosts(is_hardware_coherent: bool) -> Fabric {
    let mut topology = Topology::named("four-hosts").expect("it is there");
    let memdev = &mut topology.memdevs[0];
    for region in &mut memdev.regions {
        region.is_hardware_coherent = is_hardware_coherent;
        region.is_sharable = true;
    }
    for host in &mut topology.hosts {
        host.takes_back_invalidates = true;
        host.cache_lines = 4;
        host.writes_back_no_clean_lines = true;
    }
    let down = topology
        .links
        .iter()
        .find(|link| link.down.node == Node::Memdev(POOL));
    let port = down.expect("the pool is connected").up.port;
    let block = topology.memdevs[0].regions[0].block.get();
    let mut fabric = Fabric::new(&topology, 5).expect("its classes are known");
    for host in 0..2 {
        let bound = Bound {
            port,
            ld: Some(LdId(host)),
        };
        let vcs = VcsId(u8::try_from(host).expect("it is small"));
        let switch = fabric.switch_mut(SWITCH).expect("it is there");
        switch
            .bind((vcs, VppbId(0)), bound)
            .expect("nothing is bound");
        let what = match host {
            0 => Selection::Free(block),
            _ => Selection::Shared,
        };
        let device = fabric.memdev_mut(POOL).expect("it is there");
        let offered = device
            .add(Picos::ZERO, (LdId(host), 0), &what, TAG)
            .expect("there is room");
        let spans: Vec<Span> = offered.iter().map(|extent| extent.span).collect();
        device
            .answer(Picos::ZERO, LdId(host), &spans)
            .expect("it was offered");
        let map = Event::Map {
            host: HostId(host),
            span: span(1 << 40, block),
            memdev: POOL,
            ld: LdId(host),
            address: spans[0].start,
        };
        assert_eq!(fabric.step(Picos::ZERO, &map), [Effect::Done]);
    }
    fabric
}

/// Whoever reads a line reads what was written last, by whomever.
fn coherence() {
    let mut fabric = two_hosts(true);
    let (mut rng, mut last) = (Rng::new(2), [0_u8; 8]);
    for round in 0..2_000_u64 {
        let (host, line) = (HostId(u16::from(rng.once_in(2))), rng.below(8));
        let address = (1 << 40) + line * 64;
        let place = &mut last[usize::try_from(line).expect("it is small")];
        if rng.once_in(2) {
            *place = u8::try_from(round % 250).expect("it is small");
            let content = [*place; 64];
            fabric.step(
                Picos::ZERO,
                &Event::Store {
                    host,
                    address,
                    content,
                },
            );
        } else {
            let effects = fabric.step(Picos::ZERO, &Event::Load { host, address });
            let Some(Effect::Loaded { content, .. }) = effects.last() else {
                panic!("{effects:?}");
            };
            assert_eq!(content[0], *place);
        }
    }
}

/// Zeroed memory is of zeros, also where it begins and ends within a page.
fn zeroing() {
    let mut media = Media::default();
    media.write(KIB, &[1; 64]);
    media.zero(span(KIB, 64));
    assert_eq!(media.read(KIB), Ok([0; 64]));
}

/// A logical device is bound once; and one thing at a time goes on in the background.
fn binding() {
    let mut fabric = two_hosts(false);
    let switch = fabric.switch_mut(SWITCH).expect("it is there");
    let bound = switch.virtual_switches()[0].bridges[0].expect("it is bound");
    let again = switch.bind((VcsId(2), VppbId(0)), bound);
    assert!(again.is_err(), "it was bound twice");
}

fn background() {
    let mut fabric = two_hosts(false);
    let (opcode, payload) = Request::Sanitize(Empty).encode();
    let message = Message {
        category: Category::Request,
        tag: 1,
        opcode,
        background: false,
        return_code: ReturnCode::Success,
        vendor_status: 0,
        payload: payload.try_into().expect("it is short"),
    };
    let mailbox = Cci::Mailbox {
        host: HostId(0),
        memdev: POOL,
        ld: LdId(0),
    };
    let codes = [0, 1].map(|_| {
        let command = Event::Command {
            cci: mailbox,
            message: message.encode(),
        };
        match &fabric.step(Picos::ZERO, &command)[..] {
            [Effect::Answer(answer)] => Message::decode(answer).expect("it is one").return_code,
            other => panic!("{other:?}"),
        }
    });
    let expected = [ReturnCode::BackgroundCommandStarted, ReturnCode::Busy];
    assert_eq!(codes, expected);
}

/// A run of a topology, as one number, with a step more or less at another time.
fn run(seed: u64, later: u64) -> u64 {
    let topology = Topology::named("expander").expect("it is there");
    let mut scene = scene::Scene::new(&topology, seed).expect("its classes are known");
    scene.run(1_000);
    let end = Picos::MAX.saturating_sub(Picos::new(later));
    let nothing = Event::Unmap {
        host: HostId(9),
        start: 0,
    };
    scene.fabric.step(end, &nothing);
    scene.fabric.trace()
}

/// The same seed and the same events are the same number, and anything else is another.
fn traces() {
    assert_eq!(run(5, 2), run(5, 2), "the same seed");
    assert_ne!(run(5, 2), run(6, 2), "another seed");
    assert_ne!(run(5, 2), run(5, 1), "another time");
}

/// What a host's caches do is the same however many other hosts there are.
fn streams() {
    let evictions = |hosts: usize| {
        let mut topology = Topology::named("two-heads").expect("it is there");
        topology.hosts[0].cache_lines = 4;
        topology.memdevs[0].fixed = pool_core::Bytes::new(512 << 20);
        let more = topology.hosts[1].clone();
        for number in 2..hosts {
            let mut host = more.clone();
            host.name = format!("h{number}");
            topology.hosts.push(host);
        }
        let mut fabric = Fabric::new(&topology, 5).expect("its classes are known");
        let host = HostId(0);
        let map = Event::Map {
            host,
            span: span(0, 1 << 20),
            memdev: POOL,
            ld: LdId(0),
            address: 0,
        };
        fabric.step(Picos::ZERO, &map);
        let load = |line: u64| {
            let address = line * 7 % 16 * 64;
            fabric.step(Picos::new(line), &Event::Load { host, address })
        };
        (0..500).map(load).collect::<Vec<_>>()
    };
    assert_eq!(evictions(2), evictions(3), "one more host shifted a draw");
}

/// A host that is cut off and one that is not read the same of coherent memory.
fn cut_off() {
    let mut fabric = two_hosts(true);
    let store = |host, byte| Event::Store {
        host: HostId(host),
        address: 1 << 40,
        content: [byte; 64],
    };
    fabric.step(Picos::ZERO, &store(0, 1));
    let port = Port {
        node: Node::Host(HostId(0)),
        port: PortId(0),
    };
    fabric.step(Picos::ZERO, &Event::Fault(Fault::LinkFails(port)));
    let read = |fabric: &mut Fabric, host| {
        let load = Event::Load {
            host: HostId(host),
            address: 1 << 40,
        };
        match fabric.step(Picos::ZERO, &load).last() {
            Some(Effect::Loaded { content, .. }) => content[0],
            other => panic!("{other:?}"),
        }
    };
    let other = read(&mut fabric, 1);
    fabric.step(Picos::ZERO, &Event::Fault(Fault::LinkHeals(port)));
    assert_eq!(read(&mut fabric, 0), other);
}

/// Of many that come at once each waits for those before it.
fn waits() {
    let mut server = Server::default();
    let service = Picos::new(10);
    let starts: Vec<_> = (0..3)
        .map(|_| server.serve(Picos::ZERO, Picos::ZERO, service))
        .collect();
    assert_eq!(starts, [0, 10, 20].map(Picos::new));
}

/// Faults of one time keep their order.
fn order() {
    let mut schedule = Schedule::new();
    for host in 0..3 {
        let fault = Fault::HostDies(HostId(host));
        schedule.add(Picos::ZERO, fault).expect("a file holds it");
    }
    let read = Schedule::parse("s", &schedule.to_toml()).expect("it was printed");
    for schedule in [schedule, read] {
        let first = schedule.faults().first().expect("it was planned");
        assert_eq!(first.fault, Fault::HostDies(HostId(0)));
    }
}

/// What is bound at a switch is a way for hosts that are behind another one too.
fn ways() {
    let mut fabric = Fabric::new(&shapes::tree(1, 65), 5).expect("its classes are known");
    // The host at port 0 of the middle one, the second switch behind port 1, a device behind its 0.
    for (id, port) in [(SWITCH, 1), (SwitchId(1), 0)] {
        let bound = Bound {
            port: PortId(port),
            ld: None,
        };
        let switch = fabric.switch_mut(id).expect("it is there");
        let bridge = (VcsId(0), VppbId(0));
        switch.bind(bridge, bound).expect("nothing is bound");
        fabric.advance(Picos::ZERO);
    }
    let map = Event::Map {
        host: HostId(0),
        span: span(0, 64),
        memdev: POOL,
        ld: LdId(0),
        address: 0,
    };
    assert_eq!(fabric.step(Picos::ZERO, &map), [Effect::Done]);
}

/// A law, by what it says.
type Law = fn();

fn holds(law: Law) -> bool {
    catch_unwind(AssertUnwindSafe(law)).is_ok()
}

/// Catches: capacity.shares_anything, capacity.reuses_what_the_host_may_take
/// Catches: capacity.frees_what_others_have, capacity.leaves_what_was_released_in_reach
/// Catches: cache.drops_what_was_written, fabric.writes_what_others_read
/// Catches: fabric.reads_past_who_wrote, media.zeroes_whole_pages_alone, switch.binds_twice
/// Catches: command.begins_two_at_once, fabric.draws_from_the_machine
/// Catches: fabric.draws_by_how_many_there_are, trace.leaves_out_the_time
/// Catches: fabric.has_lines_back_over_no_link, timing.serves_two_at_once
/// Catches: schedule.puts_the_last_first, fabric.forgets_who_is_behind_another_switch
#[test]
fn each_planted_bug_breaks_a_law() {
    let bugs: [(&str, Law); 17] = [
        ("capacity.shares_anything", sharing),
        ("capacity.reuses_what_the_host_may_take", capacity),
        ("capacity.frees_what_others_have", capacity),
        ("capacity.leaves_what_was_released_in_reach", capacity),
        ("cache.drops_what_was_written", coherence),
        ("fabric.writes_what_others_read", coherence),
        ("fabric.reads_past_who_wrote", coherence),
        ("media.zeroes_whole_pages_alone", zeroing),
        ("switch.binds_twice", binding),
        ("command.begins_two_at_once", background),
        ("fabric.draws_from_the_machine", traces),
        ("fabric.draws_by_how_many_there_are", streams),
        ("trace.leaves_out_the_time", traces),
        ("fabric.has_lines_back_over_no_link", cut_off),
        ("timing.serves_two_at_once", waits),
        ("schedule.puts_the_last_first", order),
        ("fabric.forgets_who_is_behind_another_switch", ways),
    ];
    for (bug, law) in bugs {
        plant(None);
        assert!(
            holds(law),
            "the law that {bug} breaks does not hold without it"
        );
        plant(Some(bug));
        assert!(!holds(law), "{bug} breaks no law");
    }
    plant(None);
}
