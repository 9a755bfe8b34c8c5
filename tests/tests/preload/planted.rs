//! The checks are checked: a malloc with a planted bug fails the case that is there for it, and the
//! same malloc without a bug passes them all.
//!
//! The bugs stand in `tests/c/broken.c`.

use crate::build::{NoCompiler, Product};
use crate::library::Library;
use crate::run::outcome;
use tierpool_tests::skipped;

/// A bug, and the case that catches it.
#[derive(Debug)]
struct Planted {
    bug: &'static str,
    program: &'static str,
    case: &'static str,
}

/// The malloc of `broken.c`, which is held to all that ours promises.
fn broken(bug: Option<&'static str>) -> Result<Library, NoCompiler> {
    Ok(Library {
        path: Some(Product::Broken(bug).path()?),
        is_ours: true,
    })
}

fn is_caught(Planted { bug, program, case }: &Planted) {
    let tried = broken(Some(bug)).and_then(|library| outcome(&library, program, case));
    let outcome = match tried {
        Ok(outcome) => outcome,
        Err(NoCompiler(why)) => return skipped(&format!("preload::planted::{bug}"), &why),
    };
    let is_loaded = !outcome.said.contains("malloc of ");
    assert!(is_loaded, "{bug} is not loaded: {}", outcome.said);
    let is_caught = !outcome.status.success() && !outcome.is_not_promised();
    assert!(
        is_caught,
        "{program}::{case} passes {bug}: {}",
        outcome.said
    );
}

macro_rules! planted {
    ($($law:ident: $bug:ident $program:ident $case:ident;)*) => {
        const PLANTED: &[Planted] = &[$(Planted {
            bug: stringify!($bug),
            program: stringify!($program),
            case: stringify!($case),
        },)*];

        $(
            #[test]
            fn $law() {
                is_caught(PLANTED.iter().find(|planted| planted.bug == stringify!($bug)).unwrap());
            }
        )*
    };
}

planted! {
    a_usable_size_that_lies_is_caught:
        USABLE_SIZE_LIES contents every_usable_byte_is_kept_by_realloc;
    a_dirty_calloc_is_caught: CALLOC_IS_DIRTY contents calloc_is_zero_after_dirty_frees;
    a_realloc_that_loses_the_tail_is_caught:
        REALLOC_LOSES_THE_TAIL contents realloc_keeps_contents_as_a_block_grows;
    a_block_handed_out_twice_is_caught: HANDED_OUT_TWICE contents live_blocks_do_not_overlap;
    half_a_block_wasted_is_caught: WASTES_HALF contents waste_within_a_block_is_bounded;
    a_misaligned_block_is_caught:
        MISALIGNED_BY_EIGHT alignment every_size_is_aligned_for_every_type;
    an_ignored_alignment_is_caught: ALIGNMENT_IS_IGNORED alignment requested_alignments_are_kept;
    a_wrong_alignment_taken_is_caught: ANY_ALIGNMENT_WILL_DO family wrong_alignments_are_refused;
    a_refusal_without_enomem_is_caught: NO_ENOMEM family more_than_ptrdiff_max_is_refused;
    a_size_cut_to_its_low_bits_is_caught: SIZES_ARE_CUT family more_than_ptrdiff_max_is_refused;
    a_product_that_overflows_is_caught:
        PRODUCT_OVERFLOWS family products_that_overflow_are_refused;
    an_errno_changed_by_success_is_caught:
        SUCCESS_CHANGES_ERRNO family success_leaves_errno_alone;
    an_errno_changed_by_free_is_caught: FREE_CHANGES_ERRNO family success_leaves_errno_alone;
    a_null_for_no_bytes_is_caught:
        ZERO_IS_NULL family malloc_of_zero_is_unique_and_can_be_freed;
    one_pointer_for_all_of_no_bytes_is_caught:
        ZERO_IS_SHARED family malloc_of_zero_is_unique_and_can_be_freed;
    a_realloc_to_zero_that_keeps_is_caught: REALLOC_TO_ZERO_KEEPS family realloc_to_zero_frees;
}

#[test]
fn without_a_bug_the_same_malloc_passes() {
    // What the C library's malloc below it does not promise.
    let not_of_glibc = ["waste_within_a_block_is_bounded"];
    let others = PLANTED
        .iter()
        .filter(|planted| !not_of_glibc.contains(&planted.case));
    for Planted { program, case, .. } in others {
        let tried = broken(None).and_then(|library| outcome(&library, program, case));
        match tried {
            Ok(outcome) => {
                let status = outcome.status;
                assert!(
                    status.success(),
                    "{program}::{case}: {status} {}",
                    outcome.said
                );
            }
            Err(NoCompiler(why)) => return skipped("preload::planted", &why),
        }
    }
}
