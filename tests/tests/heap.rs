//! The laws of a pool heap, between heaps of one process and of several.

mod heap {
    mod cases;
    mod hostile;
    mod kills;
    mod last;
    mod laws;
    mod oracle;
    mod planted;
    mod points;
    mod scene;
    mod steps;
}
