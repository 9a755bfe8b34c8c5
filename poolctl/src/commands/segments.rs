//! `poolctl segments`: the segments, whom their quarantined memory waits for, and the end of one.

use pool_proto::admin::v1::{
    FreeSegmentRequest, ListSegmentsReply, ListSegmentsRequest, SegmentDetail, WaitedFor,
};
use pool_proto::common::v1::{Piece, Segment};
use pool_proto::names::Named as _;
use serde_json::json;

use crate::connect::Pool;
use crate::error::CtlError;
use crate::output::{Grid, Output};
use crate::text;

pub(super) async fn list(
    pool: &mut Pool,
    output: &mut Output,
    tenant: Option<String>,
) -> Result<(), CtlError> {
    let segments = get(pool, tenant.unwrap_or_default()).await?;
    output.show(&segments, render)
}

pub(super) async fn free(
    pool: &mut Pool,
    output: &mut Output,
    segment_id: u64,
    force: bool,
) -> Result<(), CtlError> {
    let response = pool
        .calls
        .free_segment(FreeSegmentRequest { segment_id, force })
        .await;
    pool.answer(response)?;
    let freed = json!({ "freed": segment_id });
    output.show(&freed, |_| format!("segment {segment_id} is freed\n"))
}

/// All pages as one answer.
async fn get(pool: &mut Pool, tenant: String) -> Result<ListSegmentsReply, CtlError> {
    let mut all = ListSegmentsReply::default();
    loop {
        let after_segment_id = last_id(&all.segments);
        let request = ListSegmentsRequest {
            tenant: tenant.clone(),
            after_segment_id,
        };
        let response = pool.calls.list_segments(request).await;
        let page = pool.answer(response)?;
        all.segments.extend(page.segments);
        if !page.more {
            return Ok(all);
        }
        // It would be asked for ever.
        if last_id(&all.segments) <= after_segment_id {
            let said = format!("there are segments after {after_segment_id}, and none is told");
            return Err(pool.corrupt(said));
        }
    }
}

fn last_id(segments: &[SegmentDetail]) -> u64 {
    let last = segments.last().and_then(|detail| detail.segment.as_ref());
    last.map_or(0, |segment| segment.segment_id)
}

fn render(reply: &ListSegmentsReply) -> String {
    let mut grid = Grid::new([
        ">ID",
        "NAME",
        "TENANT",
        "TIER",
        ">SIZE",
        ">ADDRESS",
        "LIFETIME",
        "STATE",
        ">HOLDERS",
        "SHARED WITH",
        "UNITS",
        "ON",
        "TAG",
    ]);
    for detail in &reply.segments {
        let Some(segment) = &detail.segment else {
            continue;
        };
        let burst = if segment.burst { ", burst" } else { "" };
        let sealed = if segment.sealed { ", sealed" } else { "" };
        grid.row([
            segment.segment_id.to_string(),
            text::or_dash(&segment.name),
            text::plain(&segment.tenant),
            text::plain(&segment.tier),
            text::size(segment.bytes),
            format!("{:#x}", segment.addr),
            segment.lifetime().word(),
            format!("{}{sealed}{burst}", text::plain(&detail.state)),
            detail.holders.len().to_string(),
            shared_with(segment),
            units(segment),
            text::or_dash(&devices(&segment.pieces)),
            text::or_dash(&segment.tag),
        ]);
    }
    let waiting = reply.segments.iter().filter_map(waiting);
    grid.render() + &waiting.collect::<String>()
}

/// Whom the quarantined memory of a segment waits for, as a line.
fn waiting(detail: &SegmentDetail) -> Option<String> {
    let segment = detail.segment.as_ref()?;
    if detail.quarantined_bytes == 0 {
        return None;
    }
    let mut processes: Vec<_> = detail.waited_for.iter().map(process).collect();
    if detail.waited_for_more > 0 {
        processes.push(format!("{} more", detail.waited_for_more));
    }
    let who = if processes.is_empty() {
        "a process that the pool knows nothing of: a child that a client forked, or one that has \
         closed the segment and kept its mapping"
            .to_owned()
    } else {
        processes.join("; ")
    };
    let size = text::size(detail.quarantined_bytes);
    let id = segment.segment_id;
    Some(format!(
        "segment {id}: {size} in quarantine, which may be mapped by {who}\n"
    ))
}

fn process(waited_for: &WaitedFor) -> String {
    let mut of = Vec::new();
    if waited_for.client_id != 0 {
        of.push(format!("client {}", waited_for.client_id));
    }
    if !waited_for.tenant.is_empty() {
        of.push(format!("of {}", text::plain(&waited_for.tenant)));
    }
    let of = if of.is_empty() {
        String::new()
    } else {
        format!(" ({})", of.join(" "))
    };
    let why = match waited_for.why.as_str() {
        "told" => "was told to let go",
        "departed" => "is no member any more, and lives",
        "holds" => "holds the segment, and may map an earlier file of it",
        other => &text::plain(other),
    };
    format!("process {}{of}, which {why}", waited_for.pid)
}

fn shared_with(segment: &Segment) -> String {
    let shares: Vec<_> = segment
        .shares
        .iter()
        .map(|share| format!("{} {}", text::plain(&share.tenant), share.access().word()))
        .collect();
    text::or_dash(&shares.join(", "))
}

/// How the units of a domain are cut and seen, after which time they are recalled, and whether they
/// have checksums; a dash where it is none.
fn units(segment: &Segment) -> String {
    segment.coherence.map_or_else(
        || "-".to_owned(),
        |terms| {
            let (size, mode) = (text::size(terms.unit_bytes), terms.mode().word());
            let checksums = if terms.checksums { " sums" } else { "" };
            format!("{size} {mode} {} ms{checksums}", terms.recall_ms)
        },
    )
}

/// Each device once, in the order of the pieces.
fn devices(pieces: &[Piece]) -> String {
    let mut named: Vec<String> = Vec::new();
    for piece in pieces {
        let device = text::with_medium(&piece.device, piece.emulated);
        if !named.contains(&device) {
            named.push(device);
        }
    }
    named.join(", ")
}
