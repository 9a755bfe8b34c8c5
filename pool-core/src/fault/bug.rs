//! Which bug is planted in this process: none or one.

use std::sync::{LazyLock, PoisonError, RwLock};

static PLANTED: LazyLock<RwLock<Option<String>>> =
    LazyLock::new(|| RwLock::new(std::env::var("TIERPOOL_BUG").ok()));

/// Plants the bug `name`, or none, in place of the one that was.
///
/// It is the process's: tests that plant bugs take turns, or run in processes of their own.
pub fn plant(name: Option<&str>) {
    // Not the shim's lock: loom has no static ones, and a model does not explore this.
    let mut planted = PLANTED.write().unwrap_or_else(PoisonError::into_inner);
    *planted = name.map(str::to_owned);
}

/// Whether the bug `name` is planted; use [`crate::planted!`].
#[must_use]
pub fn planted(name: &'static str) -> bool {
    let planted = PLANTED.read().unwrap_or_else(PoisonError::into_inner);
    planted.as_deref() == Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_there_while_it_is_planted_and_no_other() {
        assert!(!planted("test.bug"));
        plant(Some("test.bug"));
        assert!(planted("test.bug"));
        assert!(!planted("test.other"));
        plant(None);
        assert!(!planted("test.bug"));
    }
}
