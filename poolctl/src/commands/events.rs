//! `poolctl events`: what happens, as it happens.

use std::time::Duration;

use pool_proto::admin::v1::{PoolEvent, StreamEventsRequest};
use tokio::time::sleep;
use tonic::Streaming;

use crate::cli::Events;
use crate::connect::Pool;
use crate::error::CtlError;
use crate::output::Output;
use crate::text;

/// How long to listen where nothing is said of it.
const LISTEN: Duration = Duration::from_secs(5);

pub(super) async fn run(
    pool: &mut Pool,
    output: &mut Output,
    until: &Events,
) -> Result<(), CtlError> {
    let response = pool.calls.stream_events(StreamEventsRequest {}).await;
    let mut stream = pool.answer(response)?;
    let unbounded = until.follow || until.count.is_some();
    let span = until.span.or_else(|| (!unbounded).then_some(LISTEN));
    let listening = listen(pool, output, &mut stream, until.count);
    match span {
        None => listening.await,
        Some(span) => tokio::select! {
            heard = listening => heard,
            () = sleep(span) => Ok(()),
        },
    }
}

async fn listen(
    pool: &Pool,
    output: &mut Output,
    stream: &mut Streaming<PoolEvent>,
    count: Option<u64>,
) -> Result<(), CtlError> {
    let mut heard = 0;
    while count.is_none_or(|count| heard < count) {
        let next = stream
            .message()
            .await
            .map_err(|status| pool.error(&status))?;
        let event = next.ok_or_else(|| pool.ended())?;
        output.show(&event, render)?;
        heard += 1;
    }
    Ok(())
}

/// `12  93784.005  segment-granted  tenant=trainer segment=7 bytes=64 MiB`
fn render(event: &PoolEvent) -> String {
    let (seconds, ms) = (event.at_ms / 1000, event.at_ms % 1000);
    let mut line = format!("{:>6}  {seconds:>6}.{ms:03}  ", event.sequence);
    line.push_str(&format!("{:<16}", text::plain(&event.kind)));
    let number = |number: u64| {
        if number == 0 {
            String::new()
        } else {
            number.to_string()
        }
    };
    let bytes = if event.bytes == 0 {
        String::new()
    } else {
        text::size(event.bytes)
    };
    for (name, value) in [
        ("tenant", text::plain(&event.tenant)),
        ("segment", number(event.segment_id)),
        ("client", number(event.client_id)),
        ("device", text::plain(&event.device)),
        ("bytes", bytes),
    ] {
        if !value.is_empty() {
            line.push_str(&format!("  {name} {value}"));
        }
    }
    if !event.detail.is_empty() {
        line.push_str(&format!("  {}", text::plain(&event.detail)));
    }
    line.push('\n');
    line
}
