//! One operation, and every death the daemon can die in it.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use pool_daemon::reactor::CRASH_POINTS;
use pool_proto::admin::v1::{CheckReport, DeviceCheck, FreeSegmentRequest};
use pool_proto::common::v1::{ErrorReason, Lifetime};
use pool_proto::session::v1::{Create, Reattached, reply, request};
use serde_json::Value;
use tierpool_tests::admin::Admin;
use tierpool_tests::client::{Connection, Held, Session, Unanswered, ask};
use tierpool_tests::daemon::Daemon;
use tierpool_tests::puppet::Puppet;
use tierpool_tests::setup::Setup;
use tierpool_tests::{EXTENT, campaign, until};

/// Points that only a recovery passes, in its order; the daemon dies at all of them after each
/// death elsewhere.
pub(crate) const OF_RECOVERY: [&str; 3] =
    ["recover.loaded", "recover.adopted", "recover.committed"];
/// Deaths at these after each death elsewhere: the last one is died at twice.
const DEATHS_IN_RECOVERY: u32 = 4;
/// Passings of a point in the course of one operation, from the start of its daemon: more than any
/// has, so that a daemon that turns in circles is noticed.
const PASSINGS_MAX: u32 = 40;

/// Extents of the first device, which each operation's pool has.
const EXTENTS: u32 = 16;
/// Room for which a full pool is not full: no operation needs more.
const ROOM: u32 = 4;

/// How much of the first device is granted to somebody who has no part in an operation.
#[derive(Debug, Clone, Copy)]
enum Fill {
    Empty,
    Half,
    Full,
}

impl Fill {
    const ALL: [Self; 3] = [Self::Empty, Self::Half, Self::Full];

    const fn extents(self) -> u32 {
        match self {
            Self::Empty => 0,
            Self::Half => EXTENTS / 2,
            Self::Full => EXTENTS - ROOM,
        }
    }

    /// Grants as much, in pieces of one extent.
    fn grant(self, daemon: &Daemon) -> Option<u64> {
        let bytes = u64::from(self.extents()) * EXTENT;
        let create = request::Body::Create(Create {
            tier: "ddr".to_owned(),
            bytes,
            piece_bytes: EXTENT,
            name: FILLER.to_owned(),
            lifetime: Lifetime::Persistent.into(),
            ..Create::default()
        });
        (bytes > 0).then(|| {
            let mut filler = daemon.attach(FILLER);
            let segment = filler.granted(create).id();
            filler.ask(ask::detach());
            segment
        })
    }
}

/// Who has what fills a pool.
const FILLER: &str = "filler";

/// The daemon has ended.
#[derive(Debug)]
pub(crate) struct Ended;

/// An operation.
pub(crate) struct Case {
    /// The points that it passes, in groups.
    pub(crate) passes: &'static [&'static [&'static str]],
    /// The pool.
    pub(crate) setup: fn() -> Setup,
    /// What there is before it.
    pub(crate) prepare: fn(&Daemon) -> Scene,
    /// Asks for it; asked again after a death, it asks for the same.
    pub(crate) act: fn(&mut Scene, &Daemon) -> Result<(), Ended>,
    /// Extents that are granted when it is done, with all else free.
    pub(crate) left: u32,
    /// Shows that what it promises holds, and gives everything back.
    pub(crate) finish: fn(Scene, &Daemon),
}

/// Who takes part in an operation, and what they have.
#[derive(Debug, Default)]
pub(crate) struct Scene {
    /// Those that come back to each new daemon; the first one asks.
    pub(crate) clients: Vec<Session>,
    /// One that is away until the operation brings it back.
    pub(crate) absent: Option<Session>,
    /// A process that may die.
    pub(crate) puppet: Option<Puppet>,
    /// The segment that the operation is about.
    pub(crate) segment: u64,
    /// What was granted last, mapped.
    pub(crate) granted: Option<Held>,
    /// The answer that the client had, if it had one.
    pub(crate) answer: Option<reply::Body>,
    /// Whether the daemon has died since it was asked, so that it may be done already.
    pub(crate) is_repeated: bool,
    /// Whether the client itself may be gone once it is done.
    pub(crate) ends_the_client: bool,
}

impl Scene {
    /// The clients take their sessions up again.
    fn come_back(&mut self) -> Result<(), Ended> {
        let may_be_gone = self.is_repeated && self.ends_the_client;
        let mut outcome = Ok(());
        for mut client in std::mem::take(&mut self.clients) {
            match client.reattach() {
                Err(Unanswered::Refused(error))
                    if may_be_gone && error.reason() == ErrorReason::UnknownClient =>
                {
                    continue;
                }
                back => outcome = outcome.and(returned(back).map(drop)),
            }
            self.clients.push(client);
        }
        outcome
    }
}

/// What a reattachment came to; a living daemon must accept it.
pub(crate) fn returned(outcome: Result<Reattached, Unanswered>) -> Result<Reattached, Ended> {
    match outcome {
        Ok(reattached) => Ok(reattached),
        Err(Unanswered::Gone(_)) => Err(Ended),
        Err(refused) => panic!("a client may not come back: {refused}"),
    }
}

/// Lets the daemon die at each passing of each point in the course of `case`.
pub(crate) fn at_every_point(law: &str, case: &Case) {
    for fill in Fill::ALL {
        at_every_point_of(law, case, fill);
    }
}

fn at_every_point_of(law: &str, case: &Case, fill: Fill) {
    let deaths = Cell::new(0);
    let points = CRASH_POINTS
        .iter()
        .filter(|point| !OF_RECOVERY.contains(point));
    let reached: BTreeSet<_> = points
        .copied()
        .filter(|point| {
            let count = dies_at(case, fill, point);
            deaths.set(deaths.get() + count);
            count > 0
        })
        .collect();
    let (points, deaths) = (reached.len(), deaths.get());
    // After each death elsewhere it recovers, and dies, at each point of that.
    let again = deaths * DEATHS_IN_RECOVERY;
    let figures = format!("{points} points, {deaths} deaths, {again} in recoveries from them");
    campaign(3, &format!("{law}, {fill:?}"), &figures);
    assert_eq!(reached, case.passes.concat().into_iter().collect());
}

/// Where a daemon died.
enum Death {
    /// While it was started, or its clients came back.
    Before,
    /// While it did what it was asked for.
    Within,
}

/// Lets the daemon die at each passing of `point`; how many were within the operation.
fn dies_at(case: &Case, fill: Fill, point: &str) -> u32 {
    let (mut nth, mut deaths) = (1, 0);
    loop {
        let mut daemon = Daemon::start(env!("CARGO_BIN_EXE_daemon"), &(case.setup)());
        let filler = fill.grant(&daemon);
        let mut scene = (case.prepare)(&daemon);
        daemon.kill();
        let has_died = loop {
            assert!(nth <= PASSINGS_MAX, "{point} is passed again and again");
            match attempt((case, fill), &mut daemon, &mut scene, point, nth) {
                Ok(()) => break false,
                Err(Death::Within) => break true,
                Err(Death::Before) => nth += 1,
            }
        };
        if has_died {
            recover_in_vain(case, &mut daemon);
        } else {
            daemon.kill();
        }
        scene.is_repeated = true;
        conclude((case, fill), &mut daemon, scene, filler);
        if !has_died {
            return deaths;
        }
        (nth, deaths) = (nth + 1, deaths + 1);
    }
}

/// The operation on a daemon that dies at the `nth` passing of `point`, if it comes there.
fn attempt(
    (case, fill): (&Case, Fill),
    daemon: &mut Daemon,
    scene: &mut Scene,
    point: &str,
    nth: u32,
) -> Result<(), Death> {
    launch_doomed(case, daemon, point, nth);
    let begun = await_service(daemon)
        .and_then(|()| scene.come_back())
        // A daemon that died when it had answered the last of them must not seem to live.
        .and_then(|()| await_round(daemon));
    if begun.is_err() {
        daemon.await_crash();
        return Err(Death::Before);
    }
    let done =
        (case.act)(scene, daemon).and_then(|()| await_settled(daemon, case.left + fill.extents()));
    done.map_err(|Ended| {
        daemon.await_crash();
        Death::Within
    })
}

fn launch_doomed(case: &Case, daemon: &mut Daemon, point: &str, nth: u32) {
    daemon.set_up(&(case.setup)().with("TIERPOOL_CRASH", format!("{point}:{nth}")));
    daemon.launch();
}

/// Recovers, dies at each point of it, and recovers again: what the first recovery made durable the
/// second one leaves as it is.
fn recover_in_vain(case: &Case, daemon: &mut Daemon) {
    let [loaded, adopted, committed] = OF_RECOVERY;
    let found = daemon.journal();
    let mut dies_at = |point| {
        launch_doomed(case, daemon, point, 1);
        daemon.await_crash();
        daemon.journal()
    };
    assert_eq!(dies_at(loaded), found, "reading changes nothing");
    assert_eq!(
        dies_at(adopted),
        found,
        "collecting descriptors changes nothing"
    );
    let (once, epoch) = without_epoch(&dies_at(committed));
    let (twice, next_epoch) = without_epoch(&dies_at(committed));
    assert_eq!(once, twice, "a second recovery changes nothing");
    assert_eq!(epoch + 1, next_epoch);
}

/// The rows of a journal without the epoch, and the epoch.
fn without_epoch(journal: &[String]) -> (Vec<Value>, u64) {
    let mut epochs = Vec::new();
    let rows = journal.iter().map(|line| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        let epoch = row.as_object_mut().unwrap().remove("daemon_epoch");
        epochs.extend(epoch.and_then(|epoch| epoch.as_u64()));
        row
    });
    let rows = rows.collect();
    assert_eq!(epochs.len(), 1, "one row has the epoch");
    (rows, epochs[0])
}

/// The operation once more, on a daemon that lives, and the end of everything.
fn conclude(
    (case, fill): (&Case, Fill),
    daemon: &mut Daemon,
    mut scene: Scene,
    filler: Option<u64>,
) {
    daemon.restart_as(&(case.setup)());
    scene.come_back().unwrap();
    (case.act)(&mut scene, daemon).unwrap();
    await_settled(daemon, case.left + fill.extents()).unwrap();
    if let Some(client) = scene.clients.first_mut() {
        // The operation's own id is used up.
        client.next_id();
    }
    (case.finish)(scene, daemon);
    if let Some(segment_id) = filler {
        let force = false;
        let free = FreeSegmentRequest { segment_id, force };
        daemon.admin().free_segment(free).unwrap();
    }
    daemon.await_all_free();
}

/// Waits until both sockets answer.
fn await_service(daemon: &Daemon) -> Result<(), Ended> {
    let (session, admin) = (daemon.session_socket(), daemon.admin_socket());
    until("the daemon serves or dies", || {
        if has_ended(daemon) {
            return Some(Err(Ended));
        }
        let serves = Connection::open(&session).is_ok() && UnixStream::connect(&admin).is_ok();
        serves.then_some(Ok(()))
    })
}

/// Whether the process has ended; its exit status stays to be collected.
fn has_ended(daemon: &Daemon) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let id = Id::Pid(Pid::from_raw(daemon.pid().cast_signed()));
    waitid(id, flags).unwrap() != WaitStatus::StillAlive
}

/// Waits until as much is granted as shall be and all else is free again, and until the daemon has
/// done what that led to. What it says meanwhile must balance.
fn await_settled(daemon: &Daemon, left: u32) -> Result<(), Ended> {
    let mut admin = Admin::connect(&daemon.admin_socket()).map_err(|_| Ended)?;
    until("what was let go of is free", || match admin.check() {
        Err(_) => Some(Err(Ended)),
        Ok(report) => {
            assert!(report.balanced, "{:#?}", report.findings);
            let granted = sum(&report, |device| device.granted_extents);
            let quarantined = sum(&report, |device| device.quarantined_extents);
            (granted == left && quarantined == 0).then_some(Ok(()))
        }
    })?;
    await_round(daemon)
}

/// Waits until the daemon has ended the round of work in which it gave its last answer: it takes a
/// question that comes later in a later round.
fn await_round(daemon: &Daemon) -> Result<(), Ended> {
    let mut admin = Admin::connect(&daemon.admin_socket()).map_err(|_| Ended)?;
    admin.check().map(drop).map_err(|_| Ended)
}

fn sum(report: &CheckReport, extents: impl Fn(&DeviceCheck) -> u32) -> u32 {
    report.devices.iter().map(extents).sum()
}
