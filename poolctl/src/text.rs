//! How amounts, times and names of others are written for people.

use std::time::Duration;

use pool_core::Bytes;

/// `64 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    Bytes::new(bytes).to_string()
}

/// `1d 2h 3m 4s`; the parts before the first that is not zero are left out.
pub(crate) fn uptime(span: Duration) -> String {
    let seconds = span.as_secs();
    let parts = [
        (seconds / 86_400, 'd'),
        (seconds / 3_600 % 24, 'h'),
        (seconds / 60 % 60, 'm'),
        (seconds % 60, 's'),
    ];
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    let shown: Vec<_> = parts
        .iter()
        .skip(first)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    shown.join(" ")
}

/// A line that says where to look, where something is in quarantine.
pub(crate) fn whom_quarantine_waits_for(bytes: u64) -> &'static str {
    if bytes == 0 {
        ""
    } else {
        "`poolctl segments` says which processes the quarantine waits for\n"
    }
}

/// `1 client`, `2 clients`.
pub(crate) fn count(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// `0xa0, 0xa1`.
pub(crate) fn serials(serials: impl Iterator<Item = u64>) -> String {
    let serials = serials.map(|serial| format!("{serial:#x}"));
    serials.collect::<Vec<_>>().join(", ")
}

/// Text that somebody else chose, without what a terminal would obey.
pub(crate) fn plain(text: &str) -> String {
    let escape = |character: char| match character {
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// What stands in a table for something, or for nothing.
pub(crate) fn or_dash(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        plain(text)
    }
}

/// `name`, and that it is emulated where it is.
pub(crate) fn with_medium(name: &str, emulated: bool) -> String {
    let name = plain(name);
    if emulated {
        format!("{name} (emulated)")
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptimes_begin_with_what_is_not_zero() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (3_600, "1h 0m 0s"),
            (93_784, "1d 2h 3m 4s"),
        ] {
            assert_eq!(uptime(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_name_cannot_command_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(plain("gr\u{fc}n"), "gr\u{fc}n");
    }
}
