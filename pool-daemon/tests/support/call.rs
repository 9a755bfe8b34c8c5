//! A gRPC client on the fake daemon's Unix socket.

use hyper_util::rt::TokioIo;
use pool_proto::admin::v1::pool_client::PoolClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::fake::Fake;

/// Runs `body` on a runtime of its own.
pub(crate) fn in_runtime<T>(body: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(body)
}

pub(crate) async fn channel(fake: &Fake) -> Channel {
    let path = fake.config.admin_socket.clone();
    Endpoint::from_static("http://tierpool")
        .connect_with_connector(tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
        .await
        .unwrap()
}

pub(crate) async fn dial(fake: &Fake) -> PoolClient<Channel> {
    PoolClient::new(channel(fake).await)
}
