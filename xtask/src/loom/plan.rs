//! What is to be run: each model by itself, and with each of the bugs that it must catch.

use anyhow::bail;

use super::program::Program;
use crate::tidy::Model;

/// A test of a program, and the bugs that it must catch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) program: Program,
    /// The name by which the program knows it.
    pub(super) test: String,
    pub(super) catches: Vec<String>,
}

/// One run of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Job<'a> {
    pub(super) case: &'a Case,
    /// The bug that is planted.
    pub(super) bug: Option<&'a str>,
}

/// Which runs are asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice<'a> {
    pub(super) models: bool,
    pub(super) bugs: bool,
    /// What stands in the name of the model or of the bug.
    pub(super) filter: &'a str,
}

/// Finds the models of the source among the tests of the programs.
///
/// # Errors
/// A model is in no program, and would be left out in silence; or its name does not tell which of
/// the program's tests it is.
pub(super) fn cases(
    models: &[Model],
    programs: &[(Program, Vec<String>)],
) -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for model in models {
        cases.push(case(model, programs)?);
    }
    for (program, tests) in programs {
        // A file of models holds nothing else. Those that a macro makes are not seen in the source.
        let of_models = program.target.is_some().then_some(tests);
        for test in of_models.into_iter().flatten() {
            let is_known = |case: &Case| case.program == *program && case.test == *test;
            if !cases.iter().any(is_known) {
                cases.push(Case {
                    program: program.clone(),
                    test: test.clone(),
                    catches: Vec::new(),
                });
            }
        }
    }
    Ok(cases)
}

fn case(model: &Model, programs: &[(Program, Vec<String>)]) -> anyhow::Result<Case> {
    let mut found = Vec::new();
    for (program, tests) in programs {
        if program.package != model.package || program.target != model.target {
            continue;
        }
        let is_it = |test: &&String| test.rsplit("::").next() == Some(&model.name);
        found.extend(tests.iter().filter(is_it).map(|test| (program, test)));
    }
    match found[..] {
        [(program, test)] => Ok(Case {
            program: program.clone(),
            test: test.clone(),
            catches: model.catches.clone(),
        }),
        [] => bail!(
            "the model `{}` of {} is in no program: does it compile under loom?",
            model.name,
            model.package
        ),
        _ => bail!(
            "{} tests of one program of {} are named `{}`: give each its own name",
            found.len(),
            model.package,
            model.name
        ),
    }
}

/// The runs that are asked for, those without a bug first.
pub(super) fn jobs<'a>(cases: &'a [Case], choice: Choice<'_>) -> Vec<Job<'a>> {
    let plain = cases.iter().map(|case| Job { case, bug: None });
    let planted = cases.iter().flat_map(|case| {
        let bugs = case.catches.iter();
        bugs.map(move |bug| Job {
            case,
            bug: Some(bug),
        })
    });
    let is_asked = |job: &Job<'_>| {
        let name = job.case.program.shown(&job.case.test);
        let is_named =
            name.contains(choice.filter) || job.bug.is_some_and(|bug| bug.contains(choice.filter));
        is_named
            && if job.bug.is_some() {
                choice.bugs
            } else {
                choice.models
            }
    };
    plain.chain(planted).filter(is_asked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(target: Option<&str>, name: &str, catches: &[&str]) -> Model {
        Model {
            package: "pool".to_owned(),
            target: target.map(str::to_owned),
            name: name.to_owned(),
            catches: catches.iter().map(|bug| (*bug).to_owned()).collect(),
        }
    }

    fn programs() -> Vec<(Program, Vec<String>)> {
        let program = |target: Option<&str>| Program {
            package: "pool".to_owned(),
            target: target.map(str::to_owned),
            path: "program".into(),
        };
        let tests = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        vec![
            (
                program(None),
                tests(&["a::tests::law", "a::tests::of_a_model", "b::tests::law"]),
            ),
            (program(Some("loom_a")), tests(&["law", "made::of_a_macro"])),
        ]
    }

    fn named(models: &[Model]) -> Result<Vec<String>, String> {
        let cases = cases(models, &programs()).map_err(|error| error.to_string())?;
        let jobs = jobs(
            &cases,
            Choice {
                models: true,
                bugs: true,
                filter: "",
            },
        );
        Ok(jobs.iter().map(shown).collect())
    }

    fn shown(job: &Job<'_>) -> String {
        let name = job.case.program.shown(&job.case.test);
        format!("{name} {}", job.bug.unwrap_or("-"))
    }

    #[test]
    fn each_model_is_run_by_itself_and_with_each_of_its_bugs() {
        let models = [
            model(None, "of_a_model", &["a.bug"]),
            model(Some("loom_a"), "law", &["b.bug", "c.bug"]),
        ];
        assert_eq!(
            named(&models).unwrap(),
            [
                "pool::a::tests::of_a_model -",
                "pool::loom_a::law -",
                "pool::loom_a::made::of_a_macro -",
                "pool::a::tests::of_a_model a.bug",
                "pool::loom_a::law b.bug",
                "pool::loom_a::law c.bug",
            ]
        );
    }

    #[test]
    fn a_model_that_is_not_built_or_not_told_apart_is_an_error() {
        let gone = named(&[model(Some("loom_a"), "gone", &[])]).unwrap_err();
        assert!(gone.contains("in no program"), "{gone}");
        let gone = named(&[model(Some("loom_b"), "law", &[])]).unwrap_err();
        assert!(gone.contains("in no program"), "{gone}");
        let twice = named(&[model(None, "law", &[])]).unwrap_err();
        assert!(twice.contains("2 tests"), "{twice}");
    }

    #[test]
    fn a_choice_leaves_out_the_rest() {
        let models = [
            model(None, "of_a_model", &["a.bug"]),
            model(Some("loom_a"), "law", &["b.bug"]),
        ];
        let cases = cases(&models, &programs()).unwrap();
        let chosen = |models, bugs, filter| {
            let choice = Choice {
                models,
                bugs,
                filter,
            };
            let jobs = jobs(&cases, choice);
            jobs.iter().map(shown).collect::<Vec<_>>()
        };
        assert_eq!(chosen(true, false, "::law"), ["pool::loom_a::law -"]);
        assert_eq!(chosen(false, true, "b.b"), ["pool::loom_a::law b.bug"]);
        assert_eq!(
            chosen(true, true, "of_a_model"),
            [
                "pool::a::tests::of_a_model -",
                "pool::a::tests::of_a_model a.bug"
            ]
        );
        assert_eq!(chosen(false, true, "").len(), 2);
    }
}
