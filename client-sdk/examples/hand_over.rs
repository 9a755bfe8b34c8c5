//! A unit of memory that two processes change by turns, without a copy and without the daemon.
//!
//! Start `pool-daemon run`, then this program, then this program again in another terminal with the
//! argument `join`. Kill one of the two in the midst of it: where it held the unit the other is
//! told that the contents are lost, and restores them; where it did not, the other waits for its
//! turn for a while and says so.

use std::time::{Duration, Instant};

use client_sdk::{
    Access, AttachOptions, Bytes, Create, Domain, DomainOptions, LeaseError, Pool, WriteGuard,
};

/// How long the other one may take for its turn.
const TURN: Duration = Duration::from_secs(10);
const TURNS: u64 = 100_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::attach(&AttachOptions::new().name("hand-over"))?;
    if std::env::args().nth(1).as_deref() == Some("join") {
        return play(&pool.open_domain("ball", Access::ReadWrite)?, 1);
    }
    let create = Create::new("ddr", Bytes::new(2 << 20)).name("ball");
    let domain = pool.create_domain(&create, &DomainOptions::new())?;
    println!(
        "{} units of {}: waiting",
        domain.units(),
        domain.unit_bytes()
    );
    play(&domain, 0)
}

/// Counts on whenever it is this one's turn.
#[expect(
    clippy::disallowed_methods,
    reason = "a program that uses the library has the time from the standard library"
)]
fn play(domain: &Domain, turn: u64) -> Result<(), Box<dyn std::error::Error>> {
    let ball = domain.unit(0)?;
    let mut since = Instant::now();
    loop {
        let mut guard = match ball.write(TURN) {
            Err(LeaseError::Lost { last_good, .. }) => {
                println!("the other one died: version {last_good} was the last");
                let mut guard = ball.restore()?;
                let words = usize::try_from(domain.unit_bytes().get() / 8)?;
                guard.view_mut::<u64>(Bytes::ZERO, words)?.fill(0)?;
                count_on(&mut guard, TURNS)?;
                guard.release()?;
                return Ok(());
            }
            guard => guard?,
        };
        let count = guard.view::<u64>(Bytes::ZERO, 1)?.get(0)?;
        if count >= TURNS {
            println!("{count} turns, version {}", guard.version());
            return Ok(());
        }
        // Nothing is published where it is the other one's turn.
        if count % 2 == turn {
            count_on(&mut guard, count + 1)?;
            guard.release()?;
            since = Instant::now();
        } else if since.elapsed() > TURN {
            return Err(format!("the other one does not come: {count} turns were taken").into());
        }
    }
}

fn count_on(guard: &mut WriteGuard<'_>, count: u64) -> Result<(), LeaseError> {
    guard.view_mut::<u64>(Bytes::ZERO, 1)?.set(0, count)
}
