//! Processes that do everything at random are killed at random moments, again and again, and the
//! published blocks are those that are reached.

use allocator::pool::PoolHeap;
use pool_core::Nanos;
use pool_core::clock::Deadline;
use tierpool_tests::family::Family;
use tierpool_tests::kin::Told;
use tierpool_tests::random::Random;
use tierpool_tests::rooted::Rooted;

use super::scene::WHOLE;

/// How often one is killed and replaced before all are.
const KILLS: u64 = 6;
/// Chunks come and go all the time.
const PLACES: usize = 16 << 10;
/// How long it goes on.
const SPAN: Nanos = Nanos::from_millis(15_000);

/// Starts a kin that works until it is killed.
fn start(family: &Family, which: usize, seed: u64) -> Told {
    let program = (env!("CARGO_BIN_EXE_kin"), None);
    let (number, seed) = (which.to_string(), seed.to_string());
    let mut kin = Told::start(family, 1 + which, program, &["works", &number, &seed]);
    assert_eq!(kin.hear().as_deref(), Some("ready"));
    kin
}

fn works(mine: &mut Rooted, steps: u64) {
    for _ in 0..steps {
        mine.step().expect(WHOLE);
    }
}

fn must_live(kin: &mut Told) {
    let ended = kin.child().try_wait().expect(WHOLE);
    assert_eq!(
        ended, None,
        "it ended by itself; its standard error says why"
    );
}

/// Fails where a published block is not reached, or anything does not fit.
fn assert_exact(heap: &PoolHeap, mine: &mut Rooted) {
    mine.rest().expect(WHOLE);
    let audit = heap.audit().expect(WHOLE);
    assert_eq!(audit.findings, [], "{audit:?}");
    let blocks = heap.blocks().expect(WHOLE);
    let pending = blocks.iter().find(|block| block.is_pending);
    assert_eq!(pending, None, "{audit:?}");
    let published = blocks.iter().map(|block| block.address).collect();
    assert_eq!(mine.reached().expect(WHOLE), published, "{audit:?}");
}

#[test]
fn whoever_is_killed_at_whatever_moment_leaves_what_roots_reach_and_nothing_else() {
    let family = Family::with_places(PLACES);
    let heap = family.heap(1);
    let mut mine = Rooted::new(&heap, 0, 1);
    let (mut random, end, mut rounds) = (Random::new(2), Deadline::after(SPAN), 0_u64);
    let mut kills = 0;
    while !end.expired() {
        rounds += 1;
        let mut members = vec![1, 2];
        let mut kin = vec![start(&family, 1, rounds), start(&family, 2, rounds)];
        for kill in 0..KILLS {
            works(&mut mine, random.below(1_000));
            let at = usize::from(random.once_in(2));
            let mut killed = kin.swap_remove(at);
            must_live(&mut killed);
            killed.kill(&family);
            // The next one comes at once, or after a while.
            let pause = random.below(300) * random.below(2);
            works(&mut mine, pause);
            let which = members.swap_remove(at);
            members.push(which);
            kin.push(start(&family, which, rounds << 8 | kill));
            kills += 1;
        }
        for mut killed in kin {
            works(&mut mine, random.below(1_000));
            must_live(&mut killed);
            killed.kill(&family);
            kills += 1;
        }
        works(&mut mine, random.below(200));
        heap.recover().expect(WHOLE);
        assert_exact(&heap, &mut mine);
    }
    mine.clear().expect(WHOLE);
    let longest = mine.longest;
    drop(mine);
    heap.trim().expect(WHOLE);
    let audit = heap.audit().expect(WHOLE);
    assert_eq!(
        (audit.free_frames, audit.threads, family.chunks()),
        (audit.frames, 0, audit.chunks),
        "{audit:?}"
    );
    println!(
        "{rounds} rounds, {kills} kills, {audit:?}; the longest step of the survivor: {longest:?}"
    );
}
