//! `poolctl fabric status`: who has what of a served fabric.

use std::path::Path;

use fabric_emu::serve::Operator;
use fabric_emu::serve::control::{HostState, State};

use crate::error::CtlError;
use crate::output::{Grid, Output};
use crate::text;

pub(super) fn run(directory: &Path, output: &mut Output) -> Result<(), CtlError> {
    let state = Operator::connect(directory)?.state()?;
    output.show(&state, table)
}

fn table(state: &State) -> String {
    let head = format!(
        "{}, emulated, mode {}, seed {}, {} us since the beginning\n\n",
        text::plain(&state.topology),
        state.mode,
        state.seed,
        state.now_picos / 1_000_000
    );
    let mut hosts = Grid::new(["HOST", "STATE", "REACHES", ">HAS", ">CARVED", ">CARVINGS"]);
    for host in &state.hosts {
        let life = if host.is_alive { "alive" } else { "dead" };
        let carved = host.carvings.iter().map(|carving| carving.bytes).sum();
        hosts.row([
            format!("host{}", host.host.0),
            life.to_owned(),
            text::or_dash(&reaches(host)),
            text::size(host.had_bytes()),
            text::size(carved),
            host.carvings.len().to_string(),
        ]);
    }
    let mut memdevs = Grid::new(["MEMDEV", "STATE", ">DYNAMIC", ">FREE"]);
    for memdev in &state.memdevs {
        let there = if memdev.is_there { "there" } else { "gone" };
        memdevs.row([
            format!("memdev{}", memdev.memdev.0),
            there.to_owned(),
            text::size(memdev.dynamic_bytes),
            text::size(memdev.free_bytes),
        ]);
    }
    format!("{head}{}\n{}", hosts.render(), memdevs.render())
}

fn reaches(host: &HostState) -> String {
    let lds = host.reaches.iter();
    let lds = lds.map(|it| format!("memdev{}-ld{}", it.memdev.0, it.ld.0));
    lds.collect::<Vec<_>>().join(" ")
}
