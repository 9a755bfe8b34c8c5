//! A process makes the heap of its host, or opens it: which of them may be, and what it is told
//! where it may not.

use std::collections::BTreeSet;

use allocator::pool::HeapError;
use pool_core::sync::{Arc, lock};
use pool_core::{SegmentId, planted};

use super::super::World;
use super::death::{Doom, IS_MADE, OF_MAKING};
use super::hand::Hand;
use super::memory::{CONTROLS, Standing};
use super::{Heap, Instance, LOOK_EVERY, State};
use crate::broken::{Checked, broken, holds};
use crate::op::Kind;
use crate::oracle::heap::Blocks;

impl World {
    /// The process has the domain: it opens the heap in it, or makes it.
    pub(super) fn open_heap(&mut self, h: usize, pid: u32, domain: SegmentId) -> Checked {
        let machine = &mut self.machines[h];
        if machine.heap.is_none() {
            machine.heap = Some(Heap::new()?);
        }
        let used = machine.processes.values();
        let used = used.filter_map(|process| process.hand.as_ref());
        let used: BTreeSet<usize> = used.map(|hand| hand.control).collect();
        let process = machine.processes.get(&pid);
        let held = process.and_then(|process| process.held.get(&domain));
        let (Some(heap), Some(held)) = (&mut machine.heap, held) else {
            return Ok(());
        };
        let (Some(slot), era) = (held.slot, held.era) else {
            return Ok(());
        };
        let words = held.pieces.first().and_then(|id| machine.words.get(id));
        let Some(words) = words else {
            return broken("who has a slot lives", "its domain has no words");
        };
        let is_new = heap.now.as_ref().is_none_or(|now| now.domain != domain);
        if is_new {
            let control = (0..CONTROLS).map(|turn| (heap.heaps + turn) % CONTROLS);
            let control = control.into_iter().find(|control| !used.contains(control));
            heap.heaps += 1;
            heap.now = Some(Instance {
                domain,
                members: words.members.clone(),
                control: control.unwrap_or(0),
                state: State::Whole,
                is_torn: false,
                blocks: Blocks::default(),
                is_due: false,
                looks_at: heap.acts + LOOK_EVERY,
            });
        }
        let Some(now) = &heap.now else {
            return Ok(());
        };
        let standing = Standing {
            memory: Arc::clone(&heap.memory),
            book: Arc::clone(&heap.book),
            members: now.members.clone(),
            domain,
            control: now.control,
            pid,
            slot,
            era,
        };
        // What its maker has left half made another one makes, or clears away.
        let makes = is_new || now.state == State::Unmade && self.rng.once_in(2);
        if makes {
            self.dooms_its_maker(h);
        }
        self.prepare(h, pid);
        let opened = self.within_heap(h, || Hand::new(standing, makes));
        let numbers = [h as u64, pid.into(), domain.number(), u64::from(makes)];
        self.trace.note("heap-open", numbers);
        match opened {
            Err(point) => return self.dies_opening(h, pid, (makes, point)),
            Ok(opened) => self.opened(h, pid, makes, opened)?,
        }
        self.keep_wishes(h, pid);
        self.ask(h, pid)
    }

    /// Now and then whoever makes a heap dies of it, where any are to die within heaps.
    fn dooms_its_maker(&mut self, h: usize) {
        let is_on = |(kind, _)| kind == Kind::HeapDies;
        let may_die = !self.heals && self.mix.faults().any(is_on);
        if may_die && self.rng.once_in(6) {
            let doom = Doom::of_making(&mut self.rng);
            if let Some(heap) = &mut self.machines[h].heap {
                heap.doom.push(doom);
            }
        }
    }

    /// What came of it that a process opened a heap, or made one.
    fn opened(
        &mut self,
        h: usize,
        pid: u32,
        makes: bool,
        opened: Result<Hand, HeapError>,
    ) -> Checked {
        let Some(now) = self.instance(h) else {
            return Ok(());
        };
        let (state, is_torn) = (now.state, now.is_torn);
        let hand = match (opened, state) {
            (Ok(hand), _) => hand,
            (Err(error), _) => {
                if !planted!("sim.keeps_what_it_did_not_open")
                    && let Some(heap) = &self.machines[h].heap
                {
                    lock(&heap.book).forget(pid);
                }
                return self.not_opened(h, (makes, state), error);
            }
        };
        let rule = "what is no heap is not opened";
        let is_one = !is_torn && (makes || state != State::Unmade);
        holds(is_one, rule, || format!("it is {state:?}, {is_torn}"))?;
        if makes {
            now.state = State::Whole;
        }
        if let Some(process) = self.machines[h].processes.get_mut(&pid) {
            process.hand = Some(hand);
        }
        self.who_has_it(h);
        Ok(())
    }

    /// A heap was not opened: an error says why, and which of them that may be depends on how the
    /// heap is.
    fn not_opened(&mut self, h: usize, (makes, state): (bool, State), error: HeapError) -> Checked {
        match (error, state) {
            (HeapError::Map(_), State::Ruined) => {
                self.trace.reached("a heap in ruins is not opened");
                Ok(())
            }
            (HeapError::Damaged { .. }, State::Ruined) | (HeapError::Map(_), _) => Ok(()),
            (HeapError::Ended, State::Ruined | State::Ended) => Ok(()),
            (HeapError::NotSetUp, State::Unmade) if !makes => {
                self.trace.reached("a heap that is half made is not opened");
                // Whoever finds it so clears it away.
                let now = self.instance(h);
                now.into_iter().for_each(|now| now.state = State::Ended);
                Ok(())
            }
            (error, state) => broken("a heap opens", format_args!("{error}; it is {state:?}")),
        }
    }

    /// A process died while it opened a heap, or made it.
    fn dies_opening(
        &mut self,
        h: usize,
        pid: u32,
        (makes, point): (bool, &'static str),
    ) -> Checked {
        if let (true, Some(now)) = (makes, self.instance(h)) {
            let is_made = point == IS_MADE || !OF_MAKING.contains(&point);
            now.state = if is_made { State::Whole } else { State::Unmade };
            self.trace.reached("a member dies while it makes a heap");
        }
        if let Some(heap) = &self.machines[h].heap {
            lock(&heap.book).forget(pid);
        }
        self.died_in_heap(h, pid, point);
        self.ends_in_act(h, pid)
    }
}
