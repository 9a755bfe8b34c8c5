//! All that there is at one moment.

use crate::decoder::{Decoder, DecoderKind};
use crate::memdev::Memdev;
use crate::node::Node;
use crate::port::{Port, PortKind};
use crate::region::{DaxDevice, Region};
use crate::sysfs::{Sysfs, SysfsError};

/// All that there is, as the kernel showed it. Devices that came or went while it was read are left
/// out, and others may name them: whoever acts on it finds out by the kernel's answer. Those that
/// are told were there from the first of their files to the last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Topology {
    /// Devices with memory, by name.
    pub memdevs: Vec<Memdev>,
    /// What they are reached through, by name.
    pub ports: Vec<Port>,
    /// What maps addresses to them, by name.
    pub decoders: Vec<Decoder>,
    /// What is mapped, by name.
    pub regions: Vec<Region>,
    /// Nodes that have memory, by number.
    pub nodes: Vec<Node>,
}

impl Topology {
    /// Reads it.
    ///
    /// # Errors
    /// Where a file cannot be read, or has another form than on the kernels we know. A kernel
    /// without CXL has an empty topology.
    pub fn read(sysfs: &Sysfs) -> Result<Self, SysfsError> {
        Ok(Self {
            memdevs: Memdev::all(sysfs)?,
            ports: Port::all(sysfs)?,
            decoders: Decoder::all(sysfs)?,
            regions: Region::all(sysfs)?,
            nodes: Node::all(sysfs)?,
        })
    }

    /// The device with this serial number.
    #[must_use]
    pub fn memdev_of(&self, serial: u64) -> Option<&Memdev> {
        self.memdevs.iter().find(|it| it.serial == serial)
    }

    /// The endpoint of a memdev, where it has been found behind a window.
    #[must_use]
    pub fn endpoint_of(&self, memdev: &Memdev) -> Option<&Port> {
        let is_it = |port: &&Port| port.kind == PortKind::Endpoint && port.host == memdev.name;
        self.ports.iter().find(is_it)
    }

    /// The memdev that a decoder of an endpoint belongs to.
    #[must_use]
    pub fn memdev_behind(&self, decoder: &str) -> Option<&Memdev> {
        let decoder = self.decoders.iter().find(|it| it.name == decoder)?;
        let port = self.ports.iter().find(|it| it.name == decoder.port)?;
        self.memdevs.iter().find(|it| it.name == port.host)
    }

    /// The windows.
    pub fn windows(&self) -> impl Iterator<Item = &Decoder> {
        let all = self.decoders.iter();
        all.filter(|it| it.kind == DecoderKind::Root)
    }

    /// The dax devices of all regions.
    pub fn dax_devices(&self) -> impl Iterator<Item = &DaxDevice> {
        let regions = self.regions.iter().filter_map(|it| it.dax.as_ref());
        regions.flat_map(|dax| &dax.devices)
    }
}

impl Sysfs {
    /// Whether the kernel has a CXL bus, with devices or without.
    #[must_use]
    pub fn has_cxl(&self) -> bool {
        self.path("sys/bus/cxl").is_dir()
    }
}
