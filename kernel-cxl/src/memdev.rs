//! Devices with memory.

use pool_core::Bytes;

use crate::sysfs::{Folder, Sysfs, SysfsError, in_order, names};

/// One device with memory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memdev {
    /// Its name until it is unplugged or the machine starts again, as `mem0`.
    pub name: String,
    /// Its serial number, which stays.
    pub serial: u64,
    /// Where it is plugged in, as `0000:0d:00.0`.
    pub host: String,
    /// Its volatile memory.
    pub ram: Bytes,
    /// Its persistent memory.
    pub pmem: Bytes,
    /// The class of service that the platform would have for its volatile memory.
    pub ram_qos_class: Option<u32>,
    /// What it runs.
    pub firmware: String,
    /// The node that it is near to, where the platform says so.
    pub numa_node: Option<u32>,
    /// The driver has it. Without, nothing of it can be used.
    pub is_enabled: bool,
}

impl Memdev {
    pub(crate) fn all(sysfs: &Sysfs) -> Result<Vec<Self>, SysfsError> {
        sysfs.each("mem", Self::read)
    }

    /// One of them; `None` where it is gone.
    fn read(name: String, folder: &Folder) -> Result<Option<Self>, SysfsError> {
        let Some(serial) = folder.number("serial")? else {
            return Ok(None);
        };
        Ok(Some(Self {
            name,
            serial,
            host: folder
                .parent()
                .map(|parent| parent.name())
                .unwrap_or_default(),
            ram: folder.bytes("ram/size")?,
            pmem: folder.bytes("pmem/size")?,
            ram_qos_class: folder.small("ram/qos_class")?,
            firmware: folder.text("firmware_version")?.unwrap_or_default(),
            numa_node: folder.small("numa_node")?,
            is_enabled: folder.link("driver")?.is_some(),
        }))
    }
}

impl Sysfs {
    /// The first of these serial numbers that no device has now. Nothing but those of devices is
    /// read, so that it can be asked for again and again.
    ///
    /// # Errors
    /// Where a file cannot be read, or holds no number.
    pub fn missing(&self, serials: &[u64]) -> Result<Option<u64>, SysfsError> {
        let links = self.folder("sys/bus/cxl/devices");
        let mut there = Vec::new();
        for name in names(&links.path)? {
            if in_order(&name).0 == "mem" {
                there.extend(links.at(&name).number("serial")?);
            }
        }
        let mut missing = serials.iter().filter(|serial| !there.contains(serial));
        Ok(missing.next().copied())
    }
}
