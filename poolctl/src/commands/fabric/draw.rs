//! `poolctl fabric draw`: a topology as a tree, a picture, or JSON.

use std::fs;
use std::path::Path;

use fabric_emu::id::Port;
use fabric_emu::topology::{Host, Memdev, MemdevKind, Region, Topology, draw};
use serde_json::{Value, json};

use crate::commands::Written;
use crate::error::CtlError;
use crate::output::Output;

pub(super) fn run(
    topology: &Topology,
    svg: Option<&Path>,
    output: &mut Output,
) -> Result<(), CtlError> {
    match svg {
        None if output.is_json() => output.json(&told(topology)),
        None => output.text(&draw::text(topology)),
        Some(path) if path == Path::new("-") && output.is_json() => Err(CtlError::Combination {
            given: "--svg -",
            rule: "is no JSON",
        }),
        Some(path) if path == Path::new("-") => output.text(&draw::svg(topology)),
        Some(path) => {
            fs::write(path, draw::svg(topology)).map_err(|source| CtlError::File {
                path: path.to_owned(),
                source,
            })?;
            let written = Written {
                written: vec![path.to_owned()],
            };
            output.show(&written, Written::text)
        }
    }
}

/// The topology as JSON; sizes in bytes, ends of links as a file has them.
fn told(topology: &Topology) -> Value {
    let switches = topology.switches.iter();
    let switches = switches
        .map(|switch| json!({ "name": switch.name, "ports": switch.ports, "vppbs": switch.vppbs }));
    let end = |port: Port| {
        let name = topology.name_of(port.node).unwrap_or_default();
        format!("{name}:{}", port.port.0)
    };
    let links = topology.links.iter().map(|link| {
        json!({
            "up": end(link.up), "down": end(link.down),
            "lanes": link.lanes, "gigatransfers": link.gigatransfers,
        })
    });
    json!({
        "name": topology.name,
        "hosts": topology.hosts.iter().map(host).collect::<Vec<_>>(),
        "switches": switches.collect::<Vec<_>>(),
        "memdevs": topology.memdevs.iter().map(memdev).collect::<Vec<_>>(),
        "links": links.collect::<Vec<_>>(),
    })
}

fn host(host: &Host) -> Value {
    let memories = host.memories.iter();
    let memories = memories
        .map(|memory| json!({ "class": memory.class, "capacity_bytes": memory.capacity.get() }));
    json!({
        "name": host.name,
        "root_ports": host.root_ports,
        "window_bytes": host.window.get(),
        "writes_back_no_clean_lines": host.writes_back_no_clean_lines,
        "takes_back_invalidates": host.takes_back_invalidates,
        "cache_lines": host.cache_lines,
        "memories": memories.collect::<Vec<_>>(),
    })
}

fn memdev(memdev: &Memdev) -> Value {
    let kind = match memdev.kind {
        MemdevKind::Sld => "sld",
        MemdevKind::Mld(_) => "mld",
        MemdevKind::MultiHeaded(_) => "multi-headed",
    };
    json!({
        "name": memdev.name,
        "serial": memdev.serial,
        "kind": kind,
        "logical_devices": memdev.kind.logical_devices(),
        "heads": memdev.kind.heads(),
        "class": memdev.class,
        "fixed_bytes": memdev.fixed.get(),
        "dynamic_bytes": memdev.dynamic.get(),
        "regions": memdev.regions.iter().map(region).collect::<Vec<_>>(),
    })
}

fn region(region: &Region) -> Value {
    let coherence = if region.is_hardware_coherent {
        "hardware"
    } else {
        "software"
    };
    json!({
        "length_bytes": region.length.get(),
        "block_bytes": region.block.get(),
        "sharable": region.is_sharable,
        "read_only": region.is_read_only,
        "sanitize": region.sanitizes,
        "coherence": coherence,
    })
}
