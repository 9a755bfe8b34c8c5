//! The servers of the daemon: the operators' gRPC interface, and the metrics page.
//!
//! They run on one thread with a runtime of its own and reach the engine's thread through
//! [`handle`] alone, so that whatever they are sent, the engine and the clients' sessions go on.
//!
//! | address | protocol | who | what it may do |
//! |---|---|---|---|
//! | `admin_socket` | gRPC | the kernel says | operators all, others look at their own |
//! | `tcp` (off by default) | gRPC over TLS 1.2 or 1.3 | its client certificate says | all |
//! | `metrics_socket` | HTTP/1.1 `GET /metrics` | the kernel says | operators look |
//! | `metrics_listen` (off by default) | HTTP/1.1 `GET /metrics` | nobody asks | look |
//!
//! Health and reflection are served wherever gRPC is.
//!
//! # Bounds
//! Connections per peer (`admit`), silence after connecting (`socket`), concurrent calls of a
//! connection, bytes of a request and of its headers, time of a call, questions that wait for the
//! engine ([`handle`]): each has one, and what exceeds it is refused or closed.

#![forbid(unsafe_code)]

mod admit;
mod error;
mod events;
mod grpc;
pub mod handle;
mod listen;
pub mod metrics;
mod peer;
mod scrape;
mod serve;
mod socket;
mod status;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::watch;

pub use error::ServerError;
pub use tls::TcpConfig;

use handle::Handle;
use metrics::Metrics;

/// Where the servers listen, and who their operators are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// The path of the gRPC socket. Its folder exists.
    pub admin_socket: PathBuf,
    /// The path of the metrics socket. Its folder exists.
    pub metrics_socket: PathBuf,
    /// User ids that are operators, beside root and the daemon's own.
    pub operators: Vec<u32>,
    /// gRPC over TCP.
    pub tcp: Option<TcpConfig>,
    /// The metrics page over TCP. Whoever reaches the address reads it: a loopback address.
    pub metrics_listen: Option<SocketAddr>,
}

/// The running servers. Dropping it stops them as well, without waiting for it.
#[derive(Debug)]
pub struct ServerThread {
    stop: watch::Sender<bool>,
    thread: JoinHandle<Result<(), ServerError>>,
    addresses: Addresses,
}

/// The TCP addresses that were bound, with the ports that were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Addresses {
    /// Of gRPC.
    pub grpc: Option<SocketAddr>,
    /// Of the metrics page.
    pub metrics: Option<SocketAddr>,
}

/// Binds every address and starts serving on a thread of its own.
///
/// # Errors
/// Where an address, a certificate or a key is refused. Nothing listens then.
pub fn spawn(
    config: &ServerConfig,
    handle: Handle,
    metrics: Arc<Metrics>,
) -> Result<ServerThread, ServerError> {
    let (stop, stopping) = watch::channel(false);
    let (servers, addresses) = serve::Servers::bind(config, handle, metrics, stopping)?;
    let thread = thread::Builder::new()
        .name("servers".to_owned())
        .spawn(move || servers.run())
        .map_err(|source| ServerError::Machine {
            part: "thread",
            source,
        })?;
    Ok(ServerThread {
        stop,
        thread,
        addresses,
    })
}

impl ServerThread {
    /// The TCP addresses.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Whether the servers have ended, which unasked they do not. Call [`ServerThread::stop`] to
    /// learn why.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Accepts nothing more, lets the calls under way end for a few seconds, and waits for that.
    ///
    /// # Errors
    /// Where a server had ended before, unasked.
    pub fn stop(self) -> Result<(), ServerError> {
        self.stop.send_replace(true);
        self.thread.join().unwrap_or_else(|_| {
            Err(ServerError::Stopped {
                server: "thread",
                reason: "it panicked; its message is in the log".to_owned(),
            })
        })
    }
}

/// Whether the servers are to stop.
fn stop_wanted(stop: &watch::Receiver<bool>) -> bool {
    *stop.borrow() || stop.has_changed().is_err()
}

/// Completes when the servers are to stop.
async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error says that the `ServerThread` was dropped, which means the same.
    drop(stop.wait_for(|stop| *stop).await);
}
