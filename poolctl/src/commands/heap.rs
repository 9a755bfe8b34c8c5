//! `poolctl heap`: what a heap has, by its own audit, and what is to become of it.
//!
//! The daemon knows a heap as segments. What is in it is known to those that have it, so this
//! attaches as one more client of its tenant.

use std::time::Duration;

use client_sdk::pool_heap::{Audit, Placement, Root};
use client_sdk::{AttachOptions, Error, Pool, PoolHeap};
use serde_json::{Value, json};

use crate::Verdict;
use crate::cli::{Heap, HeapChange, Target};
use crate::error::CtlError;
use crate::output::{Grid, Output};
use crate::text;

pub(super) fn run(
    heap: &Heap,
    target: &Target,
    wait: Duration,
    output: &mut Output,
) -> Result<Verdict, CtlError> {
    carry_out(heap, target, wait, output).map_err(|error| match error {
        Failure::Heap(cause) => CtlError::Heap {
            name: text::plain(&heap.name),
            cause: Box::new(cause),
        },
        Failure::Other(error) => error,
    })
}

/// Of the heap, or of the output.
enum Failure {
    Heap(Error),
    Other(CtlError),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Heap(error.into())
    }
}

fn carry_out(
    heap: &Heap,
    target: &Target,
    wait: Duration,
    output: &mut Output,
) -> Result<Verdict, Failure> {
    let pool = attach(heap, target, wait)?;
    if let Some(HeapChange::Remove) = heap.change {
        pool.remove_heap(&heap.name)?;
        let removed = json!({ "removed": heap.name });
        let said = output.show(&removed, |_| {
            format!("{} is removed\n", text::plain(&heap.name))
        });
        said.map_err(Failure::Other)?;
        return Ok(Verdict::Yes);
    }
    let opened = pool.open_heap(&heap.name)?;
    match heap.change {
        None => show(&opened, output),
        Some(HeapChange::Dump) => dump(&opened, output),
        Some(HeapChange::Recover) => {
            let threads = opened.recover()? as u64;
            let said = json!({ "recovered_threads": threads });
            let told = |_: &Value| format!("{} recovered\n", text::count(threads, "thread"));
            output.show(&said, told).map_err(Failure::Other)?;
            Ok(Verdict::Yes)
        }
        _ => {
            let chunks = opened.trim()? as u64;
            let said = json!({ "removed_chunks": chunks });
            let told = |_: &Value| format!("{} given back\n", text::count(chunks, "chunk"));
            output.show(&said, told).map_err(Failure::Other)?;
            Ok(Verdict::Yes)
        }
    }
}

fn attach(heap: &Heap, target: &Target, wait: Duration) -> Result<Pool, Error> {
    let mut options = AttachOptions::new().timeout(wait);
    if let Some(tenant) = &heap.tenant {
        options = options.tenant(tenant);
    }
    // That of clients lies beside that of operators.
    let beside = || Some(target.socket.as_ref()?.with_file_name("session.sock"));
    if let Some(socket) = heap.clients.clone().or_else(beside) {
        options = options.socket(socket);
    }
    Pool::attach(&options)
}

fn show(heap: &PoolHeap, output: &mut Output) -> Result<Verdict, Failure> {
    let (audit, placement, roots) = (heap.audit()?, heap.placement()?, heap.roots()?);
    let whole = audit.findings.is_empty();
    let said = if output.is_json() {
        output.json(&told(&audit, &placement, &roots))
    } else {
        output.text(&render(&audit, &placement, &roots))
    };
    said.map_err(Failure::Other)?;
    Ok(if whole { Verdict::Yes } else { Verdict::No })
}

fn told(audit: &Audit, placement: &[Placement], roots: &[Root]) -> Value {
    let tiers = placement.iter().map(|tier| {
        json!({
            "tier": tier.tier, "share": tier.share, "chunks": tier.chunks, "bytes": tier.bytes,
        })
    });
    let classes = audit.classes.iter().map(|class| {
        json!({
            "block_bytes": class.block_bytes, "slabs": class.slabs,
            "abandoned": class.abandoned, "published": class.published,
            "pending": class.pending, "freed": class.told,
        })
    });
    let roots = roots
        .iter()
        .map(|root| json!({ "name": root.name, "value": root.value }));
    let findings = audit.findings.iter().map(|finding| format!("{finding:?}"));
    json!({
        "chunks": audit.chunks,
        "metadata_bytes": audit.metadata_bytes,
        "frames": audit.frames,
        "free_frames": audit.free_frames,
        "threads": audit.threads,
        "dead_threads": audit.dead_threads,
        "runs": audit.runs,
        "run_bytes": audit.run_bytes,
        "recovered_threads": audit.recovered,
        "recovered_blocks": audit.recovered_blocks,
        "freed_twice": audit.freed_twice,
        "fallbacks": audit.fallbacks,
        "tiers": tiers.collect::<Vec<_>>(),
        "classes": classes.collect::<Vec<_>>(),
        "roots": roots.collect::<Vec<_>>(),
        "findings": findings.collect::<Vec<_>>(),
    })
}

fn render(audit: &Audit, placement: &[Placement], roots: &[Root]) -> String {
    let mut page = format!(
        "{} in {} of 64 KiB, {} of them free; metadata {}\n",
        text::count(audit.chunks as u64, "chunk"),
        text::count(audit.frames as u64, "frame"),
        audit.free_frames,
        text::size(audit.metadata_bytes),
    );
    page += &format!(
        "{}; of the dead {} to be recovered, {} and {} recovered so far\n",
        text::count(audit.threads as u64, "thread"),
        audit.dead_threads,
        text::count(audit.recovered, "thread"),
        text::count(audit.recovered_blocks, "block"),
    );
    page += &format!(
        "{} of {}; freed twice in one moment: {}; chunks elsewhere than wanted: {}\n",
        text::count(audit.runs as u64, "run"),
        text::size(audit.run_bytes),
        audit.freed_twice,
        audit.fallbacks,
    );
    if audit.dead_threads != 0 {
        page += "what dead threads had is told as findings below: `recover` makes it good\n";
    }
    page += &tiers(placement);
    page += &classes(audit);
    if !roots.is_empty() {
        let mut grid = Grid::new(["ROOT", ">VALUE"]);
        for root in roots {
            grid.row([text::plain(&root.name), format!("{:#x}", root.value)]);
        }
        page += &grid.render();
    }
    for finding in &audit.findings {
        page += &format!("finding: {finding:x?}\n");
    }
    if !audit.findings.is_empty() {
        page += "findings are exact only while nobody changes the heap: recover, and look again\n";
    }
    page
}

fn tiers(placement: &[Placement]) -> String {
    let mut grid = Grid::new(["TIER", ">SHARE", ">CHUNKS", ">SIZE"]);
    for tier in placement {
        grid.row([
            text::plain(&tier.tier),
            tier.share.to_string(),
            tier.chunks.to_string(),
            text::size(tier.bytes),
        ]);
    }
    grid.render()
}

fn classes(audit: &Audit) -> String {
    let mut grid = Grid::new([
        ">BLOCK",
        ">SLABS",
        ">ABANDONED",
        ">PUBLISHED",
        ">PENDING",
        ">FREED",
    ]);
    for class in &audit.classes {
        let numbers = [
            class.block_bytes,
            class.slabs,
            class.abandoned,
            class.published,
            class.pending,
            class.told,
        ];
        grid.row(numbers.map(|number| number.to_string()));
    }
    grid.render()
}

fn dump(heap: &PoolHeap, output: &mut Output) -> Result<Verdict, Failure> {
    for block in heap.blocks()? {
        let state = if block.is_pending {
            "pending"
        } else {
            "published"
        };
        let address = format!("{:#x}", block.address);
        let said = if output.is_json() {
            output.json(&json!({ "address": address, "bytes": block.bytes, "state": state }))
        } else {
            output.text(&format!("{address} {:>9} {state}\n", block.bytes))
        };
        said.map_err(Failure::Other)?;
    }
    Ok(Verdict::Yes)
}
