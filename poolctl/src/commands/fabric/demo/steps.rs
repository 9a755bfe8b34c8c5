//! The story, step by step. What each of them says on the way is what is promised of it.

use std::time::Duration;

use fabric_emu::fabric::Fault;
use fabric_emu::id::HostId;
use fabric_emu::span::Span;

use super::cast::Cast;
use super::order::{Order, Refusal, Said, Slot};
use super::served::{DOWN, POOL};
use super::stage::Stage;
use super::{DEVICE_BYTES, FIRST_STEP_BYTES, HIGH_BYTES, HOSTS, MIB};
use crate::error::CtlError;

/// More than a quarter of the device: not all hosts can have so much at a time.
const MUCH: u64 = 272 * MIB;
const _: () = assert!(HOSTS as u64 * MUCH > DEVICE_BYTES);
/// What a host keeps that dies.
const KEPT: u64 = 512 * MIB;
/// More than is left for all others together then.
const MORE_THAN_LEFT: u64 = 528 * MIB;
const _: () = assert!(KEPT + MORE_THAN_LEFT > DEVICE_BYTES);
/// What a host keeps that hangs, and what the next one asks for. They are there at the same time,
/// and so less than the others.
const STUCK: u64 = 128 * MIB;
const NEXT: u64 = 160 * MIB;
/// What a host holds that is unplugged.
const SOME: u64 = 24 * MIB;
/// How long is waited for memory that cannot come.
const SHORT: Duration = Duration::from_millis(300);
/// What is held in the pooled device.
const FAR: Slot = Slot::Far;

/// A step.
type Act = fn(&mut Stage<'_>) -> Result<(), CtlError>;

/// All of them, in order.
pub(super) const STEPS: [Act; 7] = [
    hosts_come_up,
    demand_moves,
    a_device_is_unplugged,
    a_host_dies,
    a_host_hangs,
    a_line_is_poisoned,
    the_books_balance,
];

fn hosts_come_up(stage: &mut Stage<'_>) -> Result<(), CtlError> {
    stage.begin(
        "Four hosts come up",
        "Each host has a daemon with a little memory of its own, and none of the pooled device. \
         The daemon asks the fabric's manager for a first step of capacity, and takes what is \
         offered. A client of each writes into local memory, to look at it again later.",
    )?;
    stage.moment("nobody is up")?;
    for host in 0..HOSTS {
        stage.cast.start(host)?;
    }
    stage.sees_soon(
        "each host has 16 MiB, and its daemon says the same",
        |cast| all(cast, |has| has == FIRST_STEP_BYTES),
    )?;
    stage.moment("all are up")?;
    stage.end()
}

fn demand_moves(stage: &mut Stage<'_>) -> Result<(), CtlError> {
    stage.begin(
        "Demand moves, and the pool follows",
        "One host after the other needs 272 MiB, more than a quarter of the device. It is given \
         what nobody uses; when it is done, what lies idle beyond 32 MiB goes back to the manager, \
         for the next one to have. No memory is moved and no daemon is configured anew.",
    )?;
    for host in 0..HOSTS {
        take_and_fill(stage, host, MUCH)?;
        stage.moment(format!("host{host} needs 272 MiB"))?;
        let before = stage.cast.has(host)? / MIB;
        stage.cast.client(host)?.does(&Order::Free { slot: FAR })?;
        stage.sees_soon(
            format!("of {before} MiB, host{host} has given back all but 32 MiB at most"),
            |cast| Ok(cast.agreed(host)?.is_some_and(|has| has <= HIGH_BYTES)),
        )?;
    }
    stage.moment("all are done")?;
    stage.end()
}

fn a_device_is_unplugged(stage: &mut Stage<'_>) -> Result<(), CtlError> {
    stage.begin(
        "The device is unplugged under load",
        "First its cable is out for a moment, while host0 holds 24 MiB of it. Then the device \
         vanishes for good, and another one, which is empty, takes its place.",
    )?;
    let (host, slot) = (0, FAR);
    let seed = take_and_fill(stage, host, SOME)?;
    let mut events = stage.cast.events(host)?;
    stage.cast.served.fault(Fault::LinkFails(DOWN))?;
    let told = stage.cast.tells_of(host, "device-unreached", &mut events)?;
    stage.sees("the cable is out, and the daemon says so", told)?;
    stage.cast.served.fault(Fault::LinkHeals(DOWN))?;
    let told = stage.cast.tells_of(host, "device-reached", &mut events)?;
    stage.sees("the cable is in again, and the daemon says so", told)?;
    let as_written = stage
        .cast
        .client(host)?
        .tells(&Order::Holds { slot, seed })?;
    stage.sees("nothing is lost of what host0 holds", as_written)?;
    let probe = stage.cast.granted(host, Slot::Probe, 2 * MIB)?;
    stage.sees("host0 is granted memory again", probe)?;
    let probe = Order::Free { slot: Slot::Probe };
    stage.cast.client(host)?.does(&probe)?;

    stage.cast.served.fault(Fault::MemdevVanishes(POOL))?;
    stage.moment("the device is gone")?;
    is_told_of_its_loss(stage, host)?;
    let local = stage.cast.local_is_as_written(host)?;
    stage.sees(
        "other tiers go on: its local memory is as it was written",
        local,
    )?;
    let full = !stage
        .cast
        .client(host)?
        .holds(FAR, 2 * MIB, Duration::ZERO)?;
    stage.sees("nothing is granted of a device that is gone", full)?;
    stage.cast.served.fault(Fault::MemdevReturns(POOL))?;
    stage.sees_soon(
        "another device is there, and each host has a first step of it",
        |cast| all(cast, |has| has >= FIRST_STEP_BYTES),
    )?;
    stage.moment("another device is there")?;
    take_and_fill(stage, host, SOME)?;
    stage.cast.client(host)?.does(&Order::Free { slot })?;
    stage.end()
}

fn a_host_dies(stage: &mut Stage<'_>) -> Result<(), CtlError> {
    stage.begin(
        "A host dies",
        "host1 holds 512 MiB that it has written, and dies with its daemon and its client. Nobody \
         may guess that it is gone for good, so its capacity stays its own until the manager \
         takes it by force. Then host2 has it.",
    )?;
    let (dead, heir) = (1, 2);
    take_and_fill(stage, dead, KEPT)?;
    stage.moment("host1 holds 512 MiB")?;
    stage
        .cast
        .served
        .fault(Fault::HostDies(HostId(dead.into())))?;
    stage.cast.kill(dead)?;
    let has = stage.cast.has(dead)?;
    stage.sees(
        "host1 is dead, and what it had is still its own",
        has >= KEPT,
    )?;
    let refused = !stage.cast.client(heir)?.holds(FAR, MORE_THAN_LEFT, SHORT)?;
    let has = stage.cast.has(dead)?;
    stage.sees(
        "host2 asks for 528 MiB, more than there is without it, and is refused",
        refused && has >= KEPT,
    )?;
    stage.moment("host1 is dead")?;
    take_by_force(stage, dead)?;
    take_and_fill(stage, heir, MORE_THAN_LEFT)?;
    stage.moment("host2 has what was host1's")?;
    stage.cast.client(heir)?.does(&Order::Free { slot: FAR })?;
    stage
        .cast
        .served
        .fault(Fault::HostStarts(HostId(dead.into())))?;
    stage.cast.start(dead)?;
    stage.sees_soon(
        "host1 starts again, and is given a first step like any other",
        |cast| all(cast, |has| (FIRST_STEP_BYTES..=HIGH_BYTES).contains(&has)),
    )?;
    stage.moment("host1 is back")?;
    stage.end()
}

fn a_host_hangs(stage: &mut Stage<'_>) -> Result<(), CtlError> {
    stage.begin(
        "A host hangs, and still writes",
        "host2 holds 128 MiB, and its daemon hangs: it answers neither the manager nor its client, \
         which goes on and has the memory mapped. The manager asks for the memory back, in vain, \
         and takes it by force. host3 has it then, and host2's client writes once more.",
    )?;
    let (stuck, heir) = (2, 3);
    take_and_fill(stage, stuck, STUCK)?;
    stage.moment("host2 holds 128 MiB")?;
    stage.cast.daemon(stuck)?.hang()?;
    let had = stage.cast.served.had(stuck)?;
    stage.cast.served.take(stuck, &had, false)?;
    let has = stage.cast.has(stuck)?;
    stage.sees("host2 is asked, and gives nothing back", has >= STUCK)?;
    take_by_force(stage, stuck)?;
    let theirs = take_and_fill(stage, heir, NEXT)?;
    let common = common(&had, &stage.cast.served.had(heir)?) / MIB;
    let promise = format!("host3 has {common} MiB that were host2's");
    stage.sees(promise, common > 0)?;
    stage.moment("host3 has what was host2's")?;
    let (slot, late) = (FAR, theirs + 1);
    let client = stage.cast.client(stuck)?;
    client.does(&Order::Fill { slot, seed: late })?;
    let kept = client.tells(&Order::Holds { slot, seed: late })?;
    stage.sees(
        "host2's client has kept its mapping, and its late store is there",
        kept,
    )?;
    let client = stage.cast.client(heir)?;
    let as_written = client.tells(&Order::Holds { slot, seed: theirs })?;
    stage.sees(
        "host3 does not see it: what it wrote is as it wrote it",
        as_written,
    )?;
    stage.cast.daemon(stuck)?.go_on()?;
    is_told_of_its_loss(stage, stuck)?;
    stage.cast.client(heir)?.does(&Order::Free { slot })?;
    stage.sees_soon("host2 goes on, with a first step like any other", |cast| {
        all(cast, |has| (FIRST_STEP_BYTES..=HIGH_BYTES).contains(&has))
    })?;
    stage.moment("host2 goes on")?;
    stage.end()
}

fn a_line_is_poisoned(stage: &mut Stage<'_>) -> Result<(), CtlError> {
    stage.begin(
        "A line is poisoned",
        "64 bytes of the device fail, in memory that a client of host0 holds. It loses the extent \
         of 2 MiB in which they lie, is told which, and keeps the rest. Nobody is ever given that \
         extent again.",
    )?;
    let (host, slot) = (0, FAR);
    // All that it has now is in what it holds then, also where more comes meanwhile.
    let (had, free) = (stage.cast.served.had(host)?, stage.cast.share(host)?.free);
    let seed = take_and_fill(stage, host, free)?;
    let line = had.first().map_or(0, |it| it.start + 4_096);
    let memdev = POOL;
    stage.cast.served.fault(Fault::Poison {
        memdev,
        physical: line,
    })?;
    let told = stage.cast.client(host)?.is_told()?;
    let (seen, place) = match told {
        Said::Damaged {
            slot: hurt,
            offset,
            bytes,
        } => (hurt == slot && bytes == 2 * MIB, offset / MIB),
        _ => (false, 0),
    };
    stage.sees(
        format!("its holder is told which 2 MiB are lost: those from {place} MiB on"),
        seen,
    )?;
    let rest = stage
        .cast
        .client(host)?
        .tells(&Order::Holds { slot, seed })?;
    stage.sees("the rest of it is as it was written", rest)?;
    stage.cast.client(host)?.does(&Order::Free { slot })?;
    stage.cast.is_bad(host, 2 * MIB);
    stage.sees_soon("host0 has 2 MiB that its daemon grants no more", |cast| {
        Ok(cast.agreed(host)?.is_some() && cast.share(host)?.quarantined == 0)
    })?;
    stage.end()
}

fn the_books_balance(stage: &mut Stage<'_>) -> Result<(), CtlError> {
    stage.begin(
        "The books balance",
        "Nothing of the device is held any more. Whatever moved, failed and was taken: each byte \
         is had once or free, and what each daemon has is what the fabric says.",
    )?;
    stage.sees_soon(
        "nothing is granted or in quarantine, and all say the same",
        |cast| {
            let mut rests = true;
            for host in 0..HOSTS {
                let share = cast.share(host)?;
                rests &= share.granted == 0 && share.quarantined == 0;
            }
            Ok(rests && all(cast, |has| has <= HIGH_BYTES + 2 * MIB)?)
        },
    )?;
    let mut as_written = true;
    for host in 0..HOSTS {
        as_written &= stage.cast.local_is_as_written(host)?;
    }
    stage.sees(
        "the local memory of all clients is as it was written",
        as_written,
    )?;
    stage.moment("at the end")?;
    stage.end()
}

/// Whether each host has what it should, and fabric and daemon say the same.
fn all(cast: &mut Cast, is: impl Fn(u64) -> bool) -> Result<bool, CtlError> {
    for host in 0..HOSTS {
        if !cast.agreed(host)?.is_some_and(&is) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A client is granted memory of the pooled device, and writes it: with which seed.
fn take_and_fill(stage: &mut Stage<'_>, host: u8, bytes: u64) -> Result<u64, CtlError> {
    let (slot, seed) = (FAR, u64::from(stage.number()) * 100 + u64::from(host) * 10);
    let granted = stage.cast.granted(host, slot, bytes)?;
    let mib = bytes / MIB;
    let is_zero = granted && stage.cast.client(host)?.tells(&Order::IsZero { slot })?;
    let promise = format!("host{host} is granted {mib} MiB, of zeros");
    stage.sees(promise, is_zero)?;
    let client = stage.cast.client(host)?;
    client.does(&Order::Fill { slot, seed })?;
    let as_written = client.tells(&Order::Holds { slot, seed })?;
    let promise = format!("host{host} reads what it has written into them");
    stage.sees(promise, as_written)?;
    Ok(seed)
}

/// How much of the device is in both.
fn common(some: &[Span], others: &[Span]) -> u64 {
    let of = |one: &Span, other: &Span| {
        let begin = one.start.max(other.start);
        let end = (one.start + one.bytes).min(other.start + other.bytes);
        end.saturating_sub(begin)
    };
    let each = |one| others.iter().map(move |other| of(one, other));
    some.iter().flat_map(each).sum()
}

/// The manager takes all that a host has.
fn take_by_force(stage: &mut Stage<'_>, host: u8) -> Result<(), CtlError> {
    let had = stage.cast.served.had(host)?;
    stage.cast.served.take(host, &had, true)?;
    let has = stage.cast.has(host)?;
    stage.sees(
        format!("all that host{host} had is taken by force"),
        has == 0,
    )
}

/// The client of a host is told that what it holds of the device is lost, and cannot use it.
fn is_told_of_its_loss(stage: &mut Stage<'_>, host: u8) -> Result<(), CtlError> {
    let (slot, seed) = (FAR, 0);
    let client = stage.cast.client(host)?;
    let told = client.is_told()? == Said::Lost { slot };
    let refused = matches!(
        client.says(&Order::Holds { slot, seed })?,
        Said::Refused {
            is: Refusal::Lost,
            ..
        }
    );
    client.does(&Order::Free { slot })?;
    let promise = format!("host{host}'s client is told of its loss, and reads no wrong byte");
    stage.sees(promise, told && refused)
}
