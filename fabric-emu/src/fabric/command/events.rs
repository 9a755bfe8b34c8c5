//! Event logs: of a logical device for its host, and of a memory device for its manager.
//!
//! Dynamic capacity has a log, and so has each severity of errors ([`crate::memdev::Errors`]). What
//! a record tells of an error: type and transaction as Linux, which is 3.1, names them, and no
//! channel, rank or device, for there are none here.

use super::super::Fabric;
use super::{list, mailbox, nanos};
use crate::cci::event_records::{
    DynamicCapacityEvent, DynamicCapacityEventType, EventBody, EventHeader, EventRecord,
    GeneralMediaEvent, MemoryModuleEvent,
};
use crate::cci::events::{
    ClearEventRecordsRequest, EventLog, GetEventRecordsRequest, GetEventRecordsResponse,
};
use crate::cci::generic::Empty;
use crate::cci::{DpaExtent, Request, Response, ReturnCode, U24};
use crate::id::{LdId, MemdevId};
use crate::log::Log;
use crate::memdev::{CapacityEvent, Dated, DatedError, Error, Found, Told};
use crate::span::Span;
use crate::timing::Picos;

/// Bytes of the head of an answer that lists events.
const LIST_HEAD: usize = 0x20;

impl Fabric {
    /// The oldest records of a log of a logical device, or of the manager.
    pub(super) fn events(
        &mut self,
        memdev: MemdevId,
        ld: Option<LdId>,
        asked: &GetEventRecordsRequest,
        room: usize,
    ) -> Result<Response, ReturnCode> {
        let now = self.now;
        let log = asked.event_log;
        let page = |most: usize| (most.saturating_sub(LIST_HEAD) / EventRecord::BYTES, now);
        let device = self.memdev_mut(memdev).ok_or(ReturnCode::InternalError)?;
        if log == EventLog::DynamicCapacity {
            let capacity = match ld {
                Some(ld) => device.log_mut(ld).ok_or(ReturnCode::InternalError)?,
                None => device.manager_log_mut(),
            };
            return told(capacity, page(room), of_capacity);
        }
        let errors = match ld {
            Some(ld) => device.errors_mut(ld).ok_or(ReturnCode::InternalError)?,
            None => device.manager_errors_mut(),
        };
        let errors = errors.log_mut(log).ok_or(ReturnCode::InternalError)?;
        told(errors, page(room), |handle, record| {
            of_error((handle, log, ld), record)
        })
    }

    /// Clears records of a log.
    pub(super) fn clear_events(
        &mut self,
        memdev: MemdevId,
        ld: Option<LdId>,
        asked: &ClearEventRecordsRequest,
    ) -> Result<Response, ReturnCode> {
        let device = self.memdev_mut(memdev).ok_or(ReturnCode::InternalError)?;
        if asked.event_log == EventLog::DynamicCapacity {
            return clear(
                match ld {
                    Some(ld) => device.log_mut(ld).ok_or(ReturnCode::InternalError)?,
                    None => device.manager_log_mut(),
                },
                asked,
            );
        }
        let errors = match ld {
            Some(ld) => device.errors_mut(ld).ok_or(ReturnCode::InternalError)?,
            None => device.manager_errors_mut(),
        };
        let log = errors.log_mut(asked.event_log);
        clear(log.ok_or(ReturnCode::InternalError)?, asked)
    }

    /// The same for a manager.
    pub(super) fn manager_events(
        &mut self,
        memdev: MemdevId,
        request: &Request,
        room: usize,
    ) -> Result<Response, ReturnCode> {
        match request {
            Request::GetEventRecords(asked) => self.events(memdev, None, asked, room),
            Request::ClearEventRecords(asked) => self.clear_events(memdev, None, asked),
            _ => Err(ReturnCode::Unsupported),
        }
    }
}

/// As many of the oldest records as there is room for.
fn told<T>(
    log: &Log<T>,
    (most, now): (usize, Picos),
    record: impl Fn(u16, &T) -> EventRecord,
) -> Result<Response, ReturnCode> {
    let (records, has_more) = log.oldest(most);
    let records: Vec<_> = records.map(|(handle, of)| record(handle, of)).collect();
    let mut response = GetEventRecordsResponse {
        flags: 0,
        overflow_error_count: 0,
        first_overflow_timestamp_ns: 0,
        last_overflow_timestamp_ns: 0,
        records: list(records)?,
    };
    if has_more {
        response.flags |= GetEventRecordsResponse::MORE;
    }
    if let Some(lost) = log.overflow() {
        response.flags |= GetEventRecordsResponse::OVERFLOW;
        response.overflow_error_count = lost.count;
        response.first_overflow_timestamp_ns = nanos(lost.first);
        response.last_overflow_timestamp_ns = nanos(lost.last.min(now));
    }
    Ok(Response::GetEventRecords(response))
}

fn clear<T>(log: &mut Log<T>, asked: &ClearEventRecordsRequest) -> Result<Response, ReturnCode> {
    let is_all = asked.clear_event_flags & ClearEventRecordsRequest::CLEAR_ALL != 0;
    // Either all of them or those that are named: none at all is no clearing.
    if is_all != asked.handles.is_empty() {
        return Err(ReturnCode::InvalidInput);
    }
    if is_all {
        log.clear_all()?;
    } else {
        log.clear(&asked.handles)
            .map_err(|_| ReturnCode::InvalidHandle)?;
    }
    Ok(Response::ClearEventRecords(Empty))
}

/// No bit is set, or nothing is counted.
const NONE: U24 = match U24::new(0) {
    Some(none) => none,
    None => unreachable!(),
};

/// Of the flags of a head: it tells a logical device.
const LD_VALID: u32 = 1 << 7;

/// The head of a record: its time is that of the fabric, from its start. It tells whose it is,
/// where that is a logical device.
fn header((handle, severity): (u16, u8), at: Picos, ld: Option<LdId>) -> EventHeader {
    let valid = if ld.is_some() { LD_VALID } else { 0 };
    let ld_id = ld.unwrap_or(LdId(0));
    EventHeader {
        length: 0x80,
        flags: U24::new(u32::from(severity) | valid).unwrap_or(NONE),
        handle,
        related_handle: 0,
        timestamp_ns: nanos(at),
        maintenance_operation_class: 0,
        maintenance_operation_subclass: 0,
        ld_id,
        head_id: 0,
    }
}

/// A record of dynamic capacity as it is told: informational.
fn of_capacity(handle: u16, &(at, ref event): &Dated) -> EventRecord {
    let none = Span { start: 0, bytes: 0 };
    let (span, tag, sequence) = event
        .extent
        .map_or((none, crate::capacity::NO_TAG, 0), |it| {
            (it.span, it.tag, it.sequence)
        });
    let body = DynamicCapacityEvent {
        event_type: event_type(event),
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
        header: header(
            (handle, EventLog::Informational.number()),
            at,
            Some(event.ld),
        ),
        body: EventBody::DynamicCapacity(body),
    }
}

const fn event_type(event: &CapacityEvent) -> DynamicCapacityEventType {
    match event.told {
        Told::Add => DynamicCapacityEventType::AddCapacity,
        Told::Release => DynamicCapacityEventType::ReleaseCapacity,
        Told::ForcedRelease => DynamicCapacityEventType::ForcedCapacityRelease,
        Told::AddAnswered => DynamicCapacityEventType::AddCapacityResponse,
        Told::Released => DynamicCapacityEventType::CapacityReleased,
    }
}

/// Of an address: the memory is volatile.
const VOLATILE: u64 = 1 << 0;
/// Of a descriptor.
const UNCORRECTABLE: u8 = 1 << 0;
const THRESHOLD: u8 = 1 << 1;
/// Of the flags of a threshold: it was exceeded.
const EXCEEDED: u8 = 1 << 1;
/// Of the types of a media record.
const ECC: u8 = 0;
const SCRUBBED_ECC: u8 = 4;
/// Of the types of a module record: its health is another one.
const HEALTH_CHANGED: u8 = 0;

/// A record of an error as it is told; its severity is that of its log.
fn of_error(
    (handle, log, ld): (u16, EventLog, Option<LdId>),
    &(at, error): &DatedError,
) -> EventRecord {
    let body = match error {
        Error::Line { address, found } => EventBody::GeneralMedia(GeneralMediaEvent {
            memory_event_descriptor: UNCORRECTABLE,
            memory_event_type: if found == Found::Scrubbed {
                SCRUBBED_ECC
            } else {
                ECC
            },
            transaction_type: match found {
                Found::Unknown => 0,
                Found::Read => 1,
                Found::Injected => 4,
                Found::Scrubbed => 5,
            },
            ..media(address, 0)
        }),
        // It names no line: errors were of the logical device, whose memory begins there.
        Error::Corrected { address, count } => EventBody::GeneralMedia(GeneralMediaEvent {
            memory_event_descriptor: if log == EventLog::Warning {
                THRESHOLD
            } else {
                0
            },
            threshold_event_flags: if log == EventLog::Warning {
                EXCEEDED
            } else {
                0
            },
            ..media(address, count)
        }),
        Error::Worn { count } => EventBody::MemoryModule(MemoryModuleEvent {
            device_event_type: HEALTH_CHANGED,
            device_health: mailbox::health_at(count),
            validity_flags: 0,
            component_identifier: [0; 16],
            device_event_subtype: 0,
        }),
    };
    EventRecord {
        header: header((handle, log.number()), at, ld),
        body,
    }
}

/// Something of the media, of which no more is known. A count that is larger than its field is told
/// as the largest.
fn media(address: u64, corrected: u32) -> GeneralMediaEvent {
    GeneralMediaEvent {
        physical_address: address | VOLATILE,
        memory_event_descriptor: 0,
        memory_event_type: ECC,
        transaction_type: 0,
        validity_flags: 0,
        channel: 0,
        rank: 0,
        device: NONE,
        component_identifier: [0; 16],
        threshold_event_flags: 0,
        corrected_error_count: U24::new(corrected.min(0x00ff_ffff)).unwrap_or(NONE),
        memory_event_subtype: 0,
    }
}
