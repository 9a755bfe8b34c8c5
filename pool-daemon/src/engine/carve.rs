//! Which devices a grant takes its extents from, and taking them.

use std::collections::BTreeMap;

use fabric_emu::serve::wire::SPANS_MAX;
use pool_core::{BackingId, DeviceId, Extents, SegmentId, TenantId, limits};

use super::device::Device;
use super::segment::Backing;
use super::{Engine, Refusal, sum, take_id};

/// How a number of extents is spread: a device, and how many pieces of which size.
pub(super) type Places = Vec<(DeviceId, Extents)>;

/// What is to be spread over the devices of a tier.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spread {
    pub(super) tenant: TenantId,
    pub(super) tier: usize,
    pub(super) extents: Extents,
    /// The most extents of a piece; 0 where there is no bound.
    pub(super) piece_max: u32,
    /// Pieces that the segment has already.
    pub(super) pieces_before: usize,
    /// Of the extents, so many are a piece of their own, before the others.
    pub(super) apart: Extents,
}

impl Engine {
    /// Spreads extents over the devices of a tier: all on one device where one has room, otherwise
    /// the roomiest first.
    pub(super) fn layout(&self, spread: &Spread) -> Result<Places, Refusal> {
        let free = self.room_for(spread.tenant, spread.tier, spread.extents);
        if free < spread.extents {
            return Err(self.tier_full(spread, free));
        }
        let mut devices: Vec<_> = self
            .devices_of(spread.tier)
            .map(|d| (d.id, d.grantable().get()))
            .collect();
        match devices
            .iter()
            .find(|(_, room)| *room >= spread.extents.get())
        {
            Some(&whole) => devices = vec![whole],
            None => devices.sort_by_key(|&(id, room)| (std::cmp::Reverse(room), id)),
        }
        let (mut places, mut missing) = (Places::new(), spread.extents.get());
        let apart = spread.apart.get();
        if apart > 0 {
            let roomy = devices.iter_mut().find(|(_, room)| *room >= apart);
            let (device, room) = roomy.ok_or_else(|| self.tier_full(spread, free))?;
            (*room, missing) = (*room - apart, missing.saturating_sub(apart));
            places.push((*device, spread.apart));
        }
        for (device, room) in devices {
            let mut part = room.min(missing);
            missing -= part;
            let step = match spread.piece_max {
                0 => part.max(1),
                most => most,
            };
            while part > 0 {
                let piece = part.min(step);
                part -= piece;
                places.push((device, Extents::new(piece)));
                if spread.pieces_before + places.len() > limits::SEGMENT_PIECES_MAX {
                    let limit = limits::SEGMENT_PIECES_MAX as u64;
                    return Err(Refusal::Limit {
                        what: "pieces of one segment",
                        limit,
                    });
                }
            }
        }
        self.in_few_runs(&places)?;
        Ok(places)
    }

    /// A fabric makes a file of so many runs at most: a request has room for no more.
    ///
    /// # Errors
    /// [`Refusal::Scattered`] where a file of a dynamic device would lie in more.
    fn in_few_runs(&self, places: &Places) -> Result<(), Refusal> {
        // What is free in few runs is taken in few.
        let is_scattered = |device: &&Device| {
            device.plan.dynamic && device.free_runs().take(SPANS_MAX + 1).count() > SPANS_MAX
        };
        let mut tried: BTreeMap<DeviceId, Device> = BTreeMap::new();
        for (id, extents) in places {
            let Some(device) = self.devices.get(id).filter(is_scattered) else {
                continue;
            };
            let device = tried.entry(*id).or_insert_with(|| device.clone());
            let runs = device.carve(*extents).map_or(0, |runs| runs.len());
            if runs > SPANS_MAX {
                return Err(Refusal::Scattered {
                    device: device.plan.name.clone(),
                    asked: extents.bytes(),
                    runs,
                    most: SPANS_MAX,
                });
            }
        }
        Ok(())
    }

    fn tier_full(&self, spread: &Spread, free: Extents) -> Refusal {
        let tier = spread.tier;
        let draining = self.devices_of(tier).filter(|device| device.draining);
        Refusal::TierFull {
            tier: self.tier_name(tier).to_owned(),
            total: self.tier_total(tier).bytes(),
            free: free.bytes(),
            draining: sum(draining.map(super::Device::free)).bytes(),
            asked: spread.extents.bytes(),
        }
    }

    /// # Errors
    /// [`Refusal::Unsealed`] where a file would lie on a device whose files can be resized by
    /// whoever holds them: the daemon itself accesses the directory of a domain, and must not meet
    /// a hole.
    pub(super) fn all_sealed(&self, places: &Places) -> Result<(), Refusal> {
        let devices = places.iter().filter_map(|(id, _)| self.devices.get(id));
        match devices.into_iter().find(|device| !device.plan.sealed) {
            Some(device) => Err(Refusal::Unsealed {
                device: device.plan.name.clone(),
                why: "keeps files whose holders can resize them: create the domain on another tier",
            }),
            None => Ok(()),
        }
    }

    /// Takes the extents of a layout and charges the tenant for them.
    pub(super) fn carve(
        &mut self,
        segment: SegmentId,
        tenant: TenantId,
        layout: Places,
    ) -> Result<Vec<BackingId>, Refusal> {
        let mut fresh = Vec::with_capacity(layout.len());
        for (device_id, extents) in layout {
            let id = take_id!(self, backing);
            let device = self
                .devices
                .get_mut(&device_id)
                .ok_or(Refusal::Broken("a device of the layout is gone"))?;
            let runs = device
                .carve(extents)
                .ok_or(Refusal::Broken("the layout passes the device"))?;
            device.tie(segment);
            self.tenants.charge(tenant, device.tier, extents);
            let (built, charged, quarantined, present) = (None, tenant, false, false);
            let backing = Backing {
                id,
                segment,
                device: device_id,
                runs,
                built,
                charged,
                quarantined,
                present,
            };
            self.backings.insert(id, backing);
            fresh.push(id);
        }
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.files.extend(&fresh);
        }
        Ok(fresh)
    }
}
