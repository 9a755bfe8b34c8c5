//! Schedules that follow from a seed.
//!
//! Each kind of fault has a stream of numbers of its own, so that one more kind in a mix shifts no
//! other fault. Faults of a kind come at random, up to twice the mean apart, and what ends has its
//! end planned with it.

use pool_core::rng::Rng;
use pool_core::units::LINE_BYTES;

use super::{FAULTS_MAX, LAST, Schedule, ScheduleError};
use crate::fabric::{Cci, Direction, Fault, Glitch};
use crate::id::{HostId, LdId, MemdevId, Port, SwitchId, VcsId, VppbId};
use crate::timing::Picos;
use crate::topology::Topology;
use crate::topology::limits::{GIGATRANSFERS, LANES};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// A kind of faults that are drawn.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[$doc])* $name),+
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// What it is called, as `LinkDown`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name)),+
                }
            }
        }
    };
}

kinds! {
    /// A host dies, and starts anew.
    HostDeath,
    /// A host writes back lines that it only read, for a while.
    CleanWriteBack,
    /// A link goes down, and is up again.
    LinkDown,
    /// A link is narrower or slower for a while.
    LinkRetrain,
    /// A link sends much again for a while.
    RetryStorm,
    /// One way of a link is slow, or blocked, for a while.
    OneWayStall,
    /// A port is in reset for a while.
    PortReset,
    /// A switch starts anew.
    SwitchRestart,
    /// A bridge is unbound by surprise.
    SurpriseUnbind,
    /// A switch binds and unbinds nothing for a while.
    BindRefused,
    /// A memory device vanishes, and returns.
    MemdevGone,
    /// The power of a memory device goes and comes.
    PowerCycle,
    /// A memory device is viral for a while.
    Viral,
    /// A memory device zeroes slowly for a while.
    SlowZeroing,
    /// A memory device tells what it is not, for a while.
    Lie,
    /// Many errors are corrected, until they are forgotten.
    CorrectedErrors,
    /// The log of a logical device takes no records for a while.
    LogOverflow,
    /// A list changes while it may be being read.
    ListChange,
    /// A line is poisoned.
    Poison,
    /// A line is read as an error once.
    PoisonOnce,
    /// A line is poisoned, whatever is written, for a while.
    PoisonStays,
    /// Something is wrong with some commands.
    Glitch,
    /// What goes on in the background hangs for a while.
    BackgroundHang,
    /// A line turns out to be lost when the device looks at it.
    ScrubError,
    /// A memory device tells of its speed what was so before, for a while.
    StaleCdat,
}

/// What goes wrong how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix {
    /// Nothing begins after that.
    pub horizon: Picos,
    /// How long it lasts in the mean until what ends has ended.
    pub lasts: Picos,
    /// Of each kind, how long there is between one and the next in the mean.
    pub kinds: Vec<(Kind, Picos)>,
}

impl Mix {
    /// All kinds alike.
    #[must_use]
    pub fn all(horizon: Picos, lasts: Picos, apart: Picos) -> Self {
        let kinds = Kind::ALL.iter().map(|&kind| (kind, apart)).collect();
        Self {
            horizon,
            lasts,
            kinds,
        }
    }
}

impl Schedule {
    /// The faults of a mix, among the parts of a topology. Of kinds whose parts it does not have
    /// there are none.
    ///
    /// # Errors
    /// [`ScheduleError::TooMany`].
    pub fn draw(topology: &Topology, seed: u64, mix: &Mix) -> Result<Self, ScheduleError> {
        let mut schedule = Self::new();
        for &(kind, apart) in &mix.kinds {
            let own = Rng::new(seed ^ Rng::new(kind as u64).number()).number();
            let mut draw = Draw {
                topology,
                rng: Rng::new(own),
            };
            let mut at = draw.time(apart);
            for number in 0..=FAULTS_MAX {
                if at > mix.horizon.min(LAST) {
                    break;
                }
                if number == FAULTS_MAX {
                    return Err(ScheduleError::TooMany);
                }
                // Drawn in any case, so that no draw depends on what there is.
                let lasts = draw.time(mix.lasts);
                if let Some((fault, end)) = draw.fault(kind) {
                    schedule.add(at, fault)?;
                    let until = at.saturating_add(lasts).min(LAST);
                    end.map_or(Ok(()), |end| schedule.add(until, end))?;
                }
                at = at.saturating_add(draw.time(apart));
            }
        }
        Ok(schedule)
    }
}

struct Draw<'a> {
    topology: &'a Topology,
    rng: Rng,
}

/// What goes wrong, and what ends it.
type Drawn = Option<(Fault, Option<Fault>)>;

impl Draw<'_> {
    /// At least a picosecond.
    fn time(&mut self, mean: Picos) -> Picos {
        let drawn = self.rng.below(mean.times(2).get());
        Picos::new(drawn.saturating_add(1))
    }

    /// A place in a list; none where there is nothing in it.
    fn place(&mut self, count: usize) -> Option<u16> {
        let drawn = self.rng.below(count as u64);
        u16::try_from(drawn).ok().filter(|_| count > 0)
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        all.get(usize::from(self.place(all.len())?)).copied()
    }

    fn host(&mut self) -> Option<HostId> {
        self.place(self.topology.hosts.len()).map(HostId)
    }

    fn port(&mut self) -> Option<(usize, Port)> {
        let place = usize::from(self.place(self.topology.links.len())?);
        Some((place, self.topology.links.get(place)?.up))
    }

    fn switch(&mut self) -> Option<SwitchId> {
        self.place(self.topology.switches.len()).map(SwitchId)
    }

    fn memdev(&mut self) -> Option<MemdevId> {
        self.place(self.topology.memdevs.len()).map(MemdevId)
    }

    fn logical(&mut self) -> Option<(MemdevId, LdId)> {
        let memdev = self.memdev()?;
        let kind = self.topology.memdevs.get(memdev.index())?.kind;
        let ld = self.place(kind.logical_devices().into())?;
        Some((memdev, LdId(ld)))
    }

    fn line(&mut self) -> Option<(MemdevId, u64)> {
        let memdev = self.memdev()?;
        let of = self.topology.memdevs.get(memdev.index())?;
        let bytes = of.fixed.get().saturating_add(of.dynamic.get());
        let line = self.rng.below(bytes / LINE_BYTES);
        (bytes > 0).then_some((memdev, line * LINE_BYTES))
    }

    fn interface(&mut self) -> Option<Cci> {
        match self.rng.below(3) {
            0 => self.switch().map(Cci::Switch),
            1 => self.memdev().map(Cci::Memdev),
            _ => {
                let (memdev, ld) = self.logical()?;
                let host = self.host()?;
                Some(Cci::Mailbox { host, memdev, ld })
            }
        }
    }

    fn fault(&mut self, kind: Kind) -> Drawn {
        match kind {
            Kind::HostDeath | Kind::CleanWriteBack => self.host_fault(kind),
            Kind::LinkDown
            | Kind::LinkRetrain
            | Kind::RetryStorm
            | Kind::OneWayStall
            | Kind::PortReset => self.link_fault(kind),
            Kind::SwitchRestart | Kind::SurpriseUnbind | Kind::BindRefused => {
                self.switch_fault(kind)
            }
            Kind::MemdevGone
            | Kind::PowerCycle
            | Kind::Viral
            | Kind::SlowZeroing
            | Kind::Lie
            | Kind::CorrectedErrors
            | Kind::LogOverflow
            | Kind::ListChange
            | Kind::StaleCdat => self.memdev_fault(kind),
            Kind::Poison | Kind::PoisonOnce | Kind::PoisonStays | Kind::ScrubError => {
                self.line_fault(kind)
            }
            Kind::Glitch | Kind::BackgroundHang => self.interface_fault(kind),
        }
    }

    fn host_fault(&mut self, kind: Kind) -> Drawn {
        let host = self.host()?;
        let keeps = self
            .topology
            .hosts
            .get(host.index())?
            .writes_back_no_clean_lines;
        Some(match kind {
            Kind::HostDeath => (Fault::HostDies(host), Some(Fault::HostStarts(host))),
            _ => (
                Fault::HostWritesCleanLines(host),
                keeps.then_some(Fault::HostKeepsCleanLines(host)),
            ),
        })
    }

    fn link_fault(&mut self, kind: Kind) -> Drawn {
        let (place, port) = self.port()?;
        let made = self.topology.links.get(place)?;
        let fault = match kind {
            Kind::LinkDown => Fault::LinkFails(port),
            Kind::LinkRetrain => {
                let lanes: Vec<u8> = LANES.into_iter().filter(|&it| it <= made.lanes).collect();
                let speeds = GIGATRANSFERS.into_iter();
                let speeds: Vec<u8> = speeds.filter(|&it| it <= made.gigatransfers).collect();
                Fault::LinkRetrains {
                    port,
                    lanes: self.one_of(&lanes)?,
                    gigatransfers: self.one_of(&speeds)?,
                }
            }
            Kind::RetryStorm => Fault::LinkRetries {
                port,
                once_in: u32::from(self.place(100)?) + 1,
            },
            Kind::OneWayStall => Fault::LinkStalls {
                port,
                direction: self.one_of(&[Direction::Up, Direction::Down])?,
                longer: self.one_of(&[
                    None,
                    Some(Picos::from_nanos(1_000)),
                    Some(Picos::from_nanos(100_000)),
                ])?,
            },
            _ => return Some((Fault::PortResets(port), Some(Fault::PortRuns(port)))),
        };
        Some((fault, Some(Fault::LinkHeals(port))))
    }

    fn switch_fault(&mut self, kind: Kind) -> Drawn {
        let switch = self.switch()?;
        let of = self.topology.switches.get(switch.index())?;
        let (vcss, vppbs) = (self.topology.hosts.len().min(of.ports.into()), of.vppbs);
        Some(match kind {
            Kind::SwitchRestart => (Fault::SwitchRestarts(switch), None),
            Kind::BindRefused => (
                Fault::SwitchRefuses(switch),
                Some(Fault::SwitchObeys(switch)),
            ),
            _ => {
                let vcs = VcsId(u8::try_from(self.place(vcss)?).ok()?);
                let vppb = VppbId(u8::try_from(self.place(vppbs.into())?).ok()?);
                (Fault::BridgeUnbinds { switch, vcs, vppb }, None)
            }
        })
    }

    fn memdev_fault(&mut self, kind: Kind) -> Drawn {
        let (memdev, ld) = self.logical()?;
        let some = self.rng.below(1 << 32);
        let fault = match kind {
            Kind::MemdevGone => {
                let end = Some(Fault::MemdevReturns(memdev));
                return Some((Fault::MemdevVanishes(memdev), end));
            }
            Kind::PowerCycle => return Some((Fault::MemdevCycles(memdev), None)),
            Kind::ListChange => return Some((Fault::ListChanges { memdev, ld }, None)),
            Kind::Viral => Fault::MemdevTurnsViral(memdev),
            Kind::StaleCdat => Fault::CdatGoesStale(memdev),
            Kind::SlowZeroing => Fault::MemdevSlows {
                memdev,
                times: u32::from(self.place(1_000)?) + 2,
            },
            Kind::Lie => Fault::MemdevLies {
                memdev,
                serial: some.is_multiple_of(2).then_some(some),
                granules: some.is_multiple_of(3).then_some(some % 1_024),
            },
            Kind::CorrectedErrors => Fault::MemdevCorrects {
                memdev,
                ld,
                errors: u32::from(self.place(60_000)?) + 1,
            },
            _ => Fault::LogFills { memdev, ld },
        };
        Some((fault, Some(Fault::MemdevHeals(memdev))))
    }

    fn line_fault(&mut self, kind: Kind) -> Drawn {
        let (memdev, physical) = self.line()?;
        Some(match kind {
            Kind::Poison => (Fault::Poison { memdev, physical }, None),
            Kind::PoisonOnce => (Fault::PoisonOnce { memdev, physical }, None),
            Kind::ScrubError => {
                let lines = 1;
                let fault = Fault::MemdevScrubs {
                    memdev,
                    physical,
                    lines,
                };
                (fault, None)
            }
            _ => (
                Fault::PoisonStays { memdev, physical },
                Some(Fault::PoisonHeals { memdev, physical }),
            ),
        })
    }

    fn interface_fault(&mut self, kind: Kind) -> Drawn {
        let cci = self.interface()?;
        let fault = match kind {
            Kind::Glitch => {
                let bytes = self.place(64)?;
                Fault::InterfaceErrs {
                    cci,
                    glitch: self.one_of(&[
                        Glitch::NotHeard,
                        Glitch::AnswerLost,
                        Glitch::Busy,
                        Glitch::RetryRequired,
                        Glitch::AnsweredTwice,
                        Glitch::AnsweredLate(Picos::from_nanos(1_000_000)),
                        Glitch::AnswerCut(bytes),
                    ])?,
                    times: self.place(4)?.saturating_add(1),
                }
            }
            _ => Fault::BackgroundHangs(cci),
        };
        Some((fault, Some(Fault::InterfaceHeals(cci))))
    }
}
