//! Event logs: read, cleared, and who is told.
//!
//! Set 01h. Compared with libcxlmi and QEMU, which agree. The flag that clears all is recalled, not
//! compared.

use super::bytes::{Fixed, Malformed, Reader, Wire, Writer};
use super::event_records::EventRecord;
use super::layout::{codes, layout, listed};

codes! {
    /// A log of events.
    EventLog: u8 {
        /// What is worth knowing.
        0 Informational,
        /// What may become worse.
        1 Warning,
        /// What went wrong.
        2 Failure,
        /// What ended it.
        3 Fatal,
        /// What is asked of a host about dynamic capacity.
        4 DynamicCapacity,
    }
}

layout! {
    /// Which log is read (0100h).
    GetEventRecordsRequest = 0x01 {
        /// Which one.
        0x00 event_log: EventLog,
    }
}

/// How many records fit in one payload.
pub const EVENT_RECORDS_MAX: usize = super::most_of(EventRecord::BYTES);

listed! {
    /// The oldest records of a log (0100h).
    GetEventRecordsResponse = 0x20 {
        /// Bit 0: records were lost. Bit 1: there are more.
        0x00 flags: u8,
        /// How many were lost.
        0x02 overflow_error_count: u16,
        /// When the first was lost, in nanoseconds.
        0x04 first_overflow_timestamp_ns: u64,
        /// When the last was lost, in nanoseconds.
        0x0c last_overflow_timestamp_ns: u64,
    } then {
        /// The records.
        records: [EventRecord; EVENT_RECORDS_MAX], u16 at 0x14
    }
}

impl GetEventRecordsResponse {
    /// Flag: records were lost.
    pub const OVERFLOW: u8 = 1 << 0;
    /// Flag: there are more.
    pub const MORE: u8 = 1 << 1;
}

listed! {
    /// Which records are done with (0101h).
    ClearEventRecordsRequest = 0x06 {
        /// Of which log.
        0x00 event_log: EventLog,
        /// Bit 0: all of them.
        0x01 clear_event_flags: u8; bits 0x01,
    } then {
        /// The handles of the records.
        handles: [u16; 0xff], u8 at 0x02
    }
}

impl ClearEventRecordsRequest {
    /// Flag: all records, whatever their handles.
    pub const CLEAR_ALL: u8 = 1 << 0;
}

layout! {
    /// The four settings that every version has.
    Severities = 0x04 {
        /// Of the informational log.
        0x00 informational: u8,
        /// Of the warning log.
        0x01 warning: u8,
        /// Of the failure log.
        0x02 failure: u8,
        /// Of the fatal log.
        0x03 fatal: u8,
    }
}

/// How a host is told of events, of Get (0102h) and Set Event Interrupt Policy (0103h).
///
/// A setting has the mode in bits 1:0 (0 none, 1 MSI or MSI-X, 2 firmware) and the interrupt
/// message number in bits 7:4. The fifth byte is there from CXL 3.0 on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventInterruptPolicy {
    /// Of the logs by severity.
    pub severities: Severities,
    /// Of the dynamic capacity log; nothing from a sender that knows of none.
    pub dynamic_capacity: Option<u8>,
}

impl Wire for EventInterruptPolicy {
    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let reader = Reader::new(bytes);
        let severities = reader.at(0x00)?;
        if bytes.len() == Severities::BYTES {
            return Ok(Self {
                severities,
                dynamic_capacity: None,
            });
        }
        reader.ends_at(0x05)?;
        Ok(Self {
            severities,
            dynamic_capacity: Some(reader.at(0x04)?),
        })
    }

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.at(0x00, &self.severities);
        if let Some(setting) = &self.dynamic_capacity {
            writer.at(0x04, setting);
        }
        writer.into_bytes()
    }
}

#[cfg(test)]
impl super::sample::Sample for EventInterruptPolicy {
    fn sample(source: &mut super::sample::Source) -> Self {
        Self {
            severities: source.sample(),
            dynamic_capacity: source.sample(),
        }
    }
}
