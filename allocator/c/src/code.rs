//! What calls answer, and in words: the codes of `tierpool.h`, and the last error of each thread.
//!
//! A code never changes its number: programs are compiled with it.

use core::ffi::{CStr, c_char, c_int};
use std::cell::RefCell;
use std::ffi::CString;

use client_sdk::{Error, ErrorClass, HeapError, Reason};
use pool_core::mem::MapError;

/// `enum tierpool_code` of `tierpool.h`, without `TIERPOOL_OK`, which is 0.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Invalid = 1,
    Exhausted = 2,
    TooLarge = 3,
    DoubleFree = 4,
    NoBlock = 5,
    NotPending = 6,
    NotOwner = 7,
    Changed = 8,
    NoCell = 9,
    OddValue = 10,
    NoTier = 11,
    NameTaken = 12,
    NotFound = 13,
    NotAHeap = 14,
    NotPermitted = 15,
    NotSetUp = 16,
    TooManyThreads = 17,
    Forked = 18,
    Unreachable = 19,
    Lost = 20,
    Damaged = 21,
}

/// The names in `tierpool.h`, by their numbers, and what to do about each.
const CODES: [(&CStr, &str); 22] = [
    (c"TIERPOOL_OK", ""),
    (c"TIERPOOL_INVALID", "mend the call"),
    (
        c"TIERPOOL_EXHAUSTED",
        "free something, ask for less, or have the quota raised",
    ),
    (
        c"TIERPOOL_TOO_LARGE",
        "ask for 32 MiB at most, at a multiple of 32 MiB at most",
    ),
    (
        c"TIERPOOL_DOUBLE_FREE",
        "do not free it again: whoever freed it first had it",
    ),
    (c"TIERPOOL_NO_BLOCK", "pass what the heap gave out"),
    (
        c"TIERPOOL_NOT_PENDING",
        "publish a block once, before anybody frees it",
    ),
    (
        c"TIERPOOL_NOT_OWNER",
        "publish it by the thread that allocated it",
    ),
    (
        c"TIERPOOL_CHANGED",
        "load the cell, decide anew, and try again",
    ),
    (
        c"TIERPOOL_NO_CELL",
        "pass a root, or a word in a block of this heap at a multiple of 8",
    ),
    (c"TIERPOOL_ODD_VALUE", "keep even values in cells"),
    (c"TIERPOOL_NO_TIER", "name tiers that the pool has"),
    (
        c"TIERPOOL_NAME_TAKEN",
        "open what has the name, or choose another one",
    ),
    (
        c"TIERPOOL_NOT_FOUND",
        "create it, or name one that there is",
    ),
    (c"TIERPOOL_NOT_A_HEAP", "name a heap"),
    (
        c"TIERPOOL_NOT_PERMITTED",
        "ask the operator for access, or attach as another tenant",
    ),
    (
        c"TIERPOOL_NOT_SET_UP",
        "open it again in a moment, or remove it and create it anew",
    ),
    (
        c"TIERPOOL_TOO_MANY_THREADS",
        "let a thread that uses the heap end first",
    ),
    (c"TIERPOOL_FORKED", "attach and open anew in this process"),
    (
        c"TIERPOOL_UNREACHABLE",
        "see that the daemon runs, and try again",
    ),
    (
        c"TIERPOOL_LOST",
        "close and detach what is lost, and build it anew",
    ),
    (
        c"TIERPOOL_DAMAGED",
        "stop using it, and ask the operator who writes where it should not",
    ),
];

/// Why a call did nothing.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    code: Code,
    what: String,
}

impl Failure {
    pub(crate) fn new(code: Code, what: impl Into<String>) -> Self {
        Self {
            code,
            what: what.into(),
        }
    }

    /// A null pointer where there is to be one to `what`.
    pub(crate) fn null(what: &str) -> Self {
        Self::new(Code::Invalid, format!("the pointer to {what} is null"))
    }

    pub(crate) const fn code(&self) -> Code {
        self.code
    }

    /// What went wrong, and what to do about it.
    pub(crate) fn told(&self) -> String {
        let (name, advice) = CODES[self.code as usize];
        let name = name.to_str().unwrap_or_default();
        format!("{}; {advice} ({name})", self.what)
    }
}

impl From<HeapError> for Failure {
    fn from(error: HeapError) -> Self {
        Self::new(of_heap(&error), error.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(of(&error), error.to_string())
    }
}

impl From<MapError> for Failure {
    fn from(error: MapError) -> Self {
        Error::from(error).into()
    }
}

fn of_heap(error: &HeapError) -> Code {
    match error {
        HeapError::TooLarge { .. } => Code::TooLarge,
        HeapError::DoubleFree { .. } => Code::DoubleFree,
        HeapError::NoBlock { .. } => Code::NoBlock,
        HeapError::NotPending { .. } => Code::NotPending,
        HeapError::NotOwner { .. } => Code::NotOwner,
        HeapError::NoCell { .. } => Code::NoCell,
        HeapError::OddValue { .. } => Code::OddValue,
        HeapError::Changed { .. } => Code::Changed,
        HeapError::TooManyThreads => Code::TooManyThreads,
        HeapError::Forked => Code::Forked,
        HeapError::NotSetUp => Code::NotSetUp,
        HeapError::SameHash { .. } => Code::NameTaken,
        HeapError::NoTier(_) => Code::NoTier,
        HeapError::Exhausted(cause) | HeapError::Map(cause) | HeapError::Remove(cause) => {
            cause.cause().map_or(Code::Exhausted, of)
        }
        error => of_class(Error::from(error.clone()).class()),
    }
}

fn of(error: &Error) -> Code {
    match error.reason() {
        Some(Reason::NameTaken) => return Code::NameTaken,
        Some(Reason::NotFound) => return Code::NotFound,
        Some(Reason::NotPermitted) => return Code::NotPermitted,
        _ => {}
    }
    match error {
        Error::Heap(error) => of_heap(error),
        Error::Forked => Code::Forked,
        Error::NotADomain { .. } => Code::NotAHeap,
        error => of_class(error.class()),
    }
}

fn of_class(class: ErrorClass) -> Code {
    match class {
        ErrorClass::Caller => Code::Invalid,
        ErrorClass::Exhausted => Code::Exhausted,
        ErrorClass::Lost | ErrorClass::Revoked => Code::Lost,
        ErrorClass::Unreachable => Code::Unreachable,
        ErrorClass::Corrupt => Code::Damaged,
    }
}

std::thread_local! {
    static LAST: RefCell<CString> = RefCell::new(CString::default());
}

/// Does what a call does, and answers its code; keeps the error for [`tierpool_last_error`].
pub(crate) fn answer(call: impl FnOnce() -> Result<(), Failure>) -> c_int {
    let Err(failure) = call() else { return 0 };
    let text = failure.told().replace('\0', " ");
    let text = CString::new(text).unwrap_or_default();
    // A thread whose storage is gone already has the code alone.
    let _ = LAST.try_with(|last| last.replace(text));
    failure.code as c_int
}

/// See `tierpool.h`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn tierpool_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr())
        .unwrap_or(c"".as_ptr())
}

/// See `tierpool.h`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn tierpool_code_name(code: c_int) -> *const c_char {
    let known = usize::try_from(code).ok().and_then(|code| CODES.get(code));
    known.map_or(core::ptr::null(), |(name, _)| name.as_ptr())
}
