//! Hosts that use memory of one device, and what their accesses take.

use fabric_emu::fabric::{Effect, Event, Fabric};
use fabric_emu::id::{HostId, LdId, MemdevId, PortId, SwitchId, VcsId, VppbId};
use fabric_emu::span::Span;
use fabric_emu::switch::Bound;
use fabric_emu::timing::{Picos, Share, Table};
use fabric_emu::topology::Topology;
use pool_core::units::{GIB, LINE_BYTES};

pub(crate) const BASE: u64 = 1 << 40;
pub(crate) const LD: LdId = LdId(0);
pub(crate) const DEVICE: MemdevId = MemdevId(0);

/// A table in which nothing takes longer now and then.
pub(crate) fn steady() -> Table {
    let none = "{ value = 0, unit = \"once in\", source = \"none\", evidence = \"assumed\" }";
    let text = format!(
        "[cxl-x8]\ntail_once_in = {none}\n[cxl-x16]\ntail_once_in = {none}\n\
         [link-32]\nretry_once_in = {none}\n[link-64]\nretry_once_in = {none}\n"
    );
    Table::embedded().unwrap().overlay(&text).unwrap()
}

/// `hosts` hosts, each with 128 GiB of the fixed memory of one device, behind a switch where there
/// are several. Their caches have one line each, and write back nothing clean.
pub(crate) fn fabric(hosts: u16, change: impl Fn(&mut Topology)) -> Fabric {
    let name = if hosts == 1 { "expander" } else { "four-hosts" };
    let mut topology = Topology::named(name).unwrap();
    for host in &mut topology.hosts {
        host.cache_lines = 1;
        host.writes_back_no_clean_lines = true;
    }
    let memdev = &mut topology.memdevs[0];
    memdev.fixed = pool_core::Bytes::new(128 * GIB * u64::from(hosts));
    change(&mut topology);
    topology.check().unwrap();
    let mut fabric = Fabric::with_table(&topology, 7, &steady()).unwrap();
    for (host, vcs) in (0..hosts).zip(0..) {
        if hosts > 1 {
            let bound = Bound {
                port: PortId(4),
                ld: Some(LdId(host)),
            };
            let switch = fabric.switch_mut(SwitchId(0)).unwrap();
            switch.bind((VcsId(vcs), VppbId(0)), bound).unwrap();
        }
        let map = Event::Map {
            host: HostId(host),
            span: Span::new(BASE, 128 * GIB).unwrap(),
            memdev: DEVICE,
            ld: LdId(host),
            address: 0,
        };
        assert_eq!(fabric.step(Picos::ZERO, &map), [Effect::Done]);
    }
    fabric
}

pub(crate) fn at(line: u64) -> u64 {
    BASE + line * LINE_BYTES
}

pub(crate) fn load(fabric: &mut Fabric, now: Picos, host: u16, line: u64) -> Picos {
    let load = Event::Load {
        host: HostId(host),
        address: at(line),
    };
    match fabric.step(now, &load)[..] {
        [Effect::Loaded { took, .. }] => took,
        ref other => panic!("{other:?}"),
    }
}

pub(crate) fn store(fabric: &mut Fabric, now: Picos, host: u16, line: u64) -> Picos {
    let store = Event::Store {
        host: HostId(host),
        address: at(line),
        content: [1; 64],
    };
    match fabric.step(now, &store)[..] {
        [Effect::Written { took }] => took,
        ref other => panic!("{other:?}"),
    }
}

pub(crate) fn write_back(fabric: &mut Fabric, now: Picos, host: u16, lines: u64) -> Picos {
    let span = Span::new(BASE, lines * LINE_BYTES).unwrap();
    let host = HostId(host);
    match fabric.step(now, &Event::WriteBack { host, span })[..] {
        [Effect::Written { took }] => took,
        ref other => panic!("{other:?}"),
    }
}

pub(crate) fn unloaded(fabric: &Fabric, host: u16, reads: Share) -> Picos {
    let way = fabric.way(HostId(host), DEVICE, LdId(host)).unwrap();
    fabric.elements().unloaded(&way, reads).unwrap()
}

/// Far enough apart that nothing waits.
pub(crate) fn apart(number: u64) -> Picos {
    Picos::from_nanos(10_000 * number)
}

/// Has a host map its memory where nothing is mapped, or where that is mapped already.
pub(crate) fn remap(fabric: &mut Fabric, now: Picos, host: u16) {
    let start = BASE;
    let host = HostId(host);
    fabric.step(now, &Event::Unmap { host, start });
    let map = Event::Map {
        host,
        span: Span::new(BASE, 128 * GIB).unwrap(),
        memdev: DEVICE,
        ld: LdId(host.0),
        address: 0,
    };
    assert_eq!(fabric.step(now, &map), [Effect::Done]);
}
