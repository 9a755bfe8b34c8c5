//! The fabric of the demonstration, served by a thread of this process, and its manager.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use fabric_emu::cci::dcd_management::{InitiateReleaseRequest, RemovalPolicy};
use fabric_emu::cci::virtual_switch::BindVppbRequest;
use fabric_emu::cci::{DpaExtent, Request, ReturnCode, Tag};
use fabric_emu::fabric::Fault;
use fabric_emu::id::{LdId, MemdevId, Node, Port, PortId, SwitchId, VcsId, VppbId};
use fabric_emu::serve::control::State;
use fabric_emu::serve::{
    AskError, Config, Mode, Operator, Remote, ServeError, Server, Stop, Stopper,
};
use fabric_emu::span::Span;
use fabric_emu::topology::Topology;
use pool_core::Nanos;
use pool_core::clock::Deadline;

use crate::error::CtlError;

/// The pooled device.
pub(super) const POOL: MemdevId = MemdevId(0);
/// The port of the switch at which it is.
pub(super) const DOWN: Port = Port {
    node: Node::Switch(SwitchId(0)),
    port: PortId(4),
};
/// How long a binding may take; it takes no time at all where nothing hangs.
const PATIENCE: Nanos = Nanos::from_millis(10_000);

/// A fabric that is served; the end of it ends the thread.
#[derive(Debug)]
pub(super) struct Served {
    directory: PathBuf,
    running: Option<(Stopper, JoinHandle<Result<(), ServeError>>)>,
}

impl Served {
    /// Serves it in `directory`, and binds to each host the logical device of its number.
    pub(super) fn start(directory: PathBuf) -> Result<Self, CtlError> {
        let topology = Topology::parse("fabric.toml", include_str!("fabric.toml"))
            .map_err(|error| CtlError::Topology(Box::new(error)))?;
        let config = Config::new(Mode::Virtual, 1);
        let mut server = Server::open(&topology, &directory, config)?;
        let machine = |source| CtlError::Machine { source };
        let stop = Stop::by_hand().map_err(|error| machine(std::io::Error::other(error)));
        let (stop, stopper) = stop?;
        let thread = std::thread::Builder::new().name("fabric".into());
        let thread = thread.spawn(move || server.run(&stop)).map_err(machine)?;
        let running = Some((stopper, thread));
        let served = Self { directory, running };
        for host in 0..super::HOSTS {
            served.bind(host)?;
        }
        Ok(served)
    }

    /// Ends it.
    pub(super) fn stop(&mut self) -> Result<(), CtlError> {
        let Some((stopper, thread)) = self.running.take() else {
            return Ok(());
        };
        stopper.stop();
        let gone = || CtlError::EmulatorSilent {
            reason: "its thread has ended in disorder".to_owned(),
        };
        Ok(thread.join().map_err(|_| gone())??)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    fn bind(&self, host: u8) -> Result<(), CtlError> {
        let mut switch = Remote::connect(&self.directory.join("switch0.cci"))?;
        let bind = BindVppbRequest {
            vcs_id: VcsId(host),
            vppb_id: VppbId(0),
            port_id: DOWN.port,
            ld_id: LdId(host.into()),
        };
        let over = match switch.ask(&Request::BindVppb(bind)) {
            Ok(_) => ReturnCode::Success,
            Err(AskError::Begun) => switch.finish(Deadline::after(PATIENCE))?,
            Err(error) => return Err(error.into()),
        };
        match over {
            ReturnCode::Success => Ok(()),
            code => Err(AskError::Refused(code).into()),
        }
    }

    /// What there is now.
    pub(super) fn state(&self) -> Result<State, CtlError> {
        Ok(Operator::connect(&self.directory)?.state()?)
    }

    /// Has something go wrong, or be well again.
    pub(super) fn fault(&self, fault: Fault) -> Result<(), CtlError> {
        Operator::connect(&self.directory)?.fault(fault)?;
        Ok(())
    }

    /// Where the memory of a host lies.
    pub(super) fn had(&self, host: u8) -> Result<Vec<Span>, CtlError> {
        let state = self.state()?;
        let reaches = state.hosts.get(usize::from(host));
        let reaches = reaches.into_iter().flat_map(|it| &it.reaches);
        let extents = reaches.flat_map(|it| &it.extents);
        Ok(extents
            .map(|&(start, bytes)| Span { start, bytes })
            .collect())
    }

    /// The manager wants memory of a host back, or takes it by force.
    pub(super) fn take(&self, host: u8, spans: &[Span], by_force: bool) -> Result<(), CtlError> {
        let extent = |span: &Span| DpaExtent {
            start_dpa: span.start,
            length: span.bytes,
            tag: Tag::default(),
            shared_extent_sequence: 0,
        };
        let extents: Vec<DpaExtent> = spans.iter().map(extent).collect();
        let release = InitiateReleaseRequest {
            host_id: LdId(host.into()),
            removal_policy: RemovalPolicy::Prescriptive,
            forced_removal: by_force,
            sanitize_on_release: false,
            length: 0,
            tag: Tag::default(),
            extents: Some(extents.try_into().map_err(|_| AskError::TooLong)?),
        };
        let mut manager = Remote::connect(&self.directory.join("memdev0.cci"))?;
        manager.ask(&Request::InitiateRelease(release))?;
        Ok(())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Where it fails the demonstration has failed before, and has said why.
        drop(self.stop());
    }
}
