//! A member writes anything anywhere, and the others go on: with errors, with memory that is lost
//! or given out twice, but within the heap, and to an end.

use allocator::pool::CHUNK_BYTES;
use pool_core::clock::eventually;
use tierpool_tests::blocks;
use tierpool_tests::family::Family;
use tierpool_tests::kin::Told;
use tierpool_tests::patience;
use tierpool_tests::random::Random;

use super::scene::{WHOLE, published};

/// How often it happens.
const ROUNDS: u64 = 60;
/// The control area, and the metadata of the first chunks, as parts of the file of a family.
const CONTROL: (u64, u64) = (0, 2 << 20);
const CHUNK: u64 = 64 << 20;
const METADATA: u64 = 26 << 16;

/// What is written: anything, or what looks as if it belonged there.
fn word(family: &Family, random: &mut Random, (first, bytes): (u64, u64)) -> u64 {
    let other = first + random.below(bytes / 8) * 8;
    match random.below(8) {
        0 => 0,
        1 => u64::MAX,
        2 => random.below(4096),
        3 => 1 << random.below(64),
        // An owner word of any kind, a slab that nobody owns among them.
        4 => random.below(256) | random.below(4096) << 8,
        5 => random.below(110) | 0xff_ffff << 8,
        6 => random.number() << 1 | 1,
        _ => family.word(other),
    }
}

fn scribble(family: &Family, random: &mut Random, words: u64) {
    let part = match random.below(4) {
        0 => (CONTROL.0, 64 << 10),
        1 => CONTROL,
        place => (CHUNK * (place - 1), METADATA),
    };
    // The first few frames have most of what there is.
    let within = if random.once_in(2) { part.1 } else { 16 << 10 };
    for _ in 0..words {
        let array = if part.1 == METADATA {
            random.below(26) << 16
        } else {
            0
        };
        let at = (array + random.below(within / 8) * 8) % part.1;
        let value = word(family, random, part);
        family.set_word(part.0 + at, value);
    }
}

/// Waits for the end of a kin, which must be a good one.
fn assert_survives(mut kin: Told, family: &Family, what: &str) {
    let ended = eventually(patience(), || kin.child().try_wait().expect(WHOLE));
    match ended {
        Ok(status) => assert!(status.success(), "{what}: {status}"),
        Err(_) => {
            kin.kill(family);
            panic!("{what}: it hangs");
        }
    }
}

fn start(family: &Family, member: usize, seed: u64) -> Told {
    let program = (env!("CARGO_BIN_EXE_kin"), None);
    Told::start(family, member, program, &["survives", &seed.to_string()])
}

#[test]
fn nobody_fails_or_hangs_or_leaves_the_heap_whatever_a_member_writes() {
    for seed in 1..=ROUNDS {
        let (family, mut random) = (Family::new(), Random::new(seed));
        let heap = family.heap(1);
        let mut mine = heap.thread().expect(WHOLE);
        for bytes in [16, 64, 5_000, 100_000, 700_000] {
            published(&mut mine, bytes).expect(WHOLE);
        }
        let mut kin: Vec<_> = [2, 3].map(|member| start(&family, member, seed)).into();
        for kin in &mut kin {
            assert!(kin.hear_until("ready").is_empty());
        }
        let words = *random.one_of(&[&3, &30, &300, &3_000]);
        scribble(&family, &mut random, words);
        for kin in &mut kin {
            kin.tell("go");
        }
        // Half of them have it change under their hands.
        while random.once_in(2) {
            scribble(&family, &mut random, 300);
        }
        for (index, kin) in kin.into_iter().enumerate() {
            assert_survives(kin, &family, &format!("seed {seed}, {index}"));
        }
        // Nothing of the test's is asked to be right: it is a member as well.
        let _left = std::mem::ManuallyDrop::new((mine, heap));
    }
}

#[test]
fn a_slab_that_is_said_to_begin_at_the_last_frame_is_nobodys() {
    const FRAMES: u64 = 1024;
    const BLOCK: usize = 500_000;
    let family = Family::new();
    let heap = family.heap(1);
    let mut mine = heap.thread().expect(WHOLE);
    published(&mut mine, 64).expect(WHOLE);
    // Its owner word says that it is one of the largest blocks, and nobody's; the chunk says so
    // by the last of the bits that stand for such slabs.
    family.set_word(CHUNK + (FRAMES - 1) * 64, 0xff_ffff << 8 | 104);
    family.set_word(CHUNK + (64 << 10) + 47 * 8, 1 << 63);
    for _ in 0..20 {
        let block = blocks::allocate(&mut mine, BLOCK).expect(WHOLE);
        let (first, last) = (block / CHUNK_BYTES, (block + BLOCK - 1) / CHUNK_BYTES);
        assert_eq!(first, last, "{block:#x}");
    }
}
