//! The daemon's configuration: a TOML file, or what suits the machine where there is none.
//!
//! A file is read once, at start, and checked in full before anything is done: each value against
//! its bounds when it is read ([`Config::load`]), and what depends on the machine or on other
//! values when the plan is made ([`Config::plan`]). Keys that nobody knows are refused. An error
//! names the key, the value, what is allowed, and the place in the file.
//!
//! `pool-daemon config` prints the configuration in force with a comment to each key; what it
//! prints reads as the same configuration.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use pool_core::{Bytes, Nanos, WindowRange};

pub use crate::device::memfd::PagePolicy;
use crate::discover::Machine;
use crate::engine::plan::{Plan, Quota, TenantPlan};

mod defaults;
mod directories;
mod error;
mod parse;
mod plan;
mod print;
mod reader;

pub use directories::DirectoryError;
pub use error::ConfigError;
pub use reader::Place;

/// Sizes of devices, by their names.
pub type Sizes = BTreeMap<String, Bytes>;

/// The longest file that is read. Every list in it has a bound far below this.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Everything an operator may choose.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[daemon]`: the process itself.
    pub daemon: Daemon,
    /// `[window]`: the virtual range of the pool.
    pub window: WindowRange,
    /// `[[tier]]`: their names, fastest first. With no tier and no device, those of the machine.
    pub tiers: Vec<String>,
    /// `[[device]]`: the memory of the tiers.
    pub devices: Vec<Device>,
    /// `[[tenant]]`: who is known by name.
    pub tenants: Vec<TenantPlan>,
    /// `[default_tenant]`: everybody else.
    pub default_tenant: DefaultTenant,
    /// `[grpc]`: operators' calls over TCP, where there are to be any.
    pub grpc: Option<Grpc>,
    /// `[metrics]`: metrics over TCP, where there are to be any.
    pub metrics_listen: Option<SocketAddr>,
    /// Each value as it was written, by its key, for errors that show only with the plan.
    written: BTreeMap<String, reader::Written>,
}

/// The process itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// Where the sockets are.
    pub runtime_dir: PathBuf,
    /// Where the journal is.
    pub state_dir: PathBuf,
    /// The socket that clients attach to.
    pub session_socket: PathBuf,
    /// The socket that operators call.
    pub admin_socket: PathBuf,
    /// Mode of the session socket.
    pub session_mode: u32,
    /// Where descriptors wait while the daemon is dead.
    pub descriptor_store: DescriptorStoreChoice,
    /// What a clean stop does with what is granted.
    pub on_stop: OnStop,
    /// How long a restarted daemon waits for the clients of before.
    pub reattach_grace: Nanos,
    /// How long tenants have to give burst memory back before it is revoked.
    pub pressure_deadline: Nanos,
    /// Memory that is left to the rest of the machine, whatever the pool may have.
    pub memory_floor: Bytes,
    /// User ids, besides root and the daemon's own, that may change the pool.
    pub operators: Vec<u32>,
    /// What is logged, as `info` or `warn,pool_daemon::engine=debug`.
    pub log: String,
    /// How it is logged.
    pub log_format: LogFormat,
}

/// Where descriptors wait while the daemon is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DescriptorStoreChoice {
    /// The service manager where it offers a store, else a keeper.
    Auto,
    /// The service manager.
    Systemd,
    /// A small process of our own.
    Keeper,
    /// The clients alone: what nobody has attached is lost with the daemon.
    Clients,
}

/// What a clean stop does with what is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStop {
    /// Nothing: the next daemon takes it up again.
    Keep,
    /// Everything is freed, and the journal with it.
    Release,
}

/// How lines are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A piece of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Unique among the devices.
    pub name: String,
    /// The name of its tier.
    pub tier: String,
    /// Its size: whole extents.
    pub size: Bytes,
    /// Ordinary DRAM that stands for something else.
    pub emulated: bool,
    /// What it is made of.
    pub kind: DeviceKind,
}

/// What a device is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceKind {
    /// Anonymous memory of the machine.
    Memfd {
        /// Which pages it gives.
        pages: PagePolicy,
        /// The node it is bound to.
        numa_node: Option<u32>,
    },
    /// Files in a directory of a file system, DAX or ordinary.
    File {
        /// The directory, the daemon's alone.
        directory: PathBuf,
    },
    /// Capacity that an emulated fabric adds and takes away.
    Fabric(FabricSource),
    /// A region of CXL memory that the kernel drives.
    Cxl(CxlSource),
}

/// A region of CXL memory that the kernel drives, and what is made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CxlSource {
    /// The devices that it lies on, by their serial numbers, in turn.
    pub serials: Vec<u64>,
    /// What becomes of it.
    pub mode: CxlMode,
    /// How large it is.
    pub size: Bytes,
    /// Other hosts have the same memory: it is one segment or none, and is never zeroed. With
    /// [`CxlMode::DevDax`] only.
    pub shared: bool,
}

/// What becomes of a region of CXL memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CxlMode {
    /// Each file is a dax device of its own, cut from the region.
    DevDax,
    /// It is a node of the machine's memory, whose pages can be moved; files are bound to it.
    Kmem,
}

/// Where a device gets capacity from, and how it deals with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FabricSource {
    /// The directory that the fabric is served in.
    pub directory: PathBuf,
    /// The number of this host in it.
    pub host: u16,
    /// The number of the memory device.
    pub memdev: u16,
    /// The logical device that is this host's way in.
    pub ld: u16,
    /// The region of dynamic capacity.
    pub region: u8,
    /// It is that of groups, which hosts share: each is asked for as a whole, and none ahead.
    pub shared: bool,
    /// So much is asked for at once.
    pub step: Bytes,
    /// More is asked for where less is free.
    pub low: Bytes,
    /// What is free beyond that goes back when it has lain idle.
    pub high: Bytes,
    /// For so long.
    pub idle: Nanos,
    /// A device that is not reached for so long is taken for lost.
    pub patience: Nanos,
}

/// Everybody whom no configured tenant lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultTenant {
    /// Whether they may attach at all.
    pub admit_unlisted: bool,
    /// What each may use; a tier that is missing has the request `0 %` and the limit `100 %`.
    pub quotas: BTreeMap<String, Quota>,
}

/// Operators' calls over TCP, each proven by a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grpc {
    /// Where to listen.
    pub tcp_listen: SocketAddr,
    /// The daemon's certificate chain, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Who signs the certificates of operators, PEM.
    pub client_ca: PathBuf,
}

impl Config {
    /// The configuration of a machine without a file: an emulated pool of half the memory, written
    /// out.
    ///
    /// # Errors
    /// [`ConfigError::MachineTooSmall`] where that is too little to be of use.
    pub fn default_for(machine: &Machine) -> Result<Self, ConfigError> {
        Ok(Self {
            tiers: defaults::TIERS.map(str::to_owned).to_vec(),
            devices: defaults::devices(machine, &Sizes::new())?,
            ..Self::without_file(machine)?
        })
    }

    /// The same, with devices that are found when the plan is made.
    ///
    /// # Errors
    /// As [`Self::parse`] of an empty file: none.
    pub fn without_file(machine: &Machine) -> Result<Self, ConfigError> {
        Ok(Self {
            daemon: Daemon::default_for(machine),
            ..Self::parse("the defaults", "")?
        })
    }

    /// Reads the file at `path`. Keys that it leaves out have the defaults of a system service.
    ///
    /// # Errors
    /// [`ConfigError`] for the first thing in it that cannot be.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read {
            path: path.to_owned(),
            source,
        };
        let bytes = fs::metadata(path).map_err(failed)?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(failed(std::io::ErrorKind::FileTooLarge.into()));
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Reads `text`; `file` names it in errors.
    ///
    /// # Errors
    /// [`ConfigError`] for the first thing in it that cannot be.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        parse::document(file, text)
    }

    /// What the engine and the device back ends are told, the devices in the plan's order.
    ///
    /// # Errors
    /// [`ConfigError`] where the configuration does not fit the machine, or itself.
    pub fn plan(&self, machine: &Machine) -> Result<(Plan, Vec<DeviceSpec>), ConfigError> {
        self.plan_again(machine, &Sizes::new())
    }

    /// The same for a pool that was there before: devices that nobody configured keep the sizes
    /// that they had. What is granted of them is not available on the machine any more, and would
    /// make them smaller with each start.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub fn plan_again(
        &self,
        machine: &Machine,
        before: &Sizes,
    ) -> Result<(Plan, Vec<DeviceSpec>), ConfigError> {
        plan::plan(self, machine, before)
    }

    /// The configuration as a file with a comment to each key.
    #[must_use]
    pub fn to_toml(&self) -> String {
        print::print(self)
    }

    /// Whether some of the memory outlives the machine's power, and the journal has to as well.
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.devices
            .iter()
            .any(|device| matches!(device.kind, DeviceKind::File { .. }))
    }
}

/// What the back end of one device is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceSpec {
    /// Anonymous memory.
    Memfd {
        /// Which pages it gives.
        pages: PagePolicy,
        /// The node it is bound to.
        numa_node: Option<u32>,
        /// Its size: whole extents.
        size: Bytes,
    },
    /// Files in a directory.
    File {
        /// The directory.
        directory: PathBuf,
        /// Its size: whole extents.
        size: Bytes,
    },
    /// Capacity of an emulated fabric.
    Fabric(FabricSource),
    /// A region of CXL memory that the kernel drives.
    Cxl(CxlSource),
}
