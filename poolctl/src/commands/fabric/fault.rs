//! `poolctl fabric fault`: something goes wrong in a served fabric, or is well again; and
//! `advance`: time goes by, with what is planned to go wrong.

use std::path::Path;

use fabric_emu::fabric::Fault;
use fabric_emu::id::{HostId, MemdevId, SwitchId};
use fabric_emu::serve::Operator;
use fabric_emu::timing::Picos;
use serde::Serialize;

use crate::cli::FabricFault;
use crate::error::CtlError;
use crate::output::Output;
use crate::text;

/// What came of it.
#[derive(Debug, Serialize)]
struct Happened {
    lost_lines: usize,
}

pub(super) fn run(
    directory: &Path,
    fault: &FabricFault,
    output: &mut Output,
) -> Result<(), CtlError> {
    tell(Operator::connect(directory)?.fault(meant(*fault))?, output)
}

/// Time goes by, with the faults that are planned.
pub(super) fn advance(directory: &Path, by: Picos, output: &mut Output) -> Result<(), CtlError> {
    tell(Operator::connect(directory)?.advance(by)?, output)
}

fn tell(lost_lines: usize, output: &mut Output) -> Result<(), CtlError> {
    output.show(&Happened { lost_lines }, |it| match it.lost_lines {
        0 => "done\n".to_owned(),
        lost => {
            let lost = text::count(u64::try_from(lost).unwrap_or(u64::MAX), "line");
            format!("done; {lost} that hosts had written and not written back are lost\n")
        }
    })
}

const fn meant(fault: FabricFault) -> Fault {
    match fault {
        FabricFault::HostDies { host } => Fault::HostDies(HostId(host)),
        FabricFault::HostStarts { host } => Fault::HostStarts(HostId(host)),
        FabricFault::LinkFails { end } => Fault::LinkFails(end),
        FabricFault::LinkHeals { end } => Fault::LinkHeals(end),
        FabricFault::SwitchRestarts { switch } => Fault::SwitchRestarts(SwitchId(switch)),
        FabricFault::MemdevVanishes { memdev } => Fault::MemdevVanishes(MemdevId(memdev)),
        FabricFault::MemdevReturns { memdev } => Fault::MemdevReturns(MemdevId(memdev)),
        FabricFault::Poison { memdev, physical } => Fault::Poison {
            memdev: MemdevId(memdev),
            physical,
        },
    }
}
