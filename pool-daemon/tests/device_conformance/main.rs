//! The laws of a device, held by every kind of it.
//!
//! Each law is a function over a [`Subject`]: a device with what is particular about it. A kind
//! that this machine cannot give is skipped with a line that says so.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by a panic, in its helpers too"
)]

mod child;
mod contents;
mod files;
mod held;
mod limits;
#[path = "../support/skipped.rs"]
mod skipped;
mod subject;

use skipped::skipped;
use subject::Subject;

/// Runs each law for each kind of device.
macro_rules! laws {
    ($($module:ident :: $law:ident;)*) => {
        laws!(@kind base, Subject::base, $($module::$law;)*);
        laws!(@kind collapsed, Subject::collapsed, $($module::$law;)*);
        laws!(@kind auto, Subject::auto, $($module::$law;)*);
        laws!(@kind hugetlb, Subject::hugetlb, $($module::$law;)*);
        laws!(@kind bound_to_node_0, Subject::bound, $($module::$law;)*);
        laws!(@kind file, Subject::file, $($module::$law;)*);
        laws!(@kind devdax, Subject::devdax, $($module::$law;)*);
        laws!(@kind kmem, Subject::kmem, $($module::$law;)*);
    };
    (@kind $kind:ident, $make:path, $($module:ident :: $law:ident;)*) => {
        mod $kind {
            use super::*;

            $(
                #[test]
                fn $law() {
                    match $make() {
                        Some(subject) => $module::$law(&subject),
                        None => skipped(
                            concat!(stringify!($kind), "::", stringify!($law)),
                            "this machine has no such files",
                        ),
                    }
                }
            )*
        }
    };
}

laws! {
    files::a_fresh_file_is_private_zeroed_and_all_there;
    files::a_file_that_may_be_shared_never_consists_of_hugetlb_pages;
    files::nobody_resizes_or_seals_a_sealed_file;
    files::a_reader_maps_and_writes_nothing;
    files::another_user_gets_no_more_than_was_given;
    files::a_file_is_found_by_its_name_or_has_none;
    files::a_destroyed_file_leaves_no_pages;
    held::an_open_descriptor_is_seen_until_it_is_closed;
    held::a_bare_mapping_is_seen_until_it_ends;
    held::a_descriptor_under_way_is_seen_until_it_is_dropped;
    held::a_child_process_is_seen_until_it_dies;
    held::duplicates_of_the_master_and_mappings_of_it_do_not_count;
    contents::a_fresh_file_never_shows_what_another_held;
    contents::contents_are_copied_whatever_the_pieces;
    contents::what_came_back_is_adopted_only_if_it_is_the_file_that_was_built;
}
