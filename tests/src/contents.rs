//! Contents of a unit that tell whether they are whole: a number, words that follow from it, and
//! their sum. And what two processes do to hand a unit to each other.

use std::time::Duration;

use client_sdk::{Bytes, Domain, LeasedView, ReadGuard, Ticket, WriteGuard};
use pool_core::sync::thread;

/// How long anything of a lease may take.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often a unit changes hands.
pub const ROUNDS: u64 = 1_000;
/// How many units workers share.
pub const UNITS: u32 = 8;
/// The elements of the object that a member publishes before it dies.
pub const OBJECT: [u64; 5] = [3, 1, 4, 1, 5];
/// Words of a unit of a page.
const WORDS: usize = 512;

/// The contents after `number` changes.
fn of(number: u64) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    if number == 0 {
        return words;
    }
    words[0] = number;
    for (word, place) in words[1..WORDS - 1].iter_mut().zip(1_u64..) {
        *word = (number << 16 ^ place).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    words[WORDS - 1] = words.iter().fold(0, |sum, word| sum.wrapping_add(*word));
    words
}

fn number_of(view: &LeasedView<'_, u64>) -> u64 {
    let mut words = [0; WORDS];
    view.read_into(0, &mut words).expect("the lease stands");
    assert_eq!(words, of(words[0]), "the contents are whole");
    words[0]
}

/// Checks the contents and returns their number.
pub fn read(guard: &ReadGuard<'_>) -> u64 {
    let view = guard.view(Bytes::ZERO, WORDS).expect("a unit of a page");
    number_of(&view)
}

/// As [`read`], under a lease for writing.
pub fn check(guard: &WriteGuard<'_>) -> u64 {
    let view = guard.view(Bytes::ZERO, WORDS).expect("a unit of a page");
    number_of(&view)
}

/// Makes the next change.
pub fn change(guard: &mut WriteGuard<'_>) -> u64 {
    let number = check(guard) + 1;
    let mut view = guard
        .view_mut(Bytes::ZERO, WORDS)
        .expect("a unit of a page");
    view.write_from(0, &of(number)).expect("the lease stands");
    number
}

/// Writes contents that are not whole.
pub fn write_half(guard: &mut WriteGuard<'_>) {
    let number = check(guard) + 1;
    let mut view = guard
        .view_mut(Bytes::ZERO, WORDS / 2)
        .expect("a unit of a page");
    view.write_from(0, &of(number)[..WORDS / 2])
        .expect("the lease stands");
}

/// Writes contents anew, of version `number`.
pub fn write_anew(guard: &mut WriteGuard<'_>, number: u64) {
    let mut view = guard
        .view_mut(Bytes::ZERO, WORDS)
        .expect("a unit of a page");
    view.write_from(0, &of(number)).expect("the lease stands");
}

/// Changes unit 0 whenever its number has this parity, until it was changed [`ROUNDS`] times.
///
/// Whose turn it is, is read: a writer that waits keeps new readers out until it was let in. Two
/// that both looked by leases for writing could keep each other out for long, for a lease that was
/// let go goes to whoever comes first, and that is who let go.
pub fn exchange(domain: &Domain, parity: u64) {
    let unit = domain.unit(0).expect("it has one");
    loop {
        let number = read(&unit.read(PATIENCE).expect("the other lets go"));
        if number >= ROUNDS {
            return;
        }
        if number % 2 != parity {
            thread::yield_now();
            continue;
        }
        let mut guard = unit.write(PATIENCE).expect("the other lets go");
        assert_eq!(check(&guard), number, "it is this one's turn");
        assert_eq!(number, guard.version(), "each change is published once");
        let next = change(&mut guard);
        assert_eq!(guard.release(), Ok(next));
    }
}

/// Changes unit 0 and hands it to the other, until it was changed [`ROUNDS`] times. They tell each
/// other their tickets in units 1 and 2.
pub fn hand_to_and_fro(domain: &Domain, parity: u32) {
    let word = |unit: u32| {
        let guard = domain.unit(unit).ok()?.read(PATIENCE).ok()?;
        let number = guard.view::<u64>(Bytes::ZERO, 1).ok()?.get(0).ok()?;
        (number != 0).then_some(number)
    };
    let mine = domain.ticket().expect("it may write");
    let mut guard = domain
        .unit(1 + parity)
        .and_then(|unit| unit.write(PATIENCE))
        .expect("nobody else wants it");
    let mut view = guard.view_mut::<u64>(Bytes::ZERO, 1).expect("a word");
    view.set(0, mine.number()).expect("the lease stands");
    drop(guard);
    let other = crate::until("the other has a ticket", || word(2 - parity));
    let other = Ticket::from_number(other);
    let unit = domain.unit(0).expect("it has one");
    let mut guard = match parity {
        0 => unit.write(PATIENCE),
        _ => unit.receive(PATIENCE),
    }
    .expect("the unit comes");
    loop {
        if check(&guard) == ROUNDS {
            guard.release().expect("the lease stands");
            return;
        }
        let number = change(&mut guard);
        guard.hand_over(other).expect("the other lives");
        if number == ROUNDS {
            return;
        }
        guard = unit.receive(PATIENCE).expect("the unit comes back");
        assert_eq!(
            guard.version(),
            check(&guard),
            "nothing was published twice"
        );
    }
}
