//! Programs that were built for any malloc run with Tierpool's library preloaded, and find in it
//! all that they may expect.
//!
//! The programs stand in `tests/c`, one for each subject, and are built here with the system's
//! compilers. Each of their cases is a test, run in a process of its own: `check.h` says how. Cases
//! that are promises of Tierpool's alone know themselves. The checks are checked in turn: a malloc
//! with a planted bug must fail the case that is there for it ([`planted`]).
//!
//! `TIERPOOL_LIBRARY` names another library to be tested, or `system`.

#[path = "preload/build.rs"]
mod build;
#[path = "preload/library.rs"]
mod library;
#[path = "preload/planted.rs"]
mod planted;
#[path = "preload/run.rs"]
mod run;

macro_rules! cases {
    ($program:ident: $($case:ident;)*) => {
        mod $program {
            $(
                #[test]
                fn $case() {
                    crate::run::case(stringify!($program), stringify!($case));
                }
            )*

            #[test]
            fn no_case_is_left_out() {
                crate::run::has_the_cases(stringify!($program), &[$(stringify!($case)),*]);
            }
        }
    };
}

cases! { family:
    every_function_is_the_library_s;
    malloc_of_zero_is_unique_and_can_be_freed;
    null_is_freed_measured_and_grown;
    realloc_to_zero_frees;
    products_that_overflow_are_refused;
    more_than_ptrdiff_max_is_refused;
    success_leaves_errno_alone;
    wrong_alignments_are_refused;
    pvalloc_gives_whole_pages;
    what_libc_allocates_can_be_freed;
    sized_frees_free;
}

cases! { alignment:
    every_size_is_aligned_for_every_type;
    the_smallest_sizes_are_aligned_too;
    requested_alignments_are_kept;
    many_aligned_blocks_live_at_once;
    valloc_gives_pages;
}

cases! { contents:
    every_usable_byte_is_kept_by_realloc;
    calloc_is_zero_after_dirty_frees;
    realloc_keeps_contents_as_a_block_grows;
    realloc_keeps_contents_as_a_block_shrinks;
    realloc_jumps_between_all_sizes;
    live_blocks_do_not_overlap;
    waste_within_a_block_is_bounded;
}
