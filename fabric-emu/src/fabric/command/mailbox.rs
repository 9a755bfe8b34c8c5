//! A host and its logical device: what it is, its events, its poison.

use pool_core::units::LINE_BYTES;

use super::super::Fabric;
use super::{Answer, Cci, Logical, cut, list, nanos};
use crate::cci::event_records::{
    DynamicCapacityEvent, DynamicCapacityEventType, EventBody, EventHeader, EventRecord,
};
use crate::cci::events::{
    ClearEventRecordsRequest, EventInterruptPolicy, EventLog, GetEventRecordsRequest,
    GetEventRecordsResponse, Severities,
};
use crate::cci::generic::Empty;
use crate::cci::memdev::{HealthInfo, IdentifyMemoryDeviceResponse};
use crate::cci::poison::{
    ClearPoisonRequest, GetPoisonListRequest, GetPoisonListResponse, InjectPoisonRequest,
    MediaErrorRecord,
};
use crate::cci::{DpaExtent, Request, Response, ReturnCode, U24};
use crate::log::Log;
use crate::media::MOST_POISONED;
use crate::memdev::{CapacityEvent, Dated, GRANULE, HOST_LOG, Told};
use crate::span::Span;
use crate::timing::Picos;

/// Bytes of the head of an answer that lists events, and that lists poison.
const LIST_HEAD: usize = 0x20;
/// Bytes of a record of poison.
const POISON_BYTES: usize = 0x10;
/// Where poison came from: it was injected.
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
            Request::GetEventRecords(asked) => self.host_events(at, asked, room)?,
            Request::ClearEventRecords(asked) => self.clear_host_events(at, asked)?,
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
            informational_event_log_size: 0,
            warning_event_log_size: 0,
            failure_event_log_size: 0,
            fatal_event_log_size: 0,
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
        HealthInfo {
            corrected_volatile_error_count: count.copied().unwrap_or(0),
            ..HEALTHY
        }
    }

    fn host_events(
        &mut self,
        (memdev, ld): Logical,
        asked: &GetEventRecordsRequest,
        room: usize,
    ) -> Result<Response, ReturnCode> {
        let now = self.now;
        let log = self
            .memdev_mut(memdev)
            .and_then(|device| device.log_mut(ld));
        let log = log.ok_or(ReturnCode::InternalError)?;
        events(log, asked.event_log, room, now)
    }

    fn clear_host_events(
        &mut self,
        (memdev, ld): Logical,
        asked: &ClearEventRecordsRequest,
    ) -> Result<Response, ReturnCode> {
        let log = self
            .memdev_mut(memdev)
            .and_then(|device| device.log_mut(ld));
        clear(log.ok_or(ReturnCode::InternalError)?, asked)
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
        let records = lines.iter().take(most).map(|&line| MediaErrorRecord {
            media_error_address: line | INJECTED,
            media_error_length: 1,
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
        let device = self.memdev_mut(memdev).ok_or(ReturnCode::InternalError)?;
        let found = device.place(ld, asked.physical_address.dpa());
        let (physical, _) = found.ok_or(ReturnCode::InvalidPhysicalAddress)?;
        if !device.media_mut().poison(physical) {
            return Err(ReturnCode::InjectPoisonLimitReached);
        }
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

const HEALTHY: HealthInfo = HealthInfo {
    health_status: 0,
    media_status: 0,
    additional_status: 0,
    life_used: 0,
    device_temperature: 25,
    dirty_shutdown_count: 0,
    corrected_volatile_error_count: 0,
    corrected_persistent_error_count: 0,
};

/// Informational, and nothing else.
const NO_FLAGS: U24 = match U24::new(0) {
    Some(none) => none,
    None => unreachable!(),
};

/// The oldest records of a log. There is one for dynamic capacity; the others have none.
pub(super) fn events(
    log: &Log<Dated>,
    asked: EventLog,
    room: usize,
    now: Picos,
) -> Result<Response, ReturnCode> {
    let mut response = GetEventRecordsResponse {
        flags: 0,
        overflow_error_count: 0,
        first_overflow_timestamp_ns: 0,
        last_overflow_timestamp_ns: 0,
        records: list(Vec::new())?,
    };
    if asked == EventLog::DynamicCapacity {
        let most = room.saturating_sub(LIST_HEAD) / EventRecord::BYTES;
        let (records, has_more) = log.oldest(most);
        let records: Vec<_> = records
            .map(|(handle, (at, event))| record(handle, *at, event))
            .collect();
        response.records = list(records)?;
        if has_more {
            response.flags |= GetEventRecordsResponse::MORE;
        }
        if let Some(lost) = log.overflow() {
            response.flags |= GetEventRecordsResponse::OVERFLOW;
            response.overflow_error_count = lost.count;
            response.first_overflow_timestamp_ns = nanos(lost.first);
            response.last_overflow_timestamp_ns = nanos(lost.last.min(now));
        }
    }
    Ok(Response::GetEventRecords(response))
}

/// Clears records of a log.
pub(super) fn clear(
    log: &mut Log<Dated>,
    asked: &ClearEventRecordsRequest,
) -> Result<Response, ReturnCode> {
    let is_all = asked.clear_event_flags & ClearEventRecordsRequest::CLEAR_ALL != 0;
    if is_all && !asked.handles.is_empty() {
        return Err(ReturnCode::InvalidInput);
    }
    if asked.event_log == EventLog::DynamicCapacity {
        if is_all {
            log.clear_all()?;
        } else {
            log.clear(&asked.handles)
                .map_err(|_| ReturnCode::InvalidHandle)?;
        }
    } else if is_all {
        // A log that is empty did not overflow.
        return Err(ReturnCode::InvalidInput);
    } else if !asked.handles.is_empty() {
        return Err(ReturnCode::InvalidHandle);
    }
    Ok(Response::ClearEventRecords(Empty))
}

/// A record as it is told: its time is that of the fabric, from its start.
fn record(handle: u16, at: Picos, event: &CapacityEvent) -> EventRecord {
    let header = EventHeader {
        length: 0x80,
        flags: NO_FLAGS,
        handle,
        related_handle: 0,
        timestamp_ns: nanos(at),
        maintenance_operation_class: 0,
        maintenance_operation_subclass: 0,
        ld_id: event.ld,
        head_id: 0,
    };
    let none = Span { start: 0, bytes: 0 };
    let (span, tag, sequence) = event
        .extent
        .map_or((none, crate::capacity::NO_TAG, 0), |it| {
            (it.span, it.tag, it.sequence)
        });
    let body = DynamicCapacityEvent {
        event_type: match event.told {
            Told::Add => DynamicCapacityEventType::AddCapacity,
            Told::Release => DynamicCapacityEventType::ReleaseCapacity,
            Told::ForcedRelease => DynamicCapacityEventType::ForcedCapacityRelease,
            Told::AddAnswered => DynamicCapacityEventType::AddCapacityResponse,
            Told::Released => DynamicCapacityEventType::CapacityReleased,
        },
        validity_flags: 0,
        host_id: event.ld,
        updated_region_index: 0,
        flags: if event.has_more {
            DynamicCapacityEvent::MORE
        } else {
            0
        },
        extent: DpaExtent {
            start_dpa: span.start,
            length: span.bytes,
            tag,
            shared_extent_sequence: sequence,
        },
        available_extents: 0,
        available_tags: 0,
    };
    EventRecord {
        header,
        body: EventBody::DynamicCapacity(body),
    }
}
