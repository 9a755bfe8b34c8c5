//! How many requests one daemon serves, with 1, 16 and 64 in flight.
//!
//! The clients are threads of this process, each with a session of its own, and share the machine
//! with the daemon, as the peer's do. A run counts what is answered in [`SPAN`].

use std::sync::Barrier;

use client_sdk::{Bytes, Create, Force};
use hyper_util::rt::TokioIo;
use pool_core::Nanos;
use pool_core::clock::{self, Deadline};
use pool_core::sync::thread;
use pool_core::units::EXTENT_BYTES;
use pool_proto::admin::v1::GetStatusRequest;
use pool_proto::admin::v1::pool_client::PoolClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::bare::{Bare, Want};
use crate::contest::{Case, Contender, hold, nanos, number};
use crate::daemon::{Daemon, TIER};
use crate::report::Report;

const SPAN: Nanos = Nanos::from_millis(500);
const EXTENT: Bytes = Bytes::new(EXTENT_BYTES);

/// All cases of this part.
pub(super) fn measure(
    daemon: &Daemon,
    bare: &Bare,
    rounds: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    for in_flight in [1, 16, 64] {
        report.add(questions(daemon, bare, in_flight, rounds)?)?;
        report.add(pairs(daemon, bare, in_flight, rounds)?)?;
        report.add(operators(daemon, bare, in_flight, rounds)?)?;
    }
    Ok(())
}

type Outcome = anyhow::Result<Vec<crate::contest::Result>>;

/// Has `clients` do their work over and over, all at once, and counts how often a second.
fn rate<C: Send>(
    clients: &mut [C],
    work: impl Fn(&mut C) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<f64> {
    let start = Barrier::new(clients.len());
    let (start, work) = (&start, &work);
    let one = |client: &mut C| {
        start.wait();
        let (begun, deadline) = (clock::now(), Deadline::after(SPAN));
        let mut count = 0;
        while !deadline.expired() {
            work(client)?;
            count += 1;
        }
        Ok(number(count) * 1e9 / nanos(clock::now().saturating_since(begun)))
    };
    thread::scope(|scope| {
        let all: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(|| one(client)))
            .collect();
        let mut sum = 0.0;
        for thread in all {
            let rate: anyhow::Result<f64> = thread
                .join()
                .map_err(|_| anyhow::anyhow!("a client panicked"))?;
            sum += rate?;
        }
        Ok(sum)
    })
}

fn questions(daemon: &Daemon, bare: &Bare, in_flight: usize, rounds: usize) -> Outcome {
    let ours = || {
        let mut clients = sessions(daemon, in_flight)?;
        rate(&mut clients, |pool| Ok(pool.tiers().map(drop)?))
    };
    let case = Case::rate(format!("session: tiers, {in_flight} in flight"));
    hold(&case, rounds, ours, vec![echoes(bare, in_flight)])
}

fn sessions(daemon: &Daemon, count: usize) -> anyhow::Result<Vec<client_sdk::Pool>> {
    (0..count).map(|_| daemon.attach("throughput")).collect()
}

fn echoes(bare: &Bare, in_flight: usize) -> Contender<'_> {
    Contender::new("bare round trip", move || {
        let clients: anyhow::Result<Vec<_>> = (0..in_flight).map(|_| bare.connect()).collect();
        rate(&mut clients?, |client| client.echo())
    })
}

/// A segment made and freed. The daemon zeroes memory for each; so does the peer.
fn pairs(daemon: &Daemon, bare: &Bare, in_flight: usize, rounds: usize) -> Outcome {
    let create = Create::new(TIER, EXTENT);
    let ours = || {
        let mut clients = sessions(daemon, in_flight)?;
        rate(&mut clients, |pool| {
            Ok(pool.create(&create)?.free(Force::No)?)
        })
    };
    let peer = Contender::new("bare build, pass, and round trip", move || {
        let connect = |place| Ok((place, bare.connect()?));
        let clients: anyhow::Result<Vec<_>> = (0..in_flight as u64).map(connect).collect();
        rate(&mut clients?, |(place, client)| {
            client.grant_at(*place, Want::Build, EXTENT)?.release()?;
            client.echo()
        })
    });
    let case = Case::rate(format!(
        "session: create and free 2 MiB, {in_flight} in flight"
    ));
    hold(&case, rounds, ours, vec![peer])
}

/// Calls of the operators' interface on one connection.
fn operators(daemon: &Daemon, bare: &Bare, in_flight: usize, rounds: usize) -> Outcome {
    let ours = || calls(daemon, in_flight);
    let case = Case::rate(format!("gRPC: status, {in_flight} in flight"));
    hold(&case, rounds, ours, vec![echoes(bare, in_flight)])
}

fn calls(daemon: &Daemon, in_flight: usize) -> anyhow::Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let channel = dial(daemon).await?;
        let (begun, deadline) = (clock::now(), Deadline::after(SPAN));
        let callers: Vec<_> = (0..in_flight)
            .map(|_| tokio::spawn(call_until(PoolClient::new(channel.clone()), deadline)))
            .collect();
        let mut count = 0;
        for caller in callers {
            count += caller.await??;
        }
        Ok(number(count) * 1e9 / nanos(clock::now().saturating_since(begun)))
    })
}

async fn call_until(
    mut pool: PoolClient<Channel>,
    deadline: Deadline,
) -> Result<u64, tonic::Status> {
    let mut count = 0;
    while !deadline.expired() {
        pool.get_status(GetStatusRequest {}).await?;
        count += 1;
    }
    Ok(count)
}

async fn dial(daemon: &Daemon) -> anyhow::Result<Channel> {
    let socket = daemon.admin_socket();
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Ok(Endpoint::from_static("http://tierpool")
        .connect_with_connector(connect)
        .await?)
}
