//! `poolctl status`: the pool at a glance.

use std::time::Duration;

use pool_proto::admin::v1::{GetStatusRequest, Status};

use crate::connect::Pool;
use crate::error::CtlError;
use crate::output::Output;
use crate::text;

pub(super) async fn run(pool: &mut Pool, output: &mut Output) -> Result<(), CtlError> {
    let status = get(pool).await?;
    output.show(&status, render)
}

pub(super) async fn get(pool: &mut Pool) -> Result<Status, CtlError> {
    let response = pool.calls.get_status(GetStatusRequest {}).await;
    pool.answer(response)
}

fn render(status: &Status) -> String {
    let store = text::plain(&status.descriptor_store);
    [
        ("memory", memory(status)),
        ("holders", holders(status)),
        ("daemon", daemon(status)),
        ("requests", requests(status)),
        ("window", window(status)),
        ("journal", journal(status)),
        ("descriptors", format!("kept by {store}")),
    ]
    .map(|(name, line)| format!("{name:<12} {line}\n"))
    .concat()
        + &devices(status)
        + text::whom_quarantine_waits_for(status.quarantined_bytes)
}

fn memory(status: &Status) -> String {
    let emulated = if status.emulated {
        " (emulated, in part or all: see `poolctl tiers`)"
    } else {
        ""
    };
    format!(
        "{}: {} free, {} granted, {} in quarantine{emulated}",
        text::size(status.total_bytes),
        text::size(status.free_bytes),
        text::size(status.granted_bytes),
        text::size(status.quarantined_bytes),
    )
}

/// Nothing where every device is reached and gets what it should.
fn devices(status: &Status) -> String {
    let (unreached, noted) = (status.devices_unreached, status.devices_noted);
    if unreached == 0 && noted == 0 {
        return String::new();
    }
    format!(
        "{:<12} {unreached} out of reach, {noted} with something in the way: \
         see `poolctl devices`\n",
        "devices"
    )
}

fn holders(status: &Status) -> String {
    format!(
        "{} with {} of {}",
        text::count(status.clients.into(), "client"),
        text::count(status.segments.into(), "segment"),
        text::count(status.tenants.into(), "tenant"),
    )
}

fn daemon(status: &Status) -> String {
    format!(
        "version {}, process {}, up {}, run {} on its journal",
        text::plain(&status.version),
        status.pid,
        text::uptime(Duration::from_millis(status.uptime_ms)),
        status.daemon_epoch,
    )
}

fn requests(status: &Status) -> String {
    let errors = text::count(status.errors_total, "error");
    format!("{} answered, {errors} among them", status.requests_total)
}

fn window(status: &Status) -> String {
    format!(
        "{} at {:#x}",
        text::size(status.window_bytes),
        status.window_base
    )
}

fn journal(status: &Status) -> String {
    let survives = match status.journal_durability.as_str() {
        "process" => "the death of the daemon",
        "power" => "the death of the daemon and of the machine",
        other => return text::plain(other),
    };
    format!("survives {survives}")
}
