//! Workers of several heaps that take turns, and what is made of the lines that they tell.

use std::cell::RefCell;

use crate::contest::{Better, Case, Contender, Named, OURS_AGAIN, Result, compare, take_turns};

/// Who takes part in a case: a run of it yields a line.
pub(super) struct Entry<'a, L> {
    named: Named,
    work: Box<dyn FnMut() -> anyhow::Result<L> + 'a>,
}

impl<'a, L> Entry<'a, L> {
    pub(super) fn new(named: Named, work: impl FnMut() -> anyhow::Result<L> + 'a) -> Self {
        Self {
            named,
            work: Box::new(work),
        }
    }
}

/// What came of all rounds of a case.
#[derive(Debug)]
pub(super) struct Lines<L> {
    /// The subject, the subject again, and each peer that did it.
    lines: Vec<(Named, Vec<L>)>,
    /// Who did not, and why.
    pub(super) why: Vec<(&'static str, &'static str)>,
}

/// Lets all do it in turns, the subject and the subject again first. One that fails is not asked
/// again.
pub(super) fn turns<L>(entries: Vec<Entry<'_, L>>, rounds: usize) -> anyhow::Result<Lines<L>> {
    let failures = RefCell::new(Vec::new());
    let contender = |Entry { named, mut work }| {
        let failures = &failures;
        let (name, version) = named;
        let mut has_failed = false;
        let work = move || {
            if has_failed {
                return Ok(None);
            }
            Ok(work()
                .map_err(|error| {
                    has_failed = true;
                    let why: &str = format!("{error:#}").leak();
                    failures.borrow_mut().push((name, why));
                })
                .ok())
        };
        Contender::new(name, work).of(version)
    };
    let mut all: Vec<_> = entries.into_iter().map(contender).collect();
    let mut lines = Vec::new();
    for (named, runs) in take_turns(&mut all, rounds)? {
        if let Some(runs) = runs.into_iter().collect::<Option<Vec<_>>>() {
            lines.push((named, runs));
        }
    }
    drop(all);
    let why = failures.into_inner();
    Ok(Lines { lines, why })
}

impl<L> Lines<L> {
    /// Without the subject there is nothing to compare the others with.
    pub(super) fn has_subject(&self) -> bool {
        let mut names = self.lines.iter().map(|((name, _), _)| *name);
        names.next().is_some() && names.next() == Some(OURS_AGAIN)
    }

    /// One figure of each line, of a case of this name; less is better.
    pub(super) fn results(
        &self,
        name: String,
        unit: &'static str,
        of: fn(&L) -> f64,
    ) -> anyhow::Result<Vec<Result>> {
        if !self.has_subject() {
            return Ok(Vec::new());
        }
        let case = Case::figure(name, unit, Better::Lower);
        let sides = self.lines.iter().map(|(named, lines)| {
            let runs = lines.iter().map(of).collect();
            (*named, runs)
        });
        compare(&case, sides.collect())
    }

    /// Lines of all.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, &L)> {
        let lines = self.lines.iter();
        lines.flat_map(|((name, _), lines)| lines.iter().map(|line| (*name, line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contest::OURS;

    fn entry(name: &'static str, line: Option<f64>) -> Entry<'static, f64> {
        Entry::new((name, "1"), move || {
            line.ok_or_else(|| anyhow::anyhow!("{name} broke"))
        })
    }

    #[test]
    fn one_that_fails_is_told_and_the_others_are_compared() {
        let entries = vec![
            entry(OURS, Some(2.0)),
            entry(OURS_AGAIN, Some(2.0)),
            entry("a", None),
            entry("b", Some(4.0)),
        ];
        let lines = turns(entries, 2).unwrap();
        assert_eq!(lines.why, [("a", "a broke")]);
        let results = lines.results("case".into(), "ns", |line| *line).unwrap();
        let ratios: Vec<_> = results.iter().map(|result| result.ratio()).collect();
        assert_eq!(ratios, [Some(0.5), Some(1.0)]);
        assert_eq!(lines.all().count(), 6);
    }

    #[test]
    fn without_the_subject_nothing_is_compared() {
        let entries = vec![
            entry(OURS, Some(2.0)),
            entry(OURS_AGAIN, None),
            entry("a", Some(1.0)),
        ];
        let lines = turns(entries, 1).unwrap();
        assert!(!lines.has_subject());
        let results = lines.results("case".into(), "ns", |line| *line).unwrap();
        assert!(results.is_empty());
    }
}
