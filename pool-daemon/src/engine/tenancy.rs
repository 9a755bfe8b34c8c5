//! Who a peer is, what its tenant may use, and what it uses.
//!
//! A tenant pays for every extent of a backing from the moment it is carved until it is proven
//! gone: in use, or in quarantine charged to it.
//!
//! # Invariants
//! 1. `used[tier]` of a tenant is the sum of the extents of all backings charged to it on devices
//!    of that tier; `quarantined[tier]` is the part in quarantine.
//! 2. The requests of the configured tenants together fit each tier.
//! 3. `segments` are those that name the tenant as owner, `shared` those that are shared with it.
//! 4. A tenant that the configuration does not name is known only while something names it: a
//!    client, a segment, a share or a charge.

use std::collections::{BTreeMap, BTreeSet};

use pool_core::{Extents, SegmentId, TenantId, limits};

use super::command::PeerIdentity;
use super::plan::{Quota, Tenancy, TenantPlan};
use super::refusal::Refusal;

/// A tenant as the engine sees it.
#[derive(Debug, Clone)]
pub(super) struct Tenant {
    pub(super) id: TenantId,
    pub(super) name: String,
    /// By position of the tier.
    pub(super) used: Vec<Extents>,
    /// By position of the tier; part of `used`.
    pub(super) quarantined: Vec<Extents>,
    pub(super) clients: usize,
    pub(super) segments: BTreeSet<SegmentId>,
    pub(super) shared: BTreeSet<SegmentId>,
}

/// All tenants, and the rules of the plan.
#[derive(Debug)]
pub(super) struct Tenants {
    plan: Tenancy,
    tiers: usize,
    by_id: BTreeMap<TenantId, Tenant>,
    by_name: BTreeMap<String, TenantId>,
    next: TenantId,
}

impl Tenants {
    pub(super) fn new(plan: Tenancy, tiers: usize) -> Self {
        let (by_id, by_name) = (BTreeMap::new(), BTreeMap::new());
        Self {
            plan,
            tiers,
            by_id,
            by_name,
            next: TenantId::FIRST,
        }
    }

    pub(super) fn get(&self, id: TenantId) -> Option<&Tenant> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: TenantId) -> Option<&mut Tenant> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn name(&self, id: TenantId) -> &str {
        self.by_id
            .get(&id)
            .map_or("?", |tenant| tenant.name.as_str())
    }

    pub(super) fn find(&self, name: &str) -> Option<TenantId> {
        self.by_name.get(name).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Tenant> {
        self.by_id.values()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn next_id(&self) -> TenantId {
        self.next
    }

    /// Puts a tenant of the journal back.
    pub(super) fn restore(&mut self, id: TenantId, name: String) {
        self.next = self.next.max(id.checked_next().unwrap_or(id));
        self.add(id, name);
    }

    /// Never hands out an id below `next` again.
    pub(super) fn restore_next(&mut self, next: TenantId) {
        self.next = self.next.max(next);
    }

    fn add(&mut self, id: TenantId, name: String) {
        let (used, quarantined) = (
            vec![Extents::ZERO; self.tiers],
            vec![Extents::ZERO; self.tiers],
        );
        self.by_name.insert(name.clone(), id);
        self.by_id.insert(
            id,
            Tenant {
                id,
                name,
                used,
                quarantined,
                clients: 0,
                segments: BTreeSet::new(),
                shared: BTreeSet::new(),
            },
        );
    }

    /// The tenant of this name, made now if it is new; `true` with a new one.
    ///
    /// # Errors
    /// Where the name could not be that of any tenant, or there are too many, all in all or by the
    /// labels of one user.
    pub(super) fn named(&mut self, name: &str) -> Result<(TenantId, bool), Refusal> {
        if let Some(id) = self.find(name) {
            return Ok((id, false));
        }
        if !self.could_exist(name) {
            return Err(Refusal::not_found("tenant", name));
        }
        self.room_for(name)?;
        let id = self.next;
        self.next = id.checked_next().ok_or(Refusal::Limit {
            what: "tenants ever",
            limit: u64::from(u32::MAX),
        })?;
        self.add(id, name.to_owned());
        Ok((id, true))
    }

    /// A configured tenant always has its place. The others share what is left, and no user takes
    /// more than a small part of that.
    fn room_for(&self, name: &str) -> Result<(), Refusal> {
        if self.is_configured(name) {
            return Ok(());
        }
        let configured = &self.plan.tenants;
        let known = |tenant: &&TenantPlan| self.by_name.contains_key(&tenant.name);
        let unlisted = self.by_id.len() - configured.iter().filter(known).count();
        let limit = limits::TENANTS_MAX.saturating_sub(configured.len());
        if unlisted >= limit {
            return Err(at_most("tenants", limit));
        }
        let Some((user, _)) = name.split_once('/') else {
            return Ok(());
        };
        let prefix = format!("{user}/");
        let labelled = self.by_name.range(prefix.clone()..);
        let labels = labelled
            .take_while(|(name, _)| name.starts_with(&prefix))
            .count();
        if labels >= limits::USER_LABELS_MAX {
            return Err(at_most("labels of one user", limits::USER_LABELS_MAX));
        }
        Ok(())
    }

    /// Whether a share of user `uid` may make a tenant of this name known, which is not known yet:
    /// one of his own labels, or another user as a whole. So nobody uses up the labels of others,
    /// and half of the places is left to those who attach.
    ///
    /// # Errors
    /// Where it may not.
    pub(super) fn may_be_named_by(&self, uid: u32, name: &str) -> Result<(), Refusal> {
        if self.by_name.contains_key(name) || self.is_configured(name) {
            return Ok(());
        }
        if !self.could_exist(name) {
            return Err(Refusal::not_found("tenant", name));
        }
        let own = format!("uid-{uid}/");
        if name.contains('/') && !name.starts_with(&own) {
            return Err(Refusal::NotPermitted(
                "nobody has attached under this label of another user: share with the user as a \
                 whole (`uid-N`), or once somebody has",
            ));
        }
        let limit = limits::SHARED_TENANTS_MAX;
        if self.by_id.len() >= limit {
            return Err(at_most("tenants while a share names a new one", limit));
        }
        Ok(())
    }

    /// Forgets a tenant that nothing names any more. Its id is not used again.
    pub(super) fn forget_if_unnamed(&mut self, id: TenantId) -> bool {
        let nothing = |amounts: &[Extents]| amounts.iter().all(|a| *a == Extents::ZERO);
        let unnamed = self.by_id.get(&id).is_some_and(|tenant| {
            tenant.clients == 0
                && tenant.segments.is_empty()
                && tenant.shared.is_empty()
                && nothing(&tenant.used)
                && !self.is_configured(&tenant.name)
        });
        if unnamed && let Some(tenant) = self.by_id.remove(&id) {
            self.by_name.remove(&tenant.name);
        }
        unnamed
    }

    fn is_configured(&self, name: &str) -> bool {
        self.plan.tenants.iter().any(|tenant| tenant.name == name)
    }

    fn could_exist(&self, name: &str) -> bool {
        let of_a_uid = || {
            let rest = name.strip_prefix("uid-")?;
            let uid = rest.split_once('/').map_or(rest, |(uid, _)| uid);
            uid.parse::<u32>()
                .ok()
                .filter(|parsed| parsed.to_string() == uid)
        };
        limits::is_name(name)
            && (self.is_configured(name) || (self.plan.admit_unlisted && of_a_uid().is_some()))
    }

    /// The name of the tenant a peer attaches to.
    ///
    /// # Errors
    /// Where the peer's credentials do not allow the tenant it asks for, or none at all.
    pub(super) fn admit(&self, peer: &PeerIdentity, wanted: &str) -> Result<String, Refusal> {
        let own = || self.configured_of(peer.uid, peer.gid);
        if own().next().is_some() {
            let mut fitting = own().filter(|name| wanted.is_empty() || *name == wanted);
            return fitting
                .next()
                .map(ToOwned::to_owned)
                .ok_or_else(|| Refusal::not_found("tenant", wanted));
        }
        if !self.plan.admit_unlisted {
            return Err(Refusal::NotPermitted(
                "the configuration names no tenant for this user",
            ));
        }
        let label = if wanted.is_empty() { "" } else { "/" };
        let name = format!("uid-{}{label}{wanted}", peer.uid);
        if self.is_configured(&name) {
            // The configuration gave this name to others.
            return Err(Refusal::not_found("tenant", name));
        }
        if wanted.is_empty() {
            return Ok(name);
        }
        if limits::is_name(wanted) && limits::is_name(&name) {
            Ok(name)
        } else {
            Err(Refusal::bad_name(&name))
        }
    }

    fn configured_of(&self, uid: u32, gid: u32) -> impl Iterator<Item = &str> {
        let belongs = move |t: &&TenantPlan| t.uids.contains(&uid) || t.gids.contains(&gid);
        self.plan
            .tenants
            .iter()
            .filter(belongs)
            .map(|tenant| tenant.name.as_str())
    }

    /// Whether a user may see what this tenant has.
    pub(super) fn is_of(&self, id: TenantId, uid: u32, gid: u32) -> bool {
        let name = self.name(id);
        let own = format!("uid-{uid}");
        let labelled = name
            .strip_prefix(&own)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.configured_of(uid, gid)
            .any(|configured| configured == name)
            || (labelled && !self.is_configured(name))
    }

    /// What the tenant is guaranteed and may have at most of a tier. Only configured tenants are
    /// guaranteed anything: there may be any number of the others.
    pub(super) fn quota(&self, id: TenantId, tier: &str, total: Extents) -> (Extents, Extents) {
        let name = self.name(id);
        let limit_of = |quota: &Quota| quota.limit.of(total);
        match self.plan.tenants.iter().find(|tenant| tenant.name == name) {
            Some(tenant) => tenant
                .quotas
                .get(tier)
                .map_or((Extents::ZERO, Extents::ZERO), |quota| {
                    (quota.request.of(total), limit_of(quota))
                }),
            None => (
                Extents::ZERO,
                self.plan
                    .default_quotas
                    .get(tier)
                    .map_or(Extents::ZERO, limit_of),
            ),
        }
    }

    /// The sum of what configured tenants are guaranteed of a tier.
    pub(super) fn guaranteed(&self, tier: &str, total: Extents) -> Extents {
        let requests = self
            .plan
            .tenants
            .iter()
            .filter_map(|tenant| tenant.quotas.get(tier));
        let sum = requests
            .map(|quota| u64::from(quota.request.of(total).get()))
            .sum::<u64>();
        Extents::new(u32::try_from(sum).unwrap_or(u32::MAX))
    }

    /// Charges a tenant for extents of a tier.
    pub(super) fn charge(&mut self, id: TenantId, tier: usize, extents: Extents) {
        if let Some(used) = self
            .by_id
            .get_mut(&id)
            .and_then(|tenant| tenant.used.get_mut(tier))
        {
            *used = used.checked_add(extents).unwrap_or(*used);
        }
    }

    /// Ends a charge.
    pub(super) fn discharge(&mut self, id: TenantId, tier: usize, extents: Extents) {
        if let Some(used) = self
            .by_id
            .get_mut(&id)
            .and_then(|tenant| tenant.used.get_mut(tier))
        {
            *used = used.saturating_sub(extents);
        }
    }

    /// Notes that charged extents went into quarantine.
    pub(super) fn quarantine(&mut self, id: TenantId, tier: usize, extents: Extents) {
        if let Some(part) = self
            .by_id
            .get_mut(&id)
            .and_then(|tenant| tenant.quarantined.get_mut(tier))
        {
            *part = part.checked_add(extents).unwrap_or(*part);
        }
    }

    /// Ends a charge for extents in quarantine.
    pub(super) fn release(&mut self, id: TenantId, tier: usize, extents: Extents) {
        if let Some(part) = self
            .by_id
            .get_mut(&id)
            .and_then(|tenant| tenant.quarantined.get_mut(tier))
        {
            *part = part.saturating_sub(extents);
        }
        self.discharge(id, tier, extents);
    }
}

fn at_most(what: &'static str, limit: usize) -> Refusal {
    Refusal::Limit {
        what,
        limit: limit as u64,
    }
}
