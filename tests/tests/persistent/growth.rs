//! How much a daemon has: it must not grow while it fails again and again.

use std::fs;

use pool_core::Nanos;
use pool_core::clock::{Deadline, eventually};
use tierpool_tests::at_rest::stock_max;
use tierpool_tests::daemon::Daemon;

/// Sockets, and what else comes and goes.
const DESCRIPTORS_BETWEEN: usize = 6;
/// Segments of one client, which cannot be closed, are at most as many as there are extents.
const EXTENTS: usize = 16;
const MAPPINGS_BETWEEN: usize = 16;
const KIB_BETWEEN: u64 = 4 << 10;
/// How long what comes may take to go.
const SOON: Nanos = Nanos::from_millis(20_000);
const LOG_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Descriptors, without files of memory.
    others: usize,
    /// Those of files of memory: the stacks of threads come and go.
    mappings: usize,
    kib: u64,
    log: usize,
}

impl Size {
    pub(crate) fn of(daemon: &Daemon) -> Self {
        let maps = fs::read_to_string(format!("/proc/{}/maps", daemon.pid()));
        let maps = maps.expect("the daemon runs");
        let others = daemon
            .descriptors()
            .saturating_sub(daemon.files_of_memory());
        Self {
            others,
            mappings: maps.lines().filter(|line| line.contains("/memfd:")).count(),
            kib: daemon.resident_kib(),
            log: daemon.log().len(),
        }
    }

    /// Whether the daemon comes to have no more than that, but for what comes and goes.
    pub(crate) fn is_no_less_than_that_of(self, daemon: &Daemon, plan: &str) {
        let memory_max = stock_max(daemon.setup()) + EXTENTS;
        let settled = eventually(Deadline::after(SOON), || {
            let now = Self::of(daemon);
            let fits = now.others <= self.others + DESCRIPTORS_BETWEEN
                && daemon.files_of_memory() <= memory_max
                && now.mappings <= self.mappings + MAPPINGS_BETWEEN
                && now.kib <= self.kib + KIB_BETWEEN
                && now.log <= self.log + LOG_BYTES_MAX;
            fits.then_some(())
        });
        if settled.is_err() {
            let (now, files) = (Self::of(daemon), daemon.open_files());
            panic!("{plan}: it grew from {self:?} to {now:?}: {files:#?}");
        }
    }
}
