//! Damage of a small journal, bit by bit, sector by sector, page by page: each is found, or was of
//! no use and changes nothing. Neither the database nor anybody else may panic over it.

use super::super::storage::{Stamp, Storage};
use super::super::{Journal, JournalError, Rows};
use super::{Chance, PAGE_BYTES, Recorder, SECTOR_BYTES, commit, open, rows_after, this_boot};

/// The image of a small journal that was closed, or whose daemon was killed, and its rows.
fn small(stamp: Stamp, closed: bool) -> (Vec<u8>, Rows) {
    let medium = Recorder::on(Vec::new());
    let mut journal = open(&medium, stamp);
    journal.load().unwrap();
    for n in 1..=4 {
        journal.commit(&commit(n)).unwrap();
    }
    let killed = medium.image();
    drop(journal);
    (if closed { medium.image() } else { killed }, rows_after(4))
}

/// Reads a damaged image. Either the damage is found, or it was of no use and changes nothing.
fn found_or_harmless(image: Vec<u8>, stamp: Stamp, rows: &Rows, damage: &str) -> bool {
    let medium = Recorder::on(image);
    let found = match Storage::stamp_of(&*medium).unwrap() {
        Err(_) => return true,
        Ok(found) => found,
    };
    assert_eq!(found, stamp, "{damage}: taken for another boot's");
    match open(&medium, stamp).load() {
        Err(JournalError::Corrupt { .. } | JournalError::Damaged { .. }) => true,
        Err(error) => panic!("{damage}: {error}"),
        Ok(loaded) => {
            assert_eq!(loaded, *rows, "{damage}: it is believed");
            false
        }
    }
}

#[test]
fn no_changed_bit_is_believed() {
    let stamp = this_boot();
    for closed in [true, false] {
        let (image, rows) = small(stamp, closed);
        flip_bits(&image, stamp, &rows);
    }
}

fn flip_bits(image: &[u8], stamp: Stamp, rows: &Rows) {
    let mut chance = Chance(3);
    let (mut found, mut harmless) = (0, 0);
    let mut flip = |byte: usize, bit: usize| {
        let mut image = image.to_vec();
        image[byte] ^= 1 << bit;
        let damage = format!("bit {bit} of byte {byte}");
        match found_or_harmless(image, stamp, rows, &damage) {
            true => found += 1,
            false => harmless += 1,
        }
    };
    for byte in 0..SECTOR_BYTES {
        (0..8).for_each(|bit| flip(byte, bit));
    }
    // The rest by chance: each page that has anything in it, at its beginning and here and there.
    for (page, bytes) in image.chunks(PAGE_BYTES).enumerate().skip(1) {
        if bytes.iter().all(|&byte| byte == 0) {
            continue;
        }
        for nth in 0..128 {
            let place = if nth < 64 {
                nth
            } else {
                chance.below(PAGE_BYTES)
            };
            flip(page * PAGE_BYTES + place, chance.below(8));
        }
    }
    println!("{found} found, {harmless} harmless");
    assert!(found > 1_000, "{found} found");
}

#[test]
fn no_file_cut_short_is_believed() {
    let stamp = this_boot();
    let (image, rows) = small(stamp, false);
    let pages = (0..image.len()).step_by(PAGE_BYTES * 8);
    for len in (0..SECTOR_BYTES + 8).chain(pages.flat_map(|at| [at.saturating_sub(1), at, at + 1]))
    {
        found_or_harmless(
            image[..len].to_vec(),
            stamp,
            &rows,
            &format!("cut to {len} bytes"),
        );
    }
}

#[test]
fn no_lost_or_swapped_page_is_believed() {
    let stamp = this_boot();
    let (image, rows) = small(stamp, false);
    let used: Vec<_> = (0..image.len() / PAGE_BYTES)
        .filter(|page| {
            image[page * PAGE_BYTES..][..PAGE_BYTES]
                .iter()
                .any(|&byte| byte != 0)
        })
        .collect();
    for &page in &used {
        let at = page * PAGE_BYTES..(page + 1) * PAGE_BYTES;
        let mut zeroed = image.clone();
        zeroed[at.clone()].fill(0);
        found_or_harmless(zeroed, stamp, &rows, &format!("page {page} zeroed"));
        for &other in &used {
            let mut copied = image.clone();
            copied.copy_within(other * PAGE_BYTES..(other + 1) * PAGE_BYTES, at.start);
            found_or_harmless(
                copied,
                stamp,
                &rows,
                &format!("page {page} is page {other}"),
            );
        }
    }
}
