//! How a step is told while it happens, and what it is held to.

use std::time::Duration;

use super::cast::Cast;
use super::error::DemoError;
use super::told::{Promise, Step};
use crate::error::CtlError;
use crate::output::Output;

/// The cast, and the step that is on.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub(super) cast: Cast,
    step: Step,
    output: &'a mut Output,
    pace: Duration,
}

impl<'a> Stage<'a> {
    pub(super) fn new(cast: Cast, output: &'a mut Output, pace: Duration) -> Self {
        Self {
            cast,
            step: Step::default(),
            output,
            pace,
        }
    }

    /// A step begins: what it is called, and what it does.
    pub(super) fn begin(
        &mut self,
        title: &'static str,
        does: &'static str,
    ) -> Result<(), CtlError> {
        self.step = Step {
            step: self.step.step + 1,
            title,
            does,
            emulated: true,
            as_promised: true,
            ..Step::default()
        };
        self.text(|step| step.head())?;
        Ok(self.cast.patience.pause(self.pace)?)
    }

    /// The number of the step that is on.
    pub(super) fn number(&self) -> u8 {
        self.step.step
    }

    /// Something is promised, and is so or not: then nothing more is shown.
    pub(super) fn sees(&mut self, promise: impl Into<String>, seen: bool) -> Result<(), CtlError> {
        let told = Promise {
            promise: promise.into(),
            seen,
        };
        self.text(|_| told.line())?;
        let promise = told.promise.clone();
        self.step.promises.push(told);
        if seen {
            return Ok(());
        }
        self.step.as_promised = false;
        self.tables()?;
        let step = self.step.step;
        Err(DemoError::NotAsPromised { step, promise }.into())
    }

    /// Something is promised to be so soon.
    pub(super) fn sees_soon(
        &mut self,
        promise: impl Into<String>,
        mut check: impl FnMut(&mut Cast) -> Result<bool, CtlError>,
    ) -> Result<(), CtlError> {
        let (patience, cast) = (self.cast.patience.clone(), &mut self.cast);
        let seen = patience.until(|| Ok::<_, CtlError>(check(cast)?.then_some(())))?;
        self.sees(promise, seen.is_some())
    }

    /// Who has how much now is worth to be told.
    pub(super) fn moment(&mut self, moment: impl Into<String>) -> Result<(), CtlError> {
        let moment = self.cast.moment(moment.into())?;
        self.step.moments.push(moment);
        Ok(())
    }

    /// The step is over: whatever it was, nothing is lost or had twice.
    pub(super) fn end(&mut self) -> Result<(), CtlError> {
        let adds_up = self.cast.adds_up()?;
        self.sees(
            "what the hosts have and what is free is all that there is",
            adds_up,
        )?;
        (self.step.hosts, self.step.device) = self.cast.picture()?;
        let balanced = self.step.hosts.iter().all(|it| it.balanced);
        self.sees(
            "each daemon has counted every extent, and its accounts balance",
            balanced,
        )?;
        self.tables()
    }

    /// Tells the end of the step, as it was or as it failed.
    fn tables(&mut self) -> Result<(), CtlError> {
        if self.output.is_json() {
            return self.output.json(&self.step);
        }
        if self.step.hosts.is_empty() {
            // It failed, and whoever might be asked may be gone: what is known is told.
            if let Ok(moment) = self.cast.moment("now".to_owned()) {
                self.step.moments.push(moment);
            }
        }
        self.text(|step| step.tables())
    }

    fn text(&mut self, text: impl FnOnce(&Step) -> String) -> Result<(), CtlError> {
        if self.output.is_json() {
            return Ok(());
        }
        self.output.text(&text(&self.step))
    }

    /// All that is left to be told.
    pub(super) fn close(self, last: &str) -> Result<(), CtlError> {
        let Self { cast, output, .. } = self;
        cast.end()?;
        if output.is_json() {
            return Ok(());
        }
        output.text(last)
    }
}
