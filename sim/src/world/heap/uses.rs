//! What those who have the heap do to it.

use allocator::pool::HeapError;

use super::super::World;
use super::hand::{Hand, Member, ROOTS, THREADS};
use super::{Instance, State};
use crate::broken::{Checked, broken, holds};
use crate::oracle::heap::{Block, Blocks, Whose};

/// With so many blocks one is freed before there are more.
const BLOCKS_MAX: usize = 90;

impl World {
    fn member(&self, h: usize, pid: u32) -> Option<Member> {
        let hand = self.machines[h].processes.get(&pid)?.hand.as_ref()?;
        Some(hand.member)
    }

    /// How the heap is that a process has; ended, where there is another one by now.
    fn state_of(&self, h: usize, pid: u32) -> State {
        let mut hands = self.machines[h].hands();
        let heap = self.machines[h].heap.as_ref();
        let now = heap.and_then(|heap| heap.now.as_ref());
        match now.filter(|_| hands.any(|(of, _)| of == pid)) {
            Some(now) => now.state,
            None => State::Ended,
        }
    }

    /// A process does something to the heap, which may fail for want of what it has asked for by
    /// then. What is in doubt where it dies, `doubt` says.
    pub(super) fn does<T>(
        &mut self,
        h: usize,
        pid: u32,
        act: impl FnOnce(&mut Hand) -> Result<T, HeapError>,
        doubt: impl FnOnce(&mut Blocks, Member),
    ) -> Checked<Option<T>> {
        let Some(member) = self.member(h, pid) else {
            return Ok(None);
        };
        match self.acts_on_heap(h, pid, act)? {
            None => {
                if let Some(now) = self.instance(h) {
                    doubt(&mut now.blocks, member);
                }
                self.ends_in_act(h, pid)?;
                Ok(None)
            }
            Some(Ok(done)) => {
                self.lives_without_daemon(h);
                Ok(Some(done))
            }
            Some(Err(error)) if is_for_want(&error) => {
                let wants = matches!(error, HeapError::Exhausted(_)).into();
                self.trace
                    .note("heap-wants", [h as u64, pid.into(), wants, 0]);
                Ok(None)
            }
            Some(Err(error)) => broken("the heap does what it should", error),
        }
    }

    fn lives_without_daemon(&mut self, h: usize) {
        let machine = &mut self.machines[h];
        if let Some(heap) = machine.heap.as_mut().filter(|heap| heap.outlives) {
            heap.outlives = false;
            self.trace.reached("a heap outlives its daemon");
        }
    }

    /// A block that fits, by a number, modulo how many there are.
    fn block(
        &mut self,
        h: usize,
        pick: u16,
        fits: impl Fn(&Block) -> bool,
    ) -> Option<(usize, Block)> {
        let blocks = &self.instance(h)?.blocks.all;
        let fitting: Vec<_> = blocks.iter().filter(|(_, block)| fits(block)).collect();
        let place = usize::from(pick).checked_rem(fitting.len())?;
        fitting.get(place).map(|&(&at, &block)| (at, block))
    }

    fn is_whole(&mut self, h: usize, pid: u32, (at, block): (usize, Block)) -> Checked {
        let process = self.machines[h].processes.get(&pid);
        let hand = process.and_then(|process| process.hand.as_ref());
        let is_signed = hand.is_none_or(|hand| hand.is_signed(at, block.bytes, block.seed));
        holds(is_signed, "a block keeps what is in it", || {
            format!("{at:#x}: {block:?}")
        })
    }

    /// One of the things that are done to blocks and roots.
    pub(super) fn use_heap(&mut self, h: usize, pid: u32, (c, d): (u16, u16)) -> Checked {
        match self.state_of(h, pid) {
            State::Ended => return self.hears_of_the_end(h, pid),
            State::Unmade => {
                return broken(
                    "what is no heap is not opened",
                    format_args!("{pid} has it"),
                );
            }
            State::Ruined => return self.in_ruins(h, pid, (c, d)),
            State::Whole => {}
        }
        let Some(member) = self.member(h, pid) else {
            return Ok(());
        };
        let (by, root) = (
            (member, usize::from(c / 64) % THREADS),
            usize::from(d) % ROOTS,
        );
        match c % 32 {
            0..=9 => self.allocates(h, pid, by, d),
            10 | 11 => self.publishes(h, pid, by, d),
            12..=16 => self.links(h, pid, by, (root, d / 4)),
            17..=21 => self.takes_out(h, pid, by, (root, c % 32 != 21)),
            22..=26 => self.frees(h, pid, by, d),
            27 | 28 => self.frees_again(h, pid, by, d),
            29 => self.frees_of_others(h, pid, by, d),
            30 => self.resizes(h, pid, by, d),
            _ => self.sees_root(h, pid, root).map(drop),
        }
    }

    fn block_bytes(&mut self, d: u16) -> usize {
        let most = match d % 32 {
            0..=13 => 512,
            14..=21 => 9_000,
            22..=26 => 400_000,
            27..=29 => 3_000_000,
            _ => 31 << 20,
        };
        usize::try_from(self.rng.below(most)).unwrap_or(0).max(16) & !7
    }

    fn allocates(&mut self, h: usize, pid: u32, by: (Member, usize), d: u16) -> Checked {
        let bytes = self.block_bytes(d);
        let Some(heap) = self.machines[h].heap.as_mut() else {
            return Ok(());
        };
        heap.seeds += 1;
        let seed = heap.seeds;
        let is_full = |now: &Instance| now.blocks.all.len() >= BLOCKS_MAX;
        if heap.now.as_ref().is_some_and(is_full) {
            return self.frees(h, pid, by, d);
        }
        let allocate = |hand: &mut Hand| hand.allocate(by.1, bytes);
        let Some(at) = self.does(h, pid, allocate, |_, _| {})? else {
            return Ok(());
        };
        self.trace.note(
            "heap-block",
            [h as u64, pid.into(), at as u64, bytes as u64],
        );
        let lives = self.lives(h);
        if let Some(now) = self.instance(h) {
            now.blocks.allocated(at, (bytes, seed), by, lives)?;
        }
        if let Some(hand) = self.machines[h]
            .processes
            .get(&pid)
            .and_then(|it| it.hand.as_ref())
        {
            hand.sign(at, bytes, seed);
        }
        if d.is_multiple_of(3) {
            return self.publish(h, pid, by, at);
        }
        Ok(())
    }

    /// A block that this thread may do something to although it is pending.
    fn own(&mut self, h: usize, by: (Member, usize), pick: u16) -> Option<(usize, Block)> {
        self.block(h, pick, |block| is_own(block, by))
    }

    fn publishes(&mut self, h: usize, pid: u32, by: (Member, usize), d: u16) -> Checked {
        let Some((at, block)) = self.own(h, by, d) else {
            return Ok(());
        };
        self.is_whole(h, pid, (at, block))?;
        self.publish(h, pid, by, at)
    }

    fn publish(&mut self, h: usize, pid: u32, by: (Member, usize), at: usize) -> Checked {
        let publish = |hand: &mut Hand| hand.publish(by.1, at);
        let doubt = |blocks: &mut Blocks, member| blocks.is(at, Whose::Publishing(member), None);
        let done = self.does(h, pid, publish, doubt)?;
        if let (Some(()), Some(now)) = (done, self.instance(h)) {
            now.blocks.is(at, Whose::Published, None);
        }
        Ok(())
    }

    /// What a root has; `None` where it is not seen.
    pub(super) fn sees_root(
        &mut self,
        h: usize,
        pid: u32,
        root: usize,
    ) -> Checked<Option<Option<usize>>> {
        let seen = self.does(h, pid, |hand| hand.load(root), |_, _| {})?;
        if let (Some(found), Some(now)) = (seen, self.instance(h)) {
            now.blocks.seen(root, found)?;
        }
        Ok(seen)
    }

    fn links(
        &mut self,
        h: usize,
        pid: u32,
        by: (Member, usize),
        (root, pick): (usize, u16),
    ) -> Checked {
        let Some(old) = self.sees_root(h, pid, root)? else {
            return Ok(());
        };
        let Some((at, block)) = self.own(h, by, pick) else {
            return Ok(());
        };
        if old.is_some() && !pick.is_multiple_of(4) {
            return Ok(());
        }
        self.is_whole(h, pid, (at, block))?;
        self.trace
            .note("heap-link", [h as u64, pid.into(), at as u64, root as u64]);
        let link = |hand: &mut Hand| hand.link(by.1, root, old, at);
        let doubt = |blocks: &mut Blocks, member| blocks.may_be_linked(root, at, member);
        let done = self.does(h, pid, link, doubt)?;
        if let (Some(()), Some(now)) = (done, self.instance(h)) {
            now.blocks.set(root, Some(at));
        }
        Ok(())
    }

    /// Takes what a root has out of it, and frees it or not.
    pub(super) fn takes_out(
        &mut self,
        h: usize,
        pid: u32,
        by: (Member, usize),
        (root, frees): (usize, bool),
    ) -> Checked {
        let Some(Some(at)) = self.sees_root(h, pid, root)? else {
            return Ok(());
        };
        let block = self
            .instance(h)
            .and_then(|now| now.blocks.all.get(&at))
            .copied();
        let Some(block) = block else {
            return broken(
                "all that is published is there",
                format_args!("{at:#x} is linked"),
            );
        };
        self.is_whole(h, pid, (at, block))?;
        self.trace.note(
            "heap-unlink",
            [h as u64, pid.into(), at as u64, u64::from(frees)],
        );
        let take_out = |hand: &mut Hand| match frees {
            true => hand.retire(by.1, root, at),
            false => hand.unlink(root, at),
        };
        let doubt = |blocks: &mut Blocks, _| blocks.may_be_out(root, at, frees);
        let done = self.does(h, pid, take_out, doubt)?;
        if let (Some(()), Some(now)) = (done, self.instance(h)) {
            now.blocks.set(root, None);
            if frees {
                now.blocks.freed(at);
            }
        }
        Ok(())
    }

    /// Frees a block that is published, or this thread's.
    pub(super) fn frees(&mut self, h: usize, pid: u32, by: (Member, usize), d: u16) -> Checked {
        let may = |block: &Block| {
            is_own(block, by) || block.whose == Whose::Published && block.root.is_none()
        };
        let Some((at, block)) = self.block(h, d, may) else {
            return Ok(());
        };
        self.is_whole(h, pid, (at, block))?;
        let was_published = u64::from(block.whose == Whose::Published);
        let numbers = [h as u64, pid.into(), at as u64, was_published];
        self.trace.note("heap-free", numbers);
        let doubt = |blocks: &mut Blocks, _| {
            let was_published = block.whose == Whose::Published;
            blocks.is(at, Whose::Freeing(was_published), None);
        };
        let done = self.does(h, pid, |hand| hand.free(by.1, at), doubt)?;
        if let (Some(()), Some(now)) = (done, self.instance(h)) {
            now.blocks.freed(at);
        }
        Ok(())
    }

    /// Frees what is free.
    fn frees_again(&mut self, h: usize, pid: u32, by: (Member, usize), d: u16) -> Checked {
        let freed = self.instance(h).map(|now| &now.blocks.freed);
        let place = freed.and_then(|freed| {
            let place = usize::from(d).checked_rem(freed.len())?;
            freed.get(place).copied()
        });
        let Some(at) = place else {
            return Ok(());
        };
        match self.acts_on_heap(h, pid, |hand| hand.free(by.1, at))? {
            None => self.ends_in_act(h, pid),
            Some(Err(_)) => Ok(()),
            Some(Ok(())) => broken("free once", format_args!("{at:#x} was free")),
        }
    }

    /// Frees a pending block of another thread that lives.
    fn frees_of_others(&mut self, h: usize, pid: u32, by: (Member, usize), d: u16) -> Checked {
        let members = self.instance(h).map(|now| now.blocks.members.clone());
        let members = members.unwrap_or_default();
        let is_of_others = |block: &Block| match block.whose {
            Whose::Pending(of, Some(thread)) => members.contains(&of) && (of, thread) != by,
            Whose::Pending(of, None) => members.contains(&of) && of != by.0,
            _ => false,
        };
        let Some((at, _)) = self.block(h, d, is_of_others) else {
            return Ok(());
        };
        match self.acts_on_heap(h, pid, |hand| hand.free(by.1, at))? {
            None => self.ends_in_act(h, pid),
            Some(Err(HeapError::NotOwner { .. } | HeapError::Map(_) | HeapError::Exhausted(_))) => {
                Ok(())
            }
            Some(other) => broken("what is pending is its thread's", format_args!("{other:?}")),
        }
    }

    /// Resizes a pending block of its own.
    fn resizes(&mut self, h: usize, pid: u32, by: (Member, usize), d: u16) -> Checked {
        let bytes = self.block_bytes(d / 8);
        let Some((at, block)) = self.own(h, by, d) else {
            return Ok(());
        };
        self.is_whole(h, pid, (at, block))?;
        self.trace.note(
            "heap-resize",
            [h as u64, pid.into(), at as u64, bytes as u64],
        );
        let resize = |hand: &mut Hand| hand.resize(by.1, at, bytes);
        // What is given up of it may be somebody else's at once.
        let doubt = |blocks: &mut Blocks, _| {
            let block = blocks.all.get_mut(&at);
            block
                .into_iter()
                .for_each(|it| it.bytes = it.bytes.min(bytes));
        };
        if self.does(h, pid, resize, doubt)? != Some(true) {
            return Ok(());
        }
        let lives = self.lives(h);
        if let Some(now) = self.instance(h) {
            now.blocks.all.remove(&at);
            now.blocks.allocated(at, (bytes, block.seed), by, lives)?;
            now.blocks.is(at, block.whose, None);
        }
        if let Some(hand) = self.machines[h]
            .processes
            .get(&pid)
            .and_then(|it| it.hand.as_ref())
        {
            hand.sign(at, bytes, block.seed);
        }
        Ok(())
    }

    /// What is done to the whole of what a process has of the heap.
    pub(super) fn tidy_heap(&mut self, h: usize, pid: u32, (c, d): (u16, u16)) -> Checked {
        if self.state_of(h, pid) != State::Whole {
            return self.use_heap(h, pid, (c, d));
        }
        let Some(member) = self.member(h, pid) else {
            return Ok(());
        };
        let thread = usize::from(d) % THREADS;
        match c % 16 {
            0..=2 => self.does(h, pid, Hand::rest, |_, _| {}).map(drop),
            3..=5 => {
                self.ask_for_chunks(h, pid)?;
                self.gives_chunks_back(h, pid)
            }
            6..=8 => {
                self.ask_for_chunks(h, pid)?;
                self.does(h, pid, |hand| hand.recover(), |_, _| {})
                    .map(drop)
            }
            9 => self.ends_thread(h, pid, (member, thread)),
            10 => self.leaves(h, pid, member),
            11 | 12 => {
                for turn in 0..12 {
                    self.frees(h, pid, (member, thread), d.wrapping_mul(turn))?;
                }
                Ok(())
            }
            13 => self.all_free(h, pid),
            14 if d.is_multiple_of(16) => self.ends_heap(h, pid),
            _ => {
                self.instance(h)
                    .into_iter()
                    .for_each(|now| now.is_due = true);
                Ok(())
            }
        }
    }

    /// Everybody frees what they may, and one gives chunks back.
    fn all_free(&mut self, h: usize, pid: u32) -> Checked {
        let hands = self.machines[h].hands();
        let hands: Vec<_> = hands.map(|(pid, hand)| (pid, hand.member)).collect();
        for (of, member) in hands {
            for root in 0..ROOTS {
                self.takes_out(h, of, (member, 0), (root, true))?;
            }
            for turn in 0..BLOCKS_MAX {
                self.frees(h, of, (member, turn % THREADS), 0)?;
            }
            self.does(h, of, Hand::rest, |_, _| {})?;
        }
        self.ask_for_chunks(h, pid)?;
        self.gives_chunks_back(h, pid)
    }

    fn gives_chunks_back(&mut self, h: usize, pid: u32) -> Checked {
        let trimmed = self.does(h, pid, |hand| hand.trim(), |_, _| {})?;
        if trimmed.is_some_and(|removed| removed > 0) {
            self.trace.reached("a heap gives a chunk back");
        }
        Ok(())
    }

    fn ends_thread(&mut self, h: usize, pid: u32, by: (Member, usize)) -> Checked {
        let end = |hand: &mut Hand| {
            hand.end_thread(by.1);
            Ok(())
        };
        let done = self.does(h, pid, end, |_, _| {})?;
        if let (Some(()), Some(now)) = (done, self.instance(h)) {
            for block in now.blocks.all.values_mut() {
                if block.whose == Whose::Pending(by.0, Some(by.1)) {
                    block.whose = Whose::Pending(by.0, None);
                }
            }
        }
        Ok(())
    }

    /// A process leaves the heap in good order.
    pub(super) fn leaves(&mut self, h: usize, pid: u32, member: Member) -> Checked {
        let leave = |hand: &mut Hand| {
            hand.leave();
            Ok(())
        };
        let doubt = |blocks: &mut Blocks, member: Member| {
            for block in blocks.all.values_mut() {
                if matches!(block.whose, Whose::Pending(of, _) if of == member) {
                    block.whose = Whose::Freeing(false);
                }
            }
        };
        if self.does(h, pid, leave, doubt)?.is_none() {
            return Ok(());
        }
        if let Some(now) = self.instance(h) {
            now.blocks.left(member);
        }
        let process = self.machines[h].processes.get_mut(&pid);
        process.into_iter().for_each(|it| it.hand = None);
        self.close_heap(h, pid)
    }

    /// Somebody who is about to remove the heap says that it ends.
    fn ends_heap(&mut self, h: usize, pid: u32) -> Checked {
        let done = self.does(h, pid, |hand| hand.end_heap(), |_, _| {})?;
        if let (Some(()), Some(now)) = (done, self.instance(h)) {
            now.state = State::Ended;
            self.trace.reached("a heap is removed");
        }
        Ok(())
    }

    /// A heap that has ended says so, and whoever hears it lets go.
    fn hears_of_the_end(&mut self, h: usize, pid: u32) -> Checked {
        if self.member(h, pid).is_none() {
            return Ok(());
        }
        match self.acts_on_heap(h, pid, |hand| hand.allocate(0, 64))? {
            None => return self.ends_in_act(h, pid),
            Some(Err(HeapError::Ended)) => {}
            Some(other) => return broken("a heap that ended says so", format_args!("{other:?}")),
        }
        let process = self.machines[h].processes.get_mut(&pid);
        process.into_iter().for_each(|it| it.hand = None);
        self.close_heap(h, pid)
    }

    /// What is done to a heap of which a part is gone: nothing is known of what comes of it.
    fn in_ruins(&mut self, h: usize, pid: u32, (c, d): (u16, u16)) -> Checked {
        let bytes = self.block_bytes(d);
        let known = self.block(h, d, |_| true).map(|(at, _)| at);
        let thread = usize::from(c / 64) % THREADS;
        let done = self.acts_on_heap(h, pid, |hand| match (c % 8, known) {
            (0..=3, _) | (_, None) => hand.allocate(thread, bytes).map(drop),
            (4, Some(at)) => hand.free(thread, at),
            (5, _) => hand.rest(),
            (6, _) => hand.trim().map(drop),
            _ => hand.recover().map(drop),
        })?;
        self.trace.reached("a heap in ruins is used");
        if let Some(now) = self.instance(h) {
            now.is_torn = false; // What is gone may be in no table any more.
        }
        match done {
            None => return self.ends_in_act(h, pid),
            Some(_) if !d.is_multiple_of(3) => return Ok(()),
            Some(_) => {}
        }
        let process = self.machines[h].processes.get_mut(&pid);
        process.into_iter().for_each(|it| it.hand = None);
        self.close_heap(h, pid)
    }
}

/// Whether something was not done because the daemon has to be asked first, or refuses.
const fn is_for_want(error: &HeapError) -> bool {
    matches!(
        error,
        HeapError::Exhausted(_) | HeapError::Map(_) | HeapError::Remove(_)
    )
}

fn is_own(block: &Block, (member, thread): (Member, usize)) -> bool {
    match block.whose {
        Whose::Pending(of, None) => of == member,
        Whose::Pending(of, Some(by)) => (of, by) == (member, thread),
        _ => false,
    }
}
