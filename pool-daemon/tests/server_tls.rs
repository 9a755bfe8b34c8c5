//! gRPC over TCP: who shows a certificate of the right authority is an operator, others are nobody.

#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

#[path = "support/fake.rs"]
#[expect(
    dead_code,
    reason = "the other tests of the servers use the rest of it"
)]
mod fake;

use std::path::{Path, PathBuf};

use fake::{Fake, small_pool};
use pool_daemon::server::handle::{Caller, Handle};
use pool_daemon::server::{ServerConfig, ServerError, TcpConfig, spawn};
use pool_proto::admin::v1 as admin;
use pool_proto::admin::v1::pool_client::PoolClient;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use tonic::Status;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

/// A certificate authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key: PEM.
struct Holder {
    cert: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> Holder {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        Holder {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// A daemon on a TCP address that trusts the clients of `authority`.
fn daemon(folder: &Path, authority: &Authority) -> Fake {
    let own = authority.issue("localhost", ExtendedKeyUsagePurpose::ServerAuth);
    let tcp = TcpConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        cert: write(folder, "cert.pem", &own.cert),
        key: write(folder, "key.pem", &own.key),
        client_ca: write(folder, "ca.pem", &authority.0.pem()),
    };
    Fake::with(Box::new(small_pool), |config| config.tcp = Some(tcp))
}

/// Connects and asks for the status. In TLS 1.3 a client without a certificate *connects*; it is
/// its first call that fails.
fn ask(fake: &Fake, authority: &Authority, client: Option<&Holder>) -> Result<(), Status> {
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority.0.pem()))
        .domain_name("localhost");
    if let Some(client) = client {
        tls = tls.identity(Identity::from_pem(&client.cert, &client.key));
    }
    let address = fake.servers().addresses().grpc.unwrap();
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
    let endpoint = endpoint.tls_config(tls).unwrap();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            let mut pool = PoolClient::new(endpoint.connect_lazy());
            pool.get_status(admin::GetStatusRequest {}).await.map(drop)
        })
}

#[test]
fn a_client_with_a_certificate_of_our_authority_is_an_operator() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let fake = daemon(folder.path(), &authority);
    let client = authority.issue("operator", ExtendedKeyUsagePurpose::ClientAuth);
    ask(&fake, &authority, Some(&client)).unwrap();
    assert_eq!(fake.asked().first().unwrap().0, Caller::REMOTE_OPERATOR);
}

#[test]
fn a_client_without_a_certificate_gets_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let fake = daemon(folder.path(), &authority);
    ask(&fake, &authority, None).unwrap_err();
    assert!(fake.asked().is_empty());
}

#[test]
fn a_certificate_of_another_authority_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let fake = daemon(folder.path(), &authority);
    let forged = stranger.issue("operator", ExtendedKeyUsagePurpose::ClientAuth);
    ask(&fake, &authority, Some(&forged)).unwrap_err();
    assert!(fake.asked().is_empty());
}

#[test]
fn files_that_make_no_tls_server_are_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let authority = Authority::new();
    let own = authority.issue("localhost", ExtendedKeyUsagePurpose::ServerAuth);
    let other = authority.issue("localhost", ExtendedKeyUsagePurpose::ServerAuth);
    let right = TcpConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        cert: write(folder, "cert.pem", &own.cert),
        key: write(folder, "key.pem", &own.key),
        client_ca: write(folder, "ca.pem", &authority.0.pem()),
    };
    let refused = |tcp: TcpConfig| {
        let config = ServerConfig {
            admin_socket: folder.join("admin.sock"),
            metrics_socket: folder.join("metrics.sock"),
            operators: Vec::new(),
            tcp: Some(tcp),
            metrics_listen: None,
        };
        let (handle, _inbox) = Handle::new(std::num::NonZeroU16::MIN).unwrap();
        spawn(&config, handle, std::sync::Arc::default()).unwrap_err()
    };
    let nothing = write(folder, "nothing.pem", "");
    for wrong in [
        TcpConfig {
            key: write(folder, "other.pem", &other.key),
            ..right.clone()
        },
        TcpConfig {
            key: nothing.clone(),
            ..right.clone()
        },
        TcpConfig {
            cert: nothing.clone(),
            ..right.clone()
        },
        TcpConfig {
            client_ca: nothing,
            ..right.clone()
        },
    ] {
        let error = refused(wrong.clone());
        assert!(
            matches!(error, ServerError::Tls { .. }),
            "{wrong:?}: {error}"
        );
    }
    let missing = TcpConfig {
        cert: folder.join("missing.pem"),
        ..right
    };
    let error = refused(missing);
    assert!(matches!(error, ServerError::TlsFile { .. }), "{error}");
}
