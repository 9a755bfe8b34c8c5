//! What is told of each part, in a few words.

use crate::topology::{Host, Link, Memdev, MemdevKind, Memory, Region, Switch, Topology};

/// `1 host`, `2 hosts`.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

pub(super) fn summary(topology: &Topology) -> String {
    [
        count(topology.hosts.len(), "host", "hosts"),
        count(topology.switches.len(), "switch", "switches"),
        count(topology.memdevs.len(), "memory device", "memory devices"),
        count(topology.links.len(), "link", "links"),
    ]
    .join(", ")
}

pub(super) fn host(host: &Host) -> Vec<String> {
    let mut words = vec![
        count(host.root_ports.into(), "root port", "root ports"),
        format!("window {}", host.window),
    ];
    if host.writes_back_no_clean_lines {
        words.push("no clean write-backs".to_owned());
    }
    if host.takes_back_invalidates {
        words.push("back-invalidates".to_owned());
    }
    words
}

pub(super) fn memory(memory: &Memory) -> String {
    format!("{} {}", memory.class, memory.capacity)
}

pub(super) fn switch(switch: &Switch) -> Vec<String> {
    vec![
        count(switch.ports.into(), "port", "ports"),
        count(switch.vppbs.into(), "vPPB", "vPPBs"),
    ]
}

pub(super) fn memdev(memdev: &Memdev) -> Vec<String> {
    let mut words = vec![
        memdev.class.clone(),
        match memdev.kind {
            MemdevKind::Sld => "SLD".to_owned(),
            MemdevKind::Mld(parts) => format!("MLD of {parts}"),
            MemdevKind::MultiHeaded(heads) => count(heads.into(), "head", "heads"),
        },
        format!("serial {:#x}", memdev.serial),
    ];
    words.extend(memdev.ld_limit.map(|limit| format!("{limit} a LD")));
    for (amount, what) in [(memdev.fixed, "fixed"), (memdev.dynamic, "dynamic")] {
        if amount.get() > 0 {
            words.push(format!("{amount} {what}"));
        }
    }
    words
}

pub(super) fn region(index: usize, region: &Region) -> Vec<String> {
    let mut words = vec![format!(
        "region {index}: {} in blocks of {}",
        region.length, region.block
    )];
    if region.is_sharable {
        let by = if region.is_hardware_coherent {
            "hardware"
        } else {
            "software"
        };
        words.push(format!("sharable, coherent by {by}"));
    }
    if region.is_read_only {
        words.push("read-only".to_owned());
    }
    if !region.sanitizes {
        words.push("not sanitized".to_owned());
    }
    words
}

pub(super) fn link(link: &Link) -> String {
    format!("x{} {} GT/s", link.lanes, link.gigatransfers)
}
