//! What is in the heap of a host, whatever the heap believes.
//!
//! # Rules
//! - *blocks lie apart*: a block that is given out begins at a multiple of 16 and covers nothing
//!   of one that is published, or pending of a member of whom the words say that it lives.
//! - *a block keeps what is in it*, from when it is given out to when it is freed.
//! - *both or neither*: a root whose link or retirement its member died in has the block, which is
//!   published, or has it not, and the block is pending of the dead or free. Once it was seen it
//!   stays so.
//! - *all that is published is there*, at any time; and once no dead member passes for one that
//!   lives, and they were recovered, *nothing else is*.
//! - *free once*: freeing what is free is an error.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::world::heap::hand::{Member, ROOTS};
use crate::broken::{Checked, broken, holds};

/// Freed blocks that are remembered, to be freed once more.
const FREED: usize = 32;

/// Whose a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Of a thread of a member; of a thread that ended where there is none.
    Pending(Member, Option<usize>),
    Published,
    /// Its member died while it published it: published, or pending of the dead.
    Publishing(Member),
    /// Somebody died while it freed it: free, or published where it was so before.
    Freeing(bool),
    /// Its member died while it put it into the root, or took it out.
    InDoubt(Member),
}

/// A block that was given out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    pub(crate) bytes: usize,
    pub(crate) seed: u64,
    pub(crate) whose: Whose,
    pub(crate) root: Option<usize>,
}

/// What is not known of a root whose member died.
#[derive(Debug, Clone, Copy)]
enum Doubt {
    Link(usize, Member),
    Retire(usize),
    Unlink,
}

/// See the module. Blocks are known by how far from the base of the memory they are.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    pub(crate) all: BTreeMap<usize, Block>,
    roots: [Option<usize>; ROOTS],
    doubts: [Option<Doubt>; ROOTS],
    pub(crate) freed: VecDeque<usize>,
    /// Who has the heap, and who had it when it died and may pass for one that lives.
    pub(crate) members: BTreeSet<Member>,
    pub(crate) dead: BTreeSet<Member>,
}

impl Blocks {
    fn overlapping(&self, at: usize, bytes: usize) -> Vec<usize> {
        let before = self.all.range(..at + bytes.max(1)).rev();
        let over = before.filter(|(start, block)| **start + block.bytes.max(1) > at);
        over.map(|(&start, _)| start).collect()
    }

    /// A block is given out.
    pub(crate) fn allocated(
        &mut self,
        at: usize,
        (bytes, seed): (usize, u64),
        (member, thread): (Member, usize),
        lives: impl Fn(Member) -> bool,
    ) -> Checked {
        let told = |other: &dyn std::fmt::Debug| format!("{at:#x} of {bytes} bytes: {other:?}");
        holds(at.is_multiple_of(16), "blocks lie apart", || told(&"odd"))?;
        for other in self.overlapping(at, bytes) {
            let block = self.all[&other];
            let may_be_free = match block.whose {
                Whose::Published => false,
                Whose::Freeing(_) => true,
                Whose::Pending(of, _) | Whose::Publishing(of) | Whose::InDoubt(of) => !lives(of),
            };
            holds(may_be_free, "blocks lie apart", || told(&(other, block)))?;
            self.all.remove(&other);
        }
        let end = at + bytes.max(1);
        self.freed.retain(|freed| !(at..end).contains(freed));
        let whose = Whose::Pending(member, Some(thread));
        let root = None;
        let block = Block {
            bytes,
            seed,
            whose,
            root,
        };
        self.all.insert(at, block);
        Ok(())
    }

    /// What becomes of a block is known.
    pub(crate) fn is(&mut self, at: usize, whose: Whose, root: Option<usize>) {
        if let Some(block) = self.all.get_mut(&at) {
            (block.whose, block.root) = (whose, root);
        }
    }

    /// A block is free.
    pub(crate) fn freed(&mut self, at: usize) {
        self.all.remove(&at);
        self.freed.push_back(at);
        if self.freed.len() > FREED {
            self.freed.pop_front();
        }
    }

    /// A root has a block now, or none.
    pub(crate) fn set(&mut self, root: usize, block: Option<usize>) {
        if let Some(old) = std::mem::replace(&mut self.roots[root], block) {
            self.all.entry(old).and_modify(|old| old.root = None);
        }
        if let Some(block) = block {
            self.is(block, Whose::Published, Some(root));
        }
    }

    /// A member died while it linked a block.
    pub(crate) fn may_be_linked(&mut self, root: usize, block: usize, by: Member) {
        self.doubts[root] = Some(Doubt::Link(block, by));
        self.is(block, Whose::InDoubt(by), None);
    }

    /// A member died while it took the block out of a root, to free it or not.
    pub(crate) fn may_be_out(&mut self, root: usize, block: usize, frees: bool) {
        self.doubts[root] = Some(Doubt::Unlink);
        if frees {
            self.doubts[root] = Some(Doubt::Retire(block));
            self.is(block, Whose::Freeing(true), Some(root));
        }
    }

    /// A root is seen to have a block, or none.
    pub(crate) fn seen(&mut self, root: usize, found: Option<usize>) -> Checked {
        let (had, doubt) = (self.roots[root], self.doubts[root].take());
        // Another block may be at its address, where it was free for a while.
        let is_still =
            |block: &usize, whose| self.all.get(block).is_some_and(|it| it.whose == whose);
        let is_well = match doubt {
            Some(Doubt::Link(block, by)) if found == Some(block) => {
                is_still(&block, Whose::InDoubt(by))
            }
            Some(Doubt::Retire(block)) if found.is_some() => {
                found == had && is_still(&block, Whose::Freeing(true))
            }
            Some(Doubt::Retire(_) | Doubt::Unlink) if found.is_none() => true,
            _ => found == had,
        };
        holds(is_well, "both or neither", || {
            format!("root {root} has {found:x?}, and had {had:x?}: {doubt:x?}")
        })?;
        match doubt {
            Some(Doubt::Link(block, _)) if found == Some(block) => self.set(root, found),
            Some(Doubt::Link(block, by)) if is_still(&block, Whose::InDoubt(by)) => {
                self.is(block, Whose::Pending(by, None), None);
            }
            Some(Doubt::Retire(block)) if found.is_none() => {
                if is_still(&block, Whose::Freeing(true)) {
                    self.all.remove(&block);
                }
                self.roots[root] = None;
            }
            Some(Doubt::Retire(block)) => self.is(block, Whose::Published, Some(root)),
            Some(Doubt::Unlink) if found.is_none() => self.set(root, None),
            _ => {}
        }
        Ok(())
    }

    /// A member has left in good order: what it had not published is free.
    pub(crate) fn left(&mut self, member: Member) {
        self.members.remove(&member);
        let is_its = |block: &Block| matches!(block.whose, Whose::Pending(of, _) if of == member);
        self.all.retain(|_, block| !is_its(block));
    }

    /// Those have the heap now: whoever of the others had it has died.
    pub(crate) fn have_it(&mut self, members: BTreeSet<Member>) {
        let gone = self.members.difference(&members).copied();
        self.dead.extend(gone.collect::<Vec<_>>());
        self.members = members;
    }

    /// Whether a dead member passes for one that lives.
    pub(crate) fn awaits(&self, lives: impl Fn(Member) -> bool) -> bool {
        self.dead.iter().any(|member| lives(*member))
    }

    /// These blocks are there, each pending or not. Where `is_exact` nobody keeps any ready, and
    /// all that died were recovered.
    pub(crate) fn compare(&mut self, found: &BTreeMap<usize, bool>, is_exact: bool) -> Checked {
        if is_exact {
            self.settle(found);
        }
        for (at, block) in &self.all {
            let is_there = match block.whose {
                // Whoever linked it may have died before it said that it is published.
                Whose::Published if !is_exact => found.contains_key(at),
                Whose::Published => found.get(at) == Some(&false),
                Whose::Pending(..) if is_exact => found.get(at) == Some(&true),
                _ => true,
            };
            holds(is_there, "all that is published is there", || {
                format!("{at:#x}: {block:?} is {:?}", found.get(at))
            })?;
        }
        let other = found.keys().find(|at| !self.all.contains_key(at));
        match other.filter(|_| is_exact) {
            Some(at) => broken("nothing else is there", format_args!("{at:#x}")),
            None => Ok(()),
        }
    }

    /// What the dead left is known by what is there.
    fn settle(&mut self, found: &BTreeMap<usize, bool>) {
        let dead = std::mem::take(&mut self.dead);
        self.all.retain(|at, block| match block.whose {
            Whose::Pending(of, _) => !dead.contains(&of),
            Whose::Freeing(false) => false,
            Whose::Publishing(_) | Whose::Freeing(true) => {
                block.whose = Whose::Published;
                found.get(at) == Some(&false)
            }
            Whose::Published | Whose::InDoubt(_) => true,
        });
    }
}
