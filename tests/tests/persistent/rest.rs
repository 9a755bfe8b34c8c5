//! What a pool has when everybody has gone: nothing of what anybody had.

use std::collections::BTreeSet;
use std::path::Path;

use tierpool_tests::daemon::Daemon;

/// Tables of the journal that are empty then.
const EMPTY: [&str; 3] = ["clients", "segments", "backings"];
/// Those whose rows stay: what they say is the same then.
const STAY: [&str; 2] = ["devices", "tenants"];

/// What a pool at rest has, which never saw a call fail.
#[derive(Debug, Clone)]
pub(crate) struct Rest {
    /// Of the daemon, without the files in stock.
    pub(crate) descriptors: usize,
    files: BTreeSet<String>,
    keepers: usize,
    rows: BTreeSet<String>,
}

impl Rest {
    /// Looks at a daemon at rest, with so many descriptors, and stops it.
    pub(crate) fn of(daemon: &mut Daemon, descriptors: usize) -> Self {
        nobody_pays(daemon);
        let (files, keepers) = (files(daemon), daemon.keepers().len());
        assert!(daemon.stop().success(), "{}", daemon.log());
        Self {
            descriptors,
            files,
            keepers,
            rows: rows(daemon),
        }
    }

    /// Looks at one that has seen calls fail, which must have the same, and stops it.
    pub(crate) fn is_that_of(&self, daemon: &mut Daemon, plan: &str) {
        nobody_pays(daemon);
        let (files, keepers) = (files(daemon), daemon.keepers().len());
        assert_eq!(files, self.files, "{plan}: files that nobody has");
        assert_eq!(keepers, self.keepers, "{plan}: keepers");
        assert!(daemon.stop().success(), "{}", daemon.log());
        self.rows_are_those_of(daemon, plan);
    }

    pub(crate) fn rows_are_those_of(&self, daemon: &Daemon, plan: &str) {
        assert_eq!(rows(daemon), self.rows, "{plan}: rows that nobody has");
    }
}

/// No tenant is charged for anything.
fn nobody_pays(daemon: &Daemon) {
    for tenant in daemon.admin().tenants().expect("they are listed") {
        let uses = |tier: &pool_proto::admin::v1::TierUse| {
            tier.used_bytes > 0 || tier.burst_bytes > 0 || tier.quarantined_bytes > 0
        };
        let pays = tenant.clients > 0 || tenant.segments > 0 || tenant.tiers.iter().any(uses);
        assert!(!pays, "quota that nobody has: {tenant:#?}");
    }
}

/// The files that it has under names, by those within its folder.
fn files(daemon: &Daemon) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let home = daemon.path("");
    let mut folders = vec![daemon.path("state"), daemon.path("run")];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).expect("the daemon has a folder");
        for entry in entries {
            let entry = entry.expect("its entries are told");
            let path = entry.path();
            if entry.file_type().expect("it is told").is_dir() {
                folders.push(path.clone());
            }
            names.insert(name(&path, &home));
        }
    }
    names
}

fn name(path: &Path, home: &Path) -> String {
    let within = path.strip_prefix(home).expect("it is in the folder");
    within.display().to_string()
}

/// What its journal says; it does not run.
fn rows(daemon: &Daemon) -> BTreeSet<String> {
    let mut stay = BTreeSet::new();
    for line in daemon.journal() {
        let row: serde_json::Value = serde_json::from_str(&line).expect("a row is JSON");
        let table = row["table"].as_str().expect("it is of a table");
        assert!(!EMPTY.contains(&table), "rows that nobody has: {line}");
        if STAY.contains(&table) {
            stay.insert(line);
        }
    }
    stay
}
