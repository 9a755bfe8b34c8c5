//! The engine's accounting, proven anew from its tables.

use std::collections::{BTreeMap, BTreeSet};

use pool_core::{Extents, SegmentId};
use pool_proto::admin::v1::{CheckReport, DeviceCheck};

use super::runs::{Run, RunSet};
use super::segment::{Segment, Stage};
use super::{Device, Engine};

/// What a device's extents are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    /// In service.
    pub total: u32,
    /// Free.
    pub free: u32,
    /// Of backings in use, and of those being built.
    pub granted: u32,
    /// Of backings in quarantine.
    pub quarantined: u32,
}

impl Engine {
    /// Walks every table, extent by extent, and names each broken invariant by its number.
    #[must_use]
    pub fn check(&self) -> CheckReport {
        let mut findings = Vec::new();
        let devices = self
            .devices
            .values()
            .map(|device| self.check_device(device, &mut findings))
            .collect();
        self.check_window(&mut findings);
        for segment in self.segments.values() {
            self.check_segment(segment, &mut findings);
        }
        self.check_charges(&mut findings);
        self.check_tenants(&mut findings);
        self.check_names(&mut findings);
        CheckReport {
            balanced: findings.is_empty(),
            devices,
            findings,
            // Their words are the world's.
            domains: Vec::new(),
        }
    }

    /// Engine invariant 1: free, retired and the backings' runs part the device.
    fn check_device(&self, device: &Device, findings: &mut Vec<String>) -> DeviceCheck {
        let name = &device.plan.name;
        let (mut account, mut seen) = (Account::default(), RunSet::default());
        let mut see = |run: Run, whose: &dyn std::fmt::Display| {
            if seen.insert(run).is_err() {
                findings.push(format!(
                    "invariant 1: extents {}..{} of {name} are {whose} and something else",
                    run.first,
                    run.end()
                ));
            }
        };
        for run in device.free_runs() {
            account.free += run.count;
            see(run, &"free");
        }
        device.retired_runs().for_each(|run| see(run, &"retired"));
        let backings = self.backings.values().chain(self.abandoned.values());
        for backing in backings.filter(|backing| backing.device == device.id) {
            backing.runs.iter().for_each(|&run| see(run, &backing.id));
            let part = if backing.quarantined {
                &mut account.quarantined
            } else {
                &mut account.granted
            };
            *part += backing.extents().get();
        }
        let mut files = BTreeMap::<SegmentId, u32>::new();
        for backing in self.backings.values().filter(|b| b.device == device.id) {
            *files.entry(backing.segment).or_default() += 1;
        }
        if files != device.segments {
            findings.push(format!(
                "device invariant 3: {name} counts other files of its segments than there are"
            ));
        }
        account.total = device.total().get();
        let whole = RunSet::of(Run {
            first: 0,
            count: device.index_space(),
        });
        if seen != whole {
            findings.push(format!(
                "invariant 1: of {} extents of {name} only {} are accounted for",
                whole.count(),
                seen.count()
            ));
        }
        let said = (
            device.free().get(),
            device.granted().get(),
            device.quarantined.get(),
        );
        if said != (account.free, account.granted, account.quarantined) {
            findings.push(format!(
                "invariant 1: the counters of {name} say {said:?}, the tables {account:?}"
            ));
        }
        DeviceCheck {
            device: name.clone(),
            total_extents: account.total,
            free_extents: account.free,
            granted_extents: account.granted,
            quarantined_extents: account.quarantined,
        }
    }

    /// Engine invariant 3: the free addresses and the segments part the window.
    fn check_window(&self, findings: &mut Vec<String>) {
        let (mut seen, groups) = (self.window.clone(), &self.group_window);
        if seen.add(groups).is_err() {
            findings.push("invariant 3: an address is of groups and of others".to_owned());
        }
        for segment in self.segments.values() {
            if seen.insert(segment.range).is_err() {
                findings.push(format!(
                    "invariant 3: the addresses of {} are another's too",
                    segment.id
                ));
            }
        }
        let whole = self.plan.window.len().get() / pool_core::EXTENT_BYTES;
        if u64::from(seen.count()) != whole {
            findings.push(format!(
                "invariant 3: {} of {whole} extents of the window are accounted for",
                seen.count()
            ));
        }
    }

    /// Engine invariant 2 and the invariants of a segment.
    fn check_segment(&self, segment: &Segment, findings: &mut Vec<String>) {
        let (id, mut sum) = (segment.id, 0);
        for backing in &segment.backings {
            match self.backings.get(backing) {
                Some(b) if b.segment == id && !b.quarantined && segment.files.contains(backing) => {
                    sum += b.extents().get();
                }
                _ => findings.push(format!(
                    "invariant 2: {backing} is a piece of {id} and does not say so"
                )),
            }
        }
        if segment.stage == Stage::Live && sum != segment.extents.get() {
            findings.push(format!(
                "segment invariant 1: the pieces of {id} have {sum} of {} extents",
                segment.extents.get()
            ));
        }
        for client in segment.holders.keys() {
            if !self
                .clients
                .get(client)
                .is_some_and(|client| client.held.contains(&id))
            {
                findings.push(format!(
                    "segment invariant 2: {client} holds {id} and does not know it"
                ));
            }
        }
        for client in &segment.leaving {
            if !self
                .clients
                .get(client)
                .is_some_and(|client| client.leaving.contains(&id))
            {
                findings.push(format!(
                    "segment invariant 2: {client} was told to let {id} go and does not know it"
                ));
            }
        }
        if segment.domain.is_some() != self.domains.contains(&id) {
            findings.push(format!(
                "{id} is a domain and not counted, or counted and none"
            ));
        }
        if let Some(domain) = &segment.domain {
            let broken = domain.findings(&segment.holders).into_iter();
            findings.extend(broken.map(|finding| format!("{finding}, of {id}")));
        }
        if let Err(finding) = segment.check_seal() {
            findings.push(format!("segment invariant 4, of {id}: {finding}"));
        }
        let bare =
            segment.name.is_empty() && segment.holders.is_empty() && segment.backings.is_empty();
        if segment.stage == Stage::Freed && !bare {
            findings.push(format!(
                "segment invariant 3: {id} is freed and still has a name, a holder or a piece"
            ));
        }
    }

    /// Tenancy invariant 1: what tenants are charged is what the backings say.
    fn check_charges(&self, findings: &mut Vec<String>) {
        let mut due = BTreeMap::<_, (u32, u32)>::new();
        let abandoned = |id| self.abandoned.contains_key(id);
        for backing in self.backings.values().chain(self.abandoned.values()) {
            if !abandoned(&backing.id)
                && !self
                    .segments
                    .get(&backing.segment)
                    .is_some_and(|segment| segment.files.contains(&backing.id))
            {
                findings.push(format!(
                    "invariant 2: the segment of {} does not know it",
                    backing.id
                ));
            }
            let tier = self
                .devices
                .get(&backing.device)
                .map_or(usize::MAX, |device| device.tier);
            let (used, quarantined) = due.entry((backing.charged, tier)).or_default();
            *used += backing.extents().get();
            *quarantined += if backing.quarantined {
                backing.extents().get()
            } else {
                0
            };
        }
        for tenant in self.tenants.iter() {
            for (tier, (used, quarantined)) in
                tenant.used.iter().zip(&tenant.quarantined).enumerate()
            {
                let said = (used.get(), quarantined.get());
                let due = due.remove(&(tenant.id, tier)).unwrap_or_default();
                if said != due {
                    let (tenant, tier) = (&tenant.name, self.tier_name(tier));
                    findings.push(format!(
                        "tenancy invariant 1: {tenant} is charged {said:?} of \
                     {tier}, due are {due:?}"
                    ));
                }
            }
        }
        for ((tenant, _), due) in due.iter().filter(|(_, due)| **due != (0, 0)) {
            findings.push(format!(
                "tenancy invariant 1: {tenant} is unknown, due are {due:?}"
            ));
        }
    }

    /// Tenancy invariants 3 and 4.
    fn check_tenants(&self, findings: &mut Vec<String>) {
        let mut due = BTreeMap::<_, (BTreeSet<SegmentId>, BTreeSet<SegmentId>)>::new();
        for segment in self.segments.values() {
            due.entry(segment.tenant).or_default().0.insert(segment.id);
            for &tenant in segment.shares.keys() {
                due.entry(tenant).or_default().1.insert(segment.id);
            }
        }
        for tenant in self.tenants.iter() {
            let said = (tenant.segments.clone(), tenant.shared.clone());
            if said != due.remove(&tenant.id).unwrap_or_default() {
                findings.push(format!(
                    "tenancy invariant 3: {} has other segments or shares than name it",
                    tenant.name
                ));
            }
        }
        for id in due.keys() {
            findings.push(format!("tenancy invariant 4: {id} is named and unknown"));
        }
    }

    fn check_names(&self, findings: &mut Vec<String>) {
        for ((tenant, name), id) in &self.names {
            if !self
                .segments
                .get(id)
                .is_some_and(|s| s.tenant == *tenant && s.name == *name)
            {
                findings.push(format!(
                    "the name {name} leads to {id}, which does not have it"
                ));
            }
        }
        for client in self.clients.values() {
            let unknown = |id: &&SegmentId| {
                !self
                    .segments
                    .get(id)
                    .is_some_and(|s| s.holders.contains_key(&client.id))
            };
            for id in client.held.iter().filter(unknown) {
                findings.push(format!(
                    "segment invariant 2: {} holds {id}, which does not know it",
                    client.id
                ));
            }
            let left = |id: &&SegmentId| {
                !self
                    .segments
                    .get(id)
                    .is_some_and(|s| s.leaving.contains(&client.id))
            };
            for id in client.leaving.iter().filter(left) {
                findings.push(format!(
                    "segment invariant 2: {} is to let go {id}, which does not know it",
                    client.id
                ));
            }
        }
    }

    /// What all devices' extents are together, from the counters.
    #[must_use]
    pub fn account(&self) -> Account {
        let sum = |of: fn(&Device) -> Extents| {
            let in_service = self.devices.values().filter(|d| !d.removed);
            super::sum(in_service.map(of)).get()
        };
        Account {
            total: sum(Device::total),
            free: sum(Device::free),
            granted: sum(Device::granted),
            quarantined: sum(|device| device.quarantined),
        }
    }
}
