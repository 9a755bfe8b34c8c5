//! The operators' gRPC service: each call is one question to the engine, or the stream of events.
//!
//! This file knows who calls and which question a call is; what the caller may see is the
//! engine's matter, what it may ask is [`Handle::ask`]'s, and what a refusal looks like is
//! [`status`]'s.

use std::sync::Arc;
use std::time::Duration;

use pool_core::{Nanos, clock};
use pool_proto::admin::v1 as admin;
use pool_proto::admin::v1::pool_server::{Pool, PoolServer};
use tokio::sync::watch;
use tonic::transport::server::TlsConnectInfo;
use tonic::{Code, Extensions, Request, Response, Status};

use super::events::{self, Events, View};
use super::handle::{ANSWER_WAIT, Answer, Caller, Handle, Query};
use super::metrics::Metrics;
use super::peer::{Operators, Peer};
use super::status;
use crate::engine::command::Operation;

/// The most bytes of one request. The largest that makes sense has a few hundred.
pub(super) const REQUEST_BYTES_MAX: usize = 1 << 20;

/// The service. It holds nothing but ways to others.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) handle: Handle,
    pub(super) operators: Operators,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: watch::Receiver<bool>,
}

impl Service {
    /// The service as tonic serves it.
    pub(super) fn into_server(self) -> PoolServer<Self> {
        PoolServer::new(self).max_decoding_message_size(REQUEST_BYTES_MAX)
    }

    fn caller(&self, connection: &Extensions) -> Result<Caller, Status> {
        if let Some(Peer::Local { uid, gid }) = connection.get::<Peer>() {
            return Ok(self.operators.caller(*uid, *gid));
        }
        let certified = connection
            .get::<TlsConnectInfo<Peer>>()
            .and_then(TlsConnectInfo::peer_certs)
            .is_some_and(|certificates| !certificates.is_empty());
        if certified {
            Ok(Caller::REMOTE_OPERATOR)
        } else {
            Err(status::nobody())
        }
    }

    /// Asks `query` for whoever sent `request`, and takes what `expected` finds in the answer.
    async fn ask<R, T>(
        &self,
        kind: &'static str,
        request: &Request<R>,
        query: Query,
        expected: fn(Answer) -> Option<T>,
    ) -> Result<Response<T>, Status> {
        let start = clock::now();
        let outcome = match self.caller(request.extensions()) {
            Ok(caller) => self.answer(caller, query, expected).await,
            Err(nobody) => Err(nobody),
        };
        self.count(kind, &outcome, start);
        outcome.map(Response::new)
    }

    fn count<T>(&self, kind: &'static str, outcome: &Result<T, Status>, start: Nanos) {
        let code = outcome.as_ref().map_or_else(Status::code, |_| Code::Ok);
        let took = clock::now().saturating_since(start);
        self.metrics.admin_call(kind, code, took);
    }

    /// The events from now on, as whoever is connected may see them.
    fn events(&self, connection: &Extensions) -> Result<Events, Status> {
        let caller = self.caller(connection)?;
        let events = self.handle.subscribe().ok_or_else(status::stopping)?;
        let view = View::new(self.handle.clone(), caller);
        let (metrics, stop) = (Arc::clone(&self.metrics), self.stop.clone());
        Ok(events::stream(events, view, metrics, stop))
    }

    async fn answer<T>(
        &self,
        caller: Caller,
        query: Query,
        expected: fn(Answer) -> Option<T>,
    ) -> Result<T, Status> {
        let asked = self.handle.ask(caller, query);
        let wait = Duration::from_nanos(ANSWER_WAIT.get());
        match tokio::time::timeout(wait, asked).await {
            Ok(Ok(answer)) => expected(answer).ok_or_else(status::mismatched),
            Ok(Err(error)) => Err(status::from_error(&error)),
            Err(_) => Err(status::too_slow(wait.as_millis())),
        }
    }

    /// Asks for a change of a device.
    async fn operate<R>(
        &self,
        kind: &'static str,
        request: &Request<R>,
        operation: Operation,
    ) -> Result<Response<admin::Device>, Status> {
        self.ask(kind, request, Query::Operate(operation), device)
            .await
    }
}

fn device(answer: Answer) -> Option<admin::Device> {
    match answer {
        Answer::Operated(device) => device,
        _ => None,
    }
}

fn done(answer: Answer) -> Option<()> {
    matches!(answer, Answer::Operated(None)).then_some(())
}

#[tonic::async_trait]
impl Pool for Service {
    type StreamEventsStream = Events;

    async fn get_status(
        &self,
        request: Request<admin::GetStatusRequest>,
    ) -> Result<Response<admin::Status>, Status> {
        self.ask(
            "get-status",
            &request,
            Query::Status,
            |answer| match answer {
                Answer::Status(status) => Some(status),
                _ => None,
            },
        )
        .await
    }

    async fn list_tiers(
        &self,
        request: Request<admin::ListTiersRequest>,
    ) -> Result<Response<admin::ListTiersReply>, Status> {
        self.ask(
            "list-tiers",
            &request,
            Query::Tiers,
            |answer| match answer {
                Answer::Tiers(reply) => Some(reply),
                _ => None,
            },
        )
        .await
    }

    async fn list_devices(
        &self,
        request: Request<admin::ListDevicesRequest>,
    ) -> Result<Response<admin::ListDevicesReply>, Status> {
        self.ask(
            "list-devices",
            &request,
            Query::Devices,
            |answer| match answer {
                Answer::Devices(reply) => Some(reply),
                _ => None,
            },
        )
        .await
    }

    async fn list_segments(
        &self,
        request: Request<admin::ListSegmentsRequest>,
    ) -> Result<Response<admin::ListSegmentsReply>, Status> {
        let query = Query::Segments(request.get_ref().clone());
        self.ask("list-segments", &request, query, |answer| match answer {
            Answer::Segments(reply) => Some(reply),
            _ => None,
        })
        .await
    }

    async fn list_tenants(
        &self,
        request: Request<admin::ListTenantsRequest>,
    ) -> Result<Response<admin::ListTenantsReply>, Status> {
        self.ask(
            "list-tenants",
            &request,
            Query::Tenants,
            |answer| match answer {
                Answer::Tenants(reply) => Some(reply),
                _ => None,
            },
        )
        .await
    }

    async fn list_clients(
        &self,
        request: Request<admin::ListClientsRequest>,
    ) -> Result<Response<admin::ListClientsReply>, Status> {
        self.ask(
            "list-clients",
            &request,
            Query::Clients,
            |answer| match answer {
                Answer::Clients(reply) => Some(reply),
                _ => None,
            },
        )
        .await
    }

    async fn drain_device(
        &self,
        request: Request<admin::DrainDeviceRequest>,
    ) -> Result<Response<admin::Device>, Status> {
        let operation = Operation::Drain(request.get_ref().device.clone());
        self.operate("drain-device", &request, operation).await
    }

    async fn activate_device(
        &self,
        request: Request<admin::ActivateDeviceRequest>,
    ) -> Result<Response<admin::Device>, Status> {
        let operation = Operation::Activate(request.get_ref().device.clone());
        self.operate("activate-device", &request, operation).await
    }

    async fn remove_device(
        &self,
        request: Request<admin::RemoveDeviceRequest>,
    ) -> Result<Response<admin::RemoveDeviceReply>, Status> {
        let query = Query::Operate(Operation::Remove(request.get_ref().device.clone()));
        self.ask("remove-device", &request, query, done).await?;
        Ok(Response::new(admin::RemoveDeviceReply {}))
    }

    async fn resize_device(
        &self,
        request: Request<admin::ResizeDeviceRequest>,
    ) -> Result<Response<admin::Device>, Status> {
        let asked = request.get_ref();
        let operation = Operation::Resize(asked.device.clone(), asked.bytes);
        self.operate("resize-device", &request, operation).await
    }

    async fn free_segment(
        &self,
        request: Request<admin::FreeSegmentRequest>,
    ) -> Result<Response<admin::FreeSegmentReply>, Status> {
        let asked = request.get_ref();
        let query = Query::Operate(Operation::Free {
            segment: asked.segment_id,
            force: asked.force,
        });
        self.ask("free-segment", &request, query, done).await?;
        Ok(Response::new(admin::FreeSegmentReply {}))
    }

    async fn check(
        &self,
        request: Request<admin::CheckRequest>,
    ) -> Result<Response<admin::CheckReport>, Status> {
        self.ask("check", &request, Query::Check, |answer| match answer {
            Answer::Check(report) => Some(report),
            _ => None,
        })
        .await
    }

    async fn doctor(
        &self,
        request: Request<admin::DoctorRequest>,
    ) -> Result<Response<admin::DoctorReport>, Status> {
        self.ask("doctor", &request, Query::Doctor, |answer| match answer {
            Answer::Doctor(report) => Some(report),
            _ => None,
        })
        .await
    }

    async fn get_topology(
        &self,
        request: Request<admin::GetTopologyRequest>,
    ) -> Result<Response<admin::Topology>, Status> {
        self.ask("get-topology", &request, Query::Topology, |it| match it {
            Answer::Topology(topology) => Some(topology),
            _ => None,
        })
        .await
    }

    async fn create_region(
        &self,
        request: Request<admin::CreateRegionRequest>,
    ) -> Result<Response<admin::Region>, Status> {
        let query = Query::CreateRegion(request.get_ref().clone());
        self.ask("create-region", &request, query, |it| match it {
            Answer::Region(region) => Some(region),
            _ => None,
        })
        .await
    }

    async fn destroy_region(
        &self,
        request: Request<admin::DestroyRegionRequest>,
    ) -> Result<Response<admin::DestroyRegionReply>, Status> {
        let query = Query::DestroyRegion(request.get_ref().name.clone());
        let is_done = |it| matches!(it, Answer::RegionDestroyed).then_some(());
        self.ask("destroy-region", &request, query, is_done).await?;
        Ok(Response::new(admin::DestroyRegionReply {}))
    }

    async fn stream_events(
        &self,
        request: Request<admin::StreamEventsRequest>,
    ) -> Result<Response<Events>, Status> {
        let start = clock::now();
        let events = self.events(request.extensions());
        self.count("stream-events", &events, start);
        events.map(Response::new)
    }
}

#[cfg(test)]
mod tests;
