//! How large a topology may be, so that no file makes the emulator grow without bound, and which
//! amounts there are.

use core::ops::RangeInclusive;

use pool_core::Bytes;
use pool_core::units::{EXTENT_BYTES, GIB, MIB, TIB};

/// Bytes of a file.
pub const FILE_BYTES_MAX: usize = 16 << 20;
/// Hosts of a topology; it has one at least.
pub const HOSTS_MAX: usize = 1_024;
/// Switches of a topology.
pub const SWITCHES_MAX: usize = 256;
/// Memory devices of a topology.
pub const MEMDEVS_MAX: usize = 1_024;
/// Links of a topology.
pub const LINKS_MAX: usize = 65_536;
/// Regions of all memory devices together.
pub const REGIONS_MAX: usize = 4_096;
/// Lines in the caches of all hosts together.
pub const CACHE_LINES_MAX: u64 = 1 << 24;

/// Characters of a name.
pub const NAME_CHARS_MAX: usize = 32;
/// Memories that are a host's own.
pub const MEMORIES_OF_HOST_MAX: usize = 16;
/// Regions of one memory device, as the specification has it.
pub const REGIONS_OF_MEMDEV_MAX: usize = 8;

/// Root ports of a host.
pub const ROOT_PORTS: RangeInclusive<u8> = 0..=255;
/// Lines in the caches of one host.
pub const CACHE_LINES: RangeInclusive<u32> = 1..=1 << 20;
/// Ports of a switch: one up and one down at least.
pub const SWITCH_PORTS: RangeInclusive<u8> = 2..=255;
/// Virtual bridges of a virtual switch.
pub const VPPBS: RangeInclusive<u8> = 1..=255;
/// Logical devices of a device with several of them.
pub const LOGICAL_DEVICES: RangeInclusive<u8> = 1..=16;
/// Heads of a device with several of them.
pub const HEADS: RangeInclusive<u8> = 1..=16;
/// Bytes a second that a logical device is limited to. The least is 1 MB/s, so that all that may go
/// on at once has a share of it.
pub const LD_LIMIT: RangeInclusive<u64> = 1_000_000..=1_000_000_000_000_000;
/// How many lanes a link may have.
pub const LANES: [u8; 5] = [1, 2, 4, 8, 16];
/// How fast each of them may be, in 10^9 transfers a second.
pub const GIGATRANSFERS: [u8; 4] = [8, 16, 32, 64];

/// The unit of capacities, of lengths of regions and of windows.
///
/// A device tells its capacities and how much of its addresses a region decodes in this unit:
/// Linux's driver (`CXL_CAPACITY_MULTIPLIER`, for `region_decode_length` too) and QEMU's device
/// multiply by it. The decoders that map windows have the same granule.
pub const GRANULE: Bytes = Bytes::new(256 * MIB);
/// The smallest block of dynamic capacity. The specification allows 64 B; the pool places, moves
/// and takes back whole extents, so that a smaller block would never be of use to it.
pub const BLOCK_MIN: Bytes = Bytes::new(EXTENT_BYTES);
/// The largest memory, be it a host's own, fixed, dynamic, or as a region's length.
pub const CAPACITY_MAX: Bytes = Bytes::new(64 * TIB);
/// The largest window: all addresses that decoders can decode.
pub const WINDOW_MAX: Bytes = Bytes::new(4_096 * TIB);

/// What a file that does not say it means for the window of a host.
pub(super) const WINDOW_DEFAULT: Bytes = Bytes::new(256 * GIB);
/// And for the lines of its caches: 256 KiB of them.
pub(super) const CACHE_LINES_DEFAULT: u32 = 4_096;
/// And for the block of a region.
pub(super) const BLOCK_DEFAULT: Bytes = Bytes::new(256 * MIB);
/// And for the serial number of the first memory device; the second has the one after it.
pub(super) const SERIAL_DEFAULT: u64 = 0x1001;
/// And for the class of a memory device.
pub(super) const CLASS_DEFAULT: &str = "cxl-x8";
/// And for the lanes of a link.
pub(super) const LANES_DEFAULT: u8 = 8;
/// And for its transfers.
pub(super) const GIGATRANSFERS_DEFAULT: u8 = 32;
