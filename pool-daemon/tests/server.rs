//! The servers as their callers see them, over real sockets, with an engine that is a function.

#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

#[path = "support/call.rs"]
mod call;
#[path = "support/fake.rs"]
mod fake;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use call::{dial, in_runtime};
use fake::{Fake, small_pool};
use pool_daemon::engine::command::Operation;
use pool_daemon::server::handle::Query;
use pool_proto::admin::v1 as admin;
use pool_proto::common::v1::{DeviceState, Error, ErrorClass, ErrorReason};
use tonic::Code;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1 as reflection;

#[test]
fn every_call_is_one_question_of_its_caller() {
    let fake = Fake::start();
    in_runtime(async {
        let mut pool = dial(&fake).await;
        let status = pool.get_status(admin::GetStatusRequest {}).await.unwrap();
        assert_eq!(status.into_inner().pid, 4242);
        let tiers = pool.list_tiers(admin::ListTiersRequest {}).await.unwrap();
        assert_eq!(tiers.into_inner().tiers.len(), 2);
        let devices = pool
            .list_devices(admin::ListDevicesRequest {})
            .await
            .unwrap();
        assert_eq!(devices.into_inner().devices.len(), 2);
        let of_trainer = admin::ListSegmentsRequest {
            tenant: "trainer".to_owned(),
            after_segment_id: 7,
        };
        let segments = pool.list_segments(of_trainer).await.unwrap().into_inner();
        assert_eq!(segments.segments.len(), 1);
        let tenants = pool
            .list_tenants(admin::ListTenantsRequest {})
            .await
            .unwrap();
        assert_eq!(tenants.into_inner().tenants.len(), 2);
        let clients = pool
            .list_clients(admin::ListClientsRequest {})
            .await
            .unwrap();
        assert_eq!(clients.into_inner().clients.len(), 2);
        let report = pool.check(admin::CheckRequest {}).await.unwrap();
        assert!(report.into_inner().balanced);
        let report = pool.doctor(admin::DoctorRequest {}).await.unwrap();
        assert_eq!(report.into_inner().findings.len(), 3);
    });
    let asked = fake.asked();
    assert_eq!(asked.len(), 8);
    let own = nix::unistd::geteuid().as_raw();
    assert!(
        asked
            .iter()
            .all(|(caller, _)| caller.operator && caller.uid == own)
    );
}

#[test]
fn every_change_reaches_the_engine_as_it_was_asked() {
    let fake = Fake::start();
    let device = || "ddr0".to_owned();
    in_runtime(async {
        let mut pool = dial(&fake).await;
        let drained = admin::DrainDeviceRequest { device: device() };
        let drained = pool.drain_device(drained).await.unwrap().into_inner();
        assert_eq!(drained.state(), DeviceState::Draining);
        let active = admin::ActivateDeviceRequest { device: device() };
        let active = pool.activate_device(active).await.unwrap().into_inner();
        assert_eq!(active.state(), DeviceState::Online);
        let resized = admin::ResizeDeviceRequest {
            device: device(),
            bytes: 1 << 30,
        };
        let resized = pool.resize_device(resized).await.unwrap().into_inner();
        assert_eq!(resized.total_bytes, 1 << 30);
        let removed = admin::RemoveDeviceRequest { device: device() };
        pool.remove_device(removed).await.unwrap();
        let freed = admin::FreeSegmentRequest {
            segment_id: 9,
            force: true,
        };
        pool.free_segment(freed).await.unwrap();
    });
    let changes: Vec<_> = fake.asked().into_iter().map(|(_, query)| query).collect();
    let expected = [
        Operation::Drain(device()),
        Operation::Activate(device()),
        Operation::Resize(device(), 1 << 30),
        Operation::Remove(device()),
        Operation::Free {
            segment: 9,
            force: true,
        },
    ];
    assert_eq!(changes, expected.map(Query::Operate));
}

#[test]
fn a_refusal_arrives_with_class_reason_and_numbers() {
    let over_quota = || Error {
        class: ErrorClass::Exhausted.into(),
        reason: ErrorReason::OverQuota.into(),
        message: "the device may have 8 MiB, has 6 MiB, and 4 MiB more were asked".to_owned(),
        limit: 8,
        used: 6,
        asked: 4,
    };
    let fake = Fake::with(Box::new(move |_, _| Err(over_quota())), |_| {});
    in_runtime(async {
        let mut pool = dial(&fake).await;
        let refused = pool
            .get_status(admin::GetStatusRequest {})
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("has 6 MiB"));
        let told = |key| refused.metadata().get(key).unwrap().to_str().unwrap();
        assert_eq!(told("tierpool-reason"), "over_quota");
        assert_eq!([told("tierpool-limit"), told("tierpool-asked")], ["8", "4"]);
    });
    let page = fake.metrics.render().unwrap();
    let counted = "admin_calls_total{kind=\"get-status\",code=\"resource-exhausted\"} 1";
    assert!(page.contains(counted), "{page}");
}

#[test]
fn an_answer_to_another_question_is_an_error() {
    let confused = |caller, _: &Query| small_pool(caller, &Query::Tiers);
    let fake = Fake::with(Box::new(confused), |_| {});
    in_runtime(async {
        let mut pool = dial(&fake).await;
        let refused = pool.doctor(admin::DoctorRequest {}).await.unwrap_err();
        assert_eq!(refused.code(), Code::Internal);
        let drained = admin::DrainDeviceRequest::default();
        let refused = pool.drain_device(drained).await.unwrap_err();
        assert_eq!(refused.code(), Code::Internal);
    });
}

#[test]
fn events_arrive_in_order_and_a_lag_is_told() {
    let fake = Fake::start();
    let event = |sequence| admin::PoolEvent {
        sequence,
        kind: "segment-granted".to_owned(),
        detail: "x".repeat(4096),
        ..admin::PoolEvent::default()
    };
    in_runtime(async {
        let mut pool = dial(&fake).await;
        let stream = pool
            .stream_events(admin::StreamEventsRequest {})
            .await
            .unwrap();
        let mut stream = stream.into_inner();
        for sequence in 1..=20 {
            fake.publish(event(sequence));
        }
        for sequence in 1..=20 {
            let received = stream.message().await.unwrap().unwrap();
            assert_eq!(received.sequence, sequence);
        }
        // More than lie in the broadcast, in the channel and in the socket together, unread.
        let published = 20_000;
        for sequence in 21..=published {
            fake.publish(event(sequence));
        }
        let mut last = 20;
        let lagged = loop {
            match stream.message().await {
                Ok(Some(received)) => {
                    assert_eq!(received.sequence, last + 1);
                    last = received.sequence;
                }
                Ok(None) => panic!("the stream ended and did not say what was missed"),
                Err(status) => break status,
            }
        };
        assert_eq!(lagged.code(), Code::ResourceExhausted);
        let missed = lagged.metadata().get("tierpool-asked").unwrap();
        let missed: u64 = missed.to_str().unwrap().parse().unwrap();
        assert!(missed > 0 && last + missed <= published, "{last} {missed}");
    });
    let page = fake.metrics.render().unwrap();
    assert!(!page.contains("events_dropped_total 0"), "{page}");
}

#[test]
fn stopping_ends_streams_and_removes_the_sockets() {
    let mut fake = Fake::start();
    let stopping = in_runtime(async {
        let mut pool = dial(&fake).await;
        let stream = pool
            .stream_events(admin::StreamEventsRequest {})
            .await
            .unwrap();
        let mut stream = stream.into_inner();
        assert!(!fake.servers().has_ended());
        let stopping = std::thread::spawn(move || {
            let stopped = fake.stop_servers();
            (fake, stopped)
        });
        assert!(stream.message().await.unwrap().is_none());
        stopping
    });
    let (fake, stopped) = stopping.join().unwrap();
    stopped.unwrap();
    assert!(!fake.config.admin_socket.exists());
    assert!(!fake.config.metrics_socket.exists());
}

#[test]
fn health_and_reflection_answer() {
    let fake = Fake::start();
    in_runtime(async {
        let channel = call::channel(&fake).await;
        let mut health = HealthClient::new(channel.clone());
        let asked = tonic_health::pb::HealthCheckRequest {
            service: "tierpool.admin.v1.Pool".to_owned(),
        };
        let answer = health.check(asked).await.unwrap().into_inner();
        assert_eq!(
            answer.status(),
            tonic_health::pb::health_check_response::ServingStatus::Serving
        );

        let mut reflection =
            reflection::server_reflection_client::ServerReflectionClient::new(channel);
        let list = reflection::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(
                reflection::server_reflection_request::MessageRequest::ListServices(String::new()),
            ),
        };
        let asked = tokio_stream::once(list);
        let mut answers = reflection
            .server_reflection_info(asked)
            .await
            .unwrap()
            .into_inner();
        let answer = format!("{:?}", answers.message().await.unwrap().unwrap());
        assert!(answer.contains("tierpool.admin.v1.Pool"), "{answer}");
    });
}

/// One HTTP exchange: everything that comes back.
fn http(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_metrics_are_one_get_away() {
    let any = "127.0.0.1:0".parse().unwrap();
    let fake = Fake::with(Box::new(small_pool), |config| {
        config.metrics_listen = Some(any)
    });
    fake.metrics.epoch(7);
    let scrape = "GET /metrics HTTP/1.1\r\nHost: pool\r\n\r\n";
    let address = fake.servers().addresses().metrics.unwrap();
    let over_tcp = http(std::net::TcpStream::connect(address).unwrap(), scrape);
    let over_unix = http(
        UnixStream::connect(&fake.config.metrics_socket).unwrap(),
        scrape,
    );
    for page in [over_tcp, over_unix] {
        assert!(page.starts_with("HTTP/1.1 200"), "{page}");
        assert!(
            page.contains("application/openmetrics-text; version=1.0.0"),
            "{page}"
        );
        assert!(page.contains("tierpool_daemon_epoch 7"), "{page}");
    }
    let elsewhere = "GET / HTTP/1.1\r\nHost: pool\r\nConnection: close\r\n\r\n";
    let page = http(
        UnixStream::connect(&fake.config.metrics_socket).unwrap(),
        elsewhere,
    );
    assert!(page.starts_with("HTTP/1.1 404"), "{page}");
}

#[test]
fn an_address_that_is_taken_is_told_before_anything_is_said_to_run() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = pool_daemon::server::ServerConfig {
        admin_socket: folder.path().join("admin.sock"),
        metrics_socket: folder.path().join("metrics.sock"),
        operators: Vec::new(),
        tcp: None,
        metrics_listen: Some(taken.local_addr().unwrap()),
    };
    let events = std::num::NonZeroU16::MIN;
    let (handle, _inbox) = pool_daemon::server::handle::Handle::new(events).unwrap();
    let refused =
        pool_daemon::server::spawn(&config, handle, std::sync::Arc::default()).unwrap_err();
    let address = taken.local_addr().unwrap().to_string();
    assert!(refused.to_string().contains(&address), "{refused}");
    assert!(!config.admin_socket.exists());
}
