//! What an operator sees and changes by `poolctl` alone, of a daemon with one device on CXL
//! memory: what is shown is what `cxl` and `daxctl` show, regions come and go, and what somebody
//! has stays.

use std::collections::BTreeMap;
use std::fs::{self, File};

use anyhow::{Context as _, ensure};
use kernel_cxl::{DaxDriver, NewRegion, RegionPlan, Sysfs, Topology};
use pool_core::Bytes;
use pool_core::units::MIB;
use serde_json::{Value, json};

use super::daemon::Daemon;
use super::regions::RULE;
use super::tool;
use crate::say;

const DEVICES: &str = r#"
[[tier]]
name = "pooled"

[[device]]
name = "expander"
tier = "pooled"
kind = "devdax"
serials = [0xa1]
size = "512 MiB"
"#;

pub(super) fn run() -> anyhow::Result<()> {
    fs::write(RULE, "online_movable")?;
    let daemon = Daemon::start(DEVICES)?;
    let pools = regions(&daemon)?.remove(0);
    ensure!(pools["pool_device"] == "expander", "{pools}");
    let first = create(&daemon, &["--serial", "0xa0", "--size", "256 MiB"])?;
    let second = create(&daemon, &["--serial", "0xa0", "--size", "512 MiB"])?;
    let compared = compare(&daemon)?;
    say::told(&format!("{compared} values are those of cxl and daxctl"));
    println!("{}", daemon.tell(&["devices", "--tree"])?);
    println!("{}", daemon.tell(&["regions"])?);
    refusals(&daemon, &pools, (&first, &second))?;
    for region in [&second, &first] {
        daemon.tell(&["regions", "destroy", region])?;
    }
    ensure!(regions(&daemon)?.len() == 1, "what was destroyed is there");
    half_made(&daemon)?;
    let all = create(&daemon, &["--serial", "0xa0"])?;
    let made = regions(&daemon)?.into_iter().find(|it| it["name"] == *all);
    let bytes = made.context("it was made")?["bytes"].clone();
    ensure!(bytes == 1024 * MIB, "all of a device is {bytes}");
    daemon.tell(&["regions", "destroy", &all])?;
    say::told("regions came and went, and the pool kept its own");
    daemon.is_at_rest()
}

/// What `poolctl regions --json` lists.
fn regions(daemon: &Daemon) -> anyhow::Result<Vec<Value>> {
    let listed = daemon.ask("regions")?;
    let regions = listed["regions"].as_array().cloned();
    regions.with_context(|| listed.to_string())
}

/// Has `poolctl` make a region, and tells its name.
fn create(daemon: &Daemon, words: &[&str]) -> anyhow::Result<String> {
    let words = [&["--json", "regions", "create"], words].concat();
    let made: Value = serde_json::from_str(&daemon.tell(&words)?)?;
    ensure!(
        made["committed"] == true && made["enabled"] == true,
        "{made}"
    );
    let name = made["name"].as_str().with_context(|| made.to_string())?;
    Ok(name.to_owned())
}

/// Compares what is shown with what the tools show, and tells how many values.
fn compare(daemon: &Daemon) -> anyhow::Result<usize> {
    let told = daemon.tell(&["--json", "devices", "--tree"])?;
    let told: Value = serde_json::from_str(&told)?;
    let list = |key: &str| told[key].as_array().cloned().unwrap_or_default();
    let mut ours = BTreeMap::new();
    let mut serials = BTreeMap::new();
    for memdev in list("memdevs") {
        let name = memdev["name"].as_str().unwrap_or_default().to_owned();
        serials.insert(name.clone(), memdev["serial"].clone());
        let told = json!([memdev["serial"], memdev["ram_bytes"], memdev["host"]]);
        ours.insert(name, told);
    }
    for region in list("regions") {
        let name = region["name"].as_str().unwrap_or_default().to_owned();
        let targets = region["targets"].as_array().cloned().unwrap_or_default();
        let targets: Vec<&Value> = targets.iter().map(|it| &it["serial"]).collect();
        let told = json!([region["address"], region["bytes"], targets]);
        ours.insert(name, told);
        let files = region["dax"]["devices"].as_array().cloned();
        for device in files.unwrap_or_default() {
            let name = device["name"].as_str().unwrap_or_default().to_owned();
            ours.insert(name, json!([device["bytes"], device["target_node"]]));
        }
    }
    let mut theirs = BTreeMap::new();
    let by_cxl = tool::list("cxl", &["list", "-M", "-R", "-T", "-v"])?;
    let by_daxctl = tool::list("daxctl", &["list", "-D", "-i"])?;
    collect(&by_cxl, &serials, &mut theirs);
    collect(&by_daxctl, &serials, &mut theirs);
    ensure!(
        ours == theirs,
        "ours are {}, theirs {}",
        json!(ours),
        json!(theirs)
    );
    let values = ours.values().filter_map(Value::as_array);
    Ok(values.map(Vec::len).sum())
}

/// Their memdevs, regions and dax devices.
fn collect(value: &Value, serials: &BTreeMap<String, Value>, found: &mut BTreeMap<String, Value>) {
    let name = |key: &str| value[key].as_str().map(str::to_owned);
    match value {
        Value::Array(values) => values.iter().for_each(|it| collect(it, serials, found)),
        Value::Object(fields) => {
            if let (Some(memdev), true) = (name("memdev"), fields.contains_key("serial")) {
                let told = json!([value["serial"], value["ram_size"], value["host"]]);
                found.insert(memdev, told);
            }
            if let (Some(region), true) = (name("region"), fields.contains_key("mappings")) {
                let mappings = value["mappings"].as_array().cloned().unwrap_or_default();
                // They tell the last one first.
                let memdevs = mappings.iter().rev().map(|it| &it["memdev"]);
                let targets: Vec<Option<&Value>> =
                    memdevs.map(|it| serials.get(it.as_str()?)).collect();
                found.insert(region, json!([value["resource"], value["size"], targets]));
            }
            if let Some(device) = name("chardev") {
                found.insert(device, json!([value["size"], value["target_node"]]));
            }
            fields.values().for_each(|it| collect(it, serials, found));
        }
        _ => {}
    }
}

/// What somebody has stays, and what cannot be is not made; nothing changes.
fn refusals(daemon: &Daemon, pools: &Value, lone: (&str, &str)) -> anyhow::Result<()> {
    let (first, second) = lone;
    let sysfs = Sysfs::here();
    let pools = pools["name"].as_str().context("the pool has a region")?;
    let before = Topology::read(&sysfs)?;
    daemon.refuses(
        &["regions", "destroy", pools],
        "device expander of this pool",
    )?;
    daemon.refuses(
        &["regions", "destroy", first],
        &format!("destroy {second} first"),
    )?;
    daemon.refuses(
        &["regions", "destroy", "region99"],
        "there is no region region99",
    )?;
    let create = |words: &[&'static str], why: &str| {
        daemon.refuses(&[&["regions", "create", "--serial"], words].concat(), why)
    };
    create(&["0xa0", "--size", "512 MiB"], "256 MiB left")?;
    create(&["0xdead"], "0xdead")?;
    create(&["0xa0,0xa1", "--size", "512 MiB"], "no window")?;
    create(&["0xa0", "--size", "100 MiB"], "a multiple of 256 MiB")?;
    let claimed = File::open(sysfs.region_folder(second))?;
    claimed.lock()?;
    daemon.refuses(&["regions", "destroy", second], "another daemon has")?;
    drop(claimed);
    let after = Topology::read(&sysfs)?;
    let same = after.regions == before.regions && after.decoders == before.decoders;
    ensure!(same, "a refusal changed something");
    let dax = sysfs.await_dax(second)?;
    sysfs.drive(&dax, Some(DaxDriver::DeviceDax))?;
    daemon.refuses(&["regions", "destroy", second], "in use by device_dax")?;
    sysfs.drive(&dax, None)?;
    say::told("nine changes are refused, by name, and change nothing");
    Ok(())
}

/// What somebody left who died amid making a region is shown, and goes.
fn half_made(daemon: &Daemon) -> anyhow::Result<()> {
    let sysfs = Sysfs::here();
    let before = Topology::read(&sysfs)?;
    let wanted = NewRegion {
        bytes: Some(Bytes::new(512 * MIB)),
        ..NewRegion::of(0xa0)
    };
    let plan = RegionPlan::new(&before, &wanted)?;
    let name = sysfs.next_region(&plan)?;
    for step in plan.steps(&name).iter().take(5) {
        sysfs.take(step)?;
    }
    let listed = daemon.ask("regions")?;
    let strays = listed["strays"].as_array().map_or(0, Vec::len);
    let regions = regions(daemon)?;
    let half = regions.iter().filter(|it| it["half_made"] == true).count();
    ensure!((strays, half) == (1, 1), "{listed}");
    daemon.tell(&["regions", "destroy", &name])?;
    let used = |topology: &Topology| {
        let decoders = topology.decoders.iter();
        let used = decoders.filter(|it| it.dpa.is_some() || it.region.is_some());
        used.map(|it| it.name.clone()).collect::<Vec<_>>()
    };
    let after = Topology::read(&sysfs)?;
    let same = after.regions == before.regions && used(&after) == used(&before);
    ensure!(same, "{after:?}");
    say::told("a region that was not made to its end is shown, and goes");
    Ok(())
}
