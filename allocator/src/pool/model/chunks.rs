//! The chunk is removed while others use it.

use pool_core::sync::Arc;

use super::{MAPPING, process};
use crate::layout::Cut;
use crate::model::with_frames;
use crate::owner::Owner;
use crate::pool::frames::{Seen, Wanted};
use crate::pool::process::Process;

/// The chunk, which `process` has mapped.
fn seen(process: &Process) -> Seen {
    process.chunks.all().next().expect("the chunk is mapped")
}

/// Removes the chunk, as the thread in slot 2; whether nobody had a frame of it.
fn remove(process: &Process, seen: Seen) -> bool {
    let (chunks, control) = (&process.chunks, process.control);
    let removed = chunks.remove(control, &*process.ground, seen, Owner::heap(2, 0));
    removed.expect("it can be removed")
}

/// Catches: chunks.only_reads_who_looks
#[test]
fn a_chunk_is_unmapped_while_no_thread_looks_at_it() {
    with_frames(4).model(|start| {
        let own = Arc::new(process(1, 1));
        let other = Arc::clone(&own);
        let looker = start.spawn(move || {
            let _scan = other.chunks.scan();
            for _ in other.chunks.all() {
                MAPPING.touch();
            }
        });
        assert!(remove(&own, seen(&own)));
        own.refresh().expect("there is none");
        looker.join().unwrap();
        assert_eq!(own.chunks.all().count(), 0);
    });
}

/// Catches: chunks.claims_what_went
#[test]
fn who_claims_frames_of_a_chunk_that_goes_has_them_or_it_stays() {
    with_frames(4).model(|start| {
        let (mine, theirs) = (process(1, 1), process(2, 1));
        let claimer = start.spawn(move || {
            let wanted = Wanted {
                frames: 1,
                align: 1,
                cut: Cut::Ordinary,
                tier: None,
            };
            let claim = theirs
                .chunks
                .claim(theirs.control, Owner::heap(1, 0), &wanted);
            (theirs, claim.is_some())
        });
        let is_gone = remove(&mine, seen(&mine));
        let (_theirs, has_frame) = claimer.join().unwrap();
        assert!(
            !is_gone || !has_frame,
            "it has a frame of a chunk that is gone"
        );
    });
}
