//! What may happen to a pool, drawn at random.

use pool_proto::common::v1::{Access, Coherence};
use pool_proto::session::v1 as session;
use proptest::prelude::*;
use session::request::Body;

use super::ask;
use super::plans::extents;
use super::world::Loss;
use crate::engine::command::Operation;

/// Names of segments; the first is that of one without.
pub(super) const NAMES: [&str; 4] = ["", "a", "b", "c"];
/// Devices, and one that is not there.
pub(super) const DEVICES: [&str; 5] = ["d0", "d1", "p0", "x0", "none"];

/// One thing that happens. Numbers choose among what there is, modulo how much there is.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Spawn {
        user: u8,
        tidy: bool,
    },
    Disconnect(u8),
    Reattach(u8),
    Kill(u8),
    Ask(u8, Ask),
    Repeat(u8),
    /// A request with this id and this body, whatever is due.
    OutOfOrder(u8, u64, Option<Body>),
    /// A request in its turn that no library would send.
    Nonsense(u8, Option<Body>),
    Build(u8, bool),
    Copy(bool),
    /// All builds and copies end well.
    Work,
    Prove(u8),
    Write(u8, u8, u64),
    /// A member holds a unit from now on, or lets go of it.
    Holds(u8, u32, bool),
    LetsGo(u32),
    Supply(u8),
    Operate(Operation),
    Far(Far),
    FreeAny(u8, bool),
    Pass(u16),
    /// `keeps` chooses the descriptors that outlive the daemon, `back` the processes that come back
    /// at once.
    Restart {
        keeps: u8,
        back: u8,
    },
    /// The daemon dies in the step that takes this request.
    LoseAsk {
        p: u8,
        ask: Ask,
        loss: Loss,
        keeps: u8,
        back: u8,
    },
    Reboot {
        back: u8,
    },
}

/// What may happen to a dynamic device.
#[derive(Debug, Clone, Copy)]
pub(super) enum Far {
    Comes(u32, u32),
    IsTaken(u32, u32),
    /// So many units of so many extents.
    IsAsked(u32, u32),
    Poison(u32),
    /// All is said again that is true of it.
    Reached,
    Unreached,
}

/// A request, of a segment that may be anybody's or nobody's.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    Create(session::Create),
    Open(u8, u8, Access),
    Refresh(u8),
    Close(u8),
    Free(u8, bool),
    Resize(u8, u32),
    Share(u8, u8, Access),
    Revoke(u8, u8),
    Relocate(u8, &'static str),
    /// With the number that is due, or with another one.
    Seal(u8, bool),
    Acquire(u8, u32),
    Release(u8, u32),
    Recall(u8, u32),
    List,
    Detach,
}

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![Just(Access::ReadOnly), Just(Access::ReadWrite)]
}

fn tier() -> impl Strategy<Value = &'static str> {
    prop_oneof![7 => Just("ddr"), 3 => Just("pooled"), 3 => Just("far")]
}

fn create() -> impl Strategy<Value = session::Create> {
    let piece = prop_oneof![3 => 1..4_u32, 2 => Just(0)];
    let spare = prop_oneof![3 => Just(0), 1 => 1..6_u32];
    let shape = (1..8_u32, spare, piece, 0..NAMES.len());
    let wait_ms = prop_oneof![1 => Just(0), 1 => 1..5_000_u64];
    let weighted = proptest::bool::weighted;
    let align = prop_oneof![3 => Just(0), 2 => (0..7_u32).prop_map(|shift| extents(1 << shift))];
    let rest = (tier(), any::<bool>(), wait_ms, weighted(0.3), align);
    (shape, rest).prop_map(
        |((count, spare, piece, name), (tier, kept, wait_ms, shared, align))| {
            let coherence = ask::create_domain("", 1).coherence;
            session::Create {
                tier: tier.into(),
                bytes: extents(count),
                capacity_bytes: if spare == 0 {
                    0
                } else {
                    extents(count + spare)
                },
                name: NAMES[name].into(),
                lifetime: if kept && name > 0 { 2 } else { 1 },
                piece_bytes: extents(piece),
                wait_ms,
                coherence: coherence.filter(|_| shared),
                align,
            }
        },
    )
}

fn ask() -> impl Strategy<Value = Ask> {
    let n = any::<u8>;
    let weighted = proptest::bool::weighted;
    prop_oneof![
        8 => create().prop_map(Ask::Create),
        6 => (n(), n(), access()).prop_map(|(s, t, a)| Ask::Open(s, t, a)),
        2 => n().prop_map(Ask::Refresh),
        3 => n().prop_map(Ask::Close),
        3 => (n(), any::<bool>()).prop_map(|(s, force)| Ask::Free(s, force)),
        4 => (n(), 1..12_u32).prop_map(|(s, count)| Ask::Resize(s, count)),
        4 => (n(), n(), access()).prop_map(|(s, t, a)| Ask::Share(s, t, a)),
        3 => (n(), n()).prop_map(|(s, t)| Ask::Revoke(s, t)),
        3 => (n(), tier()).prop_map(|(s, tier)| Ask::Relocate(s, tier)),
        2 => (n(), weighted(0.8)).prop_map(|(s, due)| Ask::Seal(s, due)),
        2 => (n(), 0..40_u32).prop_map(|(s, unit)| Ask::Acquire(s, unit)),
        1 => (n(), 0..40_u32).prop_map(|(s, unit)| Ask::Release(s, unit)),
        20 => (n(), 0..4_u32).prop_map(|(s, unit)| Ask::Recall(s, unit)),
        1 => Just(Ask::List),
        1 => Just(Ask::Detach),
    ]
}

/// Numbers at which something could break.
fn edge() -> impl Strategy<Value = u64> {
    let powers = (0..64_u32).prop_map(|shift| 1_u64 << shift);
    prop_oneof![
        Just(0),
        Just(u64::MAX),
        Just(u64::MAX - 1),
        powers.clone(),
        powers.prop_map(|power| power - 1),
        any::<u64>(),
    ]
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c]{0,2}",
        "(alpha|beta|gamma|uid-[0-9]{1,4}):[a-c]",
        "(ddr|pooled|uid-7/.{0,3})",
        ".{0,300}",
    ]
}

/// Requests that no library would send.
fn nonsense() -> impl Strategy<Value = Option<Body>> {
    let number = any::<i32>;
    let numbers = (edge(), edge(), number(), edge(), edge(), edge());
    let create = (word(), word(), numbers).prop_map(
        |(tier, name, (bytes, capacity_bytes, lifetime, piece_bytes, wait_ms, align))| {
            Body::Create(session::Create {
                tier,
                bytes,
                capacity_bytes,
                name,
                lifetime,
                piece_bytes,
                wait_ms,
                coherence: (bytes % 3 == 1).then_some(Coherence {
                    mode: lifetime % 5,
                    unit_bytes: capacity_bytes,
                    on_death: lifetime,
                    one_host: true,
                    ..Coherence::default()
                }),
                align,
            })
        },
    );
    let open = (word(), number());
    let named = (edge(), word(), number());
    let body = prop_oneof![
        create,
        open.prop_map(|(name, access)| Body::Open(session::Open { name, access })),
        named.prop_map(|(segment_id, tenant, access)| Body::Share(session::Share {
            segment_id,
            tenant,
            access,
        })),
        (edge(), word()).prop_map(|(s, tenant)| ask::revoke(s, &tenant)),
        (edge(), word()).prop_map(|(s, tier)| ask::relocate(s, &tier)),
        (edge(), edge()).prop_map(|(s, writers)| ask::seal(s, writers)),
        edge().prop_map(ask::refresh),
        edge().prop_map(ask::close),
        (edge(), any::<bool>()).prop_map(|(s, force)| ask::free(s, force)),
        (edge(), edge())
            .prop_map(|(segment_id, bytes)| Body::Resize(session::Resize { segment_id, bytes })),
        edge().prop_map(|backing_id| Body::Supply(session::Supply { backing_id })),
        Just(Body::Tiers(session::Tiers {})),
        Just(Body::Attach(session::Attach::default())),
    ];
    proptest::option::weighted(0.95, body)
}

fn operation() -> impl Strategy<Value = Operation> {
    let device = (0..DEVICES.len()).prop_map(|index| DEVICES[index].to_owned());
    let bytes = prop_oneof![4 => (0..24_u32).prop_map(extents), 1 => edge()];
    prop_oneof![
        3 => device.clone().prop_map(Operation::Drain),
        4 => device.clone().prop_map(Operation::Activate),
        1 => device.clone().prop_map(Operation::Remove),
        2 => (device, bytes).prop_map(|(name, bytes)| Operation::Resize(name, bytes)),
    ]
}

fn far() -> impl Strategy<Value = Far> {
    let run = || (0..16_u32, 1..9_u32);
    prop_oneof![
        8 => run().prop_map(|(first, count)| Far::Comes(first, count)),
        3 => run().prop_map(|(first, count)| Far::IsTaken(first, count)),
        3 => (1..4_u32, 1..5_u32).prop_map(|(unit, most)| Far::IsAsked(unit, most)),
        1 => (0..16_u32).prop_map(Far::Poison),
        6 => Just(Far::Reached),
        1 => Just(Far::Unreached),
    ]
}

/// Anything.
pub(super) fn op() -> impl Strategy<Value = Op> {
    let n = any::<u8>;
    let tidy = || proptest::bool::weighted(0.8);
    prop_oneof![
        20 => (n(), tidy()).prop_map(|(user, tidy)| Op::Spawn { user, tidy }),
        6 => n().prop_map(Op::Disconnect),
        20 => n().prop_map(Op::Reattach),
        12 => n().prop_map(Op::Kill),
        240 => (n(), ask()).prop_map(|(p, ask)| Op::Ask(p, ask)),
        16 => n().prop_map(Op::Repeat),
        16 => (n(), nonsense()).prop_map(|(p, body)| Op::Nonsense(p, body)),
        16 => (n(), edge(), nonsense()).prop_map(|(p, id, body)| Op::OutOfOrder(p, id, body)),
        100 => (n(), proptest::bool::weighted(0.9)).prop_map(|(i, ok)| Op::Build(i, ok)),
        40 => Just(Op::Work),
        20 => proptest::bool::weighted(0.8).prop_map(Op::Copy),
        80 => n().prop_map(Op::Prove),
        30 => (n(), n(), 1..1_000_u64).prop_map(|(p, s, number)| Op::Write(p, s, number)),
        4 => n().prop_map(Op::Supply),
        30 => (n(), 0..4_u32, any::<bool>()).prop_map(|(p, u, writes)| Op::Holds(p, u, writes)),
        4 => (0..4_u32).prop_map(Op::LetsGo),
        12 => operation().prop_map(Op::Operate),
        24 => far().prop_map(Op::Far),
        3 => (n(), any::<bool>()).prop_map(|(s, force)| Op::FreeAny(s, force)),
        20 => (0..4_000_u16).prop_map(Op::Pass),
        5 => (n(), n()).prop_map(|(keeps, back)| Op::Restart { keeps, back }),
        5 => (n(), ask(), any::<bool>(), (n(), n())).prop_map(|(p, ask, after, (keeps, back))| {
            let loss = if after { Loss::AfterCommit } else { Loss::BeforeCommit };
            Op::LoseAsk { p, ask, loss, keeps, back }
        }),
        1 => n().prop_map(|back| Op::Reboot { back }),
    ]
}
