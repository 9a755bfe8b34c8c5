//! The state of the model: descriptors and frames, members with their caches, the daemon.
//!
//! Contents are abstract: a line holds the **tag** of the grant under which it was written. Fields
//! called *ghost* are what the checker knows and nobody in the model sees.

use std::fmt;

use coherence::{Epoch, Own, Slot};

pub(crate) const MEMBERS: usize = 3;
pub(crate) const UNITS: usize = 2;
pub(crate) const FRAMES: usize = 4;
/// Lines of a frame: two, so that a writer can die between them.
pub(crate) const LINES: usize = 2;

/// The word of a unit that nobody ever held.
pub(crate) const FREE: Own = match Own::judge(0) {
    Ok(own) => own,
    Err(_) => panic!(),
};

/// No version.
pub(crate) const UNCACHED: u8 = u8::MAX;

/// Who wrote a line: unit and epoch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Tag(u8);

impl Tag {
    /// What a frame holds before anybody has used it.
    pub(crate) const STRANGE: Self = Self(u8::MAX);

    /// Written to `unit` under `epoch`, which is small.
    pub(crate) fn new(unit: usize, epoch: u8) -> Self {
        Self(epoch << 1 | small(unit) & 1)
    }

    pub(crate) fn unit(self) -> usize {
        usize::from(self.0 & 1)
    }

    pub(crate) fn epoch(self) -> u8 {
        self.0 >> 1
    }
}

/// A cached line.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Line {
    #[default]
    None,
    Clean(Tag),
    Dirty(Tag),
}

impl Line {
    pub(crate) fn dirty(self) -> Option<Tag> {
        match self {
            Self::Dirty(tag) => Some(tag),
            _ => None,
        }
    }
}

/// Memory that held or holds a unit: which, and its incarnation.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Backing {
    pub(crate) incarnation: u8,
    pub(crate) frame: u8,
}

impl Backing {
    pub(crate) const NONE: Self = Self {
        incarnation: u8::MAX,
        frame: u8::MAX,
    };

    pub(crate) fn frame(self) -> usize {
        usize::from(self.frame)
    }
}

/// A word of `base`: the last version that was published, and under which epoch that was noted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Base {
    pub(crate) epoch: u8,
    pub(crate) version: u8,
}

impl Base {
    pub(crate) const NONE: Self = Self {
        epoch: 0,
        version: 0,
    };
}

/// A descriptor, and what the checker knows of its unit.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Unit {
    pub(crate) own: Own,
    pub(crate) version: u8,
    pub(crate) base: Base,
    pub(crate) backing: Backing,
    /// Ghost: the version that was published last, and its contents.
    pub(crate) published: u8,
    pub(crate) contents: [Tag; LINES],
}

/// What a frame is used for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Use {
    Unused,
    /// Holds, or held, or is to hold this incarnation of the unit.
    Of(u8, u8),
}

/// What a member wants of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Aim {
    Read,
    Write,
    /// To write all of a lost unit.
    Restore,
    /// To write what it reads.
    Upgrade,
}

/// The access that a member makes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum At {
    Idle,
    Dead,
    // Before a grant, where there is a bug.
    EarlyBacking,
    Take,
    // After any grant.
    Version,
    Backing,
    SecondLook,
    ThirdLook,
    Fit,
    // In the unit.
    Load0,
    Load1,
    Check,
    Read,
    Store0,
    Store1,
    WriteBack0,
    WriteBack1,
    // Letting go.
    Drop,
    BaseLoad,
    OwnLook,
    Note,
    Raise,
    ReleaseShared,
    ReleaseExclusive,
    /// It knows that it was cut off, and has dirty lines to get rid of.
    Revoked,
}

/// A process, alone on its host.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Member {
    pub(crate) at: At,
    pub(crate) aim: Aim,
    pub(crate) unit: u8,
    /// Whether it has written since its grant.
    pub(crate) changed: bool,
    /// Ghost: the daemon has taken away what it holds.
    pub(crate) cut: bool,
    pub(crate) epoch: u8,
    pub(crate) version: u8,
    pub(crate) backing: Backing,
    /// The word of its exclusive grant.
    pub(crate) own: Own,
    /// What it found in `base` before it notes its own.
    pub(crate) noted: Base,
    /// What it loaded.
    pub(crate) seen: [Tag; LINES],
    /// What it has mapped, a unit each, and of which version it believes to have lines.
    pub(crate) mapped: [Backing; UNITS],
    pub(crate) cached: [u8; UNITS],
    pub(crate) lines: [[Line; LINES]; FRAMES],
}

impl Member {
    pub(crate) const NEW: Self = Self {
        at: At::Idle,
        aim: Aim::Read,
        unit: 0,
        changed: false,
        cut: false,
        epoch: 0,
        version: 0,
        backing: Backing::NONE,
        own: FREE,
        noted: Base::NONE,
        seen: [Tag(0); LINES],
        mapped: [Backing::NONE; UNITS],
        cached: [UNCACHED; UNITS],
        lines: [[Line::None; LINES]; FRAMES],
    };

    pub(crate) fn unit(&self) -> usize {
        usize::from(self.unit)
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.at == At::Dead
    }

    pub(crate) fn all_lines(&self) -> impl Iterator<Item = Line> {
        self.lines.iter().flatten().copied()
    }

    pub(crate) fn has_dirty_lines(&self) -> bool {
        self.all_lines().any(|line| line.dirty().is_some())
    }

    /// Whether it has a grant that it has not given back, and knows nothing else.
    pub(crate) fn holds(&self) -> bool {
        !matches!(
            self.at,
            At::Idle | At::Dead | At::Revoked | At::EarlyBacking | At::Take
        )
    }

    /// Whether it may be touching the memory of its grant.
    pub(crate) fn is_inside(&self) -> bool {
        let arriving = matches!(
            self.at,
            At::Version | At::Backing | At::SecondLook | At::ThirdLook
        );
        self.holds() && !arriving
    }

    /// Nothing of its last lease is left but mapping and cache.
    pub(crate) fn go_idle(&mut self) {
        *self = Self {
            mapped: self.mapped,
            cached: self.cached,
            lines: self.lines,
            ..Self::NEW
        };
    }
}

/// The access that the daemon makes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Doing {
    Nothing,
    // Recovery, as `recover.rs` has it.
    Clear,
    Fence,
    FirstLoad,
    SecondLoad,
    NoteForHolder,
    Raise,
    NoteForFence,
    Judge,
    Write0,
    Write1,
    Look,
    SetBacking,
    NoteVerdict,
    Settle,
    // A move while nobody writes.
    MoveHold,
    MoveFrame,
    MoveCopy0,
    MoveCopy1,
    MoveSet,
    MoveRelease,
}

/// The daemon. What is here it forgets when it dies.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Daemon {
    pub(crate) doing: Doing,
    pub(crate) unit: u8,
    pub(crate) slot: u8,
    /// The holder may still store to the frame that it had.
    pub(crate) lives: bool,
    /// What it writes is the copy it has, and not what it finds in the old frame.
    pub(crate) from_copy: bool,
    /// The version that it found.
    pub(crate) now: u8,
    /// What it found in `base`, and then the last version that was published.
    pub(crate) noted: Base,
    /// What it found the contents to be.
    pub(crate) good: bool,
    /// The frame that it fills.
    pub(crate) target: u8,
}

impl Daemon {
    pub(crate) const NO_TARGET: u8 = u8::MAX;
    pub(crate) const IDLE: Self = Self {
        doing: Doing::Nothing,
        unit: 0,
        slot: 0,
        lives: false,
        from_copy: false,
        now: 0,
        noted: Base::NONE,
        good: false,
        target: Self::NO_TARGET,
    };
}

/// How often each may still happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Left {
    pub(crate) writes: u8,
    pub(crate) deaths: u8,
    pub(crate) evictions: u8,
    pub(crate) moves: u8,
    pub(crate) restarts: u8,
}

/// All of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) units: [Unit; UNITS],
    pub(crate) memory: [[Tag; LINES]; FRAMES],
    pub(crate) uses: [Use; FRAMES],
    pub(crate) members: [Member; MEMBERS],
    pub(crate) daemon: Daemon,
    pub(crate) left: Left,
    /// What the step that led here has broken.
    pub(crate) broken: Option<Broken>,
}

/// What must hold, by the numbers of the protocol's description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Broken {
    /// I1: one writer or readers for an incarnation, and no lease ends by itself.
    OneWriterOrReaders,
    /// I2: who holds a unit reads what was published last.
    StaleRead,
    /// I3: what is free or shared is in memory as it was published.
    LostUpdate,
    /// I4: nobody sees what was not published.
    UnpublishedSeen,
    /// I5: state and holders of a word fit.
    Word,
    /// I6: epoch, version and incarnation never fall.
    Fell,
    /// I7: no frame is used again while somebody holds what it was.
    FrameReused,
    /// I8: the daemon that starts again finishes what it began.
    Stuck,
    /// I10: nothing that a fenced holder stores reaches memory that is in use.
    LateStore,
    /// The version that is told for a lost unit is the last that was published.
    LastGood,
    /// A version is published once.
    VersionTwice,
}

/// Who took a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Daemon,
    Member(usize),
}

/// A step, in words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Label {
    pub(crate) who: Who,
    pub(crate) unit: usize,
    pub(crate) what: &'static str,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.who {
            Who::Daemon => write!(f, "daemon   ")?,
            Who::Member(index) => write!(f, "member {} ", index + 1)?,
        }
        write!(f, "unit {}: {}", self.unit, self.what)
    }
}

/// The place of a member: the daemon has place 0.
pub(crate) fn slot_of(index: usize) -> Slot {
    Slot::new(small(index + 1)).unwrap_or(Slot::DAEMON)
}

/// The epoch of a word, which is small here.
pub(crate) fn epoch_of(own: Own) -> u8 {
    own.epoch().number().to_le_bytes()[0]
}

pub(crate) fn epoch(number: u8) -> Epoch {
    Epoch::new(u32::from(number))
}

/// An index, which is small here.
pub(crate) fn small(index: usize) -> u8 {
    index.to_le_bytes()[0]
}
