//! What a model has for the environment: nothing is said there.

/// Whether to ask for huge pages.
pub(crate) fn huge_pages() -> bool {
    false
}

/// How many bytes may be kept that nobody uses. All: a model that gives memory back says so.
pub(crate) fn idle_bytes() -> usize {
    usize::MAX >> 1
}

/// A model has what is fast.
pub(crate) fn checks_all() -> bool {
    false
}

/// There are no nodes.
#[must_use]
pub(crate) fn place(_: &core::ops::Range<usize>) -> bool {
    true
}
