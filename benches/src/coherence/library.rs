//! What a lease costs through the client library: by one thread, in a loop, as a member of a domain
//! of the real daemon.
//!
//! Over the change of the word it pays for guards that give back what they hold, and for a look
//! before and after each access whether the lease stands.

use std::path::Path;
use std::time::Duration;

use client_sdk::{Bytes, Create, DomainOptions, LeaseError, ObjectError};
use pool_core::units::{EXTENT_BYTES, KIB, MIB};

use super::partner::Side;
use super::uncontended::{cost_of, one_word, robust};
use crate::contest::{Case, Result, hold};
use crate::daemon::{Daemon, TIER};
use crate::report::Report;

const POOL: Bytes = Bytes::new(64 * MIB);
const UNIT: Bytes = Bytes::new(64 * KIB);
const WAIT: Duration = Duration::from_secs(10);
/// What the object is called.
const NAME: &str = "bench/object";

/// All cases of this part, by the daemon `program`.
pub(super) fn measure(
    side: &Side<'_>,
    program: &Path,
    rounds: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let daemon = Daemon::start(program, POOL)?;
    let pool = daemon.attach("leases")?;
    let create = Create::new(TIER, Bytes::new(2 * EXTENT_BYTES));
    let domain = pool.create_domain(&create, &DomainOptions::new().unit_bytes(UNIT))?;
    let unit = domain.unit(0)?;
    let reads = || cost_of(|| unit.read(WAIT)?.release());
    report.add(contest("read", reads, side, rounds)?)?;
    let looks = || {
        cost_of(|| {
            let guard = unit.read(WAIT)?;
            guard.view::<u64>(Bytes::ZERO, 1)?.get(0)?;
            guard.release()
        })
    };
    report.add(contest("read, and 8 B looked at", looks, side, rounds)?)?;
    let holds = || cost_of(|| unit.write(WAIT)?.release().map(drop));
    report.add(contest("write, nothing changed", holds, side, rounds)?)?;
    let writes = || {
        cost_of(|| -> std::result::Result<(), LeaseError> {
            let mut guard = unit.write(WAIT)?;
            guard.view_mut::<u64>(Bytes::ZERO, 1)?.set(0, 7)?;
            guard.release().map(drop)
        })
    };
    report.add(contest("write, 8 B published", writes, side, rounds)?)?;

    let objects = pool.create_objects(&create, UNIT)?;
    let mut draft = objects.draft::<u64>(8)?;
    draft.view_mut()?.fill(7)?;
    let published = draft.publish(NAME).map_err(|refused| refused.error)?;
    let finds = || {
        cost_of(|| -> std::result::Result<(), ObjectError> { objects.get::<u64>(NAME).map(drop) })
    };
    report.add(contest("object found by its name", finds, side, rounds)?)?;
    drop(published);
    daemon.stop()
}

fn contest(
    what: &str,
    ours: impl FnMut() -> anyhow::Result<f64> + Clone,
    side: &Side<'_>,
    rounds: usize,
) -> anyhow::Result<Vec<Result>> {
    let case = Case::time(format!("client library: {what}"), "ns");
    hold(&case, rounds, ours, vec![one_word(side), robust(side)])
}
