//! What one cache does by itself and when it is told to. Laws of whole hand-overs are in
//! `tests/laws_simulated.rs`.

use pool_core::sync::atomic::AtomicU64;
use pool_core::sync::atomic::Ordering::Relaxed;
use pool_core::sync::thread;

use super::*;

const OLD: u64 = 0x0101_0101_0101_0101;
const NEW: u64 = 0x0202_0202_0202_0202;

fn memory(words: usize) -> Vec<AtomicU64> {
    (0..words).map(|_| AtomicU64::new(OLD)).collect()
}

fn words(memory: &[AtomicU64]) -> Vec<u64> {
    memory.iter().map(|word| word.load(Relaxed)).collect()
}

fn quiet(memory: &[AtomicU64]) -> SimCache<&[AtomicU64]> {
    SimCache::new(memory, 0, Faults::NONE)
}

fn read(cache: &SimCache<&[AtomicU64]>, word: u64) -> u64 {
    let mut bytes = [0; 8];
    cache.read(word * WORD_BYTES, &mut bytes);
    u64::from_le_bytes(bytes)
}

fn write(cache: &SimCache<&[AtomicU64]>, word: u64, value: u64) {
    cache.write(word * WORD_BYTES, &value.to_le_bytes());
}

#[test]
fn a_store_reaches_memory_when_its_line_is_written_back_and_not_before() {
    let memory = memory(16);
    let host = quiet(&memory);
    write(&host, 1, NEW);
    assert_eq!((read(&host, 1), words(&memory)), (NEW, vec![OLD; 16]));
    assert_eq!(host.write_back(64, 64), 1);
    host.fence_stores();
    assert_eq!(words(&memory), vec![OLD; 16]);
    assert_eq!(host.write_back(15, 1), 1);
    host.fence_stores();
    assert_eq!(
        (memory[0].load(Relaxed), memory[1].load(Relaxed)),
        (OLD, NEW)
    );
}

#[test]
fn a_host_reads_what_it_fetched_until_the_line_is_dropped() {
    let memory = memory(8);
    let (writer, reader) = (quiet(&memory), quiet(&memory));
    assert_eq!(read(&reader, 0), OLD);
    write(&writer, 0, NEW);
    writer.write_back(0, 8);
    writer.fence_stores();
    assert_eq!((memory[0].load(Relaxed), read(&reader, 0)), (NEW, OLD));
    assert_eq!(reader.invalidate(7, 1), 1);
    reader.fence_all();
    assert_eq!(read(&reader, 0), NEW);
}

#[test]
fn a_dirty_line_that_is_dropped_is_written_back_first() {
    let memory = memory(16);
    let host = quiet(&memory);
    write(&host, 9, NEW);
    host.invalidate(0, 128);
    host.fence_all();
    assert_eq!((memory[9].load(Relaxed), read(&host, 9)), (NEW, NEW));
}

#[test]
fn a_line_is_written_back_whole() {
    let memory = memory(8);
    let (one, other) = (quiet(&memory), quiet(&memory));
    write(&one, 0, NEW);
    write(&other, 1, NEW);
    for host in [&one, &other] {
        host.write_back(0, 64);
        host.fence_stores();
    }
    // The first word is lost: no two members may hold parts of one line.
    assert_eq!(
        (memory[0].load(Relaxed), memory[1].load(Relaxed)),
        (OLD, NEW)
    );
}

#[test]
fn a_clean_line_that_is_written_back_undoes_what_another_host_published() {
    let lost = |no_clean_write_backs| {
        let memory = memory(32);
        let faults = Faults {
            clean_written_back_once_in: 1,
            no_clean_write_backs,
            ..Faults::NONE
        };
        let (writer, bystander) = (quiet(&memory), SimCache::new(&memory[..], 0, faults));
        assert_eq!(read(&bystander, 0), OLD);
        write(&writer, 0, NEW);
        writer.write_back(0, 8);
        writer.fence_stores();
        // Anywhere else: it is the cache that does the harm, not the program.
        assert_eq!(read(&bystander, 24), OLD);
        memory[0].load(Relaxed) == OLD
    };
    assert!(lost(false));
    assert!(!lost(true));
}

#[test]
fn a_neighbour_is_fetched_before_it_is_asked_for() {
    let memory = memory(24);
    let faults = Faults {
        prefetched_once_in: 1,
        ..Faults::NONE
    };
    let host = SimCache::new(&memory[..], 0, faults);
    assert_eq!(read(&host, 8), OLD);
    memory.iter().for_each(|word| word.store(NEW, Relaxed));
    let stale = [0, 16].map(|word| read(&host, word) == OLD);
    assert!(stale.contains(&true), "{stale:?}");
}

#[test]
fn a_dirty_line_may_be_evicted_early() {
    let memory = memory(8);
    let faults = Faults {
        evicted_once_in: 1,
        ..Faults::NONE
    };
    let host = SimCache::new(&memory[..], 0, faults);
    write(&host, 0, NEW);
    assert_eq!(memory[0].load(Relaxed), OLD);
    write(&host, 1, NEW);
    assert_eq!(
        (memory[0].load(Relaxed), memory[1].load(Relaxed)),
        (NEW, OLD)
    );
}

#[test]
fn what_is_delayed_is_done_at_its_fence_and_a_store_fence_drops_no_line() {
    let memory = memory(16);
    let faults = Faults {
        delayed_once_in: 1,
        ..Faults::NONE
    };
    let host = SimCache::new(&memory[..], 0, faults);
    write(&host, 0, NEW);
    host.write_back(0, 8);
    assert_eq!(memory[0].load(Relaxed), OLD);
    host.fence_stores();
    assert_eq!(memory[0].load(Relaxed), NEW);

    write(&host, 8, NEW);
    host.invalidate(64, 8);
    host.fence_stores();
    assert_eq!(memory[8].load(Relaxed), NEW);
    memory[8].store(OLD, Relaxed);
    assert_eq!(read(&host, 8), NEW);
    host.fence_all();
    assert_eq!(read(&host, 8), OLD);
}

#[test]
fn a_dead_host_stores_nothing() {
    let memory = memory(8);
    let host = quiet(&memory);
    host.kill(1);
    write(&host, 0, NEW);
    host.write_back(0, 8);
    host.invalidate(0, 8);
    host.fence_all();
    assert_eq!(words(&memory), vec![OLD; 8]);
}

#[test]
fn memory_may_end_inside_of_a_line() {
    let memory = memory(3);
    let host = SimCache::new(&memory[..], 3, Faults::often(false));
    for _ in 0..20 {
        write(&host, 2, NEW);
        assert_eq!(host.write_back(0, 24), 1);
        host.fence_all();
    }
    assert_eq!(words(&memory), [OLD, OLD, NEW]);
    host.kill(0);
}

#[test]
#[should_panic(expected = "not inside")]
fn a_range_outside_of_the_memory_is_the_callers_mistake() {
    quiet(&memory(3)).read(17, &mut [0; 8]);
}

#[test]
fn the_threads_of_a_host_share_its_cache() {
    let memory = memory(64);
    let host = &SimCache::new(&memory[..], 1, Faults::often(true));
    thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                // Parts of one line, by threads of one host: the line is theirs together.
                for word in (thread..64).step_by(4) {
                    write(host, word, word);
                }
            });
        }
    });
    host.write_back(0, 512);
    host.fence_stores();
    assert_eq!(words(&memory), (0..64).collect::<Vec<_>>());
}
