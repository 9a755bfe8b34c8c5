//! What is explored: how many of each, which caches, how much may go wrong, and which bug is there.

/// What a host's cache may do with lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caches {
    /// The hardware keeps them the same: there is one memory.
    Coherent,
    /// A line may be loaded at any time and dropped at any time, and written back where it is
    /// dirty.
    NoCleanWriteBacks,
    /// A clean line may be written back as well.
    Any,
}

/// A bounded world. Each number bounds how often something happens in one history.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope {
    pub(crate) members: usize,
    pub(crate) units: usize,
    pub(crate) frames: usize,
    pub(crate) caches: Caches,
    /// Whoever lets go writes back and drops every line, and unmaps.
    pub(crate) temporal: bool,
    /// The daemon has a copy of what was published last, to restore from.
    pub(crate) copies: bool,
    /// A reader may go on to write, and a writer to read, without letting go.
    pub(crate) changes_of_mode: bool,
    /// Exclusive grants.
    pub(crate) writes: u8,
    /// Deaths of members; another comes to the slot.
    pub(crate) deaths: u8,
    /// Living holders that are cut off.
    pub(crate) evictions: u8,
    /// Units that are moved to another frame while nobody writes.
    pub(crate) moves: u8,
    /// Deaths of the daemon; it starts again.
    pub(crate) restarts: u8,
    pub(crate) bug: Bug,
    /// Nothing is forgotten, see [`crate::forget`].
    pub(crate) remembers: bool,
    /// It is, although there is a bug: one that does not touch on what is forgotten.
    pub(crate) forgets_with_bug: bool,
    /// More states than this fail the run.
    pub(crate) limit: usize,
}

impl Scope {
    /// Two members and a unit, and nothing that goes wrong.
    pub(crate) const QUIET: Self = Self {
        members: 2,
        units: 1,
        frames: 3,
        caches: Caches::NoCleanWriteBacks,
        temporal: false,
        copies: false,
        changes_of_mode: false,
        writes: 2,
        deaths: 0,
        evictions: 0,
        moves: 0,
        restarts: 0,
        bug: Bug::None,
        remembers: false,
        forgets_with_bug: false,
        limit: 2_000_000,
    };
}

/// A mistake that a program of this protocol could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// What was written is published and never written back.
    SkipFlush,
    /// It is published, and then written back.
    PublishBeforeFlush,
    /// Cached lines are believed whatever the version.
    NeverInvalidate,
    /// A release leaves the version as it is.
    VersionNotRaised,
    /// So does the daemon that fences a dead writer.
    FenceRaisesNoVersion,
    /// It raises the last published version, and not the one of the grant: that of a holder that
    /// was writing a lost unit anew stays as it is.
    RaisedFromGood,
    /// A dead writer's unit is free without having been fenced.
    FreedWithoutFence,
    /// A fenced unit passes for good without a look.
    GoodUnseen,
    /// A living writer is cut off, and the others go on in the same frame.
    EvictedInPlace,
    /// The contents are judged in the old frame, where the late writer can still write, and then
    /// copied. (Copied first they would be safe: what is found good later was so before.)
    JudgedBeforeCopied,
    /// A unit is copied while somebody may write it.
    MovedUnheld,
    /// A frame is used again while somebody reads what it was.
    FrameFreedEarly,
    /// Who maps a unit anew goes on believing its cached version.
    RemapKeepsVersion,
    /// The backing is read before the grant, and not after.
    BackingBeforeGrant,
    /// Nobody looks, after it has read version and backing, whether it still holds the unit.
    NoSecondLook,
    /// The version is stored, and not exchanged for the one of the grant.
    VersionStored,
    /// So is the ownership word at the release.
    ReleaseStored,
    /// A writer raises the version that it was granted and has noted it nowhere.
    NotNoted,
    /// It notes it afterwards.
    NotedLate,
    /// It stores its note, and does not exchange it for the one that it found.
    NoteStored,
    /// It does not look whether it still holds the unit before it notes.
    NotedUnheld,
    /// It looks before it has read what it is going to exchange.
    LookedBeforeRead,
    /// It goes on where its note was made in vain.
    FailedNoteIgnored,
    /// The daemon reads what was noted before it reads the version.
    NoteReadFirst,
    /// It believes no note of a holder.
    HoldersNoteIgnored,
    /// It raises the version and has noted nothing for a holder that had not.
    FenceNotesNothing,
    /// It notes that it has raised the version, and then does.
    FenceBeforeRaise,
    /// It does not note that it has.
    FenceNoteSkipped,
    /// The daemon that starts again notes anew, by the version that it had raised before it died.
    RedoNotesAnew,
    /// So does one that had noted its verdict.
    RedoForgetsVerdict,
    /// What is lost is told, and not noted for the member that restores it.
    LostNotNoted,
    /// What is good is noted for whoever is granted it next, as if that had to restore it.
    GoodNotedForNext,
    /// What was noted for who restores it stays where it is found good the second time.
    GoodLeavesNote,
    /// The daemon that starts again does not look for fenced units.
    RedoForgets,
    /// It takes the holder that was fenced for dead.
    RedoInPlace,
    /// Who was cut off says that it has nothing left of it, and has dirty lines.
    DirtyLinesKept,
    /// The contents are judged while the dead writer's host has dirty lines of them.
    JudgedTooEarly,
    /// A new member comes to a slot for which units are still being recovered.
    SlotReusedEarly,
}
