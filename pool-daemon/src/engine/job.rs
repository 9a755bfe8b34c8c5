//! What waits for the world: files to be built, contents to be copied.
//!
//! A job belongs to one segment, and while it runs nothing else changes the segment. Its `fresh`
//! backings are carved and charged, but not journaled and not part of the segment yet; whatever
//! goes wrong, they are destroyed and everything is as before. Where the segment ends meanwhile,
//! what is being built is *abandoned*: its extents are somebody's until the build has come back,
//! for the world cannot build two files of one extent.

use pool_core::{BackingId, ClientId, SegmentId, TenantId};

use super::command::{Built, WorldError};
use super::effect::Action;
use super::segment::Backing;
use super::{Engine, Refusal};

/// What becomes of the segment when the files are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It is granted.
    Create,
    /// It becomes longer.
    Grow,
    /// Its contents move into them; `dropped` loses its share.
    Move {
        dropped: Option<TenantId>,
        tier: usize,
    },
    /// The payload of a domain moves into them, away from members that are evicted.
    Evict,
}

/// One change that waits for the world.
#[derive(Debug)]
pub(super) struct Job {
    /// Who waits for the answer; nobody where the daemon itself wanted it or the client is gone.
    pub(super) asker: Option<(ClientId, u64)>,
    pub(super) purpose: Purpose,
    /// In the order of their offsets.
    pub(super) fresh: Vec<BackingId>,
    /// How many are not built yet.
    pub(super) unbuilt: usize,
    /// The first failure. The job ends when all builds have come back.
    pub(super) failure: Option<WorldError>,
}

impl Engine {
    /// Asks for the files of a job. All of them are answered by `Built`, at once or later.
    pub(super) fn start_job(&mut self, segment: SegmentId, job: Job, shareable: bool) {
        for &id in &job.fresh {
            let Some(backing) = self.backings.get(&id) else {
                continue;
            };
            let (device, bytes) = (backing.device, backing.extents().bytes());
            let runs = backing.runs.clone();
            self.actions.push(Action::Build {
                backing: id,
                device,
                bytes,
                runs,
                shareable,
            });
        }
        self.jobs.insert(segment, job);
    }

    /// A file is there, or cannot be.
    pub(super) fn built(&mut self, id: BackingId, result: Result<Built, WorldError>) {
        if let Some(backing) = self.abandoned.remove(&id) {
            if result.is_ok() {
                self.actions.push(Action::Discard { backing: id });
            }
            return self.give_back(&backing);
        }
        let segment = self
            .backings
            .get(&id)
            .filter(|backing| backing.built.is_none())
            .map(|b| b.segment);
        let Some((segment, job)) = segment.and_then(|s| Some((s, self.jobs.get_mut(&s)?))) else {
            // Wanted by a life of the engine before the journal failed: nobody knows the file.
            if result.is_ok() {
                self.actions.push(Action::Discard { backing: id });
            }
            return;
        };
        job.unbuilt = job.unbuilt.saturating_sub(1);
        match result {
            Ok(built) => {
                if let Some(backing) = self.backings.get_mut(&id) {
                    (backing.built, backing.present) = (Some(built), true);
                }
            }
            Err(failure) => {
                job.failure = job.failure.take().or(Some(failure));
                // It has come back, and so it is nobody's to wait for.
                job.fresh.retain(|fresh| *fresh != id);
                if let Some(backing) = self.forget_backing(id) {
                    self.give_back(&backing);
                }
            }
        }
        if self.jobs.get(&segment).is_some_and(|job| job.unbuilt == 0) {
            self.all_built(segment);
        }
    }

    fn all_built(&mut self, segment: SegmentId) {
        let Some(job) = self.jobs.get(&segment) else {
            return;
        };
        if let Some(failure) = job.failure.clone() {
            self.fail_job(segment, &Refusal::World(failure));
            return;
        }
        match job.purpose {
            Purpose::Create => {
                if !self.format(segment) {
                    self.finish_create(segment);
                }
            }
            Purpose::Grow => self.finish_grow(segment),
            Purpose::Evict => self.built_for_eviction(segment),
            Purpose::Move { .. } => {
                let (fresh, from) = (
                    job.fresh.clone(),
                    self.segment(segment).map(|s| s.backings.clone()),
                );
                self.actions.push(Action::Copy {
                    segment,
                    from: from.unwrap_or_default(),
                    to: fresh,
                });
            }
        }
    }

    /// Ends a job without its change: everything is as before it.
    pub(super) fn fail_job(&mut self, segment: SegmentId, refusal: &Refusal) {
        let Some(job) = self.jobs.remove(&segment) else {
            return;
        };
        self.discard(&job.fresh);
        match job.purpose {
            Purpose::Create => self.forget_segment(segment),
            Purpose::Evict => self.eviction_failed(segment, refusal),
            Purpose::Grow | Purpose::Move { .. } => {}
        }
        if let Some((client, request_id)) = job.asker {
            self.refuse(client, request_id, refusal);
        }
    }

    /// Destroys backings that nobody was ever given, and gives their extents back: those of a file
    /// that is being built once that has come back.
    pub(super) fn discard(&mut self, backings: &[BackingId]) {
        for &id in backings {
            let Some(backing) = self.forget_backing(id) else {
                continue;
            };
            if backing.built.is_some() {
                self.actions.push(Action::Discard { backing: id });
                self.give_back(&backing);
            } else {
                self.abandoned.insert(id, backing);
            }
        }
    }

    /// A backing that nobody was ever given is no file of its segment any more.
    fn forget_backing(&mut self, id: BackingId) -> Option<Backing> {
        let backing = self.backings.remove(&id)?;
        self.untie(backing.segment, id);
        if let Some(device) = self.devices.get_mut(&backing.device) {
            device.untie(backing.segment);
        }
        Some(backing)
    }

    /// The extents of a backing that nobody was ever given are free.
    fn give_back(&mut self, backing: &Backing) {
        let Some(device) = self.devices.get_mut(&backing.device) else {
            return;
        };
        // They were carved from it and belong to nobody else (invariant 1).
        let back = device.give_back(&backing.runs);
        self.groups_may_end = true;
        debug_assert!(back.is_ok(), "engine invariant 1");
        self.left_by.insert(backing.charged);
        self.tenants
            .discharge(backing.charged, device.tier, backing.extents());
        if back == Ok(true) {
            self.touch_device(backing.device);
        }
    }

    /// The job of a client, with the id of the request it answers.
    pub(super) fn job_of(&self, client: ClientId) -> Option<u64> {
        let asked = |job: &Job| {
            job.asker
                .filter(|(asker, _)| *asker == client)
                .map(|(_, request_id)| request_id)
        };
        self.jobs.values().find_map(asked)
    }

    /// Nobody waits for the answers of this client's jobs any more.
    pub(super) fn orphan_jobs(&mut self, client: ClientId) {
        for job in self.jobs.values_mut() {
            job.asker = job.asker.filter(|(asker, _)| *asker != client);
        }
    }

    /// # Errors
    /// [`Refusal::Busy`] while a job changes the segment that holders ask for: an eviction goes on
    /// beside those who come and go.
    pub(super) fn not_changing(&self, segment: SegmentId) -> Result<(), Refusal> {
        match self.jobs.get(&segment) {
            Some(job) if job.purpose == Purpose::Evict => Ok(()),
            _ => self.not_busy(segment),
        }
    }

    /// # Errors
    /// [`Refusal::Busy`] while a job changes the segment.
    pub(super) fn not_busy(&self, segment: SegmentId) -> Result<(), Refusal> {
        match self.jobs.get(&segment) {
            Some(_) => Err(Refusal::Busy(format!(
                "{segment} is being changed: retry in a moment"
            ))),
            None => Ok(()),
        }
    }
}
