//! Playing a scenario: its steps, one after the other, on machines that have the same devices.
//!
//! Where a scenario has a board (`coherence::host::board`), what is played is also the fabric's
//! manager: it alone kills machines, and it writes to the board who is fenced and who has the home,
//! through the file that the devices of all machines are.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use coherence::cache::Hardware;
use coherence::host::board::{Board, Shape};
use pool_core::clock::{Deadline, eventually};
use pool_core::mem::{Access, FileMap};
use pool_core::sync::atomic::AtomicU64;
use pool_core::{Bytes, Nanos};

use super::console::{self, Verdict};
use super::machine::{Image, Machine};
use super::packages::Roots;
use super::scenarios::{Scenario, Step};

/// How long a scenario may take.
const LIMIT: Nanos = Nanos::from_millis(240_000);

/// Runs one scenario to its end, and shows what its guests say.
pub(super) fn play(
    folder: &Path,
    roots: &Roots,
    image: &Image,
    scenario: &Scenario,
) -> anyhow::Result<Verdict> {
    let at = folder.join("run").join(scenario.name);
    if at.exists() {
        fs::remove_dir_all(&at)?;
    }
    let memory = at.join("memory");
    fs::create_dir_all(&memory)?;
    let mut play = Play {
        roots,
        image,
        scenario,
        at,
        memory,
        machines: BTreeMap::new(),
        until: Deadline::after(LIMIT),
    };
    for step in scenario.steps {
        let verdict = play.step(*step)?;
        if let Verdict::Failed(why) = verdict {
            return Ok(Verdict::Failed(why));
        }
    }
    play.machines.clear();
    // What devices held is large, and of no use any more.
    fs::remove_dir_all(&play.memory)?;
    Ok(Verdict::Passed)
}

/// A scenario that is being played.
struct Play<'p> {
    roots: &'p Roots,
    image: &'p Image,
    scenario: &'p Scenario,
    at: PathBuf,
    memory: PathBuf,
    /// Those that run, by name.
    machines: BTreeMap<&'static str, Machine>,
    until: Deadline,
}

impl Play<'_> {
    fn step(&mut self, step: Step) -> anyhow::Result<Verdict> {
        match step {
            Step::Board { hosts, extents } => self.make_board(Shape::new(hosts, extents)?)?,
            Step::Start(name) => self.start(name)?,
            Step::Says(name, what) => return self.says(name, what),
            Step::Kill(name) => {
                let machine = self.machine(name)?;
                let log = machine.log.clone();
                drop(machine);
                console::show(&read(&log)?);
            }
            Step::Fence(slot) => {
                self.on_board(|board| Ok(board.fence(slot, board.life(slot)?)?))?;
            }
            Step::Appoint(slot) => self.on_board(|board| Ok(board.appoint(slot)?))?,
            Step::Passes(name) => return self.passes(name),
        }
        Ok(Verdict::Passed)
    }

    fn start(&mut self, name: &'static str) -> anyhow::Result<()> {
        let machine = Machine::start(
            self.roots,
            self.image,
            self.scenario.topology,
            (&self.at.join(name), &self.memory),
            (self.scenario.name, name),
        )?;
        self.machines.insert(name, machine);
        Ok(())
    }

    /// Takes a machine out of those that run.
    fn machine(&mut self, name: &str) -> anyhow::Result<Machine> {
        let machine = self.machines.remove(name);
        machine.with_context(|| format!("no machine {name} runs"))
    }

    /// Waits until a machine has said something; that none fails meanwhile.
    fn says(&mut self, name: &str, what: &str) -> anyhow::Result<Verdict> {
        let line = format!("{name}: {what}");
        let until = self.until;
        let came = eventually(until, || match self.heard(name, &line) {
            Ok(None) => None,
            heard => Some(heard),
        });
        match came {
            Ok(heard) => Ok(heard?.unwrap_or(Verdict::Passed)),
            Err(_) => self.unfinished(name),
        }
    }

    /// Whether a machine has said a line, or one has failed.
    fn heard(&mut self, name: &str, line: &str) -> anyhow::Result<Option<Verdict>> {
        for (other, machine) in &mut self.machines {
            let has_ended = machine.has_ended()?;
            let said = read(&machine.log)?;
            if has_ended || console::has_failed(&said) {
                let why = match console::verdict(&said) {
                    Verdict::Failed(why) => why,
                    Verdict::Passed => "it ended before its time".to_owned(),
                };
                return Ok(Some(Verdict::Failed(format!("{other}: {why}"))));
            }
        }
        let machine = self.machines.get(name);
        let machine = machine.with_context(|| format!("no machine {name} runs"))?;
        let said = read(&machine.log)?;
        Ok(console::has_told(&said, line).then_some(Verdict::Passed))
    }

    /// Waits until a machine has ended by itself.
    fn passes(&mut self, name: &'static str) -> anyhow::Result<Verdict> {
        let mut machine = self.machine(name)?;
        let ended = eventually(self.until, || match machine.has_ended() {
            Ok(false) => None,
            ended => Some(ended),
        });
        let said = read(&machine.log)?;
        match ended {
            Ok(ended) => _ = ended?,
            Err(_) => return Ok(Verdict::Failed(console::unfinished(&said))),
        }
        console::show(&said);
        Ok(console::verdict(&said))
    }

    /// What is told of machines that took too long: what each of them said last.
    fn unfinished(&self, name: &str) -> anyhow::Result<Verdict> {
        let mut why = format!("{name} was waited for in vain");
        for (name, machine) in &self.machines {
            let said = console::unfinished(&read(&machine.log)?);
            why = format!("{why}\n{name}: {said}");
        }
        Ok(Verdict::Failed(why))
    }

    /// The file of the first device, as long as that is.
    fn device(&self) -> anyhow::Result<File> {
        let expander = self.scenario.topology.expanders().first();
        let expander = expander.context("a board lies on a device")?;
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.open(expander.file(&self.memory))?;
        file.set_len(expander.mib << 20)?;
        Ok(file)
    }

    fn make_board(&self, shape: Shape) -> anyhow::Result<()> {
        let map = map(&self.device()?, shape.bytes())?;
        let board = Board::create(words(&map)?, Hardware, shape)?;
        Ok(board.appoint(0)?)
    }

    fn on_board(
        &self,
        change: impl FnOnce(&Board<&[AtomicU64], Hardware>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let file = self.device()?;
        let map = map(&file, Bytes::new(file.metadata()?.len()))?;
        change(&Board::open(words(&map)?, Hardware)?)
    }
}

fn map(file: &File, bytes: Bytes) -> anyhow::Result<FileMap> {
    let map = FileMap::new(file.as_fd(), Bytes::ZERO, bytes, Access::ReadWrite);
    map.context("the file of a device is not mapped")
}

fn words(map: &FileMap) -> anyhow::Result<&[AtomicU64]> {
    let mapped = map.mapped();
    let count = usize::try_from(mapped.bytes().get() / 8)?;
    Ok(mapped.atomics_u64(Bytes::ZERO, count)?)
}

fn read(log: &Path) -> anyhow::Result<String> {
    let said = fs::read(log).with_context(|| log.display().to_string())?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}
