//! All that clients and operators do to a pool, once each, with what must be true after it.

use pool_proto::admin::v1 as admin;
use pool_proto::common::v1::Access;
use tierpool_tests::EXTENT;
use tierpool_tests::client::{Held, ask};
use tierpool_tests::daemon::Daemon;

use super::calls::{Client, Costs, operate};

/// Goes through it all; at the end nobody is attached and nothing is granted.
pub(crate) fn play(daemon: &Daemon) {
    let costs = Costs::default();
    let mut owner = Client::attach(daemon, "owner", &costs);
    let mut guest = Client::attach(daemon, "guest", &costs);
    let held = sizes(&mut owner);
    let held = shares(&mut owner, &mut guest, held);
    let held = moves(&mut owner, held);
    devices(daemon, &mut owner, &held);
    lifetimes(&mut owner, held);
    owner.detach();
    guest.detach();
    costs.are_bounded();
}

/// A segment is made, grows and shrinks.
fn sizes(owner: &mut Client) -> Held {
    let create = ask::create_in_pieces("ddr", "common");
    let held = owner.granted(&create);
    assert!(held.is_zero());
    held.write(1);
    let held = owner.granted(&ask::resize(held.id(), 3 * EXTENT));
    assert_eq!(held.segment.bytes, 3 * EXTENT);
    assert!(held.pieces().count() == 3 && begins_with(&held, 2, 1));
    let held = owner.granted(&ask::resize(held.id(), EXTENT));
    assert_eq!(held.segment.bytes, EXTENT);
    assert!(held.holds(1));
    assert_eq!(owner.sees(), [held.id()]);
    held
}

/// Whether the first pieces, an extent each, hold what `seed` wrote, and the others are zero.
fn begins_with(held: &Held, pieces: usize, seed: u64) -> bool {
    held.pieces().enumerate().all(|(index, (offset, mapped))| {
        if index < pieces {
            tierpool_tests::pattern::holds(&mapped, offset, seed)
        } else {
            tierpool_tests::pattern::is_zero(&mapped)
        }
    })
}

/// Another tenant is let in, and shut out again.
fn shares(owner: &mut Client, guest: &mut Client, held: Held) -> Held {
    let (id, tenant) = (held.id(), guest.tenant());
    owner.done(&ask::share(id, &tenant, Access::ReadOnly));
    let name = format!("{}:common", owner.tenant());
    let theirs = guest.granted(&ask::open(&name, Access::ReadOnly));
    assert!(theirs.holds(1));
    assert_eq!(guest.sees(), [id]);
    let moved = owner.granted(&ask::revoke(id, &tenant));
    assert!(moved.segment.incarnation > held.segment.incarnation);
    assert!(moved.holds(1));
    moved.write(2);
    assert!(theirs.holds(1), "what was taken back is cut off");
    assert!(guest.sees().is_empty());
    moved
}

/// The contents go to another tier, and are read there anew.
fn moves(owner: &mut Client, held: Held) -> Held {
    let moved = owner.granted(&ask::relocate(held.id(), "pooled"));
    assert_eq!(moved.segment.tier, "pooled");
    drop(held);
    let again = owner.granted(&ask::refresh(moved.id()));
    assert_eq!(again.segment, moved.segment);
    assert!(again.holds(2));
    again
}

/// A device leaves and comes back, and gets another size and its own again.
fn devices(daemon: &Daemon, owner: &mut Client, held: &Held) {
    let device = || "pooled0".to_owned();
    operate(daemon, |admin| {
        admin.drain_device(admin::DrainDeviceRequest { device: device() })
    });
    operate(daemon, |admin| {
        admin.activate_device(admin::ActivateDeviceRequest { device: device() })
    });
    for extents in [6, 8] {
        let bytes = extents * EXTENT;
        let resized = operate(daemon, |admin| {
            let device = device();
            admin.resize_device(admin::ResizeDeviceRequest { device, bytes })
        });
        assert_eq!(resized.total_bytes, bytes);
    }
    assert_eq!(owner.sees(), [held.id()]);
    assert!(held.holds(2));
}

/// Segments end in each way that there is.
fn lifetimes(owner: &mut Client, held: Held) {
    let alone = owner.granted(&ask::create("ddr", EXTENT));
    assert!(alone.is_zero());
    owner.done(&ask::close(alone.id()));
    let kept = owner.granted(&ask::create_persistent("ddr", EXTENT, "kept"));
    kept.write(3);
    owner.done(&ask::close(kept.id()));
    let kept = owner.granted(&ask::open("kept", Access::ReadWrite));
    assert!(kept.holds(3));
    owner.done(&ask::free(kept.id(), false));
    assert_eq!(
        owner.sees(),
        [held.id()],
        "nothing is left that nobody asked for"
    );
    owner.done(&ask::free(held.id(), false));
    assert!(owner.sees().is_empty());
}
