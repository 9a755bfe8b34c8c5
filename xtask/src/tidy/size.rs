//! Sizes that a reader can hold: of functions, files and lines.

use super::Finding;
use super::tree::File;

/// A function fits a screen.
pub(super) const FUNCTION_LINES: usize = 70;
/// A file past this is probably two.
const FILE_LINES: usize = 600;
/// A file past this is certainly two.
const FILE_LINES_MAX: usize = 1_000;
/// As wide as the formatter makes a line, and what it cannot break: comments and strings.
const LINE_CHARS: usize = 100;

/// The sizes of one Rust file.
pub(super) fn check(file: &File) -> Vec<Finding> {
    let Some(rust) = file.as_rust() else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for function in rust
        .functions
        .iter()
        .filter(|function| function.lines > FUNCTION_LINES)
    {
        let message = format!(
            "function `{}` has {} lines, at most {FUNCTION_LINES}: split it",
            function.name, function.lines
        );
        findings.push(Finding::breach(&file.path, function.line, message));
    }
    let lines = file.text.lines().count();
    if lines > FILE_LINES_MAX {
        let message = format!("{lines} lines, at most {FILE_LINES_MAX}: split the file");
        findings.push(Finding::breach(&file.path, 0, message));
    } else if lines > FILE_LINES {
        let message = format!("{lines} lines, better at most {FILE_LINES}: think of splitting it");
        findings.push(Finding::habit(&file.path, 0, message));
    }
    for (index, line) in file.text.lines().enumerate() {
        let chars = line.chars().count();
        // An address on the web cannot be broken.
        if chars > LINE_CHARS && !line.contains("://") {
            let message = format!("{chars} characters, at most {LINE_CHARS}");
            findings.push(Finding::breach(&file.path, index + 1, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;
    use super::super::{Finding, Weight};

    fn check(path: &str, text: &str) -> Vec<Finding> {
        Tree::of(&[(path, text)])
            .files()
            .iter()
            .flat_map(super::check)
            .collect()
    }

    fn function_of(lines: usize) -> String {
        format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2))
    }

    #[test]
    fn a_function_of_70_lines_passes_and_one_of_71_does_not() {
        assert_eq!(check("a.rs", &function_of(70)), []);
        let found = check("a.rs", &function_of(71));
        assert_eq!((found.len(), found[0].line), (1, 1));
        assert!(
            found[0].message.contains("`f` has 71 lines"),
            "{}",
            found[0]
        );
    }

    #[test]
    fn a_long_file_is_noted_and_a_very_long_one_refused() {
        let weights = |lines: usize| -> Vec<Weight> {
            check("a.rs", &"// line\n".repeat(lines))
                .iter()
                .map(|found| found.weight)
                .collect()
        };
        assert_eq!(weights(600), []);
        assert_eq!(weights(601), [Weight::Habit]);
        assert_eq!(weights(1_001), [Weight::Breach]);
    }

    #[test]
    fn a_line_of_101_characters_is_refused_unless_it_holds_an_address() {
        let wide = format!("// {}\n", "x".repeat(98));
        assert_eq!(check("a.rs", &format!("\n{wide}"))[0].line, 2);
        assert_eq!(check("a.rs", &wide.replace("xxxx", "a://")), []);
        assert_eq!(check("a.md", &wide), [], "prose may be wide");
    }
}
