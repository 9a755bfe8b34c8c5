//! What is done with all units of a domain, a part of them in each round.

use coherence::recover::RecoverError;
use coherence::sum::Digest;
use coherence::{Directory, Layout, Slots};
use pool_core::descriptor::Descriptor;
use pool_core::mem::BoundsError;
use pool_core::sync::atomic::Ordering::Relaxed;
use pool_core::{BackingId, Incarnation, Nanos, SegmentId, crash_point};

use super::recovery::{count_stuck, free_stranded, recover_unit};
use super::sums::{Reading, Zeroes};
use super::{OpenError, hold};
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
        /// In a domain that has checksums, as long as that of a unit is being made.
        zeroes: Option<Zeroes>,
        /// That of each unit, once it is made.
        sum: Option<u64>,
    },
    Recover {
        recovery: Recovery,
        found: Recovered,
        stuck: Option<Unrecovered>,
        /// The unit that is being read.
        reading: Option<Reading>,
    },
    Hold {
        hold: Hold,
        found: hold::Found,
    },
}

/// What comes after a unit of a recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The next unit.
    Next,
    /// The next unit, in the next round.
    Over,
    /// The same unit, in the next round.
    Again,
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
    /// Goes on with the next units; whether there are no more. Where contents have to be read, a
    /// part of which `read` does, it goes no further than that unit.
    ///
    /// # Errors
    /// [`OpenError`]: nothing was done, and it is to be tried again later.
    pub(super) fn proceed(
        &mut self,
        directory: &Directory<'_>,
        mut read: impl FnMut(&mut Reading) -> Result<Option<Digest>, OpenError>,
    ) -> Result<bool, OpenError> {
        if self.is_hashing() {
            return Ok(false);
        }
        // Once: who leaves meanwhile is not to be announced again.
        if self.at == 0 && !self.is_reading() {
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
                Task::Recover { .. } => match self.recover((unit, line), directory, &mut read) {
                    Turn::Next => {}
                    Turn::Over => break,
                    Turn::Again => {
                        self.at = unit;
                        break;
                    }
                },
                Task::Hold { hold, found } => found.hold((unit, line), hold),
            }
        }
        Ok(self.at == units)
    }

    /// Makes the checksum of a new unit, where there is to be one; whether it is not made yet.
    fn is_hashing(&mut self) -> bool {
        let Task::Format { zeroes, sum, .. } = &mut self.task else {
            return false;
        };
        let made = zeroes.as_mut().and_then(Zeroes::proceed);
        if let Some(digest) = made {
            (*zeroes, *sum) = (None, Some(digest.word(0)));
        }
        zeroes.is_some()
    }

    const fn is_reading(&self) -> bool {
        matches!(
            self.task,
            Task::Recover {
                reading: Some(_),
                ..
            }
        )
    }

    /// Goes on with one unit of a recovery.
    fn recover(
        &mut self,
        (unit, line): (u32, &Descriptor),
        directory: &Directory<'_>,
        mut read: impl FnMut(&mut Reading) -> Result<Option<Digest>, OpenError>,
    ) -> Turn {
        let Task::Recover {
            recovery,
            found,
            stuck,
            reading,
        } = &mut self.task
        else {
            return Turn::Next;
        };
        if reading.is_none() {
            let mut is_wanted = false;
            let contents = || {
                is_wanted = true;
                None
            };
            let freed = free_stranded(line, recovery, directory);
            let recovered = freed.and_then(|()| recover_unit(line, recovery, found, contents));
            if !is_wanted {
                if let Err(reason) = recovered {
                    count_stuck(stuck, unit, reason);
                }
                return Turn::Next;
            }
        }
        // It is fenced by now, and stays so until it is judged.
        let being_read = reading.get_or_insert_with(|| Reading::new(unit));
        let recovered = match read(being_read) {
            Ok(None) => return Turn::Again,
            Ok(Some(contents)) => {
                // What was to be read was fenced in this very pass, or is to be settled anyway.
                let judged = Recovery {
                    settles: true,
                    ..*recovery
                };
                recover_unit(line, &judged, found, || Some(contents))
            }
            Err(error) => {
                if stuck.is_none() {
                    let segment = self.segment;
                    tracing::error!(%segment, unit, %error, "a unit cannot be read for a moment");
                }
                Err(RecoverError::Undecided)
            }
        };
        *reading = None;
        if let Err(reason) = recovered {
            count_stuck(stuck, unit, reason);
        }
        Turn::Over
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
