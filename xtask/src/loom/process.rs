//! One process with a limit of time, and a queue of such processes.
//!
//! The end of a process is known by the end of its output, which a thread reads: so nobody polls,
//! and a process that never ends is killed when the limit has passed.

use std::collections::VecDeque;
use std::io::{PipeReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use pool_core::clock;
use pool_core::sync::{Mutex, lock, thread};

use crate::command::shown;

/// How a process ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By itself, with this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
    /// It was killed, for it ran past the limit.
    OverTime,
}

/// A process that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) end: End,
    /// What it wrote, the standard error among it, in the order in which it was written.
    pub(super) output: String,
    pub(super) took: Duration,
}

/// Runs `command` to its end, or kills it once `limit` has passed.
pub(super) fn run(mut command: Command, limit: Duration) -> anyhow::Result<Ended> {
    let shown = shown(&command);
    let (reader, writer) = std::io::pipe()?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let started = clock::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    // It holds the writing end, and with it the end of the output back.
    drop(command);
    let output = read(reader);
    let (is_over_time, output) = match output.recv_timeout(limit) {
        Ok(output) => (false, output),
        Err(_) => {
            child.kill()?;
            (true, output.recv()?)
        }
    };
    let status = child.wait()?;
    let took = Duration::from_nanos(clock::now().saturating_since(started).get());
    let end = match (status.code(), status.signal()) {
        _ if is_over_time => End::OverTime,
        (Some(code), _) => End::Status(code),
        (None, signal) => End::Signal(signal.context("neither a status nor a signal")?),
    };
    let output = output.with_context(|| format!("cannot read what `{shown}` wrote"))?;
    Ok(Ended { end, output, took })
}

/// Has a thread read all of `pipe`.
fn read(mut pipe: PipeReader) -> mpsc::Receiver<std::io::Result<String>> {
    let (told, output) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = pipe.read_to_end(&mut bytes);
        // Nobody listens where the run was given up, and says why itself.
        drop(told.send(read.map(|_| String::from_utf8_lossy(&bytes).into_owned())));
    });
    output
}

/// Does `work` for each job, for `at_once` of them at a time and in their order, and gives each
/// answer to `done` as it comes.
pub(super) fn each<J: Send, A: Send>(
    jobs: Vec<J>,
    at_once: usize,
    work: impl Fn(&J) -> A + Sync,
    mut done: impl FnMut(J, A),
) {
    let jobs = Mutex::new(VecDeque::from(jobs));
    let (told, answers) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..at_once {
            let (jobs, work, told) = (&jobs, &work, told.clone());
            scope.spawn(move || {
                // The lock is held for one statement only, and not while a job runs.
                let take = || lock(jobs).pop_front();
                while let Some(job) = take() {
                    let answer = work(&job);
                    if told.send((job, answer)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(told);
        for (job, answer) in answers {
            done(job, answer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str, limit: Duration) -> Ended {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run(command, limit).unwrap()
    }

    #[test]
    fn a_process_is_told_by_its_end_and_all_it_wrote() {
        let ended = shell("echo one; echo two >&2; exit 101", LONG);
        assert_eq!(ended.end, End::Status(101));
        assert_eq!(ended.output, "one\ntwo\n");
        assert_eq!(shell("kill -ABRT $$", LONG).end, End::Signal(6));
    }

    #[test]
    fn a_process_past_its_limit_is_killed_and_its_words_are_kept() {
        let ended = shell("echo begun; exec sleep 600", Duration::from_millis(300));
        assert_eq!(ended.end, End::OverTime);
        assert_eq!(ended.output, "begun\n");
    }

    #[test]
    fn each_job_is_done_once() {
        let mut squares = Vec::new();
        each(
            (0..100_u32).collect(),
            2,
            |job| job * job,
            |job, answer| squares.push((job, answer)),
        );
        squares.sort_unstable();
        assert_eq!(squares, (0..100).map(|n| (n, n * n)).collect::<Vec<_>>());
    }
}
