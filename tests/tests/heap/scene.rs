//! A heap, a kin that is about to do something to it and to die, and what is to be true afterwards,
//! wherever it died.
//!
//! The test is member 1, the kin that the case is about is member 2; others follow. The test has
//! blocks in the slabs of all, and works on while the dead are not recovered yet.

use std::collections::BTreeSet;

use allocator::pool::{Cell, HeapError, PoolHeap, ThreadHeap};
use pool_core::fault::CRASH_STATUS;
use tierpool_tests::blocks;
use tierpool_tests::family::Family;
use tierpool_tests::kin::Told;

use super::cases::Case;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kin");
/// Why a step of a test is not expected to fail.
pub(crate) const WHOLE: &str = "the heap is there, and the kin do as they are told";
/// What of each block is written.
const SIGNED: usize = 16;
/// Sizes of which the survivor takes and gives blocks while the dead are not recovered.
const WORKED: [usize; 6] = [16, 64, 300, 5_000, 20_000, 700_000];

/// Which blocks are published when all is over.
#[derive(Debug, Clone, Default)]
pub(crate) struct Oracle {
    pub(crate) keep: BTreeSet<usize>,
    pub(crate) gains: BTreeSet<usize>,
    pub(crate) loses: BTreeSet<usize>,
    /// Published if, and only if, the root has their address.
    pub(crate) tied: BTreeSet<usize>,
    /// What the root may have. The first one is what it has after the act.
    pub(crate) values: Vec<u64>,
    /// Whether the act was done to its end.
    pub(crate) is_done: bool,
}

/// See the module.
pub(crate) struct Scene {
    pub(crate) family: Family,
    pub(crate) heap: PoolHeap,
    pub(crate) mine: ThreadHeap,
    pub(crate) cell: Cell,
    pub(crate) oracle: Oracle,
    /// What the kin is told of when it is to act.
    pub(crate) given: Vec<usize>,
    /// Runs that fill the heap.
    pub(crate) filling: Vec<usize>,
}

impl Oracle {
    pub(crate) fn learn(&mut self, lines: &[String]) {
        for line in lines {
            let (what, address) = line.split_once(' ').expect("a word and an address");
            let address = usize::from_str_radix(address, 16).expect("an address");
            match what {
                "keep" => drop(self.keep.insert(address)),
                "gains" => drop(self.gains.insert(address)),
                "loses" => drop(self.loses.insert(address)),
                "tied" => drop(self.tied.insert(address)),
                "value" => self.values.push(address as u64),
                _ => panic!("{line}"),
            }
        }
    }

    /// Whether the root may have `value`, and these are the published blocks then.
    fn allows(&self, value: u64, published: &BTreeSet<usize>) -> Result<(), String> {
        let is_allowed = match self.values[..] {
            [] => value == 0,
            [after, ..] if self.is_done => value == after,
            _ => self.values.contains(&value),
        };
        if !is_allowed {
            return Err(format!("the root has {value:#x}"));
        }
        let is_tied = |&&block: &&usize| block as u64 == value;
        let mut least = self.keep.clone();
        least.extend(self.tied.iter().filter(is_tied));
        let mut most = least.clone();
        if self.is_done {
            least.extend(&self.gains);
            most.extend(&self.gains);
        } else {
            most.extend(self.gains.iter().chain(&self.loses));
        }
        let (lost, left): (Vec<_>, Vec<_>) = (
            least.difference(published).collect(),
            published.difference(&most).collect(),
        );
        if lost.is_empty() && left.is_empty() {
            return Ok(());
        }
        Err(format!(
            "lost: {lost:x?}, and published for ever: {left:x?}"
        ))
    }
}

impl Scene {
    /// A kin that is ready for the act of a case.
    pub(crate) fn ready(case: &Case, bug: Option<&str>) -> (Self, Told) {
        let family = Family::new();
        let heap = family.heap(1);
        let (mine, cell) = (heap.thread().expect(WHOLE), heap.root("cell").expect(WHOLE));
        let mut scene = Self {
            family,
            heap,
            mine,
            cell,
            oracle: Oracle::default(),
            given: Vec::new(),
            filling: Vec::new(),
        };
        for bytes in WORKED {
            let block = scene.published(bytes);
            scene.oracle.keep.insert(block);
        }
        (case.before)(&mut scene);
        let kin = scene.start(2, case.act, bug);
        (case.between)(&mut scene);
        (scene, kin)
    }

    /// Starts a kin, and learns what it tells.
    pub(crate) fn start(&mut self, member: usize, act: &str, bug: Option<&str>) -> Told {
        let mut words = vec!["dies"];
        words.extend(act.split(' '));
        let mut kin = Told::start(&self.family, member, (PROGRAM, bug), &words);
        self.oracle.learn(&kin.hear_until("ready"));
        kin
    }

    /// Has another kin, which has no bug, die at the first passing of a point.
    pub(crate) fn another_dies(&mut self, member: usize, act: &str, point: &str) {
        let kin = self.start(member, act, None);
        self.dies(kin, point);
    }

    /// Has a kin that is ready do so.
    pub(crate) fn dies(&self, mut kin: Told, point: &str) {
        self.tell(&mut kin, &format!("{point} 1"));
        let status = kin.wait(&self.family);
        assert_eq!(status.code(), Some(CRASH_STATUS), "{point}");
    }

    /// Tells a kin to go.
    pub(crate) fn tell(&self, kin: &mut Told, how: &str) {
        let given = self.given.iter().map(|address| format!(" {address:x}"));
        kin.tell(&format!("go {how}{}", given.collect::<String>()));
    }

    /// A published block.
    pub(crate) fn published(&mut self, bytes: usize) -> usize {
        published(&mut self.mine, bytes).expect(WHOLE)
    }

    /// Fills all chunks that there are.
    pub(crate) fn fill(&mut self) {
        let chunks = self.heap.audit().expect(WHOLE).chunks;
        self.family.limit(chunks);
        let mut bytes = 32 << 20;
        while bytes >= 64 << 10 {
            match blocks::allocate(&mut self.mine, bytes) {
                Ok(run) => self.filling.push(run),
                Err(HeapError::Exhausted(_)) if bytes > 600_000 => bytes /= 2,
                Err(HeapError::Exhausted(_)) => break,
                Err(error) => panic!("{error}"),
            }
        }
        self.family.limit(24);
    }

    /// The end of a scene, the kin being dead.
    pub(crate) fn judge(mut self) -> Result<(), String> {
        for run in std::mem::take(&mut self.filling) {
            blocks::free(&mut self.mine, run).map_err(text)?;
        }
        judge(
            &self.family,
            &self.heap,
            self.mine,
            (self.cell, self.oracle),
        )
    }
}

/// The same, seen by `member`, which comes when it is over. All others are dead.
pub(crate) fn judge_as(scene: &Scene, member: usize) -> Result<(), String> {
    let heap = scene.family.open(member);
    let mine = heap.thread().map_err(text)?;
    judge(
        &scene.family,
        &heap,
        mine,
        (scene.cell, scene.oracle.clone()),
    )
}

/// The same with what a member has.
fn judge(
    family: &Family,
    heap: &PoolHeap,
    mut mine: ThreadHeap,
    (cell, mut oracle): (Cell, Oracle),
) -> Result<(), String> {
    works(heap, &mut mine, &mut oracle)?;
    heap.recover().map_err(text)?;
    mine.rest().map_err(text)?;
    let (value, published) = (heap.load(cell).map_err(text)?, look(heap)?);
    oracle.allows(value, &published)?;
    if let Some(block) = published
        .iter()
        .find(|&&it| !blocks::is_signed(it, SIGNED, 0))
    {
        return Err(format!("{block:#x} has other contents"));
    }
    for block in published {
        if block as u64 == value {
            blocks::retire(&mut mine, cell, block, 0).map_err(text)?;
        } else {
            blocks::free(&mut mine, block).map_err(text)?;
        }
    }
    mine.rest().map_err(text)?;
    drop(mine);
    heap.trim().map_err(text)?;
    let (left, audit) = (look(heap)?, heap.audit().map_err(text)?);
    let is_all_free = audit.free_frames == audit.frames && audit.chunks == family.chunks();
    let nobody = (audit.threads, audit.dead_threads) == (0, 0);
    if !left.is_empty() || !is_all_free || !nobody {
        return Err(format!("not all is free: {audit:?}"));
    }
    Ok(())
}

/// The published blocks, where nothing is wrong and nothing is pending.
fn look(heap: &PoolHeap) -> Result<BTreeSet<usize>, String> {
    let audit = heap.audit().map_err(text)?;
    if !audit.findings.is_empty() {
        return Err(format!("{:x?}", audit.findings));
    }
    let found = heap.blocks().map_err(text)?;
    if let Some(pending) = found.iter().find(|block| block.is_pending) {
        return Err(format!("{pending:x?} of nobody"));
    }
    Ok(found.iter().map(|block| block.address).collect())
}

/// What anybody may do while others are dead or stopped amid something. Frees half of what is kept.
pub(crate) fn works(
    heap: &PoolHeap,
    mine: &mut ThreadHeap,
    oracle: &mut Oracle,
) -> Result<(), String> {
    let root = heap.root("own").map_err(text)?;
    let another = heap.root("another").map_err(text)?;
    heap.load(another).map_err(text)?;
    for bytes in WORKED {
        let (linked, freed) = (pending(mine, bytes)?, published(mine, bytes)?);
        blocks::link(mine, root, 0, linked).map_err(text)?;
        blocks::free(mine, freed).map_err(text)?;
        if heap.load(root).map_err(text)? != linked as u64 {
            return Err(format!("{linked:#x} was linked and is not"));
        }
        blocks::retire(mine, root, linked, 0).map_err(text)?;
    }
    for block in oracle.keep.iter().copied().step_by(2).collect::<Vec<_>>() {
        blocks::free(mine, block).map_err(text)?;
        oracle.keep.remove(&block);
    }
    Ok(())
}

fn pending(mine: &mut ThreadHeap, bytes: usize) -> Result<usize, String> {
    let block = blocks::allocate(mine, bytes).map_err(text)?;
    blocks::sign(block, SIGNED, 0);
    Ok(block)
}

/// A published block.
pub(crate) fn published(mine: &mut ThreadHeap, bytes: usize) -> Result<usize, String> {
    let block = pending(mine, bytes)?;
    blocks::publish(mine, block).map_err(text)?;
    Ok(block)
}

fn text(error: HeapError) -> String {
    format!("{error:?}")
}
