//! A switch as a piece of hardware: its ports.
//!
//! 5100h to 5102h. Compared with the tables as published, with libcxlmi and with QEMU, which agree.

use super::layout::{codes, layout, listed};
use crate::id::PortId;

layout! {
    /// What a switch is (5100h).
    IdentifySwitchDeviceResponse = 0x49 {
        /// Where the command came in.
        0x00 ingress_port_id: u8,
        /// How many ports there are, used or not.
        0x02 physical_ports: u8,
        /// How many virtual switches there can be.
        0x03 virtual_switches: u8,
        /// Which ports are enabled: a bit for each, port 0 lowest.
        0x04 active_ports: [u8; 32],
        /// Which virtual switches are enabled: a bit for each, number 0 lowest.
        0x24 active_virtual_switches: [u8; 32],
        /// How many virtual bridges there are.
        0x44 total_vppbs: u16,
        /// How many of them are bound.
        0x46 bound_vppbs: u16,
        /// How many decoders an upstream port has.
        0x48 hdm_decoders: u8,
    }
}

listed! {
    /// Which ports are asked for (5101h).
    GetPhysicalPortStateRequest = 0x01 {
    } then {
        /// Each of them.
        ports: [PortId; 0xff], u8 at 0x00
    }
}

codes! {
    /// What a port is for.
    PortState: u8 {
        /// It is disabled.
        0x0 Disabled,
        /// It is being bound.
        0x1 BindInProgress,
        /// It is being unbound.
        0x2 UnbindInProgress,
        /// A device may be on it.
        0x3 Downstream,
        /// A host may be on it.
        0x4 Upstream,
        /// Another switch may be on it.
        0x5 Fabric,
        /// There is no such port, and nothing else that is said of it means anything.
        0xf InvalidPort,
    }
}

codes! {
    /// How what is on a port talks.
    ConnectedMode: u8 {
        /// Not as CXL, or nothing is there.
        0 NotCxl,
        /// As a restricted device.
        1 Restricted,
        /// In flits of 68 bytes.
        2 Flit68,
        /// In flits of 256 bytes.
        3 Flit256,
        /// In flits of 256 bytes, in halves.
        4 LatencyOptimized256,
        /// By port ids.
        5 PortBasedRouting,
    }
}

codes! {
    /// What is on a port.
    ConnectedType: u8 {
        /// Nothing.
        0 None,
        /// A device that speaks no CXL.
        1 Pcie,
        /// A device that caches.
        2 Type1,
        /// A device that caches and has memory, or another switch.
        3 Type2OrSwitch,
        /// A memory device with one logical device.
        4 Type3Single,
        /// A memory device with several.
        5 Type3Multi,
        /// A component that routes by port ids.
        6 PortBasedRouting,
    }
}

codes! {
    /// What a link is doing.
    Ltssm: u8 {
        /// Looking for a partner.
        0x0 Detect,
        /// Getting into step.
        0x1 Polling,
        /// Agreeing on lanes.
        0x2 Configuration,
        /// Getting into step again.
        0x3 Recovery,
        /// Working.
        0x4 L0,
        /// Working, with one direction asleep.
        0x5 L0s,
        /// Asleep.
        0x6 L1,
        /// Fast asleep.
        0x7 L2,
        /// Switched off.
        0x8 Disabled,
        /// Hearing itself.
        0x9 Loopback,
        /// Being reset from afar.
        0xa HotReset,
    }
}

layout! {
    /// How a port is.
    PortInformation = 0x10 {
        /// Which one.
        0x00 port_id: PortId,
        /// What it is for.
        0x01 configuration_state: PortState,
        /// How what is on it talks.
        0x02 connected_device_mode: ConnectedMode,
        /// What is on it.
        0x04 connected_device_type: ConnectedType,
        /// What it could do: a bit for each of [`ConnectedMode`] but the first, from bit 0 on.
        0x05 supported_cxl_modes: u8,
        /// How many lanes it has, as PCIe encodes it.
        0x06 maximum_link_width: u8,
        /// How many lanes are used.
        0x07 negotiated_link_width: u8,
        /// Which speeds it could have, as PCIe encodes it.
        0x08 supported_link_speeds: u8,
        /// The highest speed it could have.
        0x09 maximum_link_speed: u8,
        /// The speed it has.
        0x0a current_link_speed: u8,
        /// What its link is doing.
        0x0b ltssm_state: Ltssm,
        /// The lowest lane that is used.
        0x0c first_negotiated_lane: u8,
        /// Bit 0 lanes reversed, 1 in reset, 2 something is plugged in, 3 power is off.
        0x0d link_state_flags: u16,
        /// How many logical devices more than one it can tell apart.
        0x0f supported_ld_count: u8,
    }
}

listed! {
    /// How the ports are (5101h).
    GetPhysicalPortStateResponse = 0x04 {
    } then {
        /// Each of them, as asked.
        ports: [PortInformation; 0xff], u8 at 0x00
    }
}

codes! {
    /// What is done to a port.
    PortOperation: u8 {
        /// Its reset is begun.
        0 AssertReset,
        /// Its reset is ended.
        1 DeassertReset,
        /// Its bridge is reset.
        2 ResetBridge,
    }
}

layout! {
    /// What is done to a port (5102h).
    PhysicalPortControlRequest = 0x02 {
        /// Which one.
        0x00 port_id: PortId,
        /// What is done.
        0x01 operation: PortOperation,
    }
}
