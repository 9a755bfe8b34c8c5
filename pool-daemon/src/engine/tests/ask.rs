//! Requests, in few words.

use pool_proto::common::v1::{Access, Coherence, CoherenceMode, Lifetime};
use pool_proto::session::v1 as session;
use session::request::Body;

use super::plans::extents;

/// A request for memory without a name, of the tier `ddr`.
pub(super) fn create(count: u32) -> session::Create {
    session::Create {
        tier: "ddr".into(),
        bytes: extents(count),
        ..session::Create::default()
    }
}

/// The same with a name.
pub(super) fn create_named(name: &str, count: u32) -> session::Create {
    session::Create {
        name: name.into(),
        ..create(count)
    }
}

/// The same, to be kept until it is freed.
pub(super) fn create_kept(name: &str, count: u32) -> session::Create {
    session::Create {
        lifetime: Lifetime::Persistent.into(),
        ..create_named(name, count)
    }
}

pub(super) fn open(name: &str, access: Access) -> Body {
    Body::Open(session::Open {
        name: name.into(),
        access: access.into(),
    })
}

pub(super) fn refresh(segment_id: u64) -> Body {
    Body::Refresh(session::Refresh { segment_id })
}

pub(super) fn close(segment_id: u64) -> Body {
    Body::Close(session::Close { segment_id })
}

pub(super) fn free(segment_id: u64, force: bool) -> Body {
    Body::Free(session::Free { segment_id, force })
}

pub(super) fn resize(segment_id: u64, count: u32) -> Body {
    Body::Resize(session::Resize {
        segment_id,
        bytes: extents(count),
    })
}

pub(super) fn share(segment_id: u64, tenant: &str, access: Access) -> Body {
    Body::Share(session::Share {
        segment_id,
        tenant: tenant.into(),
        access: access.into(),
    })
}

pub(super) fn revoke(segment_id: u64, tenant: &str) -> Body {
    Body::Revoke(session::Revoke {
        segment_id,
        tenant: tenant.into(),
    })
}

pub(super) fn relocate(segment_id: u64, tier: &str) -> Body {
    Body::Relocate(session::Relocate {
        segment_id,
        tier: tier.into(),
    })
}

/// As a client asks that was told `writers` before it dropped the lines.
pub(super) fn seal(segment_id: u64, writers: u64) -> Body {
    Body::Seal(session::Seal {
        segment_id,
        writers,
    })
}

pub(super) fn list() -> Body {
    Body::List(session::List {})
}

/// A domain of so many extents of payload, in units of 64 KiB.
pub(super) fn create_domain(name: &str, count: u32) -> session::Create {
    session::Create {
        coherence: Some(Coherence {
            mode: CoherenceMode::Hardware.into(),
            unit_bytes: 1 << 16,
            one_host: true,
            ..Coherence::default()
        }),
        ..create_named(name, count)
    }
}

pub(super) fn acquire(segment_id: u64, unit: u32) -> Body {
    Body::Acquire(session::Acquire { segment_id, unit })
}

pub(super) fn release(segment_id: u64, unit: u32) -> Body {
    Body::Release(session::Release { segment_id, unit })
}

pub(super) fn recall(segment_id: u64, unit: u32) -> Body {
    Body::Recall(session::Recall { segment_id, unit })
}
