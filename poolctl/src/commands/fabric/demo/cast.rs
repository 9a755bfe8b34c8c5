//! Who is on the stage: the fabric, four daemons, and a client of each.

use std::path::{Path, PathBuf};

use fabric_emu::serve::control::State;
use pool_proto::admin::v1::PoolEvent;
use tokio::runtime::Runtime;
use tonic::Streaming;

use super::client::Client;
use super::daemon::{Daemon, Share};
use super::error::DemoError;
use super::order::{Order, Slot};
use super::served::{POOL, Served};
use super::told::{DeviceRow, HostRow, Moment};
use super::wait::Patience;
use super::{DEVICE_BYTES, HOSTS, LOCAL_BYTES};
use crate::error::CtlError;

/// A host: its daemon, and a client of that.
#[derive(Debug)]
struct Host {
    running: Option<(Client, Daemon)>,
    /// What of its memory is out of service.
    bad: u64,
}

/// All of them. What runs is ended when it is dropped, the fabric last.
#[derive(Debug)]
pub(super) struct Cast {
    hosts: Vec<Host>,
    pub(super) served: Served,
    pub(super) patience: Patience,
    pub(super) runtime: Runtime,
    program: PathBuf,
    folder: PathBuf,
}

impl Cast {
    /// Serves the fabric, with hosts on which nothing runs yet.
    pub(super) fn new(
        program: PathBuf,
        folder: &Path,
        patience: Patience,
    ) -> Result<Self, CtlError> {
        let served = Served::start(folder.join("fabric"))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| CtlError::Machine { source })?;
        let none = |_| Host {
            running: None,
            bad: 0,
        };
        Ok(Self {
            hosts: (0..HOSTS).map(none).collect(),
            served,
            patience,
            runtime,
            program,
            folder: folder.to_owned(),
        })
    }

    /// Starts the daemon of a host and its client, which holds some local memory from then on.
    pub(super) fn start(&mut self, host: u8) -> Result<(), CtlError> {
        let folder = self.folder.join(format!("host{host}"));
        let places = (folder.as_path(), self.served.directory());
        let (patience, runtime) = (&self.patience, &self.runtime);
        let daemon = Daemon::start(&self.program, places, host, patience, runtime)?;
        let (who, log) = (
            format!("the client of host{host}"),
            folder.join("client.log"),
        );
        let mut client = Client::start(who, daemon.socket(), &log, patience)?;
        let slot = Slot::Local;
        let seed = local_seed(host);
        if !client.holds(slot, LOCAL_BYTES, patience.span() / 2)? {
            return Err(missing(host).into());
        }
        client.does(&Order::Fill { slot, seed })?;
        if let Some(it) = self.hosts.get_mut(usize::from(host)) {
            it.running = Some((client, daemon));
        }
        Ok(())
    }

    /// The client of a host.
    pub(super) fn client(&mut self, host: u8) -> Result<&mut Client, DemoError> {
        Ok(&mut self.running(host)?.0)
    }

    /// The daemon of a host.
    pub(super) fn daemon(&mut self, host: u8) -> Result<&mut Daemon, DemoError> {
        Ok(&mut self.running(host)?.1)
    }

    fn running(&mut self, host: u8) -> Result<&mut (Client, Daemon), DemoError> {
        let found = self.hosts.get_mut(usize::from(host));
        found
            .and_then(|it| it.running.as_mut())
            .ok_or_else(|| missing(host))
    }

    /// The daemon of a host and its client die, without warning.
    pub(super) fn kill(&mut self, host: u8) -> Result<(), DemoError> {
        let found = self.hosts.get_mut(usize::from(host));
        if let Some((client, daemon)) = found.and_then(|it| it.running.take()) {
            daemon.kill()?;
            client.kill()?;
        }
        Ok(())
    }

    /// All of them end in good order.
    pub(super) fn end(self) -> Result<(), CtlError> {
        let Self {
            hosts,
            mut served,
            patience,
            runtime,
            ..
        } = self;
        let mut daemons = Vec::new();
        for (client, daemon) in hosts.into_iter().filter_map(|it| it.running) {
            client.dismiss()?;
            daemons.push(daemon.into_process());
        }
        // It has the other ends of what the daemons wait for to be closed.
        drop(runtime);
        for daemon in daemons {
            daemon.terminate(&patience)?;
        }
        served.stop()
    }

    /// Whether the local memory of the client of a host is as it was written.
    pub(super) fn local_is_as_written(&mut self, host: u8) -> Result<bool, DemoError> {
        let (slot, seed) = (Slot::Local, local_seed(host));
        self.client(host)?.tells(&Order::Holds { slot, seed })
    }

    /// So much of what a host has is out of service.
    pub(super) fn is_bad(&mut self, host: u8, bytes: u64) {
        if let Some(it) = self.hosts.get_mut(usize::from(host)) {
            it.bad = bytes;
        }
    }

    /// Whether a client is granted so much of the pooled device, within some time.
    pub(super) fn granted(&mut self, host: u8, slot: Slot, bytes: u64) -> Result<bool, DemoError> {
        let wait = self.patience.span() / 2;
        self.client(host)?.holds(slot, bytes, wait)
    }

    /// What the daemon of a host tells operators from now on.
    pub(super) fn events(&mut self, host: u8) -> Result<Streaming<PoolEvent>, CtlError> {
        let (daemon, runtime) = self.of(host)?;
        daemon.events(runtime)
    }

    /// Whether it tells of such an event soon.
    pub(super) fn tells_of(
        &mut self,
        host: u8,
        kind: &str,
        events: &mut Streaming<PoolEvent>,
    ) -> Result<bool, CtlError> {
        let patience = self.patience.clone();
        let (daemon, runtime) = self.of(host)?;
        daemon.tells_of(kind, events, &patience, runtime)
    }

    fn of(&mut self, host: u8) -> Result<(&mut Daemon, &Runtime), DemoError> {
        let found = self.hosts.get_mut(usize::from(host));
        let running = found.and_then(|it| it.running.as_mut());
        let (_, daemon) = running.ok_or_else(|| missing(host))?;
        Ok((daemon, &self.runtime))
    }

    /// How much a host has, as the fabric says.
    pub(super) fn has(&self, host: u8) -> Result<u64, CtlError> {
        Ok(had(&self.served.state()?, host))
    }

    /// What the daemon of a host has of the pooled device, as it says.
    pub(super) fn share(&mut self, host: u8) -> Result<Share, CtlError> {
        let (daemon, runtime) = self.of(host)?;
        daemon.share(runtime)
    }

    /// What a host has, where the fabric and the daemon say the same.
    pub(super) fn agreed(&mut self, host: u8) -> Result<Option<u64>, CtlError> {
        let says = self.share(host)?.total;
        let bad = self.hosts.get(usize::from(host)).map_or(0, |it| it.bad);
        let has = self.has(host)?;
        Ok((has == says + bad).then_some(has))
    }

    /// Whether what all have and what is free is all that there is.
    pub(super) fn adds_up(&self) -> Result<bool, CtlError> {
        let moment = self.moment(String::new())?;
        Ok(moment.has_bytes.iter().sum::<u64>() + moment.free_bytes == DEVICE_BYTES)
    }

    /// Who has how much now.
    pub(super) fn moment(&self, moment: String) -> Result<Moment, CtlError> {
        let state = self.served.state()?;
        let has_bytes = (0..HOSTS).map(|host| had(&state, host)).collect();
        let there = device(&state).filter(|it| it.is_there);
        let free_bytes = there.map_or(0, |it| it.free_bytes);
        Ok(Moment {
            moment,
            has_bytes,
            free_bytes,
        })
    }

    /// All hosts and the device as they are now.
    pub(super) fn picture(&mut self) -> Result<(Vec<HostRow>, Option<DeviceRow>), CtlError> {
        let state = self.served.state()?;
        let mut rows = Vec::new();
        for (host, it) in (0..HOSTS).zip(&mut self.hosts) {
            let (share, balanced) = match &mut it.running {
                Some((_, daemon)) => {
                    let share = daemon.share(&self.runtime)?;
                    (share, daemon.check(&self.runtime)?.balanced)
                }
                None => (Share::default(), false),
            };
            rows.push(HostRow {
                host,
                state: if it.running.is_some() {
                    "serves"
                } else {
                    "dead"
                },
                has_bytes: had(&state, host),
                free_bytes: share.free,
                granted_bytes: share.granted,
                quarantined_bytes: share.quarantined,
                bad_bytes: it.bad,
                balanced,
            });
        }
        Ok((rows, device(&state)))
    }
}

fn local_seed(host: u8) -> u64 {
    1_000 + u64::from(host)
}

fn missing(host: u8) -> DemoError {
    DemoError::Ended {
        who: format!("what runs on host{host}"),
        log: String::new(),
    }
}

fn had(state: &State, host: u8) -> u64 {
    let found = state.hosts.get(usize::from(host));
    found.map_or(0, |it| it.had_bytes())
}

fn device(state: &State) -> Option<DeviceRow> {
    let found = state.memdevs.iter().find(|it| it.memdev == POOL)?;
    Some(DeviceRow {
        emulated: state.emulated,
        is_there: found.is_there,
        bytes: found.dynamic_bytes,
        free_bytes: found.free_bytes,
    })
}
