//! What the records of a dynamic capacity log say.

use fabric_emu::cci::Tag;
use fabric_emu::cci::event_records::{
    DynamicCapacityEvent, DynamicCapacityEventType, EventBody, EventRecord,
};
use fabric_emu::span::Span;

/// What one record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// A piece is offered; the next record has another one of the same offer.
    Offered {
        piece: Span,
        tag: Tag,
        /// Several hosts may have it.
        is_sharable: bool,
        has_more: bool,
    },
    /// A piece is asked back.
    AskedBack(Span),
    /// A piece was taken by force.
    Taken(Span),
    /// A region is another one now.
    Reconfigured,
    /// Nothing that is of interest here.
    Other,
}

/// Pieces that are offered together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) pieces: Vec<Span>,
    pub(super) tag: Tag,
}

pub(super) fn news(record: &EventRecord) -> News {
    let EventBody::DynamicCapacity(event) = &record.body else {
        return News::Other;
    };
    let has_more = event.flags & DynamicCapacityEvent::MORE != 0;
    let (start, bytes) = (event.extent.start_dpa, event.extent.length);
    let piece = Span { start, bytes };
    match event.event_type {
        DynamicCapacityEventType::AddCapacity => {
            let tag = event.extent.tag;
            News::Offered {
                piece,
                tag,
                is_sharable: event.extent.shared_extent_sequence != 0,
                has_more,
            }
        }
        DynamicCapacityEventType::ReleaseCapacity => News::AskedBack(piece),
        DynamicCapacityEventType::ForcedCapacityRelease => News::Taken(piece),
        DynamicCapacityEventType::RegionConfigurationUpdated => News::Reconfigured,
        DynamicCapacityEventType::AddCapacityResponse
        | DynamicCapacityEventType::CapacityReleased => News::Other,
    }
}
