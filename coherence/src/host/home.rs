//! The home: the daemon of the host that manages the device.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pool_core::{Nanos, planted};

use super::message::{Denial, Right, SLOTS, Tell, ToHome, ToPeer};
use super::refusal::{Counts, Refusal};
use super::row::{Record, Row, Standing, State};
use super::timer::Timer;

mod queue;
mod rebirth;
mod rights;
mod roll;
#[cfg(test)]
mod tests;

pub use rebirth::{Broken, RecoverError};

/// What a home is given to work with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HomeLimits {
    /// How many extents the device has; they are numbered from 0.
    pub extents: u32,
    /// How many extents are waited for at most, each by every host at most once. Further ones are
    /// told [`Denial::Busy`].
    pub contended_max: usize,
    /// When an unanswered message is sent again; the pause doubles each time.
    pub resend_first: Nanos,
    /// The longest pause between two sendings.
    pub resend_longest: Nanos,
    /// After how long a waiting request is told [`Denial::Unavailable`].
    pub patience: Nanos,
    /// After how long the holder of a recalled grant is reported as suspect.
    pub suspect_after: Nanos,
}

impl Default for HomeLimits {
    fn default() -> Self {
        Self {
            extents: 1 << 20,
            contended_max: 4096,
            resend_first: Nanos::from_millis(2),
            resend_longest: Nanos::from_millis(200),
            patience: Nanos::from_millis(5_000),
            suspect_after: Nanos::from_millis(1_000),
        }
    }
}

/// What a home is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HomeInput {
    /// A message of a peer, in whatever order, however often.
    Message(ToHome),
    /// This host, in this era, shall be fenced: it is heard no more, and the fabric is asked.
    Condemn {
        /// The host's slot.
        host: u8,
        /// Its era.
        era: u64,
    },
    /// The fabric has proved that this host, which was condemned before, can write no more. Told
    /// again until the step that it causes is durable.
    HostFenced {
        /// The host's slot.
        host: u8,
        /// The era that was fenced.
        era: u64,
    },
    /// A lost extent holds again what was published under this version.
    Repaired {
        /// The extent's number.
        extent: u32,
        /// The copy's version; only the last good one is taken.
        version: u64,
    },
    /// The owner of a lost extent takes what is there for its content.
    Accepted {
        /// The extent's number.
        extent: u32,
    },
    /// A lost or free extent is given up for good.
    Withdrawn {
        /// The extent's number.
        extent: u32,
    },
    /// Time has passed.
    Tick,
}

/// What a home wants done, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HomeOutput {
    /// Make this durable before anything that follows is done.
    Record(Record),
    /// Send this. It may be lost.
    Send(ToPeer),
    /// Repair this extent from a copy of that version, accept it as it is, or withdraw it. Told
    /// again at each start.
    Lost {
        /// The extent's number.
        extent: u32,
        /// The last version that was published whole.
        last_good: u64,
    },
    /// This host does not give back what others wait for, or was born again: find out whether it
    /// lives, and fence it if not.
    Suspect {
        /// The host's slot.
        host: u8,
        /// The era to fence.
        era: u64,
    },
    /// Ask the fabric to fence this host; when it has proved that the host can write no more, say
    /// [`HomeInput::HostFenced`]. Told again at each start, until then.
    Fence {
        /// The host's slot.
        host: u8,
        /// Its era.
        era: u64,
    },
    /// The input, or a part of it, was refused and changed nothing.
    Refused(Refusal),
}

/// A host, as the home knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Host {
    era: u64,
    boot: u64,
    standing: Standing,
    /// Its requests with lower tickets are settled. Forgotten at a restart: it spares late copies
    /// of requests a useless grant, no more.
    floor: u64,
    /// Since a restart: until all that it holds was announced.
    hello: Option<Timer>,
}

/// A request that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Waiting {
    slot: u8,
    ticket: u64,
    right: Right,
    deadline: Nanos,
}

/// A recall that is under way, for the first of those who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Recall {
    timer: Timer,
    suspect_at: Nanos,
    suspected: bool,
}

/// Those who wait for one extent: at most one request of each host, in the order of their coming.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Line {
    waiting: VecDeque<Waiting>,
    recall: Option<Recall>,
}

/// The state of the directory. See the module's page for the protocol.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Home {
    limits: HomeLimits,
    term: u64,
    hosts: BTreeMap<u8, Host>,
    /// Those that were ever used.
    extents: BTreeMap<u32, Row>,
    /// Those that someone waits for; none is empty.
    lines: BTreeMap<u32, Line>,
    counts: Counts,
}

/// What a step has gathered: rows by name, so that they come out as they are at its end, and
/// before all that is sent.
#[derive(Debug, Default)]
struct Gathered {
    term: bool,
    extents: BTreeSet<u32>,
    hosts: BTreeSet<u8>,
    rest: Vec<HomeOutput>,
}

impl Gathered {
    fn send(&mut self, to: u8, era: u64, tell: Tell) {
        self.rest.push(HomeOutput::Send(ToPeer { to, era, tell }));
    }
}

impl Home {
    /// Does what the input asks for, and says what must be done outside, in order.
    #[must_use = "records must be made durable and messages be sent"]
    pub fn step(&mut self, now: Nanos, input: HomeInput) -> Vec<HomeOutput> {
        let mut out = Gathered::default();
        let done = match input {
            HomeInput::Message(message) => self.message(now, message, &mut out),
            HomeInput::Condemn { host, era } => self.condemn(now, host, era, &mut out),
            HomeInput::HostFenced { host, era } => self.fenced(now, host, era, &mut out),
            HomeInput::Repaired { extent, version } => {
                self.mended(now, extent, Some(version), &mut out)
            }
            HomeInput::Accepted { extent } => self.mended(now, extent, None, &mut out),
            HomeInput::Withdrawn { extent } => self.withdrawn(extent, &mut out),
            HomeInput::Tick => {
                self.tick(now, &mut out);
                Ok(())
            }
        };
        if let Err(why) = done {
            self.counts.add(why);
            out.rest.push(HomeOutput::Refused(why));
        }
        self.outputs(out)
    }

    /// When [`HomeInput::Tick`] is due; `None` while there is nothing to wait for.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Nanos> {
        let hellos = self.hosts.values().filter_map(|host| host.hello);
        let lines = self.lines.values();
        let waits = lines.clone().flat_map(|line| &line.waiting);
        let recalls = lines.filter_map(|line| line.recall);
        hellos
            .map(Timer::due)
            .chain(waits.map(|waiting| waiting.deadline))
            .chain(recalls.map(|recall| {
                let due = recall.timer.due();
                if recall.suspected {
                    due
                } else {
                    due.min(recall.suspect_at)
                }
            }))
            .min()
    }

    /// The number of this start of the home.
    #[must_use]
    pub const fn term(&self) -> u64 {
        self.term
    }

    /// What is known of an extent; `None` where the device has no such one.
    #[must_use]
    pub fn extent(&self, extent: u32) -> Option<Row> {
        (extent < self.limits.extents)
            .then(|| self.extents.get(&extent).cloned().unwrap_or_default())
    }

    /// The era of the host in `slot`, where it is a member.
    #[must_use]
    pub fn member(&self, slot: u8) -> Option<u64> {
        self.era(slot, Standing::Member)
    }

    /// The era of the host in `slot`, where it is condemned and not yet fenced.
    #[must_use]
    pub fn condemned(&self, slot: u8) -> Option<u64> {
        self.era(slot, Standing::Condemned)
    }

    fn era(&self, slot: u8, standing: Standing) -> Option<u64> {
        let host = self.hosts.get(&slot)?;
        (host.standing == standing).then_some(host.era)
    }

    /// How many requests wait, over all extents.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lines.values().map(|line| line.waiting.len()).sum()
    }

    /// What was refused since the counts were last taken.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Takes the counts; they begin anew.
    #[must_use]
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    fn outputs(&self, out: Gathered) -> Vec<HomeOutput> {
        let term = out.term.then_some(Record::Term { term: self.term });
        // Extents before hosts: a fence that is half durable leaves the host a member, so that it
        // is fenced once more, and never a holder that is none.
        let extents = out.extents.iter().filter_map(|extent| {
            let row = self.extents.get(extent)?.clone();
            Some(Record::Extent {
                extent: *extent,
                row,
            })
        });
        let hosts = out.hosts.iter().filter_map(|slot| self.host_record(*slot));
        let mut outputs: Vec<_> = term
            .into_iter()
            .chain(extents)
            .chain(hosts)
            .map(HomeOutput::Record)
            .collect();
        let records = outputs.len();
        outputs.extend(out.rest);
        if planted!("host.message_before_its_record") {
            outputs.rotate_left(records);
        }
        outputs
    }

    fn host_record(&self, slot: u8) -> Option<Record> {
        self.hosts.get(&slot).map(|host| Record::Host {
            slot,
            era: host.era,
            boot: host.boot,
            standing: host.standing,
        })
    }

    /// The row of an extent that the device has.
    fn row(&mut self, extent: u32) -> Result<&mut Row, Refusal> {
        if extent >= self.limits.extents {
            return Err(Refusal::UnknownExtent);
        }
        Ok(self.extents.entry(extent).or_default())
    }

    /// A lost extent has content again: that of the last good version, or, where no version is
    /// named, what is there. It was given a new version when it was lost.
    fn mended(
        &mut self,
        now: Nanos,
        extent: u32,
        copy: Option<u64>,
        out: &mut Gathered,
    ) -> Result<(), Refusal> {
        let State::Lost { last_good } = self.extent(extent).ok_or(Refusal::UnknownExtent)?.state
        else {
            return Err(Refusal::NotLost);
        };
        let any = planted!("host.any_copy_repairs");
        if copy.is_some_and(|version| version != last_good && !any) {
            return Err(Refusal::WrongCopy);
        }
        self.row(extent)?.state = State::Free;
        out.extents.insert(extent);
        self.pump(now, extent, out);
        Ok(())
    }

    fn withdrawn(&mut self, extent: u32, out: &mut Gathered) -> Result<(), Refusal> {
        match self.extent(extent).ok_or(Refusal::UnknownExtent)?.state {
            State::Lost { .. } | State::Free => {
                self.row(extent)?.state = State::Withdrawn;
                out.extents.insert(extent);
                self.refuse_all(extent, Denial::Withdrawn, out);
                Ok(())
            }
            State::Withdrawn => Ok(()),
            State::Shared(_) | State::Owned { .. } => Err(Refusal::InUse),
        }
    }
}

/// Whether a host can have this slot.
const fn is_slot(slot: u8) -> bool {
    slot < SLOTS
}
