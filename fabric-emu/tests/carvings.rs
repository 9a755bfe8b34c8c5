//! Random acts of hosts and managers, after each of which the invariants of carvings hold; and bugs
//! planted one at a time, each of which breaks one. One test: a planted bug is there for the whole
//! process.

#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

use fabric_emu::capacity::{Removal, Selection};
use fabric_emu::cci::Tag;
use fabric_emu::fabric::{Event, Fabric, Fault};
use fabric_emu::id::{HostId, LdId, MemdevId, PortId, SwitchId, VcsId, VppbId};
use fabric_emu::serve::carvings::{Broken, Carvings};
use fabric_emu::span::Span;
use fabric_emu::switch::Bound;
use fabric_emu::timing::Picos;
use fabric_emu::topology::Topology;
use pool_core::fault::plant;
use pool_core::rng::Rng;
use pool_core::units::MIB;

const POOL: MemdevId = MemdevId(0);
const BLOCK: u64 = 2 * MIB;
const SEEDS: u64 = 40;
const NOW: Picos = Picos::ZERO;

/// Three hosts of which two have a logical device, in a small pool: own memory and shared memory.
fn fabric() -> Fabric {
    let mut topology = Topology::named("four-hosts").unwrap();
    let memdev = &mut topology.memdevs[0];
    let mut region = memdev.regions[0].clone();
    region.block = pool_core::Bytes::new(BLOCK);
    region.length = pool_core::Bytes::new(256 * MIB);
    region.sanitizes = false;
    let own = fabric_emu::topology::Region {
        is_sharable: false,
        ..region.clone()
    };
    memdev.regions = vec![own, region];
    Fabric::new(&topology, 3).unwrap()
}

/// A host, by its number, with the logical device of that number.
fn of(number: u64) -> (HostId, LdId) {
    let number = u16::try_from(number).unwrap();
    (HostId(number), LdId(number))
}

fn extents(fabric: &Fabric, ld: LdId) -> Vec<Span> {
    let had = fabric.memdev(POOL).unwrap().capacity().extents(ld).unwrap();
    had.iter().map(|extent| extent.span).collect()
}

/// One of what there is, or nothing.
fn one<T: Copy>(rng: &mut Rng, all: &[T]) -> Option<T> {
    let place = rng.below(u64::try_from(all.len()).unwrap().max(1));
    all.get(usize::try_from(place).unwrap()).copied()
}

/// A manager or a host does something with memory. What is refused is refused.
fn change(fabric: &mut Fabric, rng: &mut Rng) {
    let (_, ld) = of(rng.below(2));
    let tag = Tag([u8::try_from(1 + rng.below(3)).unwrap(); 16]);
    let had = extents(fabric, ld);
    let picked = one(rng, &had);
    let device = fabric.memdev_mut(POOL).unwrap();
    match rng.below(8) {
        0..4 => {
            let region = usize::from(rng.once_in(2));
            let what = match rng.below(3) {
                0 if region == 1 => Selection::Shared,
                _ => Selection::Free(BLOCK * (1 + rng.below(2))),
            };
            if let Ok(offered) = device.add(NOW, (ld, region), &what, tag) {
                let spans: Vec<Span> = offered.iter().map(|extent| extent.span).collect();
                device.answer(NOW, ld, &spans).unwrap();
            }
        }
        4 => {
            let _refused = device.release(NOW, ld, &picked.into_iter().collect::<Vec<_>>());
        }
        5 => {
            let some = Removal::Prescriptive(picked.into_iter().collect());
            let _refused = device.remove(NOW, ld, &some, (true, false));
        }
        _ => {
            let _refused = device.add_reference(tag);
            let _refused = device.remove_reference(tag);
        }
    }
}

/// Something goes wrong, or is well again.
fn fail(fabric: &mut Fabric, rng: &mut Rng) {
    let (host, ld) = of(rng.below(2));
    let switch = SwitchId(0);
    let fault = match rng.below(16) {
        0 => Fault::HostDies(host),
        1..6 => Fault::HostStarts(host),
        6 => Fault::MemdevVanishes(POOL),
        7..12 => Fault::MemdevReturns(POOL),
        // What a host had goes to another one.
        12 => {
            let _unbound = fabric
                .switch_mut(switch)
                .unwrap()
                .unbind(vcs(host), VppbId(0));
            bind(fabric, HostId(2), ld);
            return;
        }
        _ => {
            let _unbound = fabric
                .switch_mut(switch)
                .unwrap()
                .unbind(VcsId(2), VppbId(0));
            for number in 0..2 {
                let (host, ld) = of(number);
                bind(fabric, host, ld);
            }
            return;
        }
    };
    fabric.step(NOW, &Event::Fault(fault));
}

fn vcs(host: HostId) -> VcsId {
    VcsId(u8::try_from(host.0).unwrap())
}

/// Where that can be.
fn bind(fabric: &mut Fabric, host: HostId, ld: LdId) {
    let bound = Bound {
        port: PortId(4),
        ld: Some(ld),
    };
    let bridge = (vcs(host), VppbId(0));
    let _refused = fabric.switch_mut(SwitchId(0)).unwrap().bind(bridge, bound);
}

/// A host carves something, or gives it back.
fn carve(fabric: &Fabric, carvings: &mut Carvings, rng: &mut Rng) {
    let (host, ld) = of(rng.below(3));
    let ld = if host == HostId(2) {
        of(rng.below(2)).1
    } else {
        ld
    };
    let had = extents(fabric, ld);
    let Some(picked) = one(rng, &had) else {
        return;
    };
    let spans = match rng.below(3) {
        0 => vec![Span::new(picked.start, BLOCK).unwrap()],
        1 => vec![picked],
        _ => had.iter().copied().take(2).collect(),
    };
    if rng.once_in(4) {
        let mine: Vec<u64> = carvings.of_host(host).map(|(number, _)| number).collect();
        let number = one(rng, &mine).unwrap_or(0);
        let _refused = carvings.give_back(host, number);
        return;
    }
    let before = carvings.clone();
    let number = carvings.carve(fabric, (host, POOL, ld), spans.clone());
    match number {
        Ok(number) => assert_eq!(carvings.of(host, number).unwrap().spans, spans),
        Err(_) => assert_eq!(*carvings, before),
    }
}

/// How many carvings there were, all in all, and the first invariant that did not hold.
fn walk(seed: u64) -> (usize, Result<(), Broken>) {
    let (mut fabric, mut carvings, mut rng) = (fabric(), Carvings::default(), Rng::new(seed));
    for number in 0..2 {
        let (host, ld) = of(number);
        bind(&mut fabric, host, ld);
    }
    let mut carved = 0;
    for _ in 0..600 {
        match rng.below(32) {
            0..12 => change(&mut fabric, &mut rng),
            12 => fail(&mut fabric, &mut rng),
            _ => carve(&fabric, &mut carvings, &mut rng),
        }
        fabric.advance(NOW);
        carvings.follow(&fabric);
        carved += (0..3)
            .map(|host| carvings.of_host(HostId(host)).count())
            .sum::<usize>();
        if let Err(broken) = carvings.check(&fabric) {
            return (carved, Err(broken));
        }
    }
    (carved, Ok(()))
}

/// Catches: serve.carves_twice, serve.keeps_what_left, serve.file_for_each_host
#[test]
fn no_host_carves_what_it_has_not_or_twice_or_apart_from_who_shares_it() {
    plant(None);
    let mut all = 0;
    for seed in 0..SEEDS {
        let (carved, holds) = walk(seed);
        assert_eq!(holds, Ok(()), "seed {seed}");
        all += carved;
    }
    // After every second of their 600 acts a host has something carved, in the mean.
    assert!(all > 600 * 40 / 2, "next to nothing is carved: {all}");
    for bug in [
        "serve.carves_twice",
        "serve.keeps_what_left",
        "serve.file_for_each_host",
    ] {
        plant(Some(bug));
        let caught = (0..SEEDS).any(|seed| walk(seed).1.is_err());
        assert!(caught, "{bug} breaks no invariant");
    }
    plant(None);
}
