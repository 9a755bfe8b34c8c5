//! The control area of a model: a table with the one chunk of [`crate::frame::model`], one root,
//! and a slot for each of three members. It is new in each schedule, and has no tier: there is no
//! other chunk to be had.

use core::array::from_fn;

use pool_core::sync::atomic::{AtomicU32, AtomicU64};

use super::{Control, Entry, Helped, Intent, Member, Name, Root, Slot, Tier};
use crate::frame::model::CHUNK;
use crate::layout::Cut;

pool_core::sync::lazy_static! {
    static ref CONTROL: Control = Control::with_one_chunk();
}

fn zero() -> AtomicU64 {
    AtomicU64::new(0)
}

impl Control {
    pub(crate) fn of_model() -> &'static Self {
        &CONTROL
    }

    fn with_one_chunk() -> Self {
        let entry = Entry::new(CHUNK, Cut::Ordinary, 0, 0);
        Self {
            magic: AtomicU64::new(super::MAGIC),
            generation: AtomicU64::new(1),
            fallbacks: zero(),
            freed_twice: zero(),
            recovered: zero(),
            recovered_blocks: zero(),
            id: zero(),
            unused: zero(),
            tiers: from_fn(|_| Tier {
                name: Name(from_fn(|_| zero())),
                share: AtomicU64::new(2),
                unused: zero(),
            }),
            chunks: from_fn(|_| AtomicU64::new(entry.0)),
            roots: from_fn(|_| Root {
                hash: zero(),
                cell: zero(),
                name: Name(from_fn(|_| zero())),
            }),
            members: from_fn(|_| Member {
                taken: from_fn(|_| zero()),
                retiring: from_fn(|_| zero()),
            }),
            slots: from_fn(|_| Slot {
                era: zero(),
                generation: AtomicU32::new(0),
                intent: Intent {
                    word: zero(),
                    cell: zero(),
                    block: zero(),
                    value: zero(),
                },
                helped: Helped {
                    number: zero(),
                    recoverer: zero(),
                },
                hints: from_fn(|_| zero()),
            }),
        }
    }
}
