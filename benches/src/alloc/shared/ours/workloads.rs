//! The workloads over [`SharedHeap`]: the same calls in the same order as
//! `benches/shared_peers/workloads.hpp` makes, from the same seeds.

use anyhow::{bail, ensure};
use pool_core::clock;
use pool_core::sync::atomic::Ordering::Relaxed;
use serde::{Deserialize, Serialize};

use super::super::super::random::Random;
use super::super::super::times::Times;
use super::super::super::watch::Span;
use super::super::line::Asked;
use super::board::{Board, End};
use super::heap::SharedHeap;
use super::pages::Page;

/// Blocks of a batch.
const BATCH: usize = 10_000;
/// Blocks of a working set.
const SET: usize = 10_000;
/// Objects of threadtest, among all members.
const OBJECTS: usize = 100_000;
/// Objects of a server of larson, and how many it replaces before it hands on.
const SERVED: usize = 5_000;
const TURN: usize = 50_000;
/// One survives of so many.
const SURVIVES: usize = 1_024;

/// Bounds of sizes.
type Sizes = (usize, usize);
const MIXED: Sizes = (16, 1_024);
const SERVERS: Sizes = (8, 512);

/// What one member did, and what it cost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) cpu: u64,
    pub(super) operations: u64,
    pub(super) live: u64,
    pub(super) pages: Vec<Page>,
    pub(super) times: Times,
    pub(super) sequence: u64,
}

/// One member at work; where `TIMED`, with a look at the clock around each call.
struct Work<'a, H, const TIMED: bool> {
    asked: &'a Asked,
    board: &'a Board,
    heap: &'a mut H,
    member: usize,
    look: Look<'a>,
    random: Random,
    blocks: Vec<usize>,
    account: Account,
}

/// Looks which pages of the heap this process has touched.
type Look<'a> = &'a dyn Fn() -> anyhow::Result<Vec<Page>>;

/// Does what is asked, as one of its members.
pub(super) fn work(
    asked: &Asked,
    board: &Board,
    heap: &mut impl SharedHeap,
    member: usize,
    look: Look<'_>,
) -> anyhow::Result<Account> {
    if asked.timed {
        Work::<_, true>::new(asked, board, heap, member, look).run()
    } else {
        Work::<_, false>::new(asked, board, heap, member, look).run()
    }
}

impl<'a, H: SharedHeap, const TIMED: bool> Work<'a, H, TIMED> {
    fn new(
        asked: &'a Asked,
        board: &'a Board,
        heap: &'a mut H,
        member: usize,
        look: Look<'a>,
    ) -> Self {
        let times = if TIMED {
            Times::new()
        } else {
            Times::default()
        };
        Self {
            asked,
            board,
            heap,
            member,
            look,
            random: Random::of(member),
            blocks: Vec::new(),
            account: Account {
                times,
                ..Account::default()
            },
        }
    }

    fn run(mut self) -> anyhow::Result<Account> {
        match self.asked.workload.as_str() {
            "batch" => self.in_rows(BATCH)?,
            "threadtest" => self.in_rows(OBJECTS / usize::try_from(self.asked.processes)?)?,
            "lifo" => self.lifo()?,
            "random" => self.at_random()?,
            "larson" => self.larson()?,
            "hand-over" => self.hand_over()?,
            "survivor" => self.survivor()?,
            name => bail!("no workload {name:?}"),
        }
        self.account.sequence = self.random.word();
        Ok(self.account)
    }

    fn share(&self) -> u64 {
        self.asked.operations / self.asked.processes
    }

    fn bytes(&self) -> usize {
        self.asked.bytes
    }

    #[inline]
    fn time<T>(&mut self, call: impl FnOnce(&mut H) -> anyhow::Result<T>) -> anyhow::Result<T> {
        if !TIMED {
            return call(self.heap);
        }
        let start = clock::now();
        let done = call(self.heap);
        let span = clock::now().saturating_since(start);
        self.account.times.add(span.get());
        done
    }

    #[inline]
    fn take(&mut self, bytes: usize) -> anyhow::Result<usize> {
        if TIMED {
            // One call to the heap of others; what is written to the block is no part of it.
            let at = self.time(|heap| {
                let at = heap.allocate(bytes)?;
                heap.publish(at)?;
                Ok(at)
            })?;
            self.heap.write(at, bytes as u64)?;
            return Ok(at);
        }
        let at = self.heap.allocate(bytes)?;
        self.heap.write(at, bytes as u64)?;
        self.heap.publish(at)?;
        Ok(at)
    }

    #[inline]
    fn give_back(&mut self, at: usize) -> anyhow::Result<()> {
        self.time(|heap| heap.free(at))
    }

    /// Does `work` while the watch runs.
    fn watch(&mut self, work: impl FnOnce(&mut Self) -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.board.meet()?;
        let start = Span::now();
        work(self)?;
        let end = Span::now();
        self.account.start = start.wall.get();
        self.account.end = end.wall.get();
        self.account.cpu = end.cpu.saturating_since(start.cpu).get();
        self.board.meet()
    }

    /// Looks how much memory there is for what is live.
    fn look(&mut self, live: u64) -> anyhow::Result<()> {
        self.account.live = live;
        self.board.meet()?;
        self.account.pages = (self.look)()?;
        self.board.meet()
    }

    fn fill(&mut self, count: usize) -> anyhow::Result<()> {
        self.blocks.clear();
        for _ in 0..count {
            let at = self.take(self.bytes())?;
            self.blocks.push(at);
        }
        Ok(())
    }

    fn empty(&mut self) -> anyhow::Result<()> {
        for index in 0..self.blocks.len() {
            self.give_back(self.blocks[index])?;
        }
        Ok(())
    }

    fn in_rows(&mut self, count: usize) -> anyhow::Result<()> {
        self.fill(count)?;
        self.empty()?;
        self.watch(|work| {
            while work.account.operations < work.share() {
                work.fill(count)?;
                work.empty()?;
                work.account.operations += count as u64;
            }
            Ok(())
        })?;
        self.fill(count)?;
        self.look((count * self.bytes()) as u64)?;
        self.empty()
    }

    fn lifo(&mut self) -> anyhow::Result<()> {
        let bytes = self.bytes();
        let first = self.take(bytes)?;
        self.give_back(first)?;
        self.watch(|work| {
            let share = work.share();
            while work.account.operations < share {
                let at = work.take(bytes)?;
                work.give_back(at)?;
                work.account.operations += 1;
            }
            Ok(())
        })
    }

    fn fill_at_random(&mut self, count: usize, (least, most): Sizes) -> anyhow::Result<()> {
        for _ in 0..count {
            let bytes = self.random.between(least, most);
            let at = self.take(bytes)?;
            self.blocks.push(at);
        }
        Ok(())
    }

    #[inline]
    fn replace(&mut self, count: usize, (least, most): Sizes) -> anyhow::Result<()> {
        let index = self.random.below(count);
        let bytes = self.random.between(least, most);
        self.give_back(self.blocks[index])?;
        self.blocks[index] = self.take(bytes)?;
        self.account.operations += 1;
        Ok(())
    }

    fn look_and_empty(&mut self) -> anyhow::Result<()> {
        let mut live = 0;
        for at in &self.blocks {
            live += self.heap.read(*at)?;
        }
        self.look(live)?;
        self.empty()
    }

    fn at_random(&mut self) -> anyhow::Result<()> {
        self.fill_at_random(SET, MIXED)?;
        self.watch(|work| {
            let share = work.share();
            while work.account.operations < share {
                work.replace(SET, MIXED)?;
            }
            Ok(())
        })?;
        self.look_and_empty()
    }

    fn larson(&mut self) -> anyhow::Result<()> {
        self.fill_at_random(SERVED, SERVERS)?;
        self.watch(|work| {
            while work.account.operations < work.share() {
                for _ in 0..TURN {
                    work.replace(SERVED, SERVERS)?;
                }
                work.swap()?;
            }
            Ok(())
        })?;
        self.look_and_empty()
    }

    /// Each member leaves its blocks to the other.
    fn swap(&mut self) -> anyhow::Result<()> {
        if self.asked.processes == 1 {
            return Ok(());
        }
        // Relaxed: meeting orders it.
        for (place, at) in self.board.desk(self.member)?.iter().zip(&self.blocks) {
            place.store(*at as u64, Relaxed);
        }
        self.board.meet()?;
        for (place, at) in self
            .board
            .desk(1 - self.member)?
            .iter()
            .zip(&mut self.blocks)
        {
            *at = usize::try_from(place.load(Relaxed))?;
            self.heap.resolve(*at)?;
        }
        self.board.meet()
    }

    fn hand_over(&mut self) -> anyhow::Result<()> {
        let mut end = self.board.end(self.member)?;
        self.pass(&mut end, BATCH as u64)?;
        self.watch(|work| work.pass(&mut end, work.asked.operations))?;
        self.account.operations = self.share();
        Ok(())
    }

    fn pass(&mut self, end: &mut End<'_>, count: u64) -> anyhow::Result<()> {
        for _ in 0..count {
            if self.member == 0 {
                self.send(end)?;
            } else {
                self.receive(end)?;
            }
        }
        Ok(())
    }

    #[inline]
    fn send(&mut self, end: &mut End<'_>) -> anyhow::Result<()> {
        let bytes = self.random.between(MIXED.0, MIXED.1);
        let at = self.take(bytes)?;
        end.push(at as u64)
    }

    #[inline]
    fn receive(&mut self, end: &mut End<'_>) -> anyhow::Result<()> {
        let at = usize::try_from(end.pop()?)?;
        self.heap.resolve(at)?;
        let bytes = self.heap.read(at)?;
        ensure!(bytes >= MIXED.0 as u64, "a block is not what was sent");
        self.give_back(at)
    }

    fn survivor(&mut self) -> anyhow::Result<()> {
        let count = usize::try_from(self.share())?;
        let bytes = self.bytes();
        let mut again = Vec::with_capacity(count);
        self.blocks.reserve(count);
        self.watch(|work| {
            work.fill(count)?;
            work.swap()?;
            for index in (0..count).filter(|index| index % SURVIVES != 0) {
                work.give_back(work.blocks[index])?;
            }
            work.board.meet()?;
            for _ in (0..count).filter(|index| index % SURVIVES != 0) {
                again.push(work.take(bytes)?);
            }
            Ok(())
        })?;
        self.account.operations = count as u64;
        self.look((count * bytes) as u64)?;
        for index in (0..count).step_by(SURVIVES) {
            self.give_back(self.blocks[index])?;
        }
        again.into_iter().try_for_each(|at| self.give_back(at))
    }
}

#[cfg(test)]
mod tests;
