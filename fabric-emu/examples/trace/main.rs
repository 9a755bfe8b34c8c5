//! Has things happen at random to each of the topologies that are ready, and prints what came of
//! each as one number: the same seed has the same numbers on every machine.
//!
//! `cargo run -p fabric-emu --example trace -- --seed 7 --steps 5000`

use std::error::Error;

use fabric_emu::topology::{READY_NAMES, Topology};
use scene::Scene;

mod scene;

/// What is asked for.
struct Asked {
    seed: u64,
    steps: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let asked = arguments()?;
    for name in READY_NAMES {
        let mut scene = Scene::new(&Topology::named(name)?, asked.seed)?;
        scene.run(asked.steps);
        println!("{name} {:016x}", scene.fabric.trace());
    }
    Ok(())
}

fn arguments() -> Result<Asked, Box<dyn Error>> {
    let mut asked = Asked {
        seed: 1,
        steps: 5_000,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(key) = arguments.next() {
        let value = arguments.next();
        let value = value.ok_or_else(|| format!("{key} needs a number"))?;
        match &*key {
            "--seed" => asked.seed = value.parse()?,
            "--steps" => asked.steps = value.parse()?,
            _ => return Err(format!("{key}: only --seed and --steps are known").into()),
        }
    }
    Ok(asked)
}
