//! Blocks of malloc that are of a heap of the pool, where `TIERPOOL_HEAP` says so.
//!
//! The heap is this process's alone: leased, and called `NAME-PID`, so that operators see whose it
//! is, and that it ends with the process. It is opened with the first block that is large enough,
//! in a thread of its own, for the stack of a thread that allocates may be small. All threads have
//! one part of it, behind a lock: what is that large is written for longer than it is asked for.
//!
//! Where there is no block to be had, the program gets a private one, unless the variable says
//! otherwise; such blocks are counted, and the first one is told. A daemon that does not answer is
//! asked once a second.
//!
//! # Invariants
//! 1. No block is given while this thread is in here: what the C library allocates meanwhile is
//!    private ([`Inside`]), so nobody waits for a lock that is his own.
//! 2. In a forked child no lock is taken, for nobody may be left to free it; its blocks are
//!    private. Addresses of its parent's blocks are known by their range, and freeing one does
//!    nothing: the memory is not mapped there.

mod said;

use core::alloc::Layout;
use core::cell::Cell;
use core::ptr::NonNull;
use core::time::Duration;
use std::sync::OnceLock;

use allocator::elsewhere::{self, Elsewhere, Freed, Given};
use client_sdk::{
    AttachOptions, Error, HeapError, HeapOptions, Pool, PoolHeap, Reason, ThreadHeap,
};
use pool_core::Nanos;
use pool_core::bare_thread::BareThread;
use pool_core::clock::now;
use pool_core::sync::atomic::AtomicUsize;
use pool_core::sync::atomic::Ordering::Relaxed;
use pool_core::sync::{Arc, Mutex, lock};

use crate::code::{Code, Failure};
use crate::handle::Own;
use said::Said;

/// The largest block of a heap, and the largest alignment.
const MOST_BYTES: usize = 32 << 20;
/// How long the daemon may take: a program waits for its block meanwhile.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long a daemon that failed is not asked.
const PAUSE: Nanos = Nanos::from_millis(1_000);
/// How many names are tried: a program that this process executed before may not have ended yet for
/// the daemon.
const NAMES: u32 = 16;

/// What the environment says, and whether this is still the process that it was said to.
#[derive(Debug)]
struct Wish {
    said: Said,
    own: Own,
}

static WISH: OnceLock<Wish> = OnceLock::new();
static STATE: Mutex<State> = Mutex::new(State::Closed);
/// The first and the last address of all blocks that were given.
static FIRST: AtomicUsize = AtomicUsize::new(usize::MAX);
static LAST: AtomicUsize = AtomicUsize::new(0);
static BLOCKS: AtomicUsize = AtomicUsize::new(0);
static FALLBACKS: AtomicUsize = AtomicUsize::new(0);
static TOLD: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug)]
enum State {
    Closed,
    /// It could not be opened, at that time.
    Failed(Nanos, Failure),
    Open(Open),
}

#[derive(Debug)]
struct Open {
    heap: PoolHeap,
    mine: ThreadHeap,
    /// When the daemon did not answer, and what was told then.
    failed: Option<(Nanos, Failure)>,
}

static HEAP: Elsewhere = Elsewhere {
    allocate,
    free,
    usable_bytes,
    resize,
    trim,
};

/// Run by the loader, before the program. It has a name so that it is kept: where it is only said
/// to be used, the compiler's link-time optimization (Rust 1.95) ends in a crash.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".init_array")]
static TIERPOOL_START: extern "C" fn() = start;

extern "C" fn start() {
    let Some(said) = said::read() else { return };
    match Own::new() {
        Ok(own) => {
            let least = said.least;
            if WISH.set(Wish { said, own }).is_ok() {
                elsewhere::install(&HEAP, least, MOST_BYTES);
            }
        }
        Err(failure) => said::refuse(said::HEAP, &failure.told()),
    }
}

/// How many blocks there are, and how many private ones stand for some that were not to be had.
pub(crate) fn counts() -> (usize, usize) {
    (BLOCKS.load(Relaxed), FALLBACKS.load(Relaxed))
}

/// The mark of a thread that is in here.
struct Inside;

std::thread_local! {
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
}

impl Inside {
    /// Marks this thread, unless it is marked.
    fn enter() -> Option<Self> {
        let was = IS_INSIDE.try_with(|inside| inside.replace(true));
        (was == Ok(false)).then_some(Self)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // Where there is no mark any more, none is left.
        let _ = IS_INSIDE.try_with(|inside| inside.set(false));
    }
}

fn allocate(bytes: usize, align: usize, is_zero: bool) -> Given {
    let (Some(wish), Ok(layout)) = (WISH.get(), Layout::from_size_align(bytes, align)) else {
        return Given::Private;
    };
    if align > MOST_BYTES {
        return Given::Private;
    }
    let Some(_inside) = Inside::enter() else {
        return Given::Private;
    };
    if wish.own.is_forked() {
        let what = "this process was forked, and has executed no program since";
        return instead(wish, bytes, &Failure::new(Code::Forked, what));
    }
    let given = lock(&STATE).give(wish, layout, is_zero);
    match given {
        Ok(address) => {
            FIRST.fetch_min(address, Relaxed);
            LAST.fetch_max(address, Relaxed);
            BLOCKS.fetch_add(1, Relaxed);
            Given::Block(address)
        }
        Err(failure) => instead(wish, bytes, &failure),
    }
}

/// What there is instead of a block; the first time it is told.
#[cold]
fn instead(wish: &Wish, bytes: usize, failure: &Failure) -> Given {
    let (given, what) = if wish.said.is_strict {
        (Given::Refused, "are refused")
    } else {
        FALLBACKS.fetch_add(1, Relaxed);
        (Given::Private, "are private memory")
    };
    if TOLD.swap(1, Relaxed) == 0 {
        let name = &wish.said.name;
        said::tell(&format!(
            "{bytes} bytes {what}, and not of the heap {name}: {}; later ones are counted only",
            failure.told()
        ));
    }
    given
}

/// Whether the block at `address` can be of the heap. Blocks of others never lie between its own.
fn is_between(address: usize) -> bool {
    address >= FIRST.load(Relaxed) && address <= LAST.load(Relaxed)
}

fn free(address: usize) -> Option<Freed> {
    let block = NonNull::new(core::ptr::with_exposed_provenance_mut::<u8>(address))?;
    if !is_between(address) {
        return None;
    }
    if WISH.get()?.own.is_forked() {
        return Some(Freed::Now);
    }
    let Some(_inside) = Inside::enter() else {
        // Nothing in here has a block of the heap, which is kept rather than waited for.
        return Some(Freed::Now);
    };
    let mut state = lock(&STATE);
    let State::Open(open) = &mut *state else {
        return None;
    };
    // SAFETY: whoever frees a block does not use it any more; the heap is trimmed under the lock.
    match unsafe { open.mine.free(block) } {
        Ok(()) => {
            BLOCKS.fetch_sub(1, Relaxed);
            Some(Freed::Now)
        }
        Err(HeapError::DoubleFree { .. }) => Some(Freed::Before),
        // The process is ended for it: no block is there, or what is known of it is damaged.
        Err(_) => None,
    }
}

fn usable_bytes(address: usize) -> Option<usize> {
    let block = NonNull::new(core::ptr::with_exposed_provenance_mut::<u8>(address))?;
    if !is_between(address) {
        return None;
    }
    if WISH.get()?.own.is_forked() {
        return Some(0);
    }
    let _inside = Inside::enter()?;
    match &*lock(&STATE) {
        State::Open(open) => open.heap.usable_bytes(block).ok(),
        _ => None,
    }
}

fn resize(address: usize, bytes: usize) -> bool {
    let block = NonNull::new(core::ptr::with_exposed_provenance_mut::<u8>(address));
    let (Some(block), Some(wish)) = (block, WISH.get()) else {
        return false;
    };
    if wish.own.is_forked() {
        return false;
    }
    let Some(_inside) = Inside::enter() else {
        return false;
    };
    match &mut *lock(&STATE) {
        // SAFETY: whoever has a block changed uses none of it meanwhile.
        State::Open(open) => unsafe { open.mine.resize(block, bytes) }.unwrap_or(false),
        _ => false,
    }
}

fn trim() -> bool {
    if WISH.get().is_none_or(|wish| wish.own.is_forked()) {
        return false;
    }
    let Some(_inside) = Inside::enter() else {
        return false;
    };
    match &mut *lock(&STATE) {
        State::Open(open) => {
            let chunks = open.mine.rest().and_then(|()| open.heap.trim());
            chunks.is_ok_and(|chunks| chunks > 0)
        }
        _ => false,
    }
}

/// Whether a failure of that time is to be taken for one of now.
fn is_fresh(time: Nanos) -> bool {
    now().saturating_since(time) < PAUSE
}

impl State {
    fn give(&mut self, wish: &Wish, layout: Layout, is_zero: bool) -> Result<usize, Failure> {
        match self {
            Self::Open(open) => open.give(layout, is_zero),
            Self::Failed(time, failure) if is_fresh(*time) => Err(failure.clone()),
            _ => match open_aside(wish) {
                Ok(open) => {
                    *self = Self::Open(open);
                    self.give(wish, layout, is_zero)
                }
                Err(failure) => {
                    *self = Self::Failed(now(), failure.clone());
                    Err(failure)
                }
            },
        }
    }
}

impl Open {
    fn give(&mut self, layout: Layout, is_zero: bool) -> Result<usize, Failure> {
        if let Some((time, failure)) = &self.failed
            && is_fresh(*time)
        {
            return Err(failure.clone());
        }
        let given = if is_zero {
            self.mine.allocate_zeroed(layout)
        } else {
            self.mine.allocate_layout(layout)
        };
        self.failed = None;
        let block = given.map_err(Failure::from).inspect_err(|failure| {
            if failure.code() != Code::Exhausted {
                self.failed = Some((now(), failure.clone()));
            }
        })?;
        Ok(block.as_ptr().expose_provenance())
    }
}

/// Opens the heap in a thread that has room for it, and that no signal interrupts: neither does one
/// the thread of the session, which it starts.
fn open_aside(wish: &Wish) -> Result<Open, Failure> {
    let answer: Arc<Mutex<Option<Result<Open, Failure>>>> = Arc::default();
    let (place, said) = (Arc::clone(&answer), wish.said.clone());
    let before = said::block_signals();
    let thread = BareThread::spawn(c"tierpool-open", move || {
        let _inside = Inside::enter();
        let opened = open(&said);
        *lock(&place) = Some(opened);
    });
    said::set_signals(&before);
    thread
        .map_err(|errno| Failure::new(Code::Exhausted, format!("no thread to open it: {errno}")))?
        .join();
    let opened = lock(&answer).take();
    opened.unwrap_or_else(|| {
        Err(Failure::new(
            Code::Damaged,
            "the thread that opens it failed",
        ))
    })
}

fn open(said: &Said) -> Result<Open, Failure> {
    let pid = std::process::id();
    let options = AttachOptions::new().name(&said.name).timeout(TIMEOUT);
    let pool = Pool::attach(&options)?;
    let mut heap = create(&pool, said, &format!("{}-{pid}", said.name));
    for number in 2..=NAMES {
        match &heap {
            Err(error) if error.reason() == Some(Reason::NameTaken) => {}
            _ => break,
        }
        heap = create(&pool, said, &format!("{}-{pid}-{number}", said.name));
    }
    let heap = heap?;
    Ok(Open {
        mine: heap.thread()?,
        heap,
        failed: None,
    })
}

fn create(pool: &Pool, said: &Said, name: &str) -> Result<PoolHeap, Error> {
    let options = HeapOptions::new(name).leased();
    let with_tiers = said.tiers.iter();
    pool.create_heap(&with_tiers.fold(options, |options, tier| options.tier(tier)))
}
