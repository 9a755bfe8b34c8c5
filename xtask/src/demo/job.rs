//! One run of the training job over the pool: loader, trainer and worker, processes of two tenants.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Context as _, bail};
use pool_core::{Nanos, clock};

use super::child::{Child, Line};
use super::daemon::{Daemon, Picture};
use super::fact::{Fact, Sight};
use super::place::{Place, Users};
use super::progress::Progress;

const LOADER: &str = "loader";
const TRAINER: &str = "trainer";
const WORKER: &str = "worker";
/// Every process says something far more often than this, while there is something to say.
const SILENCE: Duration = Duration::from_secs(60);

/// Where the job runs, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stage<'a> {
    pub(super) place: &'a Place,
    pub(super) programs: &'a Path,
    pub(super) steps: u32,
}

/// What a run ended with.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Of the weights, as hexadecimal digits.
    pub(super) digest: String,
    pub(super) hits: u32,
    pub(super) held_out: u32,
    pub(super) took: Nanos,
    /// Where each process saw each segment.
    pub(super) sights: Vec<(&'static str, Sight)>,
    /// The pool at the end, while everybody still held everything.
    pub(super) picture: Picture,
    /// Where the second worker took up the job, if there was one.
    pub(super) taken_up_at: Option<u32>,
}

/// A run in progress.
#[derive(Debug)]
struct Run<'a> {
    stage: Stage<'a>,
    sender: Sender<Line>,
    lines: Receiver<Line>,
    progress: Progress,
    sights: Vec<(&'static str, Sight)>,
    started_at: Vec<u32>,
    applied: u32,
    digest: Option<String>,
    hits: Option<(u32, u32)>,
}

/// Runs the job on `daemon`. With `disturb`, worker and daemon are killed and started again when
/// half of the steps are done. Returns the daemon that runs at the end.
pub(super) fn run(
    stage: Stage<'_>,
    mut daemon: Daemon,
    disturb: bool,
) -> anyhow::Result<(Daemon, Outcome)> {
    let (sender, lines) = channel();
    let progress = Progress::new(stage.steps);
    let (sights, started_at) = (Vec::new(), Vec::new());
    let mut run = Run {
        stage,
        sender,
        lines,
        progress,
        sights,
        started_at,
        applied: 0,
        digest: None,
        hits: None,
    };
    let start = clock::now();
    let loader = run.start(LOADER, &daemon)?;
    run.until(&[&loader], |fact, _| *fact == Fact::Ready)?;
    let trainer = run.start(TRAINER, &daemon)?;
    run.until(&[&loader, &trainer], |fact, _| *fact == Fact::Ready)?;
    let mut worker = run.start(WORKER, &daemon)?;
    if disturb {
        let enough = kill_after(stage.steps);
        run.until(&[&loader, &trainer, &worker], |_, run| {
            run.applied >= enough
        })?;
        (worker, daemon) = run.kill_and_restart(worker, daemon)?;
        run.progress.note(&format!(
            "the trainer ({}) has run on all the while",
            trainer.id()
        ));
    }
    run.until(&[&loader, &trainer, &worker], |_, run| run.hits.is_some())?;
    let took = clock::now().saturating_since(start);
    let picture = daemon.picture()?;
    // In this order: the trainer's segments are freed when the worker no longer holds them.
    for child in [worker, trainer, loader] {
        child.dismiss()?;
    }
    let outcome = run.outcome(took, picture)?;
    Ok((daemon, outcome))
}

/// How many steps are done when worker and daemon are killed.
pub(super) const fn kill_after(steps: u32) -> u32 {
    steps / 2
}

impl Run<'_> {
    fn start(&self, role: &'static str, daemon: &Daemon) -> anyhow::Result<Child> {
        let users = self.stage.place.users();
        let (of_data, of_training) = (users.data(), users.training());
        let tenant = match role {
            LOADER => &of_data,
            _ => &of_training,
        };
        let mut command = Command::new(self.stage.programs.join("digits"));
        command
            .arg(role)
            .arg("--socket")
            .arg(daemon.socket())
            .args(["--tenant", tenant.label]);
        match role {
            LOADER => command.args(["--reader", &of_training.name]),
            _ => command
                .args(["--owner", &of_data.name])
                .args(["--steps", &self.stage.steps.to_string()]),
        };
        if let Users::Apart(_) = users {
            command.uid(tenant.uid).gid(tenant.uid);
        }
        Child::start(
            role,
            command,
            self.stage.place.folder(),
            self.sender.clone(),
        )
    }

    /// Kills the worker and the daemon, and starts both anew.
    fn kill_and_restart(
        &mut self,
        worker: Child,
        daemon: Daemon,
    ) -> anyhow::Result<(Child, Daemon)> {
        let (of_worker, of_daemon, step) = (worker.id(), daemon.id(), self.applied);
        self.progress.note(&format!(
            "kill -9: the worker ({of_worker}) and the daemon ({of_daemon}), at step {step}"
        ));
        worker.kill()?;
        daemon.kill()?;
        let daemon = Daemon::start(self.stage.place, self.stage.programs)?;
        let worker = self.start(WORKER, &daemon)?;
        let (of_worker, of_daemon) = (worker.id(), daemon.id());
        self.progress.note(&format!(
            "started again: the worker ({of_worker}) and the daemon ({of_daemon})"
        ));
        Ok((worker, daemon))
    }

    /// Takes in facts until one of them, or what they add up to, is `enough`.
    fn until(
        &mut self,
        children: &[&Child],
        enough: impl Fn(&Fact, &Self) -> bool,
    ) -> anyhow::Result<()> {
        loop {
            let Ok(line) = self.lines.recv_timeout(SILENCE) else {
                bail!(
                    "nobody has said anything for {} s{}",
                    SILENCE.as_secs(),
                    told(children)
                );
            };
            let Some(text) = line.text else {
                if children.iter().any(|child| child.is(line.process)) {
                    bail!("the {} has ended too early{}", line.from, told(children));
                }
                continue; // The last word of one that was killed on purpose.
            };
            let fact = Fact::parse(&text)?;
            self.take_in(line.from, &fact);
            if enough(&fact, self) {
                return Ok(());
            }
        }
    }

    fn take_in(&mut self, from: &'static str, fact: &Fact) {
        match fact {
            Fact::At(sight) => self.sights.push((from, sight.clone())),
            Fact::From(step) => self.started_at.push(*step),
            Fact::Step { step, loss } => self.progress.show(*step, *loss),
            Fact::Applied { step } => self.applied = *step,
            Fact::Digest(digest) => self.digest = Some(digest.clone()),
            Fact::Hits { hits, held_out } => self.hits = Some((*hits, *held_out)),
            Fact::Ready => {}
        }
    }

    fn outcome(mut self, took: Nanos, picture: Picture) -> anyhow::Result<Outcome> {
        self.progress.end();
        let (hits, held_out) = self
            .hits
            .context("the trainer has not judged what it learned")?;
        Ok(Outcome {
            digest: self.digest.context("the trainer has not told the digest")?,
            hits,
            held_out,
            took,
            sights: self.sights,
            picture,
            taken_up_at: self.started_at.get(1).copied(),
        })
    }
}

/// What the processes have complained of, for an error.
fn told(children: &[&Child]) -> String {
    children.iter().map(|child| child.complaints()).collect()
}
