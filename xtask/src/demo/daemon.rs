//! The daemon of the demonstration, and what the operator's command says of it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;

use anyhow::{Context as _, bail};
use pool_core::Nanos;
use pool_core::clock::{Deadline, eventually};
use serde_json::Value;

use super::child::Child;
use super::place::Place;
use crate::command::output;

/// How long the daemon may take to answer after its start, and to have all memory back after the
/// job. Both take milliseconds; the bound is for a machine that is busy with something else.
const PATIENCE: Nanos = Nanos::new(30_000_000_000);

/// A running daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
    sockets: PathBuf,
    poolctl: PathBuf,
}

/// What the operator sees of one tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tier {
    pub(super) name: String,
    pub(super) emulated: bool,
    pub(super) total: u64,
    pub(super) free: u64,
    pub(super) granted: u64,
}

/// What the operator sees of the pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) tiers: Vec<Tier>,
    pub(super) clients: u64,
    /// The full accounting, per extent, adds up.
    pub(super) balanced: bool,
}

impl Daemon {
    /// Starts it on its default configuration; only its folders are in `place`. Returns when it
    /// answers.
    pub(super) fn start(place: &Place, programs: &Path) -> anyhow::Result<Self> {
        let sockets = place.folder().join("run");
        let mut command = Command::new(programs.join("pool-daemon"));
        // What the user's environment says of another daemon is none of this one's business.
        command.env_remove("TIERPOOL_CONFIG");
        command.arg("run").arg("--runtime-dir").arg(&sockets);
        command.arg("--state-dir").arg(place.folder().join("state"));
        // It writes nothing to its standard output.
        let (lines, _) = channel();
        let child = Child::start("daemon", command, place.folder(), lines)?;
        let mut daemon = Self {
            child,
            sockets,
            poolctl: programs.join("poolctl"),
        };
        match eventually(Deadline::after(PATIENCE), || daemon.has_come_up()) {
            Ok(true) => Ok(daemon),
            Ok(false) => bail!("the daemon has ended at once{}", daemon.child.complaints()),
            Err(_) => bail!("the daemon does not answer{}", daemon.child.complaints()),
        }
    }

    /// Whether it answers, or has ended instead; `None` where it is still to do one of them.
    fn has_come_up(&mut self) -> Option<bool> {
        // This very process, and not another daemon.
        if self
            .ask("status")
            .is_ok_and(|status| status["pid"] == self.id())
        {
            return Some(true);
        }
        self.child.has_ended().then_some(false)
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The socket that clients attach to.
    pub(super) fn socket(&self) -> PathBuf {
        self.sockets.join("session.sock")
    }

    /// Ends it without warning.
    pub(super) fn kill(self) -> anyhow::Result<()> {
        self.child.kill()
    }

    /// Stops it in good order.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        self.child.terminate()
    }

    /// What the operator sees.
    pub(super) fn picture(&self) -> anyhow::Result<Picture> {
        let (tiers, status, check) = (self.ask("tiers")?, self.ask("status")?, self.ask("check")?);
        let read = || {
            let tier = |tier: &Value| {
                Some(Tier {
                    name: tier["name"].as_str()?.to_owned(),
                    emulated: tier["emulated"].as_bool()?,
                    total: tier["total_bytes"].as_u64()?,
                    free: tier["free_bytes"].as_u64()?,
                    granted: tier["granted_bytes"].as_u64()?,
                })
            };
            Some(Picture {
                tiers: tiers["tiers"]
                    .as_array()?
                    .iter()
                    .map(tier)
                    .collect::<Option<_>>()?,
                clients: status["clients"].as_u64()?,
                balanced: check["balanced"].as_bool()?,
            })
        };
        read().context("the answers of poolctl have another form than we know")
    }

    /// The picture when all memory is free again, or the last one where that never comes.
    ///
    /// Memory that was freed is free again when it is proven that nobody maps it any more, which
    /// is a moment later.
    pub(super) fn picture_at_rest(&self) -> anyhow::Result<Picture> {
        let at_rest = || {
            let picture = self.picture();
            let resting = picture.as_ref().is_ok_and(Picture::is_at_rest);
            resting.then_some(picture)
        };
        eventually(Deadline::after(PATIENCE), at_rest).unwrap_or_else(|_| self.picture())
    }

    /// What `poolctl QUESTION --json` answers.
    fn ask(&self, question: &str) -> anyhow::Result<Value> {
        let mut command = Command::new(&self.poolctl);
        command
            .arg("--socket")
            .arg(self.sockets.join("admin.sock"))
            .args(["--json", question]);
        let answer = output(&mut command)?;
        serde_json::from_str(&answer).with_context(|| format!("`poolctl {question}` wrote no JSON"))
    }
}

impl Picture {
    /// Nobody is attached, and all memory is free.
    pub(super) fn is_at_rest(&self) -> bool {
        self.clients == 0 && self.tiers.iter().all(|tier| tier.free == tier.total)
    }
}
