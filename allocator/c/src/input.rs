//! What C passes, checked: null pointers, names, sizes.
//!
//! What cannot be checked is asked of the caller in `tierpool.h`: that a pointer that is not null
//! is one to what it is said to be.

use core::ffi::{CStr, c_char};
use core::ptr::NonNull;

use crate::code::{Code, Failure};

/// What is at `place`.
///
/// # Safety
/// Null, or a valid pointer for as long as the answer is used.
pub(crate) unsafe fn seen<'a, T>(place: *const T, what: &str) -> Result<&'a T, Failure> {
    // SAFETY: as the caller says.
    unsafe { place.as_ref() }.ok_or_else(|| Failure::null(what))
}

/// Writes an answer.
///
/// # Safety
/// Null, or a place that may be written.
pub(crate) unsafe fn put<T>(place: NonNull<T>, value: T) {
    // SAFETY: as the caller says.
    unsafe { place.write(value) };
}

/// Writes an answer that the caller need not want.
///
/// # Safety
/// Null, or a place that may be written.
pub(crate) unsafe fn put_if_wanted<T>(place: *mut T, value: T) {
    if let Some(place) = NonNull::new(place) {
        // SAFETY: as the caller says.
        unsafe { put(place, value) };
    }
}

/// A pointer that is not null.
pub(crate) fn there<T>(place: *mut T, what: &str) -> Result<NonNull<T>, Failure> {
    NonNull::new(place).ok_or_else(|| Failure::null(what))
}

/// A string, if there is one.
///
/// # Safety
/// Null, or a string that ends in a zero and stays as it is for as long as the answer is used.
pub(crate) unsafe fn text_if_any<'a>(
    place: *const c_char,
    what: &str,
) -> Result<Option<&'a str>, Failure> {
    if place.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller says.
    let text = unsafe { CStr::from_ptr(place) }.to_str();
    let wrong = |_| Failure::new(Code::Invalid, format!("{what} is not UTF-8"));
    text.map(Some).map_err(wrong)
}

/// A string.
///
/// # Safety
/// As of [`text_if_any`].
pub(crate) unsafe fn text<'a>(place: *const c_char, what: &str) -> Result<&'a str, Failure> {
    // SAFETY: as the caller says.
    let text = unsafe { text_if_any(place, what) }?;
    text.ok_or_else(|| Failure::null(what))
}
