//! A member of a domain, as one is without a library: it maps the directory, and changes its words
//! by hand.

use coherence::{Directory, FutexWait, Grant, Layout, LeaseError, Member, Own, Slot, State};
use pool_core::Bytes;
use pool_core::descriptor::Descriptor;
use pool_core::mem::Mapped;
use pool_core::sync::atomic::Ordering::{Acquire, Relaxed};
use pool_proto::common::v1::{Coherence, CoherenceMode, OnDeath};
use pool_proto::session::v1 as session;
use session::request::Body;

use crate::client::Held;

/// Bytes of a unit in these domains.
pub const UNIT: u64 = 64 << 10;

/// A domain of `bytes` bytes of payload in the tier `ddr`.
#[must_use]
pub fn create(bytes: u64, name: &str, on_death: OnDeath) -> Body {
    Body::Create(session::Create {
        tier: "ddr".to_owned(),
        bytes,
        name: name.to_owned(),
        coherence: Some(Coherence {
            mode: CoherenceMode::Hardware.into(),
            unit_bytes: UNIT,
            on_death: on_death.into(),
            one_host: true,
            ..Coherence::default()
        }),
        ..session::Create::default()
    })
}

/// The same, whose members are recalled after `recall_ms`.
#[must_use]
pub fn create_recalling(bytes: u64, name: &str, on_death: OnDeath, recall_ms: u32) -> Body {
    let mut body = create(bytes, name, on_death);
    if let Body::Create(ask) = &mut body
        && let Some(terms) = &mut ask.coherence
    {
        terms.recall_ms = recall_ms;
    }
    body
}

/// Says that a unit is waited for.
#[must_use]
pub fn recall(segment_id: u64, unit: u32) -> Body {
    Body::Recall(session::Recall { segment_id, unit })
}

/// Asks the daemon to lease a unit for reading.
#[must_use]
pub fn acquire(segment_id: u64, unit: u32) -> Body {
    Body::Acquire(session::Acquire { segment_id, unit })
}

/// Asks it to let go of one.
#[must_use]
pub fn release(segment_id: u64, unit: u32) -> Body {
    Body::Release(session::Release { segment_id, unit })
}

/// How the domain is cut that somebody holds.
#[must_use]
pub fn layout(held: &Held) -> Layout {
    let terms = held.segment.coherence.expect("it is a domain");
    let payload = held.segment.bytes - terms.directory_bytes;
    let layout = Layout::new(Bytes::new(payload), Bytes::new(terms.unit_bytes));
    layout.expect("the daemon cuts it so")
}

/// The directory of a domain that is held read-write.
#[must_use]
pub fn directory(held: &Held) -> Directory<'_> {
    let (_, mapped) = held.pieces().next().expect("it has a directory");
    Directory::new(mapped, layout(held)).expect("it is held read-write")
}

/// The descriptor of a unit.
#[must_use]
pub fn line(held: &Held, unit: u32) -> &Descriptor {
    directory(held).line(unit).expect("there is such a unit")
}

/// What the word of a unit says.
#[must_use]
pub fn own(held: &Held, unit: u32) -> Own {
    Own::judge(line(held, unit).own.load(Acquire)).expect("nobody has overwritten it")
}

/// What the word of a unit says of its state.
#[must_use]
pub fn state(held: &Held, unit: u32) -> State {
    own(held, unit).state()
}

/// The version of a unit.
#[must_use]
pub fn version(held: &Held, unit: u32) -> u64 {
    line(held, unit).version.load(Relaxed)
}

/// The holder as a member.
#[must_use]
pub fn member(held: &Held) -> Member<FutexWait> {
    let slot = u8::try_from(held.slot).ok().and_then(Slot::new);
    Member::new(slot.expect("it has a slot"), FutexWait)
}

/// Leases a unit now, to write where `exclusive`.
///
/// # Errors
/// [`LeaseError`].
pub fn lease(held: &Held, unit: u32, exclusive: bool) -> Result<Grant, LeaseError> {
    let (member, line) = (member(held), line(held, unit));
    if exclusive {
        member.try_exclusive(line)
    } else {
        member.try_shared(unit, line)
    }
}

/// Gives back a unit that was leased; what was written is published.
///
/// # Errors
/// [`LeaseError`].
pub fn let_go(held: &Held, unit: u32, grant: &Grant, exclusive: bool) -> Result<(), LeaseError> {
    let (member, line) = (member(held), line(held, unit));
    if exclusive {
        member.release_exclusive(line, grant, true).map(drop)
    } else {
        member.release_shared(unit, line, grant)
    }
}

/// Stores into the first word of a unit, where this holder has it mapped, lease or none.
pub fn poke(held: &Held, unit: u32, value: u64) {
    let (mapped, at) = place(held, unit);
    let word = mapped.write_view::<u64>(at, 1).expect("it is mapped");
    word.set(0, value).expect("it is there");
}

/// What this holder has mapped as the first word of a unit.
#[must_use]
pub fn peek(held: &Held, unit: u32) -> u64 {
    let (mapped, at) = place(held, unit);
    let word = mapped.view::<u64>(at, 1).expect("it is mapped");
    word.get(0).expect("it is there")
}

/// Publishes a new first word of a unit.
pub fn publish(held: &Held, unit: u32, value: u64) {
    let grant = lease(held, unit, true).expect("nobody has it");
    poke(held, unit, value);
    let_go(held, unit, &grant, true).expect("nobody takes it away");
}

fn place(held: &Held, unit: u32) -> (Mapped<'_>, Bytes) {
    let at = layout(held)
        .place(unit)
        .expect("there is such a unit")
        .get();
    let mut pieces: Vec<_> = held.pieces().collect();
    pieces.reverse();
    let (start, mapped) = pieces
        .into_iter()
        .find(|(start, _)| *start <= at)
        .expect("a piece");
    (mapped, Bytes::new(at - start))
}
