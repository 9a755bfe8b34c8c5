//! A fabric that is served while a test runs, and what its hosts and its manager do.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use fabric_emu::cci::dcd::{UpdatedExtent, UpdatedExtentList};
use fabric_emu::cci::dcd_management::{
    InitiateAddRequest, InitiateReleaseRequest, RemovalPolicy, SelectionPolicy,
};
use fabric_emu::cci::virtual_switch::BindVppbRequest;
use fabric_emu::cci::{DpaExtent, Request, Response, ReturnCode, Tag, dcd};
use fabric_emu::fabric::Fault;
use fabric_emu::id::{HostId, LdId, MemdevId, PortId, VcsId, VppbId};
use fabric_emu::schedule::Schedule;
use fabric_emu::serve::{
    AskError, Carver, Config, Mode, Operator, Remote, ServeError, Server, Stop, Stopper,
};
use fabric_emu::span::Span;
use fabric_emu::topology::Topology;
use pool_core::Nanos;
use pool_core::clock::Deadline;
use pool_core::units::MIB;
use tempfile::TempDir;

pub(crate) const POOL: MemdevId = MemdevId(0);
/// Regions of each logical device.
pub(crate) const OWN: u8 = 0;
pub(crate) const SHARED: u8 = 1;
pub(crate) const READ_ONLY: u8 = 2;
/// Where the switch leads down to the device.
const DOWN: PortId = PortId(2);

/// Two hosts, a switch, and a device of two logical devices, in small blocks.
const TOPOLOGY: &str = r#"
name = "rig"
[[host]]
name = "h0"
writes_back_no_clean_lines = true
[[host]]
name = "h1"
writes_back_no_clean_lines = true
[[switch]]
name = "s0"
ports = 3
vppbs = 2
[[memdev]]
name = "pool"
kind = { mld = 2 }
dynamic = "512 MiB"
[[memdev.region]]
length = "256 MiB"
block = "2 MiB"
sanitize = false
[[memdev.region]]
length = "256 MiB"
block = "2 MiB"
sharable = true
sanitize = false
[[memdev.region]]
length = "256 MiB"
block = "2 MiB"
sharable = true
read_only = true
sanitize = false
[[link]]
up = "h0:0"
down = "s0:0"
[[link]]
up = "h1:0"
down = "s0:1"
[[link]]
up = "s0:2"
down = "pool:0"
"#;

pub(crate) fn topology() -> Topology {
    Topology::parse("rig.toml", TOPOLOGY).unwrap()
}

/// Longer than anything that is to happen takes.
pub(crate) fn soon() -> Deadline {
    Deadline::after(Nanos::from_millis(60_000))
}

pub(crate) fn tag(number: u8) -> Tag {
    Tag([number; 16])
}

/// A fabric that is served.
#[derive(Debug)]
pub(crate) struct Rig {
    folder: TempDir,
    running: Option<(Stopper, JoinHandle<Result<(), ServeError>>)>,
}

impl Rig {
    pub(crate) fn start() -> Self {
        Self::with(Config::new(Mode::Virtual, 1))
    }

    pub(crate) fn with(config: Config) -> Self {
        Self::planned(config, &Schedule::new())
    }

    /// With faults that are planned.
    pub(crate) fn planned(config: Config, schedule: &Schedule) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut rig = Self {
            folder,
            running: None,
        };
        rig.run(config, schedule);
        rig
    }

    /// Serves in the same directory once more.
    pub(crate) fn serve(&mut self, config: Config) {
        self.run(config, &Schedule::new());
    }

    fn run(&mut self, config: Config, schedule: &Schedule) {
        let mut server = Server::open(&topology(), &self.directory(), config).unwrap();
        server.plan(schedule);
        let (stop, stopper) = Stop::by_hand().unwrap();
        let thread = std::thread::spawn(move || server.run(&stop));
        self.running = Some((stopper, thread));
    }

    pub(crate) fn stop(&mut self) {
        if let Some((stopper, thread)) = self.running.take() {
            stopper.stop();
            assert_eq!(thread.join().unwrap(), Ok(()));
        }
    }

    pub(crate) fn directory(&self) -> PathBuf {
        // Longer than the name of a socket may be.
        self.folder.path().join("d".repeat(120))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    pub(crate) fn remote(&self, name: &str) -> Remote {
        Remote::connect(&self.path(name)).unwrap()
    }

    pub(crate) fn carver(&self, host: u16) -> Carver {
        Carver::connect(&self.path(&format!("host{host}.memory"))).unwrap()
    }

    pub(crate) fn operator(&self) -> Operator {
        Operator::connect(&self.directory()).unwrap()
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.operator().fault(fault).unwrap();
    }

    /// Binds the first bridge of each host to the logical device of its number.
    pub(crate) fn bind_all(&self) {
        for host in 0..2 {
            self.bind(host, 0, u16::from(host));
        }
    }

    pub(crate) fn bind(&self, host: u8, vppb: u8, ld: u16) {
        let mut switch = self.remote("switch0.cci");
        let begun = switch.ask(&Request::BindVppb(binding(host, vppb, ld)));
        assert_eq!(begun, Err(AskError::Begun));
        assert_eq!(switch.finish(soon()), Ok(ReturnCode::Success));
    }

    /// A host's mailbox at the logical device of its number.
    pub(crate) fn mailbox(&self, host: u16) -> Remote {
        self.remote(&format!("host{host}-memdev0-ld{host}.cci"))
    }

    /// A host is offered memory, and takes it all: where it is.
    pub(crate) fn give(&self, host: u16, region: u8, mib: u64, tag: Tag) -> Vec<Span> {
        let length = mib * MIB;
        self.offer(LdId(host), region, length, SelectionPolicy::Free, tag);
        self.accept(host, region, length)
    }

    /// A host is offered what another one has, and takes it.
    pub(crate) fn share(&self, host: u16, region: u8, mib: u64, tag: Tag) -> Vec<Span> {
        let policy = SelectionPolicy::EnableSharedAccess;
        self.offer(LdId(host), region, 0, policy, tag);
        self.accept(host, region, mib * MIB)
    }

    pub(crate) fn offer(
        &self,
        host_id: LdId,
        region_number: u8,
        length: u64,
        selection_policy: SelectionPolicy,
        tag: Tag,
    ) {
        let add = Request::InitiateAdd(InitiateAddRequest {
            host_id,
            selection_policy,
            region_number,
            length,
            tag,
            extents: None,
        });
        self.remote("memdev0.cci").ask(&add).unwrap();
    }

    /// The host takes so much at the next free addresses of a region.
    fn accept(&self, host: u16, region: u8, length: u64) -> Vec<Span> {
        let first = u64::from(region) * 256 * MIB;
        let had = self.had(host);
        let of_region = had
            .iter()
            .filter(|it| it.start / (256 * MIB) == u64::from(region));
        let start = of_region.map(|it| it.end()).max().unwrap_or(first);
        let span = Span::new(start, length).unwrap();
        self.mailbox(host)
            .ask(&Request::AddDcResponse(list(&[span])))
            .unwrap();
        vec![span]
    }

    /// What a host has, as its extent list says.
    pub(crate) fn had(&self, host: u16) -> Vec<Span> {
        let asked = dcd::GetDcExtentListRequest {
            extent_count: 512,
            starting_extent_index: 0,
        };
        let told = self
            .mailbox(host)
            .ask(&Request::GetDcExtentList(asked))
            .unwrap();
        let Response::GetDcExtentList(told) = told else {
            panic!("{told:?}");
        };
        let span = |it: &DpaExtent| Span::new(it.start_dpa, it.length).unwrap();
        told.extents.iter().map(span).collect()
    }

    /// A host gives memory back.
    pub(crate) fn release(&self, host: u16, spans: &[Span]) {
        self.mailbox(host)
            .ask(&Request::ReleaseDc(list(spans)))
            .unwrap();
    }

    /// The manager takes memory of a host by force.
    pub(crate) fn force(&self, host: u16, spans: &[Span], tag: Tag) {
        let extent = |&span: &Span| DpaExtent {
            start_dpa: span.start,
            length: span.bytes,
            tag,
            shared_extent_sequence: 0,
        };
        let extents: Vec<DpaExtent> = spans.iter().map(extent).collect();
        let take = Request::InitiateRelease(InitiateReleaseRequest {
            host_id: LdId(host),
            removal_policy: RemovalPolicy::Prescriptive,
            forced_removal: true,
            sanitize_on_release: false,
            length: 0,
            tag,
            extents: Some(extents.try_into().unwrap()),
        });
        self.remote("memdev0.cci").ask(&take).unwrap();
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some((stopper, _)) = &self.running {
            stopper.stop();
        }
    }
}

pub(crate) fn binding(host: u8, vppb: u8, ld: u16) -> BindVppbRequest {
    BindVppbRequest {
        vcs_id: VcsId(host),
        vppb_id: VppbId(vppb),
        port_id: DOWN,
        ld_id: LdId(ld),
    }
}

pub(crate) fn list(spans: &[Span]) -> UpdatedExtentList {
    let extent = |span: &Span| UpdatedExtent {
        start_dpa: span.start,
        length: span.bytes,
    };
    let extents: Vec<UpdatedExtent> = spans.iter().map(extent).collect();
    UpdatedExtentList {
        flags: 0,
        extents: extents.try_into().unwrap(),
    }
}

/// What is in a directory.
pub(crate) fn names_in(directory: &Path) -> Vec<String> {
    let all = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = all
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub(crate) const H0: HostId = HostId(0);
