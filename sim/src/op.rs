//! What may happen, as a list that is drawn before anything does: so that a part of it can be
//! played again.
//!
//! Numbers choose among what there is, modulo how much there is: an op never fails to mean
//! something, or means nothing where there is nothing to choose. What an op draws besides it draws
//! from its own salt, so that it draws the same whatever other ops are left out.

use std::fmt;
use std::str::FromStr;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, $weight:literal, $group:ident;)*) => {
        /// What happens.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// Its name in the text of an op.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// How often it happens beside others, where nothing is drawn.
            pub(crate) const fn weight(self) -> u32 {
                match self { $(Self::$kind => $weight,)* }
            }

            /// Whether a process does it.
            pub(crate) const fn is_of_client(self) -> bool {
                matches!(self.group(), Group::Work)
                    && !matches!(
                        self,
                        Self::Spawn
                            | Self::Build
                            | Self::Copy
                            | Self::Words
                            | Self::Settle
                            | Self::Prove
                            | Self::Operate
                            | Self::AskBack
                            | Self::Pass
                            | Self::Drop
                    )
            }

            /// Whether it happens to the heap of a host.
            pub(crate) const fn is_of_heap(self) -> bool {
                matches!(
                    self,
                    Self::HeapJoin | Self::HeapUse | Self::HeapTidy | Self::HeapDies
                )
            }

            /// Whether it is done with groups that hosts share.
            pub(crate) const fn is_of_groups(self) -> bool {
                matches!(
                    self,
                    Self::MakeGroup
                        | Self::Join
                        | Self::WriteGroup
                        | Self::SealGroup
                        | Self::ReadGroup
                )
            }

            pub(crate) const fn group(self) -> Group {
                match self { $(Self::$kind => Group::$group,)* }
            }
        }
    };
}

/// Of what sort a kind is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// Clients and the world do their work.
    Work,
    /// Something goes wrong: drawn by the mix of a seed.
    Fault,
    /// Something is well again: always there.
    Heals,
}

kinds! {
    /// A process comes and attaches.
    Spawn = "spawn", 80, Work;
    /// A process takes its session up again.
    Reattach = "reattach", 80, Work;
    /// It brings back descriptors.
    Supply = "supply", 10, Work;
    /// It sends its last request again.
    Repeat = "repeat", 30, Work;
    /// It sends a request of an id that was passed, or of a segment it does not have.
    Stale = "stale", 30, Work;
    /// It asks for a segment.
    Create = "create", 150, Work;
    /// It asks for a domain.
    CreateDomain = "create-domain", 100, Work;
    /// It asks for a group that hosts share.
    MakeGroup = "make-group", 80, Work;
    /// It joins one that somebody was told of.
    Join = "join", 150, Work;
    /// It writes a line of a group.
    WriteGroup = "write-group", 150, Work;
    /// It seals a group that it has written.
    SealGroup = "seal-group", 80, Work;
    /// It reads a line of a group.
    ReadGroup = "read-group", 200, Work;
    /// It opens a segment by name.
    Open = "open", 160, Work;
    /// It asks again for what it holds.
    Refresh = "refresh", 60, Work;
    /// It closes a segment.
    Close = "close", 50, Work;
    /// It ends one for everybody.
    Free = "free", 25, Work;
    /// It makes one longer or shorter.
    Resize = "resize", 50, Work;
    /// It shares one with another tenant.
    Share = "share", 30, Work;
    /// It takes a share back.
    Revoke = "revoke", 15, Work;
    /// It moves one to another tier.
    Relocate = "relocate", 30, Work;
    /// It seals one.
    Seal = "seal", 12, Work;
    /// It lists what there is.
    List = "list", 5, Work;
    /// It detaches in good order.
    Detach = "detach", 6, Work;
    /// It writes a line of what it holds.
    Write = "write", 300, Work;
    /// It reads a line of what it holds.
    Read = "read", 300, Work;
    /// Its host writes back what was written of a segment.
    WriteBack = "write-back", 40, Work;
    /// It writes through a mapping of what it holds no more.
    WriteStale = "write-stale", 40, Work;
    /// It leases a unit of a domain, to read or to write.
    Lease = "lease", 250, Work;
    /// It goes on with what it leased.
    Use = "use", 250, Work;
    /// It lets go.
    LetGo = "let-go", 150, Work;
    /// It says that it has waited long.
    Recall = "recall", 60, Work;
    /// It asks for a shared extent, to read or to write.
    Acquire = "acquire", 200, Work;
    /// It goes on with what it acquired.
    Touch = "touch", 250, Work;
    /// It ends its use.
    Release = "release", 150, Work;
    /// A host gives back what nobody uses.
    Drop = "drop", 15, Work;
    /// A file is built.
    Build = "build", 250, Work;
    /// Contents are copied.
    Copy = "copy", 80, Work;
    /// Work with a domain's words is done.
    Words = "words", 150, Work;
    /// All that waits for the world is done.
    Settle = "settle", 40, Work;
    /// Memory is proven gone.
    Prove = "prove", 150, Work;
    /// An operator drains, activates or resizes a device, or frees a segment.
    Operate = "operate", 15, Work;
    /// The fabric manager asks for memory of a host back.
    AskBack = "ask-back", 15, Work;
    /// Time passes.
    Pass = "pass", 60, Work;
    /// A process of a host makes its heap, or opens it.
    HeapJoin = "heap-join", 80, Work;
    /// It allocates a block of the heap, publishes one, links, retires or frees one.
    HeapUse = "heap-use", 200, Work;
    /// It does something to all that it has of the heap: rests, trims, recovers, leaves.
    HeapTidy = "heap-tidy", 50, Work;
    /// A process is killed.
    Kill = "kill", 20, Fault;
    /// A connection breaks.
    Disconnect = "disconnect", 10, Fault;
    /// The daemon dies at its next step.
    DaemonDies = "daemon-dies", 8, Fault;
    /// The daemon dies at once.
    DaemonKilled = "daemon-killed", 4, Fault;
    /// A host dies with its lines.
    HostDies = "host-dies", 4, Fault;
    /// A host dies with its lines, of which some had left its caches: which ones is chosen. Drawn
    /// by nobody.
    HostDiesWith = "host-dies-with", 0, Fault;
    /// A host pauses.
    HostPauses = "host-pauses", 8, Fault;
    /// A link goes down.
    LinkFails = "link-fails", 4, Fault;
    /// A line is poisoned.
    Poison = "poison", 4, Fault;
    /// The device of private pooled memory vanishes.
    DeviceVanishes = "device-vanishes", 1, Fault;
    /// The power of that device goes and comes: at once, or while a host is about to join a group.
    DeviceCycles = "device-cycles", 3, Fault;
    /// The fabric manager takes memory of a host by force.
    TakeBack = "take-back", 6, Fault;
    /// The fabric manager takes a group of a host by force.
    TakeGroup = "take-group", 4, Fault;
    /// The next builds fail.
    BuildFails = "build-fails", 10, Fault;
    /// The next copy fails.
    CopyFails = "copy-fails", 6, Fault;
    /// The home dies in its next step.
    HomeDies = "home-dies", 12, Fault;
    /// A process of a host dies within one of the next things that are done to its heap.
    HeapDies = "heap-dies", 20, Fault;
    /// A living host is fenced.
    Fence = "fence", 2, Fault;
    /// The clock of a host jumps ahead.
    ClockJumps = "clock-jumps", 6, Fault;
    /// The clock of a host steps back.
    ClockStepsBack = "clock-steps-back", 4, Fault;
    /// Two of these happen at once.
    Two = "two", 3, Fault;
    /// A daemon starts.
    DaemonStarts = "daemon-starts", 60, Heals;
    /// A host starts.
    HostStarts = "host-starts", 40, Heals;
    /// A host wakes.
    HostWakes = "host-wakes", 8, Heals;
    /// A link is up again.
    LinkHeals = "link-heals", 40, Heals;
    /// The device is there again.
    DeviceReturns = "device-returns", 40, Heals;
    /// A host dies within a step of its daemon with its lines, of which some had left its caches:
    /// which ones is chosen. Drawn by nobody; the last, so that seeds draw all others as before it
    /// was there.
    HostDiesInStep = "host-dies-in-step", 0, Fault;
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op {
    /// What.
    pub kind: Kind,
    /// To whom and how: the host, the process, and two more choices.
    pub picks: [u16; 4],
    /// What it draws besides.
    pub salt: u32,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.picks;
        write!(f, "{} {a} {b} {c} {d} {}", self.kind.name(), self.salt)
    }
}

/// A line is no op. Take it out, or write it as `kind a b c d salt`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no op: write it as `kind a b c d salt`")]
pub struct NoOp(String);

impl FromStr for Op {
    type Err = NoOp;

    fn from_str(line: &str) -> Result<Self, NoOp> {
        let no_op = || NoOp(line.to_owned());
        let mut words = line.split_whitespace();
        let name = words.next().ok_or_else(no_op)?;
        let kind = Kind::ALL.iter().find(|kind| kind.name() == name);
        let kind = *kind.ok_or_else(no_op)?;
        let mut picks = [0; 4];
        for pick in &mut picks {
            let word = words.next().ok_or_else(no_op)?;
            *pick = word.parse().map_err(|_| no_op())?;
        }
        let salt = words.next().and_then(|word| word.parse().ok());
        let salt = salt.ok_or_else(no_op)?;
        if words.next().is_some() {
            return Err(no_op());
        }
        Ok(Self { kind, picks, salt })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_op_is_read_as_it_was_written() {
        for (number, &kind) in (0_u16..).zip(Kind::ALL) {
            let picks = [number, 0, u16::MAX, 7];
            let op = Op {
                kind,
                picks,
                salt: u32::MAX,
            };
            assert_eq!(op.to_string().parse(), Ok(op));
        }
        for line in [
            "",
            "spawn 1 2 3 4",
            "spawn 1 2 3 4 5 6",
            "no 1 2 3 4 5",
            "spawn -1 2 3 4 5",
        ] {
            assert!(line.parse::<Op>().is_err(), "{line}");
        }
    }
}
