//! One that serves accesses one after the other: a direction of a link, a channel of a switch or of
//! a device.
//!
//! Accesses are told in the order in which they were made, and an access that was made later may
//! come here earlier, by a shorter way. So what is kept is not until when the server is busy but
//! when it is, and who comes takes the first gap that is long enough: a server that is idle while
//! somebody is there who could be served would make up a wait that no fabric has.
//!
//! # Invariants
//! 1. Times at which it is busy do not overlap or touch, and there are [`MOST`] of them at most.
//! 2. Who comes first is served first, among those who come in the order in which they are told.

use std::collections::BTreeMap;

use pool_core::planted;

use super::units::Picos;

/// Times at which it is busy that are kept apart; of one more, the first two are made one, and who
/// comes between them waits for longer than it would have to.
const MOST: usize = 1 << 16;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// From when to when.
    busy: BTreeMap<Picos, Picos>,
}

impl Server {
    /// Serves for `service` whoever comes at `arrival`, and says when that begins. Nobody comes
    /// before `now` from now on.
    pub fn serve(&mut self, now: Picos, arrival: Picos, service: Picos) -> Picos {
        while let Some(first) = self.busy.first_entry().filter(|it| *it.get() <= now) {
            first.remove();
        }
        if service == Picos::ZERO {
            return arrival;
        }
        let start = if planted!("timing.serves_two_at_once") {
            arrival
        } else {
            self.gap(arrival, service)
        };
        let end = start.saturating_add(service);
        let before = self.busy.range(..start).next_back();
        let from = match before {
            Some((&from, &until)) if until == start => from,
            _ => start,
        };
        let until = self.busy.remove(&end).unwrap_or(end);
        self.busy.insert(from, until);
        if self.busy.len() > MOST {
            self.close_a_gap();
        }
        start
    }

    /// From when on it is idle for so long, at `arrival` or after it.
    fn gap(&self, arrival: Picos, service: Picos) -> Picos {
        let here = self.busy.range(..=arrival).next_back();
        let mut start = here.map_or(arrival, |(_, &until)| until.max(arrival));
        for (&from, &until) in self.busy.range(start..) {
            if from.saturating_sub(start) >= service {
                break;
            }
            start = until;
        }
        start
    }

    fn close_a_gap(&mut self) {
        if let Some((from, _)) = self.busy.pop_first()
            && let Some((_, until)) = self.busy.pop_first()
        {
            self.busy.insert(from, until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(arrivals: &[u64], service: u64) -> Vec<u64> {
        let mut server = Server::default();
        let serve = |&at| server.serve(Picos::ZERO, Picos::new(at), Picos::new(service));
        arrivals.iter().map(serve).map(Picos::get).collect()
    }

    #[test]
    fn who_comes_while_it_is_busy_waits_and_who_comes_first_is_first() {
        assert_eq!(starts(&[0, 0, 5, 40], 10), [0, 10, 20, 40]);
        assert_eq!(starts(&[0, 0, 0], 0), [0, 0, 0]);
    }

    #[test]
    fn a_gap_is_taken_where_it_is_long_enough() {
        // The one that is told first comes last.
        assert_eq!(starts(&[100, 0, 85, 95], 10), [100, 0, 85, 110]);
        assert_eq!(starts(&[100, 80, 0, 85], 10), [100, 80, 0, 90]);
    }

    #[test]
    fn it_is_never_busy_with_two_at_once_and_what_is_over_is_forgotten() {
        let mut server = Server::default();
        let mut rng = pool_core::rng::Rng::new(3);
        let mut all = Vec::new();
        for round in 0..5_000 {
            let now = Picos::new(round * 7);
            let arrival = Picos::new(round * 7 + rng.below(4_000));
            let service = Picos::new(1 + rng.below(9));
            let start = server.serve(now, arrival, service);
            assert!(start >= arrival);
            all.push((start, start.saturating_add(service)));
            assert!(server.busy.len() <= MOST);
        }
        all.sort_unstable();
        assert!(all.windows(2).all(|two| two[0].1 <= two[1].0));
        server.serve(Picos::MAX, Picos::MAX, Picos::ZERO);
        assert_eq!(server.busy.len(), 0);
    }
}
