//! How fast streams run and how long their accesses take, alone and beside each other.
//!
//! # What is solved
//! Each queue has a wait `W`, each stream a latency `T = unloaded + sum(share * W)` over the queues
//! it visits, and a rate `x = min(demand, mlp * access / T)` (Little's law). A queue's wait is the
//! one of its load, by curve or by formula; where the streams would put more on it than it carries,
//! it is as much longer as makes them wait until they do not. So a solution says for each queue:
//! its utilisation is at most the whole, and its wait is that of its utilisation, or more where
//! it is busy all the time.
//!
//! # In what sense, and why it ends
//! Where the streams at each device have one share of reads, these are the conditions for the
//! maximum of a concave function: the sum over streams of `mlp * access * ln(x) - unloaded * x`,
//! less the area under each queue's wait, with each demand and each capacity as a bound. The waits
//! are the prices of its dual, so the rates are unique (waits need not be: two queues in a row that
//! are both full share one wait in any way, and its sum is what counts). One queue after the other
//! is settled by bisection with all others as they are, a descent along one coordinate of that
//! dual: it goes down with each step and tends to the minimum. Where shares differ, the mix at a
//! device moves with the rates; each step still ends, and the outcome is a point at which each
//! queue agrees with its load, without proof that it is the only one.
//! There are [`SWEEPS`] rounds at most, fewer where a round changed nothing, and each bisection has
//! 64 steps at most, so it ends. Whatever is left unsettled, the last step keeps three promises to
//! the byte: no queue carries more than it can, no stream more than it demands, and none more than
//! its accesses under way allow at the latency it is told.
//!
//! Everything is in whole numbers and in the order of the lists.

use super::element::{
    ElementId, Elements, Load, PathError, Stream, Visit, by_rate, by_window, window,
};
use super::units::{Picos, Rate, Share, narrow};

/// Rounds over all queues, at most.
const SWEEPS: usize = 96;
/// Steps of a bisection over all 64-bit numbers.
const STEPS: u32 = 64;

/// What became of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// What it moves.
    pub rate: Rate,
    /// What an access takes, the mean of its reads and writes.
    pub latency: Picos,
}

/// What became of all streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Solution {
    /// By stream.
    pub streams: Vec<Outcome>,
    utilisations: Vec<Share>,
}

impl Solution {
    /// How busy an element is: a link in the direction that is busier.
    #[must_use]
    pub fn utilisation(&self, element: ElementId) -> Share {
        let [up, down] = self.directions(element);
        up.max(down)
    }

    /// How busy a link is towards the host and towards the device. A switch and a device have one
    /// utilisation, the first, and an element that is not there has none.
    #[must_use]
    pub fn directions(&self, element: ElementId) -> [Share; 2] {
        let first = element.0.saturating_mul(2);
        let at = |queue: usize| self.utilisations.get(queue).copied().unwrap_or_default();
        [at(first), at(first.saturating_add(1))]
    }
}

/// A stream as the solver sees it.
struct Route {
    unloaded: Picos,
    visits: Vec<Visit>,
    demand: Rate,
    reads: Share,
    window: u128,
}

impl Route {
    fn new(elements: &Elements, stream: &Stream) -> Result<Self, PathError> {
        let reads = stream.reads.at_most_one();
        Ok(Self {
            unloaded: elements.unloaded(&stream.path, reads)?,
            visits: elements.visits(&stream.path, reads)?,
            demand: stream.demand,
            reads,
            window: window(stream.mlp, elements.device(&stream.path)?.access),
        })
    }

    /// The latency under these waits, with those of `but` left out.
    fn latency(&self, waits: &[Picos], but: Option<usize>) -> Picos {
        let visits = self.visits.iter().filter(|visit| Some(visit.queue) != but);
        visits.fold(self.unloaded, |sum, visit| {
            sum.saturating_add(waits[visit.queue].part(visit.share))
        })
    }

    fn rate(&self, latency: Picos) -> Rate {
        self.demand.min(by_window(self.window, latency))
    }

    /// Which part of the accesses visits `queue`; more than the whole where they do it twice.
    fn share(&self, queue: usize) -> Share {
        let visits = self.visits.iter().filter(|visit| visit.queue == queue);
        visits.fold(Share::ZERO, |sum, visit| sum.saturating_add(visit.share))
    }
}

/// What one stream gets that has the elements for itself.
///
/// Its rate is the highest one, up to its demand, that each queue carries and at which the accesses
/// under way suffice for the latency. Where it is below the demand the stream is held back, and
/// the latency is what the accesses under way make of it. More demand never gives a lower rate or a
/// shorter latency.
///
/// # Errors
/// [`PathError`] where its path is none.
pub fn alone(elements: &Elements, stream: &Stream) -> Result<Outcome, PathError> {
    let route = Route::new(elements, stream)?;
    let latency_at = |rate: Rate| {
        route.visits.iter().try_fold(route.unloaded, |sum, visit| {
            let mut load = Load::default();
            load.add(rate, route.share(visit.queue), route.reads);
            let fits = elements.utilisation(visit.queue, load) <= Share::ONE;
            let wait = elements.wait(visit.queue, load).part(visit.share);
            fits.then(|| sum.saturating_add(wait))
        })
    };
    let is_possible = |rate: Rate| {
        latency_at(rate).is_some_and(|latency| rate <= by_window(route.window, latency))
    };
    let (mut low, mut high) = (0, stream.demand.get());
    if is_possible(stream.demand) {
        low = high;
    }
    for _ in 0..STEPS {
        let middle = low + (high - low) / 2;
        if is_possible(Rate::new(middle)) {
            low = middle;
        } else {
            high = middle;
        }
    }
    let rate = Rate::new(low);
    let latency = latency_at(rate).unwrap_or(Picos::MAX);
    let is_held_back = rate < stream.demand;
    let held = if is_held_back {
        by_rate(route.window, rate)
    } else {
        Picos::ZERO
    };
    Ok(Outcome {
        rate,
        latency: latency.max(held),
    })
}

/// What streams get that share elements. See the module for what is solved.
///
/// # Errors
/// [`PathError`] where the path of a stream is none.
pub fn solve(elements: &Elements, streams: &[Stream]) -> Result<Solution, PathError> {
    let routes = streams
        .iter()
        .map(|stream| Route::new(elements, stream))
        .collect::<Result<Vec<_>, _>>()?;
    let queues = elements.list.len().saturating_mul(2);
    let mut users = vec![Vec::new(); queues];
    for (index, route) in routes.iter().enumerate() {
        for visit in &route.visits {
            if users[visit.queue].last() != Some(&index) {
                users[visit.queue].push(index);
            }
        }
    }
    let mut waits = vec![Picos::ZERO; queues];
    for _ in 0..SWEEPS {
        let mut is_settled = true;
        for queue in 0..queues {
            let wait = settle(elements, &routes, &users[queue], &waits, queue);
            is_settled &= waits[queue] == wait;
            waits[queue] = wait;
        }
        if is_settled {
            break;
        }
    }
    Ok(finish(elements, &routes, &users, &waits))
}

/// The wait of one queue at which it agrees with its load, all other waits as they are.
fn settle(
    elements: &Elements,
    routes: &[Route],
    users: &[usize],
    waits: &[Picos],
    queue: usize,
) -> Picos {
    let users: Vec<_> = users
        .iter()
        .map(|&user| {
            let route = &routes[user];
            (route, route.share(queue), route.latency(waits, Some(queue)))
        })
        .collect();
    let load_at = |wait: Picos| {
        let mut load = Load::default();
        for (route, share, elsewhere) in &users {
            let latency = elsewhere.saturating_add(wait.part(*share));
            load.add(route.rate(latency), *share, route.reads);
        }
        load
    };
    // A longer wait is a smaller load and a load that is smaller asks for no longer wait, so this
    // is false for short waits and true from some wait on.
    let is_enough = |wait: Picos| {
        let load = load_at(wait);
        elements.utilisation(queue, load) <= Share::ONE && elements.wait(queue, load) <= wait
    };
    if is_enough(Picos::ZERO) {
        return Picos::ZERO;
    }
    // Most waits are short; doubling first saves most steps.
    let mut high = 1_u64;
    for _ in 0..STEPS {
        if is_enough(Picos::new(high)) {
            break;
        }
        high = high.saturating_mul(2);
    }
    let mut low = high / 2;
    for _ in 0..STEPS {
        if high - low <= 1 {
            break;
        }
        let middle = low + (high - low) / 2;
        if is_enough(Picos::new(middle)) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Picos::new(high)
}

/// The outcome under these waits, with the rates lowered where the waits leave too much.
fn finish(
    elements: &Elements,
    routes: &[Route],
    users: &[Vec<usize>],
    waits: &[Picos],
) -> Solution {
    let latencies: Vec<_> = routes
        .iter()
        .map(|route| route.latency(waits, None))
        .collect();
    let mut rates: Vec<_> = routes
        .iter()
        .zip(&latencies)
        .map(|(route, latency)| route.rate(*latency))
        .collect();
    let load_of = |queue: usize, rates: &[Rate]| {
        let mut load = Load::default();
        for &user in &users[queue] {
            load.add(rates[user], routes[user].share(queue), routes[user].reads);
        }
        load
    };
    for (queue, here) in users.iter().enumerate() {
        // To lower a rate lowers the load of every queue, so those before stay as they are. The
        // second time is for what rounding leaves; what is still too much then cannot move at all.
        for is_last in [false, false, true] {
            let busy = elements.utilisation(queue, load_of(queue, &rates));
            if busy <= Share::ONE {
                break;
            }
            for &user in here {
                let scaled = u128::from(rates[user].get()) * u128::from(Share::ONE.parts());
                let scaled = narrow(scaled / u128::from(busy.parts()));
                let scaled = scaled.saturating_sub(1);
                rates[user] = if is_last {
                    Rate::ZERO
                } else {
                    Rate::new(scaled)
                };
            }
        }
    }
    let utilisations =
        (0..users.len()).map(|queue| elements.utilisation(queue, load_of(queue, &rates)));
    let utilisations = utilisations.collect();
    let streams = rates.into_iter().zip(latencies);
    let streams = streams
        .map(|(rate, latency)| Outcome { rate, latency })
        .collect();
    Solution {
        streams,
        utilisations,
    }
}
