//! A host and its logical device: what it is, how it is, its poison.

use pool_core::units::LINE_BYTES;

use super::super::Fabric;
use super::{Answer, Cci, Logical, cut, list};
use crate::cci::events::{EventInterruptPolicy, EventLog, Severities};
use crate::cci::generic::Empty;
use crate::cci::memdev::{HealthInfo, IdentifyMemoryDeviceResponse};
use crate::cci::poison::{
    ClearPoisonRequest, GetPoisonListRequest, GetPoisonListResponse, InjectPoisonRequest,
    MediaErrorRecord,
};
use crate::cci::{Request, Response, ReturnCode, U24};
use crate::media::MOST_POISONED;
use crate::memdev::{CORRECTED_MOST, ERROR_LOG, Found, GRANULE, HOST_LOG};
use crate::span::Span;

/// Bytes of the head of an answer that lists poison.
const LIST_HEAD: usize = 0x20;
/// Bytes of a record of poison.
const POISON_BYTES: usize = 0x10;
/// Where poison came from: from within the device, or it was injected.
const INSIDE: u64 = 2;
const INJECTED: u64 = 3;

impl Fabric {
    pub(super) fn mailbox(
        &mut self,
        cci: Cci,
        at: Logical,
        request: &Request,
        room: usize,
    ) -> Answer {
        if request.opcode().number() >> 8 == 0x48 {
            return self.host_capacity(at, request, room);
        }
        let response = match request {
            Request::GetEventRecords(asked) => self.events(at.0, Some(at.1), asked, room)?,
            Request::ClearEventRecords(asked) => self.clear_events(at.0, Some(at.1), asked)?,
            Request::GetEventInterruptPolicy(_) => {
                Response::GetEventInterruptPolicy(self.interrupts(cci))
            }
            Request::SetEventInterruptPolicy(new) => {
                self.set_interrupts(cci, new)?;
                Response::SetEventInterruptPolicy(Empty)
            }
            Request::IdentifyMemoryDevice(_) => {
                Response::IdentifyMemoryDevice(self.what_it_is(at)?)
            }
            Request::GetHealthInfo(_) => Response::GetHealthInfo(self.health(at)),
            Request::GetPoisonList(asked) => self.poison_list((cci, at), asked, room)?,
            Request::InjectPoison(asked) => self.inject(at, asked)?,
            Request::ClearPoison(asked) => self.clear_poison(at, asked)?,
            Request::Sanitize(_) => return self.begin_to_sanitize(cci, at),
            _ => return Err(ReturnCode::Unsupported),
        };
        Ok(response.into())
    }

    fn what_it_is(
        &self,
        (memdev, ld): Logical,
    ) -> Result<IdentifyMemoryDeviceResponse, ReturnCode> {
        let device = self.memdev(memdev).ok_or(ReturnCode::InternalError)?;
        let (fixed, _) = device.ld(ld)?;
        let granules = device.condition().granules.unwrap_or(fixed / GRANULE);
        Ok(IdentifyMemoryDeviceResponse {
            fw_revision: *b"tierpool emu 0.1",
            total_capacity: granules,
            volatile_only_capacity: granules,
            persistent_only_capacity: 0,
            partition_alignment: 0,
            informational_event_log_size: cut(ERROR_LOG, u16::MAX),
            warning_event_log_size: cut(ERROR_LOG, u16::MAX),
            failure_event_log_size: cut(ERROR_LOG, u16::MAX),
            fatal_event_log_size: cut(ERROR_LOG, u16::MAX),
            lsa_size: 0,
            poison_list_maximum: U24::new(cut(MOST_POISONED, u32::MAX))
                .ok_or(ReturnCode::InternalError)?,
            inject_poison_limit: cut(MOST_POISONED, u16::MAX),
            poison_handling_capabilities: 0,
            qos_telemetry_capabilities: 0,
            dynamic_capacity_event_log_size: cut(HOST_LOG, u16::MAX),
        })
    }

    fn health(&self, (memdev, ld): Logical) -> HealthInfo {
        let corrected = self
            .memdev(memdev)
            .map(|device| &device.condition().corrected);
        let count = corrected.and_then(|count| count.get(&ld));
        health_at(count.copied().unwrap_or(0))
    }

    fn interrupts(&self, cci: Cci) -> EventInterruptPolicy {
        let [informational, warning, failure, fatal, capacity] = self.component(cci).interrupts;
        EventInterruptPolicy {
            severities: Severities {
                informational,
                warning,
                failure,
                fatal,
            },
            dynamic_capacity: Some(capacity),
        }
    }

    fn set_interrupts(&mut self, cci: Cci, new: &EventInterruptPolicy) -> Result<(), ReturnCode> {
        let kept = self.component(cci).interrupts[4];
        let of = &new.severities;
        let capacity = new.dynamic_capacity.unwrap_or(kept);
        let all = [of.informational, of.warning, of.failure, of.fatal, capacity];
        // Modes 0 to 2; bits 3:2 are reserved.
        if all
            .iter()
            .any(|setting| setting & 0b11 == 0b11 || setting & 0b1100 != 0)
        {
            return Err(ReturnCode::InvalidInput);
        }
        self.component_mut(cci).interrupts = all;
        Ok(())
    }

    /// Poisoned lines of a range, from where the last answer about it left off.
    fn poison_list(
        &mut self,
        (cci, (memdev, ld)): (Cci, Logical),
        asked: &GetPoisonListRequest,
        room: usize,
    ) -> Result<Response, ReturnCode> {
        let start = asked.physical_address & !(LINE_BYTES - 1);
        let restarts = asked.physical_address & GetPoisonListRequest::RESTART != 0;
        let bytes = asked.physical_address_length.saturating_mul(LINE_BYTES);
        let asked = Span {
            start,
            bytes: bytes.min(u64::MAX - start),
        };
        let left_off = self.component(cci).poison;
        let next = left_off.filter(|(range, _)| *range == asked && !restarts);
        let from = next.map_or(start, |(_, next)| next);
        let rest = Span {
            start: from,
            bytes: asked.end().saturating_sub(from),
        };
        let device = self.memdev(memdev).ok_or(ReturnCode::InternalError)?;
        let lines = device.poisoned(ld, rest);
        let most = room.saturating_sub(LIST_HEAD) / POISON_BYTES;
        let next = lines.get(most).copied();
        let records = lines.iter().take(most).map(|&line| {
            let physical = device.place(ld, line).map(|(physical, _)| physical);
            let found = physical.and_then(|it| device.media().found(it));
            MediaErrorRecord {
                media_error_address: line | source(found.unwrap_or(Found::Unknown)),
                media_error_length: 1,
            }
        });
        let response = GetPoisonListResponse {
            poison_list_flags: next.map_or(0, |_| GetPoisonListResponse::MORE),
            overflow_timestamp_ns: 0,
            records: list(records.collect())?,
        };
        if left_off.is_some() || next.is_some() {
            self.component_mut(cci).poison = next.map(|next| (asked, next));
        }
        Ok(Response::GetPoisonList(response))
    }

    fn inject(
        &mut self,
        (memdev, ld): Logical,
        asked: &InjectPoisonRequest,
    ) -> Result<Response, ReturnCode> {
        let now = self.now;
        let device = self.memdev_mut(memdev).ok_or(ReturnCode::InternalError)?;
        let found = device.place(ld, asked.physical_address.dpa());
        let (physical, _) = found.ok_or(ReturnCode::InvalidPhysicalAddress)?;
        if !device.media_mut().poison(physical, Found::Injected) {
            return Err(ReturnCode::InjectPoisonLimitReached);
        }
        device.tell_bad(now, (physical, Found::Injected), EventLog::Informational);
        Ok(Response::InjectPoison(Empty))
    }

    fn clear_poison(
        &mut self,
        (memdev, ld): Logical,
        asked: &ClearPoisonRequest,
    ) -> Result<Response, ReturnCode> {
        let device = self.memdev_mut(memdev).ok_or(ReturnCode::InternalError)?;
        let found = device.place(ld, asked.physical_address.dpa());
        let (physical, place) = found.ok_or(ReturnCode::InvalidPhysicalAddress)?;
        if place.is_some_and(|place| place.is_read_only) {
            return Err(ReturnCode::InvalidPhysicalAddress);
        }
        device.media_mut().write(physical, &asked.write_data);
        Ok(Response::ClearPoison(Empty))
    }
}

/// Where the poison of a line came from, as the list tells it.
const fn source(found: Found) -> u64 {
    match found {
        // Reading it made no difference to the line.
        Found::Unknown | Found::Read => 0,
        Found::Scrubbed => INSIDE,
        Found::Injected => INJECTED,
    }
}

/// As [`HealthInfo`] has it: the count of corrected errors is a warning.
const MUCH_CORRECTED: u8 = 1 << 4;

/// How a logical device is of which so many errors were corrected.
pub(super) const fn health_at(corrected: u32) -> HealthInfo {
    HealthInfo {
        health_status: 0,
        media_status: 0,
        additional_status: if corrected >= CORRECTED_MOST {
            MUCH_CORRECTED
        } else {
            0
        },
        life_used: 0,
        device_temperature: 25,
        dirty_shutdown_count: 0,
        corrected_volatile_error_count: corrected,
        corrected_persistent_error_count: 0,
    }
}
