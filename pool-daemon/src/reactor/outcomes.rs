//! What the builder has done: files built, contents copied, files destroyed.

use pool_core::{BackingId, Nanos, clock, crash_point};
use pool_proto::common::v1::ErrorClass;

use super::Reactor;
use crate::device::NewFile;
use crate::device::builder::Outcome;
use crate::engine::command::{Built, Command, WorldError};

impl Reactor {
    pub(super) fn take_outcomes(&mut self) {
        for outcome in self.builder.outcomes() {
            match outcome {
                Outcome::Built { backing, result } => self.adopt_built(backing, result),
                Outcome::Copied { into, result } => {
                    // A copy begun before the journal failed means nothing to the engine of after.
                    if let Some(segment) = self.copying.remove(&into) {
                        if self.engine.evicts_from(segment) {
                            crash_point!("evict.copied");
                        }
                        self.step(Command::Copied { segment, result });
                    }
                }
                Outcome::Destroyed {
                    backing,
                    result: Ok(()),
                } => self.is_destroyed(backing),
                Outcome::Destroyed {
                    backing,
                    result: Err((error, file)),
                } => {
                    tracing::error!(%backing, %error, "a file could not be destroyed: it is \
                     tried again");
                    if let Some(expected) = self.engine.expected(backing) {
                        self.files
                            .restore(backing, expected.device, file, clock::now());
                    }
                }
            }
        }
    }

    /// A file that was built is the daemon's, and in the store, before the engine knows of it.
    pub(super) fn adopt_built(&mut self, backing: BackingId, result: Result<NewFile, WorldError>) {
        let class = |error: &WorldError| match error {
            WorldError::MachineShort { .. } => ErrorClass::Exhausted,
            WorldError::Os { .. } | WorldError::Withdrawn => ErrorClass::Unreachable,
        };
        self.metrics().build(result.as_ref().err().map(class));
        let Some(device) = self.building.remove(&backing) else {
            return;
        };
        let result = match result {
            Ok(file) if self.engine.device_of(backing).is_some() => {
                let built = Built {
                    pages: file.pages,
                    identity: file.identity,
                };
                self.files.add(backing, device, file.file);
                if !self.engine.builds_for_contents(backing) || self.is_kept(backing) {
                    Ok(built)
                } else {
                    // Contents that somebody has would be in a file, or end before one, that would
                    // end with this daemon.
                    self.discard(backing);
                    Err(WorldError::Os {
                        call: "storing a descriptor",
                        errno: libc::EPIPE,
                    })
                }
            }
            // Wanted only by steps that a failed journal has undone.
            Ok(file) => return self.builder.destroy(device, backing, file.file),
            Err(error) => Err(error),
        };
        self.step(Command::Built { backing, result });
    }

    /// Whether a file outlives this daemon, as far as its store goes. A store that has failed is
    /// filled anew first: at once, once more at once, and after that once in a while and not for
    /// each file, since everybody waits meanwhile.
    fn is_kept(&mut self, backing: BackingId) -> bool {
        for _ in 0..2 {
            if self.files.is_kept(backing) {
                return true;
            }
            let now = clock::now();
            if self.files.refill_at().is_none_or(|at| at > now) {
                return false;
            }
            self.refill_store(now);
        }
        self.files.is_kept(backing)
    }

    /// Destroys what is proven to be nobody else's.
    pub(super) fn destroy_proven(&mut self, now: Nanos) {
        for (backing, device, file) in self.files.proven(now) {
            crash_point!("release.before-destroy");
            self.builder.destroy(device, backing, file);
        }
    }

    fn is_destroyed(&mut self, backing: BackingId) {
        crash_point!("release.before-commit");
        self.destroyed.insert(backing);
        self.release(backing);
    }

    /// A destroyed file is nobody's any more. Where the journal is down, it hears of it later.
    pub(super) fn release(&mut self, backing: BackingId) {
        if self.journal_down_until.is_none() {
            self.step(Command::Released { backing });
            self.batch.forgotten.push(backing);
        }
    }
}
