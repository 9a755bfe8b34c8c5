//! From a configuration to a running daemon: everything is put together here, in the order of its
//! needs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::Context as _;
use kernel_cxl::Sysfs;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pool_core::Extents;
use pool_core::sync::Arc;
use pool_proto::admin::v1::DoctorReport;
use pool_proto::journal::v1::DeviceRow;
use sd_notify::NotifyState;
use tracing_subscriber::EnvFilter;

use crate::config::{Config, DescriptorStoreChoice, DeviceSpec, LogFormat, OnStop, Sizes};
use crate::device::Device;
use crate::device::builder::STOCK_TARGET;
use crate::device::claim::{ClaimError, Claims, this_daemon};
use crate::device::cxl::{self, CxlRegion};
use crate::device::fabric::FabricDevice;
use crate::device::file::FileDevice;
use crate::device::memfd::MemfdDevice;
use crate::device::regions::{Holder, Regions};
use crate::discover::Machine;
use crate::doctor;
use crate::engine::plan::DevicePlan;
use crate::journal::database::{DatabaseJournal, Durability};
use crate::journal::{Journal as _, Rows};
use crate::reactor::{self, Doctor, Reactor, Setup};
use crate::server::handle::Handle;
use crate::server::metrics::Metrics;
use crate::server::{self, ServerConfig, ServerThread, TcpConfig};
use crate::store::DescriptorStore;
use crate::store::keeper::Keeper;
use crate::store::none::ClientsOnly;
use crate::store::systemd::ServiceManager;

/// Operators' events that a slow stream may be behind before it loses the oldest.
const EVENTS_BEHIND_MAX: NonZeroU16 = NonZeroU16::new(1_024).unwrap();

/// A daemon that has taken its pool up and listens, but has not served anybody yet.
#[derive(Debug)]
pub struct Service {
    reactor: Reactor,
    servers: ServerThread,
    /// No other daemon uses the runtime directory meanwhile.
    runtime_dir: OwnedFd,
    /// Nor the hosts of fabrics that this one speaks for.
    claims: Claims,
}

/// Where the journal of a configuration lies.
#[must_use]
pub fn journal_path(config: &Config) -> PathBuf {
    config.daemon.state_dir.join("journal.redb")
}

/// What a commit must survive: what the memory survives that it speaks of.
#[must_use]
pub fn durability(config: &Config) -> Durability {
    if config.is_persistent() {
        Durability::Power
    } else {
        Durability::Process
    }
}

/// Sets everything up, up to open sockets.
///
/// # Errors
/// With what is in the way, and what to do about it.
pub fn prepare(config: &Config, machine: &Machine) -> anyhow::Result<Service> {
    start_log(config)?;
    raise_descriptor_limit();
    pool_core::mem::survive_pulled().context("memory that is pulled would end the daemon")?;
    // The one provider of cryptography in the tree; a second call finds it there.
    drop(rustls::crypto::ring::default_provider().install_default());
    config.daemon.make_directories()?;
    let runtime_dir = config.daemon.lock_runtime_dir()?;
    let path = journal_path(config);
    let mut journal = DatabaseJournal::open(&path, durability(config), &machine.boot_id)?;
    let rows = journal.load()?;
    let (plan, specs) = config.plan_again(machine, &sizes(&rows))?;
    let claims = claim_hosts(&specs, config)?;
    let BackEnds { devices, regions } =
        back_ends((&plan.devices, &specs), &removed(&rows), config)?;
    let fabric = |(device, spec): (&DevicePlan, &DeviceSpec)| match spec {
        DeviceSpec::Fabric(source) => Some((device.name.clone(), source.clone())),
        DeviceSpec::Memfd { .. } | DeviceSpec::File { .. } | DeviceSpec::Cxl(_) => None,
    };
    let fabrics = plan.devices.iter().zip(&specs).filter_map(fabric);
    let fabrics: BTreeMap<_, _> = fabrics.collect();
    let store = descriptor_store(config)?;
    let (handle, inbox) = Handle::new(EVENTS_BEHIND_MAX)?;
    let metrics = Arc::new(Metrics::new());
    let on_stop = match config.daemon.on_stop {
        OnStop::Keep => reactor::OnStop::Keep,
        OnStop::Release => reactor::OnStop::Release {
            devices: devices.values().cloned().collect(),
            fabrics: fabrics.values().cloned().collect(),
            journal: path,
        },
    };
    let setup = Setup {
        plan,
        devices,
        fabrics,
        operated: operated(&regions),
        regions,
        stock: STOCK_TARGET,
        journal: Box::new(journal),
        boot_id: machine.boot_id.clone(),
        session_socket: config.daemon.session_socket.clone(),
        session_mode: config.daemon.session_mode,
        inbox,
        metrics: Arc::clone(&metrics),
        doctor: doctor_of(config, machine, store.kind()),
        store,
        on_stop,
    };
    let reactor = Reactor::start(setup)?;
    let servers = server::spawn(&server_config(config), handle, metrics)?;
    Ok(Service {
        reactor,
        servers,
        runtime_dir,
        claims,
    })
}

impl Service {
    /// Serves until it is told to stop.
    ///
    /// # Errors
    /// Where something failed that it cannot do without. Granted memory stays with its clients.
    pub fn serve(self) -> anyhow::Result<()> {
        let Self {
            reactor,
            servers,
            runtime_dir,
            claims,
        } = self;
        sd_notify::notify(&[NotifyState::Ready, NotifyState::Status("serving")])?;
        tracing::info!("serving");
        let served = reactor.run(|| !servers.has_ended());
        sd_notify::notify(&[NotifyState::Stopping])?;
        servers.stop()?;
        drop((claims, runtime_dir));
        Ok(served?)
    }
}

/// The sizes that the journal's devices were given at first; those that operators gave them later
/// are the journal's alone.
fn sizes(rows: &Rows) -> Sizes {
    let bytes = |row: &DeviceRow| Extents::new(row.configured_extents).bytes();
    let rows = rows.devices.iter();
    rows.map(|row| (row.name.clone(), bytes(row))).collect()
}

/// The devices that operators have taken out of the pool.
fn removed(rows: &Rows) -> BTreeSet<String> {
    let removed = rows.devices.iter().filter(|row| row.removed);
    removed.map(|row| row.name.clone()).collect()
}

/// Keeps other daemons away from the hosts that this one is given.
fn claim_hosts(specs: &[DeviceSpec], config: &Config) -> Result<Claims, ClaimError> {
    let sources = specs.iter().filter_map(|spec| match spec {
        DeviceSpec::Fabric(source) => Some(source),
        DeviceSpec::Memfd { .. } | DeviceSpec::File { .. } | DeviceSpec::Cxl(_) => None,
    });
    Claims::take(sources, &this_daemon(&config.daemon.runtime_dir))
}

/// What devices are made of, by the devices' names.
#[derive(Default)]
struct BackEnds {
    devices: BTreeMap<String, Arc<dyn Device>>,
    regions: BTreeMap<String, Arc<CxlRegion>>,
}

fn back_ends(
    (plans, specs): (&[DevicePlan], &[DeviceSpec]),
    removed: &BTreeSet<String>,
    config: &Config,
) -> anyhow::Result<BackEnds> {
    let mut all = BackEnds::default();
    for (plan, spec) in plans.iter().zip(specs) {
        let name = || plan.name.clone();
        let of_device = || format!("device {}", plan.name);
        let device: Arc<dyn Device> = match spec {
            DeviceSpec::Memfd {
                pages, numa_node, ..
            } => {
                let floor = config.daemon.memory_floor;
                let device = MemfdDevice::new(*pages, *numa_node, floor);
                Arc::new(device.with_context(of_device)?)
            }
            DeviceSpec::File { directory, .. } => {
                Arc::new(FileDevice::open(directory).with_context(of_device)?)
            }
            DeviceSpec::Fabric(source) => Arc::new(FabricDevice::new(source.clone())),
            DeviceSpec::Cxl(source) => {
                let (device, region) =
                    cxl::open(source, removed.contains(&plan.name)).with_context(of_device)?;
                all.regions.insert(name(), region);
                device
            }
        };
        all.devices.insert(name(), device);
    }
    Ok(all)
}

/// What operators see and change of CXL memory, with the devices that lie on it.
fn operated(regions: &BTreeMap<String, Arc<CxlRegion>>) -> Regions {
    let holder = |(name, region): (&String, &Arc<CxlRegion>)| {
        let region: Arc<dyn Holder> = Arc::clone(region) as _;
        (name.clone(), region)
    };
    Regions::new(Sysfs::here(), regions.iter().map(holder).collect())
}

fn descriptor_store(config: &Config) -> anyhow::Result<Box<dyn DescriptorStore>> {
    let of_manager = || ServiceManager::from_environment().map(|store| Box::new(store) as Box<_>);
    match config.daemon.descriptor_store {
        DescriptorStoreChoice::Systemd => of_manager().context(
            "daemon.descriptor_store = \"systemd\", and no service manager offers its \
             store: set FileDescriptorStoreMax=",
        ),
        DescriptorStoreChoice::Clients => Ok(Box::new(ClientsOnly)),
        DescriptorStoreChoice::Auto => of_manager().map_or_else(|| keeper(config), Ok),
        DescriptorStoreChoice::Keeper => keeper(config),
    }
}

fn keeper(config: &Config) -> anyhow::Result<Box<dyn DescriptorStore>> {
    let binary = std::env::current_exe().context("where is this program")?;
    Ok(Box::new(Keeper::connect_or_spawn(
        &config.daemon.runtime_dir,
        &binary,
    )?))
}

fn server_config(config: &Config) -> ServerConfig {
    let tcp = config.grpc.as_ref().map(|grpc| TcpConfig {
        listen: grpc.tcp_listen,
        cert: grpc.cert.clone(),
        key: grpc.key.clone(),
        client_ca: grpc.client_ca.clone(),
    });
    ServerConfig {
        admin_socket: config.daemon.admin_socket.clone(),
        metrics_socket: config.daemon.runtime_dir.join("metrics.sock"),
        operators: config.daemon.operators.clone(),
        tcp,
        metrics_listen: config.metrics_listen,
    }
}

fn doctor_of(config: &Config, machine: &Machine, store: &'static str) -> Doctor {
    let (config, machine) = (config.clone(), machine.clone());
    Doctor::new(move || DoctorReport {
        findings: doctor::examine(&machine, &config, store),
    })
}

fn start_log(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.daemon.log).with_context(|| {
        format!(
            "daemon.log = \
     {:?}",
            config.daemon.log
        )
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let started = match config.daemon.log_format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("the log cannot be started: {error}"))
}

/// Each backing and each client takes a descriptor: as many as the system allows.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(errno) = raised {
        tracing::warn!(%errno, "the limit of descriptors stays as it is");
    }
}
