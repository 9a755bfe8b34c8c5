//! Breadth-first search through every state that a model can reach.
//!
//! It is exhaustive or it fails: a model with more states than its limit is refused, not cut short.
//! Breadth first, so that the way to the first violation found is a shortest one. The order is that
//! in which the model tells its steps, so that each run finds the same.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use pool_core::clock;

/// Something that moves in steps.
pub(crate) trait Model {
    type State: Copy + Eq + Hash;
    type Label: Copy + fmt::Display;
    type Violation: Copy + fmt::Debug + Eq;

    fn initial(&self) -> Self::State;

    /// Every step that can be taken in `state`, and where it leads.
    fn steps(&self, state: &Self::State, out: &mut Vec<(Self::Label, Self::State)>);

    /// What must hold and does not.
    fn violated(&self, state: &Self::State) -> Option<Self::Violation>;
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Report<V> {
    pub(crate) states: usize,
    pub(crate) steps: usize,
    /// The longest of the shortest ways to a state.
    pub(crate) depth: usize,
    pub(crate) milliseconds: u64,
    /// The violation that is nearest to the initial state, and the way there.
    pub(crate) violation: Option<(V, Vec<String>)>,
}

impl<V: fmt::Debug> Report<V> {
    /// Fails with the way to the violation, where there is one.
    pub(crate) fn assert_clean(&self, name: &str) {
        if let Some((violation, way)) = &self.violation {
            panic!("{name}: {violation:?} after\n  {}", way.join("\n  "));
        }
    }
}

impl<V: fmt::Debug> fmt::Display for Report<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, steps, .. } = self;
        let (seconds, rest) = (self.milliseconds / 1_000, self.milliseconds % 1_000);
        write!(
            f,
            "{states:>9} states {steps:>9} steps depth {:>3}",
            self.depth
        )?;
        write!(f, " {seconds:>3}.{rest:03} s")
    }
}

/// How a state was first reached: from which, by what, after how many steps.
struct Arrival<L> {
    from: usize,
    label: Option<L>,
    depth: usize,
}

/// Goes through every state of `model`, up to the first violation.
///
/// # Panics
/// Where there are more than `limit` states.
pub(crate) fn explore<M: Model>(model: &M, limit: usize) -> Report<M::Violation> {
    let began = clock::now();
    let mut known: HashMap<M::State, (), BuildHasherDefault<Mix>> = HashMap::default();
    let mut arrivals: Vec<Arrival<M::Label>> = Vec::new();
    let mut queue = VecDeque::new();
    let mut out = Vec::new();
    let mut report = Report {
        states: 0,
        steps: 0,
        depth: 0,
        milliseconds: 0,
        violation: None,
    };

    let initial = model.initial();
    known.insert(initial, ());
    arrivals.push(Arrival {
        from: 0,
        label: None,
        depth: 0,
    });
    queue.push_back((initial, 0));
    while let Some((state, at)) = queue.pop_front() {
        report.depth = arrivals[at].depth;
        if let Some(violation) = model.violated(&state) {
            report.violation = Some((violation, way(&arrivals, at)));
            break;
        }
        out.clear();
        model.steps(&state, &mut out);
        report.steps += out.len();
        for (label, reached) in out.drain(..) {
            if let Entry::Vacant(entry) = known.entry(reached) {
                entry.insert(());
                arrivals.push(Arrival {
                    from: at,
                    label: Some(label),
                    depth: report.depth + 1,
                });
                queue.push_back((reached, arrivals.len() - 1));
            }
        }
        assert!(known.len() <= limit, "there are more than {limit} states");
    }
    report.states = known.len();
    report.milliseconds = (clock::now().get() - began.get()) / 1_000_000;
    report
}

fn way<L: Copy + fmt::Display>(arrivals: &[Arrival<L>], mut at: usize) -> Vec<String> {
    let mut labels = Vec::new();
    while let Some(label) = arrivals[at].label {
        labels.push(label.to_string());
        at = arrivals[at].from;
    }
    labels.reverse();
    labels
}

/// A quick hash of small integers. Not against an adversary: the states are ours.
#[derive(Default)]
pub(crate) struct Mix(u64);

impl Mix {
    fn mix(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        // The table looks at the highest bits and the lowest, and a product has poor lowest ones.
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.mix(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }
}

/// Counts to a number by ones and threes, and must not reach a forbidden one.
struct Count {
    to: u64,
    forbidden: u64,
}

impl Model for Count {
    type State = u64;
    type Label = u64;
    type Violation = u64;

    fn initial(&self) -> u64 {
        0
    }

    fn steps(&self, state: &u64, out: &mut Vec<(u64, u64)>) {
        out.extend([1, 3].map(|by| (by, (state + by).min(self.to))));
    }

    fn violated(&self, state: &u64) -> Option<u64> {
        (*state == self.forbidden).then_some(*state)
    }
}

#[test]
fn every_state_is_visited_once_and_the_shortest_way_is_told() {
    let clean = explore(
        &Count {
            to: 99,
            forbidden: 100,
        },
        100,
    );
    assert_eq!((clean.states, clean.steps), (100, 200));
    assert!(clean.violation.is_none());
    let caught = explore(
        &Count {
            to: 99,
            forbidden: 7,
        },
        100,
    );
    let (found, way) = caught.violation.expect("7 can be reached");
    assert_eq!((found, way.len()), (7, 3));
    let sum: u64 = way.iter().map(|by| by.parse::<u64>().unwrap()).sum();
    assert_eq!(sum, 7);
}

#[test]
#[should_panic(expected = "more than 50 states")]
fn a_search_that_is_not_exhaustive_fails() {
    let _ = explore(
        &Count {
            to: 99,
            forbidden: 100,
        },
        50,
    );
}
