//! Which hosts reach what, through one switch and through several.

use fabric_emu::fabric::{Effect, Event, Fabric};
use fabric_emu::id::{HostId, LdId, MemdevId, PortId, SwitchId, VcsId, VppbId};
use fabric_emu::span::Span;
use fabric_emu::switch::Bound;
use fabric_emu::timing::Picos;
use fabric_emu::topology::shapes;
use pool_core::rng::Rng;

/// Two hosts at a switch in the middle, and so many devices that they are behind two more.
const HOSTS: u16 = 2;
const DEVICES: u16 = 70;
/// The first switch is in the middle; the second has the first 16 devices.
const SWITCHES: [SwitchId; 2] = [SwitchId(0), SwitchId(1)];

/// Whether a host is let map memory of a device, as those are that reach it.
fn may_map(fabric: &mut Fabric, host: HostId, memdev: MemdevId) -> bool {
    let span = Span::new(1 << 40, 64).unwrap();
    let map = Event::Map {
        host,
        span,
        memdev,
        ld: LdId(0),
        address: 0,
    };
    let effects = fabric.step(Picos::ZERO, &map);
    let start = span.start;
    fabric.step(Picos::ZERO, &Event::Unmap { host, start });
    effects == [Effect::Done]
}

/// What the steps of a fabric remember of ways is what following its bridges says, whichever switch
/// was bound or unbound last.
#[test]
fn a_bridge_anywhere_on_the_way_leads_each_host_above_it_on_at_once() {
    let topology = shapes::tree(HOSTS, DEVICES);
    let mut fabric = Fabric::new(&topology, 1).unwrap();
    let mut rng = Rng::new(3);
    let mut reached = 0;
    for _ in 0..400 {
        let id = SWITCHES[usize::from(rng.once_in(2))];
        let switch = fabric.switch_mut(id).unwrap();
        let vcs = u8::try_from(rng.below(switch.virtual_switches().len() as u64)).unwrap();
        // Hosts at the middle one, then the other switches; devices at the others.
        let first = if id == SWITCHES[0] { HOSTS } else { 0 };
        let port = PortId(u8::try_from(u64::from(first) + rng.below(4)).unwrap());
        let bound = Bound { port, ld: None };
        let vppb = VppbId(u8::try_from(rng.below(2)).unwrap());
        // What cannot be is refused, and changes nothing.
        let _changed = if rng.once_in(3) {
            switch.unbind(VcsId(vcs), vppb).map(drop)
        } else {
            switch.bind((VcsId(vcs), vppb), bound)
        };
        for host in (0..HOSTS).map(HostId) {
            let ways = fabric.reach(host);
            for memdev in (0..4).map(MemdevId) {
                let is_reached = ways.iter().any(|way| way.memdev == memdev);
                assert_eq!(
                    may_map(&mut fabric, host, memdev),
                    is_reached,
                    "{host} {memdev}"
                );
                reached += u32::from(is_reached);
            }
        }
    }
    assert!(reached > 100, "{reached} of 3,200");
}
