//! A daemon without memory: the real servers, and an engine that is a function.
//!
//! The engine's thread waits on the inbox as the reactor does, answers each question with the
//! function it was given, and keeps what was asked. `poolctl`'s tests use it as well.

use std::num::NonZeroU16;
use std::os::fd::AsFd;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use pool_daemon::engine::command::Operation;
use pool_daemon::server::handle::{Answer, Caller, Handle, Inbox, Query};
use pool_daemon::server::metrics::Metrics;
use pool_daemon::server::{self, ServerConfig, ServerThread};
use pool_proto::admin::v1 as admin;
use pool_proto::common::v1 as common;

const MIB: u64 = 1 << 20;

/// What the engine says to a question.
pub(crate) type Engine = dyn Fn(Caller, &Query) -> Result<Answer, common::Error> + Send;

enum Order {
    Publish(Box<admin::PoolEvent>),
    Stop,
}

/// The daemon, its folder and its engine. Dropping it stops and removes them.
pub(crate) struct Fake {
    pub(crate) config: ServerConfig,
    pub(crate) metrics: Arc<Metrics>,
    asked: Arc<Mutex<Vec<(Caller, Query)>>>,
    orders: Sender<Order>,
    wake: Arc<EventFd>,
    engine: Option<JoinHandle<()>>,
    servers: Option<ServerThread>,
    _folder: tempfile::TempDir,
}

impl Fake {
    /// Serves [`small_pool`] on Unix sockets alone.
    pub(crate) fn start() -> Self {
        Self::with(Box::new(small_pool), |_| {})
    }

    /// Serves what `engine` says, on the addresses that `configure` adds.
    pub(crate) fn with(engine: Box<Engine>, configure: impl FnOnce(&mut ServerConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Others shall reach the sockets, as they do in the daemon's folder.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let mut config = ServerConfig {
            admin_socket: folder.path().join("admin.sock"),
            metrics_socket: folder.path().join("metrics.sock"),
            operators: Vec::new(),
            tcp: None,
            metrics_listen: None,
        };
        configure(&mut config);
        let metrics = Arc::new(Metrics::new());
        let (handle, inbox) = Handle::new(NonZeroU16::new(64).unwrap()).unwrap();
        let servers = server::spawn(&config, handle, Arc::clone(&metrics)).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let wake = Arc::new(EventFd::new().unwrap());
        let (orders, taken) = mpsc::channel();
        let thread = {
            let (asked, wake) = (Arc::clone(&asked), Arc::clone(&wake));
            std::thread::spawn(move || run(inbox, &wake, &taken, &engine, &asked))
        };
        Self {
            config,
            metrics,
            asked,
            orders,
            wake,
            engine: Some(thread),
            servers: Some(servers),
            _folder: folder,
        }
    }

    /// Everything that reached the engine, in order.
    pub(crate) fn asked(&self) -> Vec<(Caller, Query)> {
        self.asked.lock().unwrap().clone()
    }

    /// The reactor publishes an event.
    pub(crate) fn publish(&self, event: admin::PoolEvent) {
        self.order(Order::Publish(Box::new(event)));
    }

    pub(crate) fn servers(&self) -> &ServerThread {
        self.servers.as_ref().unwrap()
    }

    /// Stops the servers, as the daemon does at its end.
    pub(crate) fn stop_servers(&mut self) -> Result<(), server::ServerError> {
        self.servers.take().unwrap().stop()
    }

    fn order(&self, order: Order) {
        self.orders.send(order).unwrap();
        self.wake.write(1).unwrap();
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.order(Order::Stop);
        let engine = self.engine.take().map(JoinHandle::join);
        let servers = self.servers.take().map(ServerThread::stop);
        if !std::thread::panicking() {
            assert!(matches!(engine, Some(Ok(()))), "the fake engine panicked");
            assert!(matches!(servers, None | Some(Ok(()))), "{servers:?}");
        }
    }
}

fn run(
    mut inbox: Inbox,
    wake: &EventFd,
    orders: &Receiver<Order>,
    engine: &Engine,
    asked: &Mutex<Vec<(Caller, Query)>>,
) {
    loop {
        let mut polled =
            [inbox.event_fd(), wake.as_fd()].map(|file| PollFd::new(file, PollFlags::POLLIN));
        poll(&mut polled, PollTimeout::NONE).unwrap();
        let [_, ordered] = polled.map(|file| file.any().unwrap_or(false));
        if ordered {
            wake.read().unwrap();
        }
        for question in inbox.drain().unwrap() {
            let answer = engine(question.caller, &question.query);
            asked
                .lock()
                .unwrap()
                .push((question.caller, question.query.clone()));
            question.reply(answer);
        }
        for order in orders.try_iter() {
            match order {
                Order::Publish(event) => inbox.publish(*event),
                Order::Stop => return,
            }
        }
    }
}

/// A pool of two tiers, one tenant a user, nothing out of order.
///
/// # Errors
/// To what concerns a device `none` or a segment 404.
pub(crate) fn small_pool(caller: Caller, query: &Query) -> Result<Answer, common::Error> {
    Ok(match query {
        Query::Status => Answer::Status(status()),
        Query::Tiers => Answer::Tiers(admin::ListTiersReply {
            tiers: vec![tier(1, "hbm", true, 256), tier(2, "ddr", false, 1024)],
        }),
        Query::Devices => Answer::Devices(admin::ListDevicesReply {
            devices: vec![device("hbm0"), device("ddr0")],
        }),
        Query::Segments(asked) => Answer::Segments(segments(caller, asked)),
        Query::Tenants => Answer::Tenants(admin::ListTenantsReply {
            tenants: tenants_of(caller).map(tenant).collect(),
        }),
        Query::Clients => Answer::Clients(admin::ListClientsReply {
            clients: tenants_of(caller).map(client).collect(),
        }),
        Query::Check => Answer::Check(check()),
        Query::Doctor => Answer::Doctor(doctor()),
        Query::Operate(operation) => Answer::Operated(operate(operation)?),
        Query::Topology => Answer::Topology(topology()),
        Query::CreateRegion(wanted) => Answer::Region(created(wanted)?),
        Query::DestroyRegion(name) if name == "none" => return Err(not_found("region none")),
        Query::DestroyRegion(_) => Answer::RegionDestroyed,
    })
}

/// A refusal with numbers.
pub(crate) fn not_found(what: &str) -> common::Error {
    common::Error {
        class: common::ErrorClass::Caller.into(),
        reason: common::ErrorReason::NotFound.into(),
        message: format!("there is no {what}; list what there is"),
        ..common::Error::default()
    }
}

fn tenants_of(caller: Caller) -> impl Iterator<Item = String> {
    let own = format!("uid-{}", caller.uid);
    let all = vec!["loader".to_owned(), "trainer".to_owned()];
    if caller.operator { all } else { vec![own] }.into_iter()
}

fn operate(operation: &Operation) -> Result<Option<admin::Device>, common::Error> {
    let changed = |name: &str, change: fn(&mut admin::Device)| {
        if name == "none" {
            return Err(not_found("device none"));
        }
        let mut device = device(name);
        change(&mut device);
        Ok(Some(device))
    };
    match operation {
        Operation::Drain(name) => changed(name, |device| {
            device.state = common::DeviceState::Draining.into();
            device.granted_bytes = 0;
            device.quarantined_bytes = 0;
            device.segments = 0;
        }),
        Operation::Activate(name) => changed(name, |_| {}),
        Operation::Remove(name) => changed(name, |_| {}).map(|_| None),
        Operation::Resize(name, bytes) => changed(name, |_| {}).map(|device| {
            device.map(|device| admin::Device {
                total_bytes: *bytes,
                ..device
            })
        }),
        Operation::Free { segment: 404, .. } => Err(not_found("segment 404")),
        Operation::Free { .. } => Ok(None),
    }
}

fn created(wanted: &admin::CreateRegionRequest) -> Result<admin::Region, common::Error> {
    if wanted.serials.contains(&404) {
        return Err(not_found("memory device 0x194"));
    }
    let target = |(number, &serial): (usize, &u64)| admin::RegionTarget {
        decoder: format!("decoder{}.0", number + 2),
        memdev: format!("mem{number}"),
        serial,
    };
    Ok(admin::Region {
        name: "region0".to_owned(),
        decoder: "decoder0.0".to_owned(),
        address: 0x5_b000_0000,
        bytes: wanted.bytes,
        ways: u32::try_from(wanted.serials.len()).unwrap(),
        granularity_bytes: wanted.granularity_bytes,
        mode: "ram".to_owned(),
        committed: true,
        enabled: true,
        targets: wanted.serials.iter().enumerate().map(target).collect(),
        performance: Some(figures(352)),
        dax: Some(admin::DaxRegion {
            bytes: wanted.bytes,
            align_bytes: 2 * MIB,
            devices: vec![admin::DaxDevice {
                name: "dax0.0".to_owned(),
                bytes: wanted.bytes,
                align_bytes: 2 * MIB,
                target_node: Some(3),
                driver: "kmem".to_owned(),
                ..admin::DaxDevice::default()
            }],
            devices_total: 1,
            ..admin::DaxRegion::default()
        }),
        ..admin::Region::default()
    })
}

fn figures(latency: u64) -> admin::Performance {
    admin::Performance {
        read_latency_ns: latency,
        write_latency_ns: latency + 100,
        read_bandwidth_mb_s: 16_000,
        write_bandwidth_mb_s: 12_000,
    }
}

/// Two memory devices with the region of `ddr0` on both, and one that was not made to its end.
fn topology() -> admin::Topology {
    let wanted = admin::CreateRegionRequest {
        serials: vec![0xa0, 0xa1],
        bytes: 512 * MIB,
        granularity_bytes: 256,
    };
    let whole = admin::Region {
        pool_device: "ddr0".to_owned(),
        ..created(&wanted).unwrap_or_default()
    };
    let half = admin::Region {
        name: "region1".to_owned(),
        decoder: "decoder0.0".to_owned(),
        half_made: true,
        ..admin::Region::default()
    };
    let place = |device: admin::Device, region: &str| admin::PoolDevice {
        serials: if region.is_empty() {
            Vec::new()
        } else {
            vec![0xa0, 0xa1]
        },
        region: region.to_owned(),
        device: Some(device),
    };
    admin::Topology {
        has_cxl: true,
        memdevs: vec![memdev(0, 0xa0), memdev(1, 0xa1)],
        ports: vec![
            port("root0", "root", "ACPI0017:00"),
            port("endpoint2", "endpoint", "mem0"),
        ],
        decoders: vec![window(), stray()],
        regions: vec![whole, half],
        nodes: vec![node(0, true, 4, 100), node(3, false, 115, 352)],
        devices: vec![place(device("hbm0"), ""), place(device("ddr0"), "region0")],
        left_out: 0,
    }
}

fn memdev(number: u64, serial: u64) -> admin::Memdev {
    admin::Memdev {
        name: format!("mem{number}"),
        serial,
        host: format!("0000:{number}d:00.0"),
        ram_bytes: 512 * MIB,
        ram_qos_class: Some(0),
        firmware: "1.0".to_owned(),
        enabled: true,
        free_bytes: 256 * MIB,
        ..admin::Memdev::default()
    }
}

fn port(name: &str, kind: &str, host: &str) -> admin::Port {
    admin::Port {
        name: name.to_owned(),
        kind: kind.to_owned(),
        host: host.to_owned(),
        ..admin::Port::default()
    }
}

fn window() -> admin::Decoder {
    admin::Decoder {
        name: "decoder0.0".to_owned(),
        kind: "root".to_owned(),
        port: "root0".to_owned(),
        address: 0x5_b000_0000,
        bytes: 1024 * MIB,
        ways: 1,
        granularity_bytes: 256,
        targets: vec![12],
        takes_ram: true,
        qos_class: Some(0),
        ..admin::Decoder::default()
    }
}

fn stray() -> admin::Decoder {
    admin::Decoder {
        name: "decoder2.1".to_owned(),
        kind: "endpoint".to_owned(),
        port: "endpoint2".to_owned(),
        dpa_address: Some(256 * MIB),
        dpa_bytes: 256 * MIB,
        mode: "ram".to_owned(),
        stray: true,
        ..admin::Decoder::default()
    }
}

fn node(id: u32, has_cpus: bool, tier: u32, latency: u64) -> admin::Node {
    admin::Node {
        id,
        has_cpus,
        total_bytes: 512 * MIB,
        free_bytes: 500 * MIB,
        tier: Some(tier),
        performance: Some(figures(latency)),
    }
}

fn status() -> admin::Status {
    admin::Status {
        version: "0.1.0".to_owned(),
        pid: 4242,
        daemon_epoch: 3,
        uptime_ms: 93_784_005,
        total_bytes: 1280 * MIB,
        free_bytes: 1146 * MIB,
        granted_bytes: 130 * MIB,
        quarantined_bytes: 4 * MIB,
        clients: 2,
        segments: 2,
        tenants: 2,
        window_base: 0x2000_0000_0000,
        window_bytes: 16 << 40,
        requests_total: 12_345,
        errors_total: 6,
        journal_durability: "process".to_owned(),
        descriptor_store: "keeper".to_owned(),
        emulated: true,
        devices_unreached: 1,
        devices_noted: 1,
    }
}

fn tier(tier_id: u32, name: &str, emulated: bool, total: u64) -> common::TierInfo {
    common::TierInfo {
        tier_id,
        name: name.to_owned(),
        emulated,
        total_bytes: total * MIB,
        free_bytes: (total - 67) * MIB,
        granted_bytes: 65 * MIB,
        quarantined_bytes: 2 * MIB,
    }
}

fn device(name: &str) -> admin::Device {
    let emulated = name.starts_with("hbm");
    admin::Device {
        device_id: if emulated { 1 } else { 2 },
        name: name.to_owned(),
        tier: name.trim_end_matches(char::is_numeric).to_owned(),
        kind: "memfd".to_owned(),
        emulated,
        state: common::DeviceState::Online.into(),
        total_bytes: 256 * MIB,
        free_bytes: 190 * MIB,
        granted_bytes: 64 * MIB,
        quarantined_bytes: 2 * MIB,
        segments: 1,
        numa_node: if emulated { -1 } else { 0 },
        protection: "sealed".to_owned(),
        unreached: emulated,
        most_bytes: if emulated { 512 * MIB } else { 256 * MIB },
        note: if emulated {
            "the manager has no more to give"
        } else {
            ""
        }
        .to_owned(),
    }
}

fn segments(caller: Caller, asked: &admin::ListSegmentsRequest) -> admin::ListSegmentsReply {
    let mut all: Vec<_> = tenants_of(caller).zip(7..).map(segment).collect();
    all.retain(|detail| {
        let segment = detail.segment.as_ref().unwrap();
        let of_tenant = asked.tenant.is_empty() || asked.tenant == segment.tenant;
        of_tenant && segment.segment_id > asked.after_segment_id
    });
    // One a page, so that whoever lists has to turn pages.
    let more = all.len() > 1;
    all.truncate(1);
    admin::ListSegmentsReply {
        segments: all,
        more,
    }
}

fn segment((tenant, segment_id): (String, u64)) -> admin::SegmentDetail {
    admin::SegmentDetail {
        segment: Some(common::Segment {
            segment_id,
            incarnation: 1,
            addr: 0x2000_0000_0000 + segment_id * 64 * MIB,
            bytes: 64 * MIB,
            capacity_bytes: 128 * MIB,
            name: "weights".to_owned(),
            tenant,
            tier: "hbm".to_owned(),
            lifetime: common::Lifetime::Persistent.into(),
            burst: false,
            pieces: vec![common::Piece {
                bytes: 64 * MIB,
                backing_id: 11,
                device: "hbm0".to_owned(),
                emulated: true,
                pages: common::Pages::Collapsed.into(),
                ..common::Piece::default()
            }],
            shares: vec![common::Share {
                tenant: "loader".to_owned(),
                access: common::Access::ReadOnly.into(),
            }],
            coherence: (segment_id == 7).then(|| common::Coherence {
                mode: common::CoherenceMode::Hardware.into(),
                unit_bytes: 64 << 10,
                on_death: common::OnDeath::Lose.into(),
                directory_bytes: 2 * MIB,
                recall_ms: 1_000,
                checksums: true,
                ..common::Coherence::default()
            }),
            holders: 1,
            sealed: segment_id == 8,
            tag: String::new(),
        }),
        holders: vec![admin::Holder {
            client_id: 5,
            pid: 777,
            access: common::Access::ReadWrite.into(),
        }],
        state: "live".to_owned(),
        quarantined_bytes: 2 * MIB,
        waited_for: if segment_id == 7 {
            vec![
                waited_for(6, 4321, "trainer", "told"),
                waited_for(0, 4400, "", "departed"),
                waited_for(5, 777, "loader", "holds"),
            ]
        } else {
            Vec::new()
        },
        waited_for_more: if segment_id == 7 { 3 } else { 0 },
    }
}

fn waited_for(client_id: u64, pid: u32, tenant: &str, why: &str) -> admin::WaitedFor {
    admin::WaitedFor {
        client_id,
        pid,
        tenant: tenant.to_owned(),
        why: why.to_owned(),
    }
}

fn tenant(name: String) -> admin::Tenant {
    admin::Tenant {
        tenant_id: 1,
        name,
        clients: 1,
        segments: 1,
        tiers: vec![admin::TierUse {
            tier: "hbm".to_owned(),
            request_bytes: 32 * MIB,
            limit_bytes: 128 * MIB,
            used_bytes: 64 * MIB,
            burst_bytes: 32 * MIB,
            quarantined_bytes: 2 * MIB,
        }],
    }
}

fn client(tenant: String) -> admin::Client {
    admin::Client {
        client_id: 5,
        name: "digits".to_owned(),
        pid: 777,
        uid: 1000,
        tenant,
        state: "attached".to_owned(),
        segments: 1,
        held_bytes: 64 * MIB,
        requests_total: 99,
    }
}

fn check() -> admin::CheckReport {
    admin::CheckReport {
        balanced: true,
        devices: vec![admin::DeviceCheck {
            device: "hbm0".to_owned(),
            total_extents: 128,
            free_extents: 95,
            granted_extents: 32,
            quarantined_extents: 1,
        }],
        findings: Vec::new(),
        domains: vec![admin::DomainCheck {
            segment_id: 7,
            members: 2,
            units: 992,
            free: 980,
            shared: 8,
            exclusive: 3,
            lost: 1,
            ..admin::DomainCheck::default()
        }],
    }
}

fn doctor() -> admin::DoctorReport {
    let finding = |path: &str, verdict: &str, detail: &str| admin::Finding {
        path: path.to_owned(),
        verdict: verdict.to_owned(),
        detail: detail.to_owned(),
    };
    admin::DoctorReport {
        findings: vec![
            finding(
                "huge pages",
                "falls back",
                "no hugetlb pages; collapsed to 2 MiB",
            ),
            finding("userfaultfd", "works", ""),
            finding("devdax", "off", "no such device on this machine"),
        ],
    }
}
