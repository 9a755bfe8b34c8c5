//! Which window a region is planned in, where several lead to its devices, or one takes turns.

use pool_core::units::GIB;

use super::*;
use crate::port::Dport;
use crate::region_step::tests::{WINDOW, decoder, empty, new_region, port};

fn window(name: &str, targets: &[u64]) -> Decoder {
    Decoder {
        targets: targets.to_vec(),
        ..decoder(name.to_owned(), DecoderKind::Root, "root0")
    }
}

/// A region that has so much of a window, from its beginning.
fn fill(topology: &mut Topology, window: &str, bytes: u64) {
    let mut region = new_region(&format!("region{}", topology.regions.len()));
    window.clone_into(&mut region.decoder);
    region.addresses = 0..bytes;
    topology.regions.push(region);
}

#[test]
fn where_a_window_is_full_the_next_one_that_leads_there_is_taken() {
    let mut topology = empty();
    let next = "decoder0.1";
    topology.decoders.push(window(next, &[7]));
    let of = |topology: &Topology| RegionPlan::new(topology, &NewRegion::of(0xa0));
    assert_eq!(of(&topology).unwrap().window, WINDOW);
    fill(&mut topology, WINDOW, 8 * GIB - 512 * MIB);
    assert_eq!(of(&topology).unwrap().window, next);
    fill(&mut topology, next, 8 * GIB - 768 * MIB);
    let Err(ChangeError::WindowFull { window, left, .. }) = of(&topology) else {
        panic!("there is no room for all of a device");
    };
    assert_eq!((window.as_str(), left), (next, Bytes::new(768 * MIB)));
}

/// Each of the two devices behind a bridge of its own, and a window that goes from one to the other
/// by so many bytes.
fn two_bridges(granularity: u32) -> Topology {
    let mut topology = empty();
    let root = topology.ports.iter_mut().find(|it| it.name == "root0");
    root.unwrap().dports.push(Dport {
        name: "other".to_owned(),
        id: 8,
    });
    let mut bridge = port("port9", PortKind::Switch, Some("root0"), "other");
    bridge.parent_dport = Some("other".to_owned());
    topology.ports.push(bridge);
    let second = topology.ports.iter_mut().find(|it| it.name == "endpoint3");
    second.unwrap().parent = Some("port9".to_owned());
    topology.decoders.push(Decoder {
        ways: 2,
        granularity,
        ..window("decoder0.1", &[7, 8])
    });
    topology
}

#[test]
fn what_lies_in_a_window_that_takes_turns_does_so_by_as_many_bytes() {
    let topology = two_bridges(1024);
    let of = |serials: &[u64], granularity| {
        let wanted = NewRegion {
            serials: serials.to_vec(),
            bytes: Some(Bytes::new(512 * MIB)),
            granularity,
        };
        RegionPlan::new(&topology, &wanted)
    };
    assert_eq!(of(&[0xa0, 0xa1], Some(1024)).unwrap().window, "decoder0.1");
    let refused = of(&[0xa0, 0xa1], Some(256)).unwrap_err();
    assert!(
        matches!(
            refused,
            ChangeError::WindowInterleave {
                granularity: 1024,
                wanted: 256,
                ..
            }
        ),
        "{refused}"
    );
    // Of one bridge alone it may be any: the window takes no turns there.
    assert_eq!(of(&[0xa0], Some(4096)).unwrap().window, WINDOW);
    // Where nothing is said it is the window's, or the least where that takes none.
    assert_eq!(of(&[0xa0, 0xa1], None).unwrap().granularity, 1024);
    assert_eq!(of(&[0xa0], None).unwrap().granularity, 256);
    let turned = of(&[0xa1, 0xa0], Some(1024)).unwrap_err();
    assert!(matches!(turned, ChangeError::NoWindow(_)), "{turned}");
}
