//! One round: a pool in use, a daemon whose calls fail, and one whose calls do not.

use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use nix::sys::signal::Signal;
use pool_core::Nanos;
use pool_core::clock::{Deadline, eventually};
use pool_core::fault::{Call, FAILURE_TOLD};
use tierpool_tests::asker::{Asker, Order, Tally};
use tierpool_tests::at_rest::await_rest;
use tierpool_tests::daemon::Daemon;
use tierpool_tests::failing_heap::FAIL_ALLOCATION;
use tierpool_tests::setup::Setup;

use super::growth::Size;
use super::operators::Operators;
use super::rest::Rest;

/// How a daemon ends that cannot start, and one that cannot go on: see the list of exit codes in
/// its manual.
const FAILED: i32 = 1;
const CONFIGURATION: i32 = 2;

/// How often everything is tried that takes descriptors, mappings or memory.
const PRESSES: u64 = 64;

/// How long one whose allocation has failed takes to die at most.
const DYING: Nanos = Nanos::from_millis(5_000);

pub(crate) fn setup(store: &'static str) -> Setup {
    Setup {
        store,
        // Longer than any round: nobody is given up who is there.
        grace_ms: 120_000,
        ..Setup::of_two_tiers()
    }
}

/// What fails in a daemon.
#[derive(Debug)]
pub(crate) struct Planned {
    /// The variable of its environment that says so, and what it says.
    variable: &'static str,
    plan: String,
    /// The kind of call; none where it is an allocation.
    call: Option<Call>,
}

impl Planned {
    /// The calls of a kind from the `nth` on.
    pub(crate) fn calls(call: Call, nth: usize, errno: &str) -> Self {
        Self {
            variable: "TIERPOOL_FAIL",
            plan: format!("{}:{nth}:{errno}:persistent", call.name()),
            call: Some(call),
        }
    }

    /// The `nth` allocation of its heap.
    pub(crate) fn allocation(nth: usize) -> Self {
        Self {
            variable: FAIL_ALLOCATION,
            plan: nth.to_string(),
            call: None,
        }
    }

    fn set_up(&self, store: &'static str) -> Setup {
        setup(store).with(self.variable, &*self.plan)
    }

    /// The end of a daemon by itself: it says what failed and what to do next; or that an
    /// allocation failed, which Rust ends it for.
    fn explains(&self, status: ExitStatus, codes: &[i32], log: &str) {
        let told = log.lines().rfind(|line| line.starts_with("pool-daemon: "));
        let is_in_order = status.code().is_some_and(|code| codes.contains(&code)) && told.is_some();
        let is_dead =
            status.signal() == Some(Signal::SIGABRT as i32) && log.contains("memory allocation of");
        let is_explained = is_in_order || self.call.is_none() && is_dead;
        assert!(is_explained, "{self}: {status}\n{log}");
        assert!(!log.contains("panicked"), "{self}\n{log}");
    }

    /// Whether what was moved may have ended with the daemon: where clients alone keep descriptors,
    /// and nothing can be sent to them, or nothing opened to be sent. SPECIFICATION.md, F6.
    fn may_end_what_was_moved(&self, store: &str) -> bool {
        let ends = |call| [Call::Send, Call::Open].contains(&call);
        store == "clients" && self.call.is_some_and(ends)
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.variable, self.plan)
    }
}

/// What became of the daemons, and of what was asked of them.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    not_started: u64,
    ended: u64,
    died: u64,
    lived: u64,
    asked: Tally,
    /// Segments that a daemon moved to files which ended with it.
    moved_in_vain: u64,
}

impl Figures {
    pub(crate) fn runs(&self) -> u64 {
        self.not_started + self.ended + self.died + self.lived
    }
}

impl Figures {
    /// Daemons whose allocation failed once they served.
    pub(crate) fn deaths(&self) -> u64 {
        self.died
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            not_started,
            ended,
            died,
            lived,
            asked,
            moved_in_vain,
        } = self;
        let refused: Vec<_> = asked.refused.iter().collect();
        let refused = refused
            .iter()
            .map(|(reason, count)| {
                format!("{count} {}", reason.trim_start_matches("ERROR_REASON_"))
            })
            .collect::<Vec<_>>();
        write!(
            f,
            "{} runs, {not_started} not started, {ended} ended in order, {died} died, \
             {lived} lived; {} done, {} refused ({}), {} cut off, {} late, \
             {} unasked; {moved_in_vain} moved in vain",
            self.runs(),
            asked.done,
            asked.refused(),
            refused.join(" + "),
            asked.ended,
            asked.late,
            asked.left_out,
        )
    }
}

/// What a daemon logged since the log was so long.
fn log_since(daemon: &Daemon, from: usize) -> String {
    daemon.log().get(from..).unwrap_or_default().to_owned()
}

/// Daemons that fail while they make a new pool, until one starts. The next one has no more at rest
/// than `rest`.
pub(crate) fn on_new_pools(
    plans: impl Iterator<Item = Planned>,
    rest: &Rest,
    figures: &mut Figures,
) {
    for planned in plans {
        let armed = planned.set_up("keeper");
        let mut daemon = Daemon::prepare(env!("CARGO_BIN_EXE_daemon"), &armed);
        daemon.launch();
        let Err(status) = daemon.await_start() else {
            return;
        };
        planned.explains(status, &[FAILED, CONFIGURATION], &daemon.log());
        figures.not_started += 1;
        // What it started fails as it does, and keeps nothing.
        daemon.kill_keeper();
        daemon.restart_as(&setup("keeper"));
        serves(&mut daemon, "keeper", rest.descriptors);
        rest.is_that_of(&mut daemon, &planned.to_string());
    }
}

/// A pool that daemons follow each other on. Between two rounds none runs.
pub(crate) struct Pool {
    store: &'static str,
    /// One that the daemons have whose calls fail.
    bug: Option<&'static str>,
    daemon: Daemon,
    pub(crate) rest: Rest,
}

impl Pool {
    pub(crate) fn new(store: &'static str) -> Self {
        let mut daemon = Daemon::start(env!("CARGO_BIN_EXE_daemon"), &setup(store));
        let descriptors = serves(&mut daemon, store, usize::MAX);
        let rest = Rest::of(&mut daemon, descriptors);
        Self {
            store,
            bug: None,
            daemon,
            rest,
        }
    }

    /// The same, where the daemons whose calls fail have a bug as well.
    pub(crate) fn with_bug(store: &'static str, bug: &'static str) -> Self {
        Self {
            bug: Some(bug),
            ..Self::new(store)
        }
    }

    /// One round. Tells whether what was planned came about.
    pub(crate) fn round(&mut self, planned: &Planned, figures: &mut Figures) -> bool {
        let program = env!("CARGO_BIN_EXE_asker");
        let keeps = self.store == "clients";
        self.daemon.restart_as(&setup(self.store));
        let mut asker = Asker::start(program, &self.daemon.session_socket(), keeps);
        asker.order(Order::Prepare);
        assert!(self.daemon.stop().success(), "{}", self.daemon.log());
        let from = self.daemon.log().len();
        let mut armed = planned.set_up(self.store);
        if let Some(bug) = self.bug {
            armed = armed.with("TIERPOOL_BUG", bug);
        }
        self.daemon.set_up(&armed);
        self.daemon.launch();
        let mut operators = Operators::default();
        let started = self.daemon.await_start();
        let reached = match started {
            Ok(()) => self.failing(&mut asker, &mut operators, from, planned, figures),
            Err(status) => {
                let log = log_since(&self.daemon, from);
                planned.explains(status, &[FAILED, CONFIGURATION], &log);
                figures.not_started += 1;
                true
            }
        };
        let log = log_since(&self.daemon, from);
        assert!(!log.contains("panicked"), "{planned}\n{log}");
        self.healed(planned, asker, &operators, figures);
        self.rest.is_that_of(&mut self.daemon, &planned.to_string());
        reached
    }

    /// A daemon whose calls fail, until it is gone.
    fn failing(
        &mut self,
        asker: &mut Asker,
        operators: &mut Operators,
        from: usize,
        planned: &Planned,
        figures: &mut Figures,
    ) -> bool {
        let plan = planned.to_string();
        figures.asked += asker.order(Order::Ask);
        figures.asked += operators.ask(&self.daemon);
        let is_told = log_since(&self.daemon, from).contains(FAILURE_TOLD);
        let mut ended = if is_told && planned.call.is_none() {
            // Whoever asked whether it failed lives on.
            eventually(Deadline::after(DYING), || self.daemon.ended()).ok()
        } else {
            self.daemon.ended()
        };
        if is_told && ended.is_none() {
            if operators.are_told(&self.daemon, &plan) {
                let before = Size::of(&self.daemon);
                figures.asked += asker.order(Order::Press(PRESSES));
                before.is_no_less_than_that_of(&self.daemon, &plan);
            } else {
                // One that does not answer is about to end.
                ended = Some(self.daemon.await_end());
            }
        }
        let (status, is_stopped) = match ended {
            Some(status) => (status, false),
            None => (self.daemon.stop(), true),
        };
        let log = log_since(&self.daemon, from);
        if !(is_stopped && status.success()) {
            planned.explains(status, &[FAILED], &log);
        }
        if is_told {
            let count = if is_stopped {
                &mut figures.lived
            } else if status.code().is_none() {
                &mut figures.died
            } else {
                &mut figures.ended
            };
            *count += 1;
        }
        is_told
    }

    /// A daemon whose calls do not fail: everything acknowledged is there; then nothing is, and
    /// everything that is asked is done.
    fn healed(
        &mut self,
        planned: &Planned,
        mut asker: Asker,
        operators: &Operators,
        figures: &mut Figures,
    ) {
        self.daemon.restart_as(&setup(self.store));
        operators.are_obeyed(&self.daemon);
        let settled = asker.order(Order::Settle);
        let may_end = planned.may_end_what_was_moved(self.store);
        assert!(settled.refused() == 0 || may_end, "{settled:?}");
        figures.moved_in_vain += settled.refused();
        let pid = asker.pid();
        asker.kill();
        // Files that were given up while nobody kept them are waited for until nobody can bring
        // them any more.
        let grace_ms = 50;
        assert!(self.daemon.stop().success(), "{}", self.daemon.log());
        self.daemon.restart_as(&Setup {
            grace_ms,
            ..setup(self.store)
        });
        await_rest(&mut self.daemon, pid, self.rest.descriptors);
        serves(&mut self.daemon, self.store, self.rest.descriptors);
    }
}

/// Everything is asked of a daemon, and done, and then it is at rest; with how many descriptors.
fn serves(daemon: &mut Daemon, store: &str, descriptors_max: usize) -> usize {
    let program = env!("CARGO_BIN_EXE_asker");
    let mut asker = Asker::start(program, &daemon.session_socket(), store == "clients");
    for order in [Order::Prepare, Order::Settle, Order::Leave] {
        asker.order(order);
    }
    let pid = asker.pid();
    asker.kill();
    await_rest(daemon, pid, descriptors_max)
}
