//! `[grpc]` and `[metrics]`: what listens on TCP. Nothing does unless it is told to.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::super::reader::{Item, Section};
use super::super::{ConfigError, Grpc};
use super::{path, required};

/// What the kernel takes as a path, less its final zero.
const PATH_BYTES_MAX: usize = 4_095;
const AN_ADDRESS: &str = "an IP address and a port from 1 to 65535, as \"127.0.0.1:7000\"";

pub(super) fn grpc(mut section: Section<'_>) -> Result<Grpc, ConfigError> {
    let written = address(&mut section, "tcp_listen", AN_ADDRESS, |_| true)?;
    let tcp_listen = required(&section, "tcp_listen", AN_ADDRESS, written)?.value;
    let mut file = |key| -> Result<PathBuf, ConfigError> {
        let written = path(&mut section, key, PATH_BYTES_MAX)?;
        let allowed = "an absolute path: [grpc] takes all of tcp_listen, cert, key and client_ca";
        Ok(required(&section, key, allowed, written)?.value)
    };
    let (cert, key, client_ca) = (file("cert")?, file("key")?, file("client_ca")?);
    section.finish()?;
    Ok(Grpc {
        tcp_listen,
        cert,
        key,
        client_ca,
    })
}

pub(super) fn metrics(mut section: Section<'_>) -> Result<Option<SocketAddr>, ConfigError> {
    let remote = section
        .boolean("allow_remote")?
        .is_some_and(|remote| remote.value);
    let allowed = "a loopback address and a port from 1 to 65535, as \"127.0.0.1:9464\", unless \
                   metrics.allow_remote is true";
    let fits = |address: SocketAddr| remote || address.ip().is_loopback();
    let listen = address(&mut section, "listen", allowed, fits)?;
    section.finish()?;
    Ok(listen.map(|listen| listen.value))
}

fn address(
    section: &mut Section<'_>,
    key: &'static str,
    allowed: &str,
    fits: impl Fn(SocketAddr) -> bool,
) -> Result<Option<Item<SocketAddr>>, ConfigError> {
    let parse = |text: String| {
        let address: SocketAddr = text.parse().ok()?;
        (address.port() != 0 && fits(address)).then_some(address)
    };
    section
        .text(key, allowed)?
        .map(|text| text.convert(allowed, parse))
        .transpose()
}
