//! The laws of a pool heap, between heaps of one process and of several.

mod heap {
    mod laws;
}
