//! Versions of what others have written, from the lock file this program is built by.

/// The lock file.
const LOCK: &str = include_str!("../../Cargo.lock");

/// The version of the package `name`: the first of that name in the lock file.
pub(crate) fn version_of(name: &str) -> &'static str {
    let mut lines = LOCK.lines();
    let wanted = |line: &str| value(line, "name") == Some(name);
    let found = lines.find(|line| wanted(line));
    let version = found.and_then(|_| value(lines.next()?, "version"));
    version.unwrap_or("unknown")
}

/// What is between the quotes of `key = "value"`.
fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let value = line.strip_prefix(key)?.strip_prefix(" = \"")?;
    value.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_file_tells_versions() {
        assert_eq!(version_of("tierpool-benches"), env!("CARGO_PKG_VERSION"));
        assert!(version_of("parking_lot").starts_with("0."));
        assert_eq!(version_of("tierpool"), "unknown");
    }
}
