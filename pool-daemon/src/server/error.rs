//! Why the servers could not start, or had to stop.

use std::io;
use std::path::PathBuf;

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
    /// The machine is out of descriptors or threads. Raise the limit the source names.
    #[error("cannot set up the {part} of the servers: {source}")]
    Machine {
        /// What could not be set up.
        part: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The address cannot be listened on. Mend the address, or the permissions of its folder.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// As configured.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// Another daemon answers on this socket. Stop it, or configure another path.
    #[error("a running daemon listens on {}", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket has the name of one, and is left alone. Move it away, or
    /// configure another path.
    #[error("{} exists and is no socket", path.display())]
    NotASocket {
        /// What is in the way.
        path: PathBuf,
    },
    /// A certificate or key cannot be read. Mend the path or its permissions.
    #[error("cannot read {}: {source}", path.display())]
    TlsFile {
        /// As configured.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate, the key and the clients' authority do not make a TLS server. Mend
    /// them: PEM, a key that belongs to the certificate, at least one authority.
    #[error("the TLS configuration is refused: {reason}")]
    Tls {
        /// What the TLS library said.
        reason: String,
    },
    /// The message descriptors of this build are damaged. Build it anew.
    #[error("reflection refuses the message descriptors: {reason}")]
    Descriptors {
        /// What the reflection service said.
        reason: String,
    },
    /// A server stopped unasked. Restart the daemon; clients keep what they hold.
    #[error("the server {server} stopped: {reason}")]
    Stopped {
        /// Which.
        server: &'static str,
        /// Why.
        reason: String,
    },
}
