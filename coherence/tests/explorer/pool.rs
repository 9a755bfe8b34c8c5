//! The model: members, their caches, the daemon and the death of each, and what must hold.

use coherence::{Own, State as Held};

use crate::daemon::reads;
use crate::scope::Scope;
use crate::search::Model;
use crate::state::{
    At, Backing, Base, Broken, Daemon, FRAMES, FREE, LINES, Label, Left, MEMBERS, Member, State,
    Tag, UNITS, Unit, Use, small,
};
use crate::world::World;

impl Model for Scope {
    type State = State;
    type Label = Label;
    type Violation = Broken;

    fn initial(&self) -> State {
        let tag = |unit| Tag::new(unit, 0);
        State {
            units: std::array::from_fn::<_, UNITS, _>(|unit| Unit {
                own: FREE,
                version: 0,
                base: Base::default(),
                backing: if unit < self.units {
                    Backing {
                        incarnation: 0,
                        frame: small(unit),
                    }
                } else {
                    Backing::NONE
                },
                published: 0,
                contents: [tag(unit); LINES],
            }),
            memory: std::array::from_fn::<_, FRAMES, _>(|frame| {
                let used = frame < self.units;
                [if used { tag(frame) } else { Tag::STRANGE }; LINES]
            }),
            uses: State::first_uses(self.units),
            members: [Member::NEW; MEMBERS],
            daemon: Daemon::IDLE,
            left: Left {
                writes: self.writes,
                deaths: self.deaths,
                evictions: self.evictions,
                moves: self.moves,
                restarts: self.restarts,
            },
            broken: None,
        }
    }

    fn steps(&self, state: &State, out: &mut Vec<(Label, State)>) {
        let mut world = World {
            scope: self,
            state,
            out,
        };
        for index in 0..self.members {
            world.member(index);
            world.nature(index);
        }
        world.daemon();
    }

    fn violated(&self, state: &State) -> Option<Broken> {
        state
            .broken
            .or_else(|| (0..self.units).find_map(|unit| state.broken_in(unit)))
            .or_else(|| (0..self.members).find_map(|index| state.broken_by(index, self.members)))
            .or_else(|| World::leaves_undone(self, state).then_some(Broken::Stuck))
    }
}

impl State {
    fn broken_in(&self, unit: usize) -> Option<Broken> {
        let it = &self.units[unit];
        if Own::judge(it.own.word()) != Ok(it.own) {
            return Some(Broken::Word);
        }
        match it.own.state() {
            Held::Free | Held::Shared => {
                let stored = self.memory[it.backing.frame()];
                (stored != it.contents).then_some(Broken::LostUpdate)
            }
            // What is told to whoever asks for it.
            Held::Lost => (it.base.version != it.published).then_some(Broken::LastGood),
            _ => None,
        }
    }

    fn broken_by(&self, index: usize, members: usize) -> Option<Broken> {
        let member = &self.members[index];
        let unit = &self.units[member.unit()];
        let told_so = member.at == At::Revoked;
        let taken = told_so || member.holds() && !member.is_granted(unit.own, index);
        if taken && !member.cut {
            return Some(Broken::OneWriterOrReaders);
        }
        if !member.is_inside() {
            return None;
        }
        if self.uses[member.backing.frame()] != Use::Of(member.unit, member.backing.incarnation) {
            return Some(Broken::FrameReused);
        }
        // A writer that was cut off and does not know it is in memory that nobody else is in.
        let beside = |other: &Member| {
            let is_cut_reader = other.cut && reads(other.aim);
            other.is_inside()
                && !is_cut_reader
                && other.backing == member.backing
                && other.unit == member.unit
        };
        let crowded = !reads(member.aim)
            && (0..members).any(|other| other != index && beside(&self.members[other]));
        crowded.then_some(Broken::OneWriterOrReaders)
    }
}
