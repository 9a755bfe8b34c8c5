//! The crash points that the sources name, so that a test which dies at each of them finds out that
//! it has left one out.

use std::fs;
use std::path::Path;

/// What stands between the quotes of each `crash_point!("...")` in the sources of `package`, a
/// folder beside that of the tests: in alphabetical order, and as often as it stands there.
#[must_use]
pub fn in_sources_of(package: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    collect(&root.join(package).join("src"), &mut found);
    found.sort_unstable();
    found
}

fn collect(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("the sources are there") {
        let path = entry.expect("the sources are there").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(path).expect("a source is text");
            let uses = text.split("crash_point!(\"").skip(1);
            found.extend(uses.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        }
    }
}
