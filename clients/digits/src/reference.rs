//! The same training in one process and private memory, without any pool: what the job over the
//! pool must equal, bit by bit.

use crate::data::Digits;
use crate::job::Job;
use crate::memory::Missing;
use crate::model;

/// What a run ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Of the parameters.
    pub(crate) digest: u64,
    /// Held-out digits that are named rightly.
    pub(crate) hits: usize,
    /// Held-out digits.
    pub(crate) held_out: usize,
}

/// Runs all steps.
pub(crate) fn run(job: &Job, digits: &Digits) -> Result<Outcome, Missing> {
    let (shape, count) = (job.shape, job.shape.parameters());
    let mut state = shape.initial(job.seed);
    state.resize(2 * count, 0.0);
    for step in 0..job.steps {
        let (gradient, _) = model::gradient(shape, &state, digits, &job.order.batch(step))?;
        state = model::updated(job.rate, count, &state, &gradient)?;
    }
    let held_out = job.order.held_out();
    Ok(Outcome {
        digest: model::digest(count, &state)?,
        hits: model::hits(shape, &state, digits, held_out)?,
        held_out: held_out.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_job_names_more_than_95_of_100_held_out_digits_rightly() {
        let digits = Digits::carried().unwrap();
        let outcome = run(&Job::new(1_797, 880).unwrap(), &digits).unwrap();
        assert_eq!(outcome.held_out, 360);
        assert!(outcome.hits * 100 >= 95 * outcome.held_out, "{outcome:?}");
    }

    #[test]
    fn two_runs_end_in_the_same_bits_and_another_seed_in_others() {
        let digits = Digits::carried().unwrap();
        let mut job = Job::new(1_797, 50).unwrap();
        let first = run(&job, &digits).unwrap();
        assert_eq!(first, run(&job, &digits).unwrap());
        job.seed += 1;
        assert_ne!(first.digest, run(&job, &digits).unwrap().digest);
    }
}
