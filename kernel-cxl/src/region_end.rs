//! How a region can be taken away, or why it cannot, before a file is written.
//!
//! # What is half made
//! Somebody may have died amid making a region, or taking one away. It is there then (see
//! [`Step`]) without being committed, with some of its decoders, or with none. Decoders that have
//! taken memory of their device and belong to no region are *strays*: those of devices that its
//! window leads to go with it, from the top of each device's stack down, since they were taken for
//! it. A region that is whole takes no strays along.

use pool_core::planted;

use crate::change_error::ChangeError;
use crate::decoder::{Decoder, DecoderKind};
use crate::region::Region;
use crate::region_plan::way_of;
use crate::region_step::Step;
use crate::sysfs::in_order;
use crate::topology::Topology;

/// A region that can be taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionEnd {
    steps: Vec<Step>,
}

impl RegionEnd {
    /// How a region can be taken away, or a stray of this name.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn new(topology: &Topology, name: &str) -> Result<Self, ChangeError> {
        let Some(region) = topology.regions.iter().find(|it| it.name == name) else {
            let stray = topology.strays().find(|it| it.name == name);
            let stray = stray.ok_or_else(|| ChangeError::NoRegion(name.to_owned()))?;
            check_last(topology, name, stray, &[stray])?;
            let steps = vec![Step::GiveBack(stray.name.clone())];
            return Ok(Self { steps });
        };
        if region.is_persistent() {
            return Err(ChangeError::Persistent(region.name.clone()));
        }
        check_unused(region)?;
        let is_part = |it: &&Decoder| {
            let is_named = it.region.as_ref() == Some(&region.name);
            it.kind == DecoderKind::Endpoint && (is_named || region.targets.contains(&it.name))
        };
        let parts: Vec<&Decoder> = topology.decoders.iter().filter(is_part).collect();
        check_unlocked(region, &parts)?;
        let mut going = parts.clone();
        if region.is_half_made() && !planted!("region.end_forgets_the_strays") {
            let leads = |it: &&Decoder| leads(topology, region, it);
            going.extend(topology.strays().filter(leads));
        }
        for part in parts {
            check_last(topology, name, part, &going)?;
        }
        // A stray below what somebody else has stays: it can be told by its own name.
        let kept = going.clone();
        going.retain(|it| above(topology, it, &kept).is_none());
        // The last one first.
        going.sort_by(|a, b| in_order(&b.name).1.cmp(&in_order(&a.name).1));
        if planted!("region.end_gives_back_the_first_one_first") {
            going.reverse();
        }
        let own = || name.to_owned();
        let mut steps = Vec::new();
        if region.is_enabled && !planted!("region.end_leaves_the_driver") {
            steps.push(Step::Disable(own()));
        }
        if region.is_committed {
            steps.push(Step::Reset(own()));
        }
        steps.extend((0..region.ways).map(|at| Step::Detach(own(), at)));
        steps.extend(going.iter().map(|it| Step::GiveBack(it.name.clone())));
        steps.push(Step::Delete(region.decoder.clone(), own()));
        Ok(Self { steps })
    }

    /// What takes it away, step by step.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

impl Region {
    /// Whoever made it did not bring it to its end, or whoever took it away: decoders are missing.
    #[must_use]
    pub fn is_half_made(&self) -> bool {
        !self.is_committed && self.targets.len() < self.ways.max(1) as usize
    }
}

impl Topology {
    /// Decoders of devices that have taken memory, belong to no region and lead nowhere.
    pub fn strays(&self) -> impl Iterator<Item = &Decoder> {
        let is_taken = |it: &&Decoder| it.kind == DecoderKind::Endpoint && it.dpa.is_some();
        let is_free = |it: &&Decoder| {
            let is_named = |region: &Region| region.targets.contains(&it.name);
            it.region.is_none() && it.addresses.is_empty() && !self.regions.iter().any(is_named)
        };
        self.decoders.iter().filter(is_taken).filter(is_free)
    }
}

/// Whether the window of a region leads to the device of a decoder.
fn leads(topology: &Topology, region: &Region, decoder: &Decoder) -> bool {
    let mut windows = topology.windows();
    let window = windows.find(|it| it.name == region.decoder);
    let ways = window.map_or(&[][..], |it| &it.targets);
    way_of(topology, decoder).is_some_and(|way| ways.contains(&way))
}

/// Whether nobody drives a part of it.
fn check_unused(region: &Region) -> Result<(), ChangeError> {
    for device in region.dax.iter().flat_map(|dax| &dax.devices) {
        if let Some(driver) = &device.driver {
            return Err(ChangeError::InUse {
                region: region.name.clone(),
                device: device.name.clone(),
                driver: driver.clone(),
            });
        }
    }
    Ok(())
}

/// Whether it is the kernel's to take away.
fn check_unlocked(region: &Region, parts: &[&Decoder]) -> Result<(), ChangeError> {
    let part = || parts.iter().find(|it| it.is_locked).map(|it| &it.name);
    let locked = region.is_locked.then_some(&region.name).or_else(part);
    locked.map_or(Ok(()), |locked| {
        Err(ChangeError::Locked {
            region: region.name.clone(),
            locked: locked.clone(),
        })
    })
}

/// What lies above a decoder in its device's stack and does not go with it.
fn above<'t>(topology: &'t Topology, decoder: &Decoder, going: &[&Decoder]) -> Option<&'t Decoder> {
    let is_above = |it: &&Decoder| {
        let is_later = in_order(&it.name).1 > in_order(&decoder.name).1;
        let goes = going.iter().any(|going| going.name == it.name);
        it.port == decoder.port && it.dpa.is_some() && is_later && !goes
    };
    topology.decoders.iter().find(is_above)
}

/// Whether nothing that stays lies above this one in a device.
fn check_last(
    topology: &Topology,
    name: &str,
    decoder: &Decoder,
    going: &[&Decoder],
) -> Result<(), ChangeError> {
    let above = above(topology, decoder, going);
    let Some(above) = above.filter(|_| !planted!("region.end_overlooks_what_lies_above")) else {
        return Ok(());
    };
    let half_made = || {
        let mut regions = topology.regions.iter().filter(|it| it.is_half_made());
        regions.find(|it| leads(topology, it, above))
    };
    let first = above.region.clone();
    let first = first.or_else(|| half_made().map(|it| it.name.clone()));
    let memdev = topology.memdev_behind(&decoder.name);
    Err(ChangeError::NotLast {
        region: name.to_owned(),
        serial: memdev.map_or(0, |it| it.serial),
        first: first.unwrap_or_else(|| above.name.clone()),
    })
}
