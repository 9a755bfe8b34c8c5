//! How many connections each peer may have, so that none can shut the others out.
//!
//! # Invariants
//! 1. A user id, and an address of the network, hold at most [`PEER_CONNECTIONS_MAX`] connections;
//!    of IPv6 the first half of an address counts, since the other half is free to choose.
//! 2. All who are no operators hold at most [`ORDINARY_CONNECTIONS_MAX`]. Local operators are not
//!    counted among them, so that one is let in whatever the others do.
//! 3. Each TCP address that is listened on counts for itself: who reaches one takes no place of
//!    another, nor of a Unix socket.
//! 4. A [`Permit`] is one connection; dropping it gives the place back.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::peer::{Operators, Peer};

/// The most connections of one user id, or of one address.
pub(super) const PEER_CONNECTIONS_MAX: usize = 64;
/// The most connections of all who are no operators.
pub(super) const ORDINARY_CONNECTIONS_MAX: usize = 256;

/// The connections there are. Clones count together.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    operators: Operators,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    // Those with no connection are not in it.
    by_peer: BTreeMap<Key, usize>,
    ordinary: usize,
}

/// Who counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    User(u32),
    Address(IpAddr),
}

impl Key {
    fn of(peer: Peer) -> Self {
        match peer {
            Peer::Local { uid, .. } => Self::User(uid),
            Peer::Remote(IpAddr::V6(address)) if address.to_ipv4_mapped().is_none() => {
                let network = address.to_bits() >> 64 << 64;
                Self::Address(Ipv6Addr::from_bits(network).into())
            }
            Peer::Remote(address) => Self::Address(address),
        }
    }
}

/// The place of one connection.
#[derive(Debug)]
pub(super) struct Permit {
    counts: Arc<Mutex<Counts>>,
    peer: Key,
    ordinary: bool,
}

impl Admission {
    pub(super) fn new(operators: Operators) -> Self {
        Self {
            operators,
            counts: Arc::default(),
        }
    }

    /// A place for one more connection of `peer`; `None` where it has as many as it may have.
    pub(super) fn admit(&self, peer: Peer) -> Option<Permit> {
        let ordinary = !self.operators.includes(peer);
        let key = Key::of(peer);
        let mut counts = lock(&self.counts);
        let of_peer = counts.by_peer.get(&key).copied().unwrap_or(0);
        let full = of_peer >= PEER_CONNECTIONS_MAX
            || (ordinary && counts.ordinary >= ORDINARY_CONNECTIONS_MAX);
        if full {
            return None;
        }
        counts.by_peer.insert(key, of_peer + 1);
        counts.ordinary += usize::from(ordinary);
        Some(Permit {
            counts: Arc::clone(&self.counts),
            peer: key,
            ordinary,
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        counts.ordinary -= usize::from(self.ordinary);
        if let Some(of_peer) = counts.by_peer.get_mut(&self.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                counts.by_peer.remove(&self.peer);
            }
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    // Nothing panics between two changes of the counts, so they are whole even then.
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32) -> Peer {
        Peer::Local { uid, gid: uid }
    }

    /// User ids that are neither root's nor the test's own.
    fn strangers() -> impl Iterator<Item = Peer> {
        let own = nix::unistd::geteuid().as_raw();
        (own + 1_000_000..).map(user)
    }

    #[test]
    fn one_peer_cannot_take_the_places_of_another() {
        let admission = Admission::new(Operators::new(&[]));
        let mut strangers = strangers();
        let (greedy, modest) = (strangers.next().unwrap(), strangers.next().unwrap());
        let held: Vec<_> = std::iter::from_fn(|| admission.admit(greedy)).collect();
        assert_eq!(held.len(), PEER_CONNECTIONS_MAX);
        assert!(admission.admit(modest).is_some());
        assert!(admission.admit(remote(1)).is_some());
        drop(held);
        assert!(admission.admit(greedy).is_some());
    }

    fn remote(last: u16) -> Peer {
        Peer::Remote(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]))
    }

    #[test]
    fn one_address_cannot_take_the_places_of_another() {
        let admission = Admission::new(Operators::new(&[]));
        let greedy = (1..).map(remote);
        let held: Vec<_> = greedy.map_while(|peer| admission.admit(peer)).collect();
        assert_eq!(held.len(), PEER_CONNECTIONS_MAX);
        let elsewhere = Peer::Remote(IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, 1]));
        assert!(admission.admit(elsewhere).is_some());
        assert!(
            admission
                .admit(Peer::Remote([192, 0, 2, 1].into()))
                .is_some()
        );
    }

    #[test]
    fn an_operator_is_let_in_when_all_others_together_are_not() {
        let admission = Admission::new(Operators::new(&[]));
        let mut held = Vec::new();
        for stranger in strangers().take(ORDINARY_CONNECTIONS_MAX) {
            held.extend(admission.admit(stranger));
        }
        assert_eq!(held.len(), ORDINARY_CONNECTIONS_MAX);
        let one_more = strangers().nth(ORDINARY_CONNECTIONS_MAX).unwrap();
        assert!(admission.admit(one_more).is_none());
        assert!(admission.admit(remote(1)).is_none());
        assert!(admission.admit(user(0)).is_some());
    }

    #[test]
    fn nothing_is_remembered_of_peers_that_have_gone() {
        let admission = Admission::new(Operators::new(&[]));
        for stranger in strangers().take(10_000) {
            assert!(admission.admit(stranger).is_some());
        }
        let counts = lock(&admission.counts);
        assert!(counts.by_peer.is_empty() && counts.ordinary == 0);
    }
}
