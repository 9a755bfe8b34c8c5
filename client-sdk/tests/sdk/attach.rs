use std::os::fd::{AsFd, AsRawFd};
use std::thread::JoinHandle;
use std::time::Duration;

use client_sdk::{AttachOptions, Error, ErrorClass, Pool, ProtocolError, Reason};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use pool_core::futex::TID_MASK;
use pool_core::limits::{LIVENESS_PAGE_BYTES, MESSAGE_BYTES_MAX};
use pool_core::mem::{Access, FileMap, MapError, Window};
use pool_core::sync::atomic::Ordering;
use pool_core::{Bytes, EXTENT_BYTES, PoolAddr, WindowRange};
use pool_proto::common::v1 as common;
use pool_proto::session::v1::{self as session, reply, request};

use crate::fake::{Fake, Script};
use crate::{EXTENT, attached, options, wait_until};

/// A socket on which nobody answers.
fn listening(path: &std::path::Path) -> std::os::fd::OwnedFd {
    let (kind, flags) = (SockType::SeqPacket, SockFlag::SOCK_CLOEXEC);
    let listener = socket(AddressFamily::Unix, kind, flags, None).unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    listen(&listener, Backlog::new(1).unwrap()).unwrap();
    listener
}

fn is_attach(body: &request::Body) -> bool {
    matches!(body, request::Body::Attach(_))
}

fn is_detach(body: &request::Body) -> bool {
    matches!(body, request::Body::Detach(_))
}

fn good(fake: &Fake) -> session::Attached {
    session::Attached {
        client_id: 1,
        token: vec![0; 16],
        window_base: fake.model().window_base,
        window_bytes: EXTENT_BYTES,
        ..Default::default()
    }
}

#[test]
fn a_session_says_what_the_daemon_said() {
    let (fake, pool) = attached();
    assert_eq!(
        (pool.id().number(), pool.tenant(), pool.daemon_epoch()),
        (1, "tests", 1)
    );
    assert!(!pool.advisory_isolation());
    assert_eq!(pool.tiers().unwrap()[0].name, "ddr");
    let asked = fake.model().log[0].1.clone();
    let expected = session::Attach {
        protocol: 1,
        tenant: String::new(),
        name: "test".to_owned(),
    };
    assert_eq!(asked, request::Body::Attach(expected));
    // What is printed where something went wrong holds no secret.
    assert!(!format!("{pool:?}").contains("token"));
}

#[test]
fn a_session_ends_with_its_last_handle_and_not_before() {
    let (fake, pool) = attached();
    let clone = pool.clone();
    drop(pool);
    let segment = clone
        .create(&client_sdk::Create::new("ddr", EXTENT))
        .unwrap();
    drop(clone);
    assert_eq!(segment.view::<u8>(Bytes::ZERO, 1).unwrap().get(0), Ok(0));
    assert!(fake.model().asked(is_detach).is_empty());
    drop(segment);
    assert_eq!(fake.model().asked(is_detach).len(), 1);
    assert!(!fake.model().hung_up_first);
}

#[test]
fn the_thread_of_a_session_holds_a_robust_word_and_ends_with_it() {
    let (fake, pool) = attached();
    let page = Bytes::new(LIVENESS_PAGE_BYTES);
    let liveness = fake.model().liveness.try_clone().unwrap();
    let page = FileMap::new(liveness.as_fd(), Bytes::ZERO, page, Access::ReadWrite).unwrap();
    let word = page.mapped().atomic_u32(Bytes::ZERO).unwrap();
    let thread = word.load(Ordering::Acquire) & TID_MASK;
    let task = format!("/proc/self/task/{thread}");
    assert_eq!(
        std::fs::read_to_string(format!("{task}/comm")).unwrap(),
        "tierpool\n"
    );
    drop(pool);
    assert_eq!(word.load(Ordering::Acquire), 0);
    // A joined thread is in the list of tasks for a moment longer.
    wait_until(|| !std::path::Path::new(&task).exists());
}

#[test]
fn sessions_of_one_process_share_the_window() {
    let (fake, first) = attached();
    let second = Pool::attach(&options(&fake)).unwrap();
    let one = first
        .create(&client_sdk::Create::new("ddr", EXTENT))
        .unwrap();
    let two = second
        .create(&client_sdk::Create::new("ddr", EXTENT))
        .unwrap();
    assert_ne!(one.addr(), two.addr());
    drop((first, second, one, two));
    Pool::attach(&options(&fake)).unwrap();
}

#[test]
fn a_window_that_is_taken_is_named_and_the_session_is_given_back() {
    let fake = Fake::start();
    let base = PoolAddr::new(fake.model().window_base);
    let taken = Window::reserve(WindowRange::new(base, EXTENT).unwrap()).unwrap();
    let error = Pool::attach(&options(&fake)).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Caller);
    let Error::Map(MapError::Taken { occupant, .. }) = error else {
        panic!("{error}")
    };
    assert!(occupant.contains("---p"), "{occupant}");
    assert_eq!(fake.model().asked(is_detach).len(), 1);
    assert!(!fake.model().hung_up_first);
    drop(taken);
    Pool::attach(&options(&fake)).unwrap();
}

#[test]
fn a_refusal_comes_with_its_class_reason_and_numbers() {
    let fake = Fake::start();
    let (class, reason) = (common::ErrorClass::Exhausted, common::ErrorReason::Limit);
    fake.model().refuse_session = Some((class, reason));
    let error = Pool::attach(&options(&fake)).unwrap_err();
    assert_eq!(
        (error.class(), error.reason()),
        (ErrorClass::Exhausted, Some(Reason::Limit))
    );
    let Error::Refused(refused) = error else {
        panic!("{error}")
    };
    assert_eq!((refused.limit, refused.used, refused.asked), (3, 2, 2));
}

#[test]
fn an_answer_that_breaks_the_protocol_is_not_believed() {
    let fake = Fake::start();
    let descriptors = |count| {
        vec![0; count]
            .iter()
            .map(|_| std::io::pipe().unwrap().0.into())
            .collect()
    };
    let attempt = |message: session::Attached, count| {
        let said = Script::Say(reply::Body::Attached(message), descriptors(count));
        fake.once(is_attach, said);
        Pool::attach(&options(&fake)).unwrap_err()
    };
    let base = good(&fake);
    let zero_client = session::Attached {
        client_id: 0,
        ..base.clone()
    };
    let short_token = session::Attached {
        token: vec![0; 15],
        ..base.clone()
    };
    let odd_window = session::Attached {
        window_base: base.window_base + 4096,
        ..base.clone()
    };
    for (message, count, expected) in [
        (zero_client, 2, ProtocolError::Field("client_id")),
        (short_token, 2, ProtocolError::Field("token")),
        (odd_window, 2, ProtocolError::Field("window_base")),
        (
            base.clone(),
            1,
            ProtocolError::Descriptors {
                expected: 2,
                got: 1,
            },
        ),
        (
            base.clone(),
            3,
            ProtocolError::Descriptors {
                expected: 2,
                got: 3,
            },
        ),
    ] {
        let error = attempt(message, count);
        assert_eq!(
            (error.class(), error),
            (ErrorClass::Corrupt, expected.into())
        );
    }
    // A pipe is no liveness page.
    assert!(matches!(attempt(base, 2), Error::Map(MapError::Os { .. })));
    fake.once(is_attach, Script::Send(vec![0xff; 5]));
    let error = Pool::attach(&options(&fake)).unwrap_err();
    assert_eq!(error, ProtocolError::Undecodable.into());
    fake.once(
        is_attach,
        Script::Say(reply::Body::Done(session::Done {}), Vec::new()),
    );
    let error = Pool::attach(&options(&fake)).unwrap_err();
    assert_eq!(error, ProtocolError::Kind.into());
}

#[test]
fn an_attach_whose_daemon_dies_before_it_answers_is_asked_for_anew() {
    for script in [Script::HangUp, Script::DoAndHangUp] {
        let fake = Fake::start();
        fake.once(is_attach, script);
        let pool = Pool::attach(&options(&fake)).unwrap();
        assert!(pool.tiers().is_ok());
    }
}

#[test]
fn where_there_is_no_socket_there_is_no_daemon_and_nobody_waits_for_one() {
    let directory = tempfile::tempdir().unwrap();
    for socket in ["session.sock", "no-folder/session.sock"] {
        let socket = directory.path().join(socket);
        let options = AttachOptions::new()
            .socket(&socket)
            .timeout(Duration::from_secs(1 << 20));
        let error = Pool::attach(&options).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Unreachable);
        assert!(error.to_string().contains("start pool-daemon"), "{error}");
        let tried = vec![socket];
        assert_eq!(error, Error::NoDaemon { tried });
    }
}

#[test]
fn a_daemon_that_is_being_started_is_waited_for_by_who_asks_to() {
    let mut fake = Fake::start();
    fake.kill();
    let options = AttachOptions::new()
        .socket(fake.socket())
        .wait_for_daemon(true);
    let brief = options.clone().timeout(Duration::from_millis(20));
    let error = Pool::attach(&brief).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    let attaching = Waiting::of(move || Pool::attach(&options));
    fake.listen();
    attaching.answer().unwrap();
}

/// Somebody who asks on a thread of its own, has found nobody, and waits.
struct Waiting<T> {
    thread: JoinHandle<Result<T, Error>>,
    /// Its folder in `/proc`.
    folder: String,
}

impl<T: Send + 'static> Waiting<T> {
    fn of(ask: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Self {
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            sender.send(nix::unistd::gettid()).unwrap();
            ask()
        });
        let folder = format!("/proc/self/task/{}", receiver.recv().unwrap());
        let waiting = Self { thread, folder };
        waiting.until(|| waiting.rests());
        waiting
    }

    /// Waits until it has tried once more, at least, and waits again.
    fn tries_again(&self) {
        let before = self.pauses();
        // The first one may have begun before.
        self.until(|| self.pauses() >= before + 2 && self.rests());
    }

    fn until(&self, holds: impl Fn() -> bool) {
        wait_until(|| self.thread.is_finished() || holds());
        assert!(!self.thread.is_finished(), "it does not wait");
    }

    /// Whether it rests between two attempts.
    fn rests(&self) -> bool {
        let call = self.said("syscall");
        let number = call.split(' ').next().and_then(|word| word.parse().ok());
        let rests = [libc::SYS_clock_nanosleep, libc::SYS_nanosleep];
        rests.map(Some).contains(&number)
    }

    /// How often it has gone to rest.
    fn pauses(&self) -> u64 {
        let status = self.said("status");
        let mut lines = status.lines();
        let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.map_or(0, |count| count.trim().parse().unwrap())
    }

    /// What the kernel says of it; nothing where it has ended.
    fn said(&self, file: &str) -> String {
        std::fs::read_to_string(format!("{}/{file}", self.folder)).unwrap_or_default()
    }

    fn answer(self) -> Result<T, Error> {
        self.thread.join().unwrap()
    }
}

#[test]
fn a_daemon_that_has_left_its_socket_is_waited_for_until_the_next_one_listens() {
    let mut fake = Fake::start();
    fake.kill();
    drop(listening(&fake.socket()));
    let options = options(&fake);
    let attaching = Waiting::of(move || Pool::attach(&options));
    attaching.tries_again();
    // Somebody was there: that the socket is gone by now makes no difference any more.
    std::fs::remove_file(fake.socket()).unwrap();
    attaching.tries_again();
    fake.listen();
    attaching.answer().unwrap();
}

#[test]
fn whoever_has_attached_waits_for_the_next_daemon_whether_there_is_a_socket_or_not() {
    let (mut fake, pool) = attached();
    for left_over in [false, true] {
        fake.kill();
        if left_over {
            drop(listening(&fake.socket()));
        }
        let pool = pool.clone();
        let asking = Waiting::of(move || pool.tiers());
        if left_over {
            std::fs::remove_file(fake.socket()).unwrap();
        }
        fake.restart();
        assert_eq!(asking.answer().unwrap().len(), 1);
    }
}

#[test]
fn a_daemon_that_has_left_its_socket_and_does_not_come_back_is_unreachable() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("session.sock");
    drop(listening(&socket));
    let options = AttachOptions::new()
        .socket(&socket)
        .timeout(Duration::from_millis(20));
    let error = Pool::attach(&options).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::Unreachable);
}

#[test]
fn a_socket_that_is_none_is_told_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("x".repeat(120));
    let error = Pool::attach(&AttachOptions::new().socket(&socket)).unwrap_err();
    assert_eq!(
        error,
        Error::Socket {
            socket,
            errno: Errno::ENAMETOOLONG
        }
    );
}

#[test]
fn what_the_process_has_none_left_of_is_exhausted_and_what_does_not_fit_is_the_callers() {
    let class = |errno| {
        let socket = "/run/tierpool/session.sock".into();
        Error::Socket { socket, errno }.class()
    };
    for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM] {
        assert_eq!(class(errno), ErrorClass::Exhausted);
    }
    assert_eq!(class(Errno::EACCES), ErrorClass::Caller);
    let (_fake, pool) = attached();
    let name = "x".repeat(MESSAGE_BYTES_MAX);
    let error = pool.open(&name, Access::ReadOnly).unwrap_err();
    assert!(matches!(error, Error::Packet(_)), "{error}");
    assert_eq!(error.class(), ErrorClass::Caller);
}
