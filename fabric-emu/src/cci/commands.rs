//! Which commands there are, and what each of them asks and answers.

use super::bytes::{Malformed, Wire};
use super::generic::Empty;
use super::layout::codes;
use super::{
    MAX_PAYLOAD, ReturnCode, dcd, dcd_management, events, generic, logical_devices, logs, memdev,
    multi_headed, poison, switch, tunnel, virtual_switch,
};

macro_rules! commands {
    ($($(#[$doc:meta])* $opcode:literal $name:ident: $request:ty => $response:ty,)*) => {
        codes! {
            /// A command that is known.
            Opcode: u16 {$(
                $(#[$doc])*
                $opcode $name,
            )*}
        }

        /// What a component is asked.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Request {$(
            $(#[$doc])*
            $name($request),
        )*}

        /// What a component answers where the command succeeds.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Response {$(
            $(#[$doc])*
            $name($response),
        )*}

        impl Request {
            /// Which command it is.
            #[must_use]
            pub const fn opcode(&self) -> Opcode {
                match self {
                    $(Self::$name(_) => Opcode::$name,)*
                }
            }

            fn read(opcode: Opcode, payload: &[u8]) -> Result<Self, Malformed> {
                match opcode {
                    $(Opcode::$name => Wire::decode(payload).map(Self::$name),)*
                }
            }

            fn payload(&self) -> Vec<u8> {
                match self {
                    $(Self::$name(request) => request.encode(),)*
                }
            }
        }

        impl Response {
            /// Which command it answers.
            #[must_use]
            pub const fn opcode(&self) -> Opcode {
                match self {
                    $(Self::$name(_) => Opcode::$name,)*
                }
            }

            fn read(opcode: Opcode, payload: &[u8]) -> Result<Self, Malformed> {
                match opcode {
                    $(Opcode::$name => Wire::decode(payload).map(Self::$name),)*
                }
            }

            fn payload(&self) -> Vec<u8> {
                match self {
                    $(Self::$name(response) => response.encode(),)*
                }
            }
        }

        #[cfg(test)]
        pub(super) fn samples(
            opcode: Opcode,
            source: &mut super::sample::Source,
        ) -> (Request, Response) {
            match opcode {
                $(Opcode::$name => (
                    Request::$name(source.sample()),
                    Response::$name(source.sample()),
                ),)*
            }
        }
    };
}

commands! {
    /// Who it is.
    0x0001 Identify: Empty => generic::IdentifyResponse,
    /// How far the background operation is.
    0x0002 BackgroundOperationStatus: Empty => generic::BackgroundOperationStatus,
    /// How long answers may be.
    0x0003 GetResponseMessageLimit: Empty => generic::ResponseMessageLimit,
    /// How long answers may be, from now on.
    0x0004 SetResponseMessageLimit:
        generic::ResponseMessageLimit => generic::ResponseMessageLimit,
    /// That the background operation be given up.
    0x0005 RequestAbortBackgroundOperation: Empty => Empty,
    /// The oldest events of a log.
    0x0100 GetEventRecords: events::GetEventRecordsRequest => events::GetEventRecordsResponse,
    /// That events be forgotten.
    0x0101 ClearEventRecords: events::ClearEventRecordsRequest => Empty,
    /// Who is told of events.
    0x0102 GetEventInterruptPolicy: Empty => events::EventInterruptPolicy,
    /// Who is told of events, from now on.
    0x0103 SetEventInterruptPolicy: events::EventInterruptPolicy => Empty,
    /// What time it is there.
    0x0300 GetTimestamp: Empty => generic::Timestamp,
    /// What time it is here.
    0x0301 SetTimestamp: generic::Timestamp => Empty,
    /// Which logs there are.
    0x0400 GetSupportedLogs: Empty => logs::GetSupportedLogsResponse,
    /// A part of a log.
    0x0401 GetLog: logs::GetLogRequest => logs::GetLogResponse,
    /// What the memory device is.
    0x4000 IdentifyMemoryDevice: Empty => memdev::IdentifyMemoryDeviceResponse,
    /// How the memory device is.
    0x4200 GetHealthInfo: Empty => memdev::HealthInfo,
    /// Which lines have poison.
    0x4300 GetPoisonList: poison::GetPoisonListRequest => poison::GetPoisonListResponse,
    /// That a line get poison.
    0x4301 InjectPoison: poison::InjectPoisonRequest => Empty,
    /// That a line lose its poison.
    0x4302 ClearPoison: poison::ClearPoisonRequest => Empty,
    /// That all be made unreadable.
    0x4400 Sanitize: Empty => Empty,
    /// Which regions of dynamic capacity there are.
    0x4800 GetDcConfig: dcd::GetDcConfigRequest => dcd::GetDcConfigResponse,
    /// Which extents the host has.
    0x4801 GetDcExtentList: dcd::GetDcExtentListRequest => dcd::GetDcExtentListResponse,
    /// What the host takes of an offer.
    0x4802 AddDcResponse: dcd::UpdatedExtentList => Empty,
    /// What the host gives back.
    0x4803 ReleaseDc: dcd::UpdatedExtentList => Empty,
    /// What the switch is.
    0x5100 IdentifySwitchDevice: Empty => switch::IdentifySwitchDeviceResponse,
    /// How ports are.
    0x5101 GetPhysicalPortState:
        switch::GetPhysicalPortStateRequest => switch::GetPhysicalPortStateResponse,
    /// That something be done to a port.
    0x5102 PhysicalPortControl: switch::PhysicalPortControlRequest => Empty,
    /// What virtual switches lead to.
    0x5200 GetVcsInfo: virtual_switch::GetVcsInfoRequest => virtual_switch::GetVcsInfoResponse,
    /// That a bridge lead to something.
    0x5201 BindVppb: virtual_switch::BindVppbRequest => Empty,
    /// That a bridge lead to nothing.
    0x5202 UnbindVppb: virtual_switch::UnbindVppbRequest => Empty,
    /// That a host be told of an error.
    0x5203 GenerateAerEvent: virtual_switch::GenerateAerEventRequest => Empty,
    /// That a command be passed on.
    0x5300 TunnelManagementCommand: tunnel::TunnelRequest => tunnel::TunnelResponse,
    /// What there is to divide.
    0x5400 GetLdInfo: Empty => logical_devices::GetLdInfoResponse,
    /// How it is divided.
    0x5401 GetLdAllocations:
        logical_devices::GetLdAllocationsRequest => logical_devices::GetLdAllocationsResponse,
    /// How it is divided, from now on.
    0x5402 SetLdAllocations:
        logical_devices::SetLdAllocationsRequest => logical_devices::SetLdAllocationsResponse,
    /// Which logical device is at which head.
    0x5500 GetMultiHeadedInfo:
        multi_headed::GetMultiHeadedInfoRequest => multi_headed::GetMultiHeadedInfoResponse,
    /// How heads are.
    0x5501 GetHeadInfo: multi_headed::GetHeadInfoRequest => multi_headed::GetHeadInfoResponse,
    /// What can be done with dynamic capacity.
    0x5600 GetDcdInfo: Empty => dcd_management::GetDcdInfoResponse,
    /// Which regions a host has.
    0x5601 GetHostDcRegionConfig: dcd_management::GetHostDcRegionConfigRequest
        => dcd_management::GetHostDcRegionConfigResponse,
    /// How a region is set up, from now on.
    0x5602 SetDcRegionConfig: dcd_management::SetDcRegionConfigRequest => Empty,
    /// Which extents a host has.
    0x5603 GetDcRegionExtentLists: dcd_management::GetDcRegionExtentListsRequest
        => dcd_management::GetDcRegionExtentListsResponse,
    /// That a host be offered capacity.
    0x5604 InitiateAdd: dcd_management::InitiateAddRequest => Empty,
    /// That a host give capacity back.
    0x5605 InitiateRelease: dcd_management::InitiateReleaseRequest => Empty,
    /// That what is under a tag stay, whoever has it.
    0x5606 AddReference: dcd_management::ReferenceRequest => Empty,
    /// That what is under a tag may go.
    0x5607 RemoveReference: dcd_management::ReferenceRequest => Empty,
    /// Which tags there are.
    0x5608 ListTags: dcd_management::ListTagsRequest => dcd_management::ListTagsResponse,
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// What the component answers: Unsupported, Invalid Payload Length, or why the values in it
    /// cannot be meant whatever state it is in.
    pub fn decode(opcode: u16, payload: &[u8]) -> Result<Self, ReturnCode> {
        known(opcode, payload)
            .and_then(|opcode| Self::read(opcode, payload))
            .map_err(Malformed::return_code)
    }

    /// Its opcode and its payload.
    #[must_use]
    pub fn encode(&self) -> (u16, Vec<u8>) {
        (self.opcode().number(), self.payload())
    }
}

impl Response {
    /// Reads what a command answered. That of Get VCS Info is read as the answer to a request for
    /// all bridges; [`Response::decode_for`] knows better.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(opcode: u16, payload: &[u8]) -> Result<Self, Malformed> {
        Self::read(known(opcode, payload)?, payload)
    }

    /// Reads what was answered to this request.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode_for(request: &Request, payload: &[u8]) -> Result<Self, Malformed> {
        let opcode = known(request.opcode().number(), payload)?;
        match request {
            Request::GetVcsInfo(asked) => virtual_switch::GetVcsInfoResponse::decode_for(
                payload,
                asked.start_vppb,
                asked.vppb_list_limit,
            )
            .map(Self::GetVcsInfo),
            _ => Self::read(opcode, payload),
        }
    }

    /// Its opcode and its payload.
    #[must_use]
    pub fn encode(&self) -> (u16, Vec<u8>) {
        (self.opcode().number(), self.payload())
    }
}

fn known(opcode: u16, payload: &[u8]) -> Result<Opcode, Malformed> {
    let opcode = Opcode::of(opcode).ok_or(Malformed::Opcode(opcode))?;
    if payload.len() > MAX_PAYLOAD {
        Err(Malformed::Length)
    } else {
        Ok(opcode)
    }
}
