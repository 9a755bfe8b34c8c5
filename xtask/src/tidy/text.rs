//! What may stand in any file of the tree: ASCII, no path of one machine, no unfinished note.

use super::Finding;
use super::tree::File;

/// Beginnings of paths that exist on one machine only. Put together here, so that this file does
/// not hold what it looks for.
const MACHINE_PATHS: [&str; 5] = [
    concat!("/", "work/"),
    concat!("/", "root/"),
    concat!("/", "home/"),
    concat!("/tmp/", "brief"),
    concat!("..", "/shared/"),
];

/// Words that put work off. What is left to do stands in the project's tracker.
const NOTES: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];

/// Words of a test that tells to itself alone that it did not run: the harness captures them, and
/// nobody collects them.
const CAPTURED: [&str; 2] = [
    concat!("println!(\"", "skipped"),
    concat!("print!(\"", "skipped"),
];

/// The text of one file.
pub(super) fn check(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let mut breach = |message: String| {
            findings.push(Finding::breach(&file.path, index + 1, message));
        };
        if let Some(character) = line.chars().find(|character| !character.is_ascii()) {
            breach(format!(
                "{character:?} ({}) is not ASCII",
                character.escape_unicode()
            ));
        }
        if let Some(path) = MACHINE_PATHS.iter().find(|path| line.contains(**path)) {
            breach(format!("`{path}` is a path of one machine"));
        }
        if CAPTURED.iter().any(|words| line.contains(words)) {
            breach("a skipped test says so with `writeln!(io::stdout(), ...)`".to_owned());
        }
        if let Some(note) = NOTES.iter().find(|note| line.contains(**note)) {
            breach(format!("`{note}`: do it, or write it to the tracker"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;

    fn lines(text: &str) -> Vec<usize> {
        let tree = Tree::of(&[("docs/a.md", text)]);
        tree.files()
            .iter()
            .flat_map(super::check)
            .map(|finding| finding.line)
            .collect()
    }

    #[test]
    fn only_ascii_passes() {
        assert_eq!(lines("plain\ncaf\u{e9}\n\u{2192}"), [2, 3]);
    }

    #[test]
    fn a_path_of_one_machine_is_caught() {
        for path in super::MACHINE_PATHS {
            assert_eq!(lines(&format!("see\n{path}x")), [2], "{path}");
        }
        assert!(lines("/run/tierpool/session.sock, /tmp, ProtectHome=yes").is_empty());
    }

    #[test]
    fn a_test_that_is_skipped_in_silence_is_caught() {
        for captured in super::CAPTURED {
            assert_eq!(lines(&format!("{captured}: no huge pages\");")), [1]);
            assert_eq!(lines(&format!("e{captured}: no huge pages\");")), [1]);
        }
        assert!(lines("writeln!(io::stdout(), \"skipped: it: why\")").is_empty());
    }

    #[test]
    fn a_note_that_puts_work_off_is_caught() {
        for note in super::NOTES {
            assert_eq!(lines(&format!("// {note}: later")), [1], "{note}");
        }
    }
}
