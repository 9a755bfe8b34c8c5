//! Lines for whoever started the machine.

/// What each begins with; `xtask/src/cxl_vm/console.rs` reads them.
const MARK: &str = "cxl-vm: ";

/// Tells a step, or a figure.
pub(crate) fn told(what: &str) {
    println!("{MARK}{what}");
}

/// Asks whoever started the machine for something that its hardware is to do; see
/// `xtask/src/cxl_vm/monitor.rs`. That it is done is seen here.
pub(crate) fn asks(what: &str) {
    told(&format!("asks {what}"));
}

/// The machine did what it was started for.
pub(crate) fn passed() {
    told("passed");
}

/// It did not. Only the first word of a machine on this counts for a reader; all are told.
pub(crate) fn failed(why: &anyhow::Error) {
    told(&format!(
        "failed: {}",
        format!("{why:#}").replace('\n', " | ")
    ));
}
