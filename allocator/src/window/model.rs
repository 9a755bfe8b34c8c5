//! The window of a model: the one chunk of frames that [`crate::frame::model`] has.

use pool_core::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize};

use super::{FRAMES_KIND, MAX_CHUNKS, Window};
use crate::frame::model::CHUNK;
use crate::layout::CHUNK_BYTES;

impl Window {
    pub(super) fn of_model() -> Self {
        let zero = || AtomicUsize::new(0);
        Self {
            base: AtomicUsize::new(CHUNK),
            bytes: AtomicUsize::new(MAX_CHUNKS * CHUNK_BYTES),
            taken: [AtomicU64::new(u64::MAX)],
            kinds: [AtomicU8::new(FRAMES_KIND)],
            end: AtomicUsize::new(MAX_CHUNKS),
            first: zero(),
            used: zero(),
            idle: zero(),
        }
    }
}
