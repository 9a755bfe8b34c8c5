//! Where the servers listen: Unix sockets and TCP addresses.
//!
//! A Unix socket is a file that outlives its process. At the start, one that nobody listens on is
//! replaced; one that a running daemon answers on, and whatever is no socket, is left alone. At the
//! end the file is removed, if it is still the one that was made.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net as std_unix;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::time::{Duration, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tracing::{debug, warn};

use super::admit::Admission;
use super::error::ServerError;
use super::metrics::Metrics;
use super::peer::Peer;
use super::socket::{Patience, Socket, Stream};

/// Everybody may connect; who it is decides what it may do.
const SOCKET_MODE: u32 = 0o666;
/// How long no connection is accepted after the machine refused one: descriptors may be short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound address.
#[derive(Debug)]
pub(super) enum Listener {
    /// A path of this machine, and its file, kept for as long as somebody listens.
    Unix {
        listener: UnixListener,
        _file: SocketFile,
    },
    /// An address of the network.
    Tcp(TcpListener),
}

/// The file of a Unix socket; dropping it removes the file.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    // Device and inode number: another daemon may have replaced the file meanwhile.
    identity: (u64, u64),
}

impl Listener {
    /// Listens on a path. To be called inside the runtime.
    pub(super) fn unix(path: &Path) -> Result<Self, ServerError> {
        remove_stale(path)?;
        bind_unix(path).map_err(|source| ServerError::Bind {
            address: path.display().to_string(),
            source,
        })
    }

    /// Listens on an address; port 0 takes any. To be called inside the runtime.
    pub(super) fn tcp(address: SocketAddr) -> Result<(Self, SocketAddr), ServerError> {
        bind_tcp(address).map_err(|source| ServerError::Bind {
            address: address.to_string(),
            source,
        })
    }

    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let peer = stream.peer_cred()?;
                let peer = Peer::Local {
                    uid: peer.uid(),
                    gid: peer.gid(),
                };
                Ok((Stream::Unix(stream), peer))
            }
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), Peer::Remote(from.ip())))
            }
        }
    }
}

/// A listener that lets connections in as [`Admission`] allows.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) listener: Listener,
    pub(super) admission: Admission,
    pub(super) patience: Patience,
    pub(super) metrics: Arc<Metrics>,
}

impl Door {
    /// The next connection. A failure to accept one is logged, and passes.
    pub(super) async fn next(&self) -> (Socket, Peer) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => match self.admission.admit(peer) {
                    Some(permit) => {
                        return (Socket::new(stream, peer, self.patience, permit), peer);
                    }
                    None => {
                        debug!(?peer, "a connection too many was closed");
                        self.metrics.connection_refused();
                    }
                },
                Err(error) if of_the_peer(&error) => debug!(%error, "a peer left at once"),
                Err(error) => {
                    warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// The connections as a stream, accepted until the stream is dropped.
    pub(super) fn incoming(self) -> ReceiverStream<io::Result<Socket>> {
        // One: a connection is accepted when the server is ready for it.
        let (accepted, incoming) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = accepted.closed() => return,
                    (socket, _) = self.next() => {
                        if accepted.send(Ok(socket)).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        ReceiverStream::new(incoming)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            // The next daemon finds it stale and replaces it.
            warn!(%error, path = %self.path.display(), "the socket could not be removed");
        }
    }
}

/// Whether the peer caused the error. It may not hold the others up.
fn of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, InvalidInput, NotConnected};
    let kinds = [
        ConnectionAborted,
        ConnectionReset,
        InvalidInput,
        NotConnected,
    ];
    kinds.contains(&error.kind())
}

fn remove_stale(path: &Path) -> Result<(), ServerError> {
    let bind_error = |source| ServerError::Bind {
        address: path.display().to_string(),
        source,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(bind_error(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ServerError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    match std_unix::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(bind_error)
        }
        Err(error) => Err(bind_error(error)),
        Ok(_) => Err(ServerError::InUse {
            path: path.to_owned(),
        }),
    }
}

fn bind_unix(path: &Path) -> io::Result<Listener> {
    let listener = std_unix::UnixListener::bind(path)?;
    let found = fs::symlink_metadata(path)?;
    let file = SocketFile {
        path: path.to_owned(),
        identity: (found.dev(), found.ino()),
    };
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    listener.set_nonblocking(true)?;
    Ok(Listener::Unix {
        listener: UnixListener::from_std(listener)?,
        _file: file,
    })
}

fn bind_tcp(address: SocketAddr) -> io::Result<(Listener, SocketAddr)> {
    let listener = std::net::TcpListener::bind(address)?;
    let bound = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    Ok((Listener::Tcp(TcpListener::from_std(listener)?), bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside_runtime(body: impl FnOnce(&Path)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        body(tempfile::tempdir().unwrap().path());
    }

    #[test]
    fn a_socket_that_nobody_listens_on_is_replaced() {
        inside_runtime(|dir| {
            let path = dir.join("admin.sock");
            drop(std_unix::UnixListener::bind(&path).unwrap());
            assert!(path.exists());
            let listener = Listener::unix(&path).unwrap();
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, SOCKET_MODE);
            std_unix::UnixStream::connect(&path).unwrap();
            drop(listener);
            assert!(!path.exists());
        });
    }

    #[test]
    fn a_socket_that_a_running_daemon_answers_on_is_left_alone() {
        inside_runtime(|dir| {
            let path = dir.join("admin.sock");
            let running = std_unix::UnixListener::bind(&path).unwrap();
            let refused = Listener::unix(&path).unwrap_err();
            assert!(matches!(refused, ServerError::InUse { .. }), "{refused}");
            running.accept().unwrap();
            std_unix::UnixStream::connect(&path).unwrap();
        });
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        inside_runtime(|dir| {
            let path = dir.join("admin.sock");
            fs::write(&path, "dear").unwrap();
            let refused = Listener::unix(&path).unwrap_err();
            assert!(
                matches!(refused, ServerError::NotASocket { .. }),
                "{refused}"
            );
            assert_eq!(fs::read(&path).unwrap(), b"dear");
        });
    }

    #[test]
    fn the_socket_of_a_successor_is_not_removed() {
        inside_runtime(|dir| {
            let path = dir.join("admin.sock");
            let old = Listener::unix(&path).unwrap();
            fs::remove_file(&path).unwrap();
            let _new = Listener::unix(&path).unwrap();
            drop(old);
            std_unix::UnixStream::connect(&path).unwrap();
        });
    }
}
