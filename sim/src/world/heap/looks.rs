//! The heap is looked at, and all of it: what it says of itself is what the oracle says, and in the
//! end nothing is left of it.

use std::collections::BTreeMap;

use pool_core::sync::lock;
use pool_daemon::engine::command::Operation;

use super::super::World;
use super::super::plans::{CHUNK_EXTENTS, bytes};
use super::hand::{Hand, ROOTS};
use super::{LOOK_EVERY, State, may_have};
use crate::broken::{Checked, broken, holds};
use crate::oracle::heap::Whose;

/// How often what is needed is asked for at the end.
const TRIES: usize = 12;

impl World {
    /// Looks at the heap, where it is time to.
    pub(super) fn look_now_and_then(&mut self, h: usize, pid: u32) -> Checked {
        let lives = self.lives(h);
        let Some(heap) = &self.machines[h].heap else {
            return Ok(());
        };
        let (Some(now), acts) = (&heap.now, heap.acts) else {
            return Ok(());
        };
        let is_time = now.is_due && !now.blocks.awaits(lives) || acts >= now.looks_at;
        let has_it = self.machines[h].hands().any(|(of, _)| of == pid);
        if !is_time || !has_it || now.state != State::Whole {
            return Ok(());
        }
        self.look(h, pid).map(drop)
    }

    /// One process looks at all of the heap: whether everything could be seen. It may die of it, as
    /// those may that rest for it.
    fn look(&mut self, h: usize, pid: u32) -> Checked<bool> {
        let seen = self.look_at_all(h, pid);
        if let Some(heap) = &mut self.machines[h].heap
            && let Some(now) = &mut heap.now
        {
            now.looks_at = heap.acts + LOOK_EVERY;
            now.is_due &= !matches!(seen, Ok(true));
        }
        seen
    }

    fn look_at_all(&mut self, h: usize, pid: u32) -> Checked<bool> {
        let pids: Vec<u32> = self.machines[h].hands().map(|(pid, _)| pid).collect();
        let mut is_exact = true;
        for pid in pids {
            is_exact &= self.does(h, pid, Hand::rest, |_, _| {})?.is_some();
        }
        if self
            .does(h, pid, |hand| hand.recover(), |_, _| {})?
            .is_none()
        {
            return Ok(false);
        }
        for root in 0..ROOTS {
            if self.sees_root(h, pid, root)?.is_none() {
                return Ok(false);
            }
        }
        let lives = self.lives(h);
        is_exact &= self
            .instance(h)
            .is_some_and(|now| !now.blocks.awaits(lives));
        let look = |hand: &mut Hand| Ok((hand.audit()?, hand.blocks()?));
        let Some((audit, found)) = self.does(h, pid, look, |_, _| {})? else {
            return Ok(false);
        };
        if is_exact {
            holds(
                audit.findings.is_empty() && audit.dead_threads == 0,
                "nothing is wrong with the heap",
                || format!("{audit:x?}"),
            )?;
        }
        let found: BTreeMap<usize, bool> = found
            .into_iter()
            .map(|(at, block)| (at, block.is_pending))
            .collect();
        let Some(now) = self.instance(h) else {
            return Ok(false);
        };
        now.blocks.compare(&found, is_exact)?;
        self.contents_are_there(h, pid)?;
        self.nobody_else_keeps_any(h)?;
        self.trace.note(
            "heap-look",
            [h as u64, found.len() as u64, u64::from(is_exact), 0],
        );
        Ok(is_exact)
    }

    /// Who has no heap, as one that could not open it, has nothing of it mapped.
    fn nobody_else_keeps_any(&self, h: usize) -> Checked {
        let machine = &self.machines[h];
        let all = machine.processes.iter();
        let have = all.filter(|(_, process)| process.hand.is_some());
        let have: Vec<u32> = have.map(|(pid, _)| *pid).collect();
        let heap = machine.heap.as_ref();
        let other = heap.and_then(|heap| lock(&heap.book).kept_by_others(&have));
        holds(other.is_none(), "who has no heap keeps none of it", || {
            format!("{other:?} does, and {have:?} have it")
        })
    }

    fn contents_are_there(&self, h: usize, pid: u32) -> Checked {
        let machine = &self.machines[h];
        let heap = machine.heap.as_ref();
        let now = heap.and_then(|heap| heap.now.as_ref());
        let hand = machine.processes.get(&pid).and_then(|it| it.hand.as_ref());
        let (Some(now), Some(hand)) = (now, hand) else {
            return Ok(());
        };
        for (&at, block) in &now.blocks.all {
            let is_known = match block.whose {
                Whose::Published => true,
                Whose::Pending(of, _) => now.blocks.members.contains(&of),
                _ => false,
            };
            let keeps = !is_known || hand.is_signed(at, block.bytes, block.seed);
            holds(keeps, "a block keeps what is in it", || {
                format!("{at:#x}: {block:?}")
            })?;
        }
        Ok(())
    }

    /// Once nothing goes wrong the heap is as the oracle says, and can be emptied to the last
    /// chunk.
    pub(in crate::world) fn heap_comes_to_rest(&mut self, h: usize) -> Checked {
        self.who_has_it(h);
        let Some(heap) = &mut self.machines[h].heap else {
            return Ok(());
        };
        heap.doom.clear();
        if heap
            .now
            .as_ref()
            .is_none_or(|now| now.state != State::Whole)
        {
            return Ok(());
        }
        // Whoever has it dies, and one that comes has it alone.
        for pid in self.machines[h].pids() {
            self.kill(h, pid)?;
        }
        self.settle(h)?;
        self.spawn(h, 0, true)?;
        let fits = |_, process: &super::super::machine::Process| may_have(process);
        let Some(pid) = self.machines[h].pick(0, fits) else {
            return broken("a heap is reached when all is well", "nobody comes");
        };
        for _ in 0..TRIES {
            self.join_heap(h, pid, 1)?;
            self.settle(h)?;
            self.ask(h, pid)?;
            self.settle(h)?;
            self.who_has_it(h);
            let has_it = self.machines[h].hands().any(|(of, _)| of == pid);
            if has_it && self.look(h, pid)? {
                return self.empty_heap(h, pid);
            }
        }
        let process = self.machines[h].processes.get(&pid);
        broken(
            "a heap is reached when all is well",
            format_args!("{process:?}"),
        )
    }

    fn empty_heap(&mut self, h: usize, pid: u32) -> Checked {
        let member = self.machines[h].hands().next().map(|(_, hand)| hand.member);
        let Some(member) = member else {
            return Ok(());
        };
        for root in 0..ROOTS {
            self.takes_out(h, pid, (member, 0), (root, true))?;
        }
        while self
            .instance(h)
            .is_some_and(|now| !now.blocks.all.is_empty())
        {
            let before = self.instance(h).map(|now| now.blocks.all.len());
            self.frees(h, pid, (member, 0), 0)?;
            let after = self.instance(h).map(|now| now.blocks.all.len());
            holds(before != after, "all of a heap can be freed", || {
                format!("{after:?} blocks are left")
            })?;
        }
        let audit = self.does(h, pid, |hand| hand.audit(), |_, _| {})?;
        self.gives_all_back(h, pid)?;
        if audit.is_some_and(|audit| audit.chunks > 0) {
            self.trace.reached("a heap is emptied at rest");
        }
        self.what_was_left_goes(h, pid)
    }

    /// Of a heap without blocks all chunks go back, but for those that may stay.
    fn gives_all_back(&mut self, h: usize, pid: u32) -> Checked {
        let end = |hand: &mut Hand| {
            hand.rest()?;
            hand.end_thread(0);
            Ok(())
        };
        self.does(h, pid, end, |_, _| {})?;
        for _ in 0..TRIES {
            self.ask_for_chunks(h, pid)?;
            self.does(h, pid, |hand| hand.trim(), |_, _| {})?;
            self.ask(h, pid)?;
            self.settle(h)?;
        }
        let heap = self.machines[h].heap.as_ref();
        let has_chunks = heap.is_some_and(|heap| lock(&heap.book).has_chunks(pid));
        let audit = self.does(h, pid, |hand| hand.audit(), |_, _| {})?;
        let is_empty = audit.as_ref().is_some_and(|audit| audit.chunks == 0);
        holds(
            is_empty && !has_chunks,
            "all of a heap is given back",
            || format!("{audit:?}, {:?}", self.machines[h].heap),
        )
    }

    /// The chunk that stays under the number that is used first goes when that is used anew.
    fn what_was_left_goes(&mut self, h: usize, pid: u32) -> Checked {
        let left = |world: &Self| {
            let heap = world.machines[h].heap.as_ref();
            heap.and_then(|heap| lock(&heap.book).left_under(0))
        };
        let Some(segment) = left(self) else {
            return Ok(());
        };
        // No operator has taken the room for it away.
        let all = bytes(CHUNK_EXTENTS * self.mix.heap_chunks);
        self.operate(h, Operation::Activate("h0".to_owned()))?;
        self.operate(h, Operation::Resize("h0".to_owned(), all))?;
        let mut block = None;
        for _ in 0..TRIES {
            self.ask_for_chunks(h, pid)?;
            block = self.does(h, pid, |hand| hand.allocate(0, 64), |_, _| {})?;
            if block.is_some() {
                break;
            }
            self.ask(h, pid)?;
            self.settle(h)?;
            for pick in 0..4 {
                self.prove(h, pick)?; // What was given back is there again.
            }
        }
        let rule = "what was left goes when its number is used anew";
        let Some(at) = block else {
            return broken(rule, format_args!("{segment} keeps its number from use"));
        };
        self.does(h, pid, |hand| hand.free(0, at), |_, _| {})?;
        self.gives_all_back(h, pid)?;
        self.trace.reached("what was left of a heap goes");
        holds(left(self) != Some(segment), rule, || {
            format!("{segment} is there still")
        })
    }
}
