//! What an access passes, as plain numbers: links, switches and devices that streams share, paths
//! through them, and streams of accesses on paths.
//!
//! # Queues
//! A link has a queue for each direction: reads wait for the one that leads up to the host, which
//! carries their data, and writes for the other. A switch and a device have one each.

use pool_core::units::LINE_BYTES;

use super::flow::Flow;
use super::queue::{Curves, md1};
use super::schema::{CLASSES, Family, list};
use super::table::{Table, TableError};
use super::units::{PICOS_PER_SECOND, Picos, Rate, Share, narrow};

/// A link. It is full duplex: its directions share nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// From one end to the other.
    pub propagation: Picos,
    /// Payload towards the host.
    pub up: Rate,
    /// Payload towards the device.
    pub down: Rate,
}

/// A switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switch {
    /// From port to port, one way.
    pub cut_through: Picos,
    /// Payload of all ports together, reads and writes.
    pub capacity: Rate,
    /// How many accesses it moves at once.
    pub channels: u64,
}

/// A memory device: its controller and its media.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// In its controller, there and back.
    pub controller: Picos,
    /// In its media, for a read.
    pub media_read: Picos,
    /// In its media, for a write.
    pub media_write: Picos,
    /// Reads alone. A mix has `1 / (r / read + w / write)`.
    pub read: Rate,
    /// Writes alone.
    pub write: Rate,
    /// Reads in bulk, which a bound of operations does not hold.
    pub bulk_read: Rate,
    /// Writes in bulk.
    pub bulk_write: Rate,
    /// How many accesses it serves at once.
    pub channels: u64,
    /// Bytes that one access moves.
    pub access: u64,
    /// Its wait as it was measured; by formula where it was not.
    pub curves: Option<Curves>,
}

/// One thing that streams share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Element {
    /// A link.
    Link(Link),
    /// A switch.
    Switch(Switch),
    /// A memory device.
    Device(Device),
}

/// An element, by its place in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ElementId(pub usize);

/// The elements that streams share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elements {
    /// By [`ElementId`].
    pub list: Vec<Element>,
    /// Utilisation above which the wait by formula grows no more.
    pub cap: Share,
}

/// The way from a host to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// In the host, there and back.
    pub host: Picos,
    /// Links and switches, each passed there and back; none for memory of the host's own.
    pub hops: Vec<ElementId>,
    /// The device.
    pub device: ElementId,
}

/// Accesses that someone makes all the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Where they go.
    pub path: Path,
    /// How much they would move if nothing took time.
    pub demand: Rate,
    /// Which part of them reads; all above [`Share::ONE`] counts as that.
    pub reads: Share,
    /// How many are under way at once, at most (memory-level parallelism).
    pub mlp: u32,
}

/// Correct the path: it names an element that is not there, or one of the wrong kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// Name a link or a switch that is in the list.
    #[error("element {0} is no link or switch")]
    Hop(usize),
    /// Name a device that is in the list.
    #[error("element {0} is no device")]
    Device(usize),
}

/// A queue that accesses of a path wait in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Visit {
    /// Twice the place of the element, plus 1 for the way down.
    pub(super) queue: usize,
    /// Which part of the accesses does.
    pub(super) share: Share,
}

/// What all streams together put on a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Load {
    /// Bytes a second.
    rate: u128,
    /// Of them read, in 2^-32 bytes a second.
    reads: u128,
}

impl Load {
    /// Adds the part of `rate` that visits, of which `reads` reads.
    pub(super) fn add(&mut self, rate: Rate, visit: Share, reads: Share) {
        // Sums of up to 2^31 streams fit, for each is below 2^97.
        let rate = rate.part(visit).get();
        self.rate = self.rate.saturating_add(u128::from(rate));
        let read = u128::from(rate) * u128::from(reads.parts());
        self.reads = self.reads.saturating_add(read);
    }

    pub(super) fn rate(self) -> Rate {
        Rate::new(narrow(self.rate))
    }

    fn mean_reads(self) -> Share {
        let mean = self.reads.checked_div(self.rate);
        Share::from_parts(mean.map_or(Share::ONE.parts(), narrow)).at_most_one()
    }
}

impl Device {
    /// How much of its time is taken.
    fn utilisation(&self, load: Load) -> Share {
        let rate = load.rate();
        let read = rate.part(load.mean_reads()).get();
        let written = rate.get().saturating_sub(read);
        Share::ratio(read, self.read.get()).saturating_add(Share::ratio(written, self.write.get()))
    }

    fn wait(&self, load: Load, cap: Share) -> Picos {
        let utilisation = self.utilisation(load);
        let reads = load.mean_reads();
        if let Some(curves) = &self.curves {
            return curves.wait(utilisation, reads);
        }
        let bytes = self.access.saturating_mul(self.channels);
        let service = self.read.time_of(bytes).part(reads);
        let service = service.saturating_add(self.write.time_of(bytes).part(reads.rest()));
        md1(utilisation, service, cap)
    }

    /// In controller and media, for such a mix.
    fn unloaded(&self, reads: Share) -> Picos {
        let media = self.media_read.part(reads);
        let media = media.saturating_add(self.media_write.part(reads.rest()));
        self.controller.saturating_add(media)
    }
}

impl Elements {
    /// What the elements are without anything in them.
    #[must_use]
    pub const fn new(cap: Share) -> Self {
        Self {
            list: Vec::new(),
            cap,
        }
    }

    /// Adds an element.
    pub fn add(&mut self, element: Element) -> ElementId {
        self.list.push(element);
        ElementId(self.list.len() - 1)
    }

    /// The device of a path.
    ///
    /// # Errors
    /// [`PathError::Device`] where there is none.
    pub fn device(&self, path: &Path) -> Result<&Device, PathError> {
        match self.list.get(path.device.0) {
            Some(Element::Device(device)) => Ok(device),
            _ => Err(PathError::Device(path.device.0)),
        }
    }

    /// What an access takes where nobody else is, with such a share of reads.
    ///
    /// # Errors
    /// [`PathError`] where the path is none.
    pub fn unloaded(&self, path: &Path, reads: Share) -> Result<Picos, PathError> {
        let mut total = path.host;
        for hop in &path.hops {
            let one_way = match self.list.get(hop.0) {
                Some(Element::Link(link)) => link.propagation,
                Some(Element::Switch(switch)) => switch.cut_through,
                _ => return Err(PathError::Hop(hop.0)),
            };
            total = total.saturating_add(one_way.times(2));
        }
        let device = self.device(path)?.unloaded(reads.at_most_one());
        Ok(total.saturating_add(device))
    }

    /// The queues that a path passes.
    pub(super) fn visits(&self, path: &Path, reads: Share) -> Result<Vec<Visit>, PathError> {
        let reads = reads.at_most_one();
        let mut visits = Vec::new();
        for hop in &path.hops {
            let queue = hop.0.saturating_mul(2);
            match self.list.get(hop.0) {
                Some(Element::Link(_)) => {
                    visits.push(Visit {
                        queue,
                        share: reads,
                    });
                    visits.push(Visit {
                        queue: queue + 1,
                        share: reads.rest(),
                    });
                }
                Some(Element::Switch(_)) => visits.push(Visit {
                    queue,
                    share: Share::ONE,
                }),
                _ => return Err(PathError::Hop(hop.0)),
            }
        }
        self.device(path)?;
        visits.push(Visit {
            queue: path.device.0.saturating_mul(2),
            share: Share::ONE,
        });
        visits.retain(|visit| visit.share != Share::ZERO);
        Ok(visits)
    }

    /// What bulk transfers share: two resources for each element, of which a switch and a device
    /// need one.
    #[must_use]
    pub fn resources(&self) -> Vec<Rate> {
        let of = |element: &Element| match element {
            Element::Link(link) => [link.up, link.down],
            Element::Switch(switch) => [switch.capacity, Rate::ZERO],
            Element::Device(device) => [device.bulk_read, Rate::ZERO],
        };
        self.list.iter().flat_map(of).collect()
    }

    /// A bulk transfer on a path, as a user of [`Self::resources`]. A byte that is written takes as
    /// much more of a device as it writes slower than it reads.
    ///
    /// # Errors
    /// [`PathError`] where the path is none.
    pub fn flow(&self, path: &Path, reads: Share, limit: Rate) -> Result<Flow, PathError> {
        let device = self.device(path)?;
        let reads = reads.at_most_one();
        let write = Share::ratio(device.bulk_read.get(), device.bulk_write.get());
        let written = Share::from_parts(reads.rest().of(write.parts()));
        let uses = self.visits(path, reads)?.into_iter().map(|visit| {
            let is_device = visit.queue / 2 == path.device.0;
            (
                visit.queue,
                if is_device {
                    reads.saturating_add(written)
                } else {
                    visit.share
                },
            )
        });
        Ok(Flow {
            uses: uses.collect(),
            limit,
        })
    }

    /// How much of its time a queue is busy; more than [`Share::ONE`] cannot be carried.
    pub(super) fn utilisation(&self, queue: usize, load: Load) -> Share {
        let of = |capacity: Rate| Share::ratio(load.rate().get(), capacity.get());
        match self.list.get(queue / 2) {
            Some(Element::Link(link)) if queue.is_multiple_of(2) => of(link.up),
            Some(Element::Link(link)) => of(link.down),
            Some(Element::Switch(switch)) => of(switch.capacity),
            Some(Element::Device(device)) => device.utilisation(load),
            None => Share::ZERO,
        }
    }

    /// How long an access waits in a queue.
    pub(super) fn wait(&self, queue: usize, load: Load) -> Picos {
        let at = |capacity: Rate, channels: u64| {
            let service = capacity.time_of(LINE_BYTES.saturating_mul(channels));
            md1(self.utilisation(queue, load), service, self.cap)
        };
        match self.list.get(queue / 2) {
            Some(Element::Link(link)) if queue.is_multiple_of(2) => at(link.up, 1),
            Some(Element::Link(link)) => at(link.down, 1),
            Some(Element::Switch(switch)) => at(switch.capacity, switch.channels),
            Some(Element::Device(device)) => device.wait(load, self.cap),
            None => Picos::ZERO,
        }
    }
}

fn of_family(class: &str, family: Family, wanted: &'static str) -> Result<(), TableError> {
    if CLASSES.contains(&(class, family)) {
        return Ok(());
    }
    let those = CLASSES.iter().filter(|(_, one)| *one == family);
    Err(TableError::Family {
        class: class.to_owned(),
        wanted,
        allowed: list(those.map(|(name, _)| *name)),
    })
}

impl Table {
    /// Elements without anything in them, with the cap of the table.
    ///
    /// # Errors
    /// None that a table can have.
    pub fn elements(&self) -> Result<Elements, TableError> {
        let cap = self.number("model", "utilisation_cap")?;
        Ok(Elements::new(Share::from_permille(cap)))
    }

    /// The time that an access to memory of `class` spends in the host, there and back.
    ///
    /// # Errors
    /// [`TableError::Family`] where `class` is no class of memory.
    pub fn host(&self, class: &str) -> Result<Picos, TableError> {
        of_family(class, Family::Memory, "class of memory")?;
        Ok(Picos::new(self.number(class, "host")?))
    }

    /// A device of `class`. Its controller takes what host, media and a direct link leave of the
    /// whole latency, and its rates are what bytes and operations a second allow.
    ///
    /// # Errors
    /// [`TableError::Family`] where `class` is no class of memory.
    pub fn device(&self, class: &str) -> Result<Device, TableError> {
        let host = self.host(class)?;
        let time = |key| self.number(class, key).map(Picos::new);
        let access = self.number(class, "access")?;
        let rate = |bytes, operations| {
            let bytes = self.number(class, bytes)?;
            Ok(Rate::new(match self.number(class, operations)? {
                0 => bytes,
                limit => bytes.min(limit.saturating_mul(access)),
            }))
        };
        let whole = time("latency")?.saturating_sub(time("latency_link")?);
        let media_read = time("media_read")?;
        Ok(Device {
            controller: whole.saturating_sub(host).saturating_sub(media_read),
            media_read,
            media_write: time("media_write")?,
            read: rate("bandwidth_read", "operations_read")?,
            write: rate("bandwidth_write", "operations_write")?,
            bulk_read: Rate::new(self.number(class, "bandwidth_read")?),
            bulk_write: Rate::new(self.number(class, "bandwidth_write")?),
            channels: self.number(class, "channels")?,
            access,
            curves: self.curves(class)?,
        })
    }

    /// A link of so many lanes and so many gigatransfers a second on each. Its credits bound it: as
    /// many accesses as there are credits are under way at once, there and back.
    ///
    /// # Errors
    /// [`TableError::Family`] where no class of links has that speed.
    pub fn link(&self, gigatransfers: u8, lanes: u8) -> Result<Link, TableError> {
        let class = format!("link-{gigatransfers}");
        of_family(&class, Family::Link, "class of links")?;
        let payload = Share::from_permille(self.number(&class, "payload")?);
        let lane = Rate::new(self.number(&class, "lane")?);
        let raw = lane.times(u64::from(lanes)).part(payload);
        let propagation = Picos::new(self.number(&class, "propagation")?);
        let round_trip = propagation.times(2).saturating_add(raw.time_of(LINE_BYTES));
        let credits = self.number(&class, "credits")?.saturating_mul(LINE_BYTES);
        let rate = raw.min(Rate::of(credits, round_trip));
        Ok(Link {
            propagation,
            up: rate,
            down: rate,
        })
    }

    /// A switch.
    ///
    /// # Errors
    /// None that a table can have.
    pub fn switch(&self) -> Result<Switch, TableError> {
        Ok(Switch {
            cut_through: Picos::new(self.number("switch", "cut_through")?),
            capacity: Rate::new(self.number("switch", "bandwidth")?),
            channels: self.number("switch", "channels")?,
        })
    }
}

/// Bytes under way times picoseconds in a second: what `mlp` accesses move in one latency.
pub(super) fn window(mlp: u32, access: u64) -> u128 {
    u128::from(mlp)
        .saturating_mul(u128::from(access))
        .saturating_mul(u128::from(PICOS_PER_SECOND))
}

/// The rate that a window allows at a latency (Little's law): all there is where none is taken.
pub(super) fn by_window(window: u128, latency: Picos) -> Rate {
    let rate = window.checked_div(u128::from(latency.get()));
    Rate::new(rate.map_or_else(|| if window == 0 { 0 } else { u64::MAX }, narrow))
}

/// The latency that a window makes at a rate, rounded down.
pub(super) fn by_rate(window: u128, rate: Rate) -> Picos {
    Picos::new(
        window
            .checked_div(u128::from(rate.get()))
            .map_or(if window == 0 { 0 } else { u64::MAX }, narrow),
    )
}

/// `mlp` accesses of `access` bytes under way, each for `latency`: Little's law.
#[must_use]
pub fn little(mlp: u32, access: u64, latency: Picos) -> Rate {
    by_window(window(mlp, access), latency)
}

/// The bandwidth of a mix of reads and writes at a device: `1 / (r / read + w / write)`.
#[must_use]
pub fn mixed(device: &Device, reads: Share) -> Rate {
    let reads = reads.at_most_one();
    let taken = |rate: Rate, share: Share| {
        let parts = u128::from(share.parts()) << 64;
        parts.checked_div(u128::from(rate.get()))
    };
    match (taken(device.read, reads), taken(device.write, reads.rest())) {
        (Some(read), Some(write)) => {
            let whole = u128::from(Share::ONE.parts()) << 64;
            Rate::new(
                whole
                    .checked_div(read.saturating_add(write))
                    .map_or(u64::MAX, narrow),
            )
        }
        _ => Rate::ZERO,
    }
}
