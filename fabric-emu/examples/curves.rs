//! Prints what the timing model says of usual paths, as tables in Markdown, and how far it is from
//! what others measured. Nothing in it was measured on this machine: every figure is emulated.
//!
//! A file of the same form as the table of parameters may be named, and is laid over it.

use std::error::Error;

use fabric_emu::timing::curves::Scene;
use fabric_emu::timing::published::published;
use fabric_emu::timing::{Share, Table};

/// Accesses under way in one host, as of 16 cores.
const MLP: u32 = 16 * 62;

fn main() -> Result<(), Box<dyn Error>> {
    let mut table = Table::embedded()?;
    if let Some(file) = std::env::args().nth(1) {
        table = table.overlay(&std::fs::read_to_string(file)?)?;
    }
    println!("All figures are emulated, in mode virtual.");
    println!("A host has {MLP} accesses under way at most, as of 16 cores.\n");
    unloaded(&table)?;
    for (name, class, switches) in [
        ("DDR", "ddr", 0),
        ("CXL x8, direct", "cxl-x8", 0),
        ("CXL x8, one switch", "cxl-x8", 1),
        ("CXL x16, one switch", "cxl-x16", 1),
    ] {
        loaded(name, &Scene::switched(&table, class, 1, switches)?)?;
    }
    mixes(&table)?;
    contended(&table)?;
    compared(&table)
}

fn unloaded(table: &Table) -> Result<(), Box<dyn Error>> {
    println!("## Unloaded latency (emulated)\n");
    println!("| path | read | write |\n|---|---:|---:|");
    for class in [
        "hbm",
        "ddr",
        "remote-ddr",
        "cxl-x8",
        "cxl-x16",
        "cxl-fpga",
        "c2c",
        "nvme",
    ] {
        let scene = Scene::direct(table, class)?;
        let (read, write) = (scene.unloaded(Share::ONE)?, scene.unloaded(Share::ZERO)?);
        println!("| {class} | {read} | {write} |");
    }
    for (switches, name) in [(1, "a switch"), (2, "two switches"), (3, "three switches")] {
        let scene = Scene::switched(table, "cxl-x8", 1, switches)?;
        let (read, write) = (scene.unloaded(Share::ONE)?, scene.unloaded(Share::ZERO)?);
        println!("| cxl-x8 behind {name} | {read} | {write} |");
    }
    println!();
    Ok(())
}

fn loaded(name: &str, scene: &Scene) -> Result<(), Box<dyn Error>> {
    println!("## {name}: latency against load, reads (emulated)\n");
    println!("| offered | achieved | latency |\n|---:|---:|---:|");
    for row in scene.loaded(Share::ONE, MLP)? {
        println!(
            "| {} | {} | {} |",
            row.offered, row.outcome.rate, row.outcome.latency
        );
    }
    println!();
    Ok(())
}

fn mixes(table: &Table) -> Result<(), Box<dyn Error>> {
    println!("## Reads and writes mixed, all that a host can (emulated)\n");
    println!("| path | reads | media | achieved | latency |\n|---|---:|---:|---:|---:|");
    for class in ["ddr", "cxl-x8", "cxl-x16"] {
        for row in Scene::direct(table, class)?.mixes(MLP)? {
            let (rate, latency) = (row.outcome.rate, row.outcome.latency);
            println!(
                "| {class} | {} % | {} | {rate} | {latency} |",
                row.percent, row.media
            );
        }
    }
    println!();
    Ok(())
}

fn contended(table: &Table) -> Result<(), Box<dyn Error>> {
    println!("## Two hosts at one CXL x8 behind a switch, reads (emulated)\n");
    println!("| each offers | alone | latency | of two, each | latency | device busy |");
    println!("|---:|---:|---:|---:|---:|---:|");
    let scene = Scene::switched(table, "cxl-x8", 2, 1)?;
    for row in scene.contended(Share::ONE, MLP)? {
        let Some((one, path)) = row.together.streams.first().zip(scene.paths.first()) else {
            continue;
        };
        println!(
            "| {} | {} | {} | {} | {} | {} |",
            row.offered,
            row.alone.rate,
            row.alone.latency,
            one.rate,
            one.latency,
            row.together.utilisation(path.device),
        );
    }
    println!();
    Ok(())
}

fn compared(table: &Table) -> Result<(), Box<dyn Error>> {
    println!("## Published figures and ours (emulated)\n");
    println!("input: a parameter is this figure; between: one lies between this and others.\n");
    println!("| figure | source | published | ours | error | basis |");
    println!("|---|---|---:|---:|---:|---|");
    for figure in published(table)? {
        let tenths = figure.error_tenths();
        let sign = if tenths < 0 { '-' } else { '+' };
        let (whole, tenth) = (tenths.unsigned_abs() / 10, tenths.unsigned_abs() % 10);
        let range = if figure.low == figure.high {
            figure.low.to_string()
        } else {
            format!("{} to {}", figure.low, figure.high)
        };
        println!(
            "| {} | {} | {range} | {} | {sign}{whole}.{tenth} % | {} |",
            figure.what, figure.source, figure.ours, figure.basis
        );
    }
    Ok(())
}
