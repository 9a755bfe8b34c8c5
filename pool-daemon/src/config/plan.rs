//! From a configuration to a plan: what depends on the machine, or on several values at once.

use std::collections::BTreeMap;

use pool_core::{Bytes, Extents};

use super::reader::Written;
use super::{
    Config, ConfigError, CxlMode, Device, DeviceKind, DeviceSpec, FabricSource, Sizes, defaults,
};
use crate::discover::Machine;
use crate::engine::plan::{Amount, DevicePlan, GROUP_PARTS, Plan, Quota, Tenancy, TierPlan};

/// What a tenant has whom the configuration does not name, in a tier for which it says nothing.
const DEFAULT_QUOTA: Quota = Quota {
    request: Amount::Percent(0),
    limit: Amount::Percent(100),
};

pub(super) fn plan(
    config: &Config,
    machine: &Machine,
    before: &Sizes,
) -> Result<(Plan, Vec<DeviceSpec>), ConfigError> {
    let (tiers, devices) = match (&config.tiers[..], &config.devices[..]) {
        ([], []) => (
            defaults::TIERS.map(str::to_owned).to_vec(),
            defaults::devices(machine, before)?,
        ),
        _ => (config.tiers.clone(), config.devices.clone()),
    };
    let check = Check {
        config,
        machine,
        devices: &devices,
    };
    let totals = check.tiers(&tiers)?;
    check.devices()?;
    check.groups()?;
    check.mailboxes()?;
    check.regions()?;
    check.wholes()?;
    check.window(&totals)?;
    let default_quotas = check.tenancy(&totals)?;
    check.one_tenant(&default_quotas)?;
    let plan = Plan {
        window: config.window,
        tiers: tiers.into_iter().map(|name| TierPlan { name }).collect(),
        devices: devices.iter().map(device_plan).collect(),
        tenancy: Tenancy {
            tenants: config.tenants.clone(),
            default_quotas,
            admit_unlisted: config.default_tenant.admit_unlisted,
        },
        daemon_uid: machine.uid,
        pressure_deadline: config.daemon.pressure_deadline,
        reattach_grace: config.daemon.reattach_grace,
    };
    Ok((plan, devices.iter().map(device_spec).collect()))
}

fn device_plan(device: &Device) -> DevicePlan {
    // It was found to be one of the parts.
    let part = |source: &FabricSource| u8::try_from(source.ld).ok().filter(|_| source.shared);
    let shared = match &device.kind {
        DeviceKind::Fabric(source) => part(source),
        DeviceKind::Memfd { .. } | DeviceKind::File { .. } | DeviceKind::Cxl(_) => None,
    };
    let (kind, is_file, numa_node) = match &device.kind {
        DeviceKind::Memfd { numa_node, .. } => ("memfd", false, *numa_node),
        DeviceKind::File { .. } => ("file", true, None),
        DeviceKind::Fabric(_) => ("fabric", false, None),
        DeviceKind::Cxl(source) => match source.mode {
            CxlMode::DevDax => ("devdax", false, None),
            CxlMode::Kmem => ("kmem", false, None),
        },
    };
    DevicePlan {
        name: device.name.clone(),
        tier: device.tier.clone(),
        extents: extents(device.size),
        emulated: device.emulated,
        kind,
        sealed: !is_file,
        persistent: is_file,
        numa_node,
        dynamic: matches!(device.kind, DeviceKind::Fabric(_) | DeviceKind::Cxl(_)),
        shared,
        whole: is_whole(&device.kind),
    }
}

/// Whether other hosts have the same memory.
const fn is_whole(kind: &DeviceKind) -> bool {
    matches!(kind, DeviceKind::Cxl(source) if source.shared)
}

fn device_spec(device: &Device) -> DeviceSpec {
    let size = device.size;
    match &device.kind {
        &DeviceKind::Memfd { pages, numa_node } => DeviceSpec::Memfd {
            pages,
            numa_node,
            size,
        },
        DeviceKind::File { directory } => DeviceSpec::File {
            directory: directory.clone(),
            size,
        },
        DeviceKind::Fabric(source) => DeviceSpec::Fabric(source.clone()),
        DeviceKind::Cxl(source) => DeviceSpec::Cxl(source.clone()),
    }
}

/// Sizes are whole extents, fewer than 2^32 of them, since they were read.
fn extents(size: Bytes) -> Extents {
    Extents::holding(size).unwrap_or(Extents::new(u32::MAX))
}

/// The CXL memory devices that a device is to lie on.
fn serials(device: &Device) -> &[u64] {
    match &device.kind {
        DeviceKind::Cxl(source) => &source.serials,
        DeviceKind::Memfd { .. } | DeviceKind::File { .. } | DeviceKind::Fabric(_) => &[],
    }
}

/// A configuration with the devices it has on this machine.
struct Check<'c> {
    config: &'c Config,
    machine: &'c Machine,
    devices: &'c [Device],
}

impl Check<'_> {
    /// The error that the value of `key` is not `allowed`; `value` where it was not written.
    fn refused(&self, key: String, value: impl ToString, allowed: String) -> ConfigError {
        let default = || Written {
            key: key.clone(),
            text: value.to_string(),
            place: None,
        };
        self.config
            .written
            .get(&key)
            .cloned()
            .unwrap_or_else(default)
            .refused(allowed)
    }

    /// The size of each tier, none of which is empty.
    fn tiers<'t>(&self, tiers: &'t [String]) -> Result<BTreeMap<&'t str, Extents>, ConfigError> {
        let mut totals = BTreeMap::new();
        for (index, tier) in tiers.iter().enumerate() {
            let sizes = self.devices.iter().filter(|device| device.tier == *tier);
            let bytes = sum(sizes.map(|device| device.size));
            match Extents::holding(bytes) {
                Some(Extents::ZERO) => {
                    let allowed = "the tier of at least one [[device]]".to_owned();
                    return Err(self.refused(format!("tier[{index}].name"), tier, allowed));
                }
                Some(total) => totals.insert(tier.as_str(), total),
                None => {
                    let most = Extents::new(u32::MAX).bytes();
                    let allowed = format!("a tier of at most {most} in all its devices");
                    return Err(self.refused(format!("tier[{index}].name"), tier, allowed));
                }
            };
        }
        Ok(totals)
    }

    /// That a device of groups is the only one of its tier, and of its kind in the pool, and that
    /// its way in is one of the numbers that the addresses of groups are parted by.
    fn groups(&self) -> Result<(), ConfigError> {
        let mut before: Option<&Device> = None;
        for (index, device) in self.devices.iter().enumerate() {
            let DeviceKind::Fabric(source) = &device.kind else {
                continue;
            };
            if !source.shared {
                continue;
            }
            if u32::from(source.ld) >= GROUP_PARTS {
                let allowed = format!("0 to {}, where it is shared", GROUP_PARTS - 1);
                return Err(self.refused(format!("device[{index}].ld"), source.ld, allowed));
            }
            let mut others = self.devices.iter().filter(|it| it.name != device.name);
            if let Some(other) = others.find(|other| other.tier == device.tier) {
                let allowed = format!("a tier of its own, without device {}", other.name);
                let key = format!("device[{index}].tier");
                return Err(self.refused(key, &device.tier, allowed));
            }
            if let Some(other) = before.replace(device) {
                let allowed = format!("false: device {} is shared already", other.name);
                return Err(self.refused(format!("device[{index}].shared"), true, allowed));
            }
        }
        Ok(())
    }

    /// That no two devices have one mailbox: each would clear what the other has to hear. But one
    /// of groups and one of other memory have one steward.
    fn mailboxes(&self) -> Result<(), ConfigError> {
        let mut before = BTreeMap::new();
        for (index, device) in self.devices.iter().enumerate() {
            let DeviceKind::Fabric(source) = &device.kind else {
                continue;
            };
            let place = (&source.directory, source.host, source.memdev, source.ld);
            let mailbox = (place, source.shared);
            let others = self.devices[..index]
                .iter()
                .filter_map(|it| match &it.kind {
                    DeviceKind::Fabric(other) => Some((it, other)),
                    _ => None,
                });
            let at =
                |it: &FabricSource| (it.directory.clone(), it.host, it.memdev, it.ld, it.region);
            let mut same = others.filter(|(_, other)| at(other) == at(source));
            if let Some((other, _)) = same.find(|(_, other)| other.shared != source.shared) {
                let allowed = format!("another region than device {} has", other.name);
                let key = format!("device[{index}].region");
                return Err(self.refused(key, source.region, allowed));
            }
            if let Some(other) = before.insert(mailbox, &device.name) {
                let allowed = format!("another host, memdev or ld than device {other} has");
                let key = format!("device[{index}].directory");
                return Err(self.refused(key, source.directory.display(), allowed));
            }
        }
        Ok(())
    }

    /// That no CXL memory device is under two of the pool's: its memory is a stack of regions,
    /// which come and go in their order alone, and so would the pool's devices.
    fn regions(&self) -> Result<(), ConfigError> {
        for (index, device) in self.devices.iter().enumerate() {
            let serials = serials(device);
            let shares = |it: &&Device| self::serials(it).iter().any(|it| serials.contains(it));
            let mut before = self.devices[..index].iter();
            if let Some(other) = before.find(shares) {
                let allowed = format!("others than device {} has", other.name);
                let key = format!("device[{index}].serials");
                return Err(self.refused(key, format!("{serials:x?}"), allowed));
            }
        }
        Ok(())
    }

    /// That a device whose memory other hosts have is the only one of its tier: whoever asks for
    /// memory there is to have just that.
    fn wholes(&self) -> Result<(), ConfigError> {
        for (index, device) in self.devices.iter().enumerate() {
            let mut others = self.devices.iter().filter(|it| it.name != device.name);
            let other = others.find(|other| other.tier == device.tier);
            if let Some(other) = other.filter(|_| is_whole(&device.kind)) {
                let allowed = format!("a tier of its own, without device {}", other.name);
                let key = format!("device[{index}].tier");
                return Err(self.refused(key, &device.tier, allowed));
            }
        }
        Ok(())
    }

    /// That one tenant alone may ever have memory that other hosts have as well: nobody zeroes it.
    fn one_tenant(&self, defaults: &BTreeMap<String, Quota>) -> Result<(), ConfigError> {
        let none = |quota: &Quota| {
            matches!(quota.limit, Amount::Percent(0)) || quota.limit == Amount::Bytes(Bytes::ZERO)
        };
        let wholes = self.devices.iter().filter(|it| is_whole(&it.kind));
        for tier in wholes.map(|device| &device.tier) {
            let others = self.config.default_tenant.admit_unlisted;
            if others && defaults.get(tier).is_some_and(|quota| !none(quota)) {
                let key = format!("default_tenant.quota.{tier}.limit");
                let allowed = "0: other hosts have that memory, which nobody zeroes, so that it is \
                               for one [[tenant]] alone";
                return Err(self.refused(key, "100 %", allowed.to_owned()));
            }
            let tenants = self.config.tenants.iter().enumerate();
            let mut having = tenants.filter(|(_, tenant)| {
                let quota = tenant.quotas.get(tier);
                quota.is_some_and(|quota| !none(quota))
            });
            let first = having.next();
            if let (Some((_, first)), Some((index, second))) = (first, having.next()) {
                let key = format!("tenant[{index}].quota.{tier}.limit");
                let allowed = format!(
                    "0: other hosts have that memory, which nobody zeroes, and tenant {} has it",
                    first.name
                );
                return Err(self.refused(key, &second.name, allowed));
            }
        }
        Ok(())
    }

    /// That the machine has the nodes and the memory.
    fn devices(&self) -> Result<(), ConfigError> {
        let mut left = self.machine.memory_total;
        for (index, device) in self.devices.iter().enumerate() {
            let DeviceKind::Memfd { numa_node, .. } = device.kind else {
                continue;
            };
            if let Some(id) = numa_node {
                self.node(index, id)?;
            }
            left = left.checked_sub(device.size).ok_or_else(|| {
                let total = self.machine.memory_total;
                let allowed = format!(
                    "at most {left}: what the devices before it leave of this machine's {total}"
                );
                self.refused(format!("device[{index}].size"), device.size, allowed)
            })?;
        }
        Ok(())
    }

    fn node(&self, index: usize, id: u32) -> Result<(), ConfigError> {
        if self.machine.nodes.iter().any(|node| node.id == id) {
            return Ok(());
        }
        let nodes: Vec<_> = self
            .machine
            .nodes
            .iter()
            .map(|node| node.id.to_string())
            .collect();
        let allowed = if nodes.is_empty() {
            "left out: this machine has no NUMA nodes".to_owned()
        } else {
            format!("a node with memory of this machine: {}", nodes.join(", "))
        };
        Err(self.refused(format!("device[{index}].numa_node"), id, allowed))
    }

    /// That every extent can have an address.
    fn window(&self, totals: &BTreeMap<&str, Extents>) -> Result<(), ConfigError> {
        let pool = sum(totals.values().map(|extents| extents.bytes()));
        let is_shared = |kind: &DeviceKind| matches!(kind, DeviceKind::Fabric(it) if it.shared);
        let (pool, why) = if self.devices.iter().any(|device| is_shared(&device.kind)) {
            // Half of it is for groups, of this host and of others.
            (Bytes::new(pool.get().saturating_mul(2)), "twice the size")
        } else {
            (pool, "the size")
        };
        if self.config.window.len() >= pool {
            return Ok(());
        }
        let allowed = format!("at least {pool}, {why} of all devices");
        Err(self.refused("window.size".to_owned(), self.config.window.len(), allowed))
    }

    /// That every quota is of a tier there is, and that what is guaranteed fits it.
    ///
    /// Returns the default quotas with every tier in them.
    fn tenancy(
        &self,
        totals: &BTreeMap<&str, Extents>,
    ) -> Result<BTreeMap<String, Quota>, ConfigError> {
        let mut left = totals.clone();
        for (index, tenant) in self.config.tenants.iter().enumerate() {
            for (tier, &quota) in &tenant.quotas {
                let key = format!("tenant[{index}].quota.{tier}");
                self.quota(key, tier, quota, totals, &mut left)?;
            }
        }
        let mut defaults: BTreeMap<_, _> = totals
            .keys()
            .map(|&tier| (tier.to_owned(), DEFAULT_QUOTA))
            .collect();
        for (tier, &quota) in &self.config.default_tenant.quotas {
            let key = format!("default_tenant.quota.{tier}");
            self.quota(key, tier, quota, totals, &mut left)?;
            defaults.insert(tier.clone(), quota);
        }
        Ok(defaults)
    }

    fn has_groups(&self, tier: &str) -> bool {
        let is_shared = |kind: &DeviceKind| matches!(kind, DeviceKind::Fabric(it) if it.shared);
        let mut devices = self.devices.iter();
        devices.any(|device| device.tier == tier && is_shared(&device.kind))
    }

    /// Takes what `quota` guarantees of `tier` out of what is `left`.
    fn quota<'t>(
        &self,
        key: String,
        tier: &str,
        quota: Quota,
        totals: &BTreeMap<&'t str, Extents>,
        left: &mut BTreeMap<&'t str, Extents>,
    ) -> Result<(), ConfigError> {
        let (Some(&total), Some(left)) = (totals.get(tier), left.get_mut(tier)) else {
            let tiers: Vec<_> = totals.keys().copied().collect();
            let allowed = format!("a quota of one of the tiers {}", tiers.join(", "));
            return Err(self.refused(key, tier, allowed));
        };
        let (request, limit) = (quota.request.of(total), quota.limit.of(total));
        if limit < request {
            let allowed = format!("no less than the request, {request}");
            return Err(self.refused(format!("{key}.limit"), limit, allowed));
        }
        if request > Extents::ZERO && self.has_groups(tier) {
            let allowed = "0 in a tier of groups, which are had as they are asked for".to_owned();
            return Err(self.refused(format!("{key}.request"), request, allowed));
        }
        let before = *left;
        *left = before.checked_sub(request).ok_or_else(|| {
            let allowed = format!(
                "at most {before}: what the requests before it leave of the tier's {total}"
            );
            self.refused(format!("{key}.request"), request, allowed)
        })?;
        Ok(())
    }
}

fn sum(amounts: impl Iterator<Item = Bytes>) -> Bytes {
    amounts.fold(Bytes::ZERO, |sum, bytes| {
        Bytes::new(sum.get().saturating_add(bytes.get()))
    })
}
