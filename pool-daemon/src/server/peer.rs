//! Who is at the other end of a connection, and whether that is an operator.
//!
//! The kernel names the peer of a Unix socket when it connects; a peer on another machine is named
//! by the certificate that the TLS layer verified. Nothing a caller says about itself counts.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::handle::Caller;

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// A process of this machine, as the kernel names it.
    Local {
        /// Its user id when it connected.
        uid: u32,
        /// Its group id when it connected.
        gid: u32,
    },
    /// Whoever reached the TCP address, from this one.
    Remote(IpAddr),
}

/// The user ids that may see every tenant and change things.
#[derive(Debug, Clone)]
pub(super) struct Operators(BTreeSet<u32>);

impl Operators {
    /// Root, the daemon's own user, and `configured`.
    pub(super) fn new(configured: &[u32]) -> Self {
        let own = nix::unistd::geteuid().as_raw();
        Self([0, own].iter().chain(configured).copied().collect())
    }

    /// The caller that a local process is.
    pub(super) fn caller(&self, uid: u32, gid: u32) -> Caller {
        Caller {
            uid,
            gid,
            operator: self.0.contains(&uid),
        }
    }

    /// Whether this peer may have as many connections as it needs.
    pub(super) fn includes(&self, peer: Peer) -> bool {
        match peer {
            Peer::Local { uid, .. } => self.0.contains(&uid),
            Peer::Remote(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_root_the_daemons_own_user_and_the_configured_ones() {
        let own = nix::unistd::geteuid().as_raw();
        let operators = Operators::new(&[1234]);
        for uid in [0, own, 1234] {
            assert!(operators.caller(uid, 5).operator, "{uid}");
        }
        assert!(!operators.caller(own + 1_000_000, 0).operator);
        assert!(!operators.includes(Peer::Remote(IpAddr::from([127, 0, 0, 1]))));
    }
}
