//! Links: up or not, and how wide and fast they are.

use super::Fabric;
use crate::id::{Node, PortId};
use crate::topology;
use crate::topology::limits::{GIGATRANSFERS, LANES};

/// A link, while the fabric runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    /// Lanes and 10^9 transfers a second of each, as it was made.
    made: (u8, u8),
    /// And as it is trained.
    trained: (u8, u8),
    pub(super) is_cut: bool,
    pub(super) is_in_reset: bool,
}

impl Link {
    pub(super) const fn new(of: &topology::Link) -> Self {
        let made = (of.lanes, of.gigatransfers);
        Self {
            made,
            trained: made,
            is_cut: false,
            is_in_reset: false,
        }
    }

    pub(super) const fn is_up(&self) -> bool {
        !self.is_cut && !self.is_in_reset
    }

    /// Trains it; false where it cannot be so.
    pub(super) fn train(&mut self, lanes: u8, gigatransfers: u8) -> bool {
        let is_one = LANES.contains(&lanes) && GIGATRANSFERS.contains(&gigatransfers);
        let can = is_one && lanes <= self.made.0 && gigatransfers <= self.made.1;
        if can {
            self.trained = (lanes, gigatransfers);
        }
        can
    }

    /// As it was made.
    pub(super) const fn heal(&mut self) -> (u8, u8) {
        *self = Self {
            made: self.made,
            trained: self.made,
            is_cut: false,
            is_in_reset: false,
        };
        self.made
    }

    /// The most lanes, and the highest speed as PCIe encodes it: 1 for 2.5 GT/s, 6 for 64.
    pub(super) const fn most(&self) -> (u8, u8) {
        (self.made.0, speed(self.made.1))
    }

    /// Lanes and speed now; none while it is down.
    pub(super) const fn current(&self) -> (u8, u8) {
        if self.is_up() {
            (self.trained.0, speed(self.trained.1))
        } else {
            (0, 0)
        }
    }
}

const fn speed(gigatransfers: u8) -> u8 {
    match gigatransfers {
        0..=2 => 1,
        3..=5 => 2,
        6..=8 => 3,
        9..=16 => 4,
        17..=32 => 5,
        _ => 6,
    }
}

impl Fabric {
    /// The link of a port, and where that is among links.
    pub(super) fn link_at(&self, node: Node, port: PortId) -> Option<(usize, &Link)> {
        let &(_, link) = self.ends.get(&(node, port))?;
        Some((link, self.links.get(link)?))
    }

    pub(super) fn is_up(&self, link: usize) -> bool {
        self.links.get(link).is_some_and(Link::is_up)
    }
}
