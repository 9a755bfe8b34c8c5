//! Memory that the kernel gives to whoever asks, by node.

use core::ops::Range;

use pool_core::Bytes;
use pool_core::units::KIB;

use crate::sysfs::{Folder, Sysfs, SysfsError, in_order, names};

/// How far memory is, for whoever is nearest to it, as the platform says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Performance {
    /// Nanoseconds.
    pub read_latency: u64,
    /// Nanoseconds.
    pub write_latency: u64,
    /// MB/s.
    pub read_bandwidth: u64,
    /// MB/s.
    pub write_bandwidth: u64,
}

/// One node that has memory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// Its number.
    pub id: u32,
    /// Whether processors belong to it.
    pub has_cpus: bool,
    /// All of its memory that is online.
    pub total: Bytes,
    /// What of it is free.
    pub free: Bytes,
    /// The kernel's rank of it: memory moves down to higher numbers.
    pub tier: Option<u32>,
    /// How far it is, where the platform says so.
    pub performance: Option<Performance>,
}

impl Performance {
    /// What stands in a folder; `None` where the platform says nothing.
    pub(crate) fn read(folder: &Folder) -> Result<Option<Self>, SysfsError> {
        let figure = |name| folder.number(name);
        let (Some(read_latency), Some(write_latency)) =
            (figure("read_latency")?, figure("write_latency")?)
        else {
            return Ok(None);
        };
        let (Some(read_bandwidth), Some(write_bandwidth)) =
            (figure("read_bandwidth")?, figure("write_bandwidth")?)
        else {
            return Ok(None);
        };
        let figures = Self {
            read_latency,
            write_latency,
            read_bandwidth,
            write_bandwidth,
        };
        // A region without figures has zeros.
        Ok(Some(figures).filter(|it| it.read_latency != 0 || it.read_bandwidth != 0))
    }
}

impl Node {
    pub(crate) fn all(sysfs: &Sysfs) -> Result<Vec<Self>, SysfsError> {
        let tiers = tiers(sysfs)?;
        let folder = sysfs.folder("sys/devices/system/node");
        let mut found = Vec::new();
        for name in names(&folder.path)? {
            let id = name.strip_prefix("node").and_then(|id| id.parse().ok());
            if let Some(id) = id {
                let tier = tiers.iter().find(|(nodes, _)| contains(nodes, id));
                let (tier, folder) = (tier.map(|(_, tier)| *tier), folder.at(&name));
                found.extend(folder.whole(|| Self::read(id, tier, &folder))?);
            }
        }
        Ok(found)
    }

    /// One of them; `None` where it is gone, or has no memory.
    fn read(id: u32, tier: Option<u32>, folder: &Folder) -> Result<Option<Self>, SysfsError> {
        let Some(meminfo) = folder.text("meminfo")? else {
            return Ok(None);
        };
        let total = kib_of(&meminfo, "MemTotal:");
        let form = || folder.form("meminfo", &meminfo, "the memory of a node");
        let (total, free) = total.zip(kib_of(&meminfo, "MemFree:")).ok_or_else(form)?;
        if total == Bytes::ZERO {
            return Ok(None);
        }
        Ok(Some(Self {
            id,
            has_cpus: folder.text("cpulist")?.is_some_and(|cpus| !cpus.is_empty()),
            total,
            free,
            tier,
            performance: Performance::read(&folder.at("access0/initiators"))?,
        }))
    }
}

/// The amount behind `name` in lines as `Node 0 MemTotal:  1024 kB`.
fn kib_of(text: &str, name: &str) -> Option<Bytes> {
    let mut words = text.split_whitespace().skip_while(|word| *word != name);
    let kib: u64 = words.nth(1)?.parse().ok()?;
    kib.checked_mul(KIB).map(Bytes::new)
}

/// A tier of the kernel's: its nodes, and its rank.
type Tier = (Vec<Range<u32>>, u32);

/// The kernel's tiers.
fn tiers(sysfs: &Sysfs) -> Result<Vec<Tier>, SysfsError> {
    let folder = sysfs.folder("sys/devices/virtual/memory_tiering");
    let mut found = Vec::new();
    for name in names(&folder.path)? {
        if let ("memory_tier", [rank]) = (in_order(&name).0, &in_order(&name).1[..]) {
            let tier = folder.at(&name);
            let text = tier.text("nodelist")?.unwrap_or_default();
            let form = || tier.form("nodelist", &text, "a list of nodes");
            let nodes = ranges(&text).ok_or_else(form)?;
            found.push((nodes, u32::try_from(*rank).unwrap_or(u32::MAX)));
        }
    }
    Ok(found)
}

fn contains(ranges: &[Range<u32>], id: u32) -> bool {
    ranges.iter().any(|range| range.contains(&id))
}

/// A list as the kernel writes it: `0-1,3`.
fn ranges(text: &str) -> Option<Vec<Range<u32>>> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    let parts = parts.map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        Some(first..last.checked_add(1)?)
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_nodes_has_its_ends() {
        assert_eq!(ranges("0-1,3"), Some(vec![0..2, 3..4]));
        assert_eq!(ranges(""), Some(Vec::new()));
        assert_eq!(ranges("0-"), None);
        assert_eq!(ranges("0-4294967295"), None);
    }
}
