//! Where everything lies on a board.

use pool_core::Bytes;
use pool_core::units::LINE_BYTES;

use super::row::Pair;
use super::{BoardError, WORDS};
use crate::host::message::SLOTS;

/// How many messages a way holds.
pub const PLACES: u64 = if cfg!(loom) { 2 } else { 32 };

/// For how many hosts and extents a board is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    hosts: u8,
    extents: u32,
}

impl Shape {
    /// So many hosts, in slots from 0, and so many extents, numbered from 0.
    ///
    /// # Errors
    /// [`BoardError::Shape`].
    pub const fn new(hosts: u8, extents: u32) -> Result<Self, BoardError> {
        if hosts < 2 || hosts > SLOTS || extents == 0 {
            return Err(BoardError::Shape { hosts, extents });
        }
        Ok(Self { hosts, extents })
    }

    /// How many hosts there are.
    #[must_use]
    pub const fn hosts(self) -> u8 {
        self.hosts
    }

    /// How many extents there are.
    #[must_use]
    pub const fn extents(self) -> u32 {
        self.extents
    }

    /// How much memory the board takes.
    #[must_use]
    pub const fn bytes(self) -> Bytes {
        Bytes::new(self.lines() * LINE_BYTES)
    }

    pub(super) const fn lines(self) -> u64 {
        self.way(self.hosts, 0)
    }

    pub(super) const fn seat(self) -> Pair {
        Pair { line: 1, lines: 1 }
    }

    /// The host's row among such rows, which begin at a line.
    const fn of_host(line: u64, slot: u8) -> Pair {
        Pair {
            line: line + 2 * slot as u64,
            lines: 1,
        }
    }

    const fn per_host(self) -> u64 {
        2 * self.hosts as u64
    }

    pub(super) const fn fence(self, slot: u8) -> Pair {
        Self::of_host(3, slot)
    }

    pub(super) const fn life(self, slot: u8) -> Pair {
        Self::of_host(3 + self.per_host(), slot)
    }

    pub(super) const fn term(self) -> Pair {
        let line = 3 + 2 * self.per_host();
        Pair { line, lines: 1 }
    }

    pub(super) const fn host(self, slot: u8) -> Pair {
        Self::of_host(5 + 2 * self.per_host(), slot)
    }

    /// Lines of one block of an extent's row.
    const fn extent_lines(self) -> u64 {
        (5 + self.hosts as u64).div_ceil(WORDS)
    }

    pub(super) const fn extent(self, extent: u32) -> Pair {
        let lines = self.extent_lines();
        let first = 5 + 3 * self.per_host();
        Pair {
            line: first + 2 * lines * extent as u64,
            lines,
        }
    }

    /// The first line of the way from one host to another.
    pub(super) const fn way(self, from: u8, to: u8) -> u64 {
        let first = self.extent(self.extents).line;
        let ways = from as u64 * self.hosts as u64 + to as u64;
        first + ways * PLACES
    }
}

#[cfg(not(loom))]
const fn bytes(hosts: u8, extents: u32) -> u64 {
    match Shape::new(hosts, extents) {
        Ok(shape) => shape.bytes().get(),
        Err(_) => 0,
    }
}

// What boards take, so that a change of the layout is seen: a magic number of its own is due then.
#[cfg(not(loom))]
const _: () = assert!(bytes(2, 16) == 64 * (17 + 32 + 128));
#[cfg(not(loom))]
const _: () = assert!(bytes(32, 1) == 64 * (197 + 10 + 32_768));

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn no_two_things_lie_on_one_line_and_none_is_left_out() {
        for (hosts, extents) in [(2, 1), (3, 7), (4, 2), (32, 3)] {
            let shape = Shape::new(hosts, extents).unwrap();
            let pairs = [shape.seat(), shape.term()]
                .into_iter()
                .chain((0..hosts).map(|slot| shape.fence(slot)))
                .chain((0..hosts).map(|slot| shape.life(slot)))
                .chain((0..hosts).map(|slot| shape.host(slot)))
                .chain((0..extents).map(|extent| shape.extent(extent)));
            let mut lines: Vec<u64> = pairs
                .flat_map(|pair| pair.line..pair.line + 2 * pair.lines)
                .chain([0])
                .collect();
            for (from, to) in (0..hosts).flat_map(|from| (0..hosts).map(move |to| (from, to))) {
                let way = shape.way(from, to);
                lines.extend(way..way + PLACES);
            }
            lines.sort_unstable();
            let all: Vec<u64> = (0..shape.lines()).collect();
            assert_eq!(lines, all, "{hosts} hosts, {extents} extents");
        }
    }

    #[test]
    fn a_board_has_two_hosts_to_as_many_as_there_are_slots() {
        assert!(Shape::new(1, 1).is_err() && Shape::new(33, 1).is_err());
        assert!(Shape::new(2, 0).is_err());
        let huge = Shape::new(32, u32::MAX).unwrap();
        assert!(huge.bytes().get() < 1 << 43);
    }
}
