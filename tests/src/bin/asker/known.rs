//! What somebody who asks once knows of his segments: what was acknowledged, and what is in doubt
//! because nobody answered.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;

use pool_proto::common::v1::Segment;
use tierpool_tests::client::Held;
use tierpool_tests::{domain, pattern};

/// What a segment must hold.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Contents {
    /// What the seed wrote, up to there, and zeros behind, unless `is_cut`: then what was there
    /// before is there, or not.
    Written { seed: u64, bytes: u64, is_cut: bool },
    /// It is a domain, whose first unit begins with this word.
    Unit(u64),
}

impl Contents {
    pub(crate) const ZEROS: Self = Self::written(0, 0);

    const fn written(seed: u64, bytes: u64) -> Self {
        Self::Written {
            seed,
            bytes,
            is_cut: false,
        }
    }

    fn are_in(self, held: &Held) -> bool {
        match self {
            Self::Written {
                seed,
                bytes,
                is_cut,
            } => held.pieces().all(|(offset, mapped)| {
                if offset < bytes {
                    pattern::holds(&mapped, offset, seed)
                } else {
                    is_cut || pattern::is_zero(&mapped)
                }
            }),
            Self::Unit(word) => domain::peek(held, 0) == word,
        }
    }
}

/// A segment that was granted.
#[derive(Debug)]
pub(crate) struct Mine {
    pub(crate) held: Held,
    pub(crate) contents: Contents,
    /// How large it may be, and where: more than one where an answer is missing.
    pub(crate) sizes: BTreeSet<u64>,
    pub(crate) tiers: BTreeSet<String>,
    /// The client holds it; else it was closed, and is kept by its name.
    pub(crate) is_held: bool,
    /// It was to get other files, and nobody has said whether it has them.
    pub(crate) may_have_moved: bool,
    /// It was to be closed or freed, and nobody has said that it was.
    pub(crate) may_be_gone: bool,
    /// Whether it is sealed: both where an answer is missing.
    pub(crate) seals: BTreeSet<bool>,
    /// Whether the guest may open it: both where an answer is missing.
    pub(crate) shares: BTreeSet<bool>,
}

impl Mine {
    pub(crate) fn new(held: Held) -> Self {
        let segment = &held.segment;
        Self {
            contents: Contents::ZEROS,
            sizes: BTreeSet::from([segment.bytes]),
            tiers: BTreeSet::from([segment.tier.clone()]),
            is_held: true,
            may_have_moved: false,
            may_be_gone: false,
            seals: BTreeSet::from([segment.sealed]),
            shares: BTreeSet::from([false]),
            held,
        }
    }

    /// Writes, and takes down what.
    pub(crate) fn write(&mut self, seed: u64) {
        self.held.write(seed);
        let bytes = self.held.segment.bytes;
        self.contents = Contents::written(seed, bytes);
    }

    /// Looks at a grant of it.
    pub(crate) fn is_right(&self, held: &Held) {
        self.fits(&held.segment);
        assert!(
            self.contents.are_in(held),
            "the contents are not {:?}: {:?}",
            self.contents,
            held.segment
        );
    }

    /// Looks at what is told of it.
    pub(crate) fn fits(&self, told: &Segment) {
        assert!(
            self.sizes.contains(&told.bytes) && self.tiers.contains(&told.tier),
            "{told:?} is none of {:?} in {:?}",
            self.sizes,
            self.tiers
        );
        assert!(
            self.seals.contains(&told.sealed),
            "{told:?} is sealed or not, and should be {:?}",
            self.seals
        );
    }

    /// A grant of it takes the place of the one before, and every doubt away.
    pub(crate) fn replace(&mut self, held: Held) {
        self.is_right(&held);
        self.sizes = BTreeSet::from([held.segment.bytes]);
        self.tiers = BTreeSet::from([held.segment.tier.clone()]);
        self.seals = BTreeSet::from([held.segment.sealed]);
        self.may_have_moved = false;
        self.held = held;
    }

    /// It has shrunk, or it may have: what lay behind is gone with it.
    pub(crate) fn cut(&mut self, to: u64, is_sure: bool) {
        if let Contents::Written { bytes, is_cut, .. } = &mut self.contents {
            *is_cut |= !is_sure && to < *bytes;
            *bytes = to.min(*bytes);
        }
    }
}

/// What a client holds that another one made.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    sure: BTreeSet<u64>,
    /// It was to be opened, closed, taken back or freed, and nobody has said that it was.
    doubtful: BTreeSet<u64>,
}

impl Holds {
    pub(crate) fn is_opened(&mut self, id: u64) {
        self.doubtful.remove(&id);
        self.sure.insert(id);
    }

    pub(crate) fn may_be_opened(&mut self, id: u64) {
        if !self.sure.contains(&id) {
            self.doubtful.insert(id);
        }
    }

    pub(crate) fn may_be_closed(&mut self, id: u64) {
        if self.sure.remove(&id) {
            self.doubtful.insert(id);
        }
    }

    pub(crate) fn is_closed(&mut self, id: u64) {
        self.sure.remove(&id);
        self.doubtful.remove(&id);
    }

    /// What it holds, once nothing is in doubt.
    pub(crate) fn all(&self) -> Vec<u64> {
        self.sure.iter().copied().collect()
    }

    /// What it is told that it holds when it comes back. Where `is_final` nothing of before is on
    /// its way any more: that is so from then on.
    pub(crate) fn are(&mut self, told: &BTreeSet<u64>, is_final: bool) {
        let missing: Vec<_> = self.sure.difference(told).collect();
        assert!(
            missing.is_empty(),
            "held, and lost: {missing:?} of {told:?}"
        );
        let may = |id: &&u64| self.sure.contains(id) || self.doubtful.contains(id);
        let others: Vec<_> = told.iter().filter(|id| !may(id)).collect();
        assert!(others.is_empty(), "held by nobody's wish: {others:?}");
        if is_final {
            self.sure.clone_from(told);
            self.doubtful.clear();
        }
    }
}

/// All of one client's.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) mine: BTreeMap<u64, Mine>,
    /// What was freed for sure: its number never comes again.
    pub(crate) gone: BTreeSet<u64>,
    /// Segments that were asked for, and may have been granted.
    pub(crate) doubtful: usize,
}

impl Known {
    pub(crate) fn is_in_doubt(&self) -> bool {
        let doubtful = |mine: &Mine| mine.may_be_gone || mine.may_have_moved;
        self.doubtful > 0 || self.mine.values().any(doubtful)
    }

    pub(crate) fn is_gone(&mut self, id: u64) {
        self.mine.remove(&id);
        self.gone.insert(id);
    }

    /// The descriptor of a backing, where the client has it.
    pub(crate) fn file(&self, backing: u64) -> Option<BorrowedFd<'_>> {
        use std::os::fd::AsFd as _;
        let held = self.mine.values().map(|mine| &mine.held);
        let mut pieces = held.flat_map(|held| held.segment.pieces.iter().zip(&held.files));
        let piece = pieces.find(|(piece, _)| piece.backing_id == backing);
        piece.map(|(_, file)| file.as_fd())
    }

    /// What a client that comes back is told that it holds: all that was acknowledged.
    pub(crate) fn are_held(&self, told: &BTreeSet<u64>) {
        let mine = self.mine.iter();
        let sure = mine.filter(|(_, mine)| mine.is_held && !mine.may_be_gone);
        let missing: Vec<_> = sure.filter(|(id, _)| !told.contains(id)).collect();
        assert!(missing.is_empty(), "lost: {missing:#?} of {told:?}");
        let again: Vec<_> = self.gone.intersection(told).collect();
        assert!(again.is_empty(), "freed, and there again: {again:?}");
        let others = told.iter().filter(|id| !self.mine.contains_key(id)).count();
        assert!(
            others <= self.doubtful,
            "{others} held that nobody asked for, {} in doubt: {told:?}",
            self.doubtful
        );
    }

    /// What the tenant is told that there is: nothing acknowledged is missing, nothing is there
    /// that nobody may have asked for, and nothing is given twice.
    pub(crate) fn are_listed(&self, told: &[Segment]) {
        let ids: BTreeSet<u64> = told.iter().map(|segment| segment.segment_id).collect();
        let sure = self.mine.iter().filter(|(_, mine)| !mine.may_be_gone);
        let missing: Vec<_> = sure.filter(|(id, _)| !ids.contains(id)).collect();
        assert!(missing.is_empty(), "lost: {missing:#?} of {told:#?}");
        let others = ids.iter().filter(|id| !self.mine.contains_key(id)).count();
        assert!(
            others <= self.doubtful && self.gone.is_disjoint(&ids),
            "{others} that nobody asked for, {} in doubt: {told:#?}",
            self.doubtful
        );
        let mut spans: Vec<_> = told
            .iter()
            .map(|it| (it.addr, it.addr + it.bytes))
            .collect();
        spans.sort_unstable();
        let apart = spans.windows(2).all(|pair| pair[0].1 <= pair[1].0);
        assert!(apart, "addresses are given twice: {told:#?}");
        for segment in told {
            if let Some(mine) = self.mine.get(&segment.segment_id) {
                mine.fits(segment);
            }
        }
    }
}
