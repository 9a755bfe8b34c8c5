//! How things of a fabric are named: by their places in the topology, counted from 0 for each kind.

use core::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl $name {
            /// The number, as a place in a list.
            #[must_use]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(
    /// A machine with root ports.
    HostId, u16, "host"
);
id!(
    /// A switch.
    SwitchId, u16, "switch"
);
id!(
    /// A memory device, by the kernel's word for one.
    MemdevId, u16, "mem"
);
id!(
    /// A port of a host, of a switch, or of a memory device, where it is a head.
    PortId, u8, "port"
);
id!(
    /// A logical device of a memory device. One with a single logical device has number 0.
    LdId, u16, "ld"
);
id!(
    /// A virtual switch of a switch.
    VcsId, u8, "vcs"
);
id!(
    /// A virtual bridge of a virtual switch.
    VppbId, u8, "vppb"
);

/// What a port belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Node {
    /// A host.
    Host(HostId),
    /// A switch.
    Switch(SwitchId),
    /// A memory device.
    Memdev(MemdevId),
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(id) => fmt::Display::fmt(id, f),
            Self::Switch(id) => fmt::Display::fmt(id, f),
            Self::Memdev(id) => fmt::Display::fmt(id, f),
        }
    }
}

/// One port of the fabric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Whose it is.
    pub node: Node,
    /// Which of them.
    pub port: PortId,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.node, self.port.0)
    }
}
