//! What is shown in virtual machines: names that the guest's program knows, and the devices that
//! each needs.

use super::machine::{Expander, Topology};

/// One of them.
#[derive(Debug)]
pub(super) struct Scenario {
    /// Its name, in `tests/cxl-vm/src/scenario`.
    pub(super) name: &'static str,
    /// What it shows.
    pub(super) law: &'static str,
    /// What each machine has.
    pub(super) topology: Topology,
}

const fn expander(serial: u64, mib: u64) -> Expander {
    let is_plugged = true;
    Expander {
        serial,
        mib,
        is_plugged,
    }
}

/// One whose slot is empty at the start.
const fn later(serial: u64, mib: u64) -> Expander {
    let is_plugged = false;
    Expander {
        serial,
        mib,
        is_plugged,
    }
}

/// All of them, in the order in which they run.
pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "discovery",
        law: "what we read of the kernel is what cxl and daxctl read, field by field",
        topology: Topology::Bridges(&[expander(0xa0, 512), expander(0xa1, 1024)]),
    },
    Scenario {
        name: "regions",
        law: "regions, drivers, slices and nodes come and go in the order the kernel accepts",
        topology: Topology::Bridges(&[expander(0xa0, 1024), expander(0xa1, 512)]),
    },
    Scenario {
        name: "interleave",
        law: "a region lies on two devices in turn",
        topology: Topology::Window(&[expander(0xa0, 512), expander(0xa1, 512)]),
    },
    Scenario {
        name: "conformance",
        law: "files of dax devices and of a node hold every law of a device",
        topology: Topology::Bridges(&[expander(0xa0, 512), expander(0xa1, 512)]),
    },
    Scenario {
        name: "operator",
        law: "poolctl shows what cxl and daxctl show, and changes regions that nobody has",
        topology: Topology::Bridges(&[expander(0xa0, 1024), expander(0xa1, 512)]),
    },
    Scenario {
        name: "pool",
        law: "a pool's tier is CXL memory in both modes, for processes at the same address",
        topology: Topology::Bridges(&[expander(0xa0, 512), expander(0xa1, 512)]),
    },
    Scenario {
        name: "moves",
        law: "a thousand extents move between DRAM and CXL memory under readers and writers",
        topology: Topology::Bridges(&[expander(0xa0, 512), expander(0xa1, 512)]),
    },
    Scenario {
        name: "hotplug",
        law: "devices join, leave and vanish, lines go bad, and it costs what was promised",
        topology: Topology::Bridges(&[expander(0xa0, 512), later(0xa1, 512)]),
    },
];
