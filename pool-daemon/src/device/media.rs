//! Which extents of a region hold a line whose content was lost, as its devices report it.
//!
//! A device tells of errors as they come, and keeps a list of all lines that are poisoned. The list
//! is asked for when listening begins, from time to time, and whenever something was missed: so a
//! report that is lost is late and no more.
//!
//! # Invariants
//! 1. What is bad is [not known](Media::bad) before each list was read once, to its end: that a
//!    device cannot be asked does not mean that it is whole. Nor is it known while a list has what
//!    cannot be read, or does not have all.
//! 2. A line costs an extent where a part of it lies in the region, wherever it begins.
//! 3. What fails is tried again, for ever; that it fails is [told](Turn) once, and once that it
//!    does so no more. Lines that lie elsewhere are told once, and not by each list.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use kernel_cxl::{ChangeError, ListFlags, LostLines, MediaLog, MediaNews, Region, Sysfs, Topology};
use pool_core::sync::Arc;
use pool_core::{EXTENT_BYTES, Nanos, planted};

use super::cxl::hardware_name;
use crate::engine::{Run, RunSet};

/// How often the lists are asked for where nothing was missed.
const LIST_EVERY: Nanos = Nanos::from_millis(10_000);
/// And where it is not known yet what is bad, or nothing is heard.
const RETRY: Nanos = Nanos::from_millis(1_000);
/// Lines elsewhere that were told and are remembered: what sixteen devices list.
const ELSEWHERE_MAX: usize = 16_384;

/// Where reports come from.
pub(super) trait Reports {
    /// Hears from now on what is reported.
    fn listen(&mut self) -> Result<(), ChangeError>;

    /// Has a device report all that is on its list; tells whether it shows one.
    fn list(&mut self, serial: u64) -> Result<bool, ChangeError>;

    /// What was reported since.
    fn read(&mut self) -> Result<MediaNews, ChangeError>;
}

/// The kernel, which traces what devices report.
#[derive(Debug)]
pub(super) struct Traced {
    sysfs: Sysfs,
    /// What its trace is called.
    name: String,
    log: Option<MediaLog>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Media<R> {
    reports: R,
    is_listening: bool,
    serials: Vec<u64>,
    place: Place,
    bad: RunSet,
    /// What was lost elsewhere and is told: of which device, where it begins, and its region.
    elsewhere: BTreeSet<(u64, u64, Option<String>)>,
    /// How often each device that showed no list did so.
    listless: BTreeMap<u64, u32>,
    round: Round,
    /// Each list was read to its end.
    is_known: bool,
    /// Why not all is heard.
    trouble: Option<Arc<ChangeError>>,
    list_at: Nanos,
}

/// What was heard since the lists were asked for the last time.
#[derive(Debug, Default)]
struct Round {
    /// Each list was told, and what was told is not read to its end yet.
    is_listed: bool,
    /// The first of what cannot be read.
    odd: Option<String>,
    /// What the last entry of each list says of it.
    lists: BTreeMap<(u64, Option<String>), ListFlags>,
}

/// Hearing of the media is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Turn {
    /// Not all is heard any more, or nothing was yet.
    Lost(String),
    /// All is heard again.
    Back,
}

/// Where a region lies.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    region: String,
    /// For the host, its first byte and how many there are.
    hpa: (u64, u64),
    /// For each of its devices, the first byte that it has of it.
    dpas: BTreeMap<u64, u64>,
    /// Over how many devices it is interleaved, and by how many bytes.
    ways: u64,
    granularity: u64,
}

impl Traced {
    /// The reports of these devices.
    pub(super) fn of(sysfs: &Sysfs, serials: &[u64]) -> Self {
        Self {
            sysfs: sysfs.clone(),
            name: format!("tierpool-{}", hardware_name(serials)),
            log: None,
        }
    }
}

impl Reports for Traced {
    fn listen(&mut self) -> Result<(), ChangeError> {
        self.log = None;
        self.log = Some(MediaLog::open(&self.sysfs, &self.name)?);
        Ok(())
    }

    fn list(&mut self, serial: u64) -> Result<bool, ChangeError> {
        self.sysfs.list_poison(serial)
    }

    fn read(&mut self) -> Result<MediaNews, ChangeError> {
        let read = self.log.as_mut().map(MediaLog::read);
        read.unwrap_or_else(|| Ok(MediaNews::default()))
    }
}

impl<R: Reports> Media<R> {
    /// What is heard of the devices of a region; nothing yet.
    ///
    /// # Errors
    /// [`ChangeError::DidNotCome`] where the topology does not have all of the region's devices.
    pub(super) fn of(
        reports: R,
        serials: &[u64],
        topology: &Topology,
        region: &Region,
    ) -> Result<Self, ChangeError> {
        Ok(Self::at(reports, serials, Place::of(topology, region)?))
    }

    fn at(reports: R, serials: &[u64], place: Place) -> Self {
        Self {
            reports,
            is_listening: false,
            serials: serials.to_vec(),
            place,
            bad: RunSet::default(),
            elsewhere: BTreeSet::new(),
            listless: BTreeMap::new(),
            round: Round::default(),
            is_known: false,
            trouble: None,
            list_at: Nanos::ZERO,
        }
    }

    /// Hears from now on what is reported. Where it cannot, the next look tries again, and tells.
    pub(super) fn begin(&mut self) {
        self.is_listening = self.reports.listen().is_ok();
    }

    /// Takes up what was reported since, and asks for the lists where it is time to. What fails
    /// keeps nothing else from being heard.
    pub(super) fn look(&mut self, now: Nanos) -> Option<Turn> {
        let was_lost = self.trouble.is_some();
        match self.hear(now) {
            Ok(true) => self.trouble = None,
            Ok(false) => {}
            Err(why) => {
                self.list_at = now.saturating_add(self.pause());
                self.trouble = Some(Arc::new(why));
            }
        }
        match &self.trouble {
            Some(why) if !was_lost => Some(Turn::Lost(why.to_string())),
            None if was_lost => Some(Turn::Back),
            _ => None,
        }
    }

    /// All extents of which something was lost.
    ///
    /// # Errors
    /// Why that is not known yet.
    pub(super) fn bad(&self) -> Result<Vec<Run>, Arc<ChangeError>> {
        if self.is_known || planted!("media.takes_silence_for_whole") {
            return Ok(self.bad.iter().collect());
        }
        let late = || Arc::new(ChangeError::DidNotCome("a list of poison".to_owned()));
        Err(self.trouble.clone().unwrap_or_else(late))
    }

    /// From one round to the next.
    const fn pause(&self) -> Nanos {
        if self.is_known && self.is_listening {
            LIST_EVERY
        } else {
            RETRY
        }
    }

    /// Whether everything was heard, as far as it was time to.
    fn hear(&mut self, now: Nanos) -> Result<bool, ChangeError> {
        let is_time = now >= self.list_at;
        if !self.is_listening {
            if !is_time {
                return Ok(false);
            }
            self.reports.listen()?;
            self.is_listening = true;
            self.round = Round::default();
        }
        // Lists that were told and are longer than what is read at once are read on.
        let asks = is_time && !self.round.is_listed;
        let listed = asks.then(|| {
            self.round = Round::default();
            self.list()
        });
        let news = self.reports.read();
        // What is reported while nobody listens is missed: the next round asks for it.
        self.is_listening = news.is_ok();
        let news = news?;
        let (missed, more) = (news.missed, news.more);
        self.take_up(news);
        if let Some(listed) = listed {
            self.round.is_listed = listed?;
        }
        if missed {
            self.round = Round::default();
            self.list_at = now;
        }
        if missed || more {
            return Ok(false);
        }
        let round = std::mem::take(&mut self.round);
        round.check()?;
        self.is_known |= round.is_listed;
        if is_time || round.is_listed {
            self.list_at = now.saturating_add(self.pause());
        }
        Ok(round.is_listed)
    }

    /// Asks for all lists; tells whether each of them was told.
    fn list(&mut self) -> Result<bool, ChangeError> {
        let mut listed: Result<bool, ChangeError> = Ok(true);
        for serial in self.serials.clone() {
            let shown = self.reports.list(serial);
            let told = shown.map(|is_shown| is_shown || self.has_none(serial));
            listed = listed.and_then(|all| told.map(|told| all && told));
        }
        listed
    }

    /// Whether a device that shows no list has none: its driver may be about to show one, and who
    /// shows none for a second time has none.
    fn has_none(&mut self, serial: u64) -> bool {
        let looks = self.listless.entry(serial).or_default();
        *looks = looks.saturating_add(1);
        if *looks == 2 {
            let serial = format!("{serial:#x}");
            tracing::warn!(
                serial,
                "a device keeps no list of poison and is granted without"
            );
        }
        *looks > 1
    }

    fn take_up(&mut self, news: MediaNews) {
        for odd in news.odd {
            // The kernel tells of the devices of others as well.
            if odd.serial.is_none_or(|it| self.serials.contains(&it)) {
                self.round.odd.get_or_insert(odd.text);
            }
        }
        let lists = news.lists.into_iter();
        let ours = lists.filter(|((serial, _), _)| self.serials.contains(serial));
        self.round.lists.extend(ours);
        for lost in news.lost {
            if !self.serials.contains(&lost.serial) {
                continue;
            }
            let Some(run) = self.place.extents_of(&lost) else {
                if self.is_told_first(&lost) {
                    tracing::warn!(?lost, "lines were lost that no extent of the region has");
                }
                continue;
            };
            let fresh = RunSet::of(run).minus(&self.bad);
            if fresh.count() > 0 {
                tracing::error!(region = %self.place.region, ?lost, "lines of the media are lost");
            }
            // What is bad already was taken away.
            let added = self.bad.add(&fresh);
            debug_assert!(added.is_ok(), "a set of extents takes what it has not");
        }
    }

    /// Whether lines elsewhere are news.
    fn is_told_first(&mut self, lost: &LostLines) -> bool {
        if self.elsewhere.len() >= ELSEWHERE_MAX {
            self.elsewhere.clear();
        }
        let place = (lost.serial, lost.dpa.start, lost.region.clone());
        self.elsewhere.insert(place)
    }
}

impl Round {
    /// Fails where the lists are not all that there is, or not all of them could be read.
    fn check(&self) -> Result<(), ChangeError> {
        if let Some(odd) = &self.odd {
            return Err(ChangeError::OddReport(odd.clone()));
        }
        // What is told while nobody here asked may be a list in the middle.
        let lists = self.lists.iter().filter(|_| self.is_listed);
        for ((serial, _), flags) in lists {
            if flags.has_overflowed {
                return Err(ChangeError::ListOverflowed(*serial));
            }
            if flags.has_more {
                return Err(ChangeError::ListCut(*serial));
            }
        }
        Ok(())
    }
}

impl Place {
    fn of(topology: &Topology, region: &Region) -> Result<Self, ChangeError> {
        let first = |target: &String| {
            let mut decoders = topology.decoders.iter();
            let decoder = decoders.find(|it| it.name == *target)?;
            let serial = topology.memdev_behind(target)?.serial;
            Some((serial, decoder.dpa.as_ref()?.start))
        };
        let dpas: BTreeMap<u64, u64> = region.targets.iter().filter_map(first).collect();
        if u32::try_from(dpas.len()) != Ok(region.ways) {
            // What is lost of a device without a place would be taken for elsewhere.
            let what = format!("the place of each device of {}", region.name);
            return Err(ChangeError::DidNotCome(what));
        }
        Ok(Self {
            region: region.name.clone(),
            hpa: (region.addresses.start, region.bytes().get()),
            dpas,
            ways: u64::from(region.ways.max(1)),
            granularity: u64::from(region.granularity.max(1)),
        })
    }

    /// The extents that lost lines lie in; nothing where they lie elsewhere.
    fn extents_of(&self, lost: &LostLines) -> Option<Run> {
        let part = self.part_of(lost)?;
        let stride = self.granularity.saturating_mul(self.ways);
        // The devices have their turns: all of a turn is taken for lost.
        let turn = |at: u64| at.saturating_mul(stride);
        let (from, to) = if self.ways > 1 {
            let (from, to) = (
                part.start / self.granularity,
                part.end.div_ceil(self.granularity),
            );
            (turn(from), turn(to).min(self.hpa.1))
        } else {
            (part.start, part.end)
        };
        let (from, to) = (from / EXTENT_BYTES, to.div_ceil(EXTENT_BYTES));
        Some(Run {
            first: u32::try_from(from).ok()?,
            count: u32::try_from(to - from).ok()?,
        })
    }

    /// Where lost lines lie in what the region has of their device, as far as they do.
    fn part_of(&self, lost: &LostLines) -> Option<Range<u64>> {
        let (first, all) = self.hpa;
        let is_ours = lost.region.as_ref() == Some(&self.region);
        let hpa = lost.hpa.filter(|_| is_ours);
        let bytes = lost.dpa.end.saturating_sub(lost.dpa.start).max(1);
        let (at, start) = match hpa.and_then(|hpa| hpa.checked_sub(first)) {
            Some(at) => {
                let stride = self.granularity.saturating_mul(self.ways);
                let turns = at / stride * self.granularity;
                (turns + at % self.granularity, 0)
            }
            None => (lost.dpa.start, *self.dpas.get(&lost.serial)?),
        };
        let end = at
            .saturating_add(bytes)
            .min(start.saturating_add(all / self.ways));
        let at = at.max(start);
        (at < end).then(|| at - start..end - start)
    }
}

#[cfg(test)]
mod tests;
