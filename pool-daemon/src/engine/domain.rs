//! Domains: segments whose payload is cut into units that members lease from each other.
//!
//! The members change the ownership words themselves, without the engine. What it decides is who
//! is a member and in which slot, and when a slot may be given to the next one.
//!
//! # The way of a slot
//! *Free*, *held* by a client, *left*: the client is gone, and units may still be held in it. Where
//! the client let go in good order, the slot is recovered at once. Where it was taken for dead, the
//! slot is *awaited*: one of its threads may still store until the kernel has ended the whole
//! process, and a unit whose writer still writes must be given to nobody. What is recovered is
//! free. What cannot be recovered is *stuck*, and is tried again with the next slot that is left.
//!
//! A slot that was evicted (`evict.rs`) is awaited as well, but what was held in it is recovered
//! at once: the contents are elsewhere by then. Where a recovery meets words that change all the
//! time it is tried again after a pause.
//!
//! Slots of holders and awaited processes are journaled, and evicted ones until they are recovered.
//! Whatever else a journal does not name may be left, so a daemon that starts recovers every slot
//! that nobody has, and answers with nothing of the domain before.
//!
//! # Invariants
//! 1. Each holder of a domain has a slot, from 1 on, and no two have the same; nobody else has one.
//! 2. A slot that was left is given to nobody before the world has recovered it.
//! 3. There is at most one recovery of a domain at a time.
//! 4. The directory is the first backing and nothing else is in it; both stay where they are.
//! 5. A slot that was cut off is left until it is recovered. The next one in it has the contents
//!    mapped, and what it holds is its own.

use std::collections::BTreeMap;

use coherence::cache::{Capabilities, Mode};
use coherence::{Layout, LeaseError, Slot};
use pool_core::limits::{RECALL_MS_DEFAULT, RECALL_MS_MAX, RECALL_MS_MIN};
use pool_core::{Bytes, ClientId, EXTENT_BYTES, Nanos, SegmentId, TenantId, planted};
use pool_proto::common::v1::{Access, Coherence, OnDeath};
use pool_proto::journal::v1 as row;
use pool_proto::session::v1::{self as session, reply};

use super::command::{Leased, PeerIdentity, WorldError};
use super::effect::{Action, Lease};
use super::evict::Eviction;
use super::job::Purpose;
use super::mend::Recovering;
use super::recall::Recalls;
use super::segment::Stage;
use super::{Engine, Refusal};

/// What keeps a domain where it is, and as long as it is.
pub(super) const IS_FIXED: &str = "a domain keeps its size and its place: create another one, \
     copy what is to be kept, and free this one";

/// Domains of one pool: the daemon maps the directory of each, and its mappings stay far below the
/// kernel's 65,530.
pub(super) const DOMAINS_MAX: usize = 16_384;

/// A process that had a slot, and may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Departed {
    pub(super) process: PeerIdentity,
    /// Whose client it was, where the journal says so.
    pub(super) tenant: Option<TenantId>,
}

impl Departed {
    fn restored(row: &row::DepartedRow) -> Self {
        let process = PeerIdentity {
            pid: row.pid,
            started_ticks: row.started_ticks,
            uid: u32::MAX,
            gid: u32::MAX,
        };
        let tenant = TenantId::new(row.tenant_id);
        Self { process, tenant }
    }
}

/// How a client leaves what it held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// It said so, and touches it no more.
    InOrder,
    /// It is taken for dead.
    Gone,
}

/// What makes a segment a domain.
#[derive(Debug, Clone)]
pub(super) struct Domain {
    pub(super) layout: Layout,
    /// As it was admitted, and as it is told.
    pub(super) terms: Coherence,
    /// Who has which slot.
    pub(super) slots: BTreeMap<ClientId, Slot>,
    /// Slots that nobody has and that are not recovered yet: a bit a slot.
    pub(super) left: u32,
    /// Of these, those that were left by members that were taken for dead.
    pub(super) gone: u32,
    /// Of these, those whose processes may live, and evicted ones until they are recovered: what
    /// is held in them is known to be as it was by nothing else.
    pub(super) departed: BTreeMap<Slot, Departed>,
    /// Of the departed, those whose processes have ended.
    pub(super) ended: u32,
    /// Of these, those of members that were evicted, which never had the contents mapped where they
    /// are now.
    pub(super) cut_off: u32,
    /// Slots that no member has, in which something is held that others wait for: `take_back.rs`.
    pub(super) to_take_back: u32,
    /// When something may be taken back again, by a pass for that alone.
    pub(super) takes_back_at: Option<Nanos>,
    /// Of those that were left, those that could not be recovered.
    pub(super) stuck: u32,
    /// Of these, those that are being recovered.
    pub(super) recovering: Option<Recovering>,
    /// When a recovery is tried again that others were in the way of.
    pub(super) retry_at: Option<Nanos>,
    /// Slots that an eviction, or a try of one, has left which is over: they are to be recovered
    /// whoever may live. The daemon's own, and where it was done those of who was evicted.
    pub(super) ended_eviction: u32,
    pub(super) recalls: Recalls,
    pub(super) eviction: Option<Eviction>,
    /// Nobody is recalled before: an eviction has failed.
    pub(super) rests_until: Nanos,
    /// This life of the daemon has seen to it once: nothing of it is answered before.
    pub(super) ready: bool,
}

/// A domain as those see it who audit its words.
#[derive(Debug, Clone, Copy)]
pub struct DomainView {
    /// Which segment.
    pub segment: SegmentId,
    /// The file of its directory.
    pub directory: pool_core::BackingId,
    /// How it is cut.
    pub layout: Layout,
    /// Slots that somebody has: a bit a slot.
    pub members: u32,
    /// Slots that are left and not recovered yet.
    pub left: u32,
    /// Units may be fenced: a recovery is under way, or did not come to its end.
    pub settling: bool,
}

/// Where the contents of a domain lie.
#[derive(Debug)]
pub struct Payload {
    /// How it is cut.
    pub layout: Layout,
    /// How its members see each other's writes.
    pub mode: Mode,
    /// The files, in order, and their lengths.
    pub files: Vec<(pool_core::BackingId, Bytes)>,
}

impl Domain {
    /// A new one, whose directory is written before anybody has it.
    pub(super) fn new(layout: Layout, terms: Coherence) -> Self {
        Self {
            layout,
            terms,
            slots: BTreeMap::new(),
            left: 0,
            gone: 0,
            departed: BTreeMap::new(),
            ended: 0,
            cut_off: 0,
            to_take_back: 0,
            takes_back_at: None,
            stuck: 0,
            recovering: None,
            retry_at: None,
            ended_eviction: 0,
            recalls: Recalls::new(),
            eviction: None,
            rests_until: Nanos::ZERO,
            ready: true,
        }
    }

    /// One of before: every slot is left that no holder of the row has.
    pub(super) fn restored(row: &row::SegmentRow) -> Result<Option<Self>, &'static str> {
        let slot_of = |number: u32| {
            let slot = u8::try_from(number).ok().and_then(Slot::new);
            slot.filter(|slot| *slot != Slot::DAEMON)
        };
        let slots = row.holders.iter().filter(|holder| holder.slot != 0);
        let Some(terms) = row.coherence else {
            return match slots.count() {
                0 => Ok(None),
                _ => Err("a holder has a slot, and it is no domain"),
            };
        };
        let payload = row.bytes.checked_sub(terms.directory_bytes);
        let layout =
            payload.map(|bytes| Layout::new(Bytes::new(bytes), Bytes::new(terms.unit_bytes)));
        let fits = |layout: &Layout| layout.directory().get() == terms.directory_bytes;
        let layout = layout.and_then(Result::ok).filter(fits);
        let layout = layout.ok_or("its units do not fit its size")?;
        let mut domain = Self::new(layout, terms);
        for holder in slots {
            let client = ClientId::new(holder.client_id).ok_or("a holder has no id")?;
            let slot = slot_of(holder.slot).ok_or("a holder's slot is none")?;
            if domain.members() & slot.bit() != 0 {
                return Err("two holders have one slot");
            }
            domain.slots.insert(client, slot);
        }
        for departed in &row.departed {
            let slot = slot_of(departed.slot).ok_or("a departed holder's slot is none")?;
            domain.departed.insert(slot, Departed::restored(departed));
            if departed.evicted {
                domain.cut_off |= slot.bit();
            }
        }
        (domain.left, domain.ready) = (!domain.members(), false);
        if let Some(begun) = row.eviction {
            domain.resume_eviction(begun);
        }
        if domain.awaited() & domain.members() != 0 {
            return Err("a slot is held and left at once");
        }
        Ok(Some(domain))
    }

    /// Slots that somebody has: a bit a slot.
    pub(super) fn members(&self) -> u32 {
        self.slots.values().fold(0, |bits, slot| bits | slot.bit())
    }

    /// Slots whose processes may live: a bit a slot.
    pub(super) fn awaited(&self) -> u32 {
        let departed = self.departed.keys();
        departed.fold(0, |bits, slot| bits | slot.bit()) & !self.ended
    }

    /// Those whose processes may live.
    pub(super) fn living_departed(&self) -> impl Iterator<Item = &Departed> {
        let departed = self.departed.iter();
        let living = departed.filter(|(slot, _)| self.ended & slot.bit() == 0);
        living.map(|(_, departed)| departed)
    }

    /// Forgets those of `slots` whose processes have ended; whether there were any.
    pub(super) fn forget_ended(&mut self, slots: u32) -> bool {
        let ended = self.ended & slots;
        self.departed.retain(|slot, _| ended & slot.bit() == 0);
        self.ended &= !ended;
        ended != 0
    }

    /// What is to be recovered, and can be.
    pub(super) fn recoverable(&self) -> u32 {
        self.left & !self.awaited() & !self.stuck & !self.evicted()
    }

    /// What an eviction takes away, and the daemon's own holds, as long as there is one.
    pub(super) fn evicted(&self) -> u32 {
        let daemon = Slot::DAEMON.bit();
        let eviction = self.eviction.as_ref();
        eviction.map_or(0, |eviction| eviction.slots | daemon)
    }

    pub(super) const fn is_ready(&self) -> bool {
        self.ready
    }

    /// Nothing goes through the units, and nothing is to before a pass does.
    pub(super) fn may_pass(&self) -> bool {
        self.ready && self.is_at_rest() && self.ended_eviction == 0
    }

    pub(super) fn is_at_rest(&self) -> bool {
        let eviction = self.eviction.as_ref();
        self.recovering.is_none() && !eviction.is_some_and(Eviction::needs_the_words)
    }

    fn free_slot(&self) -> Result<Slot, Refusal> {
        let taken = self.members() | self.left | self.evicted() | self.ended_eviction;
        let taken_from = self.to_take_back | self.recovering.map_or(0, |pass| pass.all());
        let free = Slot::members().find(|slot| (taken | taken_from) & slot.bit() == 0);
        free.ok_or_else(|| match self.recoverable() | taken_from {
            0 => Refusal::Limit {
                what: "members of one domain",
                limit: u64::from(Slot::COUNT - 1),
            },
            _ => Refusal::Busy("a slot of the domain is being recovered: retry".to_owned()),
        })
    }

    /// Invariants 1 and 2, against who holds the segment.
    pub(super) fn findings(&self, holders: &BTreeMap<ClientId, Access>) -> Vec<&'static str> {
        let mut findings = Vec::new();
        let members = self.members();
        if !self.slots.keys().eq(holders.keys()) {
            findings.push("domain invariant 1: other clients have slots than hold it");
        }
        let count = usize::try_from(members.count_ones()).unwrap_or(usize::MAX);
        if count != self.slots.len() || members & Slot::DAEMON.bit() != 0 {
            findings.push("domain invariant 1: a slot is had twice, or is the daemon's");
        }
        if members & self.left != 0 || self.awaited() & !self.left != 0 {
            findings.push("domain invariant 2: a slot is had and left, or awaited and not left");
        }
        if self.cut_off & !self.left != 0 {
            findings.push("domain invariant 5: a slot is cut off that was not left");
        }
        let taken_from = self.to_take_back | self.recovering.map_or(0, |pass| pass.all());
        if members & taken_from != 0 {
            findings.push("domain invariant 2: a slot is had in which something is taken back");
        }
        findings
    }
}

/// What a request wants to be a domain: its units, and its terms as they are told.
pub(super) fn wanted(ask: &session::Create) -> Result<Option<(Layout, Coherence)>, Refusal> {
    let Some(terms) = ask.coherence else {
        return Ok(None);
    };
    admit(&terms)?;
    let on_death = match OnDeath::try_from(terms.on_death) {
        Ok(OnDeath::Unspecified | OnDeath::Lose) => OnDeath::Lose,
        Ok(OnDeath::Keep) => OnDeath::Keep,
        Err(_) => return Err(Refusal::Malformed("on_death is none of the known ones")),
    };
    if !matches!(ask.capacity_bytes, 0) && ask.capacity_bytes != ask.bytes {
        return Err(Refusal::Malformed(
            "a domain is not resized: leave its capacity at 0",
        ));
    }
    if !ask.bytes.is_multiple_of(EXTENT_BYTES) {
        let asked = Bytes::new(ask.bytes);
        return Err(Refusal::PartOfExtent { asked });
    }
    let layout = Layout::new(Bytes::new(ask.bytes), Bytes::new(terms.unit_bytes))?;
    let recall_ms = match terms.recall_ms {
        0 => RECALL_MS_DEFAULT,
        millis if (RECALL_MS_MIN..=RECALL_MS_MAX).contains(&millis) => millis,
        millis => {
            return Err(Refusal::OutOfRange {
                what: "recall_ms",
                asked: millis.into(),
                least: RECALL_MS_MIN.into(),
                most: RECALL_MS_MAX.into(),
            });
        }
    };
    let terms = Coherence {
        recall_ms,
        on_death: on_death.into(),
        directory_bytes: layout.directory().get(),
        ..terms
    };
    Ok(Some((layout, terms)))
}

/// Whether the members will see each other's writes, by what the asker states of them. The modes
/// have the same numbers in messages as on media.
fn admit(terms: &Coherence) -> Result<(), Refusal> {
    let mode = u8::try_from(terms.mode).ok().map(Mode::try_from);
    let Some(Ok(mode)) = mode else {
        return Err(Refusal::Malformed(
            "the mode of coherence is none of the known ones",
        ));
    };
    mode.admit(Capabilities {
        one_host: terms.one_host,
        no_clean_write_backs: terms.no_clean_write_backs,
    })?;
    Ok(())
}

impl Engine {
    pub(super) fn domain(&self, id: SegmentId) -> Option<&Domain> {
        self.segments.get(&id)?.domain.as_ref()
    }

    pub(super) fn domain_mut(&mut self, id: SegmentId) -> Option<&mut Domain> {
        self.segments.get_mut(&id)?.domain.as_mut()
    }

    /// # Errors
    /// [`Refusal::Limit`] where the pool has as many domains as it may have.
    pub(super) fn room_for_a_domain(&self) -> Result<(), Refusal> {
        if self.domains.len() < DOMAINS_MAX {
            return Ok(());
        }
        Err(Refusal::Limit {
            what: "domains",
            limit: DOMAINS_MAX as u64,
        })
    }

    /// # Errors
    /// [`Refusal::NotPermitted`] where the segment is a domain.
    pub(super) fn not_a_domain(&self, id: SegmentId) -> Result<(), Refusal> {
        match self.domain(id) {
            Some(_) => Err(Refusal::NotPermitted(IS_FIXED)),
            None => Ok(()),
        }
    }

    /// # Errors
    /// [`Refusal::Busy`] while this life of the daemon has not recovered the domain yet.
    pub(super) fn is_ready(&self, id: SegmentId) -> Result<(), Refusal> {
        match self.domain(id) {
            Some(domain) if !domain.ready => Err(Refusal::Busy(format!(
                "{id} is being recovered after a restart: retry in a moment"
            ))),
            _ => Ok(()),
        }
    }

    /// # Errors
    /// Where the segment is a domain without a slot for one more member.
    pub(super) fn may_join(&self, id: SegmentId) -> Result<(), Refusal> {
        self.is_ready(id)?;
        self.domain(id)
            .map_or(Ok(()), |domain| domain.free_slot().map(drop))
    }

    /// Where the contents of a domain lie by now.
    #[must_use]
    pub fn payload(&self, id: SegmentId) -> Option<Payload> {
        let segment = self.segments.get(&id)?;
        let domain = segment.domain.as_ref()?;
        // Admitted when it was made.
        let mode = Mode::try_from(u8::try_from(domain.terms.mode).ok()?).ok()?;
        let payload = segment.backings.iter().skip(1);
        let files = payload.map(|id| Some((*id, self.backings.get(id)?.extents().bytes())));
        Some(Payload {
            layout: domain.layout,
            mode,
            files: files.collect::<Option<_>>()?,
        })
    }

    /// A new holder of the segment gets its slot, where it is a domain.
    pub(super) fn join(&mut self, client: ClientId, id: SegmentId) {
        let directory = self
            .segments
            .get(&id)
            .and_then(|s| s.backings.first().copied());
        let Some((domain, directory)) = self.domain_mut(id).zip(directory) else {
            return;
        };
        if domain.slots.contains_key(&client) {
            return;
        }
        // Looked for before the client became a holder.
        if let Ok(slot) = domain.free_slot() {
            domain.forget_before(slot);
            domain.slots.insert(client, slot);
            self.actions.push(Action::Enter { directory, slot });
        }
    }

    /// The slot of a client that holds the segment, or 0.
    pub(super) fn slot_of(&self, client: ClientId, id: SegmentId) -> u32 {
        let slot = self.domain(id).and_then(|domain| domain.slots.get(&client));
        slot.map_or(0, |slot| u32::from(slot.index()))
    }

    /// A holder of the segment is none any more.
    pub(super) fn vacate(&mut self, client: ClientId, id: SegmentId, leave: Leave) {
        let departed = self.clients.get(&client).map(|client| Departed {
            process: client.peer,
            tenant: Some(client.tenant),
        });
        let departed = departed.filter(|_| leave == Leave::Gone);
        let Some(domain) = self.domain_mut(id) else {
            return;
        };
        let Some(slot) = domain.slots.remove(&client) else {
            return;
        };
        domain.left |= slot.bit();
        if leave == Leave::Gone {
            domain.gone |= slot.bit();
        }
        domain.stuck = 0;
        if let Some(departed) = departed.filter(|_| !planted!("evict.reuses_the_slot")) {
            domain.departed.insert(slot, departed);
            let (segment, process) = (id, departed.process);
            self.actions.push(Action::AwaitEnd {
                segment,
                slot,
                process,
            });
        }
        self.to_recover.insert(id);
    }

    /// Whether the end of the process that had this slot is waited for.
    #[must_use]
    pub fn awaits_end(&self, segment: SegmentId, slot: Slot) -> bool {
        self.domain(segment)
            .is_some_and(|domain| domain.awaited() & slot.bit() != 0)
    }

    /// The process that had a slot has ended: nobody stores in its name any more.
    pub(super) fn ended(&mut self, id: SegmentId, slot: Slot) {
        let domain = self.domain_mut(id);
        let Some(domain) = domain.filter(|domain| domain.awaited() & slot.bit() != 0) else {
            return;
        };
        domain.ended |= slot.bit();
        if domain.cut_off & slot.bit() == 0 {
            domain.forget_ended(slot.bit());
            self.touch_segment(id);
        }
        self.to_recover.insert(id);
    }

    /// Has the directory of a new domain written. Whether the segment is one.
    pub(super) fn format(&mut self, id: SegmentId) -> bool {
        let Some(segment) = self.segments.get(&id) else {
            return false;
        };
        let job = self.jobs.get(&id);
        let directory = job.and_then(|job| job.fresh.first().copied());
        let Some((domain, directory)) = segment.domain.as_ref().zip(directory) else {
            return false;
        };
        let mode = u8::try_from(domain.terms.mode).unwrap_or_default();
        self.actions.push(Action::Format {
            segment: id,
            directory,
            layout: domain.layout,
            mode,
            incarnation: segment.incarnation,
            checksums: domain.terms.checksums,
        });
        true
    }

    /// The directory of a new domain is written, or cannot be.
    pub(super) fn formatted(&mut self, id: SegmentId, result: Result<(), WorldError>) {
        let creates = |job: &&super::Job| job.purpose == Purpose::Create && job.unbuilt == 0;
        let Some(job) = self.jobs.get(&id).filter(creates) else {
            return;
        };
        let withdrawn = job.failure.clone();
        match withdrawn.map_or(result, Err) {
            Ok(()) => self.finish_create(id),
            Err(failure) => self.fail_job(id, &Refusal::World(failure)),
        }
    }

    /// Has a unit leased, or let go of, in the place of a client that may not write the words.
    pub(super) fn lease(
        &mut self,
        client: ClientId,
        request_id: u64,
        (segment_id, unit): (u64, u32),
        lease: Lease,
    ) -> Result<(), Refusal> {
        let id = self.held(client, segment_id)?;
        self.all_present(id)?;
        self.is_ready(id)?;
        let segment = self.segment(id)?;
        let domain = segment.domain.as_ref();
        let domain = domain.ok_or_else(|| Refusal::not_found("domain", segment_id))?;
        if segment.holders.get(&client) != Some(&Access::ReadOnly) {
            return Err(Refusal::NotPermitted(
                "you hold the domain read-write: lease its units by your own mapping of the \
                 directory",
            ));
        }
        if unit >= domain.layout.units() {
            return Err(Refusal::not_found("unit", unit));
        }
        let slot = domain.slots.get(&client).copied();
        let slot = slot.ok_or(Refusal::Broken("a member has no slot"))?;
        let directory = segment.backings.first().copied();
        let directory = directory.ok_or(Refusal::Broken("a domain has no directory"))?;
        self.actions.push(Action::Lease {
            client,
            request_id,
            directory,
            slot,
            unit,
            lease,
        });
        Ok(())
    }

    /// The world has leased a unit, or let go of it, or could not.
    pub(super) fn leased(&mut self, client: ClientId, request_id: u64, unit: u32, what: Leased) {
        let refusal = match what {
            Ok(None) => return self.done(client, request_id),
            Ok(Some(grant)) => {
                let (version, backing) = (grant.version, grant.backing);
                let acquired = session::Acquired { version, backing };
                return self.reply(client, request_id, reply::Body::Acquired(acquired));
            }
            Err(LeaseError::Lost { last_good }) => Refusal::LostUnit { unit, last_good },
            Err(error @ (LeaseError::Busy(_) | LeaseError::TimedOut(_))) => {
                Refusal::Held(format!("unit {unit}: {error}"))
            }
            Err(LeaseError::Retired) => Refusal::not_found("unit", unit),
            Err(error) => Refusal::CorruptUnit { unit, error },
        };
        self.refuse(client, request_id, &refusal);
    }

    /// The domains whose directories this life of the daemon has seen to.
    pub fn domains(&self) -> impl Iterator<Item = DomainView> {
        let segments = self.domains.iter().filter_map(|id| self.segments.get(id));
        segments.filter_map(|segment| {
            let domain = segment.domain.as_ref().filter(|domain| domain.ready)?;
            let evicts = domain.eviction.is_some() || domain.ended_eviction != 0;
            let daemon = if evicts { Slot::DAEMON.bit() } else { 0 };
            (segment.stage == Stage::Live).then_some(DomainView {
                segment: segment.id,
                directory: *segment.backings.first()?,
                layout: domain.layout,
                members: domain.members(),
                left: domain.left | daemon,
                settling: domain.recovering.is_some() || domain.stuck != 0 || evicts,
            })
        })
    }
}
