//! The operations that change what the daemon has made durable: how each begins, what it asks for,
//! and what it promises.
//!
//! Where an operation lets go of memory, nobody has that mapped any more when it is asked for: so
//! the memory comes back within the operation, through each point of a release.

use std::os::fd::AsFd as _;

use coherence::{Slot, State};
use pool_proto::admin::v1 as admin;
use pool_proto::common::v1::{Access, DeviceState, OnDeath};
use pool_proto::session::v1::{Create, Reply, reply, request};
use prost::Message as _;
use tierpool_tests::EXTENT;
use tierpool_tests::admin::Admin;
use tierpool_tests::client::{Answer, Held, Unanswered, ask};
use tierpool_tests::daemon::Daemon;
use tierpool_tests::domain;
use tierpool_tests::pattern;
use tierpool_tests::puppet::{Order, Outcome, Puppet};
use tierpool_tests::setup::Setup;
use tonic::{Code, Status};

use crate::rounds::{Case, Ended, Scene, returned};

/// The device that operators change, alone in its tier.
const FAR: &str = "far0";
const FAR_MIB: u64 = 32;
const SEED: u64 = 17;

/// Points that are passed together.
const REPLIES: &[&str] = &["reply.before-send", "reply.after-send"];
const COMMITS: &[&str] = &["batch.before-commit", "batch.after-commit"];
const PUTS: &[&str] = &["store.before-put", "store.after-put"];
const RELEASES: &[&str] = &[
    "release.before-destroy",
    "release.before-commit",
    "release.after-commit",
    "release.after-forget",
];

pub(crate) const ATTACH: Case = Case {
    passes: &[COMMITS, REPLIES],
    setup,
    prepare: |_| Scene {
        puppet: Some(Puppet::start(env!("CARGO_BIN_EXE_puppet"))),
        ..Scene::default()
    },
    act: |scene, daemon| {
        let puppet = scene.puppet.as_mut().unwrap();
        let attach = Order::Attach {
            socket: daemon.session_socket(),
            tenant: "a".to_owned(),
        };
        // A session that was answered for is there.
        let order = match scene.answer {
            None => attach,
            Some(_) => Order::Reattach,
        };
        let reply = match puppet.order(&order) {
            Outcome::Reply(reply) => Reply::decode(reply.as_slice()).unwrap(),
            Outcome::Gone(_) => return Err(Ended),
            other => panic!("{order:?}: {other:?}"),
        };
        let body = reply.body.unwrap();
        assert!(
            !matches!(body, reply::Body::Error(_)),
            "{order:?}: {body:?}"
        );
        scene.answer = Some(body);
        Ok(())
    },
    left: 0,
    finish: |scene, daemon| {
        let mut puppet = scene.puppet.unwrap();
        puppet.granted(ask::create("ddr", EXTENT));
        // Sessions that were never answered for end with their process, too.
        puppet.kill();
        let mut admin = daemon.admin();
        tierpool_tests::until("no client is known", || {
            admin.clients().ok()?.is_empty().then_some(())
        });
    },
};

pub(crate) const REATTACH: Case = Case {
    passes: &[REPLIES],
    setup,
    prepare: |daemon| {
        let mut scene = holding(daemon, ask::create("ddr", EXTENT));
        scene.absent = scene.clients.pop();
        scene
    },
    act: |scene, _| {
        let back = returned(scene.absent.as_mut().unwrap().reattach())?;
        assert_eq!(back.held.len(), 1);
        assert_eq!(back.held[0].segment_id, scene.segment);
        Ok(())
    },
    left: 1,
    finish: |mut scene, daemon| {
        scene.clients.extend(scene.absent.take());
        give_back(scene, daemon);
    },
};

pub(crate) const CREATE: Case = Case {
    passes: &[PUTS, COMMITS, REPLIES],
    setup,
    prepare: |daemon| Scene {
        clients: vec![daemon.attach("a")],
        ..Scene::default()
    },
    act: |scene, _| asks(scene, ask::create_named("ddr", 2 * EXTENT, "new")),
    left: 2,
    finish: |mut scene, daemon| {
        let held = scene.granted.as_ref().unwrap();
        scene.segment = held.id();
        assert!(held.is_zero());
        held.write(SEED);
        assert_eq!(scene.clients[0].list().len(), 1, "it was done once");
        give_back(scene, daemon);
    },
};

pub(crate) const OPEN: Case = Case {
    passes: &[COMMITS, REPLIES],
    setup,
    prepare: |daemon| {
        let mut scene = holding(daemon, ask::create_named("ddr", 2 * EXTENT, "common"));
        scene.clients.insert(0, daemon.attach("a"));
        scene
    },
    act: |scene, _| asks(scene, ask::open("common", Access::ReadWrite)),
    left: 2,
    finish: |scene, daemon| {
        assert!(scene.granted.as_ref().unwrap().holds(SEED));
        give_back(scene, daemon);
    },
};

pub(crate) const GROW: Case = Case {
    passes: &[PUTS, COMMITS, REPLIES],
    setup,
    prepare: |daemon| {
        let create = Create {
            tier: "ddr".to_owned(),
            bytes: EXTENT,
            capacity_bytes: 4 * EXTENT,
            ..Create::default()
        };
        holding(daemon, request::Body::Create(create))
    },
    act: |scene, _| asks(scene, ask::resize(scene.segment, 3 * EXTENT)),
    left: 3,
    finish: |scene, daemon| {
        let held = scene.granted.as_ref().unwrap();
        assert_eq!(held.segment.bytes, 3 * EXTENT);
        for (offset, mapped) in held.pieces() {
            match offset {
                0 => assert!(pattern::holds(&mapped, 0, SEED)),
                _ => assert!(pattern::is_zero(&mapped)),
            }
        }
        give_back(scene, daemon);
    },
};

pub(crate) const SHRINK: Case = Case {
    passes: &[COMMITS, REPLIES, RELEASES],
    setup,
    prepare: |daemon| {
        let create = Create {
            tier: "ddr".to_owned(),
            bytes: 3 * EXTENT,
            piece_bytes: EXTENT,
            ..Create::default()
        };
        holding(daemon, request::Body::Create(create))
    },
    act: |scene, _| asks(scene, ask::resize(scene.segment, EXTENT)),
    left: 1,
    finish: |scene, daemon| {
        let held = scene.granted.as_ref().unwrap();
        assert_eq!(held.segment.bytes, EXTENT);
        assert!(held.holds(SEED));
        give_back(scene, daemon);
    },
};

pub(crate) const SHARE: Case = Case {
    passes: &[COMMITS, REPLIES],
    setup,
    prepare: |daemon| {
        let mut scene = holding(daemon, ask::create_named("ddr", EXTENT, "lent"));
        scene.clients.push(daemon.attach("b"));
        scene
    },
    act: |scene, _| {
        let share = ask::share(scene.segment, scene.clients[1].tenant(), Access::ReadOnly);
        asks(scene, share)
    },
    left: 1,
    finish: |mut scene, daemon| {
        let name = lent_name(&scene);
        let opened = scene.clients[1].granted(ask::open(&name, Access::ReadOnly));
        assert!(opened.holds(SEED));
        drop(opened);
        give_back(scene, daemon);
    },
};

pub(crate) const SEAL: Case = Case {
    passes: &[COMMITS, REPLIES],
    setup,
    prepare: |daemon| holding(daemon, ask::create_named("ddr", EXTENT, "sealed")),
    act: |scene, _| asks(scene, ask::seal(scene.segment, 1)),
    left: 1,
    finish: |scene, daemon| {
        let held = scene.granted.as_ref().unwrap();
        assert!(held.segment.sealed && held.access == Access::ReadOnly);
        assert!(held.holds(SEED));
        give_back(scene, daemon);
    },
};

pub(crate) const REVOKE_UNUSED: Case = Case {
    passes: &[COMMITS, REPLIES],
    setup,
    prepare: |daemon| shared(daemon, false),
    act: revoke,
    left: 1,
    finish: is_revoked,
};

pub(crate) const REVOKE_USED: Case = Case {
    passes: &[PUTS, COMMITS, REPLIES, RELEASES],
    setup,
    prepare: |daemon| shared(daemon, true),
    act: revoke,
    left: 1,
    finish: is_revoked,
};

pub(crate) const RELOCATE: Case = Case {
    passes: &[PUTS, COMMITS, REPLIES, RELEASES],
    setup,
    prepare: |daemon| holding(daemon, ask::create("ddr", 2 * EXTENT)),
    act: |scene, _| asks(scene, ask::relocate(scene.segment, "pooled")),
    left: 2,
    finish: |scene, daemon| {
        let held = scene.granted.as_ref().unwrap();
        assert_eq!(held.segment.tier, "pooled");
        assert!(held.holds(SEED));
        give_back(scene, daemon);
    },
};

pub(crate) const CLOSE: Case = Case {
    passes: &[COMMITS, REPLIES, RELEASES],
    setup,
    prepare: |daemon| holding(daemon, ask::create("ddr", 2 * EXTENT)),
    act: |scene, _| asks(scene, ask::close(scene.segment)),
    left: 0,
    finish: holds_nothing,
};

pub(crate) const FREE: Case = Case {
    passes: &[COMMITS, REPLIES, RELEASES],
    setup,
    prepare: |daemon| holding(daemon, ask::create_persistent("ddr", 2 * EXTENT, "kept")),
    act: |scene, _| asks(scene, ask::free(scene.segment, false)),
    left: 0,
    finish: holds_nothing,
};

pub(crate) const DETACH: Case = Case {
    passes: &[COMMITS, REPLIES, RELEASES],
    setup,
    prepare: |daemon| Scene {
        ends_the_client: true,
        ..holding(daemon, ask::create("ddr", EXTENT))
    },
    act: |scene, _| match scene.clients.is_empty() {
        true => Ok(()),
        false => asks(scene, ask::detach()),
    },
    left: 0,
    finish: |_, daemon| assert!(daemon.admin().clients().unwrap().is_empty()),
};

pub(crate) const CLIENT_DEATH: Case = Case {
    passes: &[COMMITS, RELEASES],
    setup,
    prepare: |daemon| {
        let mut puppet = Puppet::start(env!("CARGO_BIN_EXE_puppet"));
        puppet.attach(daemon, "a");
        puppet.granted(ask::create("ddr", 2 * EXTENT));
        Scene {
            puppet: Some(puppet),
            ..Scene::default()
        }
    },
    act: |scene, _| {
        if let Some(mut puppet) = scene.puppet.take() {
            puppet.kill();
        }
        Ok(())
    },
    left: 0,
    finish: |_, daemon| assert!(daemon.admin().clients().unwrap().is_empty()),
};

pub(crate) const CREATE_DOMAIN: Case = Case {
    passes: &[
        PUTS,
        COMMITS,
        REPLIES,
        &["domain.formatted", "domain.entered"],
    ],
    setup,
    prepare: |daemon| Scene {
        clients: vec![daemon.attach("a")],
        ..Scene::default()
    },
    act: |scene, _| asks(scene, domain::create(EXTENT, "d", OnDeath::Lose)),
    left: 2,
    finish: |mut scene, daemon| {
        let held = scene.granted.as_ref().unwrap();
        assert_eq!(domain::directory(held).is_formatted(), Ok(true));
        let slot = Slot::new(1).unwrap();
        let era = domain::directory(held).era(slot).unwrap();
        assert_eq!(domain::directory(held).lives(slot, era), Ok(true));
        assert!(domain::lease(held, 0, true).is_ok());
        scene.segment = held.id();
        give_back(scene, daemon);
    },
};

pub(crate) const MEMBER_DEATH: Case = Case {
    passes: &[COMMITS, &["domain.slot-left", "domain.recovered"]],
    setup,
    prepare: |daemon| {
        let mut owner = daemon.attach("a");
        let held = owner.granted(domain::create(EXTENT, "d", OnDeath::Lose));
        let mut puppet = Puppet::start(env!("CARGO_BIN_EXE_puppet"));
        puppet.attach(daemon, "a");
        puppet.granted(ask::open("d", Access::ReadWrite));
        assert!(puppet.tells(&Order::Lease(held.id(), 3, true)));
        Scene {
            segment: held.id(),
            clients: vec![owner],
            granted: Some(held),
            puppet: Some(puppet),
            ..Scene::default()
        }
    },
    act: |scene, daemon| {
        if let Some(mut puppet) = scene.puppet.take() {
            puppet.kill();
        }
        let held = scene.granted.as_ref().unwrap();
        let mut admin = Admin::connect(&daemon.admin_socket()).map_err(|_| Ended)?;
        tierpool_tests::until("the unit is recovered", || match admin.check() {
            Err(_) => Some(Err(Ended)),
            Ok(_) => (domain::state(held, 3) == State::Lost).then_some(Ok(())),
        })
    },
    left: 2,
    finish: |scene, daemon| {
        let held = scene.granted.as_ref().unwrap();
        assert_eq!(domain::version(held, 3), 1);
        give_back(scene, daemon);
    },
};

pub(crate) const SUPPLY: Case = Case {
    passes: &[PUTS, REPLIES],
    setup: || Setup {
        store: "clients",
        ..setup()
    },
    prepare: |daemon| {
        let mut scene = holding(daemon, ask::create("ddr", EXTENT));
        scene.granted = Some(scene.clients[0].granted(ask::refresh(scene.segment)));
        scene.absent = scene.clients.pop();
        scene
    },
    act: |scene, _| {
        // After each death of the daemon its client has the only descriptor.
        let (client, held) = (
            scene.absent.as_mut().unwrap(),
            scene.granted.as_ref().unwrap(),
        );
        let backing = held.segment.pieces[0].backing_id;
        assert_eq!(returned(client.reattach())?.missing_backings, [backing]);
        match client.supply(backing, held.files[0].as_fd()) {
            Ok(()) => Ok(()),
            Err(Unanswered::Gone(_)) => Err(Ended),
            Err(refused) => panic!("{refused}"),
        }
    },
    left: 1,
    finish: |mut scene, daemon| {
        scene.clients.extend(scene.absent.take());
        assert!(
            scene.clients[0]
                .granted(ask::refresh(scene.segment))
                .holds(SEED)
        );
        give_back(scene, daemon);
    },
};

pub(crate) const DRAIN: Case = Case {
    passes: &[COMMITS],
    setup,
    prepare: |daemon| holding(daemon, ask::create("pooled", EXTENT)),
    act: |scene, daemon| operates(scene, daemon, drain),
    left: 1,
    finish: |scene, daemon| {
        assert_eq!(daemon.admin().device(FAR).state(), DeviceState::Draining);
        give_back(scene, daemon);
    },
};

pub(crate) const ACTIVATE: Case = Case {
    passes: &[COMMITS],
    setup,
    prepare: |daemon| {
        let scene = holding(daemon, ask::create("pooled", EXTENT));
        drain(&mut daemon.admin()).unwrap();
        scene
    },
    act: |scene, daemon| {
        operates(scene, daemon, |admin| {
            let device = FAR.to_owned();
            admin
                .activate_device(admin::ActivateDeviceRequest { device })
                .map(drop)
        })
    },
    left: 1,
    finish: |scene, daemon| {
        assert_eq!(daemon.admin().device(FAR).state(), DeviceState::Online);
        give_back(scene, daemon);
    },
};

pub(crate) const REMOVE: Case = Case {
    passes: &[COMMITS],
    setup,
    prepare: |daemon| {
        drain(&mut daemon.admin()).unwrap();
        Scene::default()
    },
    act: |scene, daemon| {
        operates(scene, daemon, |admin| {
            let device = FAR.to_owned();
            admin
                .remove_device(admin::RemoveDeviceRequest { device })
                .map(drop)
        })
    },
    left: 0,
    finish: |_, daemon| {
        let devices = daemon.admin().devices().unwrap();
        assert!(
            devices.iter().all(|device| device.name != FAR),
            "{devices:?}"
        );
    },
};

pub(crate) const GROW_DEVICE: Case = Case {
    passes: &[COMMITS],
    setup,
    prepare: |daemon| holding(daemon, ask::create("pooled", EXTENT)),
    act: |scene, daemon| operates(scene, daemon, |admin| resize(admin, 2 * FAR_MIB)),
    left: 1,
    finish: |scene, daemon| has_mib(scene, daemon, 2 * FAR_MIB),
};

pub(crate) const SHRINK_DEVICE: Case = Case {
    passes: &[COMMITS],
    setup,
    prepare: |daemon| holding(daemon, ask::create("pooled", EXTENT)),
    act: |scene, daemon| operates(scene, daemon, |admin| resize(admin, FAR_MIB / 2)),
    left: 1,
    finish: |scene, daemon| has_mib(scene, daemon, FAR_MIB / 2),
};

pub(crate) const OPERATORS_FREE: Case = Case {
    passes: &[COMMITS, RELEASES],
    setup,
    prepare: |daemon| holding(daemon, ask::create("ddr", 2 * EXTENT)),
    act: |scene, daemon| {
        let (segment_id, force) = (scene.segment, true);
        operates(scene, daemon, |admin| {
            admin
                .free_segment(admin::FreeSegmentRequest { segment_id, force })
                .map(drop)
        })
    },
    left: 0,
    finish: holds_nothing,
};

fn setup() -> Setup {
    Setup::small(32).and_device(FAR, "pooled", FAR_MIB)
}

/// A client that holds what it asked for, has written it, and has nothing mapped.
fn holding(daemon: &Daemon, create: request::Body) -> Scene {
    let mut owner = daemon.attach("a");
    let held = owner.granted(create);
    held.write(SEED);
    Scene {
        segment: held.id(),
        clients: vec![owner],
        ..Scene::default()
    }
}

/// A segment that is shared with another tenant, which has opened it or not.
fn shared(daemon: &Daemon, is_opened: bool) -> Scene {
    let mut scene = holding(daemon, ask::create_named("ddr", EXTENT, "lent"));
    let mut guest = daemon.attach("b");
    scene.clients[0].ask(ask::share(scene.segment, guest.tenant(), Access::ReadOnly));
    if is_opened {
        drop(guest.granted(ask::open(&lent_name(&scene), Access::ReadOnly)));
    }
    scene.clients.push(guest);
    scene
}

fn lent_name(scene: &Scene) -> String {
    format!("{}:lent", scene.clients[0].tenant())
}

fn revoke(scene: &mut Scene, _: &Daemon) -> Result<(), Ended> {
    let revoke = ask::revoke(scene.segment, scene.clients[1].tenant());
    asks(scene, revoke)
}

fn is_revoked(mut scene: Scene, daemon: &Daemon) {
    assert!(scene.granted.as_ref().unwrap().holds(SEED));
    let name = lent_name(&scene);
    scene.clients[1].refused(ask::open(&name, Access::ReadOnly));
    give_back(scene, daemon);
}

/// The first client asks, each time under the same id; what it was answered once it is answered
/// again.
fn asks(scene: &mut Scene, body: request::Body) -> Result<(), Ended> {
    let client = &scene.clients[0];
    let Answer { body, files, .. } = match client.ask_as(client.last_id() + 1, body) {
        Ok(answer) => answer,
        Err(Unanswered::Gone(_)) => return Err(Ended),
        Err(refused) => panic!("{refused}"),
    };
    if let Some(before) = scene.answer.replace(body.clone()) {
        assert_eq!(before, body, "the same request, the same answer");
    }
    scene.granted = match body {
        reply::Body::Granted(granted) => Some(Held::new(granted, files)),
        _ => None,
    };
    Ok(())
}

/// An operator calls. His calls have no ids: repeated, what is gone already is not found.
fn operates(
    scene: &Scene,
    daemon: &Daemon,
    call: impl FnOnce(&mut Admin) -> Result<(), Status>,
) -> Result<(), Ended> {
    let mut admin = Admin::connect(&daemon.admin_socket()).map_err(|_| Ended)?;
    match call(&mut admin) {
        Ok(()) => Ok(()),
        Err(status) => match status.code() {
            Code::NotFound if scene.is_repeated => Ok(()),
            // Broken off.
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal => Err(Ended),
            _ => panic!("{status}"),
        },
    }
}

fn drain(admin: &mut Admin) -> Result<(), Status> {
    let device = FAR.to_owned();
    admin
        .drain_device(admin::DrainDeviceRequest { device })
        .map(drop)
}

fn resize(admin: &mut Admin, mib: u64) -> Result<(), Status> {
    let (device, bytes) = (FAR.to_owned(), mib << 20);
    admin
        .resize_device(admin::ResizeDeviceRequest { device, bytes })
        .map(drop)
}

fn has_mib(scene: Scene, daemon: &Daemon, mib: u64) {
    assert_eq!(daemon.admin().device(FAR).total_bytes, mib << 20);
    give_back(scene, daemon);
}

fn holds_nothing(mut scene: Scene, _: &Daemon) {
    assert!(scene.clients[0].list().is_empty());
    scene.clients[0].granted(ask::create("ddr", EXTENT));
    scene.clients[0].ask(ask::detach());
}

/// The segment is freed, and the clients leave.
fn give_back(mut scene: Scene, _: &Daemon) {
    drop(scene.granted.take());
    scene.clients[0].ask(ask::free(scene.segment, true));
    for client in &mut scene.clients {
        client.ask(ask::detach());
    }
}
