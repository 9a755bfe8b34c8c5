//! The laws of a journal, held by every implementation of it.
//!
//! Each law is a function over a [`Subject`]: something that hands out handles on one set of rows,
//! one at a time, as a daemon and its successor have them. The oracle is a map.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by a panic, in its helpers too"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use pool_daemon::journal::database::{DatabaseJournal, Durability};
use pool_daemon::journal::export::export;
use pool_daemon::journal::memory::MemoryJournal;
use pool_daemon::journal::{FORMAT, Journal, JournalError, POOL_KEY, Record, Rows, Table};
use pool_proto::common::v1::{Coherence, ExtentRun};
use pool_proto::journal::v1 as row;
use proptest::prelude::*;
use tempfile::TempDir;

const BOOT: &str = "6f0d2a5e-3d0c-4c1a-9a51-0d9f7a3f2b11";
const OTHER_BOOT: &str = "00000000-3d0c-4c1a-9a51-0d9f7a3f2b11";

/// Where handles come from. A handle is dropped before the next one is asked for.
trait Subject {
    fn handle(&self) -> Box<dyn Journal>;
}

impl Subject for MemoryJournal {
    fn handle(&self) -> Box<dyn Journal> {
        Box::new(self.clone())
    }
}

struct Database {
    directory: TempDir,
    durability: Durability,
}

impl Database {
    fn new(durability: Durability) -> Self {
        Self {
            directory: TempDir::new().unwrap(),
            durability,
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("journal")
    }

    fn open(&self) -> Result<DatabaseJournal, JournalError> {
        DatabaseJournal::open(&self.path(), self.durability, BOOT)
    }
}

impl Subject for Database {
    fn handle(&self) -> Box<dyn Journal> {
        Box::new(self.open().unwrap())
    }
}

/// Runs each law over each implementation.
macro_rules! laws {
    ($($law:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $law() { super::$law(&super::MemoryJournal::default()); })*
        }
        mod database_of_process_durability {
            use super::{Database, Durability::Process};
            $(#[test] fn $law() { super::$law(&Database::new(Process)); })*
        }
        mod database_of_power_durability {
            use super::{Database, Durability::Power};
            $(#[test] fn $law() { super::$law(&Database::new(Power)); })*
        }
    };
}

laws!(
    a_new_journal_is_empty,
    a_commit_is_there_after_the_journal_is_opened_again,
    a_commit_is_seen_by_the_same_handle,
    the_last_change_of_a_row_in_a_commit_counts,
    a_deleted_row_is_gone_and_deleting_nothing_is_no_error,
    rows_come_back_in_the_order_of_their_keys,
    tables_do_not_share_their_keys,
    every_field_of_every_row_comes_back,
    a_commit_of_nothing_changes_nothing,
    a_journal_of_another_format_is_refused_by_its_number,
    a_large_row_comes_back,
);

fn a_new_journal_is_empty(subject: &impl Subject) {
    assert_eq!(subject.handle().load().unwrap(), Rows::default());
}

fn a_commit_is_there_after_the_journal_is_opened_again(subject: &impl Subject) {
    let mut journal = subject.handle();
    journal.load().unwrap();
    journal.commit(&[pool(1), tenant(1, "a")]).unwrap();
    journal.commit(&[tenant(2, "b")]).unwrap();
    drop(journal);
    let rows = subject.handle().load().unwrap();
    assert_eq!(rows, expected(&[pool(1), tenant(1, "a"), tenant(2, "b")]));
}

fn a_commit_is_seen_by_the_same_handle(subject: &impl Subject) {
    let mut journal = subject.handle();
    journal.load().unwrap();
    journal.commit(&[tenant(1, "a")]).unwrap();
    assert_eq!(journal.load().unwrap(), expected(&[tenant(1, "a")]));
    journal.commit(&[tenant(2, "b")]).unwrap();
    assert_eq!(
        journal.load().unwrap(),
        expected(&[tenant(1, "a"), tenant(2, "b")])
    );
}

fn the_last_change_of_a_row_in_a_commit_counts(subject: &impl Subject) {
    let mut journal = subject.handle();
    journal.load().unwrap();
    let gone = Record::Delete(Table::Tenants, 1);
    journal
        .commit(&[tenant(1, "a"), gone.clone(), tenant(1, "b")])
        .unwrap();
    assert_eq!(journal.load().unwrap(), expected(&[tenant(1, "b")]));
    journal
        .commit(&[tenant(1, "c"), tenant(2, "d"), gone])
        .unwrap();
    assert_eq!(journal.load().unwrap(), expected(&[tenant(2, "d")]));
}

fn a_deleted_row_is_gone_and_deleting_nothing_is_no_error(subject: &impl Subject) {
    let mut journal = subject.handle();
    journal.load().unwrap();
    journal.commit(&[pool(1), tenant(1, "a")]).unwrap();
    let deletions = Table::ALL.map(|table| Record::Delete(table, 1));
    journal.commit(&deletions).unwrap();
    journal.commit(&deletions).unwrap();
    drop(journal);
    assert_eq!(subject.handle().load().unwrap(), Rows::default());
}

fn rows_come_back_in_the_order_of_their_keys(subject: &impl Subject) {
    let mut journal = subject.handle();
    journal.load().unwrap();
    let keys = [300, 2, u32::MAX, 70_000, 1];
    for key in keys {
        journal.commit(&[tenant(key, "x")]).unwrap();
    }
    let rows = journal.load().unwrap();
    let found: Vec<_> = rows.tenants.iter().map(|tenant| tenant.tenant_id).collect();
    assert_eq!(found, [1, 2, 300, 70_000, u32::MAX]);
}

fn tables_do_not_share_their_keys(subject: &impl Subject) {
    let mut journal = subject.handle();
    journal.load().unwrap();
    let all = one_row_of_each_table();
    journal.commit(&all).unwrap();
    for (place, record) in all.iter().enumerate() {
        let (table, key) = record.place();
        assert_eq!(key, POOL_KEY, "the rows of this law share one key");
        journal.commit(&[Record::Delete(table, key)]).unwrap();
        assert_eq!(journal.load().unwrap(), expected(&all[place + 1..]));
    }
}

fn every_field_of_every_row_comes_back(subject: &impl Subject) {
    let mut journal = subject.handle();
    journal.load().unwrap();
    let all = one_row_of_each_table();
    journal.commit(&all).unwrap();
    drop(journal);
    assert_eq!(subject.handle().load().unwrap(), expected(&all));
}

fn a_commit_of_nothing_changes_nothing(subject: &impl Subject) {
    let mut journal = subject.handle();
    journal.load().unwrap();
    journal.commit(&[tenant(1, "a")]).unwrap();
    journal.commit(&[]).unwrap();
    assert_eq!(journal.load().unwrap(), expected(&[tenant(1, "a")]));
}

fn a_journal_of_another_format_is_refused_by_its_number(subject: &impl Subject) {
    let mut journal = subject.handle();
    journal.load().unwrap();
    let newer = row::PoolRow {
        format: FORMAT + 1,
        ..Default::default()
    };
    journal.commit(&[Record::Pool(newer)]).unwrap();
    let here = journal.load().unwrap_err();
    drop(journal);
    for error in [here, subject.handle().load().unwrap_err()] {
        let JournalError::Format { found, supported } = error else {
            panic!("{error}")
        };
        assert_eq!((found, supported), (FORMAT + 1, FORMAT));
    }
}

fn a_large_row_comes_back(subject: &impl Subject) {
    let mut journal = subject.handle();
    journal.load().unwrap();
    let large = Record::Client(row::ClientRow {
        client_id: 1,
        token: (0..200_000_u32).flat_map(u32::to_le_bytes).collect(),
        ..Default::default()
    });
    journal.commit(std::slice::from_ref(&large)).unwrap();
    drop(journal);
    assert_eq!(subject.handle().load().unwrap(), expected(&[large]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_commits_in_memory_come_back_as_the_oracle_says(steps in steps()) {
        follows_the_oracle(&MemoryJournal::default(), &steps)?;
    }

    #[test]
    fn any_commits_of_process_durability_come_back_as_the_oracle_says(steps in steps()) {
        follows_the_oracle(&Database::new(Durability::Process), &steps)?;
    }

    #[test]
    fn any_commits_of_power_durability_come_back_as_the_oracle_says(steps in steps()) {
        follows_the_oracle(&Database::new(Durability::Power), &steps)?;
    }

    #[test]
    fn every_prefix_of_commits_in_memory_can_be_handed_out(steps in steps()) {
        let journal = MemoryJournal::default();
        let commits: Vec<_> = steps.into_iter().filter_map(Step::into_commit).collect();
        for records in &commits {
            journal.clone().commit(records).unwrap();
        }
        prop_assert_eq!(journal.commits(), commits.len());
        for taken in 0..=commits.len() {
            let records = commits[..taken].concat();
            prop_assert_eq!(journal.after(taken).load().unwrap(), expected(&records));
        }
    }
}

/// What a test does next.
#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Record>),
    Load,
    Reopen,
}

impl Step {
    fn into_commit(self) -> Option<Vec<Record>> {
        match self {
            Self::Commit(records) => Some(records),
            Self::Load | Self::Reopen => None,
        }
    }
}

fn follows_the_oracle(subject: &impl Subject, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut journal = subject.handle();
    journal.load().unwrap();
    let mut taken = Vec::new();
    for step in steps {
        match step {
            Step::Commit(records) => {
                journal.commit(records).unwrap();
                taken.extend_from_slice(records);
            }
            Step::Load => prop_assert_eq!(journal.load().unwrap(), expected(&taken)),
            Step::Reopen => {
                drop(journal);
                journal = subject.handle();
                prop_assert_eq!(journal.load().unwrap(), expected(&taken));
            }
        }
    }
    drop(journal);
    prop_assert_eq!(subject.handle().load().unwrap(), expected(&taken));
    Ok(())
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => prop::collection::vec(record(), 0..6).prop_map(Step::Commit),
        1 => Just(Step::Load),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 0..24)
}

fn record() -> impl Strategy<Value = Record> {
    let id = 1..12_u64;
    let table = prop::sample::select(&Table::ALL[..]);
    let number = any::<u64>();
    prop_oneof![
        1 => number.prop_map(pool),
        2 => (1..12_u32, "[a-z]{0,40}").prop_map(|(id, name)| tenant(id, &name)),
        2 => (id.clone(), any::<u64>()).prop_map(|(id, number)| segment(id, number)),
        2 => (id.clone(), any::<u64>()).prop_map(|(id, number)| backing(id, number)),
        2 => (id.clone(), any::<u64>()).prop_map(|(id, number)| client(id, number)),
        1 => (1..12_u32, any::<u32>()).prop_map(|(id, number)| device(id, number)),
        3 => (table, id).prop_map(|(table, id)| Record::Delete(table, id)),
    ]
}

/// The oracle: the rows after `records`, in their order.
fn expected(records: &[Record]) -> Rows {
    let mut kept: BTreeMap<(Table, u64), &Record> = BTreeMap::new();
    for record in records {
        match record {
            Record::Delete(..) => kept.remove(&record.place()),
            _ => kept.insert(record.place(), record),
        };
    }
    let mut rows = Rows::default();
    for record in kept.into_values().cloned() {
        match record {
            Record::Pool(row) => rows.pool = Some(row),
            Record::Device(row) => rows.devices.push(row),
            Record::Tenant(row) => rows.tenants.push(row),
            Record::Client(row) => rows.clients.push(row),
            Record::Segment(row) => rows.segments.push(row),
            Record::Backing(row) => rows.backings.push(row),
            Record::Delete(..) => unreachable!("a deletion is not kept"),
        }
    }
    rows
}

fn pool(number: u64) -> Record {
    Record::Pool(row::PoolRow {
        format: FORMAT,
        boot_id: BOOT.into(),
        pool_id: "0123456789abcdef".into(),
        daemon_epoch: number,
        window_base: 1 << 45,
        window_bytes: 1 << 44,
        next_segment_id: number.rotate_left(1),
        next_backing_id: number.rotate_left(2),
        next_client_id: number.rotate_left(3),
        next_tenant_id: 5,
        next_device_id: 6,
        next_incarnation: number.rotate_left(4),
    })
}

fn device(device_id: u32, number: u32) -> Record {
    Record::Device(row::DeviceRow {
        device_id,
        name: format!("dram-{number}"),
        tier: "ddr".into(),
        extents: number,
        retired: vec![
            ExtentRun {
                first: number,
                count: 3,
            },
            ExtentRun {
                first: 7,
                count: number,
            },
        ],
        draining: number.is_multiple_of(2),
        configured_extents: number ^ 1,
        removed: number.is_multiple_of(3),
        ending_tags: vec![vec![3; 16]; usize::try_from(number % 3).unwrap()],
    })
}

fn tenant(tenant_id: u32, name: &str) -> Record {
    Record::Tenant(row::TenantRow {
        tenant_id,
        name: name.into(),
    })
}

fn client(client_id: u64, number: u64) -> Record {
    Record::Client(row::ClientRow {
        client_id,
        tenant_id: 4,
        pid: 4242,
        started_ticks: number,
        uid: 1000,
        name: "trainer".into(),
        token: vec![7; usize::try_from(number % 3000).unwrap()],
        last_request_id: number ^ 2,
        last_granted_segment_id: number ^ 4,
    })
}

fn segment(segment_id: u64, number: u64) -> Record {
    let share = row::ShareRow {
        tenant_id: 9,
        access: 1,
        opened: true,
    };
    let holder = row::HolderRow {
        client_id: number,
        access: 2,
        slot: 7,
    };
    Record::Segment(row::SegmentRow {
        segment_id,
        tenant_id: 3,
        name: format!("weights/{number}"),
        tier: "hbm".into(),
        addr: number,
        bytes: number ^ 1,
        capacity_bytes: number ^ 2,
        incarnation: number ^ 3,
        lifetime: 2,
        burst: number.is_multiple_of(2),
        piece_bytes: number ^ 5,
        backings: vec![number, 1, u64::MAX],
        shares: vec![share; usize::try_from(number % 5).unwrap()],
        holders: vec![holder; usize::try_from(number % 7).unwrap()],
        coherence: number.is_multiple_of(2).then(|| Coherence {
            mode: 1,
            unit_bytes: number,
            ..Coherence::default()
        }),
        freed: number.is_multiple_of(3),
        departed: vec![row::DepartedRow::default(); usize::try_from(number % 3).unwrap()],
        sealed: number.is_multiple_of(5),
        writers: number ^ 6,
        eviction: number.is_multiple_of(5).then_some(row::EvictionRow {
            slots: 6,
            ended: number.is_multiple_of(2),
        }),
        tag: number.to_be_bytes().to_vec(),
        joined: number.is_multiple_of(7),
    })
}

fn backing(backing_id: u64, number: u64) -> Record {
    Record::Backing(row::BackingRow {
        backing_id,
        device_id: 2,
        runs: vec![ExtentRun { first: 1, count: 2 }],
        bytes: number,
        pages: 3,
        file_device: number ^ 1,
        file_inode: number ^ 2,
        charged_tenant_id: 8,
        segment_id: number ^ 3,
    })
}

fn one_row_of_each_table() -> [Record; 6] {
    [
        pool(77),
        device(1, 13),
        tenant(1, "vision"),
        client(1, 1 << 63),
        segment(1, 34),
        backing(1, 99),
    ]
}

fn load_and_commit(mut journal: Box<dyn Journal>, records: &[Record]) {
    journal.load().unwrap();
    journal.commit(records).unwrap();
}

#[test]
fn a_failed_commit_takes_nothing_and_the_next_one_needs_a_load() {
    let journal = MemoryJournal::default();
    journal.fail_commit(2);
    let mut handle = journal.clone();
    handle.commit(&[tenant(1, "a")]).unwrap();
    for _ in 0..2 {
        let error = handle.commit(&[tenant(2, "b")]).unwrap_err();
        assert!(matches!(error, JournalError::Store { .. }), "{error}");
    }
    assert_eq!(handle.load().unwrap(), expected(&[tenant(1, "a")]));
    handle.commit(&[tenant(3, "c")]).unwrap();
    assert_eq!(
        handle.load().unwrap(),
        expected(&[tenant(1, "a"), tenant(3, "c")])
    );
    assert_eq!(journal.commits(), 2);
}

#[test]
fn a_commit_before_the_first_load_is_refused() {
    let subject = Database::new(Durability::Process);
    drop(subject.handle());
    let error = subject.handle().commit(&[tenant(1, "a")]).unwrap_err();
    assert!(matches!(error, JournalError::Store { .. }), "{error}");
    assert_eq!(subject.handle().load().unwrap(), Rows::default());
}

#[test]
fn a_second_daemon_on_the_same_file_is_refused_until_the_first_is_gone() {
    let subject = Database::new(Durability::Process);
    let first = subject.open().unwrap();
    let error = subject.open().unwrap_err();
    assert!(matches!(error, JournalError::InUse { .. }), "{error}");
    drop(first);
    subject.open().unwrap();
}

#[test]
fn the_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let subject = Database::new(Durability::Process);
    let mode = || subject.path().metadata().unwrap().permissions().mode() & 0o7777;
    drop(subject.open().unwrap());
    assert_eq!(mode(), 0o600);
    std::fs::set_permissions(subject.path(), PermissionsExt::from_mode(0o644)).unwrap();
    drop(subject.open().unwrap());
    assert_eq!(mode(), 0o600);
}

#[test]
fn what_is_no_file_of_ours_is_refused_and_left_alone() {
    let subject = Database::new(Durability::Process);
    let target = subject.directory.path().join("elsewhere");
    std::fs::write(&target, b"precious").unwrap();
    std::os::unix::fs::symlink(&target, subject.path()).unwrap();
    let error = subject.open().unwrap_err();
    assert!(matches!(error, JournalError::Corrupt { .. }), "{error}");
    assert_eq!(std::fs::read(&target).unwrap(), b"precious");

    for foreign in [&b""[..], b"precious", &[0; 4096], &[7; 8192]] {
        std::fs::remove_file(subject.path()).unwrap();
        std::fs::write(subject.path(), foreign).unwrap();
        let error = subject
            .open()
            .and_then(|mut journal| journal.load())
            .unwrap_err();
        assert!(
            matches!(error, JournalError::Corrupt { .. }),
            "{} bytes: {error}",
            foreign.len()
        );
        assert_eq!(std::fs::read(subject.path()).unwrap(), foreign);
    }
}

#[test]
fn a_journal_of_process_durability_ends_with_its_boot() {
    let subject = Database::new(Durability::Process);
    load_and_commit(subject.handle(), &[tenant(1, "a")]);
    let open = |durability, boot| DatabaseJournal::open(&subject.path(), durability, boot);
    for durability in [Durability::Process, Durability::Power] {
        let mut journal = open(durability, BOOT).unwrap();
        assert_eq!(journal.load().unwrap(), expected(&[tenant(1, "a")]));
        drop(journal);
        drop(open(Durability::Process, BOOT).unwrap());
    }
    let mut journal = open(Durability::Process, OTHER_BOOT).unwrap();
    assert_eq!(journal.load().unwrap(), Rows::default());
}

#[test]
fn a_journal_of_power_durability_outlives_its_boot() {
    let subject = Database::new(Durability::Power);
    load_and_commit(subject.handle(), &[tenant(1, "a")]);
    for durability in [Durability::Power, Durability::Process] {
        let mut journal = DatabaseJournal::open(&subject.path(), durability, OTHER_BOOT).unwrap();
        assert_eq!(journal.load().unwrap(), expected(&[tenant(1, "a")]));
    }
}

#[test]
fn a_boot_id_that_is_none_is_refused() {
    let subject = Database::new(Durability::Process);
    for boot in ["", "x", &"\0".repeat(36), &BOOT[..35], &format!("{BOOT}x")] {
        let error = DatabaseJournal::open(&subject.path(), Durability::Power, boot).unwrap_err();
        assert!(matches!(error, JournalError::Store { .. }), "{error}");
    }
}

#[test]
fn an_unfinished_new_file_is_made_anew() {
    let subject = Database::new(Durability::Power);
    let unpublished = subject.directory.path().join("journal.new");
    std::fs::write(&unpublished, [7; 5000]).unwrap();
    assert_eq!(subject.handle().load().unwrap(), Rows::default());
    assert!(!unpublished.exists());
}

#[test]
fn a_file_much_larger_than_its_contents_is_compacted_at_load() {
    let subject = Database::new(Durability::Process);
    let mut journal = subject.open().unwrap();
    journal.load().unwrap();
    for batch in 0..16 {
        let records: Vec<_> = (1..=200)
            .map(|id| client(batch * 200 + id, 2_999))
            .collect();
        journal.commit(&records).unwrap();
    }
    let deletions: Vec<_> = (2..=3_200)
        .map(|id| Record::Delete(Table::Clients, id))
        .collect();
    journal.commit(&deletions).unwrap();
    drop(journal);
    let bytes = || subject.path().metadata().unwrap().len();
    let before = bytes();
    assert!(before > 8 << 20, "{before} bytes");
    let rows = subject.handle().load().unwrap();
    assert_eq!(rows, expected(&[client(1, 2_999)]));
    assert!(bytes() < before / 2, "{} of {before} bytes", bytes());
    assert_eq!(
        subject.handle().load().unwrap(),
        expected(&[client(1, 2_999)])
    );
}

#[test]
fn an_export_has_a_line_for_each_row_and_no_secret() {
    let rows = expected(&one_row_of_each_table());
    let mut out = Vec::new();
    export(&rows, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let tables: Vec<_> = lines
        .iter()
        .map(|line| line["table"].as_str().unwrap())
        .collect();
    assert_eq!(tables, Table::ALL.map(Table::name));
    assert_eq!(lines[0]["next_incarnation"], 77_u64.rotate_left(4));
    assert_eq!(lines[1]["retired"][1]["count"], 13);
    assert_eq!(lines[3].get("token"), None);
    assert_eq!(lines[4]["backings"], serde_json::json!([34, 1, u64::MAX]));
    assert_eq!(lines[4]["holders"][0]["client_id"], 34);
    assert_eq!(lines[5]["file_inode"], 99 ^ 2);
}
