//! Which extents of a region hold a line whose content was lost, as its devices report it.
//!
//! A device tells of errors as they come, and keeps a list of all lines that are poisoned. The list
//! is asked for when listening begins, from time to time, and whenever something was missed: so a
//! report that is lost is late and no more.

use kernel_cxl::{ChangeError, LostLines, MediaLog, Region, Sysfs, Topology};
use pool_core::{EXTENT_BYTES, Nanos};

use super::cxl::hardware_name;
use crate::engine::{Run, RunSet};

/// How often the lists are asked for where nothing was missed.
const LIST_EVERY: Nanos = Nanos::from_millis(10_000);

/// See the module.
#[derive(Debug)]
pub(super) struct Media {
    log: MediaLog,
    serials: Vec<u64>,
    place: Place,
    bad: RunSet,
    list_at: Nanos,
}

/// Where a region lies.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    region: String,
    /// For the host, its first byte and how many there are.
    hpa: (u64, u64),
    /// In its device, where it has one alone.
    dpa: Option<u64>,
    /// Over how many devices it is interleaved, and by how many bytes.
    ways: u64,
    granularity: u64,
}

impl Media {
    /// Listens to the devices of a region from now on.
    pub(super) fn open(
        sysfs: &Sysfs,
        serials: &[u64],
        region: &Region,
    ) -> Result<Self, ChangeError> {
        let name = format!("tierpool-{}", hardware_name(serials));
        let topology = Topology::read(sysfs)?;
        let decoders = topology.decoders.iter();
        let mut targets = decoders.filter(|it| region.targets.contains(&it.name));
        let first = targets.next().and_then(|target| target.dpa.as_ref());
        let dpa = first.filter(|_| region.targets.len() == 1);
        Ok(Self {
            log: MediaLog::open(sysfs, &name)?,
            serials: serials.to_vec(),
            place: Place {
                region: region.name.clone(),
                hpa: (region.addresses.start, region.bytes().get()),
                dpa: dpa.map(|range| range.start),
                ways: u64::from(region.ways),
                granularity: u64::from(region.granularity),
            },
            bad: RunSet::default(),
            list_at: Nanos::ZERO,
        })
    }

    /// Takes up what was reported since, and asks for the lists where it is time to. What fails
    /// keeps nothing else from being heard, and is tried again.
    pub(super) fn look(&mut self, sysfs: &Sysfs, now: Nanos) -> Result<(), ChangeError> {
        let mut listed = Ok(());
        if now >= self.list_at {
            self.list_at = now.saturating_add(LIST_EVERY);
            for &serial in &self.serials {
                listed = listed.and(sysfs.list_poison(serial));
            }
        }
        let news = self.log.read()?;
        if news.missed {
            self.list_at = now;
        }
        for line in news.odd {
            tracing::error!(%line, "the kernel tells of the media what cannot be read");
        }
        for lost in news.lost {
            if !self.serials.contains(&lost.serial) {
                continue;
            }
            let Some(run) = self.place.extents_of(&lost) else {
                tracing::warn!(?lost, "lines were lost that no extent of the region has");
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
        listed
    }

    /// All extents of which something was lost.
    pub(super) fn bad(&self) -> Vec<Run> {
        self.bad.iter().collect()
    }
}

impl Place {
    /// The extents that lost lines lie in; nothing where they lie elsewhere.
    fn extents_of(&self, lost: &LostLines) -> Option<Run> {
        let bytes = lost.dpa.end.saturating_sub(lost.dpa.start).max(1);
        let is_ours = lost.region.as_ref() == Some(&self.region);
        let (first, all) = self.hpa;
        let at = match (lost.hpa.filter(|_| is_ours), self.dpa) {
            (Some(hpa), _) => hpa.checked_sub(first)?,
            (None, Some(dpa)) => lost.dpa.start.checked_sub(dpa)?,
            (None, None) => return None,
        };
        // What is longer than one turn goes on in the next one: all between is taken for lost.
        let turns = bytes.div_ceil(self.granularity.max(1));
        let stride = self.granularity.max(1).saturating_mul(self.ways.max(1));
        let span = if self.ways > 1 {
            turns.saturating_mul(stride)
        } else {
            bytes
        };
        if at >= all {
            return None;
        }
        let end = at.saturating_add(span).min(all);
        let (from, to) = (at / EXTENT_BYTES, end.div_ceil(EXTENT_BYTES));
        Some(Run {
            first: u32::try_from(from).ok()?,
            count: u32::try_from(to - from).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn place(ways: u64) -> Place {
        Place {
            region: "region0".to_owned(),
            hpa: (512 * MIB, 256 * MIB),
            dpa: (ways == 1).then_some(64 * MIB),
            ways,
            granularity: 256,
        }
    }

    fn lost(dpa: u64, bytes: u64, hpa: Option<u64>) -> LostLines {
        let region = hpa.map_or("", |_| "region0");
        LostLines::new(160, dpa..dpa + bytes, hpa, region)
    }

    #[test]
    fn a_line_is_found_by_the_hosts_address_or_else_by_the_devices() {
        let run = |first, count| Some(Run { first, count });
        let cases = [
            (lost(0, 64, Some(512 * MIB)), run(0, 1)),
            (lost(0, 64, Some(515 * MIB)), run(1, 1)),
            (lost(64 * MIB, 64, None), run(0, 1)),
            (lost(66 * MIB - 64, 128, None), run(0, 2)),
            (lost(0, 64, None), None),
            (lost(320 * MIB, 64, None), None),
            (lost(0, 64, Some(MIB)), None),
            (lost(64 * MIB, 1 << 40, None), run(0, 128)),
        ];
        for (lost, extents) in cases {
            assert_eq!(place(1).extents_of(&lost), extents, "{lost:?}");
        }
    }

    #[test]
    fn what_is_lost_of_one_of_several_devices_reaches_over_their_turns() {
        let run = place(2).extents_of(&lost(0, MIB, Some(514 * MIB)));
        assert_eq!(run, Some(Run { first: 1, count: 1 }));
        let run = place(2).extents_of(&lost(0, 2 * MIB, Some(514 * MIB)));
        assert_eq!(run, Some(Run { first: 1, count: 2 }));
        assert_eq!(place(2).extents_of(&lost(0, 64, None)), None);
    }

    #[test]
    fn lines_of_another_region_of_the_device_are_not_ours() {
        let mut other = lost(16 * MIB, 64, Some(600 * MIB));
        other.region = Some("region1".to_owned());
        assert_eq!(place(1).extents_of(&other), None);
    }
}
