//! How long a lease waits, and how long the calls of the daemon take that it needs.
//!
//! Mostly it needs none. A mapping that is older than the grant is brought up to date by one, and
//! who may only read leases by them. The time of such a call is what is left of the wait: the unit
//! is held meanwhile, or is to be had by somebody who waits no more. Who does not wait at all has
//! to call all the same, or would never have the unit: it makes one attempt.

use std::time::Duration;

use pool_core::Nanos;
use pool_core::clock::Deadline;

use crate::session::ATTEMPT;
use crate::shared::Shared;

/// Of who does not wait, and of no wait that is over.
const NO_WAIT: Deadline = Deadline::at(Nanos::ZERO);

/// When a wait of `timeout` that begins now ends.
pub(super) fn deadline(timeout: Duration) -> Deadline {
    if timeout.is_zero() {
        return NO_WAIT;
    }
    let nanos = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
    Deadline::after(Nanos::new(nanos))
}

/// When a call that begins now is to have ended, where the unit is waited for until `until`.
pub(super) fn call_deadline(shared: &Shared, until: Option<Deadline>) -> Deadline {
    let waits = until.filter(|until| *until != NO_WAIT);
    let until = waits.unwrap_or_else(|| Deadline::after(ATTEMPT));
    until.min(shared.deadline())
}
