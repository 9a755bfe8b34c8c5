//! The stream of events to one receiver.
//!
//! # Invariants
//! 1. Events come in the order in which the reactor published them, none twice.
//! 2. A receiver that falls behind is told how many events it missed, and its stream ends: it looks
//!    at the pool anew. It never holds up the reactor or another receiver.
//! 3. Who is no operator gets the events of its own tenants, and those of no tenant (as of
//!    devices). Where it is not known whose a tenant is, the event is withheld.
//! 4. The stream ends when its receiver goes, when the daemon stops, and with its first error.

use std::collections::BTreeSet;
use std::sync::Arc;

use pool_proto::admin::v1::PoolEvent;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::handle::{Answer, Caller, Handle, Query};
use super::metrics::Metrics;
use super::{status, stopped};

/// Events on their way to one receiver, beyond those that wait in the broadcast.
const EN_ROUTE_MAX: usize = 16;
/// The most tenants of others whose names are kept, so that each is asked about once.
const OTHERS_KEPT_MAX: usize = 1024;

/// What a gRPC call streams.
pub(super) type Events = ReceiverStream<Result<PoolEvent, Status>>;

/// Everything `caller` may see of what `events` brings.
pub(super) fn stream(
    events: broadcast::Receiver<PoolEvent>,
    view: View,
    metrics: Arc<Metrics>,
    stop: watch::Receiver<bool>,
) -> Events {
    let (to, stream) = mpsc::channel(EN_ROUTE_MAX);
    tokio::spawn(async move {
        tokio::select! {
            () = forward(events, view, metrics, &to) => {}
            () = to.closed() => {}
            () = stopped(stop) => {}
        }
    });
    ReceiverStream::new(stream)
}

type Sender = mpsc::Sender<Result<PoolEvent, Status>>;

async fn forward(
    mut events: broadcast::Receiver<PoolEvent>,
    mut view: View,
    metrics: Arc<Metrics>,
    to: &Sender,
) {
    loop {
        let next = match events.recv().await {
            Ok(event) => match view.shows(&event.tenant).await {
                Ok(true) => Ok(event),
                Ok(false) => continue,
                Err(status) => Err(status),
            },
            Err(RecvError::Lagged(missed)) => {
                metrics.events_dropped(missed);
                Err(status::missed(missed))
            }
            Err(RecvError::Closed) => return,
        };
        let last = next.is_err();
        // It fails where the receiver has gone.
        if to.send(next).await.is_err() || last {
            return;
        }
    }
}

/// Which tenants' events a caller may see. Whose a tenant is never changes.
#[derive(Debug)]
pub(super) struct View {
    handle: Handle,
    caller: Caller,
    own: BTreeSet<String>,
    others: BTreeSet<String>,
}

impl View {
    pub(super) fn new(handle: Handle, caller: Caller) -> Self {
        Self {
            handle,
            caller,
            own: BTreeSet::new(),
            others: BTreeSet::new(),
        }
    }

    async fn shows(&mut self, tenant: &str) -> Result<bool, Status> {
        if self.caller.operator || tenant.is_empty() || self.own.contains(tenant) {
            return Ok(true);
        }
        if self.others.contains(tenant) {
            return Ok(false);
        }
        self.own = self.own_tenants().await?;
        let shown = self.own.contains(tenant);
        if !shown {
            if self.others.len() >= OTHERS_KEPT_MAX {
                self.others.clear();
            }
            self.others.insert(tenant.to_owned());
        }
        Ok(shown)
    }

    async fn own_tenants(&self) -> Result<BTreeSet<String>, Status> {
        let answer = self.handle.ask(self.caller, Query::Tenants).await;
        match answer.map_err(|error| status::from_error(&error))? {
            Answer::Tenants(reply) => Ok(reply.tenants.into_iter().map(|t| t.name).collect()),
            _ => Err(status::mismatched()),
        }
    }
}
