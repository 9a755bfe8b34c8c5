//! Two machines, one device: each has a daemon with all of the device for one segment, and they
//! exchange ownership of its extents by the board at its beginning. Either is killed while it
//! holds an extent, and the other one goes on.
//!
//! | name | slot | what it does |
//! |---|---|---|
//! | `a` | 0 | has the home; outlives `b`; is killed while it holds an extent |
//! | `b` | 1 | is killed while it holds an extent |
//! | `b2` | 1 | comes after `b`; outlives `a`, and has the home from then on |
//! | `a2` | 0 | comes after `a`, to the home of the other one |
//!
//! Whoever started the machines plays the fabric's manager: it has made the board, it kills, and
//! says on the board who is fenced and who has the home.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use client_sdk::{AttachOptions, Create, Pool, Segment};
use coherence::cache::Hardware;
use coherence::host::board::Board;
use pool_core::Bytes;
use pool_core::units::MIB;

use super::daemon::Daemon;
use crate::say;

mod part;
mod payload;

use part::Part;

const DEVICES: &str = r#"
[[tier]]
name = "hosts"

[[device]]
name = "expander"
tier = "hosts"
kind = "devdax"
serials = [0xa0]
size = "256 MiB"
shared = true

[[tenant]]
name = "both"
uids = [0]
[tenant.quota.hosts]
limit = "100 %"

[default_tenant]
admit_unlisted = false
"#;

const BYTES: Bytes = Bytes::new(256 * MIB);
/// How often all extents together go from one machine to the other.
const EXCHANGES: u64 = 10_000;
/// How many times more after each death.
const MORE: u64 = 1_600;
/// The extent that a machine holds when it is killed.
const HELD: u32 = 3;

pub(super) fn run(words: &[String]) -> anyhow::Result<()> {
    let name = words.first().context("a machine has a name")?.as_str();
    let slot = match name {
        "a" | "a2" => 0,
        "b" | "b2" => 1,
        _ => bail!("no machine of this scenario is {name}"),
    };
    let daemon = Daemon::start(DEVICES)?;
    let options = AttachOptions::new()
        .socket(Daemon::socket())
        .timeout(Duration::from_secs(60));
    let pool = Pool::attach(&options)?;
    a_part_is_refused(&pool)?;
    let segment = pool.create(&Create::new("hosts", BYTES).name("whole"))?;
    play(name, slot, &segment)?;
    segment.close();
    drop(pool);
    daemon.is_at_rest()?;
    say::told(&format!(
        "{name}: all is free again, and the accounting balances"
    ));
    Ok(())
}

fn a_part_is_refused(pool: &Pool) -> anyhow::Result<()> {
    let part = pool.create(&Create::new("hosts", Bytes::new(2 * MIB)));
    ensure!(part.is_err(), "a part of what other hosts have was granted");
    Ok(())
}

/// What this machine does with the memory.
fn play(name: &str, slot: u8, segment: &Segment) -> anyhow::Result<()> {
    let count = usize::try_from(payload::BOARD_BYTES / 8)?;
    let words = segment.words(Bytes::ZERO, count)?;
    let board = Board::open(words, Hardware)?;
    let mut part = Part::join(name, slot, segment, board)?;
    match name {
        "a" => {
            part.exchange(EXCHANGES)?;
            part.outlive(HELD)?;
            part.exchange(EXCHANGES + MORE)?;
            part.hold(HELD)
        }
        "b" => {
            part.exchange(EXCHANGES)?;
            part.hold(HELD)
        }
        "b2" => {
            part.exchange(EXCHANGES + MORE)?;
            part.outlive(HELD)?;
            part.exchange(EXCHANGES + 2 * MORE)?;
            part.see_off()
        }
        _ => {
            part.exchange(EXCHANGES + 2 * MORE)?;
            part.take_leave(EXCHANGES + 2 * MORE)
        }
    }
}
