//! What is shown of the runs: a line each, models before bugs, and of a run that failed what it
//! wrote and the command that repeats it.

use super::plan::Job;
use super::process::Ended;
use super::verdict;

/// The lines of a run, as the runs end.
#[derive(Debug)]
pub(super) struct Report {
    /// Models that have not ended. The lines of bugs wait for them.
    models_left: usize,
    waiting: String,
    /// How wide the names of models and of bugs are.
    widths: [usize; 2],
    models: Tally,
    bugs: Tally,
    schedules: u64,
}

/// How many runs of a kind there were, and how many were as they must be.
#[derive(Debug, Default)]
struct Tally {
    good: usize,
    all: usize,
}

impl Tally {
    fn count(&mut self, is_good: bool) {
        self.all += 1;
        self.good += usize::from(is_good);
    }
}

impl Report {
    /// A report of `jobs`, of which none has ended.
    pub(super) fn new(jobs: &[Job<'_>]) -> Self {
        let models = jobs.iter().map(|job| name(job).len());
        let bugs = jobs.iter().filter_map(|job| job.bug).map(str::len);
        Self {
            models_left: jobs.iter().filter(|job| job.bug.is_none()).count(),
            waiting: String::new(),
            widths: [models.max().unwrap_or(0), bugs.max().unwrap_or(0)],
            models: Tally::default(),
            bugs: Tally::default(),
            schedules: 0,
        }
    }

    /// Takes the end of `job`, and gives back what can be shown now. `repeats` is asked for the
    /// command that runs it again.
    pub(super) fn told(
        &mut self,
        job: Job<'_>,
        ended: &Ended,
        repeats: impl FnOnce() -> String,
    ) -> String {
        let (mut lines, is_good) = match job.bug {
            None => self.model(&job, ended),
            Some(bug) => self.bug(&job, bug, ended),
        };
        if !is_good {
            for line in ended.output.lines() {
                lines.push_str(&format!("    | {line}\n"));
            }
            lines.push_str(&format!("    again: {}\n", repeats()));
        }
        if job.bug.is_some() {
            self.waiting.push_str(&lines);
            lines.clear();
        }
        if self.models_left == 0 {
            lines.push_str(&std::mem::take(&mut self.waiting));
        }
        lines
    }

    fn model(&mut self, job: &Job<'_>, ended: &Ended) -> (String, bool) {
        self.models_left -= 1;
        let verdict = verdict::of_model(ended);
        self.models.count(verdict.is_ok());
        self.schedules += verdict.as_ref().copied().unwrap_or(0);
        let (name, [width, _]) = (name(job), self.widths);
        let seconds = ended.took.as_secs_f64();
        let line = match &verdict {
            Ok(count) => format!("model  {name:width$}  {count:>9} schedules  {seconds:>6.1} s\n"),
            Err(why) => format!("model  {name:width$}  FAILED after {seconds:.1} s: {why}\n"),
        };
        (line, verdict.is_ok())
    }

    fn bug(&mut self, job: &Job<'_>, bug: &str, ended: &Ended) -> (String, bool) {
        let verdict = verdict::of_bug(ended);
        self.bugs.count(verdict.is_ok());
        let (name, [of_model, of_bug]) = (name(job), self.widths);
        let seconds = ended.took.as_secs_f64();
        let told = match &verdict {
            Ok(reason) => format!("caught in {seconds:.1} s: {reason}"),
            Err(why) => format!("FAILED after {seconds:.1} s: {why}"),
        };
        let line = format!("bug    {bug:of_bug$}  {name:of_model$}  {told}\n");
        (line, verdict.is_ok())
    }

    /// How many runs were not as they must be.
    pub(super) fn failed(&self) -> usize {
        self.models.all + self.bugs.all - self.models.good - self.bugs.good
    }

    /// All of it in one line.
    pub(super) fn totals(&self) -> String {
        format!(
            "{} of {} models hold, over {} schedules; {} of {} planted bugs caught",
            self.models.good, self.models.all, self.schedules, self.bugs.good, self.bugs.all
        )
    }
}

fn name(job: &Job<'_>) -> String {
    job.case.program.shown(&job.case.test)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::plan::Case;
    use super::super::process::End;
    use super::super::program::Program;
    use super::*;

    fn ended(status: i32) -> Ended {
        let result = match status {
            0 => "Completed in 8 iterations\ntest result: ok. 1 passed; 0 failed; 0 ignored;",
            _ => {
                "thread 'law' panicked at a.rs:1:1:\ntorn\n\
                 test result: FAILED. 0 passed; 1 failed; 0 ignored;"
            }
        };
        Ended {
            end: End::Status(status),
            output: result.to_owned(),
            took: Duration::from_millis(1500),
        }
    }

    fn case() -> Case {
        Case {
            program: Program {
                package: "pool".to_owned(),
                target: Some("loom_a".to_owned()),
                path: "program".into(),
            },
            test: "law".to_owned(),
            catches: vec!["a.bug".to_owned()],
        }
    }

    const NEVER: fn() -> String = || unreachable!("a good run is not repeated");

    #[test]
    fn bugs_wait_for_the_models_and_are_told_with_their_reason() {
        let case = case();
        let model = Job {
            case: &case,
            bug: None,
        };
        let bug = Job {
            case: &case,
            bug: Some("a.bug"),
        };
        let mut report = Report::new(&[model, bug, bug]);
        assert_eq!(report.told(bug, &ended(101), NEVER), "");
        assert_eq!(
            report.told(model, &ended(0), NEVER),
            "model  pool::loom_a::law          8 schedules     1.5 s\n\
             bug    a.bug  pool::loom_a::law  caught in 1.5 s: torn\n"
        );
        assert_eq!(
            report.told(bug, &ended(101), NEVER),
            "bug    a.bug  pool::loom_a::law  caught in 1.5 s: torn\n"
        );
        assert_eq!(report.failed(), 0);
        assert_eq!(
            report.totals(),
            "1 of 1 models hold, over 8 schedules; 2 of 2 planted bugs caught"
        );
    }

    #[test]
    fn a_run_that_failed_shows_what_it_wrote_and_how_to_repeat_it() {
        let case = case();
        let [model, bug] = [None, Some("a.bug")].map(|bug| Job { case: &case, bug });
        let mut report = Report::new(&[model, bug]);
        let told = report.told(model, &ended(101), || "run it".to_owned());
        assert!(
            told.contains("FAILED after 1.5 s: failed: torn\n"),
            "{told}"
        );
        assert!(told.contains("    | torn\n"), "{told}");
        assert!(told.ends_with("    again: run it\n"), "{told}");
        let told = report.told(bug, &ended(0), || "run it".to_owned());
        assert!(
            told.contains("FAILED after 1.5 s: planted bug not caught\n"),
            "{told}"
        );
        assert_eq!(report.failed(), 2);
    }
}
