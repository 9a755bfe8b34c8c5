//! The bytes of faults.

use super::Row;
use crate::fabric::{Direction, Fault, Glitch};
use crate::id::MemdevId;
use crate::timing::Picos;

impl Row {
    /// Whether it is there, and then it.
    pub(super) fn maybe(&mut self, number: Option<u64>) {
        self.numbers([number.is_some().into(), number.unwrap_or(0)]);
    }

    pub(super) fn fault(&mut self, fault: &Fault) {
        match *fault {
            Fault::HostDies(host) => self.numbers([1, host.0.into()]),
            Fault::HostStarts(host) => self.numbers([2, host.0.into()]),
            Fault::SwitchRestarts(switch) => self.numbers([5, switch.0.into()]),
            Fault::MemdevVanishes(memdev) => self.numbers([6, memdev.0.into()]),
            Fault::MemdevReturns(memdev) => self.numbers([7, memdev.0.into()]),
            Fault::Poison { memdev, physical } => self.numbers([8, memdev.0.into(), physical]),
            Fault::HostWritesCleanLines(host) => self.numbers([9, host.0.into()]),
            Fault::HostKeepsCleanLines(host) => self.numbers([10, host.0.into()]),
            Fault::HostPrefetches { host, address } => self.numbers([11, host.0.into(), address]),
            Fault::SwitchRefuses(switch) => self.numbers([17, switch.0.into()]),
            Fault::SwitchObeys(switch) => self.numbers([18, switch.0.into()]),
            Fault::BridgeUnbinds { switch, vcs, vppb } => {
                self.numbers([19, switch.0.into(), vcs.0.into(), vppb.0.into()]);
            }
            Fault::MemdevCycles(memdev) => self.numbers([20, memdev.0.into()]),
            Fault::MemdevTurnsViral(memdev) => self.numbers([21, memdev.0.into()]),
            Fault::MemdevSlows { memdev, times } => {
                self.numbers([22, memdev.0.into(), times.into()]);
            }
            Fault::MemdevLies {
                memdev,
                serial,
                granules,
            } => {
                self.numbers([23, memdev.0.into()]);
                self.maybe(serial);
                self.maybe(granules);
            }
            Fault::MemdevCorrects { memdev, ld, errors } => {
                self.numbers([24, memdev.0.into(), ld.0.into(), errors.into()]);
            }
            Fault::MemdevScrubs {
                memdev,
                physical,
                lines,
            } => self.numbers([34, memdev.0.into(), physical, lines.into()]),
            Fault::LogFills { memdev, ld } => self.numbers([25, memdev.0.into(), ld.0.into()]),
            Fault::MemdevHeals(memdev) => self.numbers([26, memdev.0.into()]),
            Fault::CdatGoesStale(memdev) => self.numbers([35, memdev.0.into()]),
            Fault::ListChanges { memdev, ld } => self.numbers([27, memdev.0.into(), ld.0.into()]),
            Fault::PoisonOnce { memdev, physical } => self.line(28, memdev, physical),
            Fault::PoisonStays { memdev, physical } => self.line(29, memdev, physical),
            Fault::PoisonHeals { memdev, physical } => self.line(30, memdev, physical),
            Fault::InterfaceErrs { cci, glitch, times } => {
                self.number(31_u64);
                self.cci(cci);
                self.glitch(glitch);
                self.number(times);
            }
            Fault::BackgroundHangs(cci) => {
                self.number(32_u64);
                self.cci(cci);
            }
            Fault::InterfaceHeals(cci) => {
                self.number(33_u64);
                self.cci(cci);
            }
            Fault::LinkFails(_)
            | Fault::LinkHeals(_)
            | Fault::PortResets(_)
            | Fault::PortRuns(_)
            | Fault::LinkRetrains { .. }
            | Fault::LinkRetries { .. }
            | Fault::LinkStalls { .. } => self.link(fault),
        }
    }

    fn line(&mut self, number: u64, memdev: MemdevId, physical: u64) {
        self.numbers([number, memdev.0.into(), physical]);
    }

    fn link(&mut self, fault: &Fault) {
        let (Fault::LinkFails(port)
        | Fault::LinkHeals(port)
        | Fault::PortResets(port)
        | Fault::PortRuns(port)
        | Fault::LinkRetrains { port, .. }
        | Fault::LinkRetries { port, .. }
        | Fault::LinkStalls { port, .. }) = *fault
        else {
            return;
        };
        let number = match fault {
            Fault::LinkFails(_) => 3_u64,
            Fault::LinkHeals(_) => 4,
            Fault::LinkRetrains { .. } => 12,
            Fault::LinkRetries { .. } => 13,
            Fault::LinkStalls { .. } => 14,
            Fault::PortResets(_) => 15,
            _ => 16,
        };
        self.number(number);
        self.port(port);
        match *fault {
            Fault::LinkRetrains {
                lanes,
                gigatransfers,
                ..
            } => self.numbers([lanes.into(), gigatransfers.into()]),
            Fault::LinkRetries { once_in, .. } => self.number(once_in),
            Fault::LinkStalls {
                direction, longer, ..
            } => {
                self.number(direction == Direction::Down);
                self.maybe(longer.map(Picos::get));
            }
            _ => {}
        }
    }

    fn glitch(&mut self, glitch: Glitch) {
        self.numbers(match glitch {
            Glitch::NotHeard => [1, 0],
            Glitch::AnswerLost => [2, 0],
            Glitch::Busy => [3, 0],
            Glitch::RetryRequired => [4, 0],
            Glitch::AnsweredTwice => [5, 0],
            Glitch::AnsweredLate(later) => [6, later.get()],
            Glitch::AnswerCut(bytes) => [7, bytes.into()],
        });
    }
}
