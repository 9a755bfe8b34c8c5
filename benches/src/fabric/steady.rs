//! Emulated time, twice: reads that come at random times, one event each, and what
//! [`solve`] says of the same streams in the steady state, which knows no single access.
//!
//! Every device is loaded to 60 %. The solver takes each queue as if it were the first on its way,
//! so its latency is the upper bound; what an event costs buys who waited behind whom.

use fabric_emu::fabric::{Effect, Event};
use fabric_emu::id::HostId;
use fabric_emu::timing::{Picos, Rate, Share, Stream, solve};
use pool_core::rng::Rng;
use pool_core::units::LINE_BYTES;

use super::name;
use super::racks::{RACK, racks};
use super::scene::{BASE, BLOCK, Scene, ld, memdev};
use crate::contest::{Better, Case, Contender, compare, take_turns, timed};
use crate::contest::{OURS, OURS_AGAIN};
use crate::report::Report;

/// Reads of a run, of all hosts together.
const READS: u64 = 65_536;
/// What the hosts of a rack ask for together: 60 % of the reads of a device of class `cxl-x8`.
const OF_RACK: u64 = 12_480_000_000;

/// The peer.
pub(super) const SOLVE: &str = "timing::solve, steady state";
/// What both are asked.
pub(super) const WHAT: &str = "65,536 reads at 60 % load, their mean latency";

/// What a run yields: how long it took, in microseconds, and the mean latency, in nanoseconds.
type Run = (f64, f64);

/// All cases of this part.
pub(super) fn measure(hosts: u16, rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    let mut scene = Scene::new(&racks(hosts)?)?;
    scene.furnish()?;
    let streams = streams(&scene)?;
    let elements = scene.fabric.elements().clone();
    let scene = std::cell::RefCell::new(scene);
    let events = || events(&mut scene.borrow_mut());
    let steady = || {
        let (time, solution) = timed(|| solve(&elements, &streams));
        let solution = solution?;
        let sum = solution.streams.iter().map(|one| nanos(one.latency));
        Ok((time / 1e3, sum.sum::<f64>() / f64::from(hosts)))
    };
    let mut all = vec![
        Contender::new(OURS, events),
        Contender::new(OURS_AGAIN, events),
        Contender::new(SOLVE, steady),
    ];
    let runs = take_turns(&mut all, rounds)?;
    let of = |which: fn(&Run) -> f64| {
        let sides = runs
            .iter()
            .map(|(name, runs)| (*name, runs.iter().map(which).collect()));
        sides.collect::<Vec<_>>()
    };
    let time = Case::time(name(WHAT, hosts), "us");
    report.add(compare(&time, of(|run| run.0))?)?;
    let latency = name("mean latency of a read at 60 % load", hosts);
    let latency = Case::figure(latency, "ns", Better::Lower).emulated();
    report.add(compare(&latency, of(|run| run.1))?)
}

/// Reads of hosts and lines that are drawn, at times that are drawn.
fn events(scene: &mut Scene) -> anyhow::Result<Run> {
    let racks = u64::from(scene.hosts.div_ceil(RACK));
    let gap = Rate::new(OF_RACK.saturating_mul(racks))
        .time_of(LINE_BYTES)
        .get();
    let mut rng = Rng::new(scene.now.get());
    // What was under way before has ended.
    let mut now = scene.now.saturating_add(Picos::from_nanos(1_000_000));
    let mut sum = 0.0;
    let (time, done) = timed(|| {
        for _ in 0..READS {
            now = now.saturating_add(Picos::new(drawn_gap(&mut rng, gap)));
            let host = HostId(u16::try_from(rng.below(scene.hosts.into()))?);
            let address = BASE + rng.below(BLOCK / LINE_BYTES) * LINE_BYTES;
            let effects = scene.fabric.step(now, &Event::Load { host, address });
            let [Effect::Loaded { took, .. }] = effects[..] else {
                anyhow::bail!("a load had other effects: {effects:?}");
            };
            sum += nanos(took);
        }
        Ok(())
    });
    done?;
    scene.now = now;
    #[expect(clippy::cast_precision_loss, reason = "a power of two")]
    let mean = sum / READS as f64;
    Ok((time / 1e3, mean))
}

/// A gap between times that are drawn: of an exponential distribution with this mean.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a gap is some picoseconds"
)]
fn drawn_gap(rng: &mut Rng, mean: u64) -> u64 {
    let drawn = (rng.below(1 << 32) as f64 + 1.0) / 4_294_967_296.0;
    (-drawn.ln() * mean as f64) as u64
}

/// What hosts ask for in the steady state.
fn streams(scene: &Scene) -> anyhow::Result<Vec<Stream>> {
    let of_rack = u64::from(scene.hosts.min(RACK));
    let stream = |host| {
        let way = scene.fabric.way(HostId(host), memdev(host), ld(host));
        Ok(Stream {
            path: way.ok_or_else(|| anyhow::anyhow!("host {host} reaches nothing"))?,
            demand: Rate::new(OF_RACK / of_rack),
            reads: Share::ONE,
            mlp: 1 << 16,
        })
    };
    (0..scene.hosts).map(stream).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a latency is far below 2^53")]
fn nanos(time: Picos) -> f64 {
    time.get() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steady_state_is_an_upper_bound_and_no_far_one() {
        let mut scene = Scene::new(&racks(4).unwrap()).unwrap();
        scene.furnish().unwrap();
        let streams = streams(&scene).unwrap();
        let solution = solve(scene.fabric.elements(), &streams).unwrap();
        let bound = nanos(solution.streams[0].latency);
        let (_, mean) = events(&mut scene).unwrap();
        assert!(
            mean > 550.0 && mean < bound * 1.01 && mean > bound * 0.9,
            "{mean} {bound}"
        );
    }
}
