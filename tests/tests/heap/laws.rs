//! What one thread finds, and what two members in one process find of each other.

use std::alloc::Layout;
use std::collections::BTreeSet;
use std::ptr::NonNull;

use allocator::pool::{CollectionHeap, HeapError, PoolHeap, ThreadHeap};
use tierpool_tests::family::Family;
use tierpool_tests::random::Random;

fn address(block: NonNull<u8>) -> usize {
    block.as_ptr().addr()
}

/// Fails where the heap has anything that does not fit, or other blocks than `known` published.
fn assert_whole(heap: &PoolHeap, known: &BTreeSet<usize>) {
    let audit = heap.audit().expect("the heap is there");
    assert_eq!(audit.findings, [], "{audit:?}");
    let blocks = heap.blocks().expect("the heap is there");
    let published = blocks.iter().filter(|block| !block.is_pending);
    let published: BTreeSet<usize> = published.map(|block| block.address).collect();
    assert_eq!(&published, known);
}

fn allocate(mine: &mut ThreadHeap, bytes: usize) -> NonNull<u8> {
    let block = mine.allocate(bytes).expect("the heap is there");
    assert!(address(block).is_multiple_of(16));
    block
}

#[test]
fn blocks_of_all_sizes_are_apart_and_hold_what_was_written() {
    let family = Family::new();
    let heap = family.heap(1);
    let mut mine = heap.thread().unwrap();
    let mut random = Random::new(1);
    let mut blocks: Vec<(NonNull<u8>, usize, u8)> = Vec::new();
    for step in 0..20_000_u64 {
        if blocks.len() > 500 || (random.once_in(3) && !blocks.is_empty()) {
            let index = usize::try_from(random.below(blocks.len() as u64)).unwrap();
            let (block, bytes, byte) = blocks.swap_remove(index);
            check(block, bytes, byte);
            free(&mut mine, block).unwrap();
            continue;
        }
        let most = *random.one_of(&[&64, &1_000, &20_000, &600_000]);
        let bytes = usize::try_from(random.below(most)).unwrap();
        let block = allocate(&mut mine, bytes);
        let byte = u8::try_from(step % 251).unwrap();
        fill(block, bytes, byte);
        assert!(heap.usable_bytes(block).unwrap() >= bytes);
        if random.once_in(2) {
            mine.publish(block).unwrap();
        }
        blocks.push((block, bytes, byte));
    }
    for (block, bytes, byte) in blocks {
        check(block, bytes, byte);
        free(&mut mine, block).unwrap();
    }
    drop(mine);
    assert_whole(&heap, &BTreeSet::new());
    let audit = heap.audit().unwrap();
    assert_eq!(
        (audit.free_frames, audit.threads),
        (audit.frames, 0),
        "{audit:?}"
    );
}

#[test]
fn a_block_that_another_member_frees_is_given_out_again_by_itself() {
    let family = Family::new();
    let (first, second) = (family.heap(1), family.open(2));
    let (mut mine, mut theirs) = (first.thread().unwrap(), second.thread().unwrap());
    let blocks: Vec<_> = (0..4096).map(|_| allocate(&mut mine, 64)).collect();
    let before = first.audit().unwrap().free_frames;
    for &block in &blocks {
        mine.publish(block).unwrap();
    }
    // One in 64: no slab, and no word of one, is free as a whole.
    for &block in blocks.iter().step_by(64) {
        free(&mut theirs, block).unwrap();
    }
    drop(theirs);
    let freed: BTreeSet<_> = blocks
        .iter()
        .step_by(64)
        .map(|&block| address(block))
        .collect();
    let again: BTreeSet<_> = (0..64 + 1024)
        .map(|_| address(allocate(&mut mine, 64)))
        .collect();
    assert!(
        freed.is_subset(&again),
        "{} of 64",
        freed.intersection(&again).count()
    );
    assert!(first.audit().unwrap().free_frames + 1 >= before);
}

#[test]
fn what_a_dead_member_published_stays_and_the_rest_is_free() {
    let family = Family::new();
    let survivor = family.heap(1);
    let victim = family.open(2);
    let mut theirs = victim.thread().unwrap();
    let mut known = BTreeSet::new();
    for step in 0..3_000 {
        let block = allocate(&mut theirs, 16 + step * 7 % 2_000);
        if step % 3 == 0 {
            theirs.publish(block).unwrap();
            known.insert(address(block));
        }
    }
    let run = allocate(&mut theirs, 700_000);
    theirs.publish(run).unwrap();
    known.insert(address(run));
    allocate(&mut theirs, 700_000);
    family.bury(2);
    assert_eq!(survivor.recover().unwrap(), 1);
    assert_whole(&survivor, &known);
    // As after a kill, it does nothing more.
    let _theirs = std::mem::ManuallyDrop::new(theirs);
    // What is left is had by others, block by block.
    let mut mine = survivor.thread().unwrap();
    let adopted = allocate(&mut mine, 16);
    assert!(!known.contains(&address(adopted)));
    for address in known {
        let block = NonNull::new(std::ptr::with_exposed_provenance_mut(address)).unwrap();
        free(&mut mine, block).unwrap();
    }
    free(&mut mine, adopted).unwrap();
    mine.rest().unwrap();
    drop(mine);
    assert_whole(&survivor, &BTreeSet::new());
}

#[test]
fn a_block_is_linked_and_retired_through_a_root_by_any_member() {
    let family = Family::new();
    let (first, second) = (family.heap(1), family.open(2));
    let (mut mine, mut theirs) = (first.thread().unwrap(), second.thread().unwrap());
    let root = first.root("list").unwrap();
    assert_eq!(second.root("list").unwrap(), root);
    let block = allocate(&mut mine, 100);
    let value = block.as_ptr().expose_provenance() as u64;
    mine.link(root, 0, block).unwrap();
    assert_eq!(second.load(root).unwrap(), value);
    let other = allocate(&mut mine, 100);
    let refused = mine.link(root, 0, other);
    assert!(matches!(refused, Err(HeapError::Changed { value: now }) if now == value));
    // SAFETY: nobody uses the block.
    unsafe { theirs.retire(root, block, 0) }.unwrap();
    assert_eq!(first.load(root).unwrap(), 0);
    free(&mut mine, other).unwrap();
    drop((mine, theirs));
    assert_whole(&first, &BTreeSet::new());
}

#[test]
fn misuse_is_told_to_whoever_does_it_and_changes_nothing() {
    let family = Family::new();
    let (first, second) = (family.heap(1), family.open(2));
    let (mut mine, mut theirs) = (first.thread().unwrap(), second.thread().unwrap());
    for bytes in [24, 100, 5_000, 100_000, 2_000_000] {
        let block = allocate(&mut mine, bytes);
        assert!(
            matches!(theirs.publish(block), Err(HeapError::NotOwner { .. })),
            "{bytes}"
        );
        mine.publish(block).unwrap();
        assert!(matches!(
            mine.publish(block),
            Err(HeapError::NotPending { .. })
        ));
        let inside = NonNull::new(block.as_ptr().wrapping_add(8)).unwrap();
        assert!(matches!(
            free(&mut mine, inside),
            Err(HeapError::NoBlock { .. })
        ));
        assert!(matches!(
            free(&mut theirs, inside),
            Err(HeapError::NoBlock { .. })
        ));
        free(&mut theirs, block).unwrap();
        assert!(is_refused(free(&mut theirs, block)), "{bytes}");
        drop(second.thread().unwrap());
        let own = allocate(&mut mine, bytes);
        free(&mut mine, own).unwrap();
        assert!(is_refused(free(&mut mine, own)), "{bytes}");
    }
    let elsewhere = NonNull::from(&family).cast();
    assert!(matches!(
        free(&mut mine, elsewhere),
        Err(HeapError::NoBlock { .. })
    ));
    let too_large = mine.allocate((32 << 20) + 1);
    assert!(matches!(too_large, Err(HeapError::TooLarge { .. })));
    drop((mine, theirs));
    assert_whole(&first, &BTreeSet::new());
}

fn is_refused(freed: Result<(), HeapError>) -> bool {
    matches!(
        freed,
        Err(HeapError::DoubleFree { .. } | HeapError::NoBlock { .. } | HeapError::NotOwner { .. })
    )
}

#[test]
fn collections_grow_in_a_heap_and_are_gone_with_their_process_unless_published() {
    let family = Family::new();
    let (first, second) = (family.heap(1), family.open(2));
    let heap = std::mem::ManuallyDrop::new(CollectionHeap::new(second.thread().unwrap()));
    let mut numbers = allocator_api2::vec::Vec::new_in(&*heap);
    numbers.extend(0..500_000_u64);
    let mut kept = allocator_api2::boxed::Box::new_in([7_u64; 100], &*heap);
    kept[3] = 8;
    assert!(numbers.iter().copied().eq(0..500_000));
    numbers.truncate(10);
    numbers.shrink_to_fit();
    assert!(numbers.iter().copied().eq(0..10));
    drop(allocator_api2::vec::Vec::<u8, _>::new_in(&*heap));
    let (place, _) = allocator_api2::boxed::Box::into_raw_with_allocator(kept);
    let place = NonNull::new(place).unwrap().cast::<u8>();
    heap.thread().publish(place).unwrap();
    let _numbers = std::mem::ManuallyDrop::new(numbers);
    family.bury(2);
    first.recover().unwrap();
    assert_whole(&first, &BTreeSet::from([address(place)]));
}

#[test]
fn a_chunk_without_blocks_goes_back_and_another_is_told() {
    let family = Family::new();
    let (first, second) = (family.heap(1), family.open(2));
    let (mut mine, mut theirs) = (first.thread().unwrap(), second.thread().unwrap());
    let blocks: Vec<_> = (0..6).map(|_| allocate(&mut mine, 30 << 20)).collect();
    let kept = allocate(&mut theirs, 100);
    theirs.publish(kept).unwrap();
    assert_eq!(second.audit().unwrap().chunks, 3);
    for block in blocks {
        mine.publish(block).unwrap();
        free(&mut theirs, block).unwrap();
    }
    theirs.rest().unwrap();
    assert_eq!(first.trim().unwrap(), 2);
    assert_eq!(second.audit().unwrap().chunks, 1);
    let again = allocate(&mut theirs, 30 << 20);
    let third = allocate(&mut theirs, 30 << 20);
    first.resolve(third).unwrap();
    for block in [third, again] {
        assert!(matches!(
            free(&mut mine, block),
            Err(HeapError::NotOwner { .. })
        ));
        theirs.publish(block).unwrap();
        free(&mut mine, block).unwrap();
    }
    drop((mine, theirs));
    assert_whole(&first, &BTreeSet::from([address(kept)]));
}

#[test]
fn a_heap_without_room_says_so_and_has_room_again() {
    let family = Family::new();
    let heap = family.heap(1);
    family.limit(1);
    let mut mine = heap.thread().unwrap();
    let first = allocate(&mut mine, 32 << 20);
    let refused = mine.allocate(32 << 20);
    assert!(
        matches!(refused, Err(HeapError::Exhausted(_))),
        "{refused:?}"
    );
    free(&mut mine, first).unwrap();
    let second = allocate(&mut mine, 32 << 20);
    free(&mut mine, second).unwrap();
}

#[test]
fn blocks_that_no_thread_published_are_free_when_their_process_ends() {
    let family = Family::new();
    let (first, second) = (family.heap(1), family.open(2));
    let mut theirs = second.thread().unwrap();
    let (kept, pending) = (allocate(&mut theirs, 40), allocate(&mut theirs, 40));
    theirs.publish(kept).unwrap();
    drop(theirs);
    // Another thread of the process may still publish it.
    let mut other = second.thread().unwrap();
    let late = allocate(&mut other, 40);
    drop(other);
    let mut third = second.thread().unwrap();
    third.publish(late).unwrap();
    drop(third);
    assert!(
        first
            .blocks()
            .unwrap()
            .iter()
            .any(|it| it.address == address(pending) && it.is_pending)
    );
    drop(second);
    assert_whole(&first, &BTreeSet::from([address(kept), address(late)]));
}

#[test]
fn zeroed_blocks_are_zero_after_others_of_their_word_were_freed() {
    let layout = Layout::from_size_align(64, 16).unwrap();
    for is_last in [true, false] {
        // Whose memory nobody had before.
        let family = Family::new();
        let heap = family.heap(1);
        let mut mine = heap.thread().unwrap();
        let first = mine.allocate_zeroed(layout).unwrap();
        let second = mine.allocate_zeroed(layout).unwrap();
        let freed = if is_last { second } else { first };
        fill(freed, 64, 0xff);
        free(&mut mine, freed).unwrap();
        let again = mine.allocate_zeroed(layout).unwrap();
        assert_eq!(again, freed);
        check(again, 64, 0);
        for block in [first, second] {
            free(&mut mine, block).unwrap();
        }
        assert_whole(&heap, &BTreeSet::new());
    }
}

fn free(heap: &mut ThreadHeap, block: NonNull<u8>) -> Result<(), HeapError> {
    // SAFETY: the tests use no block after they freed it.
    unsafe { heap.free(block) }
}

fn fill(block: NonNull<u8>, bytes: usize, byte: u8) {
    // SAFETY: the block is the test's, and as large.
    unsafe { block.as_ptr().write_bytes(byte, bytes) }
}

fn check(block: NonNull<u8>, bytes: usize, byte: u8) {
    // SAFETY: the block is the test's, and as large; nobody writes it meanwhile.
    let slice = unsafe { std::slice::from_raw_parts(block.as_ptr(), bytes) };
    assert!(slice.iter().all(|&it| it == byte));
}
