//! The thread of the servers: binds, serves, and stops with a deadline.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tonic::service::Routes;
use tonic::transport::{Server, ServerTlsConfig};
use tonic_health::server::{HealthReporter, health_reporter};
use tracing::{info, warn};

use super::admit::Admission;
use super::grpc::{REQUEST_BYTES_MAX, Service};
use super::handle::Handle;
use super::listen::{Door, Listener};
use super::metrics::Metrics;
use super::peer::Operators;
use super::socket::Patience;
use super::{Addresses, ServerConfig, ServerError, scrape, stop_wanted, stopped, tls};
use pool_proto::admin::v1::pool_server::PoolServer;

/// How long a call may take, from its headers to those of its answer.
const CALL_MAX: Duration = Duration::from_secs(10);
/// How long calls under way may go on after the servers are to stop.
const STOP_MAX: Duration = Duration::from_secs(3);
/// Calls of one connection that run at once; further ones wait.
const CALLS_AT_ONCE_MAX: usize = 32;
/// Streams of one connection, events included; further ones are refused.
const STREAMS_MAX: u32 = 64;
/// Bytes of the headers of one call.
const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// Bytes that a peer may send before they are read, for one call and for one connection.
const CALL_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
/// How often a quiet peer on another machine is asked whether it lives, and how long it may think.
const REMOTE_PING: Duration = Duration::from_secs(20);

/// Everything bound and ready to run.
#[derive(Debug)]
pub(super) struct Servers {
    runtime: Runtime,
    stop: watch::Receiver<bool>,
    operators: Operators,
    routes: Routes,
    health: HealthReporter,
    grpc: Vec<(&'static str, Server, Door)>,
    scrapes: Vec<(&'static str, Door)>,
}

impl Servers {
    /// Binds every address of `config`.
    pub(super) fn bind(
        config: &ServerConfig,
        handle: Handle,
        metrics: Arc<Metrics>,
        stop: watch::Receiver<bool>,
    ) -> Result<(Self, Addresses), ServerError> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| ServerError::Machine {
                part: "runtime",
                source,
            })?;
        let _inside = runtime.enter();
        let operators = Operators::new(&config.operators);
        let doors = Doors {
            operators: operators.clone(),
            admission: Admission::new(operators.clone()),
            metrics: Arc::clone(&metrics),
        };
        let (grpc, grpc_address) = doors.grpc(config)?;
        let (scrapes, metrics_address) = doors.scrapes(config)?;
        let service = Service {
            handle,
            operators: operators.clone(),
            metrics,
            stop: stop.clone(),
        };
        let (routes, health) = routes(service)?;
        let servers = Self {
            stop,
            operators,
            routes,
            health,
            grpc,
            scrapes,
            runtime,
        };
        let addresses = Addresses {
            grpc: grpc_address,
            metrics: metrics_address,
        };
        Ok((servers, addresses))
    }

    /// Serves until told to stop.
    pub(super) fn run(self) -> Result<(), ServerError> {
        let Self {
            runtime,
            stop,
            operators,
            routes,
            health,
            grpc,
            scrapes,
        } = self;
        runtime.block_on(async move {
            let mut servers = JoinSet::new();
            for (name, mut server, door) in grpc {
                let router = server.add_routes(routes.clone());
                let stop = stopped(stop.clone());
                servers.spawn(async move {
                    let served = router.serve_with_incoming_shutdown(door.incoming(), stop);
                    (name, served.await.map_err(|error| error.to_string()))
                });
            }
            for (name, door) in scrapes {
                let served = scrape::serve(door, operators.clone(), stopped(stop.clone()));
                servers
                    .spawn(async move { (name, served.await.map_err(|error| error.to_string())) });
            }
            health.set_serving::<PoolServer<Service>>().await;
            watch_over(servers, stop, health).await
        })
    }
}

/// The name of a server, and how it ended.
type Ended = (&'static str, Result<(), String>);

/// Waits for the end of the servers, which is a failure unless it was asked for.
async fn watch_over(
    mut servers: JoinSet<Ended>,
    stop: watch::Receiver<bool>,
    health: HealthReporter,
) -> Result<(), ServerError> {
    tokio::select! {
        () = stopped(stop.clone()) => {}
        ended = servers.join_next() => {
            // The wish to stop may reach a server before it reaches this place.
            if !stop_wanted(&stop) {
                return Err(failure(ended));
            }
        }
    }
    health.set_not_serving::<PoolServer<Service>>().await;
    let ended = async { while servers.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_MAX, ended).await.is_err() {
        // Whoever does not read its answers does not hold the daemon up.
        warn!("calls were still under way when the servers stopped");
    }
    Ok(())
}

fn failure(ended: Option<Result<Ended, JoinError>>) -> ServerError {
    let (server, reason) = match ended {
        Some(Ok((server, Err(reason)))) => (server, reason),
        Some(Ok((server, Ok(())))) => (server, "it ended".to_owned()),
        Some(Err(panic)) => ("task", panic.to_string()),
        None => ("thread", "there is nothing to serve".to_owned()),
    };
    ServerError::Stopped { server, reason }
}

fn routes(service: Service) -> Result<(Routes, HealthReporter), ServerError> {
    let (reporter, health) = health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pool_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| ServerError::Descriptors {
            reason: error.to_string(),
        })?
        .max_decoding_message_size(REQUEST_BYTES_MAX);
    let routes = Routes::new(service.into_server())
        .add_service(health.max_decoding_message_size(REQUEST_BYTES_MAX))
        .add_service(reflection);
    Ok((routes, reporter))
}

/// Opens the addresses.
#[derive(Debug)]
struct Doors {
    operators: Operators,
    /// Of all Unix sockets together.
    admission: Admission,
    metrics: Arc<Metrics>,
}

type Grpc = Vec<(&'static str, Server, Door)>;
type Scrapes = Vec<(&'static str, Door)>;

impl Doors {
    fn grpc(
        &self,
        config: &ServerConfig,
    ) -> Result<(Grpc, Option<std::net::SocketAddr>), ServerError> {
        let local = Listener::unix(&config.admin_socket)?;
        let local = self.door(local, Patience::UntilGreeting);
        info!(path = %config.admin_socket.display(), "operators are served");
        let mut servers = vec![("admin socket", server(None)?, local)];
        let mut address = None;
        if let Some(tcp) = &config.tcp {
            let server = server(Some(tls::load(tcp)?))?;
            let (remote, bound) = Listener::tcp(tcp.listen)?;
            info!(address = %bound, "operators of other machines are served");
            servers.push((
                "admin address",
                server,
                self.door(remote, Patience::UntilGreeting),
            ));
            address = Some(bound);
        }
        Ok((servers, address))
    }

    fn scrapes(
        &self,
        config: &ServerConfig,
    ) -> Result<(Scrapes, Option<std::net::SocketAddr>), ServerError> {
        let local = Listener::unix(&config.metrics_socket)?;
        let mut servers = vec![("metrics socket", self.door(local, Patience::Throughout))];
        let mut address = None;
        if let Some(listen) = config.metrics_listen {
            let (open, bound) = Listener::tcp(listen)?;
            info!(address = %bound, "metrics are served");
            servers.push(("metrics address", self.door(open, Patience::Throughout)));
            address = Some(bound);
        }
        Ok((servers, address))
    }

    fn door(&self, listener: Listener, patience: Patience) -> Door {
        let admission = match &listener {
            Listener::Unix { .. } => self.admission.clone(),
            Listener::Tcp(_) => Admission::new(self.operators.clone()),
        };
        Door {
            listener,
            admission,
            patience,
            metrics: Arc::clone(&self.metrics),
        }
    }
}

/// A gRPC server with all its bounds.
fn server(tls: Option<ServerTlsConfig>) -> Result<Server, ServerError> {
    let server = Server::builder()
        .timeout(CALL_MAX)
        .concurrency_limit_per_connection(CALLS_AT_ONCE_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .initial_stream_window_size(CALL_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let Some(tls) = tls else {
        return Ok(server);
    };
    server
        .http2_keepalive_interval(Some(REMOTE_PING))
        .http2_keepalive_timeout(Some(REMOTE_PING))
        .tls_config(tls)
        .map_err(|error| ServerError::Tls {
            reason: error_chain(&error),
        })
}

/// An error and what caused it: tonic's own text is "transport error".
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
