//! Commands, as bytes: one that only asks, and memory that is added, taken and given back.

use std::cell::RefCell;

use fabric_emu::cci::Request;
use fabric_emu::cci::generic::Empty;

use super::racks::racks;
use super::scene::Scene;
use super::{hold_alone, name};
use crate::contest::{Case, number, timed};
use crate::report::Report;

/// Commands of a run that only ask.
const ASKED: u64 = 16_384;
/// Blocks of a run that come and go.
const CYCLES: u64 = 1_024;

/// All cases of this part.
pub(super) fn measure(hosts: u16, rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    let mut scene = Scene::new(&racks(hosts)?)?;
    scene.furnish()?;
    let scene = RefCell::new(scene);
    let case = Case::rate(name("command: identify a memory device", hosts));
    let ask = || asked(&mut scene.borrow_mut());
    report.add(hold_alone(&case, rounds, ask)?)?;
    // One event is the manager's; the host reads and clears its log, takes, and gives back.
    let case = Case::rate(name(
        "capacity: added, taken and released by 5 commands",
        hosts,
    ));
    let cycle = || cycled(&mut scene.borrow_mut());
    report.add(hold_alone(&case, rounds, cycle)?)
}

/// Commands a second.
fn asked(scene: &mut Scene) -> anyhow::Result<f64> {
    let turns = ASKED / u64::from(scene.hosts);
    let (time, done) = timed(|| {
        for _ in 0..turns {
            for host in 0..scene.hosts {
                scene.tell(host, Request::IdentifyMemoryDevice(Empty))?;
            }
        }
        anyhow::Ok(())
    });
    done?;
    Ok(number(turns * u64::from(scene.hosts)) / time * 1e9)
}

/// Blocks a second.
fn cycled(scene: &mut Scene) -> anyhow::Result<f64> {
    let turns = CYCLES / u64::from(scene.hosts);
    let (time, done) = timed(|| {
        for _ in 0..turns {
            for host in 0..scene.hosts {
                let extent = scene.add(host)?;
                scene.release(host, &extent)?;
            }
        }
        anyhow::Ok(())
    });
    done?;
    Ok(number(turns * u64::from(scene.hosts)) / time * 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_goes_as_often_as_it_is_asked() {
        let mut scene = Scene::new(&racks(16).unwrap()).unwrap();
        scene.furnish().unwrap();
        assert!(cycled(&mut scene).unwrap() > 0.0 && asked(&mut scene).unwrap() > 0.0);
    }
}
