//! What devices and switches tell of their speed, byte by byte, and who is told.

#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

use fabric_emu::cdat::{Cdat, CdatError, Entry, Figure, Scaled};
use fabric_emu::fabric::{AccessError, Effect, Event, Fabric, Fault, Told};
use fabric_emu::id::{HostId, LdId, MemdevId, Node, Port, PortId, SwitchId, VcsId, VppbId};
use fabric_emu::switch::Bound;
use fabric_emu::timing::Picos;
use fabric_emu::topology::Topology;
use proptest::prelude::*;

const DEVICE: MemdevId = MemdevId(0);
const HERE: Told = Told::Memdev(DEVICE, LdId(0));
const LINK: Port = Port {
    node: Node::Host(HostId(0)),
    port: PortId(0),
};

/// As the structures of the table are written: 128 GiB that take 165 ns, in units of 10 ps, and
/// carry 20,800 and 21,000 MB/s.
const EXPANDER: &str = "
    a0000000 01 11 000000000000 00000000
    00 00 1800 00 00 0000 0000000000000000 0000000020000000
    01 00 1800 00 00 01 00 0a00000000000000 7440 0000 0000 0000
    01 00 1800 00 00 02 00 0a00000000000000 7440 0000 0000 0000
    01 00 1800 00 00 04 00 0100000000000000 4051 0000 0000 0000
    01 00 1800 00 00 05 00 0100000000000000 0852 0000 0000 0000
    04 00 1800 00 01 0000 0000000000000000 0000000020000000";
/// From the upstream port to any: 150 ns, in units of 10 ps, and 2,000 GB/s, in units of 100 MB/s.
const SWITCH: &str = "
    40000000 01 d6 000000000000 00000000
    05 00 1800 00 000000 0a00000000000000 0001 ffff 983a 0000
    05 00 1800 03 000000 6400000000000000 0001 ffff 204e 0000";

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|each| !each.is_whitespace())
        .map(|each| u8::try_from(each.to_digit(16).unwrap()).unwrap())
        .collect();
    let pairs = digits.chunks_exact(2);
    pairs.map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn fabric(name: &str) -> Fabric {
    Fabric::new(&Topology::named(name).unwrap(), 1).unwrap()
}

fn read(fabric: &mut Fabric, host: u16, of: Told) -> Effect {
    let host = HostId(host);
    let mut effects = fabric.step(Picos::ZERO, &Event::ReadCdat { host, of });
    effects.pop().unwrap()
}

fn table(fabric: &mut Fabric) -> Cdat {
    match read(fabric, 0, HERE) {
        Effect::Cdat(bytes) => Cdat::decode(&bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn hit(fabric: &mut Fabric, fault: Fault) {
    let effects = fabric.step(Picos::ZERO, &Event::Fault(fault));
    assert_eq!(effects, [Effect::Done], "{fault:?}");
}

/// What is told of a figure of the first range.
fn told(cdat: &Cdat, figure: Figure) -> u64 {
    let told = cdat.entries.iter().find_map(|entry| match *entry {
        Entry::Speed {
            figure: it, value, ..
        } if it == figure => Some(value.number()),
        _ => None,
    });
    told.unwrap()
}

#[test]
fn a_device_and_a_switch_tell_the_bytes_of_their_tables() {
    let told = read(&mut fabric("expander"), 0, HERE);
    assert_eq!(told, Effect::Cdat(hex(EXPANDER)));
    let told = read(&mut fabric("four-hosts"), 1, Told::Switch(SwitchId(0)));
    assert_eq!(told, Effect::Cdat(hex(SWITCH)));
}

#[test]
fn a_region_is_told_as_a_range_with_its_flags_and_by_its_handle() {
    let topology = Topology::named("four-hosts").unwrap();
    let mut fabric = fabric("four-hosts");
    assert_eq!(
        read(&mut fabric, 0, HERE),
        Effect::Failed(AccessError::Unreachable)
    );
    let bound = Bound {
        port: PortId(4),
        ld: Some(LdId(0)),
    };
    let switch = fabric.switch_mut(SwitchId(0)).unwrap();
    switch.bind((VcsId(0), VppbId(0)), bound).unwrap();
    let entries = table(&mut fabric).entries;
    let ranges = entries.iter().filter_map(|entry| match *entry {
        Entry::Range {
            handle,
            flags,
            bytes,
            ..
        } => Some((handle, flags, bytes)),
        _ => None,
    });
    let regions = &topology.memdevs[0].regions;
    let expected = (1..).zip(regions).map(|(handle, region)| {
        let flag = |is_so: bool, flag: u8| if is_so { flag } else { 0 };
        let flags = Entry::DYNAMIC
            | flag(region.is_sharable, Entry::SHARABLE)
            | flag(region.is_hardware_coherent, Entry::HARDWARE_COHERENT)
            | flag(region.is_read_only, Entry::READ_ONLY);
        (handle, flags, region.length.get())
    });
    let ranges: Vec<_> = ranges.filter(|(handle, ..)| *handle > 0).collect();
    assert_eq!(ranges, expected.collect::<Vec<_>>());
}

#[test]
fn a_table_is_that_of_the_link_now_and_a_stale_one_that_of_before() {
    let mut fabric = fabric("expander");
    let first = table(&mut fabric);
    let retrains = Fault::LinkRetrains {
        port: LINK,
        lanes: 1,
        gigatransfers: 8,
    };
    hit(&mut fabric, Fault::CdatGoesStale(DEVICE));
    hit(&mut fabric, retrains);
    assert_eq!(table(&mut fabric), first);
    hit(&mut fabric, Fault::MemdevHeals(DEVICE));
    let slow = table(&mut fabric);
    assert_eq!(slow.sequence, 1);
    let bandwidth = |cdat: &Cdat| told(cdat, Figure::ReadBandwidth);
    assert_eq!(bandwidth(&first), 20_800);
    assert!(bandwidth(&slow) < 1_000, "{slow:?}");
    let latency = |cdat: &Cdat| told(cdat, Figure::ReadLatency);
    assert_eq!(latency(&slow), latency(&first));
    hit(&mut fabric, Fault::LinkHeals(LINK));
    let healed = table(&mut fabric);
    assert_eq!((healed.sequence, &healed.entries), (2, &first.entries));
    for (fault, why) in [
        (Fault::LinkFails(LINK), AccessError::Unreachable),
        (Fault::HostDies(HostId(0)), AccessError::Dead),
    ] {
        fabric.step(Picos::ZERO, &Event::Fault(fault));
        assert_eq!(read(&mut fabric, 0, HERE), Effect::Failed(why));
    }
    let nowhere = Event::Fault(Fault::CdatGoesStale(MemdevId(9)));
    let failed = [Effect::Failed(AccessError::Unreachable)];
    assert_eq!(fabric.step(Picos::ZERO, &nowhere), failed);
}

fn figure() -> impl Strategy<Value = Figure> {
    prop_oneof![
        Just(Figure::AccessLatency),
        Just(Figure::ReadLatency),
        Just(Figure::WriteLatency),
        Just(Figure::AccessBandwidth),
        Just(Figure::ReadBandwidth),
        Just(Figure::WriteBandwidth),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let scaled = || (any::<u64>(), any::<u16>()).prop_map(|(unit, count)| Scaled { unit, count });
    let spans = || (any::<u64>(), any::<u64>());
    prop_oneof![
        (any::<[u8; 2]>(), spans()).prop_map(|([handle, flags], (start, bytes))| Entry::Range {
            handle,
            flags,
            start,
            bytes,
        }),
        (any::<u8>(), figure(), scaled()).prop_map(|(handle, figure, value)| Entry::Speed {
            handle,
            figure,
            value,
        }),
        (any::<[u8; 2]>(), spans()).prop_map(|([handle, memory], (offset, bytes))| Entry::Use {
            handle,
            memory,
            offset,
            bytes,
        }),
        (figure(), scaled()).prop_map(|(figure, value)| Entry::Switch { figure, value }),
    ]
}

proptest! {
    #[test]
    fn a_table_is_read_as_it_was_written_and_no_other_byte_is(
        sequence in any::<u32>(),
        entries in proptest::collection::vec(entry(), 0..9),
        at in any::<prop::sample::Index>(),
        other in 1..=u8::MAX,
    ) {
        let cdat = Cdat { sequence, entries };
        let mut bytes = cdat.encode();
        prop_assert_eq!(bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0);
        prop_assert_eq!(Cdat::decode(&bytes), Ok(cdat));
        for length in 0..bytes.len() {
            prop_assert_eq!(Cdat::decode(&bytes[..length]), Err(CdatError::Head));
        }
        let at = at.index(bytes.len());
        bytes[at] ^= other;
        prop_assert!(Cdat::decode(&bytes).is_err());
    }

    #[test]
    fn any_bytes_are_a_table_or_are_refused(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..99),
    ) {
        if let Ok(length) = u32::try_from(bytes.len())
            && let Some(head) = bytes.first_chunk_mut::<4>()
        {
            *head = length.to_le_bytes();
        }
        if let Ok(read) = Cdat::decode(&bytes) {
            prop_assert_eq!(read.encode(), bytes);
        }
    }

    #[test]
    fn a_number_is_told_in_a_unit_in_which_it_fits(
        number in prop_oneof![any::<u64>(), 0..70_000_u64],
    ) {
        let scaled = Scaled::of(number);
        prop_assert!(scaled.count < u16::MAX);
        let over = u128::from(scaled.unit) * u128::from(scaled.count) - u128::from(number);
        prop_assert!(over < u128::from(scaled.unit));
    }
}
