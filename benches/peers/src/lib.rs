//! Empty: this package is there for its dependencies, whose C and C++ sources `cargo xtask bench
//! alloc` builds into shared libraries.
