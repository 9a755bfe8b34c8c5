//! Who is who: attaching, tenants and labels, taking a session up again, requests in their order.

use pool_core::limits;
use pool_proto::common::v1::{Access, ErrorReason};
use pool_proto::session::v1::{self as session, reply};
use session::request::Body;

use super::plans::{ALPHA, BETA, plan};
use super::process::Pid;
use super::world::World;
use super::{ask, laws};
use crate::engine::command::{Command, ConnectionId, PeerIdentity};
use crate::engine::effect::Action;
use crate::engine::{PROTOCOL, Visible};

fn welcome(world: &World, pid: Pid) -> &reply::Body {
    world.processes[&pid].welcome.as_ref().unwrap()
}

fn attach_as(world: &mut World, uid: u32, tenant: &str) -> Result<session::Attached, ErrorReason> {
    let pid = world.spawn(uid);
    world.attach_as(pid, tenant);
    match welcome(world, pid) {
        reply::Body::Attached(attached) => Ok(attached.clone()),
        reply::Body::Error(error) => Err(error.reason()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_peer_belongs_to_the_tenant_its_credentials_name() {
    let mut plan = plan();
    plan.tenancy.tenants[1].uids.push(ALPHA);
    plan.tenancy.tenants[2].gids.push(3000);
    let mut world = World::new(plan);
    let tenant = |world: &mut World, uid, wanted: &str| {
        attach_as(world, uid, wanted).map(|attached| attached.tenant)
    };
    assert_eq!(tenant(&mut world, ALPHA, ""), Ok("alpha".into()));
    assert_eq!(tenant(&mut world, ALPHA, "beta"), Ok("beta".into()));
    assert_eq!(
        tenant(&mut world, ALPHA, "gamma"),
        Err(ErrorReason::NotFound)
    );
    assert_eq!(
        tenant(&mut world, BETA, "alpha"),
        Err(ErrorReason::NotFound)
    );
    assert_eq!(
        tenant(&mut world, 3000, ""),
        Ok("gamma".into()),
        "by its group"
    );
    assert_eq!(tenant(&mut world, 2000, ""), Ok("uid-2000".into()));
    assert_eq!(tenant(&mut world, 2000, "x/y"), Ok("uid-2000/x/y".into()));
    assert_eq!(
        tenant(&mut world, 2000, "alpha"),
        Ok("uid-2000/alpha".into())
    );
    assert_eq!(tenant(&mut world, 2000, "a:b"), Err(ErrorReason::BadName));
    assert_eq!(
        tenant(&mut world, 2000, &"x".repeat(128)),
        Err(ErrorReason::BadName)
    );
}

#[test]
fn a_user_whom_no_tenant_lists_is_admitted_only_where_the_plan_says_so() {
    let mut plan = plan();
    plan.tenancy.admit_unlisted = false;
    let mut world = World::new(plan);
    assert_eq!(
        attach_as(&mut world, 2000, ""),
        Err(ErrorReason::NotPermitted)
    );
    assert_eq!(
        attach_as(&mut world, 2000, "alpha"),
        Err(ErrorReason::NotPermitted)
    );
    assert!(attach_as(&mut world, ALPHA, "").is_ok());
}

#[test]
fn a_configured_name_is_not_had_by_a_user_of_that_number() {
    let mut plan = plan();
    plan.tenancy.tenants[0].name = "uid-2000".into();
    plan.tenancy.tenants[1].name = "uid-2000/x".into();
    let mut world = World::new(plan);
    assert_eq!(attach_as(&mut world, 2000, ""), Err(ErrorReason::NotFound));
    assert_eq!(attach_as(&mut world, 2000, "x"), Err(ErrorReason::NotFound));
    assert!(attach_as(&mut world, 2000, "y").is_ok());
    let user = Visible::OfUser {
        uid: 2000,
        gid: 2000,
    };
    let seen: Vec<_> = world
        .engine
        .tenants(user)
        .into_iter()
        .map(|t| t.name)
        .collect();
    assert_eq!(seen, ["uid-2000/y"]);
}

#[test]
fn another_protocol_is_refused_by_number() {
    let mut world = World::new(plan());
    let pid = world.spawn(ALPHA);
    for protocol in [0, PROTOCOL + 1, u32::MAX] {
        world.step(Command::Attach {
            connection: ConnectionId(pid.into()),
            request_id: 5,
            peer: world.processes[&pid].peer,
            request: session::Attach {
                protocol,
                ..session::Attach::default()
            },
            token: [1; 16],
        });
        let reply::Body::Error(error) = welcome(&world, pid) else {
            panic!("admitted");
        };
        assert_eq!(error.reason(), ErrorReason::Version);
    }
    assert!(world.engine.clients.is_empty());
}

#[test]
fn a_session_says_whether_isolation_is_advisory() {
    let mut world = World::new(plan());
    let advisory = |world: &mut World, uid| attach_as(world, uid, "").unwrap().advisory_isolation;
    assert!(advisory(&mut world, 900), "the daemon's own user");
    assert!(!advisory(&mut world, ALPHA));
}

#[test]
fn one_user_cannot_use_up_the_labels_or_the_clients_of_all() {
    let mut world = World::new(plan());
    for label in 0..limits::USER_LABELS_MAX {
        attach_as(&mut world, 2000, &format!("l{label}")).unwrap();
    }
    assert_eq!(attach_as(&mut world, 2000, "more"), Err(ErrorReason::Limit));
    attach_as(&mut world, 2000, "l3").unwrap();
    attach_as(&mut world, 20_001, "more").unwrap();
    let id = *world.engine.clients.keys().next_back().unwrap();
    let client = world.engine.clients[&id].clone();
    for _ in 1..limits::USER_CLIENTS_MAX {
        let mut other = client.clone();
        other.id = world.engine.next.client;
        world.engine.next.client = other.id.checked_next().unwrap();
        world.engine.clients.insert(other.id, other);
    }
    let mut is_welcome = |uid| {
        let effects = world.engine.step(
            world.now,
            Command::Attach {
                connection: ConnectionId(1),
                request_id: 1,
                peer: PeerIdentity { uid, ..client.peer },
                request: session::Attach {
                    protocol: PROTOCOL,
                    ..session::Attach::default()
                },
                token: [0; 16],
            },
        );
        let welcome = |action: &Action| matches!(action, Action::Welcome { welcome: true, .. });
        effects.actions.iter().any(welcome)
    };
    assert!(!is_welcome(20_001));
    assert!(is_welcome(20_002));
}

#[test]
fn nobody_makes_labels_of_others_known_by_sharing() {
    let mut world = World::new(plan());
    let user = world.attach(2000);
    let segment = world.granted(user, Body::Create(ask::create_named("a", 1)));
    let share = |name| ask::share(segment.segment_id, name, Access::ReadOnly);
    assert_eq!(
        world.reason(user, share("uid-7/x")),
        ErrorReason::NotPermitted
    );
    world.done(user, share("uid-7"));
    world.done(user, share("uid-2000/x"));
}

#[test]
fn a_tenant_is_forgotten_when_nothing_names_it() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let segment = world.granted(alpha, Body::Create(ask::create_named("a", 1)));
    let id = segment.segment_id;
    let known = |world: &World, name| world.engine.tenants.find(name);
    world.done(alpha, ask::share(id, "uid-7", Access::ReadOnly));
    let first = known(&world, "uid-7").unwrap();
    world.restart(|_| true);
    world.reattach(alpha);
    assert_eq!(known(&world, "uid-7"), Some(first), "a share names it");
    world.granted(alpha, ask::revoke(id, "uid-7"));
    assert_eq!(known(&world, "uid-7"), None);
    world.done(alpha, ask::share(id, "uid-7", Access::ReadOnly));
    assert!(known(&world, "uid-7").unwrap() > first, "no id names two");
    let user = world.attach(7);
    let held = world.granted(user, Body::Create(ask::create(1)));
    world.processes.get_mut(&user).unwrap().tidy = false;
    world.done(user, ask::close(held.segment_id));
    world.done(alpha, ask::free(id, false));
    world.done(user, Body::Detach(session::Detach {}));
    assert!(
        known(&world, "uid-7").is_some(),
        "it is charged for what it maps"
    );
    world.kill(user);
    world.prove();
    assert_eq!(known(&world, "uid-7"), None);
    assert!(known(&world, "alpha").is_some(), "what is configured stays");
}

#[test]
fn shares_do_not_use_up_the_tenants() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let mut refused = None;
    'all: for segment in 0..12 {
        let create = ask::create_kept(&format!("s{segment}"), 1);
        let id = world.granted(alpha, Body::Create(create)).segment_id;
        for share in 0..64 {
            let tenant = format!("uid-{}", 10_000 + segment * 64 + share);
            // The laws are checked by the other tests; here they would take long.
            let client = world.client(alpha);
            let process = world.processes.get_mut(&alpha).unwrap();
            process.last_id += 1;
            let request = session::Request {
                request_id: process.last_id,
                body: Some(ask::share(id, &tenant, Access::ReadOnly)),
            };
            let effects = world
                .engine
                .step(world.now, Command::Request { client, request });
            super::world::commit(&mut world.durable, &effects.records);
            if world.engine.tenants.find(&tenant).is_none() {
                refused = Some((segment * 64 + share, tenant));
                break 'all;
            }
        }
    }
    let (known, _) = refused.expect("the shares are bounded");
    assert!(known < limits::TENANTS_MAX / 2);
    assert!(attach_as(&mut world, 5, "").is_ok());
}

#[test]
fn a_session_is_taken_up_by_its_own_process_alone() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    let segment = world.granted(alpha, Body::Create(ask::create(2)));
    let (client, token) = world.processes[&alpha].session.clone().unwrap();
    world.disconnect(alpha);
    let right = session::Reattach {
        protocol: PROTOCOL,
        client_id: client.number(),
        token,
    };
    let peer = world.processes[&alpha].peer;
    let mut wrong = Vec::new();
    let with = |change: &dyn Fn(&mut session::Reattach)| {
        let mut request = right.clone();
        change(&mut request);
        request
    };
    wrong.push((peer, with(&|r| r.token[15] ^= 1)));
    wrong.push((peer, with(&|r| r.token.truncate(15))));
    wrong.push((peer, with(&|r| r.token.push(0))));
    wrong.push((peer, with(&|r| r.token.clear())));
    wrong.push((peer, with(&|r| r.client_id = 0)));
    wrong.push((peer, with(&|r| r.client_id += 1)));
    wrong.push((peer, with(&|r| r.client_id = u64::MAX)));
    for change in [
        |p: &mut PeerIdentity| p.pid += 1,
        |p: &mut PeerIdentity| p.started_ticks += 1,
        |p: &mut PeerIdentity| p.uid += 1,
    ] {
        let mut other = peer;
        change(&mut other);
        wrong.push((other, right.clone()));
    }
    for (peer, request) in wrong {
        let shown = format!("{peer:?} {request:?}");
        world.step(Command::Reattach {
            connection: ConnectionId(alpha.into()),
            request_id: 1,
            peer,
            request,
        });
        let reply::Body::Error(error) = welcome(&world, alpha) else {
            panic!("{shown}");
        };
        assert_eq!(error.reason(), ErrorReason::UnknownClient, "{shown}");
    }
    world.reattach(alpha);
    let reply::Body::Reattached(again) = welcome(&world, alpha) else {
        panic!("not reattached");
    };
    let holding = session::Holding {
        segment_id: segment.segment_id,
        incarnation: segment.incarnation,
        bytes: segment.bytes,
    };
    assert_eq!(again.held, [holding]);
    assert!(again.missing_backings.is_empty() && !again.missing_more);
}

#[test]
fn a_repeated_request_gets_the_same_answer_and_is_not_done_again() {
    let mut world = World::new(plan());
    let (alpha, other) = (world.attach(ALPHA), world.attach(ALPHA));
    let create = session::Create {
        piece_bytes: super::plans::extents(1),
        capacity_bytes: super::plans::extents(5),
        ..ask::create_named("a", 3)
    };
    let segment = world.granted(alpha, Body::Create(create));
    let id = segment.segment_id;
    let share = ask::share(id, "beta", Access::ReadOnly);
    let kept = Body::Create(ask::create_kept("k", 1));
    world.granted(other, ask::open("a", Access::ReadOnly));
    for body in [
        kept,
        ask::resize(id, 5),
        ask::resize(id, 2),
        share,
        ask::revoke(id, "beta"),
        ask::relocate(id, "pooled"),
        ask::open("k", Access::ReadWrite),
        ask::close(2),
        ask::free(id, true),
    ] {
        let shown = format!("{body:?}");
        let first = world.ask(alpha, body);
        assert!(
            !matches!(first, reply::Body::Error(_)),
            "{shown}: {first:?}"
        );
        let before = laws::dump(&world.engine);
        for _ in 0..2 {
            world.repeat(alpha);
            let process = &world.processes[&alpha];
            assert_eq!(process.answers[&process.last_id], first, "{shown}");
            assert_eq!(laws::dump(&world.engine), before, "{shown}");
        }
        world.restart(|_| true);
        world.reattach(other);
        world.processes.get_mut(&alpha).unwrap().answers.clear();
        world.reattach(alpha);
        let process = &world.processes[&alpha];
        assert_eq!(
            process.answers[&process.last_id], first,
            "{shown} after a restart"
        );
    }
}

#[test]
fn a_client_has_one_request_in_flight_and_ids_rise() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    world.prompt = false;
    let id = world.send(alpha, Body::Create(ask::create(1)));
    let building = world.building.len();
    world.post(alpha, id, Some(Body::Create(ask::create(1))));
    assert_eq!(world.building.len(), building, "the same again is the same");
    world.post(alpha, id + 7, Some(ask::list()));
    let error = |world: &World, id| match &world.processes[&alpha].answers[&id] {
        reply::Body::Error(error) => error.reason(),
        other => panic!("{other:?}"),
    };
    assert_eq!(error(&world, id + 7), ErrorReason::OutOfOrder);
    world.work();
    world.done(alpha, ask::close(1));
    world.post(alpha, id, Some(ask::list()));
    world.post(alpha, 0, Some(ask::list()));
    assert_eq!(error(&world, id), ErrorReason::OutOfOrder);
    assert_eq!(error(&world, 0), ErrorReason::OutOfOrder);
    world.post(alpha, 90, None);
    assert_eq!(error(&world, 90), ErrorReason::Malformed);
}

#[test]
fn a_request_in_flight_is_answered_to_whom_reconnected() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    world.prompt = false;
    let id = world.send(alpha, Body::Create(ask::create(1)));
    world.disconnect(alpha);
    world.reattach(alpha);
    assert!(world.processes[&alpha].waits() && world.building.len() == 1);
    world.work();
    assert!(matches!(
        world.processes[&alpha].answers[&id],
        reply::Body::Granted(_)
    ));
}

#[test]
fn a_session_that_is_detached_is_over() {
    let mut world = World::new(plan());
    let alpha = world.attach(ALPHA);
    world.granted(alpha, Body::Create(ask::create(1)));
    let (client, token) = world.processes[&alpha].session.clone().unwrap();
    world.done(alpha, Body::Detach(session::Detach {}));
    world.prove();
    assert!(world.engine.clients.is_empty() && world.engine.segments.is_empty());
    world.processes.get_mut(&alpha).unwrap().session = Some((client, token));
    world.reattach(alpha);
    let reply::Body::Error(error) = welcome(&world, alpha) else {
        panic!("taken up again");
    };
    assert_eq!(error.reason(), ErrorReason::UnknownClient);
}
