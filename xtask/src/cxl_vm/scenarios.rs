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
    /// What each machine has: the same memory, where there are several.
    pub(super) topology: Topology,
    /// What is done, one after the other.
    pub(super) steps: &'static [Step],
}

/// One thing that is done in a scenario. Machines are known by their names.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// A board for so many hosts and extents lies at the beginning of the first device, and the
    /// host in slot 0 has the home.
    Board { hosts: u8, extents: u32 },
    /// A machine starts.
    Start(&'static str),
    /// A machine has said this, after its name.
    Says(&'static str, &'static str),
    /// A machine ends without warning.
    Kill(&'static str),
    /// The board says that the host in this slot is fenced, up to the life that it was in.
    Fence(u8),
    /// The board says that the host in this slot has the home.
    Appoint(u8),
    /// A machine ends by itself, and has passed.
    Passes(&'static str),
}

/// One machine that does all by itself.
const ALONE: &[Step] = &[Step::Start("a"), Step::Passes("a")];

/// Two machines own what they share in turn; each of them dies once, and comes back.
const TWO_HOSTS: &[Step] = &[
    Step::Board {
        hosts: 2,
        extents: 16,
    },
    Step::Start("a"),
    Step::Start("b"),
    Step::Says("b", "holds an extent, half written"),
    Step::Kill("b"),
    Step::Fence(1),
    Step::Says("a", "has had all extents"),
    Step::Start("b2"),
    Step::Says("a", "holds an extent, half written"),
    Step::Kill("a"),
    Step::Fence(0),
    Step::Appoint(1),
    Step::Says("b2", "has had all extents"),
    Step::Start("a2"),
    Step::Passes("a2"),
    Step::Passes("b2"),
];

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
        steps: ALONE,
    },
    Scenario {
        name: "regions",
        law: "regions, drivers, slices and nodes come and go in the order the kernel accepts",
        topology: Topology::Bridges(&[expander(0xa0, 1024), expander(0xa1, 512)]),
        steps: ALONE,
    },
    Scenario {
        name: "interleave",
        law: "a region lies on two devices in turn",
        topology: Topology::Window(&[expander(0xa0, 512), expander(0xa1, 512)]),
        steps: ALONE,
    },
    Scenario {
        name: "conformance",
        law: "files of dax devices and of a node hold every law of a device",
        topology: Topology::Bridges(&[expander(0xa0, 512), expander(0xa1, 512)]),
        steps: ALONE,
    },
    Scenario {
        name: "operator",
        law: "poolctl shows what cxl and daxctl show, and changes regions that nobody has",
        topology: Topology::Bridges(&[expander(0xa0, 1024), expander(0xa1, 512)]),
        steps: ALONE,
    },
    Scenario {
        name: "pool",
        law: "a pool's tier is CXL memory in both modes, for processes at the same address",
        topology: Topology::Bridges(&[expander(0xa0, 512), expander(0xa1, 512)]),
        steps: ALONE,
    },
    Scenario {
        name: "two-hosts",
        law: "two machines own the extents of one device in turn, and either dies and is outlived",
        topology: Topology::Bridges(&[expander(0xa0, 256)]),
        steps: TWO_HOSTS,
    },
    Scenario {
        name: "moves",
        law: "a thousand extents move between DRAM and CXL memory under readers and writers",
        topology: Topology::Bridges(&[expander(0xa0, 512), expander(0xa1, 512)]),
        steps: ALONE,
    },
    Scenario {
        name: "hotplug",
        law: "devices join, leave and vanish, lines go bad, and it costs what was promised",
        topology: Topology::Bridges(&[expander(0xa0, 512), later(0xa1, 512)]),
        steps: ALONE,
    },
];
