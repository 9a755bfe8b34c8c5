//! Regions, and the dax devices that they are cut into.

use core::ops::Range;

use pool_core::Bytes;

use crate::node::Performance;
use crate::sysfs::{Folder, Sysfs, SysfsError, in_order, names};

/// A range of a window that memdevs back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Region {
    /// Its name, as `region0`.
    pub name: String,
    /// The window it lies in.
    pub decoder: String,
    /// Its physical addresses.
    pub addresses: Range<u64>,
    /// Over how many memdevs in turn.
    pub ways: u32,
    /// How many bytes of each in turn.
    pub granularity: u32,
    /// Which sort of memory, as `ram`.
    pub mode: String,
    /// Its decoders are set: its addresses lead to memory.
    pub is_committed: bool,
    /// The driver has it.
    pub is_enabled: bool,
    /// The firmware made it, and the kernel does not take it away.
    pub is_locked: bool,
    /// The decoders of the endpoints, in turn.
    pub targets: Vec<String>,
    /// How far it is, where the platform says so.
    pub performance: Option<Performance>,
    /// What it is cut from into dax devices, where it is volatile.
    pub dax: Option<DaxRegion>,
}

/// A region as dax devices are cut from it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DaxRegion {
    /// Its number: that of its devices before the point.
    pub id: u32,
    /// All of it.
    pub bytes: Bytes,
    /// What no device has.
    pub available: Bytes,
    /// What lengths and places are multiples of.
    pub align: Bytes,
    /// The devices, by name.
    pub devices: Vec<DaxDevice>,
}

/// A file that is mapped, or memory of a node: what its driver makes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DaxDevice {
    /// Its name, as `dax0.1`: that of its file below `/dev`.
    pub name: String,
    /// How large it is; nothing while it was not cut yet.
    pub bytes: Bytes,
    /// What a mapping of it is a multiple of.
    pub align: Bytes,
    /// The node that it is, or would be.
    pub target_node: Option<u32>,
    /// Who has it: `device_dax` makes a file of it, `kmem` memory of the node.
    pub driver: Option<String>,
    /// The numbers of its file.
    pub file: Option<(u32, u32)>,
    /// What it is made of, in order.
    pub mappings: Vec<DaxMapping>,
}

/// A piece of a dax device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DaxMapping {
    /// Where in the device it begins, in pages.
    pub page_offset: u64,
    /// Its physical addresses.
    pub addresses: Range<u64>,
}

impl Region {
    pub(crate) fn all(sysfs: &Sysfs) -> Result<Vec<Self>, SysfsError> {
        sysfs.each("region", Self::read)
    }

    /// Whether it keeps what it holds, as no region of this project does.
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.mode == "pmem"
    }

    /// How large it is.
    #[must_use]
    pub const fn bytes(&self) -> Bytes {
        Bytes::new(self.addresses.end - self.addresses.start)
    }

    /// One of them; `None` where it is gone.
    fn read(name: String, folder: &Folder) -> Result<Option<Self>, SysfsError> {
        let Some(mode) = folder.text("mode")? else {
            return Ok(None);
        };
        let ways = folder.small("interleave_ways")?.unwrap_or(0);
        let mut targets = Vec::new();
        for position in 0..ways {
            targets.extend(folder.text(&format!("target{position}"))?);
        }
        targets.retain(|target| !target.is_empty());
        let bytes = folder.number("size")?.unwrap_or(0);
        let first = folder
            .number("resource")?
            .filter(|_| bytes != 0)
            .unwrap_or(0);
        Ok(Some(Self {
            decoder: folder.above(&["decoder"]).unwrap_or_default(),
            addresses: first..first.saturating_add(bytes),
            ways,
            granularity: folder.small("interleave_granularity")?.unwrap_or(0),
            mode,
            is_committed: folder.flag("commit")?,
            is_enabled: folder.link("driver")?.is_some(),
            // Older kernels say it of decoders alone.
            is_locked: folder.flag("locked")?,
            targets,
            performance: Performance::read(&folder.at("access0"))?,
            dax: dax_region(folder)?,
            name,
        }))
    }
}

fn dax_region(region: &Folder) -> Result<Option<DaxRegion>, SysfsError> {
    let folder = region.dax();
    folder.whole(|| read_dax_region(&folder))
}

fn read_dax_region(folder: &Folder) -> Result<Option<DaxRegion>, SysfsError> {
    let own = folder.at("dax_region");
    let Some(id) = own.small("id")? else {
        return Ok(None);
    };
    let mut devices = Vec::new();
    for name in names(&folder.path)? {
        if name.starts_with("dax") && name.contains('.') {
            let device = folder.at(&name);
            devices.extend(device.whole(|| DaxDevice::read(&name, &device))?);
        }
    }
    Ok(Some(DaxRegion {
        id,
        bytes: own.bytes("size")?,
        available: own.bytes("available_size")?,
        align: own.bytes("align")?,
        devices,
    }))
}

impl DaxDevice {
    /// Its number among those of its region. The first one, 0, is there for as long as the region
    /// is, with memory or without; all others were cut.
    #[must_use]
    pub fn index(&self) -> Option<u64> {
        in_order(&self.name).1.get(1).copied()
    }

    /// Whether it is the one that a region always has.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.index() == Some(0)
    }

    /// One of them; `None` where it is gone.
    pub(crate) fn read(name: &str, folder: &Folder) -> Result<Option<Self>, SysfsError> {
        let Some(bytes) = folder.number("size")? else {
            return Ok(None);
        };
        let file = folder.text("dev")?;
        let file = file.as_deref().and_then(|text| {
            let (major, minor) = text.split_once(':')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        });
        Ok(Some(Self {
            name: name.to_owned(),
            bytes: Bytes::new(bytes),
            align: folder.bytes("align")?,
            target_node: folder.small("target_node")?,
            driver: folder.link("driver")?,
            file,
            mappings: mappings(folder)?,
        }))
    }
}

fn mappings(device: &Folder) -> Result<Vec<DaxMapping>, SysfsError> {
    let mut found = Vec::new();
    for name in names(&device.path)? {
        let ("mapping", [_]) = (in_order(&name).0, &in_order(&name).1[..]) else {
            continue;
        };
        let folder = device.at(&name);
        let (start, end) = (folder.number("start")?, folder.number("end")?);
        let Some((start, last)) = start.zip(end) else {
            continue;
        };
        let form = || folder.form("end", &last.to_string(), "an end of a mapping");
        found.push(DaxMapping {
            page_offset: folder.number("page_offset")?.unwrap_or(0),
            addresses: start..last.checked_add(1).ok_or_else(form)?,
        });
    }
    Ok(found)
}
