//! Whose memory is carved, what is in it, and where a stale store lands.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use fabric_emu::cci::dcd_management::SelectionPolicy;
use fabric_emu::cci::generic::Empty;
use fabric_emu::cci::virtual_switch::{UnbindOption, UnbindVppbRequest};
use fabric_emu::cci::{Request, ReturnCode, dcd_management::ReferenceRequest};
use fabric_emu::fabric::Fault;
use fabric_emu::id::{LdId, Node, Port, PortId, SwitchId, VcsId, VppbId};
use fabric_emu::serve::wire::Outcome;
use fabric_emu::serve::{AskError, Carver, CarverError, Config, Cut, Mode};
use fabric_emu::span::Span;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use pool_core::Bytes;
use pool_core::clock::eventually;
use pool_core::mem::{Access, FileMap};
use pool_core::units::{MIB, TIB};

use crate::rig::{H0, OWN, POOL, READ_ONLY, Rig, SHARED, soon, tag};

fn refused(outcome: Outcome) -> Option<CarverError> {
    Some(CarverError::Refused(outcome))
}

fn span(start_mib: u64, mib: u64) -> Span {
    Span::new(start_mib * MIB, mib * MIB).unwrap()
}

/// A host's own logical device.
fn carve(carver: &mut Carver, ld: u16, spans: &[Span]) -> Result<Cut, CarverError> {
    carver.carve(POOL, LdId(ld), spans)
}

fn write(cut: &Cut, at: u64, byte: u8) {
    let file = File::from(cut.file.try_clone().unwrap());
    file.write_all_at(&[byte; 64], at).unwrap();
}

fn read(cut: &Cut, at: u64) -> u8 {
    let file = File::from(cut.file.try_clone().unwrap());
    let mut bytes = [0; 64];
    file.read_exact_at(&mut bytes, at).unwrap();
    assert!(bytes.iter().all(|&byte| byte == bytes[0]), "{bytes:?}");
    bytes[0]
}

fn is_zero(cut: &Cut) -> bool {
    let file = File::from(cut.file.try_clone().unwrap());
    let mut bytes = vec![1; usize::try_from(cut.bytes).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes.iter().all(|&byte| byte == 0)
}

fn inode(cut: &Cut) -> u64 {
    File::from(cut.file.try_clone().unwrap())
        .metadata()
        .unwrap()
        .ino()
}

#[test]
fn a_carving_is_a_sealed_private_file_that_is_there() {
    let rig = Rig::start();
    rig.bind_all();
    rig.give(0, OWN, 8, tag(1));
    let mut carver = rig.carver(0);
    let cut = carve(&mut carver, 0, &[span(4, 2), span(0, 2)]).unwrap();
    assert_eq!(cut.bytes, 4 * MIB);
    let file = File::from(cut.file.try_clone().unwrap());
    let status = file.metadata().unwrap();
    assert_eq!((status.len(), status.mode() & 0o7777), (4 * MIB, 0o600));
    assert!(status.blocks() * 512 >= 4 * MIB);
    assert!(file.set_len(2 * MIB).is_err() && file.set_len(6 * MIB).is_err());
    let seals = SealFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GET_SEALS).unwrap());
    let all = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    assert!(seals.contains(all) && !seals.contains(SealFlag::F_SEAL_WRITE));
    assert!(is_zero(&cut));
    // It can be mapped, and is the same file when it is opened again, by another connection too.
    let map = FileMap::new(
        cut.file.as_fd(),
        Bytes::ZERO,
        Bytes::new(cut.bytes),
        Access::ReadWrite,
    );
    assert!(map.is_ok());
    write(&cut, 2 * MIB, 7);
    let again = rig.carver(0).open(cut.carving).unwrap();
    assert_eq!((inode(&again), read(&again, 2 * MIB)), (inode(&cut), 7));
    let listed = rig.carver(0).list().unwrap();
    let [one] = &listed[..] else {
        panic!("{listed:?}")
    };
    assert_eq!(
        (one.carving, one.bytes, one.ld),
        (cut.carving, 4 * MIB, LdId(0))
    );
}

#[test]
fn ranges_that_are_none_or_crooked_or_named_twice_are_refused() {
    let rig = Rig::start();
    rig.bind_all();
    rig.give(0, OWN, 8, tag(1));
    let mut carver = rig.carver(0);
    for wrong in [
        vec![],
        vec![Span { start: 0, bytes: 0 }],
        vec![Span {
            start: 0,
            bytes: 100,
        }],
        vec![Span {
            start: 4_095,
            bytes: 4_096,
        }],
        vec![span(0, 2), span(1, 2)],
        vec![Span {
            start: u64::MAX - 4_095,
            bytes: 8_192,
        }],
    ] {
        let carved = carve(&mut carver, 0, &wrong);
        assert_eq!(carved.err(), refused(Outcome::BadSpans), "{wrong:?}");
    }
    let many = vec![span(0, 2); 513];
    let carved = carve(&mut carver, 0, &many).err();
    assert_eq!(carved, Some(CarverError::TooMany(513)));
    assert_eq!(carver.list(), Ok(Vec::new()));
}

#[test]
fn a_host_carves_what_it_has_and_that_once() {
    let rig = Rig::start();
    let (mut carver, mut other) = (rig.carver(0), rig.carver(1));
    assert_eq!(
        carve(&mut carver, 0, &[span(0, 2)]).err(),
        refused(Outcome::Unreachable)
    );
    rig.bind_all();
    assert_eq!(
        carve(&mut carver, 0, &[span(0, 2)]).err(),
        refused(Outcome::NotHad)
    );
    rig.offer(LdId(0), OWN, 2 * MIB, SelectionPolicy::Free, tag(9));
    assert_eq!(
        carve(&mut carver, 0, &[span(0, 2)]).err(),
        refused(Outcome::NotHad)
    );
    rig.mailbox(0)
        .ask(&Request::AddDcResponse(crate::rig::list(&[])))
        .unwrap();
    rig.give(0, OWN, 4, tag(1));
    rig.give(0, OWN, 4, tag(2));
    assert_eq!(
        carve(&mut carver, 0, &[span(6, 4)]).err(),
        refused(Outcome::NotHad)
    );
    assert_eq!(
        carve(&mut carver, 1, &[span(0, 2)]).err(),
        refused(Outcome::Unreachable)
    );
    assert_eq!(
        carve(&mut carver, 7, &[span(0, 2)]).err(),
        refused(Outcome::Unreachable)
    );
    assert_eq!(
        carve(&mut other, 1, &[span(0, 2)]).err(),
        refused(Outcome::NotHad)
    );
    // One may be of two groups that touch.
    let cut = carve(&mut carver, 0, &[span(2, 4)]).unwrap();
    assert_eq!(
        carve(&mut rig.carver(0), 0, &[span(0, 4)]).err(),
        refused(Outcome::Carved)
    );
    let beside = carve(&mut carver, 0, &[span(0, 2)]).unwrap();
    assert_ne!(inode(&beside), inode(&cut));
    for number in [cut.carving, 999, 0] {
        assert_eq!(
            other.give_back(number),
            Err(CarverError::Refused(Outcome::NoCarving))
        );
        assert_eq!(other.open(number).err(), refused(Outcome::NoCarving));
    }
    write(&cut, 0, 5);
    assert_eq!(carver.give_back(cut.carving), Ok(()));
    assert_eq!(
        carver.give_back(cut.carving),
        Err(CarverError::Refused(Outcome::NoCarving))
    );
    let again = carve(&mut carver, 0, &[span(0, 8)]).err();
    assert_eq!(
        again,
        refused(Outcome::Carved),
        "the one beside is carved still"
    );
    let again = carve(&mut carver, 0, &[span(2, 6)]).unwrap();
    assert!(is_zero(&again));
}

#[test]
fn what_a_stale_holder_stores_is_seen_by_no_next_owner() {
    let rig = Rig::start();
    rig.bind_all();
    let all = rig.give(0, OWN, 256, tag(1));
    let mut carver = rig.carver(0);
    let cut = carve(&mut carver, 0, &[span(0, 4)]).unwrap();
    write(&cut, 0, 1);
    let bytes = Bytes::new(cut.bytes);
    let map = FileMap::new(cut.file.as_fd(), Bytes::ZERO, bytes, Access::ReadWrite).unwrap();
    rig.force(0, &all, tag(1));
    assert_eq!(carver.open(cut.carving).err(), refused(Outcome::NoCarving));
    assert_eq!(carver.list(), Ok(Vec::new()));
    assert_eq!(
        carve(&mut carver, 0, &[span(0, 4)]).err(),
        refused(Outcome::NotHad)
    );
    // Neither the next host, nor the same one.
    rig.give(1, OWN, 256, tag(2));
    let next = carve(&mut rig.carver(1), 1, &[span(0, 4)]).unwrap();
    let stores = map.mapped();
    stores.write_view::<u8>(Bytes::ZERO, 64).unwrap().fill(9);
    write(&cut, 64, 9);
    assert!(is_zero(&next));
    rig.force(1, &rig.had(1), tag(2));
    rig.give(0, OWN, 4, tag(1));
    let own = carve(&mut carver, 0, &[span(0, 4)]).unwrap();
    write(&cut, 0, 9);
    assert!(is_zero(&own));
}

#[test]
fn a_carving_ends_with_the_first_of_its_memory_that_leaves() {
    let rig = Rig::start();
    rig.bind_all();
    rig.give(0, OWN, 8, tag(1));
    let mut carver = rig.carver(0);
    let cut = carve(&mut carver, 0, &[span(0, 4)]).unwrap();
    let kept = carve(&mut carver, 0, &[span(4, 4)]).unwrap();
    write(&kept, 0, 3);
    rig.release(0, &[span(2, 2)]);
    assert_eq!(carver.open(cut.carving).err(), refused(Outcome::NoCarving));
    assert_eq!(read(&carver.open(kept.carving).unwrap(), 0), 3);
    assert!(is_zero(&carve(&mut carver, 0, &[span(0, 2)]).unwrap()));
}

#[test]
fn hosts_that_share_a_group_have_the_same_memory() {
    let rig = Rig::start();
    rig.bind_all();
    let (mut one, mut two) = (rig.carver(0), rig.carver(1));
    let first = rig.give(0, SHARED, 4, tag(1));
    let part = [Span::new(first[0].start, 2 * MIB).unwrap()];
    assert_eq!(carve(&mut one, 0, &part).err(), refused(Outcome::NotWhole));
    let mine = carve(&mut one, 0, &first).unwrap();
    write(&mine, 0, 5);
    let second = rig.share(1, SHARED, 4, tag(1));
    let theirs = carve(&mut two, 1, &second).unwrap();
    assert_eq!((inode(&theirs), read(&theirs, 0)), (inode(&mine), 5));
    assert_eq!(carve(&mut two, 1, &second).err(), refused(Outcome::Carved));
    // It is there while one has the group, also while nobody has carved it.
    rig.release(0, &first);
    assert_eq!(one.open(mine.carving).err(), refused(Outcome::NoCarving));
    write(&theirs, 64, 6);
    two.give_back(theirs.carving).unwrap();
    let theirs = carve(&mut two, 1, &second).unwrap();
    assert_eq!((read(&theirs, 0), read(&theirs, 64)), (5, 6));
    // And while it is referenced.
    let reference = ReferenceRequest { tag: tag(1) };
    let mut manager = rig.remote("memdev0.cci");
    manager
        .ask(&Request::AddReference(reference.clone()))
        .unwrap();
    rig.release(1, &second);
    let first = rig.share(0, SHARED, 4, tag(1));
    assert_eq!(read(&carve(&mut one, 0, &first).unwrap(), 0), 5);
    // The next group of this tag is another one.
    manager.ask(&Request::RemoveReference(reference)).unwrap();
    rig.release(0, &first);
    let anew = rig.give(0, SHARED, 4, tag(1));
    let anew = carve(&mut one, 0, &anew).unwrap();
    write(&mine, 0, 9);
    assert!(is_zero(&anew));
}

#[test]
fn who_only_reads_a_region_is_given_a_file_to_read() {
    let rig = Rig::start();
    rig.bind_all();
    let written = rig.give(0, SHARED, 2, tag(1));
    let read_only = rig.share(1, READ_ONLY, 2, tag(1));
    let (mine, theirs) = (
        carve(&mut rig.carver(0), 0, &written).unwrap(),
        carve(&mut rig.carver(1), 1, &read_only).unwrap(),
    );
    write(&mine, 0, 4);
    assert_eq!(read(&theirs, 0), 4);
    let flags = fcntl(&theirs.file, FcntlArg::F_GETFL).unwrap();
    let access = OFlag::from_bits_retain(flags) & OFlag::O_ACCMODE;
    assert_eq!(access, OFlag::O_RDONLY);
    assert!(File::from(theirs.file).write_all_at(&[1], 0).is_err());
}

#[test]
fn the_carvings_of_a_dead_host_end_and_those_of_others_do_not() {
    let rig = Rig::start();
    rig.bind_all();
    let shared = rig.give(0, SHARED, 2, tag(1));
    let theirs = rig.share(1, SHARED, 2, tag(1));
    rig.give(0, OWN, 2, tag(2));
    let mut carver = rig.carver(0);
    let own = carve(&mut carver, 0, &[span(0, 2)]).unwrap();
    let mine = carve(&mut carver, 0, &shared).unwrap();
    let theirs = carve(&mut rig.carver(1), 1, &theirs).unwrap();
    write(&theirs, 0, 8);
    rig.fault(Fault::HostDies(H0));
    assert_eq!(carver.list(), Ok(Vec::new()));
    assert_eq!(
        carve(&mut carver, 0, &[span(0, 2)]).err(),
        refused(Outcome::HostDead)
    );
    assert_eq!(
        rig.mailbox(0).ask(&Request::Identify(Empty)),
        Err(AskError::Dropped)
    );
    assert_eq!(
        rig.carver(1).open(theirs.carving).map(|it| read(&it, 0)),
        Ok(8)
    );
    rig.fault(Fault::HostStarts(H0));
    // What it had it has, and carves anew.
    let again = carve(&mut carver, 0, &[span(0, 2)]).unwrap();
    write(&own, 0, 9);
    assert!(is_zero(&again));
    let again = carve(&mut carver, 0, &shared).unwrap();
    assert_eq!((inode(&again), read(&again, 0)), (inode(&mine), 8));
}

#[test]
fn a_device_that_vanishes_takes_its_memory_along() {
    let rig = Rig::start();
    rig.bind_all();
    let shared = rig.give(0, SHARED, 2, tag(1));
    let mut carver = rig.carver(0);
    let cut = carve(&mut carver, 0, &shared).unwrap();
    write(&cut, 0, 7);
    rig.fault(Fault::MemdevVanishes(POOL));
    assert_eq!(carver.list(), Ok(Vec::new()));
    assert_eq!(
        carve(&mut carver, 0, &shared).err(),
        refused(Outcome::Unreachable)
    );
    rig.fault(Fault::MemdevReturns(POOL));
    assert!(is_zero(&carve(&mut carver, 0, &shared).unwrap()));
}

#[test]
fn a_link_that_is_down_keeps_what_is_carved_and_carves_nothing() {
    let rig = Rig::start();
    rig.bind_all();
    rig.give(0, OWN, 4, tag(1));
    let mut carver = rig.carver(0);
    let cut = carve(&mut carver, 0, &[span(0, 2)]).unwrap();
    write(&cut, 0, 7);
    let node = Node::Switch(SwitchId(0));
    let port = Port {
        node,
        port: PortId(2),
    };
    rig.fault(Fault::LinkFails(port));
    assert_eq!(
        carve(&mut carver, 0, &[span(2, 2)]).err(),
        refused(Outcome::Unreachable)
    );
    rig.fault(Fault::LinkHeals(port));
    assert_eq!(read(&carver.open(cut.carving).unwrap(), 0), 7);
}

#[test]
fn a_logical_device_that_another_host_is_bound_to_is_not_carved_for_the_one_before() {
    let rig = Rig::start();
    rig.bind(0, 0, 0);
    rig.give(0, OWN, 2, tag(1));
    let mut carver = rig.carver(0);
    let cut = carve(&mut carver, 0, &[span(0, 2)]).unwrap();
    let mut switch = rig.remote("switch0.cci");
    let unbind = UnbindVppbRequest {
        vcs_id: VcsId(0),
        vppb_id: VppbId(0),
        option: UnbindOption::SurpriseHotRemove,
    };
    assert_eq!(
        switch.ask(&Request::UnbindVppb(unbind)),
        Err(AskError::Begun)
    );
    assert_eq!(switch.finish(soon()), Ok(ReturnCode::Success));
    assert!(carver.open(cut.carving).is_ok());
    rig.bind(1, 0, 0);
    assert_eq!(carver.open(cut.carving).err(), refused(Outcome::NoCarving));
    // The memory is the logical device's, and so the next host's.
    let next = carve(&mut rig.carver(1), 0, &[span(0, 2)]).unwrap();
    write(&cut, 0, 9);
    assert!(is_zero(&next));
}

#[test]
fn memory_that_the_machine_has_not_is_refused_and_nothing_is_carved() {
    let rig = Rig::with(Config {
        floor: Bytes::new(1_024 * TIB),
        ..Config::new(Mode::Virtual, 1)
    });
    rig.bind_all();
    let shared = rig.give(0, SHARED, 2, tag(1));
    let mut carver = rig.carver(0);
    let short = CarverError::MachineShort { available_bytes: 0 };
    for _ in 0..2 {
        assert_eq!(carve(&mut carver, 0, &shared).err(), Some(short));
        assert_eq!(carver.list(), Ok(Vec::new()));
    }
}

#[test]
fn a_host_that_is_gone_while_its_memory_is_carved_finds_it_in_the_list() {
    let rig = Rig::start();
    rig.bind_all();
    rig.give(0, OWN, 128, tag(1));
    let cutter = rig.carver(0);
    // It does not wait for the file, which is filled in several parts.
    let mut cutter = cutter.with_patience(pool_core::Nanos::ZERO);
    let lost = carve(&mut cutter, 0, &[span(0, 128)]);
    assert!(matches!(lost.err(), None | Some(CarverError::TimedOut)));
    drop(cutter);
    let mut carver = rig.carver(0);
    let carved = eventually(soon(), || carver.list().unwrap().pop()).unwrap();
    assert!(is_zero(&carver.open(carved.carving).unwrap()));
    assert_eq!(carver.give_back(carved.carving), Ok(()));
}

#[test]
fn memory_that_leaves_while_its_file_is_made_is_given_to_nobody() {
    let rig = Rig::start();
    rig.bind_all();
    let all = rig.give(0, OWN, 256, tag(1));
    let outcomes = std::thread::scope(|scope| {
        let carved = scope.spawn(|| carve(&mut rig.carver(0), 0, &all).map(|_| ()));
        let both = eventually(soon(), || {
            let listed = rig.carver(0).list().unwrap();
            (!listed.is_empty()).then_some(())
        });
        assert!(both.is_ok() || carved.is_finished());
        rig.force(0, &all, tag(1));
        carved.join().unwrap()
    });
    // It was made in time, or not.
    assert!(matches!(
        outcomes,
        Ok(()) | Err(CarverError::Refused(Outcome::Left))
    ));
    assert_eq!(rig.carver(0).list(), Ok(Vec::new()));
}
