//! What the README shows is what there is: its program is an example that is compiled with the
//! tests, and its commands stand on lines of their own, to be typed as they are.

use super::Finding;
use super::tree::Tree;

const README: &str = "README.md";
/// The program on the first screen.
const EXAMPLE: &str = "client-sdk/examples/two_tiers.rs";
/// What a newcomer is told to type.
const COMMANDS: [&str; 2] = ["cargo xtask demo", "cargo xtask test"];

/// Compares the README with the tree.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(readme) = tree.file(README) else {
        return vec![Finding::breach(README, 0, "there is no README")];
    };
    let mut findings = Vec::new();
    let example = tree.file(EXAMPLE).map(|file| file.text.trim_end());
    if first_program(&readme.text) != example {
        let message = format!("the first program is not {EXAMPLE}, word by word");
        findings.push(Finding::breach(README, 0, message));
    }
    for command in COMMANDS {
        if !readme.text.lines().any(|line| line == command) {
            findings.push(Finding::breach(
                README,
                0,
                format!("no line is `{command}`"),
            ));
        }
    }
    findings
}

/// What stands in the first block of Rust.
fn first_program(text: &str) -> Option<&str> {
    let (_, program) = text.split_once("```rust\n")?;
    let (program, _) = program.split_once("```")?;
    Some(program.trim_end())
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;
    use super::{COMMANDS, EXAMPLE};

    fn breaches(program: &str, commands: &[&str]) -> usize {
        let readme = format!(
            "# Pool\n\n```rust\n{program}```\n\n{}\n",
            commands.join("\n")
        );
        let tree = Tree::of(&[("README.md", &readme), (EXAMPLE, "fn main() {}\n")]);
        super::check(&tree).len()
    }

    #[test]
    fn the_program_is_the_example_and_the_commands_are_there() {
        assert_eq!(breaches("fn main() {}\n", &COMMANDS), 0);
    }

    #[test]
    fn another_program_and_a_missing_command_are_caught() {
        assert_eq!(breaches("fn main() { }\n", &COMMANDS), 1);
        assert_eq!(breaches("fn main() {}\n", &COMMANDS[..1]), 1);
        assert_eq!(
            breaches("fn main() {}\n", &["run `cargo xtask demo`", COMMANDS[1]]),
            1
        );
        assert_eq!(
            super::check(&Tree::of(&[("README.md", "nothing")])).len(),
            2
        );
        assert_eq!(super::check(&Tree::of(&[])).len(), 1);
    }
}
