//! The connection to the daemon: a Unix socket, or TLS with certificates on both sides.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use nix::unistd::geteuid;
use pool_proto::admin::v1::pool_client::PoolClient;
use tokio::net::UnixStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Response, Status};

use crate::cli::Target;
use crate::error::{CtlError, first_cause};

/// An answer of 1,000 segments, each on many devices and with many holders, is a few MiB.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A daemon that answers.
#[derive(Debug)]
pub(crate) struct Pool {
    /// Its calls.
    pub(crate) calls: PoolClient<Channel>,
    address: String,
    wait: Duration,
}

/// Where the daemon is.
#[derive(Debug)]
pub(crate) enum Address {
    Socket(PathBuf),
    Tls {
        url: String,
        tls: Box<ClientTlsConfig>,
    },
}

impl Address {
    /// What the command line and the environment say, or where sockets are.
    pub(crate) fn of(target: &Target) -> Result<Self, CtlError> {
        let files = [&target.ca, &target.cert, &target.key];
        let Some(url) = &target.address else {
            if files.iter().any(|file| file.is_some()) {
                return Err(CtlError::Combination {
                    given: "--ca, --cert and --key",
                    rule: "belong to --address",
                });
            }
            return match &target.socket {
                Some(path) => Ok(Self::Socket(path.clone())),
                None => default_socket().map(Self::Socket),
            };
        };
        if !url.starts_with("https://") {
            return Err(CtlError::Combination {
                given: "--address",
                rule: "begins with https://",
            });
        }
        let [Some(ca), Some(cert), Some(key)] = files else {
            return Err(CtlError::Combination {
                given: "--address",
                rule: "needs --ca, --cert and --key",
            });
        };
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read(ca)?))
            .identity(Identity::from_pem(read(cert)?, read(key)?));
        Ok(Self::Tls {
            url: url.clone(),
            tls: Box::new(tls),
        })
    }
}

impl Pool {
    /// Connects, and waits at most `wait` for that and for each answer.
    pub(crate) async fn connect(address: Address, wait: Duration) -> Result<Self, CtlError> {
        let (named, connected) = match address {
            Address::Socket(path) => {
                let named = path.display().to_string();
                // The name in the URL is never looked up: the connector knows the path.
                let endpoint = Endpoint::from_static("http://tierpool");
                let connector = tower::service_fn(move |_| {
                    let path = path.clone();
                    async move { UnixStream::connect(path).await.map(TokioIo::new) }
                });
                let endpoint = endpoint.timeout(wait).connect_timeout(wait);
                (named, endpoint.connect_with_connector(connector).await)
            }
            Address::Tls { url, tls } => {
                let refused = |error: tonic::transport::Error| CtlError::Address {
                    address: url.clone(),
                    reason: first_cause(&error),
                };
                let endpoint = Endpoint::from_shared(url.clone())
                    .and_then(|endpoint| endpoint.tls_config(*tls))
                    .map_err(refused)?
                    .timeout(wait)
                    .connect_timeout(wait);
                (url, endpoint.connect().await)
            }
        };
        let channel = connected.map_err(|error| CtlError::Unreachable {
            address: named.clone(),
            reason: first_cause(&error),
        })?;
        Ok(Self {
            calls: PoolClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX),
            address: named,
            wait,
        })
    }

    /// The answer inside a response, or what its status means.
    pub(crate) fn answer<T>(&self, response: Result<Response<T>, Status>) -> Result<T, CtlError> {
        response
            .map(Response::into_inner)
            .map_err(|status| self.error(&status))
    }

    /// What a status of this daemon means.
    pub(crate) fn error(&self, status: &Status) -> CtlError {
        CtlError::from_status(status, &self.address, self.wait)
    }

    /// The daemon said what cannot be right.
    pub(crate) fn corrupt(&self, reason: String) -> CtlError {
        let address = self.address.clone();
        CtlError::Corrupt { address, reason }
    }

    /// The daemon ended a stream that has no end.
    pub(crate) fn ended(&self) -> CtlError {
        CtlError::Unreachable {
            address: self.address.clone(),
            reason: "it ended the stream".to_owned(),
        }
    }
}

/// The first socket there is of those a daemon makes by default.
fn default_socket() -> Result<PathBuf, CtlError> {
    let uid = geteuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let tried = candidates(uid, runtime.as_deref());
    match tried.iter().find(|path| is_trusted(path, uid)) {
        Some(path) => Ok(path.clone()),
        None => Err(CtlError::NoSocket { tried }),
    }
}

fn candidates(uid: u32, runtime: Option<&Path>) -> Vec<PathBuf> {
    let system = PathBuf::from("/run/tierpool/admin.sock");
    if uid == 0 {
        return vec![system];
    }
    let own = runtime.map(|folder| folder.join("tierpool/admin.sock"));
    let fallback = PathBuf::from(format!("/tmp/tierpool-{uid}/admin.sock"));
    own.into_iter().chain([fallback, system]).collect()
}

/// Whether the socket is there, in a folder of ours or of root's that nobody else may write: in
/// /tmp anybody can put one up.
fn is_trusted(path: &Path, uid: u32) -> bool {
    let folder_owner = path
        .parent()
        .and_then(|folder| fs::symlink_metadata(folder).ok());
    let ours = folder_owner.is_some_and(|folder| {
        let owned = folder.uid() == uid || folder.uid() == 0;
        owned && folder.is_dir() && folder.mode() & 0o022 == 0
    });
    let system = path.starts_with("/run");
    (ours || system) && path.exists()
}

fn read(path: &Path) -> Result<Vec<u8>, CtlError> {
    fs::read(path).map_err(|source: io::Error| CtlError::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_user_looks_for_its_own_daemon_before_the_systems() {
        let tried = candidates(1000, Some(Path::new("/run/user/1000")));
        let expected = [
            "/run/user/1000/tierpool/admin.sock",
            "/tmp/tierpool-1000/admin.sock",
            "/run/tierpool/admin.sock",
        ];
        assert_eq!(tried, expected.map(PathBuf::from));
        assert_eq!(
            candidates(0, None),
            [PathBuf::from("/run/tierpool/admin.sock")]
        );
    }

    #[test]
    fn a_socket_in_a_folder_of_somebody_else_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let owner = geteuid().as_raw();
        assert!(!is_trusted(&path, owner));
        fs::write(&path, "").unwrap();
        assert!(is_trusted(&path, owner));
        let with_mode = |mode| {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            is_trusted(&path, owner)
        };
        assert_eq!([0o775, 0o757, 0o700].map(with_mode), [false, false, true]);
        // Root's folders are everybody's to trust: it is refused where the test is not root's only.
        assert_eq!(is_trusted(&path, owner + 1), owner == 0);
    }
}
