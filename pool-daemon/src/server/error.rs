//! Why the servers could not start, or had to stop.

/// Why the servers could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The machine is out of descriptors, or the descriptor was taken away. Raise the limit of
    /// open files, and restart the daemon.
    #[error("the servers' eventfd failed with error number {errno}")]
    EventFd {
        /// The error number.
        errno: i32,
    },
}
