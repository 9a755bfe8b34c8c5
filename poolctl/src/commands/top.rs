//! `poolctl top`: the pool as it changes, drawn anew at each look.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use pool_core::{Nanos, clock};
use pool_proto::admin::v1::{Client, Status};
use pool_proto::common::v1::TierInfo;
use serde::Serialize;
use tokio::time::sleep;

use super::{clients, status, tiers};
use crate::connect::Pool;
use crate::error::CtlError;
use crate::output::{Grid, Output};
use crate::text;

/// Clients shown, those that hold the most first.
const CLIENTS_MAX: usize = 20;
const BAR_CELLS: u64 = 24;
/// To the upper left corner, and nothing below.
const REDRAW: &str = "\x1b[H\x1b[J";

/// One look at the pool.
#[derive(Debug, Serialize)]
struct Look {
    status: Status,
    /// Since the look before; nothing at the first.
    requests_per_second: Option<f64>,
    tiers: Vec<TierInfo>,
    /// Those that hold the most first.
    clients: Vec<Client>,
}

pub(super) async fn run(
    pool: &mut Pool,
    output: &mut Output,
    once: bool,
    interval: Duration,
) -> Result<(), CtlError> {
    let redraw = !once && !output.is_json() && io::stdout().is_terminal();
    let mut before = None;
    loop {
        let look = look(pool, before).await?;
        before = Some((clock::now(), look.status.requests_total));
        output.show(&look, |look| {
            let page = render(look);
            if redraw {
                format!("{REDRAW}{page}")
            } else {
                page
            }
        })?;
        if once {
            return Ok(());
        }
        sleep(interval).await;
    }
}

async fn look(pool: &mut Pool, before: Option<(Nanos, u64)>) -> Result<Look, CtlError> {
    let status = status::get(pool).await?;
    let now = clock::now();
    let requests_per_second = before.map(|(then, answered)| {
        let seconds = Duration::from_nanos(now.saturating_since(then).get()).as_secs_f64();
        let more = status.requests_total.saturating_sub(answered);
        rate(more, seconds)
    });
    let tiers = tiers::get(pool).await?.tiers;
    let mut clients = clients::get(pool).await?.clients;
    clients.sort_by_key(|client| (std::cmp::Reverse(client.held_bytes), client.client_id));
    clients.truncate(CLIENTS_MAX);
    Ok(Look {
        status,
        requests_per_second,
        tiers,
        clients,
    })
}

fn rate(count: u64, seconds: f64) -> f64 {
    // A count between two looks is far below 2^32; the greater of the two never divides by zero.
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / seconds.max(1e-9)
}

fn render(look: &Look) -> String {
    let status = &look.status;
    let mut page = format!(
        "tierpool {}  up {}  {}  {}  {}",
        text::plain(&status.version),
        text::uptime(Duration::from_millis(status.uptime_ms)),
        text::count(status.clients.into(), "client"),
        text::count(status.segments.into(), "segment"),
        text::count(status.requests_total, "request"),
    );
    if let Some(rate) = look.requests_per_second {
        page.push_str(&format!("  {rate:.0}/s"));
    }
    page.push_str("\n\n");
    let mut grid = Grid::new(["TIER", "GRANTED OR QUARANTINED", ">FREE", ">SIZE"]);
    for tier in &look.tiers {
        grid.row([
            text::with_medium(&tier.name, tier.emulated),
            bar(tier),
            text::size(tier.free_bytes),
            text::size(tier.total_bytes),
        ]);
    }
    page.push_str(&grid.render());
    page.push('\n');
    page.push_str(&clients::render(&look.clients));
    page
}

/// `[####~      ]`: granted, in quarantine, free.
fn bar(tier: &TierInfo) -> String {
    let cells = |bytes: u64| {
        let share = u128::from(bytes) * u128::from(BAR_CELLS);
        let cells = share.div_ceil(u128::from(tier.total_bytes.max(1)));
        usize::try_from(cells.min(u128::from(BAR_CELLS))).unwrap_or_default()
    };
    let mut bar = "#".repeat(cells(tier.granted_bytes));
    bar.push_str(&"~".repeat(cells(tier.quarantined_bytes)));
    let width = usize::try_from(BAR_CELLS).unwrap_or_default();
    bar.truncate(width);
    format!("[{bar:<width$}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_the_smallest_use_and_never_overflows() {
        let tier = |granted_bytes, quarantined_bytes, total_bytes| TierInfo {
            granted_bytes,
            quarantined_bytes,
            total_bytes,
            ..TierInfo::default()
        };
        assert_eq!(bar(&tier(1, 0, 1 << 40)), "[#                       ]");
        assert_eq!(bar(&tier(50, 25, 100)), "[############~~~~~~      ]");
        assert_eq!(bar(&tier(100, 100, 100)), "[########################]");
        assert_eq!(bar(&tier(0, 0, 0)), "[                        ]");
        assert_eq!(bar(&tier(u64::MAX, u64::MAX, 1)).len(), 26);
    }
}
