//! What may go wrong, and how each of it ends.

use serde::{Deserialize, Serialize};

use super::super::Cci;
use super::super::time::Direction;
use crate::id::{HostId, LdId, MemdevId, Port, SwitchId, VcsId, VppbId};
use crate::timing::Picos;

/// Something that goes wrong, or is well again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// A host dies, with what is in its caches.
    HostDies(HostId),
    /// It starts anew: nothing is mapped, and what was offered to it is withdrawn.
    HostStarts(HostId),
    /// It may write back lines that it only read, whatever it promised.
    HostWritesCleanLines(HostId),
    /// It writes back no lines that it only read.
    HostKeepsCleanLines(HostId),
    /// It reads a line that nobody asked for, ahead of use. Over at once; the line is in its
    /// caches.
    HostPrefetches {
        /// Which host.
        host: HostId,
        /// The address.
        address: u64,
    },
    /// A link goes down.
    LinkFails(Port),
    /// It is as it should be: up, at its full width and speed, with the retries of its class, and
    /// nothing stalls or is in reset.
    LinkHeals(Port),
    /// It is trained to another width or speed, no more than what it was made for.
    LinkRetrains {
        /// One of its ends.
        port: Port,
        /// 1, 2, 4, 8 or 16.
        lanes: u8,
        /// 8, 16, 32 or 64.
        gigatransfers: u8,
    },
    /// Of lines, one in so many is sent again.
    LinkRetries {
        /// One of its ends.
        port: Port,
        /// 0 is never.
        once_in: u32,
    },
    /// What goes one way takes longer, or never gets through.
    LinkStalls {
        /// One of its ends.
        port: Port,
        /// Which way.
        direction: Direction,
        /// How much longer; none is for ever.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        longer: Option<Picos>,
    },
    /// The port of a link is held in reset. The cable is as good as ever.
    PortResets(Port),
    /// It is held no longer.
    PortRuns(Port),
    /// A switch starts anew and knows of no binding.
    SwitchRestarts(SwitchId),
    /// It binds and unbinds nothing.
    SwitchRefuses(SwitchId),
    /// It binds and unbinds.
    SwitchObeys(SwitchId),
    /// A bridge is not bound any more, and nobody was asked.
    BridgeUnbinds {
        /// The switch.
        switch: SwitchId,
        /// The virtual switch.
        vcs: VcsId,
        /// Its bridge.
        vppb: VppbId,
    },
    /// A memory device is there no more.
    MemdevVanishes(MemdevId),
    /// It is there again, and what it held is lost.
    MemdevReturns(MemdevId),
    /// Its power goes and comes: what it held is lost, and it is as it should be.
    MemdevCycles(MemdevId),
    /// It takes and gives no data, lest what is wrong with it spreads.
    MemdevTurnsViral(MemdevId),
    /// It takes so many times as long to zero memory.
    MemdevSlows {
        /// The device.
        memdev: MemdevId,
        /// How many times.
        times: u32,
    },
    /// It tells another serial number, or another capacity, than it has.
    MemdevLies {
        /// The device.
        memdev: MemdevId,
        /// The number that it tells; the true one where there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        serial: Option<u64>,
        /// Fixed memory that each logical device tells, in multiples of 256 MiB.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        granules: Option<u64>,
    },
    /// It corrects so many errors at once, which its health and a record tell.
    MemdevCorrects {
        /// The device.
        memdev: MemdevId,
        /// The logical device.
        ld: LdId,
        /// How many.
        errors: u32,
    },
    /// It looks at its memory, and so many lines turn out to be lost: they are poisoned, and
    /// who has them is told. It fails, and none is, where the device cannot list them all:
    /// [`MOST_POISONED`](crate::media::MOST_POISONED).
    MemdevScrubs {
        /// The device.
        memdev: MemdevId,
        /// The physical address of the first.
        physical: u64,
        /// How many.
        lines: u16,
    },
    /// It tells of its speed (CDAT) what it tells now, whatever changes.
    CdatGoesStale(MemdevId),
    /// A logical device's log of dynamic capacity takes no records.
    LogFills {
        /// The device.
        memdev: MemdevId,
        /// The logical device.
        ld: LdId,
    },
    /// A memory device is as it should be: not viral, not slow, it tells the truth, also of
    /// its speed, its counts are 0, and its logs take records.
    MemdevHeals(MemdevId),
    /// The list of extents is another one, though nothing in it is.
    ListChanges {
        /// The device.
        memdev: MemdevId,
        /// The logical device.
        ld: LdId,
    },
    /// A line of a device's memory is lost. It is read as an error until it is written.
    Poison {
        /// The device.
        memdev: MemdevId,
        /// The physical address.
        physical: u64,
    },
    /// A line is read as an error once.
    PoisonOnce {
        /// The device.
        memdev: MemdevId,
        /// The physical address.
        physical: u64,
    },
    /// A line is lost, and is also when it was written.
    PoisonStays {
        /// The device.
        memdev: MemdevId,
        /// The physical address.
        physical: u64,
    },
    /// A line is good. What it held is as it was last written.
    PoisonHeals {
        /// The device.
        memdev: MemdevId,
        /// The physical address.
        physical: u64,
    },
    /// Something is wrong with the next commands at an interface. It ends with the last of them.
    InterfaceErrs {
        /// Which interface.
        cci: Cci,
        /// With what.
        glitch: Glitch,
        /// With how many commands.
        times: u16,
    },
    /// What goes on in the background of an interface, or the next thing that does, never ends,
    /// unless it is given up.
    BackgroundHangs(Cci),
    /// Commands are done and answered, and what hung in the background ends.
    InterfaceHeals(Cci),
}

/// What is wrong with a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Glitch {
    /// It does not come in: nothing is done, and nobody answers.
    NotHeard,
    /// It is done, and the answer is lost.
    AnswerLost,
    /// It is answered Busy, and not done.
    Busy,
    /// It is answered Retry Required, and not done.
    RetryRequired,
    /// It is done once, and answered twice.
    AnsweredTwice,
    /// It is done, and the answer comes so much later, to whoever hears it then.
    AnsweredLate(Picos),
    /// It is done, and so many bytes of the answer come.
    AnswerCut(u16),
}
