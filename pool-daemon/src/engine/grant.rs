//! Granting: carving addresses, building files, and making a segment longer or shorter.

use std::collections::{BTreeMap, BTreeSet};

use coherence::Layout;
use pool_core::{
    BackingId, Bytes, ClientId, EXTENT_BYTES, Extents, Incarnation, SegmentId, TenantId, limits,
    planted,
};
use pool_proto::common::v1::{Access, Coherence, Lifetime};
use pool_proto::session::v1::{self as session, event};

use super::carve::Spread;
use super::domain::{self, Domain};
use super::job::{Job, Purpose};
use super::runs::Run;
use super::segment::{Segment, Stage};
use super::{Engine, Refusal, take_id};

/// A request to create, with every number checked.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) tenant: TenantId,
    pub(super) tier: usize,
    pub(super) extents: Extents,
    capacity: Extents,
    /// Its address is to be a multiple of this.
    pub(super) align: Extents,
    piece_max: u32,
    name: String,
    lifetime: Lifetime,
    domain: Option<(Layout, Coherence)>,
}

impl Wanted {
    /// What is wanted of a group that another host has sealed.
    pub(super) fn group(
        tenant: TenantId,
        tier: usize,
        extents: Extents,
        name: &str,
        lifetime: Lifetime,
    ) -> Self {
        Self {
            tenant,
            tier,
            extents,
            capacity: extents,
            align: Extents::new(1),
            piece_max: 0,
            name: name.to_owned(),
            lifetime,
            domain: None,
        }
    }

    /// It has one size, one piece, and no units.
    pub(super) fn has_one_file(&self) -> bool {
        self.capacity == self.extents && self.piece_max == 0 && self.domain.is_none()
    }
}

/// The lifetime of a request, for a segment of this name.
pub(super) fn lifetime_of(lifetime: i32, name: &str) -> Result<Lifetime, Refusal> {
    let lifetime = match Lifetime::try_from(lifetime) {
        Ok(Lifetime::Unspecified | Lifetime::Held) => Lifetime::Held,
        Ok(Lifetime::Persistent) => Lifetime::Persistent,
        Err(_) => return Err(Refusal::Malformed("lifetime is none of the known ones")),
    };
    if !name.is_empty() && !limits::is_name(name) {
        return Err(Refusal::bad_name(name));
    }
    if lifetime == Lifetime::Persistent && name.is_empty() {
        return Err(Refusal::Malformed(
            "a persistent segment needs a name, or nobody could open it",
        ));
    }
    Ok(lifetime)
}

impl Engine {
    pub(super) fn create(
        &mut self,
        client: ClientId,
        request_id: u64,
        ask: session::Create,
    ) -> Result<(), Refusal> {
        let wanted = self.wanted(client, &ask)?;
        self.is_whole_where_it_must_be(&wanted)?;
        if let Some(device) = self.device_of_groups(wanted.tier) {
            return self.make_group((client, request_id), device, &wanted);
        }
        match self.start_create(Some((client, request_id)), &wanted) {
            Err(full @ Refusal::TierFull { .. }) => {
                self.wait_for_burst(client, request_id, wanted, ask.wait_ms, full)
            }
            outcome => outcome,
        }
    }

    fn wanted(&self, client: ClientId, ask: &session::Create) -> Result<Wanted, Refusal> {
        let client = self.clients.get(&client).ok_or(Refusal::UnknownClient)?;
        let tier = self.tier_named(&ask.tier)?;
        let payload = self.extents_of("bytes", ask.bytes)?;
        let domain = domain::wanted(ask)?;
        let extents = match domain {
            None => payload,
            Some((layout, _)) => {
                let bytes = ask.bytes.saturating_add(layout.directory().get());
                self.extents_of("bytes and directory", bytes)?
            }
        };
        let capacity = match ask.capacity_bytes {
            _ if domain.is_some() => extents,
            0 => extents,
            bytes if bytes < ask.bytes => {
                let most = self.plan.window.len().get();
                return Err(Refusal::OutOfRange {
                    what: "capacity_bytes",
                    asked: bytes,
                    least: ask.bytes,
                    most,
                });
            }
            bytes => self.extents_of("capacity_bytes", bytes)?,
        };
        let align = self.alignment(ask.align)?;
        let piece_max = match ask.piece_bytes {
            0 => 0,
            bytes => self.extents_of("piece_bytes", bytes)?.get(),
        };
        let lifetime = lifetime_of(ask.lifetime, &ask.name)?;
        self.may_hold_more(client.id)?;
        Ok(Wanted {
            tenant: client.tenant,
            tier,
            extents,
            capacity,
            align,
            piece_max,
            name: ask.name.clone(),
            lifetime,
            domain,
        })
    }

    pub(super) fn may_hold_more(&self, client: ClientId) -> Result<(), Refusal> {
        // What was revoked counts until it is closed: it is told of at each Reattach.
        let held = self
            .clients
            .get(&client)
            .map_or(0, |client| client.held.len() + client.leaving.len());
        let limit = limits::CLIENT_SEGMENTS_MAX;
        if held < limit {
            return Ok(());
        }
        Err(Refusal::Limit {
            what: "segments held, or revoked and not closed yet, by one client",
            limit: limit as u64,
        })
    }

    /// An amount of a request in whole extents: 1 byte to the size of the window.
    fn extents_of(&self, what: &'static str, bytes: u64) -> Result<Extents, Refusal> {
        let most = self.plan.window.len().get();
        let extents = Extents::holding(Bytes::new(bytes)).filter(|_| (1..=most).contains(&bytes));
        extents.ok_or(Refusal::OutOfRange {
            what,
            asked: bytes,
            least: 1,
            most,
        })
    }

    /// Carves what is wanted and asks for its files. Refuses without having changed anything.
    pub(super) fn start_create(
        &mut self,
        asker: Option<(ClientId, u64)>,
        wanted: &Wanted,
    ) -> Result<(), Refusal> {
        self.may_begin(wanted)?;
        let directory = wanted.domain.map(|(layout, _)| layout.directory());
        let layout = self.layout(&Spread {
            tenant: wanted.tenant,
            tier: wanted.tier,
            extents: wanted.extents,
            piece_max: wanted.piece_max,
            pieces_before: 0,
            apart: directory.and_then(Extents::holding).unwrap_or_default(),
        })?;
        if wanted.domain.is_some() {
            self.all_sealed(&layout)?;
            self.room_for_a_domain()?;
        }
        // An id that is not used after all is no loss; addresses would be.
        let id = take_id!(self, segment);
        let incarnation = self.next_incarnation()?;
        let range = self.take_place(wanted.capacity, wanted.align)?;
        let fresh = self.carve(id, wanted.tenant, layout)?;
        self.begin_segment(id, incarnation, range, wanted, &fresh);
        let (purpose, unbuilt, failure) = (Purpose::Create, fresh.len(), None);
        let job = Job {
            asker,
            purpose,
            fresh,
            unbuilt,
            failure,
        };
        // The daemon accesses the directory of a domain, and must never meet a missing page.
        let shareable = !wanted.name.is_empty() || wanted.domain.is_some();
        self.start_job(id, job, shareable);
        Ok(())
    }

    /// # Errors
    /// Where its name is taken, or the pool or its tenant may have no such segment more.
    pub(super) fn may_begin(&self, wanted: &Wanted) -> Result<(), Refusal> {
        let named = (wanted.tenant, wanted.name.clone());
        if self.names.contains_key(&named) {
            return Err(Refusal::NameTaken(named.1));
        }
        if self.segments.len() >= limits::SEGMENTS_MAX {
            return Err(Refusal::Limit {
                what: "segments",
                limit: limits::SEGMENTS_MAX as u64,
            });
        }
        self.within_quota(wanted.tenant, wanted.tier, wanted.extents)
    }

    /// A segment whose files are being built.
    pub(super) fn begin_segment(
        &mut self,
        id: SegmentId,
        incarnation: Incarnation,
        range: Run,
        wanted: &Wanted,
        fresh: &[BackingId],
    ) {
        let segment = Segment {
            id,
            tenant: wanted.tenant,
            name: wanted.name.clone(),
            tier: wanted.tier,
            range,
            extents: wanted.extents,
            incarnation,
            lifetime: wanted.lifetime,
            burst: self.is_over(wanted.tenant, wanted.tier),
            piece_max: wanted.piece_max,
            stage: Stage::Building,
            backings: Vec::new(),
            files: fresh.iter().copied().collect(),
            shares: BTreeMap::new(),
            holders: BTreeMap::new(),
            leaving: BTreeSet::new(),
            sealed: false,
            writers: 0,
            domain: wanted
                .domain
                .map(|(layout, terms)| Domain::new(layout, terms)),
            is_group: self.device_of_groups(wanted.tier).is_some(),
            tag: None,
            is_joined: false,
        };
        if !segment.name.is_empty() {
            self.names
                .insert((segment.tenant, segment.name.clone()), id);
        }
        if let Some(tenant) = self.tenants.get_mut(segment.tenant) {
            tenant.segments.insert(id);
        }
        if segment.domain.is_some() {
            self.domains.insert(id);
        }
        self.segments.insert(id, segment);
    }

    pub(super) fn next_incarnation(&mut self) -> Result<Incarnation, Refusal> {
        Ok(take_id!(self, incarnation))
    }

    /// # Errors
    /// [`Refusal::OverQuota`] where the tenant would pass its limit.
    pub(super) fn within_quota(
        &self,
        tenant: TenantId,
        tier: usize,
        more: Extents,
    ) -> Result<(), Refusal> {
        let (_, limit) = self
            .tenants
            .quota(tenant, self.tier_name(tier), self.tier_most(tier));
        let used = self.used(tenant, tier);
        if used.checked_add(more).is_some_and(|sum| sum <= limit) {
            return Ok(());
        }
        Err(Refusal::over_quota(
            self.tenants.name(tenant),
            self.tier_name(tier),
            limit,
            used,
            more,
        ))
    }

    pub(super) fn used(&self, tenant: TenantId, tier: usize) -> Extents {
        let used = self
            .tenants
            .get(tenant)
            .and_then(|tenant| tenant.used.get(tier));
        used.copied().unwrap_or_default()
    }

    /// All files of a new segment are there: it is granted.
    pub(super) fn finish_create(&mut self, id: SegmentId) {
        let Some((client, request_id)) = self.jobs.get(&id).and_then(|job| job.asker) else {
            // The client is gone: nobody wants it.
            return self.fail_job(id, &Refusal::UnknownClient);
        };
        let Some(job) = self.jobs.remove(&id) else {
            return;
        };
        let Some(segment) = self.segments.get_mut(&id) else {
            return;
        };
        segment.stage = Stage::Live;
        segment.backings.clone_from(&job.fresh);
        let access = if segment.sealed {
            Access::ReadOnly // A group that another host has made.
        } else {
            Access::ReadWrite
        };
        self.hold(client, id, access);
        self.enter(&job.fresh);
        self.touch_pool();
        self.remember(client, request_id, Some(id));
        self.publish_segment("segment-granted", id, String::new());
        self.answer_grant(client, request_id, id);
        self.tell_if_leaving(id);
    }

    /// New backings are part of their segment now.
    pub(super) fn enter(&mut self, fresh: &[BackingId]) {
        for &backing in fresh {
            self.touch_backing(backing);
        }
    }

    pub(super) fn hold(&mut self, client: ClientId, id: SegmentId, access: Access) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.holders.insert(client, access);
            let writes = u64::from(access == Access::ReadWrite);
            segment.writers = segment.writers.saturating_add(writes);
            segment.leaving.remove(&client);
        }
        if let Some(client) = self.clients.get_mut(&client) {
            client.held.insert(id);
            client.leaving.remove(&id);
        }
        self.join(client, id);
        let all = self.segments.get(&id).map_or(0, |it| it.holders.len());
        if all <= 1 || !planted!("open.is_not_journaled") {
            self.touch_segment(id);
        }
        self.tell_of_damage(client, id);
    }

    pub(super) fn answer_grant(&mut self, client: ClientId, request_id: u64, id: SegmentId) {
        if let Err(refusal) = self.grant(client, request_id, id) {
            self.refuse(client, request_id, &refusal);
        }
    }

    pub(super) fn resize(
        &mut self,
        client: ClientId,
        request_id: u64,
        id: u64,
        bytes: u64,
    ) -> Result<(), Refusal> {
        let id = self.owned_and_held(client, id)?;
        self.not_sealed(id)?;
        self.not_busy(id)?;
        self.not_a_domain(id)?;
        self.not_a_group(id)?;
        self.not_of_hosts(id)?;
        self.all_present(id)?;
        let wanted = self.extents_of("bytes", bytes)?;
        let segment = self.segment(id)?;
        if wanted > segment.extents {
            let more = wanted.saturating_sub(segment.extents);
            return self.start_grow(client, request_id, id, wanted, more);
        }
        if wanted < segment.extents {
            self.shrink(id, wanted)?;
        }
        self.remember(client, request_id, Some(id));
        self.answer_grant(client, request_id, id);
        Ok(())
    }

    fn start_grow(
        &mut self,
        client: ClientId,
        request_id: u64,
        id: SegmentId,
        wanted: Extents,
        more: Extents,
    ) -> Result<(), Refusal> {
        let segment = self.segment(id)?;
        let (tenant, tier, range) = (segment.tenant, segment.tier, segment.range);
        let (piece_max, pieces, named) = (
            segment.piece_max,
            segment.backings.len(),
            !segment.name.is_empty(),
        );
        self.within_quota(tenant, tier, more)?;
        let layout = self.layout(&Spread {
            tenant,
            tier,
            extents: more,
            piece_max,
            pieces_before: pieces,
            apart: Extents::ZERO,
        })?;
        if let Some(lacking) = wanted
            .get()
            .checked_sub(range.count)
            .filter(|&count| count > 0)
        {
            let behind = Run {
                first: range.end(),
                count: lacking,
            };
            let capacity = Extents::new(range.count).bytes();
            self.window
                .remove(behind)
                .map_err(|_| Refusal::NoRoomBehind { capacity })?;
            if let Some(segment) = self.segments.get_mut(&id) {
                segment.range.count = wanted.get();
            }
            // Journaled although the growing may still fail: the segment then keeps the room.
            self.touch_segment(id);
        }
        let fresh = self.carve(id, tenant, layout)?;
        let (asker, unbuilt) = (Some((client, request_id)), fresh.len());
        self.start_job(
            id,
            Job {
                asker,
                purpose: Purpose::Grow,
                fresh,
                unbuilt,
                failure: None,
            },
            named,
        );
        Ok(())
    }

    /// All files of the grown part are there.
    pub(super) fn finish_grow(&mut self, id: SegmentId) {
        let Some(job) = self.jobs.remove(&id) else {
            return;
        };
        let more: u32 = job
            .fresh
            .iter()
            .filter_map(|id| self.backings.get(id))
            .map(|b| b.extents().get())
            .sum();
        let bursts = self
            .segments
            .get(&id)
            .is_some_and(|segment| self.is_over(segment.tenant, segment.tier));
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.extents = Extents::new(segment.extents.get() + more);
            segment.backings.extend(&job.fresh);
            segment.burst |= bursts;
        }
        self.enter(&job.fresh);
        self.touch_segment(id);
        self.touch_pool();
        self.publish_segment("segment-granted", id, "grown".to_owned());
        self.tell_changed(id, job.asker.map(|(client, _)| client));
        if let Some((client, request_id)) = job.asker {
            self.remember(client, request_id, Some(id));
            self.answer_grant(client, request_id, id);
        }
        self.tell_if_leaving(id);
    }

    /// Ends the pieces behind `wanted`, which must be a piece's end.
    fn shrink(&mut self, id: SegmentId, wanted: Extents) -> Result<(), Refusal> {
        let segment = self.segment(id)?;
        let (mut kept, mut end) = (0, 0);
        for backing in &segment.backings {
            let piece = self
                .backings
                .get(backing)
                .map_or(0, |backing| backing.extents().get());
            if end + piece > wanted.get() {
                break;
            }
            (kept, end) = (kept + 1, end + piece);
        }
        if end != wanted.get() {
            let next = segment
                .backings
                .get(kept)
                .and_then(|id| self.backings.get(id));
            let above =
                u64::from(end) + next.map_or(0, |backing| u64::from(backing.extents().get()));
            let (asked, below) = (wanted.bytes(), Bytes::new(u64::from(end) * EXTENT_BYTES));
            return Err(Refusal::NotAtBoundary {
                asked,
                below,
                above: Bytes::new(above * EXTENT_BYTES),
            });
        }
        let Some(segment) = self.segments.get_mut(&id) else {
            return Ok(());
        };
        let (dropped, owner) = (segment.backings.split_off(kept), segment.tenant);
        segment.extents = wanted;
        self.touch_segment(id);
        self.quarantine(&dropped, owner);
        self.publish_segment("segment-shrunk", id, String::new());
        self.tell_changed(id, None);
        Ok(())
    }

    /// Tells the holders that the segment is another than they mapped; `but` learns it from its
    /// answer.
    pub(super) fn tell_changed(&mut self, id: SegmentId, but: Option<ClientId>) {
        let Some(segment) = self.segments.get(&id) else {
            return;
        };
        let (segment_id, incarnation) = (id.number(), segment.incarnation.number());
        let holders: Vec<_> = segment
            .holders
            .keys()
            .copied()
            .filter(|holder| Some(*holder) != but)
            .collect();
        for holder in holders {
            self.tell(
                holder,
                event::Body::Changed(session::Changed {
                    segment_id,
                    incarnation,
                }),
            );
        }
    }
}
