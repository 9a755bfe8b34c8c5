//! When something is sent again: ever later, up to a longest span.

use pool_core::Nanos;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Timer {
    due: Nanos,
    span: Nanos,
}

impl Timer {
    /// Due `first` from `now`.
    pub(super) const fn start(now: Nanos, first: Nanos) -> Self {
        Self {
            due: now.saturating_add(first),
            span: first,
        }
    }

    pub(super) const fn due(self) -> Nanos {
        self.due
    }

    pub(super) fn is_due(self, now: Nanos) -> bool {
        self.due <= now
    }

    /// It was sent once more: the next time after twice the span, at most after `longest`.
    pub(super) fn again(&mut self, now: Nanos, longest: Nanos) {
        self.span = self.span.saturating_add(self.span).min(longest);
        self.due = now.saturating_add(self.span);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut timer = Timer::start(Nanos::new(100), Nanos::new(10));
        assert!(!timer.is_due(Nanos::new(109)) && timer.is_due(Nanos::new(110)));
        timer.again(Nanos::new(110), Nanos::new(25));
        assert_eq!(timer.due(), Nanos::new(130));
        timer.again(Nanos::new(130), Nanos::new(25));
        assert_eq!(timer.due(), Nanos::new(155));
    }
}
