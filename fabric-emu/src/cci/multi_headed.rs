//! A memory device with several heads: which logical device is at which.
//!
//! 5500h and 5501h. Compared with the tables as published and with libcxlmi, which agree.

use super::layout::{layout, listed};
use super::switch::Ltssm;

layout! {
    /// Which logical devices are asked for (5500h).
    GetMultiHeadedInfoRequest = 0x02 {
        /// From which one on.
        0x00 start_ld_id: u8,
        /// How many at most.
        0x01 ld_map_list_limit: u8; from 1 to 255,
    }
}

listed! {
    /// Which logical device is at which head (5500h).
    GetMultiHeadedInfoResponse = 0x08 {
        /// How many logical devices there are.
        0x00 ld_count: u8,
        /// How many heads there are.
        0x01 head_count: u8,
        /// The first of those that follow.
        0x04 start_ld_id: u8,
    } then {
        /// The port of the head of each, or [`GetMultiHeadedInfoResponse::NO_HEAD`].
        ld_map: [u8; 0xff], u8 at 0x05
    }
}

impl GetMultiHeadedInfoResponse {
    /// A logical device is at no head.
    pub const NO_HEAD: u8 = 0xff;
}

layout! {
    /// Which heads are asked for (5501h).
    GetHeadInfoRequest = 0x02 {
        /// From which one on.
        0x00 start_head: u8,
        /// How many.
        0x01 head_count: u8,
    }
}

layout! {
    /// How a head is. The fields mean what those of [`super::switch::PortInformation`] do.
    HeadInformation = 0x09 {
        /// Its port.
        0x00 port_number: u8,
        /// How many lanes it has.
        0x01 maximum_link_width: u8,
        /// How many lanes are used.
        0x02 negotiated_link_width: u8,
        /// Which speeds it could have.
        0x03 supported_link_speeds: u8,
        /// The highest speed it could have.
        0x04 maximum_link_speed: u8,
        /// The speed it has.
        0x05 current_link_speed: u8,
        /// What its link is doing.
        0x06 ltssm_state: Ltssm,
        /// The lowest lane that is used.
        0x07 first_negotiated_lane: u8,
        /// Bit 0 lanes reversed, 1 in reset.
        0x08 link_state_flags: u8,
    }
}

listed! {
    /// How heads are (5501h).
    GetHeadInfoResponse = 0x04 {
    } then {
        /// Each of them.
        heads: [HeadInformation; 0xff], u8 at 0x00
    }
}
