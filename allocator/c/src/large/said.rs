//! What the environment says about large blocks, what is said to people, and signals.
//!
//! - `TIERPOOL_HEAP`: `NAME`, or `NAME@TIER,TIER2`, and `!` after it where private blocks will not
//!   do. Without it all blocks are private.
//! - `TIERPOOL_HEAP_MIN`: from how many bytes on blocks are of the heap, 65,536 to 33,554,432.
//!   Without it 1 MiB.
//!
//! As with all others, a value that is none of these ends the process with a message.

use core::ffi::CStr;
use core::mem::MaybeUninit;

/// The variable that names the heap.
pub(super) const HEAP: &CStr = c"TIERPOOL_HEAP";
const LEAST: &CStr = c"TIERPOOL_HEAP_MIN";

/// From how many bytes on blocks are of the heap where nothing is said.
const USUAL_LEAST: usize = 1 << 20;
const LEASTS: core::ops::RangeInclusive<usize> = 64 << 10..=32 << 20;
/// The most tiers of a heap.
const MOST_TIERS: usize = 8;

/// What is said of large blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) name: String,
    /// None for the usual one.
    pub(super) tiers: Vec<String>,
    /// Whether a program gets nothing rather than a private block.
    pub(super) is_strict: bool,
    pub(super) least: usize,
}

/// Reads the environment. Nothing is said to a program that runs with more rights than its caller:
/// the caller would name the daemon.
pub(super) fn read() -> Option<Said> {
    // SAFETY: reads a number.
    if unsafe { libc::getauxval(libc::AT_SECURE) } != 0 {
        return None;
    }
    let text = environment(HEAP)?;
    let Some(mut said) = core::str::from_utf8(text).ok().and_then(heap) else {
        refuse(
            HEAP,
            "is to be NAME, or NAME@TIER,TIER2 with 8 tiers at most, and ! after it",
        )
    };
    if let Some(text) = environment(LEAST) {
        let number = core::str::from_utf8(text).ok().and_then(number);
        match number.filter(|number| LEASTS.contains(number)) {
            Some(number) => said.least = number,
            None => refuse(LEAST, "is to be a number of bytes from 65536 to 33554432"),
        }
    }
    Some(said)
}

fn heap(text: &str) -> Option<Said> {
    let (text, is_strict) = match text.strip_suffix('!') {
        Some(text) => (text, true),
        None => (text, false),
    };
    let (name, tiers) = match text.split_once('@') {
        Some((name, tiers)) => (name, tiers.split(',').map(str::to_owned).collect()),
        None => (text, Vec::new()),
    };
    let is_whole = !name.is_empty() && tiers.iter().all(|tier: &String| !tier.is_empty());
    (is_whole && tiers.len() <= MOST_TIERS).then(|| Said {
        name: name.to_owned(),
        tiers,
        is_strict,
        least: USUAL_LEAST,
    })
}

fn number(text: &str) -> Option<usize> {
    let is_one = text.bytes().all(|digit| digit.is_ascii_digit());
    is_one.then(|| text.parse().ok())?
}

fn environment(name: &CStr) -> Option<&'static [u8]> {
    // SAFETY: the name ends in a zero; the program, which might change it, has not begun.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: a string of the environment, which ends in a zero; it is read at once.
    Some(unsafe { CStr::from_ptr(value) }.to_bytes())
}

/// Ends the process, for it was told something that it cannot do.
pub(super) fn refuse(name: &CStr, what: &str) -> ! {
    tell(&format!("{} {what}", name.to_string_lossy()));
    // SAFETY: does not return.
    unsafe { libc::_exit(2) }
}

/// Writes a line to the standard error, as far as that is open. Without the lock of the standard
/// library's, which a forked child may find taken.
pub(super) fn tell(what: &str) {
    let line = format!("tierpool: {what}\n");
    // SAFETY: reads the line. What cannot be written has nowhere else to go.
    let _ = unsafe { libc::write(2, line.as_ptr().cast(), line.len()) };
}

/// Has this thread, and those that it starts, be interrupted by no signal; the mask of before.
pub(super) fn block_signals() -> libc::sigset_t {
    let mut all = MaybeUninit::uninit();
    // SAFETY: writes a set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    let mut before = MaybeUninit::uninit();
    // SAFETY: reads one set, and writes the other.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    // SAFETY: it was written: the call cannot fail.
    unsafe { before.assume_init() }
}

/// Sets the mask of this thread.
pub(super) fn set_signals(mask: &libc::sigset_t) {
    // SAFETY: reads a set.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, core::ptr::null_mut()) };
}
