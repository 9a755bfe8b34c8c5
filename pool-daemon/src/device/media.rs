//! Which extents of a region hold a line whose content was lost, as its devices report it.
//!
//! A device tells of errors as they come, and keeps a list of all lines that are poisoned. The list
//! is asked for when listening begins, from time to time, and whenever something was missed: so a
//! report that is lost is late and no more.
//!
//! # Invariants
//! 1. What is bad is [not known](Media::bad) before each list was read once, to its end: that a
//!    device cannot be asked does not mean that it is whole.
//! 2. A line costs an extent where a part of it lies in the region, wherever it begins.
//! 3. What fails is tried again, for ever; that it fails is [told](Turn) once, and once that it
//!    does so no more. Lines that lie elsewhere are told once, and not by each list.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use kernel_cxl::{ChangeError, LostLines, MediaLog, MediaNews, Region, Sysfs, Topology};
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
    /// The lists were asked for so often.
    rounds: u64,
    /// Each list was read to its end.
    is_known: bool,
    /// Why not all is heard.
    trouble: Option<Arc<ChangeError>>,
    list_at: Nanos,
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
    pub(super) fn of(reports: R, serials: &[u64], topology: &Topology, region: &Region) -> Self {
        Self::at(reports, serials, Place::of(topology, region))
    }

    fn at(reports: R, serials: &[u64], place: Place) -> Self {
        Self {
            reports,
            is_listening: false,
            serials: serials.to_vec(),
            place,
            bad: RunSet::default(),
            elsewhere: BTreeSet::new(),
            rounds: 0,
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
        }
        let listed = if is_time { self.list() } else { Ok(false) };
        let news = self.reports.read();
        // What is reported while nobody listens is missed: the next round asks for it.
        self.is_listening = news.is_ok();
        let news = news?;
        let is_whole = !news.missed && !news.more;
        self.take_up(news);
        let is_all = listed? && is_whole;
        self.is_known |= is_all;
        if !is_whole {
            self.list_at = now;
        } else if is_time {
            self.list_at = now.saturating_add(self.pause());
        }
        Ok(is_all)
    }

    /// Asks for all lists; tells whether each of them was told.
    fn list(&mut self) -> Result<bool, ChangeError> {
        let mut listed: Result<bool, ChangeError> = Ok(true);
        for &serial in &self.serials {
            let list = self.reports.list(serial);
            listed = listed.and_then(|all| list.map(|has| all && has));
        }
        // The driver may be about to show one: who shows none for a second time has none.
        let has_shown = listed?;
        self.rounds += 1;
        Ok(has_shown || self.rounds > 1)
    }

    fn take_up(&mut self, news: MediaNews) {
        for line in news.odd {
            tracing::error!(%line, "the kernel tells of the media what cannot be read");
        }
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

impl Place {
    fn of(topology: &Topology, region: &Region) -> Self {
        let first = |target: &String| {
            let mut decoders = topology.decoders.iter();
            let decoder = decoders.find(|it| it.name == *target)?;
            let serial = topology.memdev_behind(target)?.serial;
            Some((serial, decoder.dpa.as_ref()?.start))
        };
        Self {
            region: region.name.clone(),
            hpa: (region.addresses.start, region.bytes().get()),
            dpas: region.targets.iter().filter_map(first).collect(),
            ways: u64::from(region.ways.max(1)),
            granularity: u64::from(region.granularity.max(1)),
        }
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
