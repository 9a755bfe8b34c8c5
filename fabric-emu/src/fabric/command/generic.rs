//! What every component answers.

use super::super::Fabric;
use super::{Answer, Cci, cut, list, nanos};
use crate::cci::generic::{
    BackgroundOperationStatus, Empty, IdentifyResponse, ResponseMessageLimit, Timestamp,
};
use crate::cci::logs::{GetLogResponse, GetSupportedLogsResponse, SupportedLog, Uuid};
use crate::cci::{Opcode, Request, Response, ReturnCode};

/// Of the emulator; no vendor has it.
const VENDOR: u16 = 0;
/// The longest message that is taken: 2 to the power of this, in bytes.
const LONGEST: u8 = 20;

pub(super) fn is_generic(opcode: Opcode) -> bool {
    matches!(opcode.number(), 0x0001..=0x0005 | 0x0300..=0x0401)
}

impl Fabric {
    pub(super) fn generic(&mut self, cci: Cci, request: &Request) -> Answer {
        let response = match request {
            Request::Identify(_) => Response::Identify(self.identity(cci)),
            Request::BackgroundOperationStatus(_) => {
                Response::BackgroundOperationStatus(self.background_status(cci))
            }
            Request::GetResponseMessageLimit(_) => {
                let limit = self.component(cci).limit;
                Response::GetResponseMessageLimit(ResponseMessageLimit { limit })
            }
            Request::SetResponseMessageLimit(new) => {
                self.component_mut(cci).limit = new.limit;
                Response::SetResponseMessageLimit(ResponseMessageLimit { limit: new.limit })
            }
            Request::RequestAbortBackgroundOperation(_) => {
                self.abort(cci)?;
                Response::RequestAbortBackgroundOperation(Empty)
            }
            Request::GetTimestamp(_) => {
                let clock = self.component(cci).clock;
                let told =
                    clock.map(|(at, told)| told.saturating_add(nanos(self.now.saturating_sub(at))));
                let timestamp_ns = told.unwrap_or(0);
                Response::GetTimestamp(Timestamp { timestamp_ns })
            }
            Request::SetTimestamp(new) => {
                self.component_mut(cci).clock = Some((self.now, new.timestamp_ns));
                Response::SetTimestamp(Empty)
            }
            Request::GetSupportedLogs(_) => {
                let log = SupportedLog {
                    log_identifier: Uuid::COMMAND_EFFECTS_LOG,
                    log_size: cut(self.effects(cci).len(), u32::MAX),
                };
                let entries = list(vec![log])?;
                Response::GetSupportedLogs(GetSupportedLogsResponse { entries })
            }
            Request::GetLog(asked) => {
                if asked.log_identifier != Uuid::COMMAND_EFFECTS_LOG {
                    return Err(ReturnCode::InvalidLog);
                }
                let (start, length) = (asked.offset as usize, asked.length as usize);
                let end = start.checked_add(length).ok_or(ReturnCode::InvalidInput)?;
                let all = self.effects(cci);
                let data = all.get(start..end).ok_or(ReturnCode::InvalidInput)?;
                let data = list(data.to_vec())?;
                Response::GetLog(GetLogResponse { data })
            }
            _ => return Err(ReturnCode::Unsupported),
        };
        Ok(response.into())
    }

    fn identity(&self, cci: Cci) -> IdentifyResponse {
        let (serial_number, component_type) = match cci {
            Cci::Switch(switch) => (u64::from(switch.0), IdentifyResponse::SWITCH),
            Cci::Mailbox { memdev, .. } | Cci::Memdev(memdev) => {
                let serial = self.memdev(memdev).map_or(0, |device| {
                    device.condition().serial.unwrap_or(device.serial())
                });
                (serial, IdentifyResponse::TYPE_3)
            }
        };
        IdentifyResponse {
            vendor_id: VENDOR,
            device_id: 0,
            subsystem_vendor_id: VENDOR,
            subsystem_id: 0,
            serial_number,
            maximum_message_size: LONGEST,
            component_type,
        }
    }

    fn background_status(&self, cci: Cci) -> BackgroundOperationStatus {
        let Some(background) = &self.component(cci).background else {
            return BackgroundOperationStatus {
                status: 0,
                opcode: 0,
                return_code: ReturnCode::Success,
                vendor_status: 0,
            };
        };
        let all = background.due.saturating_sub(background.begun);
        let past = self.now.saturating_sub(background.begun).min(all).get();
        let percent = u128::from(past) * 100 / u128::from(all.get().max(1));
        let percent = u8::try_from(percent).unwrap_or(100);
        let is_under_way = u8::from(background.ended.is_none());
        let percent = if is_under_way == 1 {
            percent.min(99)
        } else {
            100
        };
        BackgroundOperationStatus {
            status: percent << 1 | is_under_way,
            opcode: background.opcode,
            return_code: background.ended.unwrap_or(ReturnCode::Success),
            vendor_status: 0,
        }
    }

    /// The command effects log of an interface.
    fn effects(&self, cci: Cci) -> Vec<u8> {
        let entry = |opcode: Opcode| {
            let [low, high] = opcode.number().to_le_bytes();
            let [effect_low, effect_high] = effect(opcode).to_le_bytes();
            [low, high, effect_low, effect_high]
        };
        self.supported(cci).flat_map(entry).collect()
    }
}

/// What a command changes: bit 1 the configuration at once, 2 data, 3 a policy, 4 a log; 6 it goes
/// on in the background.
fn effect(opcode: Opcode) -> u16 {
    match opcode.number() {
        0x0101 => 1 << 4,
        0x0103 | 0x0004 | 0x0301 => 1 << 3,
        0x4301 | 0x4302 => 1 << 2,
        0x4400 => 1 << 2 | 1 << 6,
        0x4802 | 0x4803 | 0x5602 | 0x5604..=0x5607 => 1 << 1,
        0x5201 | 0x5202 => 1 << 1 | 1 << 6,
        _ => 0,
    }
}
