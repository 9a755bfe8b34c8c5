//! What the environment says about the private heap, read once, before the first block.
//!
//! | variable | value | without it |
//! |---|---|---|
//! | `TIERPOOL_IDLE_MIB` | how much memory may be kept that nobody uses | 32 |
//! | `TIERPOOL_NODES` | of which nodes memory is: `bind:1`, `prefer:1`, `interleave:0,1` | all |
//! | `TIERPOOL_HUGE_PAGES` | whether to ask for huge pages, where it pays: 0 or 1 | 1 |
//! | `TIERPOOL_CHECK` | whether to see every double free, more slowly: 0 or 1 | 0 |
//!
//! A node is one of NUMA: a memory tier that the kernel shows as such is named this way.
//!
//! A value that is none of these ends the process with a message: a program that runs elsewhere
//! than it was told to is worse than one that does not start.

use core::ffi::CStr;
use core::ops::Range;

use pool_core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::system::{self, Policy};

const IDLE: &CStr = c"TIERPOOL_IDLE_MIB";
const NODES: &CStr = c"TIERPOOL_NODES";
const HUGE: &CStr = c"TIERPOOL_HUGE_PAGES";
const CHECK: &CStr = c"TIERPOOL_CHECK";

/// What may be idle where nothing is said: 32 MiB.
const USUAL_IDLE_BYTES: usize = 32 << 20;

static IDLE_BYTES: AtomicUsize = AtomicUsize::new(USUAL_IDLE_BYTES);

static HUGE_PAGES: AtomicBool = AtomicBool::new(true);

static CHECKS_ALL: AtomicBool = AtomicBool::new(false);

/// Whether every double free is to be seen.
pub(crate) fn checks_all() -> bool {
    CHECKS_ALL.load(Relaxed)
}

/// Whether to ask for huge pages.
pub(crate) fn huge_pages() -> bool {
    HUGE_PAGES.load(Relaxed)
}

/// How many bytes may be kept that nobody uses, however little is in use.
pub(crate) fn idle_bytes() -> usize {
    IDLE_BYTES.load(Relaxed)
}

/// The nodes that memory is to be of, by their bits; 0 where nothing is said.
static NODES_SAID: AtomicU64 = AtomicU64::new(0);
/// The policy for them, as a number.
static POLICY: AtomicU32 = AtomicU32::new(0);

/// Has `range`, which was just mapped, be of the nodes that were asked for. False where the kernel
/// refuses.
#[must_use]
pub(crate) fn place(range: &Range<usize>) -> bool {
    let nodes = NODES_SAID.load(Relaxed);
    let policy = match POLICY.load(Relaxed) {
        0 => Policy::Bind,
        1 => Policy::Prefer,
        _ => Policy::Interleave,
    };
    nodes == 0 || system::place(range, policy, nodes)
}

/// Reads the environment.
pub(crate) fn read() {
    if let Some(value) = system::environment(IDLE) {
        match number(value).and_then(|mebibytes| mebibytes.checked_mul(1 << 20)) {
            Some(bytes) => IDLE_BYTES.store(bytes, Relaxed),
            None => refuse(IDLE, b" is to be a number of MiB\n"),
        }
    }
    read_switch(HUGE, &HUGE_PAGES);
    read_switch(CHECK, &CHECKS_ALL);
    let Some(value) = system::environment(NODES) else {
        return;
    };
    match policy(value) {
        Some((policy, nodes)) => {
            NODES_SAID.store(nodes, Relaxed);
            POLICY.store(policy as u32, Relaxed);
        }
        None => refuse(
            NODES,
            b" is to be bind:N, prefer:N or interleave:N,M with nodes below 64\n",
        ),
    }
}

/// Ends the process, for it was told something that it cannot do.
pub(crate) fn refuse_nodes() -> ! {
    refuse(
        NODES,
        b" names a node that this machine does not have, or may not be used\n",
    )
}

fn read_switch(name: &CStr, switch: &AtomicBool) {
    match system::environment(name) {
        None => {}
        Some(b"1") => switch.store(true, Relaxed),
        Some(b"0") => switch.store(false, Relaxed),
        Some(_) => refuse(name, b" is to be 0 or 1\n"),
    }
}

fn refuse(name: &CStr, what: &[u8]) -> ! {
    system::tell(b"tierpool: ");
    system::tell(name.to_bytes());
    system::tell(what);
    system::exit(2)
}

fn number(text: &[u8]) -> Option<usize> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_usize, |sum, digit| {
        let digit = digit.is_ascii_digit().then(|| usize::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

fn policy(text: &[u8]) -> Option<(Policy, u64)> {
    let colon = text.iter().position(|&byte| byte == b':')?;
    let policy = match &text[..colon] {
        b"bind" => Policy::Bind,
        b"prefer" => Policy::Prefer,
        b"interleave" => Policy::Interleave,
        _ => return None,
    };
    let mut nodes = 0;
    for node in text[colon + 1..].split(|&byte| byte == b',') {
        nodes |= 1 << number(node).filter(|&node| node < 64)?;
    }
    Some((policy, nodes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_whole_or_not_at_all() {
        assert_eq!(policy(b"bind:0"), Some((Policy::Bind, 1)));
        assert_eq!(policy(b"prefer:3"), Some((Policy::Prefer, 8)));
        assert_eq!(
            policy(b"interleave:0,63"),
            Some((Policy::Interleave, 1 << 63 | 1))
        );
        for wrong in [
            &b""[..],
            b"bind",
            b"bind:",
            b"bind:64",
            b"bind:1,",
            b"bound:1",
            b"bind:-1",
        ] {
            assert_eq!(policy(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_number_is_digits_alone_and_fits() {
        assert_eq!(number(b"0"), Some(0));
        assert_eq!(number(b"1024"), Some(1024));
        for wrong in [&b""[..], b"1k", b" 1", b"99999999999999999999999"] {
            assert_eq!(number(wrong), None);
        }
    }
}
