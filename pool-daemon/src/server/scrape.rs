//! The metrics page, over HTTP: `GET /metrics` in the OpenMetrics text format.
//!
//! On the Unix socket it shows itself to operators only, since it names every tenant; on a TCP
//! address to whoever reaches that address, which is why there is none unless one is configured.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{Extension, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::{IncomingStream, Listener};

use super::listen::Door;
use super::metrics::Metrics;
use super::peer::{Operators, Peer};
use super::socket::Socket;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves scrapes until `stop` completes and the last of them is done.
pub(super) async fn serve(
    door: Door,
    operators: Operators,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(page))
        .layer(Extension(operators))
        .with_state(Arc::clone(&door.metrics));
    let service = router.into_make_service_with_connect_info::<Peer>();
    axum::serve(door, service)
        .with_graceful_shutdown(stop)
        .await
}

async fn page(
    ConnectInfo(peer): ConnectInfo<Peer>,
    Extension(operators): Extension<Operators>,
    State(metrics): State<Arc<Metrics>>,
) -> Response {
    // A scrape is one exchange: the connection's deadline counts on that.
    let close = (header::CONNECTION, "close");
    if matches!(peer, Peer::Local { .. }) && !operators.includes(peer) {
        let why = "the metrics name every tenant: only operators may read them here\n";
        return (StatusCode::FORBIDDEN, [close], why).into_response();
    }
    match metrics.render() {
        Ok(page) => ([(header::CONTENT_TYPE, OPEN_METRICS), close], page).into_response(),
        Err(error) => {
            let why = format!("the metrics cannot be written: {error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, [close], why).into_response()
        }
    }
}

impl Listener for Door {
    type Io = Socket;
    type Addr = Peer;

    async fn accept(&mut self) -> (Socket, Peer) {
        self.next().await
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        *stream.remote_addr()
    }
}
