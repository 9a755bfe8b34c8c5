//! What each case was expected to give before it was measured, and what the design asks for.

use super::uncontended::{ONE_WORD, ROBUST};
use crate::results::Claim;

/// Ratios, ours to the peer's.
pub(super) const CLAIMS: [Claim; 14] = [
    Claim::new(
        "lease exclusive, nothing changed",
        ONE_WORD,
        Some(3.0),
        2.6,
        "two compare-exchanges, one store, and the judging of two words",
    ),
    Claim::new(
        "lease exclusive, a change published",
        ONE_WORD,
        Some(3.0),
        3.6,
        "a third compare-exchange raises the version",
    ),
    Claim::new(
        "lease exclusive, nothing changed",
        ROBUST,
        None,
        0.8,
        "the mutex writes its list of what the thread holds twice",
    ),
    Claim::new(
        "lease shared",
        ONE_WORD,
        Some(3.0),
        2.4,
        "two compare-exchanges",
    ),
    Claim::new(
        "lease shared",
        "parking_lot RwLock, read",
        None,
        1.2,
        "the same number of compare-exchanges, without the judging",
    ),
    Claim::new(
        "lease shared, held by another thread of the process",
        "parking_lot RwLock, read",
        None,
        6.0,
        "two locks of the process and an entry in a map, against two compare-exchanges",
    ),
    Claim::new(
        "upgrade and downgrade",
        "parking_lot RwLock, upgrade",
        None,
        1.2,
        "as many compare-exchanges",
    ),
    Claim::new(
        "exclusive, contended by 2: turns of both",
        ROBUST,
        None,
        1.0,
        "both are bound by a line that goes to and fro, and by sleeping",
    ),
    Claim::new(
        "acquire, read and release what another published",
        ROBUST,
        None,
        0.9,
        "one line of the lock and one of the contents are fetched for either",
    ),
    Claim::new(
        "hand-over of 64 B, spinning",
        "iceoryx2, polling",
        Some(2.0),
        0.6,
        "three lines are fetched for the lease, the object and the record; more for a queue, a \
         pool and what is given back",
    ),
    Claim::new(
        "hand-over of 64 B, asleep, on two processors",
        "pipe that carries it",
        None,
        1.0,
        "waking the other processor costs more than everything else",
    ),
    Claim::new(
        "hand-over of 1 GiB, spinning",
        "tierpool, 64 B",
        Some(1.2),
        1.0,
        "nothing depends on the size but one line more",
    ),
    Claim::new(
        "records of 64 B to another process: one producer, one by one",
        "pipe",
        None,
        8.0,
        "a call of the kernel for each record, against two lines that are fetched and a fence",
    ),
    Claim::new(
        "software mode, release after writing 4 KiB",
        "hardware mode",
        None,
        6.0,
        "64 lines of some 8 ns, and the fence waits for them, against a release of some 100 ns",
    ),
];
