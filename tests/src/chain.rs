//! A chain of pointers in a segment: each link is the address of the next, in whatever process.
//!
//! # Layout
//! Word 0 of the segment is the address of the first link, and word 0 of each link that of the
//! next; 0 ends the chain. Word 1 of a link is its number. Addresses are absolute, so that a chain
//! can only be followed where the segment lies where it lay when it was written.

use client_sdk::{AccessError, Bytes, Segment};

use crate::EXTENT;

/// Bytes between two links: a prime number of lines, so that they fall on every part of a page.
const STEP: u64 = 61 * 64;

/// Links that a segment has room for.
fn room(segment: &Segment) -> u64 {
    (segment.bytes().get() - EXTENT / 2) / STEP
}

/// Writes a chain through all of the segment, in the order of its numbers or against it. Returns
/// how many links it has.
///
/// # Errors
/// Where the segment cannot be written.
pub fn write(segment: &Segment, backwards: bool) -> Result<u64, AccessError> {
    let count = room(segment);
    let address = |number: u64| segment.addr().get() + EXTENT / 4 + number * STEP;
    let order = (0..count).map(|index| if backwards { count - 1 - index } else { index });
    let mut before = segment.addr().get();
    for number in order {
        put(segment, before, address(number))?;
        put(segment, address(number) + 8, number)?;
        before = address(number);
    }
    put(segment, before, 0)?;
    Ok(count)
}

/// Follows the chain: the numbers on its way.
///
/// # Errors
/// Where a link leads out of the segment.
pub fn follow(segment: &Segment) -> Result<Vec<u64>, AccessError> {
    let mut numbers = Vec::new();
    let mut link = take(segment, segment.addr().get())?;
    while link != 0 {
        numbers.push(take(segment, link + 8)?);
        link = take(segment, link)?;
    }
    Ok(numbers)
}

fn offset(segment: &Segment, address: u64) -> Bytes {
    Bytes::new(address.wrapping_sub(segment.addr().get()))
}

fn put(segment: &Segment, address: u64, word: u64) -> Result<(), AccessError> {
    segment.view_mut(offset(segment, address), 1)?.set(0, word)
}

fn take(segment: &Segment, address: u64) -> Result<u64, AccessError> {
    segment.view(offset(segment, address), 1)?.get(0)
}
