//! The books, looked at from outside: what the journal and the operators' interface say of who has
//! what, without a word of the daemon's own checks.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tierpool_tests::EXTENT;
use tierpool_tests::admin::Admin;

/// Ranges that must not overlap, by what they are ranges of.
#[derive(Default)]
struct Ranges(BTreeMap<(u64, u64), (u64, String)>);

impl Ranges {
    /// Adds what `owner` has: `count` from `first` of `space`.
    fn add(&mut self, space: u64, first: u64, count: u64, owner: String) {
        assert!(count > 0, "{owner} has nothing of {space} at {first}");
        let before = self.0.range(..(space, first + count)).next_back();
        if let Some(((other, start), (end, whose))) = before {
            let apart = *other != space || *end <= first;
            assert!(
                apart,
                "{owner} and {whose} both have {first}..{end} of {space} ({start})"
            );
        }
        self.0.insert((space, first), (first + count, owner));
    }
}

fn number(row: &Value, field: &str) -> u64 {
    row[field]
        .as_u64()
        .unwrap_or_else(|| panic!("{field} of {row}"))
}

fn list<'r>(row: &'r Value, field: &str) -> &'r [Value] {
    row[field]
        .as_array()
        .unwrap_or_else(|| panic!("{field} of {row}"))
}

/// Checks a journal that a killed daemon left.
pub(crate) fn journal(lines: &[String]) {
    let rows: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let table = |name: &'static str| rows.iter().filter(move |row| row["table"] == name);
    let ids = |name, field| {
        table(name)
            .map(|row| number(row, field))
            .collect::<BTreeSet<_>>()
    };
    let (segments, backings) = (ids("segments", "segment_id"), ids("backings", "backing_id"));
    let (clients, tenants) = (ids("clients", "client_id"), ids("tenants", "tenant_id"));
    let devices: BTreeMap<_, _> = table("devices")
        .map(|row| (number(row, "device_id"), number(row, "extents")))
        .collect();

    let (mut extents, mut files) = (Ranges::default(), BTreeSet::new());
    for row in table("backings") {
        let device = number(row, "device_id");
        let mut sum = 0;
        for run in list(row, "runs") {
            let (first, count) = (number(run, "first"), number(run, "count"));
            assert!(first + count <= devices[&device], "{row}");
            extents.add(device, first, count, row.to_string());
            sum += count;
        }
        assert_eq!(sum * EXTENT, number(row, "bytes"), "{row}");
        assert!(segments.contains(&number(row, "segment_id")), "{row}");
        let payer = number(row, "charged_tenant_id");
        assert!(payer == 0 || tenants.contains(&payer), "{row}");
        let file = (number(row, "file_device"), number(row, "file_inode"));
        assert!(files.insert(file), "another backing has the file of {row}");
    }

    let (mut addresses, mut incarnations) = (Ranges::default(), BTreeSet::new());
    for row in table("segments") {
        addresses.add(
            0,
            number(row, "addr"),
            number(row, "capacity_bytes"),
            row.to_string(),
        );
        assert!(incarnations.insert(number(row, "incarnation")), "{row}");
        assert!(tenants.contains(&number(row, "tenant_id")), "{row}");
        let known = list(row, "backings")
            .iter()
            .all(|id| backings.contains(&id.as_u64().unwrap()));
        assert!(known, "a backing is missing: {row}");
        for holder in list(row, "holders") {
            assert!(clients.contains(&number(holder, "client_id")), "{row}");
        }
    }
}

/// Checks what the operators' interface lists.
pub(crate) fn segments(pool: &mut Admin) {
    let (mut addresses, mut backings) = (Ranges::default(), BTreeSet::new());
    for detail in pool.segments().unwrap() {
        let what = format!("{detail:?}");
        let segment = detail.segment.unwrap();
        addresses.add(0, segment.addr, segment.capacity_bytes, what.clone());
        for piece in &segment.pieces {
            assert!(
                backings.insert(piece.backing_id),
                "another segment has a piece of {what}"
            );
        }
        if detail.state == "live" {
            let sum: u64 = segment.pieces.iter().map(|piece| piece.bytes).sum();
            assert_eq!(sum, segment.bytes, "{what}");
        }
    }
}
