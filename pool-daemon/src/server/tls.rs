//! TLS for the TCP address: a certificate of ours, and one of every client's.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use super::error::ServerError;
use super::socket::PATIENCE;

/// A TCP address for operators of other machines. Every client shows a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpConfig {
    /// Where to listen; port 0 takes any.
    pub listen: SocketAddr,
    /// The daemon's certificate, and those between it and its authority: PEM.
    pub cert: PathBuf,
    /// Its private key: PEM.
    pub key: PathBuf,
    /// The authorities whose clients are operators: PEM.
    pub client_ca: PathBuf,
}

/// Reads the files. What is wrong inside them shows when the server is built.
pub(super) fn load(config: &TcpConfig) -> Result<ServerTlsConfig, ServerError> {
    let identity = Identity::from_pem(read(&config.cert)?, read(&config.key)?);
    let authority = Certificate::from_pem(read(&config.client_ca)?);
    Ok(ServerTlsConfig::new()
        .identity(identity)
        .client_ca_root(authority)
        .client_auth_optional(false)
        .timeout(PATIENCE))
}

fn read(path: &Path) -> Result<Vec<u8>, ServerError> {
    fs::read(path).map_err(|source| ServerError::TlsFile {
        path: path.to_owned(),
        source,
    })
}
