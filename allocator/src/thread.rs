//! Which heap a thread uses: how it gets one, and what becomes of it.
//!
//! A thread gets a heap with its first allocation. When it ends, a destructor of the thread gives
//! the heap up; other destructors may still allocate and free after that, and use the *common*
//! heap then, under a lock. So do threads for which there is no slot.
//!
//! # Invariants
//! 1. The heap that the word of a thread names is used by that thread alone.
//! 2. The common heap is used by whoever holds [`COMMON_LOCK`].
//! 3. A heap stays mapped for ever, and belongs to one slot.

use core::ffi::c_void;
use core::ptr::NonNull;

use pool_core::sync::atomic::{
    AtomicU32, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::heap::{self, Heap};
use crate::layout::PAGE_BYTES;
use crate::lock::Lock;
use crate::window::WINDOW;
use crate::{outside, slot, system, tls};

/// Guards the common heap.
static COMMON_LOCK: Lock = Lock::new();
/// Where the common heap is: made with the window, before anybody has a block.
static COMMON: AtomicUsize = AtomicUsize::new(0);

const CLOSED: u32 = 0;
const OPENING: u32 = 1;
const OPEN: u32 = 2;
/// Whether the process has a window.
static STATE: AtomicU32 = AtomicU32::new(CLOSED);
/// The key whose destructor gives heaps up; one more than its number.
static KEY: AtomicUsize = AtomicUsize::new(0);

/// Calls `act` with the heap that this thread is to use, which it gets if it has none.
///
/// None where there is no memory for one.
pub(crate) fn with_heap<R>(act: impl FnOnce(&mut Heap) -> R) -> Option<R> {
    if let Some(mut heap) = tls::heap().or_else(first_heap) {
        // SAFETY: by invariant 1; `act` does not come back here.
        return Some(act(unsafe { heap.as_mut() }));
    }
    let _held = COMMON_LOCK.hold();
    let mut heap = common_heap()?;
    // SAFETY: by invariant 2.
    Some(act(unsafe { heap.as_mut() }))
}

/// Gives this thread a heap, unless it gave one up or there is none to be had.
#[cold]
fn first_heap() -> Option<NonNull<Heap>> {
    if tls::has_left() {
        return None;
    }
    open()?;
    let heap = make_heap()?;
    tls::set_heap(heap);
    // From here on this thread may allocate, and what follows may.
    at_exit(heap);
    Some(heap)
}

/// A heap in a slot of its own, for whoever calls.
fn make_heap() -> Option<NonNull<Heap>> {
    let (index, generation) = slot::take()?;
    let place = &slot::slot(index).heap;
    let mut address = place.load(Relaxed);
    if address == 0 {
        let bytes = size_of::<Heap>().next_multiple_of(PAGE_BYTES);
        let Some(mapped) = system::map(bytes) else {
            slot::give_back(index);
            return None;
        };
        address = mapped;
        place.store(address, Relaxed);
    }
    let mut heap = NonNull::new(core::ptr::with_exposed_provenance_mut::<Heap>(address))?;
    // SAFETY: the slot was just taken, and by invariant 3 the heap is there; zeroed memory is one.
    unsafe { heap.as_mut() }.begin(index, generation);
    Some(heap)
}

/// The common heap. The lock is held.
fn common_heap() -> Option<NonNull<Heap>> {
    open()?;
    NonNull::new(core::ptr::with_exposed_provenance_mut(COMMON.load(Relaxed)))
}

/// Opens the window, if nobody has, and waits while somebody does.
///
/// None where there is no memory for the common heap: then nobody has a block either, and the next
/// to ask tries again.
fn open() -> Option<()> {
    while STATE.load(Acquire) != OPEN {
        let is_mine = STATE.compare_exchange(CLOSED, OPENING, Acquire, Relaxed);
        if is_mine.is_err() {
            system::give_way();
            continue;
        }
        let is_open = open_alone().is_some();
        // Release pairs with the loads of those that wait.
        STATE.store(if is_open { OPEN } else { CLOSED }, Release);
        if !is_open {
            return None;
        }
    }
    Some(())
}

/// The same, by the one thread that does.
fn open_alone() -> Option<()> {
    WINDOW.open();
    let heap = make_heap()?;
    COMMON.store(heap.as_ptr().expose_provenance(), Relaxed);
    let mut key = 0;
    // SAFETY: writes the key, and keeps the function.
    if unsafe { libc::pthread_key_create(&raw mut key, Some(leave)) } == 0 {
        KEY.store(key as usize + 1, Relaxed);
    }
    Some(())
}

/// Has `heap` given up at the end of this thread; also prepares the process for forks, once.
///
/// Where the C library has no memory for that, the slabs of the thread stay its own for ever.
fn at_exit(heap: NonNull<Heap>) {
    static FORKS: AtomicU32 = AtomicU32::new(0);
    if FORKS.swap(1, Relaxed) == 0 {
        // SAFETY: keeps the functions. Where it fails, a fork while another thread frees may
        // leave a lock of this module held in the child.
        unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) };
    }
    let key = KEY
        .load(Relaxed)
        .checked_sub(1)
        .map(libc::pthread_key_t::try_from);
    if let Some(Ok(key)) = key {
        // SAFETY: the key is ours.
        unsafe { libc::pthread_setspecific(key, heap.as_ptr().cast::<c_void>()) };
    }
}

/// The end of a thread that has a heap.
extern "C" fn leave(_: *mut c_void) {
    if let Some(mut heap) = tls::heap() {
        tls::set_left();
        // SAFETY: by invariant 1, and this thread has no other use of it.
        unsafe { heap.as_mut() }.end();
    }
}

extern "C" fn before_fork() {
    COMMON_LOCK.take();
    outside::lock().take();
}

extern "C" fn in_parent() {
    outside::lock().let_go();
    COMMON_LOCK.let_go();
}

/// The other threads are gone: what they had is left to those to come.
extern "C" fn in_child() {
    let common = COMMON.load(Relaxed);
    let own = tls::heap().map(|heap| heap.as_ptr().addr());
    let is_alone = |index: usize| {
        let heap = slot::slot(index).heap.load(Relaxed);
        Some(heap) == own || (common != 0 && heap == common)
    };
    if slot::taken().all(is_alone) {
        // Nothing was under way. Mail is whole, and stays.
        outside::lock().let_go();
        COMMON_LOCK.let_go();
        return;
    }
    for address in [own.unwrap_or(0), common] {
        let heap: *mut Heap = core::ptr::with_exposed_provenance_mut(address);
        // SAFETY: by invariant 3 it is mapped; no other thread is there, and this one is in no
        // call of the heap.
        if let Some(heap) = unsafe { heap.as_mut() } {
            heap.forget_mail();
        }
    }
    heap::recover_after_fork(is_alone, |index, class, word| {
        let address = slot::slot(index).heap.load(Relaxed);
        let heap: *const Heap = core::ptr::with_exposed_provenance(address);
        // SAFETY: by invariant 3 it is mapped, and its thread is gone.
        unsafe { heap.as_ref() }.map_or(0, |heap| heap.held(class, word))
    });
    outside::lock().let_go();
    COMMON_LOCK.let_go();
}
