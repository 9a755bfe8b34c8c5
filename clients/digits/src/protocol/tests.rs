//! Every kill: a shared memory that ends the role which writes to it, before the n-th store.

use std::cell::{Cell, RefCell};

use super::*;
use crate::memory::Missing;
use crate::model::{Rate, Shape};
use crate::order::Order;

const SHAPE: Shape = Shape {
    inputs: 2,
    hidden: 2,
    classes: 2,
};

fn job() -> Job {
    Job {
        shape: SHAPE,
        rate: Rate {
            step: 0.25,
            momentum: 0.5,
        },
        seed: 3,
        steps: 5,
        order: Order::new(3, 12, 2, 4).unwrap(),
    }
}

/// Twelve digits of two pixels, labelled by which pixel is larger.
struct Toy;

impl Toy {
    fn pixels(row: u32) -> [f32; 2] {
        [(row % 4) as f32 / 4.0, (row / 4) as f32 / 3.0]
    }
}

impl<E: From<Missing>> Examples<E> for Toy {
    fn pixel(&self, row: u32, index: usize) -> Result<f32, E> {
        Ok(Self::pixels(row).as_slice().at(index)?)
    }

    fn label(&self, row: u32) -> Result<u8, E> {
        let [a, b] = Self::pixels(row);
        Ok(u8::from(a > b))
    }
}

/// Why a role ends early.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// Before a store.
    Killed,
    Missing(Missing),
}

impl From<Missing> for Ended {
    fn from(missing: Missing) -> Self {
        Self::Missing(missing)
    }
}

/// Memory that counts its stores, each of one number or one word, and kills at planned ones.
#[derive(Debug)]
struct Fatal {
    words: RefCell<[u32; 4]>,
    gradient: RefCell<Vec<f32>>,
    copies: [RefCell<Vec<f32>>; 2],
    stores: Cell<usize>,
    kills: Vec<usize>,
    /// Keeps both copies of the state in one place, as a planted mistake.
    one_copy: bool,
}

impl Fatal {
    fn new(kills: &[usize]) -> Self {
        let poison = |count| RefCell::new(vec![f32::NAN; count]);
        Self {
            words: RefCell::default(),
            gradient: poison(SHAPE.parameters()),
            copies: [
                poison(2 * SHAPE.parameters()),
                poison(2 * SHAPE.parameters()),
            ],
            stores: Cell::new(0),
            kills: kills.to_vec(),
            one_copy: false,
        }
    }

    fn survive_store(&self) -> Result<(), Ended> {
        let store = self.stores.get();
        self.stores.set(store + 1);
        if self.kills.contains(&store) {
            Err(Ended::Killed)
        } else {
            Ok(())
        }
    }

    fn numbers(&self, block: Block) -> &RefCell<Vec<f32>> {
        match block {
            Block::Gradient => &self.gradient,
            Block::State(_) if self.one_copy => &self.copies[0],
            Block::State(steps) => &self.copies[usize::from(!steps.is_multiple_of(2))],
        }
    }
}

struct Numbers<'a>(&'a RefCell<Vec<f32>>);

impl Values for Numbers<'_> {
    type Error = Ended;

    fn at(&self, index: usize) -> Result<f32, Ended> {
        Ok(self.0.borrow().at(index)?)
    }
}

impl Shared for Fatal {
    type Error = Ended;
    type Block<'a> = Numbers<'a>;

    fn load(&self, word: Word) -> Result<u32, Ended> {
        Ok(self.words.borrow()[word as usize])
    }

    fn store(&self, word: Word, count: u32) -> Result<(), Ended> {
        self.survive_store()?;
        self.words.borrow_mut()[word as usize] = count;
        let [ready, posted, done, applied] = *self.words.borrow();
        assert!(ready == 0 || (applied <= done && done <= posted && posted <= applied + 1));
        Ok(())
    }

    fn block(&self, block: Block) -> Result<Numbers<'_>, Ended> {
        Ok(Numbers(self.numbers(block)))
    }

    fn write(&self, block: Block, numbers: &[f32]) -> Result<(), Ended> {
        for (index, number) in numbers.iter().enumerate() {
            self.survive_store()?;
            self.numbers(block).borrow_mut()[index] = *number;
        }
        Ok(())
    }
}

/// Runs both roles to the end, each started anew where it is killed; the trainer's turn comes
/// first where `trainer_first`. Returns the state at the end, bit by bit.
fn run(shared: &Fatal, trainer_first: bool) -> Vec<u32> {
    let job = job();
    for turn in 0..10_000 {
        let trains = (turn % 2 == 0) == trainer_first;
        let result = if trains {
            train(&job, shared)
        } else {
            work(&job, shared, &Toy)
        };
        match result {
            Ok(Turn::Finished) if trains => {
                let last = shared.numbers(Block::State(job.steps)).borrow();
                return last.iter().map(|number| number.to_bits()).collect();
            }
            // A role keeps nothing between turns, so a new process is the next turn.
            Ok(_) | Err(Ended::Killed) => {}
            Err(Ended::Missing(missing)) => panic!("{missing}"),
        }
    }
    panic!("the job does not end: {shared:?}");
}

/// The same job without any sharing: the arithmetic in a loop.
fn oracle() -> Vec<u32> {
    let job = job();
    let mut state = SHAPE.initial(job.seed);
    state.resize(2 * SHAPE.parameters(), 0.0);
    for step in 0..job.steps {
        let rows = job.order.batch(step);
        let (gradient, _) = model::gradient::<Missing>(SHAPE, &state, &Toy, &rows).unwrap();
        state = model::updated(job.rate, SHAPE.parameters(), &state, &gradient).unwrap();
    }
    state.iter().map(|number| number.to_bits()).collect()
}

#[test]
fn an_undisturbed_job_ends_as_the_arithmetic_alone() {
    for trainer_first in [true, false] {
        assert_eq!(run(&Fatal::new(&[]), trainer_first), oracle());
    }
}

#[test]
fn a_kill_before_any_store_changes_no_bit() {
    let undisturbed = Fatal::new(&[]);
    let expected = run(&undisturbed, true);
    let stores = undisturbed.stores.get();
    assert!(stores > 5 * 3 * SHAPE.parameters(), "{stores}");
    for kill in 0..stores {
        let shared = Fatal::new(&[kill]);
        assert_eq!(run(&shared, true), expected, "killed before store {kill}");
        assert!(shared.stores.get() > stores, "nobody was killed");
    }
}

#[test]
fn a_second_kill_during_the_repetition_changes_no_bit() {
    let undisturbed = Fatal::new(&[]);
    let expected = run(&undisturbed, true);
    let stores = undisturbed.stores.get();
    for first in 0..stores {
        // Far enough to reach past the longest turn that is repeated.
        for second in first + 1..(first + 4 * SHAPE.parameters()) {
            assert_eq!(
                run(&Fatal::new(&[first, second]), true),
                expected,
                "{first} {second}"
            );
        }
    }
}

#[test]
fn a_trainer_that_wrote_over_its_own_input_would_be_caught() {
    let end = |kills: &[usize]| {
        run(
            &Fatal {
                one_copy: true,
                ..Fatal::new(kills)
            },
            true,
        )
    };
    assert_eq!(end(&[]), oracle(), "without a kill nobody sees the mistake");
    let stores = Fatal::new(&[]);
    run(&stores, true);
    let caught = (0..stores.stores.get())
        .filter(|kill| end(&[*kill]) != oracle())
        .count();
    assert!(caught > 0);
}
