//! What is done with all units of a domain, a part of them in each round.

use coherence::sum::Digest;
use coherence::{Directory, Layout, Slots};
use pool_core::mem::BoundsError;
use pool_core::sync::atomic::Ordering::Relaxed;
use pool_core::{BackingId, Incarnation, Nanos, SegmentId, crash_point};

use super::recovery::{count_stuck, free_stranded, recover_unit};
use super::{OpenError, hold, sums};
use crate::engine::command::{Recovered, Unrecovered};
use crate::engine::effect::{Hold, Recovery};

/// Units that are gone through in one round: a few milliseconds of work.
pub(super) const UNITS_A_ROUND: u32 = 8_192;

/// What is to be done with all units of a domain.
#[derive(Debug)]
pub(super) enum Task {
    Format {
        mode: u8,
        incarnation: Incarnation,
        /// In a domain that has checksums: that of each unit.
        sum: Option<u64>,
    },
    Recover {
        recovery: Recovery,
        found: Recovered,
        stuck: Option<Unrecovered>,
    },
    Hold {
        hold: Hold,
        found: hold::Found,
    },
}

#[derive(Debug)]
pub(super) struct Work {
    pub(super) segment: SegmentId,
    pub(super) directory: BackingId,
    pub(super) layout: Layout,
    /// The unit that comes next.
    pub(super) at: u32,
    /// Set while the machine does not give what it needs.
    pub(super) retry_at: Option<Nanos>,
    pub(super) task: Task,
}

impl Work {
    /// Goes on with the next units; whether there are no more. Where contents have to be looked at,
    /// which `look` does, it goes no further than that unit.
    ///
    /// # Errors
    /// [`OpenError`]: it is to go on with the same unit later.
    pub(super) fn proceed(
        &mut self,
        directory: &Directory<'_>,
        mut look: impl FnMut(u32) -> Result<Digest, OpenError>,
    ) -> Result<bool, OpenError> {
        if self.at == 0 {
            self.begin(directory)?;
        }
        let units = self.layout.units();
        let end = self.at.saturating_add(UNITS_A_ROUND).min(units);
        for unit in self.at..end {
            self.at = unit.saturating_add(1);
            let Some(line) = directory.line(unit) else {
                continue;
            };
            match &mut self.task {
                // Relaxed: nobody has it yet, and handing it out orders it.
                Task::Format {
                    incarnation, sum, ..
                } => {
                    line.backing.store(incarnation.number(), Relaxed);
                    if let Some(sum) = *sum {
                        line.sum.store(sum, Relaxed);
                    }
                }
                Task::Recover {
                    recovery,
                    found,
                    stuck,
                } => {
                    let mut looked = None;
                    let contents = || sums::noted(look(unit), &mut looked);
                    let freed = free_stranded(line, recovery, directory);
                    let recovered =
                        freed.and_then(|()| recover_unit(line, recovery, found, contents));
                    if let Some(Err(error)) = looked {
                        self.at = unit;
                        return Err(error);
                    }
                    if let Err(reason) = recovered {
                        count_stuck(stuck, unit, reason);
                    }
                    if looked.is_some() {
                        break;
                    }
                }
                Task::Hold { hold, found } => found.hold((unit, line), hold),
            }
        }
        Ok(self.at == units)
    }

    fn begin(&self, directory: &Directory<'_>) -> Result<(), BoundsError> {
        match &self.task {
            Task::Format { mode, .. } => directory.format(*mode),
            Task::Hold { .. } => Ok(()),
            Task::Recover { recovery, .. } => {
                for slot in Slots::from_bits(recovery.slots).iter() {
                    directory.leave(slot)?;
                }
                crash_point!("domain.slot-left");
                // Who was granted a slot before the daemon died, and was not announced.
                for slot in Slots::from_bits(recovery.members).iter() {
                    if !directory.lives(slot, directory.era(slot)?)? {
                        directory.enter(slot)?;
                    }
                }
                Ok(())
            }
        }
    }
}
