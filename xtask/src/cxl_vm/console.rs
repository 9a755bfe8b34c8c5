//! What a guest says on its console.
//!
//! Lines of the scenario begin with [`MARK`]; all others are the kernel's and the programs'. One
//! of them says `passed`, or `failed: WHY`; the first failure counts.

/// What the lines begin with that are meant for us.
const MARK: &str = "cxl-vm: ";
/// What a line begins with then by which a guest asks for something.
const ASKS: &str = "asks ";
/// How many lines are shown of a guest that did not say how it ended.
const LAST: usize = 25;

/// How a scenario ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Passed,
    Failed(String),
}

/// Shows the figures and steps that were told on the way.
pub(super) fn show(said: &str) {
    let is_step = |line: &&str| *line != "passed" && !line.starts_with("failed: ");
    for line in said.lines().filter_map(told).filter(is_step) {
        println!("  {line}");
    }
}

/// How it ended, of all that was said.
pub(super) fn verdict(said: &str) -> Verdict {
    let mut end = None;
    for line in said.lines().filter_map(told) {
        match line {
            "passed" => end = end.or(Some(Verdict::Passed)),
            line if line.starts_with("failed: ") => {
                let why = line["failed: ".len()..].to_owned();
                // What fails first is the cause of what fails after it.
                end = end.filter(is_failure).or(Some(Verdict::Failed(why)));
            }
            _ => {}
        }
    }
    end.unwrap_or_else(|| Verdict::Failed(unfinished(said)))
}

/// What the guest has asked for, in order: the rest of each line that is whole.
pub(super) fn asked(said: &str) -> impl Iterator<Item = &str> {
    let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let told = whole.lines().filter_map(told);
    told.filter_map(|line| line.strip_prefix(ASKS))
}

/// Whether just this line was told, and as a whole.
pub(super) fn has_told(said: &str, line: &str) -> bool {
    let mut whole = said.split_inclusive('\n').filter(|it| it.ends_with('\n'));
    whole.any(|said| told(said) == Some(line))
}

/// Whether a guest said that it failed.
pub(super) fn has_failed(said: &str) -> bool {
    let mut told = said.lines().filter_map(told);
    told.any(|line| line.starts_with("failed: "))
}

const fn is_failure(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Failed(_))
}

/// What a line says to us. The console may have put other text before the mark.
fn told(line: &str) -> Option<&str> {
    let (_, told) = line.trim_end().split_once(MARK)?;
    Some(told)
}

/// What is told of a guest that did not come to its end.
pub(super) fn unfinished(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    let last = &lines[lines.len().saturating_sub(LAST)..];
    format!(
        "it did not come to its end; it said last:\n{}",
        last.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_asked_in_a_whole_line() {
        let said = "cxl-vm: asks plug a1\r\ncxl-vm: asks pull a1\r\ncxl-vm: asks poi";
        let asked: Vec<&str> = asked(said).collect();
        assert_eq!(asked, ["plug a1", "pull a1"]);
    }

    #[test]
    fn a_line_is_told_once_it_is_whole_and_never_as_a_part_of_another() {
        let said = "cxl-vm: b: holds\r\n[ 1.0] cxl-vm: b: holds on\ncxl-vm: b: lets go";
        assert!(has_told(said, "b: holds") && has_told(said, "b: holds on"));
        assert!(!has_told(said, "b: lets go") && !has_told(said, "holds"));
    }

    #[test]
    fn the_first_failure_of_a_guest_is_its_verdict_and_silence_is_one() {
        assert_eq!(
            verdict("cxl-vm: step\r\ncxl-vm: passed\r\n[ 1.0] off"),
            Verdict::Passed
        );
        let failed = "cxl-vm: failed: 3 differ\ncxl-vm: failed: it ended\ncxl-vm: passed\n";
        assert_eq!(verdict(failed), Verdict::Failed("3 differ".to_owned()));
        assert!(has_failed(failed) && !has_failed("failed: x\ncxl-vm: passed\n"));
        assert!(matches!(verdict("a panic\n"), Verdict::Failed(why) if why.contains("a panic")));
    }
}
