//! How a region can be made, or why it cannot, before a file is written.
//!
//! [`RegionPlan::new`] finds a window, a decoder of each device and room for it, or says what is
//! missing. It knows what the kernel answers with a bare error number, or half does:
//! - A region is a multiple of 256 MiB for each device.
//! - The memory of a device is a stack: what is behind a region that goes is only had again once
//!   all that were made after it are gone. The kernel takes them in no other order, and is left
//!   half-way where it is told to.
//! - A device has as many regions as it has decoders, and takes them in order.
//! - Where a window goes from one host bridge to the next by itself, a region in it does so by as
//!   many bytes: those that it has where nothing is said.
//!
//! [`RegionPlan::steps`] is what is written then: see [`Step`].

use core::fmt;

use pool_core::Bytes;
use pool_core::units::MIB;

use crate::change_error::ChangeError;
use crate::decoder::{Decoder, DecoderKind};
use crate::memdev::Memdev;
use crate::port::{Port, PortKind};
use crate::region_step::Step;
use crate::sysfs::in_order;
use crate::topology::Topology;

/// What the memory of each device of a region is a multiple of.
pub const REGION_UNIT: Bytes = Bytes::new(256 * MIB);

/// Over how many devices a region may be interleaved (CXL 3.1, 8.2.4.20).
const WAYS: [usize; 8] = [1, 2, 3, 4, 6, 8, 12, 16];
/// By how many bytes.
const GRANULARITIES: core::ops::RangeInclusive<u32> = 256..=16_384;

/// A region that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRegion {
    /// The devices, by their serial numbers, in turn.
    pub serials: Vec<u64>,
    /// How large it is to be; all that each device has left where nothing is said.
    pub bytes: Option<Bytes>,
    /// How many bytes of each device in turn; where nothing is said, as its window takes turns, or
    /// 256 where that takes none.
    pub granularity: Option<u32>,
}

/// A region that can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionPlan {
    /// The window it will lie in.
    pub window: String,
    /// The decoders of the devices, in turn.
    pub decoders: Vec<String>,
    /// How large it will be.
    pub bytes: Bytes,
    /// How many bytes of each device in turn.
    pub granularity: u32,
}

impl NewRegion {
    /// All of one device.
    #[must_use]
    pub fn of(serial: u64) -> Self {
        Self {
            serials: vec![serial],
            bytes: None,
            granularity: None,
        }
    }
}

impl fmt::Display for RegionPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (window, decoders) = (&self.window, self.decoders.join(", "));
        write!(f, "{} in {window} over {decoders}", self.bytes)
    }
}

impl RegionPlan {
    /// How a region can be made.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn new(topology: &Topology, wanted: &NewRegion) -> Result<Self, ChangeError> {
        let ways = wanted.serials.len();
        let granularity = wanted.granularity.unwrap_or(*GRANULARITIES.start());
        if ways == 0 {
            return Err(ChangeError::NoDevice);
        }
        let is_granular = granularity.is_power_of_two() && GRANULARITIES.contains(&granularity);
        if !WAYS.contains(&ways) || !is_granular {
            return Err(ChangeError::Interleave { ways, granularity });
        }
        let mut parts = Vec::new();
        for (index, &serial) in wanted.serials.iter().enumerate() {
            if wanted.serials[..index].contains(&serial) {
                return Err(ChangeError::Twice(serial));
            }
            parts.push(Part::of(topology, serial)?);
        }
        let windows = windows_for(topology, wanted, &parts)?;
        let bytes = size(&parts, wanted.bytes)?;
        let window = with_room(topology, &windows, bytes)?;
        let granularity = match wanted.granularity {
            None if takes_turns(window) => window.granularity,
            _ => granularity,
        };
        let mut decoders = Vec::new();
        for part in &parts {
            decoders.push(part.free_decoder()?.name.clone());
        }
        Ok(Self {
            window: window.name.clone(),
            decoders,
            bytes,
            granularity,
        })
    }

    /// What makes it, under this name, step by step.
    #[must_use]
    pub fn steps(&self, name: &str) -> Vec<Step> {
        let region = || name.to_owned();
        let ways = u32::try_from(self.decoders.len()).unwrap_or(u32::MAX);
        let each = Bytes::new(self.bytes.get() / u64::from(ways.max(1)));
        let window = self.window.clone();
        let (granularity, bytes) = (self.granularity, self.bytes);
        let mut steps = vec![
            Step::Make(window, region()),
            Step::Granularity(region(), granularity),
            Step::Ways(region(), ways),
        ];
        for decoder in &self.decoders {
            steps.push(Step::Volatile(decoder.clone()));
            steps.push(Step::Take(decoder.clone(), each));
        }
        steps.push(Step::Size(region(), bytes));
        for (position, decoder) in (0..).zip(&self.decoders) {
            steps.push(Step::Attach(region(), position, decoder.clone()));
        }
        steps.extend([Step::Commit(region()), Step::Enable(region())]);
        steps
    }
}

impl Topology {
    /// What of a device's volatile memory no region has, above those that there are: regions of it
    /// are a stack. Nothing where it is not in use by the driver.
    #[must_use]
    pub fn left_of(&self, memdev: &Memdev) -> Bytes {
        Part::of(self, memdev.serial).map_or(Bytes::ZERO, |part| part.left())
    }
}

/// The number of a window's way down that leads to the device of an endpoint's decoder.
pub(crate) fn way_of(topology: &Topology, decoder: &Decoder) -> Option<u64> {
    let endpoint = topology.ports.iter().find(|it| it.name == decoder.port)?;
    way_to(topology, endpoint)
}

/// One device of a region.
struct Part<'t> {
    memdev: &'t Memdev,
    /// The way down from the root.
    way: u64,
    /// The device's own decoders, in order.
    decoders: Vec<&'t Decoder>,
}

impl<'t> Part<'t> {
    fn of(topology: &'t Topology, serial: u64) -> Result<Self, ChangeError> {
        let memdev = topology.memdev_of(serial);
        let memdev = memdev.ok_or(ChangeError::NoMemdev(serial))?;
        let unready = |reason| ChangeError::NotReady {
            serial,
            name: memdev.name.clone(),
            reason,
        };
        if !memdev.is_enabled {
            return Err(unready("no driver has it"));
        }
        let endpoint = topology.endpoint_of(memdev);
        let endpoint = endpoint.ok_or_else(|| unready("it has no endpoint"))?;
        let way = way_to(topology, endpoint).ok_or_else(|| unready("no root leads to it"))?;
        let own = |it: &&Decoder| it.kind == DecoderKind::Endpoint && it.port == endpoint.name;
        let mut decoders: Vec<&Decoder> = topology.decoders.iter().filter(own).collect();
        decoders.sort_by_key(|it| in_order(&it.name).1);
        Ok(Self {
            memdev,
            way,
            decoders,
        })
    }

    /// What no region has, above those that there are.
    fn left(&self) -> Bytes {
        let ends = self.decoders.iter().filter_map(|it| it.dpa.as_ref());
        let used = ends.map(|dpa| dpa.end).max().unwrap_or(0);
        Bytes::new(self.memdev.ram.get().saturating_sub(used))
    }

    fn free_decoder(&self) -> Result<&'t Decoder, ChangeError> {
        let mut free = self.decoders.iter().filter(|it| it.dpa.is_none());
        let none = ChangeError::NoDecoder(self.memdev.serial);
        free.next().copied().ok_or(none)
    }
}

/// The number of the root's way down to a port.
fn way_to(topology: &Topology, endpoint: &Port) -> Option<u64> {
    let mut port = endpoint;
    // A fabric is no deeper than it has ports.
    for _ in 0..topology.ports.len() {
        let above = port.parent.as_deref()?;
        let above = topology.ports.iter().find(|it| it.name == above)?;
        if above.kind == PortKind::Root {
            let ways = above.dports.iter();
            let mut ways = ways.filter(|way| Some(&way.name) == port.parent_dport.as_ref());
            return ways.next().map(|way| way.id);
        }
        port = above;
    }
    None
}

/// The windows that lead to these: one way down for all of them, or a way for each in turn. A
/// window that goes from way to way itself does so by a number of bytes of its own, and all that
/// lies in it does so too.
fn windows_for<'t>(
    topology: &'t Topology,
    wanted: &NewRegion,
    parts: &[Part<'_>],
) -> Result<Vec<&'t Decoder>, ChangeError> {
    let ways: Vec<u64> = parts.iter().map(|part| part.way).collect();
    let is_one = |targets: &[u64]| matches!(targets, [one] if ways.iter().all(|way| way == one));
    let fits =
        |window: &&Decoder| window.takes_ram && (is_one(&window.targets) || window.targets == ways);
    let leading: Vec<&Decoder> = topology.windows().filter(fits).collect();
    let Some(first) = leading.first() else {
        return Err(ChangeError::NoWindow(wanted.serials.clone()));
    };
    let Some(granularity) = wanted.granularity else {
        return Ok(leading);
    };
    let goes_along = |it: &&&Decoder| !takes_turns(it) || it.granularity == granularity;
    let along: Vec<&Decoder> = leading.iter().filter(goes_along).copied().collect();
    if along.is_empty() {
        return Err(ChangeError::WindowInterleave {
            window: first.name.clone(),
            granularity: first.granularity,
            wanted: granularity,
        });
    }
    Ok(along)
}

/// Whether a window goes from way to way by itself.
const fn takes_turns(window: &Decoder) -> bool {
    window.targets.len() > 1
}

/// The first of these windows that has so much room, or what the roomiest one lacks.
fn with_room<'t>(
    topology: &Topology,
    windows: &[&'t Decoder],
    wanted: Bytes,
) -> Result<&'t Decoder, ChangeError> {
    let mut most = (String::new(), Bytes::ZERO);
    for window in windows {
        let left = longest_gap(topology, window);
        if left >= wanted {
            return Ok(window);
        }
        if most.0.is_empty() || left > most.1 {
            most = (window.name.clone(), left);
        }
    }
    let (window, left) = most;
    Err(ChangeError::WindowFull {
        window,
        wanted,
        left,
    })
}

/// How large the region is: what was asked for, where each device has as much.
fn size(parts: &[Part<'_>], wanted: Option<Bytes>) -> Result<Bytes, ChangeError> {
    let ways = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    let unit = REGION_UNIT.get() * u64::from(ways);
    let least = parts.iter().map(Part::left).min().unwrap_or(Bytes::ZERO);
    let each = match wanted {
        Some(bytes) if bytes == Bytes::ZERO || !bytes.get().is_multiple_of(unit) => {
            let unit = Bytes::new(unit);
            return Err(ChangeError::Size { bytes, ways, unit });
        }
        Some(bytes) => bytes.get() / u64::from(ways),
        None => (least.get() / REGION_UNIT.get() * REGION_UNIT.get()).max(REGION_UNIT.get()),
    };
    let short = parts.iter().find(|part| part.left().get() < each);
    if let Some(part) = short {
        return Err(ChangeError::DeviceFull {
            serial: part.memdev.serial,
            wanted: Bytes::new(each),
            left: part.left(),
        });
    }
    Ok(Bytes::new(each * u64::from(ways)))
}

/// The longest stretch of a window that no region has and that begins where one may.
fn longest_gap(topology: &Topology, window: &Decoder) -> Bytes {
    let within = topology.regions.iter();
    let within = within.filter(|region| region.decoder == window.name);
    let mut taken: Vec<_> = within.map(|region| region.addresses.clone()).collect();
    taken.retain(|range| !range.is_empty());
    taken.sort_by_key(|range| range.start);
    let ends = taken.iter().map(|range| range.end);
    let starts = taken.iter().map(|range| range.start);
    let (firsts, lasts) = (
        core::iter::once(window.addresses.start).chain(ends),
        starts.chain([window.addresses.end]),
    );
    let gaps = firsts.zip(lasts).map(|(first, last)| {
        let first = first.checked_next_multiple_of(REGION_UNIT.get());
        first.map_or(0, |first| last.saturating_sub(first))
    });
    Bytes::new(gaps.max().unwrap_or(0))
}

#[cfg(test)]
mod tests;
