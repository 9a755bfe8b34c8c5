//! The laws of a pool heap, between heaps of one process and of several.

mod heap {
    mod cases;
    mod laws;
    mod planted;
    mod points;
    mod scene;
    mod steps;
}
