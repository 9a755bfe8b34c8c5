//! What holds of the private heap whoever has the other blocks of the process, against an oracle
//! that knows what every block holds.

use std::alloc::{GlobalAlloc as _, Layout};
use std::collections::HashMap;
use std::sync::mpsc;

use allocator::{PrivateHeap, malloc};
use pool_core::sync::thread;
use proptest::prelude::*;

/// A block, and what it was filled with.
#[derive(Debug)]
struct Held {
    place: usize,
    bytes: usize,
    seed: u8,
}

impl Held {
    /// Takes over a block of `bytes`, and fills it.
    fn fill(place: *mut u8, bytes: usize, seed: u8) -> Self {
        for at in Self::places(bytes) {
            // SAFETY: within the block, which is this value's alone.
            unsafe { place.wrapping_add(at).write(Self::pattern(seed, at)) };
        }
        Self {
            place: place.expose_provenance(),
            bytes,
            seed,
        }
    }

    fn pointer(&self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.place)
    }

    /// The ends, and some of what is between them.
    fn places(bytes: usize) -> impl Iterator<Item = usize> {
        let step = (bytes / 61).max(1);
        (0..bytes).step_by(step).chain(bytes.checked_sub(1))
    }

    fn pattern(seed: u8, at: usize) -> u8 {
        seed ^ low_byte(at.wrapping_mul(31))
    }

    fn check(&self, bytes: usize) {
        for at in Self::places(self.bytes).filter(|&at| at < bytes) {
            // SAFETY: within the block, which is this value's alone.
            let found = unsafe { self.pointer().wrapping_add(at).read() };
            assert_eq!(found, Self::pattern(self.seed, at), "at {at} of {self:?}");
        }
    }

    fn free(self) {
        self.check(self.bytes);
        // SAFETY: the block is this value's alone, and this value is gone.
        unsafe { malloc::free(self.pointer()) };
    }
}

fn low_byte(number: usize) -> u8 {
    number.to_le_bytes()[0]
}

/// What a thread does.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Allocate {
        bytes: usize,
        align: usize,
        is_zeroed: bool,
    },
    Free {
        which: usize,
    },
    Resize {
        which: usize,
        bytes: usize,
    },
    /// Hands blocks to another thread, which frees them.
    HandOver {
        count: usize,
    },
    /// Lets that thread end and begins another.
    Replace,
}

fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => 0_usize..600,
        4 => 600_usize..9_000,
        2 => 9_000_usize..600_000,
        1 => 600_000_usize..40_000_000,
    ]
}

pub(crate) fn steps() -> impl Strategy<Value = Step> {
    let align = prop_oneof![6 => Just(1_usize), 1 => (0_u32..17).prop_map(|shift| 1 << shift)];
    prop_oneof![
        10 => (sizes(), align, any::<bool>())
            .prop_map(|(bytes, align, is_zeroed)| Step::Allocate { bytes, align, is_zeroed }),
        6 => any::<usize>().prop_map(|which| Step::Free { which }),
        3 => (any::<usize>(), sizes()).prop_map(|(which, bytes)| Step::Resize { which, bytes }),
        2 => (1_usize..40).prop_map(|count| Step::HandOver { count }),
        1 => Just(Step::Replace),
    ]
}

/// A thread that frees what it is sent.
fn freer() -> (mpsc::Sender<Held>, thread::JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel::<Held>();
    let thread = thread::spawn(move || receiver.into_iter().for_each(Held::free));
    (sender, thread)
}

fn allocate(bytes: usize, align: usize, is_zeroed: bool, seed: u8) -> Held {
    let layout = Layout::from_size_align(bytes, align).expect("a small size");
    let place = if is_zeroed {
        // SAFETY: any layout will do for this allocator, one of no bytes as well.
        unsafe { PrivateHeap.alloc_zeroed(layout) }
    } else {
        // SAFETY: as above.
        unsafe { PrivateHeap.alloc(layout) }
    };
    assert!(!place.is_null() && place.addr().is_multiple_of(align.max(16)));
    if is_zeroed {
        for at in 0..bytes {
            // SAFETY: within the block.
            let found = unsafe { place.wrapping_add(at).read() };
            assert_eq!(found, 0, "{bytes} bytes, at {at}");
        }
    }
    // SAFETY: a block.
    assert!(unsafe { malloc::usable_size(place) } >= bytes);
    Held::fill(place, bytes, seed)
}

/// No block may lie in another one.
fn assert_apart(blocks: &[Held]) {
    let mut ranges: Vec<_> = blocks
        .iter()
        .map(|held| (held.place, held.place + held.bytes.max(1)))
        .collect();
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "{pair:x?}");
    }
}

/// Does what is asked for, and looks whether each block holds what was put into it.
pub(crate) fn run(steps: Vec<Step>) {
    let mut blocks: Vec<Held> = Vec::new();
    let (mut sender, mut other) = freer();
    for (index, step) in steps.into_iter().enumerate() {
        let seed = low_byte(index);
        match step {
            Step::Allocate {
                bytes,
                align,
                is_zeroed,
            } => {
                blocks.push(allocate(bytes, align, is_zeroed, seed));
            }
            Step::Free { which } if !blocks.is_empty() => {
                let which = which % blocks.len();
                blocks.swap_remove(which).free();
            }
            Step::Resize { which, bytes } if !blocks.is_empty() => {
                let which = which % blocks.len();
                let old = blocks.swap_remove(which);
                // SAFETY: the block is of `old`, which is not used as such again.
                let place = unsafe { malloc::realloc(old.pointer(), bytes.max(1)) };
                let kept = old.bytes.min(bytes.max(1));
                Held {
                    place: place.expose_provenance(),
                    ..old
                }
                .check(kept);
                blocks.push(Held::fill(place, bytes.max(1), seed));
            }
            Step::HandOver { count } => {
                for held in blocks.drain(..count.min(blocks.len())) {
                    sender.send(held).expect("it works here");
                }
            }
            Step::Replace => {
                drop(sender);
                other.join().expect("it works here");
                (sender, other) = freer();
            }
            Step::Free { .. } | Step::Resize { .. } => {}
        }
    }
    assert_apart(&blocks);
    blocks.into_iter().for_each(Held::free);
    drop(sender);
    other.join().expect("it works here");
}

/// Threads that hand each block to the next one, which frees it.
pub(crate) fn hand_round() {
    const THREADS: usize = 4;
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..THREADS).map(|_| mpsc::channel::<Held>()).unzip();
    let threads: Vec<_> = receivers
        .into_iter()
        .enumerate()
        .map(|(index, receiver)| {
            let to = senders[(index + 1) % THREADS].clone();
            thread::spawn(move || {
                let mut random = pool_core::rng::Rng::new(index as u64);
                for round in 0..60_000_usize {
                    let bytes = usize::try_from(random.below(3_000)).expect("it works here");
                    let held = allocate(bytes, 1, round % 3 == 0, low_byte(round));
                    // The next thread may be done: then the block comes back.
                    if let Err(mpsc::SendError(held)) = to.send(held) {
                        held.free();
                    }
                    receiver.try_iter().for_each(Held::free);
                }
                drop(to);
                receiver.into_iter().for_each(Held::free);
            })
        })
        .collect();
    drop(senders);
    threads
        .into_iter()
        .for_each(|thread| thread.join().expect("it works here"));
}

/// Blocks that are freed in another order than they were had.
pub(crate) fn free_out_of_order() {
    let mut by_place = HashMap::new();
    let mut blocks = Vec::new();
    for n in 0..50_000_usize {
        let held = allocate(n % 700, 1, false, low_byte(n));
        assert!(by_place.insert(held.place, n).is_none());
        blocks.push(held);
        if n % 3 == 0 {
            let old = blocks.swap_remove((n * 7919) % blocks.len());
            by_place.remove(&old.place);
            old.free();
        }
    }
    assert_apart(&blocks);
    blocks.into_iter().for_each(Held::free);
}

/// More than there can be is refused, and the block that was to have it stays what it is.
pub(crate) fn refuse_the_impossible() {
    for bytes in [10, 5_000, 100 << 10, 1 << 20, 40 << 20] {
        let held = allocate(bytes, 1, false, 7);
        for impossible in [usize::MAX, usize::MAX - 4_096, isize::MAX as usize + 1] {
            // SAFETY: nobody else uses the block.
            let refused = unsafe { malloc::realloc(held.pointer(), impossible) };
            assert!(refused.is_null(), "{bytes} to {impossible}");
            assert!(malloc::malloc(impossible).is_null());
            assert!(malloc::calloc(impossible, 1).is_null());
            assert!(malloc::memalign(64, impossible).is_null());
        }
        held.free();
    }
}

/// All of it as tests, for each binary that has the heap in a setting of its own.
macro_rules! tests_of_the_laws {
    () => {
        proptest::proptest! {
            #![proptest_config(proptest::prelude::ProptestConfig {
                cases: 64,
                ..proptest::prelude::ProptestConfig::default()
            })]

            #[test]
            fn every_block_is_one_s_own_and_keeps_what_it_holds(
                steps in proptest::prelude::prop::collection::vec(laws::steps(), 1..250),
            ) {
                laws::run(steps);
            }
        }

        #[test]
        fn threads_that_free_each_other_s_blocks_lose_none() {
            laws::hand_round();
        }

        #[test]
        fn each_block_is_of_one_thing_whatever_the_order_of_frees() {
            laws::free_out_of_order();
        }

        #[test]
        fn more_than_there_can_be_is_refused_and_the_block_stays() {
            laws::refuse_the_impossible();
        }
    };
}
