//! A process that outlives memory that is pulled, whichever of its threads said so first, is ended
//! by a signal of the same kind that is about something else, as it would have been.
//!
//! The handler is set once in a process, so each try is this very program, started again. The test
//! harness would not let it start so, so this program is its own.

use std::error::Error;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::sync::Barrier;

use nix::sys::signal::{Signal, raise};
use pool_core::mem::survive_pulled;

/// Makes this program a try.
const TRY: &str = "TIERPOOL_TEST_TRY";
const TRIES: usize = 20;
const THREADS: usize = 4;

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    if std::env::var_os(TRY).is_some() {
        return be_a_try();
    }
    a_signal_that_is_none_of_ours_does_what_it_would_have_done_without_us()?;
    println!("test a_signal_that_is_none_of_ours_does_what_it_would_have_done_without_us ... ok");
    Ok(())
}

fn be_a_try() -> Outcome {
    let all = Barrier::new(THREADS);
    let set = || {
        all.wait();
        survive_pulled()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(set)).collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended.collect::<Vec<_>>()
    })
    .into_iter()
    .try_for_each(|ended| ended.expect("a thread does not panic"))?;
    // What the standard library has set takes itself out, and leaves it to an access that there is
    // none of: so one signal has to do.
    raise(Signal::SIGBUS)?;
    Ok(())
}

fn a_signal_that_is_none_of_ours_does_what_it_would_have_done_without_us() -> Outcome {
    let this = std::env::current_exe()?;
    for _ in 0..TRIES {
        let ended = Command::new(&this).env(TRY, "1").output()?;
        let signal = ended.status.signal();
        assert_eq!(signal, Some(Signal::SIGBUS as i32), "{ended:?}");
    }
    Ok(())
}
