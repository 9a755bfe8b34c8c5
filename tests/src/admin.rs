//! The operators' calls, one at a time, from a thread that waits.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use pool_core::Nanos;
use pool_proto::admin::v1 as admin;
use pool_proto::admin::v1::pool_client::PoolClient;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use crate::PATIENCE;

/// A connection to the admin socket.
#[derive(Debug)]
pub struct Admin {
    runtime: Runtime,
    pool: PoolClient<Channel>,
}

/// Calls that take a message and answer with one.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $reply:ident = $call:ident;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            /// As the daemon refuses it, or where the daemon does not answer.
            pub fn $name(&mut self, request: admin::$request) -> Result<admin::$reply, Status> {
                let answer = self.runtime.block_on(self.pool.$call(request))?;
                Ok(answer.into_inner())
            }
        )*
    };
}

impl Admin {
    /// Connects to a daemon.
    ///
    /// # Errors
    /// Where nobody answers.
    pub fn connect(socket: &Path) -> Result<Self, tonic::transport::Error> {
        Self::connect_within(socket, PATIENCE)
    }

    /// Connects, and waits for each answer no longer than `patience`.
    ///
    /// # Errors
    /// Where nobody answers.
    pub fn connect_within(socket: &Path, patience: Nanos) -> Result<Self, tonic::transport::Error> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime for the calls");
        let patience = Duration::from_nanos(patience.get());
        let channel = runtime.block_on(dial(socket.to_owned(), patience))?;
        let pool = PoolClient::new(channel);
        Ok(Self { runtime, pool })
    }

    calls! {
        /// Segments, with their holders.
        list_segments(ListSegmentsRequest) -> ListSegmentsReply = list_segments;
        /// Grants nothing more from a device.
        drain_device(DrainDeviceRequest) -> Device = drain_device;
        /// Grants from it again.
        activate_device(ActivateDeviceRequest) -> Device = activate_device;
        /// Takes it out of the pool.
        remove_device(RemoveDeviceRequest) -> RemoveDeviceReply = remove_device;
        /// Gives it another size.
        resize_device(ResizeDeviceRequest) -> Device = resize_device;
        /// Ends a segment.
        free_segment(FreeSegmentRequest) -> FreeSegmentReply = free_segment;
    }

    /// The whole pool in numbers.
    ///
    /// # Errors
    /// Where the daemon does not answer.
    pub fn status(&mut self) -> Result<admin::Status, Status> {
        let asked = self.pool.get_status(admin::GetStatusRequest {});
        Ok(self.runtime.block_on(asked)?.into_inner())
    }

    /// Full accounting.
    ///
    /// # Errors
    /// Where the caller is no operator, or the daemon does not answer.
    pub fn check(&mut self) -> Result<admin::CheckReport, Status> {
        let asked = self.pool.check(admin::CheckRequest {});
        Ok(self.runtime.block_on(asked)?.into_inner())
    }

    /// The devices in service.
    ///
    /// # Errors
    /// Where the daemon does not answer.
    pub fn devices(&mut self) -> Result<Vec<admin::Device>, Status> {
        let asked = self.pool.list_devices(admin::ListDevicesRequest {});
        Ok(self.runtime.block_on(asked)?.into_inner().devices)
    }

    /// One device.
    pub fn device(&mut self, name: &str) -> admin::Device {
        let devices = self.devices().expect("the devices are listed");
        let found = devices.into_iter().find(|device| device.name == name);
        found.unwrap_or_else(|| panic!("no device {name} is listed"))
    }

    /// The tenants the caller may see.
    ///
    /// # Errors
    /// Where the daemon does not answer.
    pub fn tenants(&mut self) -> Result<Vec<admin::Tenant>, Status> {
        let asked = self.pool.list_tenants(admin::ListTenantsRequest {});
        Ok(self.runtime.block_on(asked)?.into_inner().tenants)
    }

    /// The clients the caller may see.
    ///
    /// # Errors
    /// Where the daemon does not answer.
    pub fn clients(&mut self) -> Result<Vec<admin::Client>, Status> {
        let asked = self.pool.list_clients(admin::ListClientsRequest {});
        Ok(self.runtime.block_on(asked)?.into_inner().clients)
    }

    /// Every segment the caller may see.
    ///
    /// # Errors
    /// Where the daemon does not answer.
    pub fn segments(&mut self) -> Result<Vec<admin::SegmentDetail>, Status> {
        Ok(self
            .list_segments(admin::ListSegmentsRequest::default())?
            .segments)
    }

    /// The events from now on.
    ///
    /// # Errors
    /// Where the daemon does not answer.
    pub fn events(mut self) -> Result<EventStream, Status> {
        let asked = self.pool.stream_events(admin::StreamEventsRequest {});
        let stream = self.runtime.block_on(asked)?.into_inner();
        Ok(EventStream {
            runtime: self.runtime,
            stream,
        })
    }
}

/// Operators' events as they come.
#[derive(Debug)]
pub struct EventStream {
    runtime: Runtime,
    stream: Streaming<admin::PoolEvent>,
}

impl EventStream {
    /// The next event, which must come.
    pub fn next_event(&mut self) -> admin::PoolEvent {
        let patience = std::time::Duration::from_nanos(crate::patience().remaining().get());
        let next = self
            .runtime
            .block_on(async { tokio::time::timeout(patience, self.stream.message()).await });
        let event = next.expect("an event comes").expect("the stream goes on");
        event.expect("the stream has not ended")
    }

    /// The next event of a kind; those before it are passed over.
    pub fn next_of(&mut self, kind: &str) -> admin::PoolEvent {
        loop {
            let event = self.next_event();
            if event.kind == kind {
                return event;
            }
        }
    }
}

async fn dial(socket: PathBuf, patience: Duration) -> Result<Channel, tonic::transport::Error> {
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://tierpool")
        .timeout(patience)
        .connect_with_connector(connect)
        .await
}
