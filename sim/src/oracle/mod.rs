//! What must hold, stated so that it can be read as a specification. No oracle asks the code that
//! it judges what it thinks of itself.
//!
//! [`books`]: extents, ids, and what the journal says. [`contents`]: what readers of segments and
//! of units of domains see. [`members`]: who lives, as domains say it. [`heap`]: what is in the
//! heap of a host. [`groups`]: groups, over all hosts. [`shared`]: what users of extents see that
//! several hosts share. [`waits`]: how long a daemon waits.

pub(crate) mod books;
pub(crate) mod contents;
pub(crate) mod groups;
pub(crate) mod heap;
pub(crate) mod members;
pub(crate) mod shared;
pub(crate) mod waits;
