//! Lines for whoever started the machine.

/// What each begins with; `xtask/src/cxl_vm/console.rs` reads them.
const MARK: &str = "cxl-vm: ";

/// Tells a step, or a figure.
pub(crate) fn told(what: &str) {
    println!("{MARK}{what}");
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
