//! Lists of extents, as hosts and managers send them.

use super::MOST_EXTENTS;
use crate::refusal::Refusal;
use crate::span::{Span, SpanSet};

/// The spans of `some` as a set: whole blocks, each within one of `all`, none named twice.
pub(super) fn within(some: &[Span], all: &[Span], block: u64) -> Result<SpanSet, Refusal> {
    let mut set = SpanSet::default();
    for &span in some {
        if !span.is_of(block) {
            return Err(Refusal::Extents("an extent is not of whole blocks"));
        }
        if !all.iter().any(|one| one.contains(span)) {
            return Err(Refusal::Address("an extent is not of those there are"));
        }
        if !set.insert(span) {
            return Err(Refusal::Extents("an extent is named twice"));
        }
    }
    Ok(set)
}

/// A list of a host or a manager has so many extents at most.
pub(super) fn check_length(spans: &[Span]) -> Result<(), Refusal> {
    if spans.len() > MOST_EXTENTS {
        return Err(Refusal::Exhausted(
            "the list has more extents than are kept track of",
        ));
    }
    Ok(())
}

pub(super) fn total(spans: &[Span]) -> Result<u64, Refusal> {
    let sum = spans
        .iter()
        .try_fold(0_u64, |sum, span| sum.checked_add(span.bytes));
    sum.ok_or(Refusal::Input(
        "the lengths run past the end of the numbers",
    ))
}
