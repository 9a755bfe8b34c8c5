//! What the demonstration says to its clients, a line of JSON each, and what each is answered.

use serde::{Deserialize, Serialize};

/// One of the segments that a client may hold at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Slot {
    /// In the memory of its host.
    Local,
    /// In the pooled device.
    Far,
    /// There as well, for a moment.
    Probe,
}

/// What a client is told to do.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Creates a segment, and waits for so long until there is memory for it.
    Hold {
        slot: Slot,
        bytes: u64,
        wait_ms: u64,
    },
    /// Writes into each page of a segment, as the seed says.
    Fill { slot: Slot, seed: u64 },
    /// Tells whether each page of a segment is as the seed says, but for the part that was told
    /// lost.
    Holds { slot: Slot, seed: u64 },
    /// Tells whether no page of a segment has been written.
    IsZero { slot: Slot },
    /// Lets go of a segment.
    Free { slot: Slot },
    /// Waits for the next event that tells of something lost.
    Event { wait_ms: u64 },
}

/// What a client answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// It has attached; said once, unasked.
    Attached { client: u64 },
    /// It holds this segment.
    Held { segment: u64 },
    /// It is done.
    Done,
    /// The answer to a question.
    Truth(bool),
    /// The segment of the slot is lost as a whole.
    Lost { slot: Slot },
    /// A part of the segment of the slot is lost.
    Damaged { slot: Slot, offset: u64, bytes: u64 },
    /// Nothing was lost within the time.
    Nothing,
    /// It cannot be done, and why.
    Refused { why: String, is: Refusal },
}

/// What a refusal means, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refusal {
    /// There is not so much memory.
    Full,
    /// The contents are lost.
    Lost,
    /// Anything else.
    Other,
}
