//! What a fabric is made of, and how it is connected. Plain data: what a file of a topology says,
//! once it was checked.
//!
//! [`Topology::parse`] reads a file, whose keys and defaults `file` describes, and
//! [`Topology::to_toml`] writes one. [`Topology::check`] says what is wrong with a topology,
//! wherever it comes from, within the [`limits`]. [`Topology::named`] has those that need no file,
//! [`shapes`] makes them of any size, and [`draw`] shows them.

pub mod draw;
pub mod error;
pub mod file;
pub mod limits;
pub mod shapes;

mod check;
mod nodes;
mod parse;
mod print;
mod ready;
mod wiring;

use pool_core::Bytes;

use crate::id::Port;
use crate::timing::Rate;

pub use error::TopologyError;
pub use ready::READY_NAMES;

/// A fabric, as it is before anything happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// What it is called.
    pub name: String,
    /// By [`HostId`](crate::id::HostId).
    pub hosts: Vec<Host>,
    /// By [`SwitchId`](crate::id::SwitchId).
    pub switches: Vec<Switch>,
    /// By [`MemdevId`](crate::id::MemdevId).
    pub memdevs: Vec<Memdev>,
    /// Each port has one at most.
    pub links: Vec<Link>,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// What it is called; no other part of the fabric is called so.
    pub name: String,
    /// How many root ports it has.
    pub root_ports: u8,
    /// How many addresses it sets aside for memory of the fabric.
    pub window: Bytes,
    /// Whether its caches write no clean lines back (the NCW capability of CXL 3.x).
    pub writes_back_no_clean_lines: bool,
    /// Whether devices may have lines back from its caches (HDM-DB).
    pub takes_back_invalidates: bool,
    /// Lines that its caches hold of the fabric's memory.
    pub cache_lines: u32,
    /// Memory that is its own.
    pub memories: Vec<Memory>,
}

/// Memory of a host that is not on the fabric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Which class of the timing table it is of, as `hbm`, `ddr` or `nvme`.
    pub class: String,
    /// How much.
    pub capacity: Bytes,
}

/// A switch. Each port that leads to a host is the upstream port of a virtual switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    /// What it is called.
    pub name: String,
    /// How many physical ports it has.
    pub ports: u8,
    /// How many virtual bridges each of its virtual switches has.
    pub vppbs: u8,
}

/// What kind of memory device it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemdevKind {
    /// One logical device behind one port.
    Sld,
    /// So many logical devices behind one port, 16 at most.
    Mld(u8),
    /// As many logical devices as heads, each head with one of them.
    MultiHeaded(u8),
}

/// A memory device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memdev {
    /// What it is called.
    pub name: String,
    /// Its serial number; no other device has it.
    pub serial: u64,
    /// How many logical devices and heads it has.
    pub kind: MemdevKind,
    /// Which class of the timing table its media and controller are of, as `cxl-x8`.
    pub class: String,
    /// What each logical device may move, where it may not move all that the device can.
    pub ld_limit: Option<Rate>,
    /// Memory that is there from the start, of all logical devices together, in equal parts.
    pub fixed: Bytes,
    /// Memory that is added and released, of all logical devices together.
    pub dynamic: Bytes,
    /// How each logical device may see that memory: 8 at most.
    pub regions: Vec<Region>,
}

/// A region of dynamic capacity, as each logical device has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// How many addresses of a logical device it takes, of which capacity may be at as many.
    pub length: Bytes,
    /// The unit in which it is added, a power of two.
    pub block: Bytes,
    /// Whether several hosts may have the same capacity.
    pub is_sharable: bool,
    /// Whether hosts only read it.
    pub is_read_only: bool,
    /// Whether capacity is zeroed before it is added to another host.
    pub sanitizes: bool,
    /// Whether the hardware keeps caches of several hosts the same.
    pub is_hardware_coherent: bool,
}

/// A cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The end that is nearer to a host.
    pub up: Port,
    /// The other one.
    pub down: Port,
    /// Lanes: 1, 2, 4, 8 or 16.
    pub lanes: u8,
    /// Transfers a second of each lane, in units of 10^9: 8, 16, 32 or 64.
    pub gigatransfers: u8,
}
