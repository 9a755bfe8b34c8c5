//! The plans and the counts, one of each per process.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

use super::Call;

/// The exit status of a process that ended at a crash point.
pub const CRASH_STATUS: i32 = 134;
/// How the line begins in which a process says that a planned failure has come about.
pub const FAILURE_TOLD: &str = "planned failure:";
/// The exit status of a process whose environment holds a plan that does not parse.
const BAD_PLAN_STATUS: i32 = 2;

static STATE: LazyLock<Mutex<State>> = LazyLock::new(|| Mutex::new(State::from_environment()));

// Not the shim's lock: a model explores no planned failures, and loom has no static ones.
fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct State {
    crash: Option<Crash>,
    points: BTreeMap<&'static str, u64>,
    calls: [Calls; Call::ALL.len()],
}

#[derive(Debug, PartialEq, Eq)]
struct Crash {
    point: String,
    /// The count of passings at which the process ends.
    at: u64,
}

#[derive(Default)]
struct Calls {
    passed: u64,
    failure: Option<Failure>,
}

#[derive(Debug, PartialEq, Eq)]
struct Failure {
    /// The count of calls at which the first one fails.
    at: u64,
    errno: Errno,
    persistent: bool,
}

/// Passes the point `name`, or ends the process there where it was armed.
pub fn crash_point(name: &'static str) {
    let mut plans = state();
    let passings = plans.points.entry(name).or_default();
    *passings += 1;
    let passings = *passings;
    if plans
        .crash
        .as_ref()
        .is_some_and(|crash| crash.point == name && crash.at == passings)
    {
        // SAFETY: has no preconditions; it is chosen because it runs no destructor and flushes no
        // buffer, as a kill would not.
        unsafe { libc::_exit(CRASH_STATUS) }
    }
    // Not under the lock: the observer may take long, or unwind.
    drop(plans);
    super::simulated::tell(name);
}

pub(super) fn syscall(call: Call) -> Result<(), Errno> {
    let mut plans = state();
    let calls = &mut plans.calls[call as usize];
    calls.passed += 1;
    match &calls.failure {
        Some(failure) if calls.passed == failure.at => {
            tell_failure(call, failure);
            Err(failure.errno)
        }
        Some(failure) if failure.persistent && calls.passed > failure.at => Err(failure.errno),
        _ => Ok(()),
    }
}

/// Says on the standard error that a planned failure has come about, so that the test of another
/// process knows; a process without that output has nobody to tell.
fn tell_failure(call: Call, Failure { at, errno, .. }: &Failure) {
    use std::io::Write as _;
    let line = format!("{FAILURE_TOLD} {}:{at}:{errno:?}\n", call.name());
    drop(std::io::stderr().write_all(line.as_bytes()));
}

/// Ends the process at the `nth` passing of `point` from now, counted from 1.
pub fn arm_crash(point: &str, nth: u64) {
    let mut plans = state();
    let passed = plans.points.get(point).copied().unwrap_or_default();
    plans.crash = Some(Crash {
        point: point.to_owned(),
        at: passed.saturating_add(nth),
    });
}

/// Fails the `nth` call of kind `call` from now with `errno`, counted from 1; with `persistent`
/// each one from there on, else that one only.
pub fn arm_failure(call: Call, nth: u64, errno: Errno, persistent: bool) {
    let mut plans = state();
    let calls = &mut plans.calls[call as usize];
    let at = calls.passed.saturating_add(nth);
    calls.failure = Some(Failure {
        at,
        errno,
        persistent,
    });
}

/// Takes back every plan. The counts stay.
pub fn disarm() {
    let mut plans = state();
    plans.crash = None;
    for calls in &mut plans.calls {
        calls.failure = None;
    }
}

/// How many calls of kind `call` were asked for, failed ones included.
#[must_use]
pub fn passed(call: Call) -> u64 {
    state().calls[call as usize].passed
}

/// Each crash point that was passed, and how often.
#[must_use]
pub fn reached() -> Vec<(&'static str, u64)> {
    state()
        .points
        .iter()
        .map(|(&name, &passings)| (name, passings))
        .collect()
}

impl State {
    fn from_environment() -> Self {
        let mut plans = Self {
            crash: planned("TIERPOOL_CRASH", parse_crash),
            ..Self::default()
        };
        if let Some((call, failure)) = planned("TIERPOOL_FAIL", parse_failure) {
            plans.calls[call as usize].failure = Some(failure);
        }
        plans
    }
}

fn planned<T>(variable: &str, parse: fn(&str) -> Option<T>) -> Option<T> {
    let text = std::env::var_os(variable)?;
    let plan = text.to_str().and_then(parse);
    if plan.is_none() {
        eprintln!(
            "{variable}={} is no plan; see pool_core::fault",
            text.display()
        );
        std::process::exit(BAD_PLAN_STATUS);
    }
    plan
}

fn parse_crash(text: &str) -> Option<Crash> {
    let (point, nth) = text.rsplit_once(':')?;
    let at = parse_nth(nth)?;
    (!point.is_empty()).then(|| Crash {
        point: point.to_owned(),
        at,
    })
}

fn parse_failure(text: &str) -> Option<(Call, Failure)> {
    let mut fields = text.split(':');
    let name = fields.next()?;
    let call = Call::ALL.into_iter().find(|call| call.name() == name)?;
    let at = parse_nth(fields.next()?)?;
    let errno = parse_errno(fields.next()?)?;
    let persistent = match fields.next() {
        None => false,
        Some("persistent") => true,
        Some(_) => return None,
    };
    fields.next().is_none().then_some((
        call,
        Failure {
            at,
            errno,
            persistent,
        },
    ))
}

fn parse_nth(text: &str) -> Option<u64> {
    text.parse().ok().filter(|&nth| nth > 0)
}

fn parse_errno(name: &str) -> Option<Errno> {
    // Linux keeps its error numbers below 4,096: it returns them as the last page of numbers.
    (1..4096)
        .map(Errno::from_raw)
        .find(|&errno| errno != Errno::UnknownErrno && format!("{errno:?}") == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_as_written() {
        let crash = Crash {
            point: "grant:journaled".to_owned(),
            at: 12,
        };
        assert_eq!(parse_crash("grant:journaled:12"), Some(crash));
        let once = Failure {
            at: 3,
            errno: Errno::ENOMEM,
            persistent: false,
        };
        assert_eq!(parse_failure("mmap:3:ENOMEM"), Some((Call::Mmap, once)));
        let always = Failure {
            at: 1,
            errno: Errno::EIO,
            persistent: true,
        };
        assert_eq!(
            parse_failure("sync:1:EIO:persistent"),
            Some((Call::Sync, always))
        );
    }

    #[test]
    fn what_is_no_plan_is_refused() {
        for text in ["", "x", "x:", ":1", "x:0", "x:-1", "x:one"] {
            assert_eq!(parse_crash(text), None, "{text}");
        }
        for text in [
            "",
            "mmap",
            "mmap:1",
            "mmap:0:ENOMEM",
            "mmap:1:ENOSUCH",
            "mmap:1:UnknownErrno",
            "fork:1:ENOMEM",
            "mmap:1:ENOMEM:once",
            "mmap:1:ENOMEM:persistent:x",
        ] {
            assert_eq!(parse_failure(text), None, "{text}");
        }
    }

    #[test]
    fn a_call_is_counted_under_its_own_place() {
        for (place, call) in Call::ALL.into_iter().enumerate() {
            assert_eq!(call as usize, place, "{call:?}");
        }
    }
}
