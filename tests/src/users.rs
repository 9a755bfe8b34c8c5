//! Other users: the ids that puppets take, and how a process becomes one of them.

use nix::sys::prctl;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

/// A user who owns something.
pub const ALICE: u32 = 61_001;
/// A user who wants it.
pub const BOB: u32 = 61_002;
/// Every system's user without rights.
pub const NOBODY: u32 = 65_534;

/// Whether this process may become another user. Where it may not, `test` is told as skipped.
#[must_use]
pub fn can_switch(test: &str) -> bool {
    let root = Uid::effective().is_root();
    if !root {
        crate::skipped(test, "run as root, which may take other user ids");
    }
    root
}

/// Becomes the user `uid` with the group of that number and no other, for good.
pub fn become_user(uid: u32) {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    setgroups(&[]).expect("setgroups");
    setresgid(group, group, group).expect("setresgid");
    setresuid(user, user, user).expect("setresuid");
    // A process that changed its user is hidden from itself: /proc/self would belong to root, and
    // what is tried through it would fail for that reason alone.
    prctl::set_dumpable(true).expect("PR_SET_DUMPABLE");
}
