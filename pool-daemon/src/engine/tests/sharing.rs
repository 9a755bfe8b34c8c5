//! Sharing with other tenants, taking shares back, and seeing nothing of what is not shared.

use pool_core::SegmentId;
use pool_proto::common::v1::{Access, ErrorReason, Lifetime};
use pool_proto::session::v1::{self as session, event, reply};
use session::request::Body;

use super::ask;
use super::plans::{ALPHA, BETA, GAMMA, plan};
use super::process::Pid;
use super::world::World;

fn two() -> (World, Pid, Pid) {
    let mut world = World::new(plan());
    let (alpha, beta) = (world.attach(ALPHA), world.attach(BETA));
    (world, alpha, beta)
}

#[test]
fn what_is_not_shared_is_as_if_it_were_not() {
    let (mut world, alpha, beta) = two();
    let segment = world.granted(alpha, Body::Create(ask::create_named("a", 1)));
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let mut there = world.refused(beta, ask::open("alpha:a", access));
        let absent = world.refused(beta, ask::open("alpha:z", access));
        let nobody = world.refused(beta, ask::open("nobody:z", access));
        there.message = there.message.replace("alpha:a", "alpha:z");
        assert_eq!(there, absent);
        assert_eq!(nobody.message.replace("nobody", "alpha"), absent.message);
    }
    let (id, absent) = (segment.segment_id, 77);
    type Ask = fn(u64) -> Body;
    let asks: [Ask; 7] = [
        ask::refresh,
        ask::close,
        |id| ask::free(id, true),
        |id| ask::resize(id, 2),
        |id| ask::share(id, "gamma", Access::ReadOnly),
        |id| ask::revoke(id, "gamma"),
        |id| ask::relocate(id, "ddr"),
    ];
    for ask in asks {
        let mut there = world.refused(beta, ask(id));
        let absent = world.refused(beta, ask(absent));
        let (number, other) = (format!(" {id} "), " 77 ");
        there.message = there.message.replace(&number, other);
        assert_eq!(there, absent);
        assert_eq!(absent.reason(), ErrorReason::NotFound);
    }
    let reply::Body::Listed(listed) = world.ask(beta, ask::list()) else {
        panic!("not listed");
    };
    assert!(listed.segments.is_empty());
}

#[test]
fn a_share_opens_as_far_as_it_goes() {
    let (mut world, alpha, beta) = two();
    let segment = world.granted(alpha, Body::Create(ask::create_named("a", 1)));
    let id = segment.segment_id;
    world.done(alpha, ask::share(id, "beta", Access::ReadOnly));
    world.done(alpha, ask::share(id, "gamma", Access::ReadWrite));
    assert_eq!(
        world.reason(beta, ask::open("alpha:a", Access::ReadWrite)),
        ErrorReason::NotPermitted
    );
    let open = world.granted(beta, ask::open("alpha:a", Access::ReadOnly));
    assert_eq!(open.addr, segment.addr, "at the same address");
    let gamma = world.attach(GAMMA);
    world.granted(gamma, ask::open("alpha:a", Access::ReadWrite));
    let reply::Body::Listed(listed) = world.ask(beta, ask::list()) else {
        panic!("not listed");
    };
    let shares: Vec<_> = listed.segments[0]
        .shares
        .iter()
        .map(|s| &*s.tenant)
        .collect();
    assert_eq!(
        shares,
        ["beta"],
        "with whom else it is shared is not beta's to know"
    );
}

#[test]
fn a_share_that_nobody_opened_ends_at_once() {
    let (mut world, alpha, beta) = two();
    let segment = world.granted(alpha, Body::Create(ask::create_named("a", 1)));
    world.done(
        alpha,
        ask::share(segment.segment_id, "beta", Access::ReadOnly),
    );
    let after = world.granted(alpha, ask::revoke(segment.segment_id, "beta"));
    assert_eq!(after.incarnation, segment.incarnation);
    let open = ask::open("alpha:a", Access::ReadOnly);
    assert_eq!(world.reason(beta, open), ErrorReason::NotFound);
    let again = ask::revoke(segment.segment_id, "beta");
    assert_eq!(world.reason(alpha, again), ErrorReason::NotFound);
}

#[test]
fn a_share_that_was_opened_ends_in_a_new_incarnation_with_the_contents_of_the_old() {
    let (mut world, alpha, beta) = two();
    world.processes.get_mut(&beta).unwrap().tidy = false;
    let segment = world.granted(alpha, Body::Create(ask::create_named("a", 2)));
    let (number, id) = (
        segment.segment_id,
        SegmentId::new(segment.segment_id).unwrap(),
    );
    world.write(alpha, id, 5);
    world.done(alpha, ask::share(number, "beta", Access::ReadWrite));
    world.granted(beta, ask::open("alpha:a", Access::ReadWrite));
    // It closes, and keeps its mapping all the same.
    world.done(beta, ask::close(number));
    world.granted(beta, ask::open("alpha:a", Access::ReadWrite));
    let after = world.granted(alpha, ask::revoke(number, "beta"));
    assert!(after.incarnation > segment.incarnation);
    assert_eq!((after.addr, after.bytes), (segment.addr, segment.bytes));
    assert_eq!(world.read(alpha, id), [5, 5]);
    // It is told of the incarnation that it held, so that it knows a later grant from this one.
    let (segment_id, incarnation) = (number, segment.incarnation);
    let told = event::Body::Revoked(session::Revoked {
        segment_id,
        incarnation,
    });
    assert_eq!(world.processes[&beta].events, [told]);
    let tenant = world.engine.tenants.find("beta").unwrap();
    let beta_pays = world.engine.tenants.get(tenant).unwrap().quarantined[0];
    assert_eq!(beta_pays.get(), 2, "the offender pays for the old files");
    world.prove();
    assert_eq!(world.watched.len(), 1, "the old file is mapped still");
    let open = ask::open("alpha:a", Access::ReadOnly);
    assert_eq!(world.reason(beta, open), ErrorReason::NotFound);
    world.kill(beta);
    world.prove();
    assert!(world.watched.is_empty());
}

#[test]
fn a_share_that_was_opened_once_and_closed_ends_in_a_new_incarnation_too() {
    let (mut world, alpha, beta) = two();
    let segment = world.granted(alpha, Body::Create(ask::create_named("a", 1)));
    world.done(
        alpha,
        ask::share(segment.segment_id, "beta", Access::ReadOnly),
    );
    world.granted(beta, ask::open("alpha:a", Access::ReadOnly));
    world.done(beta, ask::close(segment.segment_id));
    let after = world.granted(alpha, ask::revoke(segment.segment_id, "beta"));
    assert!(after.incarnation > segment.incarnation);
}

#[test]
fn a_revocation_that_cannot_be_copied_changes_nothing() {
    let (mut world, alpha, beta) = two();
    let segment = world.granted(alpha, Body::Create(ask::create_named("a", 1)));
    let number = segment.segment_id;
    world.done(alpha, ask::share(number, "beta", Access::ReadOnly));
    world.granted(beta, ask::open("alpha:a", Access::ReadOnly));
    world.prompt = false;
    let id = world.send(alpha, ask::revoke(number, "beta"));
    world.finish_build(0, Ok(()));
    let failed = crate::engine::command::WorldError::Os {
        call: "copy_file_range",
        errno: 5,
    };
    world.finish_copy(Err(failed));
    let reply::Body::Error(error) = &world.processes[&alpha].answers[&id] else {
        panic!("revoked without a copy");
    };
    assert_eq!(error.reason(), ErrorReason::DeviceFailed);
    assert_eq!(world.files.len(), 1);
    world.prompt = true;
    let after = world.granted(beta, ask::refresh(number));
    assert_eq!(after.incarnation, segment.incarnation);
}

#[test]
fn a_share_is_taken_back_only_while_no_honest_writer_could_lose_a_store() {
    let (mut world, alpha, beta) = two();
    let (other, gamma) = (world.attach(ALPHA), world.attach(GAMMA));
    let segment = world.granted(alpha, Body::Create(ask::create_named("a", 1)));
    let id = segment.segment_id;
    world.done(alpha, ask::share(id, "beta", Access::ReadWrite));
    world.done(alpha, ask::share(id, "gamma", Access::ReadOnly));
    world.granted(beta, ask::open("alpha:a", Access::ReadWrite));
    world.granted(gamma, ask::open("alpha:a", Access::ReadOnly));
    world.granted(other, ask::open("a", Access::ReadWrite));
    let revoke = || ask::revoke(id, "gamma");
    let refusal = world.refused(alpha, revoke());
    assert_eq!(refusal.reason(), ErrorReason::InUse);
    assert!(refusal.message.contains("2 other"), "{}", refusal.message);
    world.done(other, ask::close(id));
    world.done(beta, ask::close(id));
    let moved = world.granted(alpha, revoke()).incarnation;
    assert!(moved > segment.incarnation);
}

#[test]
fn only_a_holder_with_the_right_to_write_takes_a_share_back() {
    let (mut world, alpha, _) = two();
    let other = world.attach(ALPHA);
    let segment = world.granted(alpha, Body::Create(ask::create_named("a", 1)));
    world.done(
        alpha,
        ask::share(segment.segment_id, "beta", Access::ReadOnly),
    );
    let revoke = || ask::revoke(segment.segment_id, "beta");
    assert_eq!(world.reason(other, revoke()), ErrorReason::NotPermitted);
    world.granted(other, ask::open("a", Access::ReadOnly));
    assert_eq!(world.reason(other, revoke()), ErrorReason::NotPermitted);
}

#[test]
fn what_cannot_be_shared_safely_is_not_shared() {
    let (mut world, alpha, _) = two();
    let nameless = world.granted(alpha, Body::Create(ask::create(1)));
    let share = |id| ask::share(id, "beta", Access::ReadOnly);
    assert_eq!(
        world.reason(alpha, share(nameless.segment_id)),
        ErrorReason::Malformed
    );
    let unsealed = session::Create {
        tier: "pooled".into(),
        lifetime: Lifetime::Held.into(),
        ..ask::create_named("p", 1)
    };
    let unsealed = world.granted(alpha, Body::Create(unsealed));
    assert_eq!(
        world.reason(alpha, share(unsealed.segment_id)),
        ErrorReason::Unsealed
    );
    let named = world
        .granted(alpha, Body::Create(ask::create_named("a", 1)))
        .segment_id;
    for (tenant, access, reason) in [
        ("alpha", Access::ReadOnly, ErrorReason::Malformed),
        ("beta", Access::Unspecified, ErrorReason::Malformed),
        ("nobody", Access::ReadOnly, ErrorReason::NotFound),
        ("", Access::ReadOnly, ErrorReason::NotFound),
        ("uid-01", Access::ReadOnly, ErrorReason::NotFound),
        ("uid-4294967296", Access::ReadOnly, ErrorReason::NotFound),
    ] {
        let refused = world.reason(alpha, ask::share(named, tenant, access));
        assert_eq!(refused, reason, "{tenant} {access:?}");
    }
}

#[test]
fn a_share_is_widened_and_never_narrowed_behind_an_open_door() {
    let (mut world, alpha, beta) = two();
    let segment = world.granted(alpha, Body::Create(ask::create_named("a", 1)));
    let id = segment.segment_id;
    let share = |access| ask::share(id, "beta", access);
    world.done(alpha, share(Access::ReadWrite));
    world.done(alpha, share(Access::ReadOnly));
    world.granted(beta, ask::open("alpha:a", Access::ReadOnly));
    world.done(alpha, share(Access::ReadWrite));
    world.granted(beta, ask::open("alpha:a", Access::ReadWrite));
    assert_eq!(
        world.reason(alpha, share(Access::ReadOnly)),
        ErrorReason::InUse
    );
}

#[test]
fn a_full_list_of_shares_can_still_be_changed() {
    let (mut world, alpha, _) = two();
    let segment = world.granted(alpha, Body::Create(ask::create_named("a", 1)));
    let share = |uid| ask::share(segment.segment_id, &format!("uid-{uid}"), Access::ReadOnly);
    for uid in 0..64 {
        world.done(alpha, share(uid));
    }
    assert_eq!(world.reason(alpha, share(64)), ErrorReason::Limit);
    let widen = ask::share(segment.segment_id, "uid-7", Access::ReadWrite);
    world.done(alpha, widen);
}

#[test]
fn what_was_revoked_from_a_client_that_was_away_is_not_called_lost() {
    let (mut world, alpha, beta) = two();
    let segment = world.granted(alpha, Body::Create(ask::create_named("a", 1)));
    let id = segment.segment_id;
    world.done(alpha, ask::share(id, "beta", Access::ReadOnly));
    world.granted(beta, ask::open("alpha:a", Access::ReadOnly));
    world.disconnect(beta);
    world.granted(alpha, ask::revoke(id, "beta"));
    world.restart(|_| true);
    world.reattach(beta);
    let Some(reply::Body::Reattached(again)) = &world.processes[&beta].welcome else {
        panic!("not taken up again");
    };
    assert_eq!((again.held.len(), &again.revoked[..]), (0, &[id][..]));
}
