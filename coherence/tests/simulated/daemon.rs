//! The daemon: it recovers members that are gone, dies when it does, and is started again.
//!
//! A member that is dead is recovered, and its place given away. One that was cut off lives on, and
//! may still store to what it held: where the daemon judges that, it copies it first, to a frame
//! the member does not know. The place of such a member is given away when it has died, after it
//! was recovered once more: it may have been granted units meanwhile.

use coherence::check::check;
use coherence::recover::{Fenced, RecoverError, Recovered, Verdict, recover, rouse};
use coherence::sum;
use pool_core::sync::atomic::Ordering::Relaxed;

use crate::member::digest_of;
use crate::memory::Memory;
use crate::mix::Policy;
use crate::report::{Violation, broken};
use crate::scheduler::{BatonWait, Stand};
use crate::world::{DAEMON, Life, State, World};

/// Serves until all members have done what they had to do.
pub(crate) fn serve(world: &World) {
    loop {
        let mut state = world.state();
        if let Some(host) = (1..state.hosts.len()).find(|host| state.hosts[*host].is_due()) {
            drop(state);
            recover_member(world, host);
            continue;
        }
        let mut members = state.schedule.strands.iter().skip(1);
        if members.all(|strand| matches!(strand.stand, Stand::Done | Stand::Gone)) {
            let result = ended(world, &state);
            world.settle(&mut state, result);
            state.is_over = true;
            return;
        }
        state.schedule.strands[DAEMON].stand = Stand::Idle;
        world.go_on(state, DAEMON);
    }
}

fn recover_member(world: &World, host: usize) {
    let (slot, asked) = {
        let state = world.state();
        (state.hosts[host].slot, state.hosts[host].asked)
    };
    for (unit, line) in (0..).zip(&world.lines) {
        set_unit(world, unit);
        let judge = |fenced| judge(world, unit, fenced);
        let recovered = recover(line, slot, &BatonWait, judge);
        let mut state = world.state();
        let name = match recovered {
            Ok(Recovered::Untouched) => "untouched",
            Ok(Recovered::Cleared) => "reader cleared",
            Ok(Recovered::Repaired) => "found good",
            Ok(Recovered::Lost { .. }) => "found lost",
            Err(error) => return world.demand(state, ends(error)),
        };
        *state.tally.recovered.entry(name).or_default() += 1;
    }
    for (unit, line) in (0..).zip(&world.lines) {
        set_unit(world, unit);
        if let Err(error) = rouse(line, &BatonWait) {
            return world.demand(world.state(), ends(error));
        }
        let State {
            schedule, units, ..
        } = &mut *world.state();
        let is_dead = |thread: usize| [host, DAEMON].contains(&schedule.strands[thread].host);
        units[unit as usize].roused(is_dead);
    }
    world.pass(DAEMON, "member recovered");
    let mut state = world.state();
    let entry = &mut state.hosts[host];
    entry.recovered = asked;
    match entry.life {
        Life::Dead if entry.asked == asked => state.populate(host, &world.mix, &world.memory),
        Life::CutOff => entry.life = Life::Expelled,
        _ => {}
    }
}

fn set_unit(world: &World, unit: u32) {
    world.state().schedule.strands[DAEMON].unit = unit;
    world.pass(DAEMON, "next unit");
}

fn ends(error: RecoverError) -> Result<(), Violation> {
    broken("a recovery ends", error.to_string())
}

/// What is to become of a unit that is fenced: of a copy, where its writer may still store to it.
fn judge(world: &World, unit: u32, fenced: Fenced) -> Verdict {
    let (line, index) = (&world.lines[unit as usize], unit as usize);
    let mut state = world.state();
    let told = state.units[index].told(fenced.last_good);
    let holder = state.units[index].fenced_of;
    let lives =
        |state: &State, host: usize| matches!(state.hosts[host].life, Life::CutOff | Life::Dying);
    let holder = holder.map(|slot| usize::from(slot.index()));
    let holder = holder.filter(|host| lives(&state, *host) && !state.units[index].is_moved);
    if told.is_err() {
        world.demand(state, told);
        return Verdict::Lost;
    }
    if let (Some(host), Some(&frame)) = (holder, state.frames_free.first()) {
        drop(state);
        let from = line.backing.load(Relaxed);
        let to = Memory::after(from, frame);
        world.memory.copy(from, to);
        world.pass(DAEMON, "copied");
        state = world.state();
        state.frames_free.remove(0);
        state.hosts[host].quarantine.push(Memory::frame(from));
        state.units[index].is_moved = true;
        // The change of the word, which follows, publishes it.
        line.backing.store(to, Relaxed);
        drop(state);
        world.pass(DAEMON, "moved");
        state = world.state();
    }
    let contents = world.memory.unit(line.backing.load(Relaxed));
    // What a checksum calls good is whole: published, or going to be.
    drop(state);
    let by_sum = sum::judge(line, &fenced, digest_of(&contents));
    let state = world.state();
    if by_sum == Verdict::Good && !state.units[index].is_whole(&contents) {
        let told = broken(
            "a checksum fits whole contents only",
            format!("unit {unit}"),
        );
        world.demand(state, told);
        return Verdict::Lost;
    }
    let untouched = contents == state.units[index].published && !fenced.was_lost;
    match world.mix.policy {
        Policy::Sum if by_sum == Verdict::Lost && untouched => {
            let told = broken(
                "contents that nobody has touched fit their checksum",
                format!("unit {unit}"),
            );
            world.demand(state, told);
            Verdict::Lost
        }
        Policy::Sum => by_sum,
        Policy::Keep => Verdict::Good,
        Policy::Compare if contents == state.units[index].published => Verdict::Good,
        Policy::Compare | Policy::Lose => Verdict::Lost,
    }
}

/// When all is over.
fn ended(world: &World, state: &State) -> Result<(), Violation> {
    for unit in &state.units {
        unit.ended(&world.memory)?;
    }
    let mut found = Ok(());
    let members = state
        .hosts
        .iter()
        .fold(0, |all, host| all | host.slot.bit());
    let census = check(&world.lines, members, |violation| {
        found = broken("the check finds nothing", violation.to_string());
    });
    found?;
    if census.free + census.lost == world.mix.units {
        return Ok(());
    }
    broken(
        "at the end every unit is free or lost",
        format!("{census:?}"),
    )
}
