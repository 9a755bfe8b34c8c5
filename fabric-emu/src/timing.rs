//! How long an access takes, in picoseconds of emulated time.
