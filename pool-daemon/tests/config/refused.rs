//! What is said of files that are refused, see `refused.txt`.

use pool_daemon::config::Config;

use crate::{POOL, machine};

/// The message about `text`, whether it shows when it is read or when the plan is made.
fn message(text: &str) -> String {
    match Config::parse("t.toml", text).and_then(|config| config.plan(&machine())) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.to_string(),
    }
}

/// The file of one case of `refused.txt`.
fn case(lines: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = lines.lines().partition(|line| line.starts_with("- "));
    let new: String = new.into_iter().map(|line| format!("{line}\n")).collect();
    if let Some(more) = new.strip_prefix("+\n") {
        return format!("{POOL}{more}");
    }
    if old.is_empty() {
        return new;
    }
    let old: String = old
        .into_iter()
        .map(|line| format!("{}\n", &line[2..]))
        .collect();
    assert!(POOL.contains(&old), "no lines of the pool: {old}");
    POOL.replacen(&old, &new, 1)
}

#[test]
fn a_bad_value_is_refused_with_its_place_key_and_range() {
    let mut cases = include_str!("refused.txt").trim_end().split("\n\n");
    assert!(cases.next().unwrap().starts_with("Files that are refused"));
    let mut wrong = Vec::new();
    let mut count = 0;
    for block in cases {
        let (lines, expected) = block.split_once("\n=> ").unwrap();
        let found = message(&case(lines));
        if found != expected {
            wrong.push(format!("{lines}\n=> {found}"));
        }
        count += 1;
    }
    assert!(
        wrong.is_empty(),
        "otherwise than expected:\n\n{}",
        wrong.join("\n\n")
    );
    assert!(count >= 100, "only {count} cases");
}

#[test]
fn too_many_of_anything_are_refused() {
    let tiers: String = (0..257)
        .map(|n| format!("[[tier]]\nname = \"t{n}\"\n"))
        .collect();
    assert!(message(&tiers).ends_with("must be at most 256 tables, as [[tier]]"));
    let ids: Vec<_> = (0..1025).collect();
    let message = message(&format!("[daemon]\noperators = {ids:?}"));
    assert!(message.contains("a list of at most 1024 different numbers from 0 to 4294967294"));
}
