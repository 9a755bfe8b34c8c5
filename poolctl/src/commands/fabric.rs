//! `poolctl fabric`: topologies of the emulated fabric, with no daemon.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use fabric_emu::id::Port;
use fabric_emu::topology::limits::FILE_BYTES_MAX;
use fabric_emu::topology::{Host, Memdev, MemdevKind, READY_NAMES, Region, Topology, draw};
use serde_json::{Value, json};

use super::Written;
use crate::cli::Fabric;
use crate::error::CtlError;
use crate::output::Output;

pub(super) fn run(what: &Fabric, output: &mut Output) -> Result<(), CtlError> {
    let Fabric::Draw { topology, svg } = what;
    let topology = find(topology)?;
    match svg.as_deref() {
        None if output.is_json() => output.json(&told(&topology)),
        None => output.text(&draw::text(&topology)),
        Some(path) if path == Path::new("-") && output.is_json() => Err(CtlError::Combination {
            given: "--svg -",
            rule: "is no JSON",
        }),
        Some(path) if path == Path::new("-") => output.text(&draw::svg(&topology)),
        Some(path) => {
            fs::write(path, draw::svg(&topology)).map_err(|source| CtlError::File {
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

/// The ready topology of this name, or that of this file.
fn find(given: &Path) -> Result<Topology, CtlError> {
    let ready = READY_NAMES.iter().find(|name| given == Path::new(name));
    let read = match ready {
        Some(name) => Topology::named(name),
        None => {
            let text = text_of(given).map_err(|source| CtlError::NoTopology {
                given: given.display().to_string(),
                known: READY_NAMES.join(", "),
                source,
            })?;
            Topology::parse(&given.display().to_string(), &text)
        }
    };
    read.map_err(|error| CtlError::Topology(Box::new(error)))
}

/// One byte more than is allowed at most, so that a file without an end is refused and not read.
fn text_of(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let most = FILE_BYTES_MAX as u64 + 1;
    File::open(path)?.take(most).read_to_string(&mut text)?;
    Ok(text)
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
