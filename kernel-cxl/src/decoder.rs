//! What maps physical addresses to what lies below a port.

use core::ops::Range;

use pool_core::Bytes;

use crate::sysfs::{Folder, Sysfs, SysfsError, parse};

/// Of what a decoder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecoderKind {
    /// Of a root: a window.
    Root,
    /// Of a host bridge or a switch.
    Switch,
    /// Of a memdev.
    Endpoint,
}

/// One decoder.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decoder {
    /// Its name, as `decoder0.0`.
    pub name: String,
    /// Of what it is.
    pub kind: DecoderKind,
    /// The port it belongs to.
    pub port: String,
    /// The physical addresses it maps; empty where it is not in use.
    pub addresses: Range<u64>,
    /// Over how many targets in turn.
    pub ways: u32,
    /// How many bytes of each in turn.
    pub granularity: u32,
    /// The targets, by the numbers of the port's ways down.
    pub targets: Vec<u64>,
    /// The region it is part of.
    pub region: Option<String>,
    /// Of an endpoint: which of the device's own addresses it maps to.
    pub dpa: Option<Range<u64>>,
    /// Of an endpoint: which sort of memory that is, as `ram`.
    pub mode: Option<String>,
    /// Of a window: whether volatile memory may be mapped there.
    pub takes_ram: bool,
    /// Of a window: whether persistent memory may be mapped there.
    pub takes_pmem: bool,
    /// Of a window: its class of service.
    pub qos_class: Option<u32>,
    /// The firmware made it, and the kernel does not change it.
    pub is_locked: bool,
}

impl Decoder {
    pub(crate) fn all(sysfs: &Sysfs) -> Result<Vec<Self>, SysfsError> {
        sysfs.each("decoder", Self::read)
    }

    /// How much it maps.
    #[must_use]
    pub const fn bytes(&self) -> Bytes {
        Bytes::new(self.addresses.end - self.addresses.start)
    }

    /// One of them; `None` where it is gone.
    fn read(name: String, folder: &Folder) -> Result<Option<Self>, SysfsError> {
        let kind = match folder.text("devtype")?.as_deref() {
            Some("cxl_decoder_root") => DecoderKind::Root,
            Some("cxl_decoder_switch") => DecoderKind::Switch,
            Some("cxl_decoder_endpoint") => DecoderKind::Endpoint,
            Some(other) => return Err(folder.form("devtype", other, "a kind of decoder")),
            None => return Ok(None),
        };
        let is_endpoint = kind == DecoderKind::Endpoint;
        let is_root = kind == DecoderKind::Root;
        let mode = folder.text("mode")?.filter(|mode| mode != "none");
        Ok(Some(Self {
            name,
            kind,
            port: folder
                .above(&["root", "port", "endpoint"])
                .unwrap_or_default(),
            addresses: range(folder, "start", "size")?,
            ways: folder.small("interleave_ways")?.unwrap_or(1),
            granularity: folder.small("interleave_granularity")?.unwrap_or(0),
            targets: targets(folder)?,
            region: folder.text("region")?.filter(|region| !region.is_empty()),
            dpa: is_endpoint
                .then(|| range(folder, "dpa_resource", "dpa_size"))
                .transpose()?
                .filter(|range| !range.is_empty()),
            mode,
            takes_ram: is_root && folder.flag("cap_ram")?,
            takes_pmem: is_root && folder.flag("cap_pmem")?,
            qos_class: folder.small("qos_class")?,
            is_locked: folder.flag("locked")?,
        }))
    }
}

/// A range whose start and length stand in two files; empty where it is not set.
fn range(folder: &Folder, start: &str, size: &str) -> Result<Range<u64>, SysfsError> {
    let bytes = folder.number(size)?.unwrap_or(0);
    if bytes == 0 {
        return Ok(0..0);
    }
    let first = folder.number(start)?.unwrap_or(0);
    let end = first.checked_add(bytes);
    let form = || {
        folder.form(
            size,
            &bytes.to_string(),
            "a length within the address space",
        )
    };
    end.map(|end| first..end).ok_or_else(form)
}

fn targets(folder: &Folder) -> Result<Vec<u64>, SysfsError> {
    let Some(text) = folder.text("target_list")? else {
        return Ok(Vec::new());
    };
    let numbers = text.split(',').filter(|part| !part.is_empty());
    let numbers: Option<Vec<u64>> = numbers.map(parse).collect();
    numbers.ok_or_else(|| folder.form("target_list", &text, "a list of numbers"))
}
