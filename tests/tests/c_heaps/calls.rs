//! The calls of `tierpool.h`, and its example.

use std::process::Command;

use tierpool_tests::skipped;

use crate::build::{NoCompiler, case_program, example};
use crate::scene::{case, daemon, ended};

/// Room for a chunk of each kind for each of a few threads that ask at once.
const MIB: u64 = 768;

macro_rules! cases {
    ($($case:ident;)*) => {
        $(
            #[test]
            fn $case() {
                case("shared", stringify!($case), MIB, &[]);
            }
        )*

        #[test]
        fn no_case_is_left_out() {
            let path = match case_program("shared") {
                Ok(path) => path,
                Err(NoCompiler(why)) => return skipped("c_heaps::calls", &why),
            };
            let listed = Command::new(path).arg("--list").output().unwrap().stdout;
            let listed = String::from_utf8(listed).unwrap();
            assert_eq!(listed.lines().collect::<Vec<_>>(), [$(stringify!($case)),*]);
        }
    };
}

cases! {
    every_code_has_its_name;
    a_list_is_linked_by_one_process_and_retired_by_another;
    null_pointers_are_refused;
    misuse_of_blocks_is_answered;
    misuse_of_cells_is_answered;
    heaps_are_named_and_placed;
    a_heap_without_room_says_so_and_goes_on;
    a_daemon_that_is_not_there_is_told;
    a_forked_child_is_told_and_attaches_anew;
    threads_have_parts_of_their_own;
    one_thread_too_many_is_told;
    a_heap_is_closed_for_all_threads;
}

#[test]
fn the_example_shares_a_list_between_processes() {
    let program = match example("shared_list") {
        Ok(program) => program,
        Err(NoCompiler(why)) => return skipped("c_heaps::example", &why),
    };
    let daemon = daemon(320);
    let run = |arguments: &[&str]| {
        let ended = ended(&daemon, Command::new(&program).args(arguments));
        assert!(ended.status.success(), "{ended:?}");
        ended.said
    };
    assert_eq!(run(&["put", "1", "2"]), "");
    assert_eq!(run(&["put", "3"]), "");
    assert_eq!(run(&["list"]), "3\n2\n1\n");
    assert_eq!(run(&["take"]), "3\n2\n1\n");
    assert_eq!(run(&["list"]), "");
    assert_eq!(run(&["remove"]), "");
    daemon.await_all_free();
}
