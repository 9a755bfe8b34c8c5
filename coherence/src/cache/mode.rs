//! Which mode a domain may have, and which sharing is sound in it.
//!
//! A mode is a property of a domain, fixed when it is made. It is admitted by what is *known* of
//! every agent that may cache the memory; nothing is tried out, and nothing is taken on trust for
//! want of a better answer.
//!
//! # Why software mode is refused without a guarantee
//! A cache may load a line at any time, because a neighbour was loaded or a branch was guessed
//! wrong. Such a line is clean. Where a cache may also write *clean* lines back, it can store old
//! bytes over what another host has published since, and no instruction of either host can prevent
//! that. CXL 3.x has a name for hosts and devices that never do this: no clean write-backs. Every
//! agent of the domain must have it. Where all members run on one coherent host the hardware keeps
//! its caches the same, and software mode is merely slower than need be.

use core::fmt;

/// How the caches of a domain's members are kept the same. On media a byte: 1, 2 or 3, so that
/// zeroed memory names no mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mode {
    /// By the hardware. For members on one host.
    Hardware = 1,
    /// By instructions of the members.
    Software = 2,
    /// By the rules of software mode over caches that are simulated, to find who breaks them.
    Simulated = 3,
}

/// The byte names no mode. Whoever wrote it is broken or newer than this program: do not join the
/// domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no coherence mode")]
pub struct UnknownMode(pub u8);

impl TryFrom<u8> for Mode {
    type Error = UnknownMode;

    fn try_from(byte: u8) -> Result<Self, UnknownMode> {
        match byte {
            1 => Ok(Self::Hardware),
            2 => Ok(Self::Software),
            3 => Ok(Self::Simulated),
            _ => Err(UnknownMode(byte)),
        }
    }
}

impl From<Mode> for u8 {
    fn from(mode: Mode) -> Self {
        mode as Self
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hardware => "hardware",
            Self::Software => "software",
            Self::Simulated => "simulated",
        })
    }
}

/// What is known of all agents of a domain: every host and device that may cache its memory. The
/// default is to know nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// All of them are of one host, whose hardware keeps its caches the same.
    pub one_host: bool,
    /// Every one of them guarantees that it writes no clean line back.
    pub no_clean_write_backs: bool,
}

/// The mode would lose updates in this domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModeRefused {
    /// Not every agent is known to write no clean lines back. Share the memory by turns
    /// ([`Sharing::Temporal`]) or read-only ([`Sharing::ReadOnly`]), or keep all members on one
    /// host and use [`Mode::Hardware`].
    #[error(
        "software mode is refused: not every agent guarantees that it writes no clean lines back; \
         share plain segments by flush-and-unmap (Segment::flush_and_close) or read-only \
         (Segment::seal), or use hardware mode with all members on one host"
    )]
    CleanWriteBacks,
    /// No hardware keeps the caches of several hosts the same. Keep all members on one host, use
    /// [`Mode::Software`] where every agent writes no clean lines back, or share the memory by
    /// turns ([`Sharing::Temporal`]) or read-only ([`Sharing::ReadOnly`]).
    #[error(
        "{mode} mode is refused: members are on several hosts; keep them on one, use software mode \
         where every agent guarantees that it writes no clean lines back, or share plain segments \
         by flush-and-unmap (Segment::flush_and_close) or read-only (Segment::seal)"
    )]
    SeveralHosts {
        /// The mode that was asked for.
        mode: Mode,
    },
}

impl Mode {
    /// This mode, where a domain of agents with these capabilities may have it.
    ///
    /// # Errors
    /// [`ModeRefused`], which names what can be had in its place.
    pub fn admit(self, known: Capabilities) -> Result<Self, ModeRefused> {
        match self {
            Self::Software if pool_core::planted!("mode.admits_clean_write_backs") => Ok(self),
            Self::Software if !Sharing::Concurrent.is_sound(known) => {
                Err(ModeRefused::CleanWriteBacks)
            }
            // The simulated hosts are of one real host: the caches below them are its own.
            Self::Hardware | Self::Simulated if !known.one_host => {
                Err(ModeRefused::SeveralHosts { mode: self })
            }
            _ => Ok(self),
        }
    }
}

/// In which way members share memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// Several hosts have it mapped at once; leases order what they do.
    Concurrent,
    /// By turns, flush-and-unmap: one host at a time has it mapped. At the end of its turn the host
    /// unmaps it everywhere, then writes back and drops *every* line, read or written, through a
    /// mapping that serves nothing else, and ends that one too. Only then does the next turn begin,
    /// so no host holds a line of what another may write, not even a clean one. (Flushed while it
    /// is still in use, a line may be back before the mapping is gone.) In the client library:
    /// `Segment::flush_and_close`, by the last process of the host.
    Temporal,
    /// Nobody writes it any more. It was written in a turn as of [`Sharing::Temporal`], so that no
    /// host holds a line of its former life, and then sealed: what a cache may write back is what
    /// is there. In the client library: `Segment::seal`.
    ReadOnly,
}

impl Sharing {
    /// Whether memory may be shared so by agents with these capabilities, where each of them
    /// follows the rules of the sharing.
    #[must_use]
    pub const fn is_sound(self, known: Capabilities) -> bool {
        match self {
            Self::Concurrent => known.one_host || known.no_clean_write_backs,
            Self::Temporal | Self::ReadOnly => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Mode; 3] = [Mode::Hardware, Mode::Software, Mode::Simulated];

    fn known(one_host: bool, no_clean_write_backs: bool) -> Capabilities {
        Capabilities {
            one_host,
            no_clean_write_backs,
        }
    }

    #[test]
    fn a_mode_is_read_as_it_was_written_and_zero_is_none() {
        for mode in ALL {
            assert_eq!(Mode::try_from(u8::from(mode)), Ok(mode));
        }
        for byte in [0, 4, u8::MAX] {
            assert_eq!(Mode::try_from(byte), Err(UnknownMode(byte)));
        }
    }

    #[test]
    fn software_mode_is_refused_where_clean_lines_may_be_written_back() {
        let refused = Mode::Software.admit(Capabilities::default());
        assert_eq!(refused, Err(ModeRefused::CleanWriteBacks));
        for known in [known(true, false), known(false, true), known(true, true)] {
            assert_eq!(Mode::Software.admit(known), Ok(Mode::Software));
        }
    }

    #[test]
    fn hardware_keeps_no_two_hosts_the_same() {
        for mode in [Mode::Hardware, Mode::Simulated] {
            for guaranteed in [false, true] {
                let refused = mode.admit(known(false, guaranteed));
                assert_eq!(refused, Err(ModeRefused::SeveralHosts { mode }));
                assert_eq!(mode.admit(known(true, guaranteed)), Ok(mode));
            }
        }
    }

    #[test]
    fn a_refusal_names_what_can_be_had_instead() {
        let refusals = ALL.map(|mode| mode.admit(Capabilities::default()).unwrap_err());
        for refusal in refusals {
            let text = refusal.to_string();
            for way in ["flush_and_close", "Segment::seal", "one"] {
                assert!(text.contains(way), "{text}");
            }
            // Both of them can be had where nothing is known.
            assert!(Sharing::Temporal.is_sound(Capabilities::default()));
            assert!(Sharing::ReadOnly.is_sound(Capabilities::default()));
        }
    }
}
