//! Every bound of the system in one place, with the relations between them asserted.
//!
//! A bound is what lets the daemon promise that no input makes it grow without end: whatever a
//! client can cause to be kept is counted against one of these.

use crate::units::{EXTENT_BYTES, KIB};

/// The largest message on the session socket, in bytes. A longer one is refused unread.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Descriptors in one message: below the kernel's `SCM_MAX_FD`, which is 253.
pub const DESCRIPTORS_MAX: usize = 64;
/// Pieces of one segment. Each travels with one descriptor, and all of them in one message.
pub const SEGMENT_PIECES_MAX: usize = DESCRIPTORS_MAX;
/// Segments that one client may hold: all of them are named in one message when it reattaches, and
/// their mappings stay far below the kernel's 65,530.
pub const CLIENT_SEGMENTS_MAX: usize = 1_024;
/// Missing backings named in one message when a client reattaches.
pub const MISSING_BACKINGS_MAX: usize = 2_048;
/// Clients attached to one daemon.
pub const CLIENTS_MAX: usize = 4_096;
/// Clients attached by one tenant.
pub const TENANT_CLIENTS_MAX: usize = 1_024;
/// Clients attached by one user, whatever tenants they belong to.
pub const USER_CLIENTS_MAX: usize = 1_024;
/// Tenants known to one daemon.
pub const TENANTS_MAX: usize = 1_024;
/// Tenants into which one user can be parted by labels.
pub const USER_LABELS_MAX: usize = 64;
/// Tenants that may be known when a share is to make another one known: the rest is left to those
/// who attach.
pub const SHARED_TENANTS_MAX: usize = TENANTS_MAX / 2;
/// Tiers and devices of one pool.
pub const DEVICES_MAX: usize = 256;
/// Segments of one pool.
pub const SEGMENTS_MAX: usize = 1 << 20;
/// Other tenants that one segment may be shared with.
pub const SEGMENT_SHARES_MAX: usize = 64;
/// How long a member of a domain may keep others waiting before it is recalled, in milliseconds: at
/// least, at most, and where nothing is said.
pub const RECALL_MS_MIN: u32 = 50;
/// The longest of these times: an hour.
pub const RECALL_MS_MAX: u32 = 3_600_000;
/// The one where nothing is said.
pub const RECALL_MS_DEFAULT: u32 = 1_000;
/// Units of one domain that are recalled at once.
pub const DOMAIN_RECALLS_MAX: usize = 64;
/// Bytes of a name of a segment, tenant, tier, device or client.
pub const NAME_BYTES_MAX: usize = 128;
/// Events that wait for one client which does not read them; past it the session is closed.
pub const CLIENT_EVENTS_MAX: usize = 1_024;
/// Bytes of the page through which a client shows that it lives.
pub const LIVENESS_PAGE_BYTES: u64 = 4 * KIB;

// All names of a grant and all its pieces fit one message: 64 pieces of at most 128 + 128 bytes of
// names and 64 of numbers, and as much again for the segment itself.
const _: () = assert!(SEGMENT_PIECES_MAX * 320 + 64 * 1024 / 2 <= MESSAGE_BYTES_MAX);
// What a client holds (three numbers of at most 10 bytes, and their tags), or was revoked from it
// (one number, of the same count), and what is missing of it.
const _: () =
    assert!((CLIENT_SEGMENTS_MAX + 1) * 36 + MISSING_BACKINGS_MAX * 10 + 64 <= MESSAGE_BYTES_MAX);
const _: () = assert!(DESCRIPTORS_MAX <= 253);
// One user shuts nobody out.
const _: () = assert!(USER_CLIENTS_MAX <= CLIENTS_MAX / 4 && USER_LABELS_MAX <= TENANTS_MAX / 8);
const _: () = assert!(CLIENT_SEGMENTS_MAX * SEGMENT_PIECES_MAX <= 65_536);
const _: () = assert!(LIVENESS_PAGE_BYTES < EXTENT_BYTES);

/// Whether `name` may name something: 1 to [`NAME_BYTES_MAX`] bytes of ASCII letters, digits and
/// `-`, `_`, `.`, `/`. A colon is left out: it parts the tenant from the name of its segment.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_plain_and_not_empty() {
        assert!(is_name("weights/layer-0.w_1"));
        for bad in [
            "",
            "a:b",
            "a b",
            "\u{e9}",
            "a\0",
            "a\n",
            &"x".repeat(NAME_BYTES_MAX + 1),
        ] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }
}
