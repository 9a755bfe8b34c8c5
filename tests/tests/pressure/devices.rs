//! Devices are drained, taken back, removed and resized by operators while clients hold memory of
//! them.

use pool_proto::admin::v1 as admin;
use pool_proto::common::v1::{Access, DeviceState, ErrorReason};
use pool_proto::session::v1::event;
use tierpool_tests::client::{Held, ask};
use tierpool_tests::daemon::Daemon;
use tierpool_tests::setup::Setup;
use tierpool_tests::{EXTENT, until};
use tonic::{Code, Status};

use super::start;

/// What each of two devices has.
const DEVICE_EXTENTS: u64 = 16;

fn two_devices() -> Daemon {
    start(&Setup::small(32).and_device("dev1", "ddr", 32))
}

fn drain(daemon: &Daemon, device: &str) -> admin::Device {
    let device = device.to_owned();
    let request = admin::DrainDeviceRequest { device };
    daemon.admin().drain_device(request).unwrap()
}

fn activate(daemon: &Daemon, device: &str) -> admin::Device {
    let device = device.to_owned();
    let request = admin::ActivateDeviceRequest { device };
    daemon.admin().activate_device(request).unwrap()
}

fn remove(daemon: &Daemon, device: &str) -> Result<admin::RemoveDeviceReply, Status> {
    let device = device.to_owned();
    daemon
        .admin()
        .remove_device(admin::RemoveDeviceRequest { device })
}

fn resize(daemon: &Daemon, device: &str, extents: u64) -> Result<admin::Device, Status> {
    let (device, bytes) = (device.to_owned(), extents * EXTENT);
    daemon
        .admin()
        .resize_device(admin::ResizeDeviceRequest { device, bytes })
}

/// The one device that a segment lies on.
fn device_of(held: &Held) -> String {
    let first = held.segment.pieces[0].device.clone();
    assert!(
        held.segment
            .pieces
            .iter()
            .all(|piece| piece.device == first)
    );
    first
}

#[test]
fn a_drained_device_is_left_by_its_holders_with_their_bytes_and_removed() {
    let daemon = two_devices();
    let mut operator = daemon.admin().events().unwrap();
    let mut client = daemon.attach("a");
    let held = client.granted(ask::create("ddr", 2 * EXTENT));
    held.write(1);
    let device = device_of(&held);
    drain(&daemon, &device);
    let event::Body::DeviceLeaving(leaving) = client.event() else {
        panic!("the holder is told");
    };
    assert_eq!(
        (leaving.device.as_str(), leaving.segment_ids),
        (device.as_str(), vec![held.id()])
    );
    assert_eq!(operator.next_of("device-draining").device, device);
    assert_eq!(
        daemon.admin().device(&device).state(),
        DeviceState::Draining
    );
    assert_eq!(
        remove(&daemon, &device).unwrap_err().code(),
        Code::FailedPrecondition
    );

    let moved = client.granted(ask::relocate(held.id(), "ddr"));
    assert_ne!(device_of(&moved), device);
    assert_eq!(moved.segment.addr, held.segment.addr, "at the same address");
    assert!(moved.holds(1));
    drop(held);
    until("the device is empty", || {
        let state = daemon.admin().device(&device);
        (state.free_bytes == state.total_bytes).then_some(())
    });
    remove(&daemon, &device).unwrap();
    assert_eq!(operator.next_of("device-removed").device, device);
    let full = client.refused(ask::create("ddr", DEVICE_EXTENTS * EXTENT));
    assert_eq!(
        full.reason(),
        ErrorReason::OverQuota,
        "all of one device is the limit"
    );
    assert!(moved.holds(1));
    daemon.balanced();

    activate(&daemon, &device);
    assert_eq!(operator.next_of("device-activated").device, device);
    let again = client.granted(ask::create("ddr", DEVICE_EXTENTS * EXTENT));
    assert!(again.is_zero());
    daemon.balanced();
}

#[test]
fn what_nobody_holds_leaves_a_draining_device_by_itself() {
    let daemon = two_devices();
    let mut operator = daemon.admin().events().unwrap();
    let mut client = daemon.attach("a");
    let kept = client.granted(ask::create_persistent("ddr", 3 * EXTENT, "kept"));
    kept.write(1);
    let (id, device) = (kept.id(), device_of(&kept));
    drop(kept);
    client.ask(ask::close(id));
    drain(&daemon, &device);
    assert_eq!(operator.next_of("segment-moved").segment_id, id);
    let kept = client.granted(ask::open("kept", Access::ReadOnly));
    assert_ne!(device_of(&kept), device);
    assert!(kept.holds(1));
    until("the device is empty", || {
        let state = daemon.admin().device(&device);
        (state.free_bytes == state.total_bytes).then_some(())
    });
    remove(&daemon, &device).unwrap();
    daemon.balanced();
}

#[test]
fn a_device_that_is_taken_back_was_never_away() {
    let daemon = two_devices();
    let mut client = daemon.attach("a");
    let held = client.granted(ask::create("ddr", EXTENT));
    held.write(1);
    let device = device_of(&held);
    for _ in 0..3 {
        drain(&daemon, &device);
        assert!(matches!(client.event(), event::Body::DeviceLeaving(_)));
        let elsewhere = client.granted(ask::create("ddr", EXTENT));
        assert_ne!(
            device_of(&elsewhere),
            device,
            "nothing more is granted from it"
        );
        client.ask(ask::free(elsewhere.id(), false));
        assert_eq!(activate(&daemon, &device).state(), DeviceState::Online);
        let event::Body::DeviceBack(back) = client.event() else {
            panic!("the holder is told");
        };
        assert_eq!(back.device, device);
    }
    assert!(held.holds(1));
    daemon.balanced();
}

#[test]
fn a_device_grows_and_shrinks_under_its_clients_and_stays_so() {
    let mut daemon = start(&Setup::small(32));
    let mut operator = daemon.admin().events().unwrap();
    let mut client = daemon.attach("a");
    let first = client.granted(ask::create("ddr", 10 * EXTENT));
    first.write(1);
    let full = client.refused(ask::create("ddr", 20 * EXTENT));
    assert_eq!(full.reason(), ErrorReason::OverQuota);

    assert_eq!(
        resize(&daemon, "dev0", 32).unwrap().total_bytes,
        32 * EXTENT
    );
    assert_eq!(operator.next_of("device-resized").bytes, 32 * EXTENT);
    let second = client.granted(ask::create("ddr", 20 * EXTENT));
    second.write(2);
    assert!(second.holds(2) && first.holds(1));

    let in_use = resize(&daemon, "dev0", 29).unwrap_err();
    assert_eq!(in_use.code(), Code::FailedPrecondition, "{in_use}");
    assert_eq!(daemon.admin().device("dev0").total_bytes, 32 * EXTENT);
    assert_eq!(resize(&daemon, "dev0", 30).unwrap().free_bytes, 0);
    assert!(second.holds(2) && first.holds(1));
    let full = client.refused(ask::create("ddr", EXTENT));
    assert_eq!(full.reason(), ErrorReason::OverQuota);
    daemon.balanced();

    daemon.kill();
    daemon.restart();
    client.reattach().unwrap();
    assert_eq!(daemon.admin().device("dev0").total_bytes, 30 * EXTENT);
    assert!(second.holds(2) && first.holds(1));
    client.granted(ask::refresh(first.id()));
    daemon.balanced();
}
