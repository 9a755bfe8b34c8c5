//! Leases of a process that holds a domain read-only: by requests to the daemon, which sets and
//! clears the bit of this process.
//!
//! # Protocol
//! The daemon knows that the process holds a unit, and nothing of its threads: they are counted
//! here. The first asks the daemon, with the session taken, so that no two do at once. Others join
//! it, unless a writer waits. The last queues the release (see [`crate::table`]); it is sent before
//! the next request is, so the daemon hears of both in the order in which they happened.
//!
//! The word cannot be waited for: memory that may not be written is no futex. Who has to wait asks
//! again, ever more rarely.

use std::collections::BTreeMap;

use coherence::{Grant, State};
use pool_core::Nanos;
use pool_core::clock::{Backoff, Deadline};
use pool_core::sync::{Mutex, lock};
use pool_proto::session::v1::{self as session, request};

use super::Units;
use super::call::call_deadline;
use super::error::LeaseError;
use super::patience::Patience;
use crate::error::{AccessError, Error, ErrorClass, Reason};
use crate::table::Errand;

/// Pauses between requests for a unit that others hold.
const ASK_FIRST: Nanos = Nanos::from_millis(1);
const ASK_LONGEST: Nanos = Nanos::from_millis(50);

/// What was leased by requests.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    leased: Mutex<BTreeMap<u32, Leased>>,
}

#[derive(Debug, Clone, Copy)]
struct Leased {
    grant: Grant,
    threads: u32,
}

/// Leases the unit at `index` for reading.
pub(super) fn acquire(
    units: &Units<'_>,
    index: u32,
    heard: Option<u64>,
    until: Option<Deadline>,
) -> Result<Grant, LeaseError> {
    let mut patience = None;
    let acquired = acquire_patiently(units, index, (heard, &mut patience), until);
    if let Some(patience) = patience {
        units.waited(index, &patience, acquired.is_ok());
    }
    acquired
}

/// The same. It has `patience` from when it waits on.
fn acquire_patiently(
    units: &Units<'_>,
    index: u32,
    (heard, patience): (Option<u64>, &mut Option<Patience>),
    until: Option<Deadline>,
) -> Result<Grant, LeaseError> {
    let mut pauses = None;
    loop {
        let refused = match join(units, index)? {
            Some(grant) => return Ok(grant),
            None => match ask(units, index, until) {
                Err(error @ LeaseError::Busy { .. }) => error,
                Err(error) if until.is_some() && is_held_from(units, index, &error)? => {
                    return Err(timed_out(units, index)?);
                }
                done => return done,
            },
        };
        let Some(until) = until else {
            return Err(refused);
        };
        let patience = patience.get_or_insert_with(|| units.patience(index, heard));
        if patience.is_over() || until.expired() {
            return Err(timed_out(units, index)?);
        }
        patience.look();
        let longest = patience.longest().unwrap_or(ASK_LONGEST).min(ASK_LONGEST);
        let backoff = pauses.get_or_insert_with(|| Backoff::new(ASK_FIRST, longest));
        // Asked at the deadline, the daemon would answer when nobody listens.
        if !backoff.pause(until) || until.expired() {
            return Err(timed_out(units, index)?);
        }
    }
}

/// Whether the daemon did not answer in time, and would have refused.
fn is_held_from(units: &Units<'_>, index: u32, error: &LeaseError) -> Result<bool, LeaseError> {
    let unanswered = matches!(error, LeaseError::Call(call) if call.reason().is_none());
    let unanswered = unanswered && error.class() == ErrorClass::Unreachable;
    Ok(unanswered && units.own(index)?.state() == State::Exclusive)
}

fn timed_out(units: &Units<'_>, index: u32) -> Result<LeaseError, LeaseError> {
    let unit = units.unit(index);
    let holders = units.own(index)?.holders();
    Ok(LeaseError::TimedOut { unit, holders })
}

/// Joins the threads of this process that read the unit, where some do and nobody waits to write.
fn join(units: &Units<'_>, index: u32) -> Result<Option<Grant>, LeaseError> {
    let (unit, own) = (units.unit(index), units.own(index)?);
    let mut leased = lock(&requests(units)?.leased);
    let Some(held) = leased.get_mut(&unit) else {
        return Ok(None);
    };
    // Where it was taken away it is to be had anew.
    if own.is_recalled() || !own.is_shared_by(units.slot(), held.grant.epoch()) {
        return Ok(None);
    }
    held.threads = held.threads.saturating_add(1);
    Ok(Some(held.grant))
}

/// Asks the daemon for the unit, which is waited for until `until`.
fn ask(units: &Units<'_>, index: u32, until: Option<Deadline>) -> Result<Grant, LeaseError> {
    let (unit, domain) = (units.unit(index), units.domain);
    let shared = domain.segment().life().shared();
    let deadline = call_deadline(shared, until);
    let mut session = shared.session(deadline)?;
    // Another thread may have been faster.
    if let Some(grant) = join(units, index)? {
        return Ok(grant);
    }
    let busy = || -> Result<LeaseError, LeaseError> {
        let holders = units.own(index)?.holders();
        Ok(LeaseError::Busy { unit, holders })
    };
    let before = lock(&requests(units)?.leased).get(&unit).copied();
    let own = units.own(index)?;
    if before.is_some_and(|held| own.is_shared_by(units.slot(), held.grant.epoch())) {
        // A writer waits for these threads to let go.
        return Err(busy()?);
    }
    let body = request::Body::Acquire(session::Acquire {
        segment_id: units.segment_id().number(),
        unit,
    });
    let answer = session.call_by(body, deadline);
    let acquired = match answer.and_then(crate::wire::Answer::acquired) {
        Ok(acquired) => acquired,
        Err(error) if is_busy(&error) => return Err(busy()?),
        Err(error) => return Err(refused(units, index, error)),
    };
    let own = units.own(index)?;
    let grant = Grant {
        own,
        version: acquired.version,
        backing: acquired.backing,
    };
    if !own.is_shared_by(units.slot(), grant.epoch()) {
        return Err(LeaseError::Revoked { unit });
    }
    let mut leased = lock(&requests(units)?.leased);
    let held = leased.entry(unit).or_insert(Leased { grant, threads: 0 });
    let same = |grant: &Grant| (grant.epoch(), grant.version, grant.backing);
    if same(&held.grant) == same(&grant) {
        // Those from whom it was taken away have it again: nobody has written in between.
        held.threads = held.threads.saturating_add(1);
    } else {
        *held = Leased { grant, threads: 1 };
    }
    Ok(grant)
}

fn is_busy(error: &Error) -> bool {
    matches!(error.reason(), Some(Reason::InUse | Reason::Busy))
}

/// Why the daemon does not lease the unit.
fn refused(units: &Units<'_>, index: u32, error: Error) -> LeaseError {
    let unit = units.unit(index);
    match units.last_good(index) {
        Ok(last_good) if error.reason() == Some(Reason::Lost) => {
            LeaseError::Lost { unit, last_good }
        }
        _ => error.into(),
    }
}

/// Lets go of a unit: tells the daemon where this was the last thread of the process.
pub(super) fn release(units: &Units<'_>, index: u32, grant: &Grant) -> Result<(), LeaseError> {
    let unit = units.unit(index);
    let stands = units.own(index)?.is_shared_by(units.slot(), grant.epoch());
    let mut leased = lock(&requests(units)?.leased);
    let Some(held) = leased.get_mut(&unit).filter(|held| held.grant == *grant) else {
        return Err(LeaseError::Revoked { unit });
    };
    held.threads = held.threads.saturating_sub(1);
    if held.threads == 0 {
        leased.remove(&unit);
        let shared = units.domain.segment().life().shared();
        // Under the lock, so that who asks next does so after it.
        shared.queue(Errand::Unit(units.segment_id(), unit));
    }
    drop(leased);
    stands.then_some(()).ok_or(LeaseError::Revoked { unit })
}

fn requests<'d>(units: &Units<'d>) -> Result<&'d Requests, AccessError> {
    units
        .membership
        .requests
        .as_ref()
        .ok_or(AccessError::ReadOnly)
}
