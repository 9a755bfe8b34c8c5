//! How many lines this process has dropped from its caches.

use std::sync::{LazyLock, PoisonError, RwLock};

// Not the shim's lock, which loom would not have in a static; and no model drops lines.
static DROPPED: LazyLock<RwLock<u64>> = LazyLock::new(RwLock::default);

/// Counts `lines` more.
pub(crate) fn dropped(lines: u64) {
    *DROPPED.write().unwrap_or_else(PoisonError::into_inner) += lines;
}

/// How many they are since the process began. Tests that count run in processes of their own.
#[must_use]
pub fn lines_dropped() -> u64 {
    *DROPPED.read().unwrap_or_else(PoisonError::into_inner)
}
