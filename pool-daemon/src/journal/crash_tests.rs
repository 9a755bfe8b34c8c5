//! Crashes that no real disk can be made to show: every image that a journal's file may have after
//! one, opened. Damage of an image is in [`damage`].
//!
//! A recording medium keeps what was written, cut and synced, in order. From that a test makes the
//! images: after a kill, what was written so far, a write cut at any page; after a loss of power,
//! what was synced and of the rest any part, in sectors of 512 bytes. A journal opened on an image
//! must hold every commit that was acknowledged, at most the one after them, and nothing half.

use std::path::Path;

use pool_core::sync::{Arc, Mutex, lock};
use pool_proto::journal::v1 as row;

use super::database::DatabaseJournal;
use super::medium::Medium;
use super::storage::{Stamp, Storage};
use super::{FORMAT, Journal, Record, Rows, Table};

mod damage;

const SECTOR_BYTES: usize = 512;
const PAGE_BYTES: usize = 4096;
/// Commits of the recorded life of a journal.
const COMMITS: u32 = 12;
/// Images made at each point of a life at which power may be lost.
const IMAGES_AT_EACH_CUT: u64 = 2;

/// One thing that was done to a medium.
#[derive(Debug, Clone)]
enum Deed {
    Write { offset: u64, data: Vec<u8> },
    SetLen(u64),
    Sync,
}

#[derive(Debug, Default)]
struct Recorded {
    image: Vec<u8>,
    deeds: Vec<Deed>,
}

/// A medium in memory that remembers what was done to it.
#[derive(Debug, Default)]
struct Recorder(Mutex<Recorded>);

impl Recorder {
    fn on(image: Vec<u8>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Recorded {
            image,
            deeds: Vec::new(),
        })))
    }

    fn deeds(&self) -> Vec<Deed> {
        lock(&self.0).deeds.clone()
    }

    fn image(&self) -> Vec<u8> {
        lock(&self.0).image.clone()
    }

    fn note(&self, deed: Deed) {
        let mut recorded = lock(&self.0);
        deed.apply(&mut recorded.image);
        recorded.deeds.push(deed);
    }
}

impl Medium for Recorder {
    fn len(&self) -> std::io::Result<u64> {
        Ok(lock(&self.0).image.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        let recorded = lock(&self.0);
        let end = at
            .checked_add(out.len())
            .filter(|&end| end <= recorded.image.len());
        let end = end.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(&recorded.image[at..end]);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.note(Deed::Write {
            offset,
            data: data.to_vec(),
        });
        Ok(())
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.note(Deed::SetLen(len));
        Ok(())
    }

    fn sync(&self) -> std::io::Result<()> {
        self.note(Deed::Sync);
        Ok(())
    }
}

impl Deed {
    /// What it leaves in a file. Bytes past its end are not in it.
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Write { offset, data } => write(image, *offset, data),
            Self::SetLen(len) => image.resize(usize::try_from(*len).unwrap(), 0),
            Self::Sync => {}
        }
    }

    /// What it may leave where power was lost: any of its sectors.
    fn apply_torn(&self, image: &mut Vec<u8>, chance: &mut Chance) {
        let Self::Write { offset, data } = self else {
            return self.apply(image);
        };
        for (index, sector) in data.chunks(SECTOR_BYTES).enumerate() {
            if chance.one_in(2) {
                write(image, offset + (index * SECTOR_BYTES) as u64, sector);
            }
        }
    }

    /// Where a kill may cut it short: after each of its pages.
    fn cuts(&self) -> Vec<Self> {
        let Self::Write { offset, data } = self else {
            return Vec::new();
        };
        let cut = |end| Self::Write {
            offset: *offset,
            data: data[..end].to_vec(),
        };
        (1..data.len().div_ceil(PAGE_BYTES))
            .map(|pages| cut(pages * PAGE_BYTES))
            .collect()
    }
}

fn write(image: &mut [u8], offset: u64, data: &[u8]) {
    let at = usize::try_from(offset).unwrap();
    if let Some(room) = image.get_mut(at..) {
        let most = data.len().min(room.len());
        room[..most].copy_from_slice(&data[..most]);
    }
}

/// Chances from a seed (splitmix64).
#[derive(Debug, Clone)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.next().is_multiple_of(many)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }
}

fn this_boot() -> Stamp {
    Stamp::of_boot("6f0d2a5e-3d0c-4c1a-9a51-0d9f7a3f2b11").unwrap()
}

fn open(medium: &Arc<Recorder>, stamp: Stamp) -> DatabaseJournal {
    DatabaseJournal::over(Arc::clone(medium) as _, Path::new("recorded"), stamp)
}

/// The records of commit number `n`: in every table one, in one table a row that goes away, and now
/// and then a row that makes the file longer.
fn commit(n: u32) -> Vec<Record> {
    let pool = row::PoolRow {
        format: FORMAT,
        daemon_epoch: n.into(),
        ..Default::default()
    };
    let bytes = if n.is_multiple_of(5) { 600_000 } else { 10 * n };
    let token = n
        .to_le_bytes()
        .into_iter()
        .cycle()
        .take(bytes as usize)
        .collect();
    let client = row::ClientRow {
        client_id: u64::from(n % 3) + 1,
        token,
        ..Default::default()
    };
    vec![
        Record::Tenant(row::TenantRow {
            tenant_id: n,
            name: format!("tenant-{n}"),
        }),
        Record::Client(client),
        Record::Delete(Table::Tenants, u64::from(n.saturating_sub(3))),
        Record::Pool(pool),
    ]
}

/// The rows after the first `commits` commits.
fn rows_after(commits: u32) -> Rows {
    let journal = super::memory::MemoryJournal::default();
    for n in 1..=commits {
        journal.clone().commit(&commit(n)).unwrap();
    }
    journal.clone().load().unwrap()
}

/// What was done to the medium of a journal, and how many commits were acknowledged before each
/// deed.
struct Life {
    /// The medium when the journal had been made.
    new: Vec<u8>,
    deeds: Vec<(Deed, u32)>,
}

impl Life {
    /// [`COMMITS`] commits, in the midst of which the journal is closed and opened once.
    fn of(stamp: Stamp) -> Self {
        let medium = Recorder::on(Vec::new());
        open(&medium, stamp).load().unwrap();
        let new = medium.image();
        let medium = Recorder::on(new.clone());
        let mut deeds = Vec::new();
        let mut journal = open(&medium, stamp);
        journal.load().unwrap();
        for n in 1..=COMMITS {
            if n == COMMITS / 2 {
                drop(journal);
                journal = open(&medium, stamp);
                journal.load().unwrap();
            }
            journal.commit(&commit(n)).unwrap();
            let done = medium.deeds();
            let done = done.into_iter().skip(deeds.len()).map(|deed| (deed, n - 1));
            deeds.extend(done.collect::<Vec<_>>());
        }
        drop(journal);
        let done = medium
            .deeds()
            .into_iter()
            .skip(deeds.len())
            .map(|deed| (deed, COMMITS));
        deeds.extend(done);
        Self { new, deeds }
    }

    /// The image after a loss of power before deed number `cut`: what was synced, and any part of
    /// what was not.
    fn without_power(&self, cut: usize, chance: &mut Chance) -> Vec<u8> {
        let before: Vec<_> = self.deeds[..cut].iter().map(|(deed, _)| deed).collect();
        lose_power(&self.new, &before, chance)
    }

    /// How many commits were acknowledged before deed number `cut`.
    fn acknowledged(&self, cut: usize) -> u32 {
        self.deeds
            .get(cut)
            .map_or(COMMITS, |&(_, acknowledged)| acknowledged)
    }
}

fn lose_power(first: &[u8], deeds: &[&Deed], chance: &mut Chance) -> Vec<u8> {
    let synced = deeds
        .iter()
        .rposition(|deed| matches!(deed, Deed::Sync))
        .unwrap_or_default();
    let mut image = first.to_vec();
    deeds[..synced]
        .iter()
        .for_each(|deed| deed.apply(&mut image));
    for deed in &deeds[synced..] {
        match chance.next() % 3 {
            0 => {}
            1 => deed.apply(&mut image),
            _ => deed.apply_torn(&mut image, chance),
        }
    }
    image
}

/// Opens a journal on `image`: it must hold `acknowledged` commits or the one after them as well,
/// and take another one. Tells what is wrong, or what was done to the medium meanwhile.
fn recover(image: Vec<u8>, stamp: Stamp, acknowledged: u32) -> Result<Vec<Deed>, String> {
    let medium = Recorder::on(image);
    match Storage::stamp_of(&*medium) {
        Ok(Ok(found)) if found == stamp => {}
        found => return Err(format!("the first sector says {found:?}")),
    }
    let mut journal = open(&medium, stamp);
    let rows = journal.load().map_err(|error| error.to_string())?;
    let deeds = medium.deeds();
    let there = [acknowledged, acknowledged + 1]
        .into_iter()
        .find(|&n| rows == rows_after(n));
    let there = there.ok_or_else(|| {
        let epoch = rows.pool.map(|pool| pool.daemon_epoch);
        format!("after {acknowledged} commits there is neither that nor one more: {epoch:?}")
    })?;
    journal
        .commit(&commit(there + 1))
        .map_err(|error| error.to_string())?;
    drop(journal);
    let rows = open(&medium, stamp)
        .load()
        .map_err(|error| error.to_string())?;
    if rows == rows_after(there + 1) {
        Ok(deeds)
    } else {
        Err("the next commit is lost".into())
    }
}

/// Opens images of a life in which power is lost, and then lost again during the recovery. Tells
/// how many were opened, or what is wrong with the first bad one.
fn lose_power_everywhere(stamp: Stamp, seed: u64) -> Result<usize, String> {
    let life = Life::of(stamp);
    let mut chance = Chance(seed);
    let mut opened = 0;
    for cut in 0..=life.deeds.len() {
        let acknowledged = life.acknowledged(cut);
        for _ in 0..IMAGES_AT_EACH_CUT {
            let image = life.without_power(cut, &mut chance);
            let wrong = |what| format!("seed {seed}, cut {cut}: {what}");
            let deeds = recover(image.clone(), stamp, acknowledged).map_err(wrong)?;
            let before: Vec<_> = deeds.iter().take(chance.below(deeds.len() + 1)).collect();
            let image = lose_power(&image, &before, &mut chance);
            let wrong = |what| format!("seed {seed}, cut {cut}, again: {what}");
            recover(image, stamp, acknowledged).map_err(wrong)?;
            opened += 2;
        }
    }
    Ok(opened)
}

#[test]
fn a_loss_of_power_at_any_point_loses_nothing_acknowledged() {
    let opened = lose_power_everywhere(Stamp::LASTING, 1).unwrap();
    println!("{opened} images");
    assert!(opened >= 300, "{opened} images");
}

#[test]
fn a_journal_that_does_not_sync_is_caught_by_the_images() {
    let caught = (1..=3).any(|seed| lose_power_everywhere(this_boot(), seed).is_err());
    assert!(caught, "the images would not show a lost sync");
}

#[test]
fn a_kill_at_any_point_loses_nothing_acknowledged() {
    let life = Life::of(this_boot());
    let mut image = life.new.clone();
    let mut opened = 0;
    for (cut, (deed, acknowledged)) in life.deeds.iter().enumerate() {
        let check = |image: Vec<u8>| {
            let recovered = recover(image, this_boot(), *acknowledged);
            assert!(recovered.is_ok(), "cut {cut}: {recovered:?}");
        };
        check(image.clone());
        for short in deed.cuts() {
            let mut torn = image.clone();
            short.apply(&mut torn);
            check(torn);
            opened += 1;
        }
        deed.apply(&mut image);
        opened += 1;
    }
    recover(image, this_boot(), COMMITS).unwrap();
    println!("{opened} images");
    assert!(opened >= 100, "{opened} images");
}

/// A medium whose file is long and of which little is in use, and those rows: the next load makes
/// it short.
fn sparse(stamp: Stamp) -> (Vec<u8>, Rows) {
    let medium = Recorder::on(Vec::new());
    let mut journal = open(&medium, stamp);
    journal.load().unwrap();
    let client = |client_id, bytes| {
        Record::Client(row::ClientRow {
            client_id,
            token: vec![7; bytes],
            ..Default::default()
        })
    };
    journal
        .commit(&(1..=9).map(|id| client(id, 1_000_000)).collect::<Vec<_>>())
        .unwrap();
    journal
        .commit(&(1..=9).map(|id| client(id, 100)).collect::<Vec<_>>())
        .unwrap();
    let rows = journal.load().unwrap();
    // The image of a daemon that was killed: closing the journal would already shorten the file.
    (medium.image(), rows)
}

#[test]
fn a_crash_while_the_file_is_compacted_loses_nothing() {
    let mut chance = Chance(2);
    for stamp in [Stamp::LASTING, this_boot()] {
        let (image, rows) = sparse(stamp);
        let medium = Recorder::on(image.clone());
        assert_eq!(open(&medium, stamp).load().unwrap(), rows);
        assert!(
            medium.image().len() < image.len() / 2,
            "it was not compacted"
        );
        let deeds = medium.deeds();
        for _ in 0..30 {
            let before: Vec<_> = deeds.iter().take(chance.below(deeds.len() + 1)).collect();
            let mut after = image.clone();
            if stamp == Stamp::LASTING {
                after = lose_power(&image, &before, &mut chance);
            } else {
                before.iter().for_each(|deed| deed.apply(&mut after));
            }
            let found = open(&Recorder::on(after), stamp).load();
            assert!(
                found.as_ref().is_ok_and(|found| *found == rows),
                "after {} deeds",
                before.len()
            );
        }
    }
}
