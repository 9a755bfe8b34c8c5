//! Where lost lines lie, and what is known of them while not all is heard.

use std::collections::BTreeMap;

use kernel_cxl::OddLine;
use pool_core::units::MIB;

use super::super::regions::tests::tree;
use super::*;

const SERIALS: [u64; 2] = [0xa0, 0xa1];

/// Devices as a test has them.
#[derive(Debug, Default)]
struct Board {
    has_no_trace: bool,
    is_listening: bool,
    /// What each device lists; one that is not here shows no list.
    lists: BTreeMap<u64, Vec<LostLines>>,
    /// One whose list cannot be had.
    silent: Option<u64>,
    /// What each list has that cannot be read.
    odd: Option<OddLine>,
    /// What the lists say of themselves.
    flags: ListFlags,
    asked: u32,
    news: MediaNews,
    /// So many lines are read at once at most, where it matters.
    at_once: Option<usize>,
}

fn refusal() -> ChangeError {
    ChangeError::DidNotCome("an answer".to_owned())
}

impl Reports for Board {
    fn listen(&mut self) -> Result<(), ChangeError> {
        self.news = MediaNews::default();
        self.is_listening = !self.has_no_trace;
        self.is_listening.then_some(()).ok_or_else(refusal)
    }

    fn list(&mut self, serial: u64) -> Result<bool, ChangeError> {
        assert!(self.is_listening, "nobody would hear it");
        self.asked += 1;
        if self.silent == Some(serial) {
            return Err(refusal());
        }
        let list = self.lists.get(&serial);
        self.news.lost.extend(list.into_iter().flatten().cloned());
        self.news.odd.extend(self.odd.clone());
        self.news.lists.insert((serial, None), self.flags);
        Ok(list.is_some())
    }

    fn read(&mut self) -> Result<MediaNews, ChangeError> {
        if self.has_no_trace {
            return Err(refusal());
        }
        let mut news = std::mem::take(&mut self.news);
        let at_once = self.at_once.unwrap_or(usize::MAX);
        if news.lost.len() > at_once {
            self.news.lost = news.lost.split_off(at_once);
            news.more = true;
        }
        Ok(news)
    }
}

/// What is heard of two devices, whose lists are empty.
fn media() -> Media<Board> {
    let board = Board {
        lists: SERIALS.map(|serial| (serial, Vec::new())).into(),
        ..Board::default()
    };
    Media::at(board, &SERIALS, place(1))
}

/// Looks as often as it is done, from one time to another; tells what turns.
fn look(media: &mut Media<Board>, (from, to): (u64, u64)) -> Vec<Turn> {
    let times = (from * 4..to * 4).map(|at| Nanos::from_millis(at * 250));
    times.filter_map(|now| media.look(now)).collect()
}

fn place(ways: u64) -> Place {
    Place {
        region: "region0".to_owned(),
        hpa: (512 * MIB, 256 * MIB),
        dpas: [(160, 64 * MIB)].into(),
        ways,
        granularity: 256,
    }
}

fn lost(dpa: u64, bytes: u64, hpa: Option<u64>) -> LostLines {
    let region = hpa.map_or("", |_| "region0");
    LostLines::new(160, dpa..dpa + bytes, hpa, region)
}

#[test]
fn a_line_is_found_by_the_hosts_address_or_else_by_the_devices() {
    let run = |first, count| Some(Run { first, count });
    let cases = [
        (lost(0, 64, Some(512 * MIB)), run(0, 1)),
        (lost(0, 64, Some(515 * MIB)), run(1, 1)),
        (lost(64 * MIB, 64, None), run(0, 1)),
        (lost(66 * MIB - 64, 128, None), run(0, 2)),
        (lost(0, 64, None), None),
        (lost(320 * MIB, 64, None), None),
        (lost(0, 64, Some(MIB)), None),
        (lost(64 * MIB, 1 << 40, None), run(0, 128)),
        (lost(60 * MIB, 8 * MIB, None), run(0, 2)),
        (lost(0, 1 << 40, None), run(0, 128)),
        (lost(60 * MIB, 4 * MIB, None), None),
        (lost(319 * MIB, 4 * MIB, None), run(127, 1)),
    ];
    for (lost, extents) in cases {
        assert_eq!(place(1).extents_of(&lost), extents, "{lost:?}");
    }
}

#[test]
fn what_is_lost_of_one_of_several_devices_reaches_over_their_turns() {
    let run = place(2).extents_of(&lost(0, MIB, Some(514 * MIB)));
    assert_eq!(run, Some(Run { first: 1, count: 1 }));
    let run = place(2).extents_of(&lost(0, 2 * MIB, Some(514 * MIB)));
    assert_eq!(run, Some(Run { first: 1, count: 2 }));
    let by_device = |dpa, bytes| place(2).extents_of(&lost(dpa, bytes, None));
    assert_eq!(by_device(0, 64), None);
    assert_eq!(by_device(65 * MIB, 64), Some(Run { first: 1, count: 1 }));
    assert_eq!(
        by_device(63 * MIB, 3 * MIB),
        Some(Run { first: 0, count: 2 })
    );
    assert_eq!(by_device(192 * MIB, 64), None, "it has half of each");
}

#[test]
fn lines_elsewhere_are_told_once_until_there_are_others() {
    let mut media = media();
    let other = lost(16 * MIB, 64, None);
    media.reports.lists.insert(SERIALS[0], vec![other.clone()]);
    assert_eq!(look(&mut media, (0, 60)), []);
    assert!(!media.is_told_first(&other), "it was told");
    let further = lost(18 * MIB, 64, None);
    assert!(media.is_told_first(&further) && !media.is_told_first(&further));
    assert_eq!(media.bad().unwrap(), []);
}

#[test]
fn lines_of_another_region_of_the_device_are_not_ours() {
    let mut other = lost(16 * MIB, 64, Some(600 * MIB));
    other.region = Some("region1".to_owned());
    assert_eq!(place(1).extents_of(&other), None);
}

#[test]
fn what_is_lost_is_known_once_each_list_was_read_to_its_end() {
    let mut media = media();
    let bad = |media: &Media<Board>| media.bad().ok();
    assert_eq!(bad(&media), None, "nobody was asked");
    media.reports.silent = Some(SERIALS[1]);
    let line = lost(64 * MIB, 64, None);
    media.reports.lists.insert(SERIALS[0], vec![line]);
    let turns = look(&mut media, (0, 3));
    assert!(matches!(turns[..], [Turn::Lost(_)]), "{turns:?}");
    assert!(media.bad().unwrap_err().to_string().contains("an answer"));
    media.reports.silent = None;
    media.reports.news.missed = true;
    assert_eq!(media.look(Nanos::from_millis(3_000)), None);
    assert_eq!(bad(&media), None, "a part of it was thrown away");
    assert_eq!(look(&mut media, (4, 5)), [Turn::Back]);
    assert_eq!(bad(&media), Some(vec![Run { first: 0, count: 1 }]));
}

#[test]
fn a_list_longer_than_one_look_is_read_on_and_asked_for_once() {
    let mut media = media();
    let line = |at: u64| lost((64 + 2 * at) * MIB, 64, None);
    media
        .reports
        .lists
        .insert(SERIALS[0], (0..4).map(line).collect());
    media.reports.at_once = Some(1);
    for at in 0..3 {
        assert_eq!(media.look(Nanos::from_millis(at * 2_000)), None);
        assert!(media.bad().is_err(), "there is more");
    }
    assert_eq!(media.look(Nanos::from_millis(6_000)), None);
    assert_eq!(media.bad().unwrap(), [Run { first: 0, count: 4 }]);
    assert_eq!(media.reports.asked, 2, "once of each device");
}

#[test]
fn what_a_list_has_that_cannot_be_read_holds_the_region_back_and_is_told_once() {
    let mut media = media();
    let odd = |serial| Some(OddLine::new(serial, "cxl_poison: what=1".to_owned()));
    for serial in [None, Some(SERIALS[1])] {
        media.is_known = false;
        media.reports.odd = odd(serial);
        let turns = look(&mut media, (0, 60));
        assert!(matches!(turns[..], [Turn::Lost(_)]), "once: {turns:?}");
        let why = media.bad().unwrap_err().to_string();
        assert!(why.contains("what=1"), "{why}");
        media.reports.odd = None;
        assert_eq!(look(&mut media, (61, 63)), [Turn::Back]);
        assert_eq!(media.bad().unwrap(), []);
        media.list_at = Nanos::ZERO;
    }
    media.is_known = false;
    media.reports.odd = odd(Some(0xb0));
    assert_eq!(look(&mut media, (63, 65)), [], "it is of another device");
    assert_eq!(media.bad().unwrap(), []);
}

#[test]
fn what_cannot_be_read_is_remembered_while_a_list_is_read_on() {
    let mut media = media();
    let line = |at: u64| lost((64 + 2 * at) * MIB, 64, None);
    media
        .reports
        .lists
        .insert(SERIALS[0], (0..2).map(line).collect());
    media.reports.at_once = Some(1);
    media.reports.odd = Some(OddLine::new(None, "cxl_poison: what=1".to_owned()));
    let turns = look(&mut media, (0, 1));
    assert!(matches!(turns[..], [Turn::Lost(_)]), "{turns:?}");
    assert!(media.bad().is_err());
}

#[test]
fn a_list_that_does_not_have_all_holds_the_region_back_and_says_so() {
    let mut media = media();
    for (flags, reason) in [
        (ListFlags::new(true, false), "goes on"),
        (ListFlags::new(false, true), "has room for"),
    ] {
        media.is_known = false;
        media.list_at = Nanos::ZERO;
        media.reports.flags = flags;
        let turns = look(&mut media, (0, 60));
        assert!(matches!(turns[..], [Turn::Lost(_)]), "once: {turns:?}");
        let why = media.bad().unwrap_err().to_string();
        assert!(why.contains(reason) && why.contains("0xa0"), "{why}");
        media.reports.flags = ListFlags::default();
        assert_eq!(look(&mut media, (61, 63)), [Turn::Back]);
        assert_eq!(media.bad().unwrap(), []);
    }
}

#[test]
fn a_region_has_a_place_on_each_of_its_devices_or_none() {
    let root = tree(&[]);
    let whole = Topology::read(&Sysfs::at(root.path())).unwrap();
    let region = whole.regions.iter().find(|it| it.name == "region0");
    let region = region.unwrap();
    let place = Place::of(&whole, region).unwrap();
    assert_eq!(place.dpas.into_keys().collect::<Vec<_>>(), [0xa0]);
    let mut without = whole.clone();
    without.memdevs.clear();
    let mut unplaced = whole.clone();
    unplaced
        .decoders
        .retain(|it| !region.targets.contains(&it.name));
    for part in [without, unplaced] {
        let failed = Place::of(&part, region).unwrap_err();
        assert!(matches!(failed, ChangeError::DidNotCome(_)), "{failed}");
    }
    let mut lacking = region.clone();
    lacking.targets.clear();
    assert!(Place::of(&whole, &lacking).is_err());
}

#[test]
fn what_is_reported_before_the_first_look_is_heard() {
    let mut media = media();
    media.begin();
    media.reports.news.lost.push(lost(64 * MIB, 64, None));
    assert_eq!(look(&mut media, (0, 1)), []);
    assert_eq!(media.bad().unwrap(), [Run { first: 0, count: 1 }]);
}

#[test]
fn what_shows_no_list_twice_has_none() {
    let mut media = media();
    media.reports.lists.remove(&SERIALS[1]);
    assert_eq!(look(&mut media, (0, 1)), []);
    assert!(media.bad().is_err(), "its driver may be about to show it");
    assert_eq!(look(&mut media, (1, 2)), []);
    assert_eq!(media.bad().unwrap(), []);
}

#[test]
fn listening_is_tried_until_it_is_had_and_told_when_it_is_lost_and_when_it_is_back() {
    let mut media = media();
    media.reports.has_no_trace = true;
    let turns = look(&mut media, (0, 60));
    assert!(matches!(turns[..], [Turn::Lost(_)]), "once: {turns:?}");
    assert!(media.bad().is_err());
    media.reports.has_no_trace = false;
    assert_eq!(look(&mut media, (60, 62)), [Turn::Back]);
    assert_eq!(media.bad().unwrap(), []);
    media.reports.has_no_trace = true;
    let turns = look(&mut media, (62, 90));
    assert!(matches!(turns[..], [Turn::Lost(_)]), "once: {turns:?}");
    assert_eq!(media.bad().unwrap(), [], "what was known is known");
    media.reports.has_no_trace = false;
    let line = lost(66 * MIB, 64, None);
    media.reports.lists.insert(SERIALS[0], vec![line]);
    assert_eq!(look(&mut media, (90, 92)), [Turn::Back]);
    assert_eq!(media.bad().unwrap(), [Run { first: 1, count: 1 }]);
}

#[test]
fn lists_that_are_had_are_asked_for_seldom() {
    let mut media = media();
    assert_eq!(look(&mut media, (0, 60)), []);
    let asked = media.reports.asked;
    assert!((2..=14).contains(&asked), "asked {asked} times in a minute");
}

/// Catches: media.takes_silence_for_whole
#[cfg(feature = "fault")]
#[test]
fn a_bug_of_the_media_breaks_its_law() {
    let planted = pool_core::fault::plant_here("media.takes_silence_for_whole");
    let law = what_is_lost_is_known_once_each_list_was_read_to_its_end;
    let held = std::panic::catch_unwind(law);
    drop(planted);
    assert!(held.is_err(), "it breaks no law");
}
