//! An emulated fabric, served while the test runs: hosts at one switch, and a pooled device of
//! which each host is bound to the logical device of its number.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::thread::JoinHandle;

use fabric_emu::cci::dcd_management::{
    InitiateAddRequest, InitiateReleaseRequest, RemovalPolicy, SelectionPolicy,
};
use fabric_emu::cci::virtual_switch::BindVppbRequest;
use fabric_emu::cci::{DpaExtent, Request, ReturnCode, Tag};
use fabric_emu::fabric::Fault;
use fabric_emu::id::{LdId, MemdevId, Node, Port, PortId, SwitchId, VcsId, VppbId};
use fabric_emu::serve::control::State;
use fabric_emu::serve::{AskError, Config, Mode, Operator, Remote, ServeError, Server};
use fabric_emu::serve::{Stop, Stopper};
use fabric_emu::span::Span;
use fabric_emu::topology::Topology;
use pool_core::Nanos;
use pool_core::clock::Deadline;
use tempfile::TempDir;

use crate::EXTENT;
use crate::setup::{FabricSetup, Setup};

/// The pooled device.
pub const POOL: MemdevId = MemdevId(0);

/// See the module.
#[derive(Debug)]
pub struct Served {
    folder: TempDir,
    hosts: u8,
    extents: u64,
    groups: u64,
    running: Option<(Stopper, JoinHandle<Result<(), ServeError>>)>,
}

impl Served {
    /// So many hosts, and so many extents for all of them, in blocks of one.
    #[must_use]
    pub fn start(hosts: u8, extents: u64) -> Self {
        Self::start_with_groups(hosts, extents, 0)
    }

    /// The same, and so many extents for groups that hosts share.
    #[must_use]
    pub fn start_with_groups(hosts: u8, extents: u64, groups: u64) -> Self {
        let folder = tempfile::tempdir().expect("the fabric does as it is told");
        let mut served = Self {
            folder,
            hosts,
            extents,
            groups,
            running: None,
        };
        served.serve();
        served
    }

    /// Serves it, as if nothing had ever happened to it.
    pub fn serve(&mut self) {
        let topology = Topology::parse("served.toml", &self.topology())
            .expect("the fabric does as it is told");
        let config = Config::new(Mode::Virtual, 1);
        let mut server = Server::open(&topology, &self.directory(), config)
            .expect("the fabric does as it is told");
        let (stop, stopper) = Stop::by_hand().expect("the fabric does as it is told");
        let thread = std::thread::spawn(move || server.run(&stop));
        self.running = Some((stopper, thread));
        for host in 0..self.hosts {
            self.bind(host);
        }
    }

    /// Ends it: nobody answers any more.
    pub fn stop(&mut self) {
        if let Some((stopper, thread)) = self.running.take() {
            stopper.stop();
            thread
                .join()
                .expect("the fabric does as it is told")
                .expect("the fabric does as it is told");
        }
    }

    fn topology(&self) -> String {
        let mib = |extents: u64| (extents * EXTENT) >> 20;
        let hosts = self.hosts;
        let (own, shared) = (mib(self.extents), mib(self.groups));
        let mut text = String::from("name = \"served\"\n");
        for host in 0..hosts {
            let _ = writeln!(text, "[[host]]\nname = \"h{host}\"\nwindow = \"16 GiB\"");
        }
        let _ = write!(
            text,
            "[[switch]]\nname = \"s0\"\nports = {}\nvppbs = 1\n\
             [[memdev]]\nname = \"pool\"\nkind = {{ mld = {hosts} }}\ndynamic = \"{} MiB\"\n\
             [[memdev.region]]\nlength = \"{own} MiB\"\nblock = \"2 MiB\"\n",
            hosts + 1,
            own + shared
        );
        if shared > 0 {
            let _ = write!(
                text,
                "[[memdev.region]]\nlength = \"{shared} MiB\"\nblock = \"2 MiB\"\n\
                 sharable = true\n"
            );
        }
        for host in 0..hosts {
            let _ = writeln!(text, "[[link]]\nup = \"h{host}:0\"\ndown = \"s0:{host}\"");
        }
        let _ = writeln!(text, "[[link]]\nup = \"s0:{hosts}\"\ndown = \"pool:0\"");
        text
    }

    /// Where it is served.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.folder.path().join("fabric")
    }

    /// A daemon of a host, whose pool has ordinary memory besides.
    #[must_use]
    pub fn setup(&self, host: u8) -> Setup {
        Setup {
            fabric: Some(FabricSetup {
                directory: self.directory(),
                host: host.into(),
                region: 0,
                extents: self.extents,
                groups: self.groups,
                idle_ms: 300,
                patience_ms: 1_000,
            }),
            ..Setup::small(32)
        }
    }

    fn bind(&self, host: u8) {
        let mut switch = self.remote("switch0.cci");
        let bind = Request::BindVppb(BindVppbRequest {
            vcs_id: VcsId(host),
            vppb_id: VppbId(0),
            port_id: PortId(self.hosts),
            ld_id: LdId(host.into()),
        });
        assert_eq!(switch.ask(&bind), Err(AskError::Begun));
        let soon = Deadline::after(Nanos::from_millis(60_000));
        assert_eq!(switch.finish(soon), Ok(ReturnCode::Success));
    }

    fn remote(&self, name: &str) -> Remote {
        Remote::connect(&self.directory().join(name)).expect("the fabric does as it is told")
    }

    /// What there is now.
    #[must_use]
    pub fn state(&self) -> State {
        Operator::connect(&self.directory())
            .expect("the fabric does as it is told")
            .state()
            .expect("the fabric does as it is told")
    }

    /// The extents that each host has, and those that nobody has.
    #[must_use]
    pub fn extents(&self) -> (Vec<u64>, u64) {
        let state = self.state();
        let had = state.hosts.iter().map(|host| host.had_bytes() / EXTENT);
        let free = state.memdevs.iter().map(|memdev| memdev.free_bytes);
        (had.collect(), free.sum::<u64>() / EXTENT)
    }

    /// Where the memory of a host lies.
    #[must_use]
    pub fn had(&self, host: u8) -> Vec<Span> {
        let state = self.state();
        let extents = state.hosts[usize::from(host)]
            .reaches
            .iter()
            .flat_map(|it| it.extents.clone());
        extents
            .map(|(start, bytes)| Span { start, bytes })
            .collect()
    }

    /// Has something go wrong, or be well again.
    pub fn fault(&self, fault: Fault) {
        let mut operator =
            Operator::connect(&self.directory()).expect("the fabric does as it is told");
        operator
            .fault(fault)
            .expect("the fabric does as it is told");
    }

    /// The port at which the pooled device is.
    #[must_use]
    pub const fn down(&self) -> Port {
        Port {
            node: Node::Switch(SwitchId(0)),
            port: PortId(self.hosts),
        }
    }

    /// The manager offers a host so many extents.
    pub fn offer(&self, host: u8, extents: u64) {
        let add = Request::InitiateAdd(InitiateAddRequest {
            host_id: LdId(host.into()),
            selection_policy: SelectionPolicy::Free,
            region_number: 0,
            length: extents * EXTENT,
            tag: Tag::default(),
            extents: None,
        });
        self.remote("memdev0.cci")
            .ask(&add)
            .expect("the fabric does as it is told");
    }

    /// The manager takes a group from a host by force.
    pub fn take_group(&self, host: u8, tag: [u8; 16], extents: u64) {
        let release = Request::InitiateRelease(InitiateReleaseRequest {
            host_id: LdId(host.into()),
            removal_policy: RemovalPolicy::TagBased,
            forced_removal: true,
            sanitize_on_release: false,
            length: extents * EXTENT,
            tag: Tag(tag),
            extents: None,
        });
        self.remote("memdev0.cci")
            .ask(&release)
            .expect("the fabric does as it is told");
    }

    /// The manager wants memory of a host back, or takes it by force.
    pub fn take(&self, host: u8, spans: &[Span], by_force: bool) {
        let extent = |span: &Span| DpaExtent {
            start_dpa: span.start,
            length: span.bytes,
            tag: Tag::default(),
            shared_extent_sequence: 0,
        };
        let extents: Vec<DpaExtent> = spans.iter().map(extent).collect();
        let release = Request::InitiateRelease(InitiateReleaseRequest {
            host_id: LdId(host.into()),
            removal_policy: RemovalPolicy::Prescriptive,
            forced_removal: by_force,
            sanitize_on_release: false,
            length: 0,
            tag: Tag::default(),
            extents: Some(extents.try_into().expect("the fabric does as it is told")),
        });
        self.remote("memdev0.cci")
            .ask(&release)
            .expect("the fabric does as it is told");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}
