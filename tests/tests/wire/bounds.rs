//! Each field of each request at and past its bounds: the exact refusal, and nothing changed.

use pool_core::limits::{NAME_BYTES_MAX, SEGMENT_PIECES_MAX};
use pool_proto::common::v1::ErrorReason::{self, *};
use pool_proto::common::v1::{Access, Coherence, CoherenceMode, Lifetime};
use pool_proto::session::v1::{self as session, request::Body};
use tierpool_tests::EXTENT;
use tierpool_tests::client::{PROTOCOL, ask};
use tierpool_tests::daemon::Daemon;
use tierpool_tests::domain;
use tierpool_tests::setup::Setup;

use crate::{Besieged, Response, response};

/// The extents of the device: more than one segment may have pieces.
const DEVICE_EXTENTS: u64 = 128;
const _: () = assert!(DEVICE_EXTENTS > SEGMENT_PIECES_MAX as u64);

type Row = (Body, ErrorReason);

/// What is no name.
fn bad_names() -> Vec<String> {
    let bad = ["a:b", "a b", "a\0", "\u{e9}", "a\n", ":", "\u{7f}"];
    let long = [NAME_BYTES_MAX + 1, 1_000, 60_000].map(|len| "x".repeat(len));
    bad.map(str::to_owned).into_iter().chain(long).collect()
}

/// What nobody would call a tenant of this pool.
fn no_tenants() -> Vec<String> {
    let none = [
        "",
        "nobody",
        "uid-",
        "uid-x",
        "uid-01",
        "uid--1",
        "uid-4294967296",
        "uid-1:x",
        "uid-1/\0",
    ];
    none.map(str::to_owned)
        .into_iter()
        .chain(["t".repeat(60_000)])
        .collect()
}

fn create(change: impl FnOnce(&mut session::Create)) -> Body {
    let mut create = session::Create {
        tier: "ddr".to_owned(),
        bytes: EXTENT,
        ..session::Create::default()
    };
    change(&mut create);
    Body::Create(create)
}

fn creates(window: u64) -> Vec<Row> {
    let mut rows = Vec::new();
    for tier in ["", "nope", "DDR", "ddr ", "ddr\0"] {
        rows.push((create(|ask| ask.tier = tier.to_owned()), NotFound));
    }
    rows.push((create(|ask| ask.tier = "t".repeat(60_000)), NotFound));
    for bytes in [0, window + 1, 1 << 63, u64::MAX] {
        rows.push((create(|ask| ask.bytes = bytes), OutOfRange));
    }
    for bytes in [DEVICE_EXTENTS * EXTENT + 1, window] {
        rows.push((create(|ask| ask.bytes = bytes), OverQuota));
    }
    for capacity in [1, EXTENT - 1, window + 1, u64::MAX] {
        rows.push((create(|ask| ask.capacity_bytes = capacity), OutOfRange));
    }
    rows.push((create(|ask| ask.capacity_bytes = window), WindowFull));
    for piece in [window + 1, u64::MAX] {
        rows.push((create(|ask| ask.piece_bytes = piece), OutOfRange));
    }
    for align in [1, 4096, EXTENT - 1, EXTENT / 2, EXTENT + 1, 3 * EXTENT] {
        rows.push((create(|ask| ask.align = align), OutOfRange));
    }
    for align in [2 * window, 1 << 63, u64::MAX] {
        rows.push((create(|ask| ask.align = align), OutOfRange));
    }
    // The window begins at the one multiple that is in it, where another segment lies.
    rows.push((create(|ask| ask.align = window), WindowFull));
    let pieces = |ask: &mut session::Create| {
        ask.bytes = (SEGMENT_PIECES_MAX as u64 + 1) * EXTENT;
        ask.piece_bytes = 1;
    };
    rows.push((create(pieces), Limit));
    for lifetime in [3, -1, i32::MAX, i32::MIN] {
        rows.push((create(|ask| ask.lifetime = lifetime), Malformed));
    }
    rows.push((
        create(|ask| ask.lifetime = Lifetime::Persistent.into()),
        Malformed,
    ));
    for name in bad_names() {
        rows.push((create(|ask| ask.name = name), BadName));
    }
    rows.push((create(|ask| ask.name = "taken".to_owned()), NameTaken));
    rows
}

fn creates_of_domains() -> Vec<Row> {
    let domain = |change: &dyn Fn(&mut session::Create, &mut Coherence)| {
        let mut terms = Coherence {
            mode: CoherenceMode::Hardware.into(),
            unit_bytes: 4096,
            one_host: true,
            ..Coherence::default()
        };
        create(|ask| {
            change(ask, &mut terms);
            ask.coherence = Some(terms);
        })
    };
    let mut rows = Vec::new();
    for mode in [0, 4, -1, i32::MAX] {
        rows.push((domain(&|_, terms| terms.mode = mode), Malformed));
    }
    for mode in [
        CoherenceMode::Hardware,
        CoherenceMode::Software,
        CoherenceMode::Simulated,
    ] {
        let over_hosts = domain(&|_, terms| (terms.mode, terms.one_host) = (mode.into(), false));
        rows.push((over_hosts, NotPermitted));
    }
    for on_death in [3, -1, i32::MIN] {
        rows.push((domain(&|_, terms| terms.on_death = on_death), Malformed));
    }
    for unit in [0, 1, 4095, 4097, 6144, 1 << 63, u64::MAX] {
        rows.push((domain(&|_, terms| terms.unit_bytes = unit), OutOfRange));
    }
    for bytes in [0, 1, EXTENT - 1, EXTENT + 4096, u64::MAX] {
        rows.push((domain(&|ask, _| ask.bytes = bytes), OutOfRange));
    }
    for capacity in [1, 2 * EXTENT, u64::MAX] {
        let asked = domain(&|ask, _| ask.capacity_bytes = capacity);
        rows.push((asked, Malformed));
    }
    // With its directory it is one extent more.
    let whole = DEVICE_EXTENTS * EXTENT;
    rows.push((domain(&|ask, _| ask.bytes = whole), OverQuota));
    // More units than a domain has.
    let many = (1 << 20) * 4096 + EXTENT;
    rows.push((domain(&|ask, _| ask.bytes = many), OutOfRange));
    rows
}

fn opens() -> Vec<Row> {
    let mut rows = Vec::new();
    for access in [0, 3, -1, i32::MAX] {
        let name = "taken".to_owned();
        rows.push((Body::Open(session::Open { name, access }), Malformed));
    }
    let absent = [
        "",
        "absent",
        ":",
        ":taken",
        "uid-0:",
        "uid-0/none:taken",
        "a:b:c",
    ];
    let absent = absent.map(str::to_owned).into_iter().chain(bad_names());
    rows.extend(absent.map(|name| (ask::open(&name, Access::ReadOnly), NotFound)));
    rows
}

/// Requests about a segment that is named `taken`, and about one without a name.
fn changes(named: u64, unnamed: u64, window: u64) -> Vec<Row> {
    let mut rows = Vec::new();
    for id in [0, unnamed + 1, u64::MAX] {
        rows.extend([
            (ask::refresh(id), NotFound),
            (ask::close(id), NotFound),
            (ask::free(id, true), NotFound),
            (ask::resize(id, EXTENT), NotFound),
            (ask::share(id, "uid-7", Access::ReadOnly), NotFound),
            (ask::revoke(id, "uid-7"), NotFound),
            (ask::relocate(id, "ddr"), NotFound),
            (domain::acquire(id, 0), NotFound),
            (domain::release(id, 0), NotFound),
            (Body::Supply(session::Supply { backing_id: id }), NotFound),
        ]);
    }
    for bytes in [0, window + 1, u64::MAX] {
        rows.push((ask::resize(named, bytes), OutOfRange));
    }
    rows.push((ask::resize(named, (DEVICE_EXTENTS + 1) * EXTENT), OverQuota));
    // Its three extents are one piece, and the next segment begins right behind it.
    rows.push((ask::resize(named, EXTENT), NotAtBoundary));
    rows.push((ask::resize(named, 4 * EXTENT), WindowFull));
    for access in [0, 3, -1, i32::MIN] {
        let (segment_id, tenant) = (named, "uid-7".to_owned());
        let share = session::Share {
            segment_id,
            tenant,
            access,
        };
        rows.push((Body::Share(share), Malformed));
    }
    for tenant in no_tenants() {
        rows.push((ask::share(named, &tenant, Access::ReadOnly), NotFound));
        rows.push((ask::revoke(named, &tenant), NotFound));
    }
    rows.push((
        ask::share(named, "uid-0/client", Access::ReadOnly),
        Malformed,
    ));
    rows.push((ask::share(unnamed, "uid-7", Access::ReadOnly), Malformed));
    rows.push((ask::revoke(named, "uid-7"), NotFound));
    for tier in ["", "nope", "ddr\0"] {
        rows.push((ask::relocate(named, tier), NotFound));
    }
    rows
}

#[test]
fn a_field_past_its_bounds_is_refused_by_its_reason_and_changes_nothing() {
    let setup = Setup::small((DEVICE_EXTENTS * EXTENT) >> 20);
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_daemon"), &setup);
    let (mut admin, mut client) = (daemon.admin(), daemon.attach("client"));
    let window = client.attached().window_bytes;
    let named = client.granted(ask::create_named("ddr", 3 * EXTENT, "taken"));
    let unnamed = client.granted(ask::create("ddr", EXTENT));
    assert_eq!(unnamed.segment.addr, named.segment.addr + 3 * EXTENT);
    let mut state = || {
        let status = admin.status().unwrap();
        (
            status.granted_bytes,
            status.quarantined_bytes,
            status.segments,
            status.tenants,
        )
    };
    let before = state();
    let rows = [
        creates(window),
        creates_of_domains(),
        opens(),
        changes(named.id(), unnamed.id(), window),
    ]
    .concat();
    for (body, reason) in rows {
        let what: String = format!("{body:?}").chars().take(200).collect();
        let refused = client.refused(body);
        assert_eq!(refused.reason(), reason, "{what}: {}", refused.message);
        assert_eq!(state(), before, "{what}");
    }
    daemon.balanced();
}

#[test]
fn an_attach_past_its_bounds_is_refused_by_its_reason_and_may_be_mended() {
    let besieged = Besieged::new();
    let stranger = besieged.stranger();
    let attach = |protocol, tenant: &str, name: &str| {
        Body::Attach(session::Attach {
            protocol,
            tenant: tenant.to_owned(),
            name: name.to_owned(),
        })
    };
    let mut rows: Vec<Row> = [0, PROTOCOL + 1, u32::MAX]
        .map(|protocol| (attach(protocol, "", ""), Version))
        .into();
    for bad in bad_names() {
        rows.push((attach(PROTOCOL, &bad, ""), BadName));
        rows.push((attach(PROTOCOL, "", &bad), BadName));
    }
    // With the user's own prefix it would be longer than a name can be.
    rows.push((attach(PROTOCOL, &"x".repeat(NAME_BYTES_MAX), ""), BadName));
    for (body, reason) in rows {
        let what: String = format!("{body:?}").chars().take(200).collect();
        stranger.request(1, body).unwrap();
        let Response::Refused(error) = response(&stranger) else {
            panic!("{what} ends the connection");
        };
        assert_eq!(error.reason(), reason, "{what}: {}", error.message);
    }
    stranger.request(1, attach(PROTOCOL, "", "")).unwrap();
    assert_eq!(stranger.receive().unwrap().request_id, 1);
    drop(stranger);
    besieged.recovers();
}
