//! The connection to the daemon: a Unix socket, or TLS with certificates on both sides.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use pool_core::socket::{NotFound, find};
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
                None => match find("admin.sock") {
                    Ok(path) => Ok(Self::Socket(path)),
                    Err(NotFound { tried, .. }) => Err(CtlError::NoSocket { tried }),
                },
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

fn read(path: &Path) -> Result<Vec<u8>, CtlError> {
    fs::read(path).map_err(|source: io::Error| CtlError::File {
        path: path.to_owned(),
        source,
    })
}
