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

cases! { threads:
    threads_free_each_other_s_blocks;
    a_producer_s_blocks_come_back_to_it;
    a_thread_s_blocks_outlive_it;
    twenty_thousand_short_threads_stay_small;
    destructors_of_keys_allocate;
    the_smallest_stack_is_enough;
    a_cancelled_thread_frees;
}

cases! { forks:
    a_child_allocates_while_threads_of_its_parent_do;
    threads_fork_at_once;
    a_line_of_children_goes_deep;
    vfork_and_spawn_run_programs;
    a_raw_clone_allocates;
    a_clone_in_the_same_memory_allocates;
}

cases! { linked:
    handlers_of_fork_allocate;
    libraries_come_and_go;
    threads_open_and_close_libraries;
    a_failed_dlopen_leaves_its_message;
}

cases! { ending:
    what_a_constructor_allocates_is_whole;
    handlers_at_exit_allocate;
    a_process_ends_while_threads_allocate;
    the_main_thread_may_leave_first;
    a_process_without_standard_files_allocates;
    a_process_starts_without_standard_files;
    the_library_holds_no_descriptor;
    an_empty_environment_will_do;
}

cases! { signals:
    signals_interrupt_and_break_nothing;
    signals_interrupt_starts_and_forks;
    a_handler_runs_on_its_own_stack;
    blocked_signals_change_nothing;
}

cases! { exhaustion:
    a_limit_from_the_start_is_kept;
    a_limit_set_later_harms_nothing;
    threads_run_out_together;
    a_new_thread_finds_no_memory;
}

cases! { memory:
    big_blocks_go_back;
    small_blocks_go_back;
    blocks_of_a_dead_thread_go_back;
    blocks_freed_elsewhere_go_back;
    memory_of_one_size_serves_another;
    a_growing_block_costs_no_more_than_itself;
}

cases! { misuse:
    a_double_free_is_named;
    a_double_free_at_once_is_named;
    a_double_free_long_after_is_named_where_all_are_checked;
    a_double_free_by_another_thread_is_named;
    a_double_free_after_another_thread_s_is_named_where_all_are_checked;
    a_realloc_of_a_freed_block_is_named;
    an_interior_pointer_is_named;
    a_pointer_that_is_no_block_is_named;
    a_double_free_ends_a_process_without_standard_error;
}

cases! { operators:
    every_form_of_new_and_delete_works;
    every_aligned_form_works;
    zero_bytes_of_new_are_unique;
    too_much_throws_bad_alloc;
    the_new_handler_is_asked;
    containers_hold_what_they_are_given;
    exceptions_fly_through_threads;
    destructors_of_threads_allocate;
    globals_live_before_and_after_main;
}
