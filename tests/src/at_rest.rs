//! A daemon at rest: nobody is attached, everything is free, and it has no more open than before
//! anybody came.

use pool_core::clock::eventually;

use crate::daemon::Daemon;
use crate::setup::Setup;
use crate::{patience, until};

/// The most files that a daemon keeps ready: of each device, to be shared and not.
#[must_use]
pub fn stock_max(setup: &Setup) -> usize {
    setup.devices.len() * 2 * pool_daemon::device::builder::STOCK_TARGET
}

/// Waits until the daemon is at rest as it was before, after `pid` was its only client. Returns the
/// number of its descriptors there, without the files that it keeps in stock: those are as many as
/// have been built again by then.
pub fn await_rest(daemon: &mut Daemon, pid: u32, descriptors_max: usize) -> usize {
    let mut admin = daemon.admin();
    until("nobody is attached", || {
        (admin.status().ok()?.clients == 0).then_some(())
    });
    drop(admin);
    daemon.await_all_free();
    until("nobody's end is waited for", || {
        (daemon.pidfds_of(pid) == 0).then_some(())
    });
    let stock_max = stock_max(daemon.setup());
    let mut seen = 0;
    let descriptors = eventually(patience(), || {
        let stock = daemon.files_of_memory();
        let others = daemon.descriptors().saturating_sub(stock);
        seen = others;
        Some(others).filter(|_| others <= descriptors_max && stock <= stock_max)
    });
    let descriptors = descriptors.unwrap_or_else(|_| {
        panic!(
            "{seen} are more than {descriptors_max} and {stock_max}: {:#?}",
            daemon.open_files()
        );
    });
    assert!(daemon.is_running());
    descriptors
}
