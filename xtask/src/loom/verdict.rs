//! What the end of a test process says of a model and of a planted bug.
//!
//! The harness must tell that exactly one test ran: a name that it does not know is a success to
//! it. The model checker must tell that it explored schedules: a build without it runs each body
//! once, and passes.
//!
//! A deadlock ends the process by an abort, and no result is told: the model checker panics, and
//! then cannot run the destructors of the threads that hang. That is the failure of a test too.

use super::process::{End, Ended};

/// The status with which the test harness ends where a test failed.
const FAILED: i32 = 101;
/// The signal of an abort.
const ABORT: i32 = 6;
/// What is told where a panic becomes an abort. An abort for want of memory says other words.
const ABORTED: &str = "panic in a destructor during cleanup";
/// How much of a panic's message stands in a line of the report.
const REASON_CHARS: usize = 100;

/// The schedules that a model explored, all of them well; or why it does not hold.
pub(super) fn of_model(ended: &Ended) -> Result<u64, String> {
    match ran(ended)? {
        Ran::Passed => schedules(&ended.output)
            .ok_or_else(|| "explored nothing: no model ran under the model checker".to_owned()),
        Ran::Failed => Err(format!("failed: {}", reason(&ended.output))),
    }
}

/// What the model said when it caught the planted bug; or why it did not catch it.
pub(super) fn of_bug(ended: &Ended) -> Result<String, String> {
    match ran(ended)? {
        Ran::Passed => Err("planted bug not caught".to_owned()),
        Ran::Failed => Ok(reason(&ended.output)),
    }
}

/// How the one test of a process ended.
enum Ran {
    Passed,
    Failed,
}

fn ran(ended: &Ended) -> Result<Ran, String> {
    let told = |result: &str| ended.output.lines().any(|line| line.starts_with(result));
    match ended.end {
        End::OverTime => Err(format!("not finished after {} s", ended.took.as_secs())),
        End::Signal(ABORT) if told("running 1 test") && told(ABORTED) => Ok(Ran::Failed),
        End::Signal(signal) => Err(format!("ended by signal {signal}, not by a failed test")),
        End::Status(0) if told("test result: ok. 1 passed; 0 failed; 0 ignored;") => {
            Ok(Ran::Passed)
        }
        End::Status(FAILED) if told("test result: FAILED. 0 passed; 1 failed; 0 ignored;") => {
            Ok(Ran::Failed)
        }
        End::Status(0 | FAILED) => Err("the harness did not run exactly this test".to_owned()),
        End::Status(status) => Err(format!("ended with status {status}, which no test does")),
    }
}

/// The schedules that the model checker says it explored, in all models of the test.
fn schedules(output: &str) -> Option<u64> {
    let told = output.split("Completed in ").skip(1);
    let counts = told.filter_map(|told| told.split_once(" iterations")?.0.parse::<u64>().ok());
    counts.reduce(u64::saturating_add)
}

/// The first line of the first panic's message, or its beginning.
fn reason(output: &str) -> String {
    let mut lines = output.lines();
    let panicked = lines.any(is_panic);
    let message = lines.next().filter(|_| panicked).unwrap_or_default().trim();
    if message.is_empty() {
        return "for no reason that was told".to_owned();
    }
    message.chars().take(REASON_CHARS).collect()
}

/// Whether this line begins the message of a panic: `thread 'law' (77) panicked at a.rs:1:2:`.
fn is_panic(line: &str) -> bool {
    line.split_once("thread '")
        .is_some_and(|(_, rest)| rest.contains(" panicked at "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const EXPLORED: &str = " INFO loom::model: Completed in 12 iterations\n";
    const PASSED: &str = "test law ... ok\n\n\
        test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out\n";
    const FAILED: &str = "\nthread 'law' (7) panicked at a/tests/loom_a.rs:3:9:\n\
        assertion `left == right` failed: lost\n  left: 1\n right: 2\n\
        thread 'law' panicked at b.rs:1:1:\nAllocation leaked.\n\
        test law ... FAILED\n\n\
        test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out\n";
    const NONE: &str = "running 0 tests\n\n\
        test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 4 filtered out\n";
    const IGNORED: &str = "running 1 test\ntest law ... ignored\n\n\
        test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out\n";

    fn ended(end: End, output: &str) -> Ended {
        Ended {
            end,
            output: output.to_owned(),
            took: Duration::from_millis(240_200),
        }
    }

    #[test]
    fn a_model_holds_where_it_passed_and_explored() {
        let output = format!("{EXPLORED}{EXPLORED}{PASSED}");
        assert_eq!(of_model(&ended(End::Status(0), &output)), Ok(24));
        let unexplored = of_model(&ended(End::Status(0), PASSED)).unwrap_err();
        assert!(unexplored.contains("explored nothing"), "{unexplored}");
        assert_eq!(
            of_model(&ended(End::Status(101), FAILED)).unwrap_err(),
            "failed: assertion `left == right` failed: lost"
        );
    }

    #[test]
    fn a_bug_is_caught_where_its_test_failed() {
        assert_eq!(
            of_bug(&ended(End::Status(101), FAILED)).unwrap(),
            "assertion `left == right` failed: lost"
        );
        let passed = format!("{EXPLORED}{PASSED}");
        assert_eq!(
            of_bug(&ended(End::Status(0), &passed)).unwrap_err(),
            "planted bug not caught"
        );
    }

    #[test]
    fn a_deadlock_is_a_failure_though_the_process_aborts() {
        let output = "\nrunning 1 test\nthread 'law' (7) panicked at a.rs:1:1:\n\
            deadlock; threads = [1, 2]\nthread 'law' (7) panicked at b.rs:1:1:\n\
            panic in a destructor during cleanup\n";
        let aborted = ended(End::Signal(6), output);
        assert_eq!(of_bug(&aborted).unwrap(), "deadlock; threads = [1, 2]");
        assert_eq!(
            of_model(&aborted).unwrap_err(),
            "failed: deadlock; threads = [1, 2]"
        );
        let two = output.replace("running 1 test", "running 2 tests");
        let no_memory = output.replace("panic in a destructor", "memory allocation failed");
        for output in [two, no_memory] {
            let died = of_bug(&ended(End::Signal(6), &output)).unwrap_err();
            assert!(died.contains("signal 6"), "{died}");
        }
    }

    #[test]
    fn no_other_end_is_a_model_that_holds_or_a_bug_that_is_caught() {
        let two = FAILED.replace("0 passed; 1 failed", "1 passed; 1 failed");
        for (end, output, why) in [
            (End::Status(0), NONE, "exactly this test"),
            (End::Status(0), IGNORED, "exactly this test"),
            (
                End::Status(101),
                "error: no such option",
                "exactly this test",
            ),
            (End::Status(101), two.as_str(), "exactly this test"),
            (End::Status(101), PASSED, "exactly this test"),
            (End::Status(0), FAILED, "exactly this test"),
            (End::Status(2), FAILED, "status 2"),
            (End::Signal(6), FAILED, "signal 6"),
            (End::OverTime, FAILED, "not finished after 240 s"),
        ] {
            let ended = ended(end, output);
            let (model, bug) = (of_model(&ended).unwrap_err(), of_bug(&ended).unwrap_err());
            assert!(model.contains(why) && bug.contains(why), "{model}, {bug}");
        }
    }

    #[test]
    fn a_failure_without_words_says_so() {
        assert_eq!(reason("test law ... FAILED"), "for no reason that was told");
        let beside = "test law ... thread 'law' panicked at a.rs:1:1:\ndeadlock; threads = [..]\n";
        assert_eq!(reason(beside), "deadlock; threads = [..]");
    }
}
