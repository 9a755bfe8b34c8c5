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
    // A child that hangs is what one of them is to show.
    let variables = &[("CHECK_PATIENCE", "5")];
    let tried = broken(Some(bug)).and_then(|library| outcome(&library, program, case, variables));
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
    an_operator_that_returns_null_is_caught: NEW_RETURNS_NULL operators too_much_throws_bad_alloc;
    a_block_that_ends_with_its_thread_is_caught:
        BLOCKS_END_WITH_THEIR_THREAD threads a_thread_s_blocks_outlive_it;
    blocks_that_are_never_freed_are_caught:
        NOTHING_IS_FREED threads twenty_thousand_short_threads_stay_small;
    nothing_for_a_thread_that_ends_is_caught:
        NOTHING_AFTER_THREAD_EXIT threads destructors_of_keys_allocate;
    a_lock_that_a_child_inherits_is_caught:
        FORK_LEAVES_THE_LOCK forks a_child_allocates_while_threads_of_its_parent_do;
    a_handler_of_its_own_is_caught: INSTALLS_A_HANDLER signals blocked_signals_change_nothing;
    a_descriptor_of_its_own_is_caught: HOLDS_A_DESCRIPTOR ending the_library_holds_no_descriptor;
    an_end_instead_of_a_refusal_is_caught:
        EXHAUSTION_ENDS_THE_PROCESS exhaustion a_limit_from_the_start_is_kept;
    memory_that_is_kept_is_caught: NOTHING_GOES_BACK memory small_blocks_go_back;
    a_double_free_that_goes_unseen_is_caught: DOUBLE_FREE_IS_IGNORED misuse a_double_free_is_named;
}

#[test]
fn without_a_bug_the_same_malloc_passes() {
    // What the C library's malloc below it does not promise.
    let not_of_glibc = [
        "waste_within_a_block_is_bounded",
        "small_blocks_go_back",
        "a_double_free_is_named",
    ];
    let others = PLANTED
        .iter()
        .filter(|planted| !not_of_glibc.contains(&planted.case));
    for Planted { program, case, .. } in others {
        let variables = &[];
        let tried = broken(None).and_then(|library| outcome(&library, program, case, variables));
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
