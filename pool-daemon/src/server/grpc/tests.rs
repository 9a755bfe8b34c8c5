//! What callers who are no operators get. Their identity comes with the connection, which is put in
//! place of a real one here; `poolctl`'s tests switch the user id for real.

use std::num::NonZeroU16;

use pool_proto::admin::v1::{ListTenantsReply, PoolEvent, Tenant};
use tokio_stream::StreamExt as _;

use super::super::handle::Inbox;
use super::*;

/// Not the test's own user, who would be an operator.
fn stranger() -> u32 {
    nix::unistd::geteuid().as_raw() + 1_000_000
}

fn from_stranger<R>(request: R) -> Request<R> {
    let mut request = Request::new(request);
    request.extensions_mut().insert(Peer::Local {
        uid: stranger(),
        gid: 7,
    });
    request
}

struct Bench {
    service: Service,
    inbox: Inbox,
    _stop: watch::Sender<bool>,
}

fn bench() -> Bench {
    let (handle, inbox) = Handle::new(NonZeroU16::new(64).unwrap()).unwrap();
    let (stop, stopping) = watch::channel(false);
    let service = Service {
        handle,
        operators: Operators::new(&[]),
        metrics: Arc::default(),
        stop: stopping,
    };
    Bench {
        service,
        inbox,
        _stop: stop,
    }
}

fn in_runtime(body: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(body);
}

/// Waits for questions by letting the other tasks run, and answers each as an engine whose only
/// tenant of the stranger is `own`.
async fn answer_tenants(inbox: &mut Inbox, times: usize) {
    let mut answered = 0;
    while answered < times {
        for question in inbox.drain().unwrap() {
            assert_eq!(question.query, Query::Tenants);
            let own = Tenant {
                name: "own".to_owned(),
                ..Tenant::default()
            };
            let tenants = vec![own];
            question.reply(Ok(Answer::Tenants(ListTenantsReply { tenants })));
            answered += 1;
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn the_engine_is_told_that_a_stranger_is_no_operator() {
    in_runtime(async {
        let Bench {
            service, mut inbox, ..
        } = bench();
        let asking = tokio::spawn(async move {
            let request = from_stranger(admin::ListSegmentsRequest::default());
            service.list_segments(request).await
        });
        tokio::task::yield_now().await;
        let question = inbox.drain().unwrap().remove(0);
        let expected = Caller {
            uid: stranger(),
            gid: 7,
            operator: false,
        };
        assert_eq!(question.caller, expected);
        question.reply(Ok(Answer::Segments(admin::ListSegmentsReply::default())));
        asking.await.unwrap().unwrap();
    });
}

#[test]
fn a_stranger_changes_nothing_and_is_told_who_may() {
    in_runtime(async {
        let Bench {
            service, mut inbox, ..
        } = bench();
        let drain = service
            .drain_device(from_stranger(Default::default()))
            .await;
        let activate = service
            .activate_device(from_stranger(Default::default()))
            .await;
        let resize = service
            .resize_device(from_stranger(Default::default()))
            .await;
        let remove = service
            .remove_device(from_stranger(Default::default()))
            .await;
        let free = service
            .free_segment(from_stranger(Default::default()))
            .await;
        let check = service.check(from_stranger(Default::default())).await;
        let refusals = [
            drain.map(drop),
            activate.map(drop),
            resize.map(drop),
            remove.map(drop),
            free.map(drop),
            check.map(drop),
        ];
        for refused in refusals {
            let status = refused.unwrap_err();
            assert_eq!(status.code(), Code::PermissionDenied);
            for who in ["root", "the daemon's own user", "operators"] {
                assert!(status.message().contains(who), "{}", status.message());
            }
        }
        assert!(inbox.drain().unwrap().is_empty());
    });
}

#[test]
fn who_has_no_identity_gets_no_answer() {
    in_runtime(async {
        let Bench {
            service, mut inbox, ..
        } = bench();
        let mut remote = Request::new(admin::GetStatusRequest {});
        remote
            .extensions_mut()
            .insert(Peer::Remote([127, 0, 0, 1].into()));
        for request in [remote, Request::new(admin::GetStatusRequest {})] {
            let refused = service.get_status(request).await.unwrap_err();
            assert_eq!(refused.code(), Code::Unauthenticated);
        }
        let events = service.stream_events(Request::new(admin::StreamEventsRequest {}));
        assert_eq!(events.await.unwrap_err().code(), Code::Unauthenticated);
        assert!(inbox.drain().unwrap().is_empty());
    });
}

#[test]
fn an_engine_that_does_not_answer_is_reported_and_its_question_withdrawn() {
    in_runtime(async {
        let Bench {
            service, mut inbox, ..
        } = bench();
        // The paused clock jumps to the deadline, since nothing else is left to do.
        let refused = service
            .get_status({
                let mut request = Request::new(admin::GetStatusRequest {});
                request
                    .extensions_mut()
                    .insert(Peer::Local { uid: 0, gid: 0 });
                request
            })
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::DeadlineExceeded);
        assert!(inbox.drain().unwrap().is_empty());
    });
}

#[test]
fn a_stranger_sees_events_of_its_own_tenants_and_of_devices_only() {
    in_runtime(async {
        let Bench {
            service,
            mut inbox,
            _stop,
        } = bench();
        let request = from_stranger(admin::StreamEventsRequest {});
        let mut events = service.stream_events(request).await.unwrap().into_inner();
        for (sequence, tenant) in [(1, "own"), (2, "other"), (3, ""), (4, "other"), (5, "own")] {
            inbox.publish(PoolEvent {
                sequence,
                tenant: tenant.to_owned(),
                ..PoolEvent::default()
            });
        }
        // One question for each name, whatever the number of events.
        let engine = tokio::spawn(async move {
            answer_tenants(&mut inbox, 2).await;
            inbox
        });
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(events.next().await.unwrap().unwrap().sequence);
        }
        assert_eq!(seen, [1, 3, 5]);
        let mut inbox = engine.await.unwrap();
        assert!(inbox.drain().unwrap().is_empty());
        drop(inbox);
        assert!(events.next().await.is_none());
    });
}
