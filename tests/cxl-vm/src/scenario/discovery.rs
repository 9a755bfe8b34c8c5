//! What we read of the kernel is what `cxl list -vvv` and `daxctl list` read, field by field.
//!
//! Every object of theirs is looked up in ours, each of its fields is compared, and the numbers of
//! objects have to be the same. A field is passed over only where it is named below, with why.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use kernel_cxl::{Decoder, DecoderKind, Memdev, Port, PortKind, Region, Sysfs, Topology};
use serde_json::{Map, Value, json};

use super::tool;
use crate::boot;
use crate::say;

/// Fields that are not read: of their keys alone, or of the device's mailbox.
const PASSED_OVER: [&str; 10] = [
    // By commands to the device, which need its mailbox.
    "alert_config",
    "partition_info",
    "firmware",
    // What ACPI calls the same.
    "alias",
    "provider",
    // Computed by the tool from what is compared.
    "max_available_extent",
    "qos_class_mismatch",
    // How the memory of a node is used.
    "movable",
    "online_memblocks",
    "total_memblocks",
];
/// The rest of a window's name for what it may hold that the kernel's files name otherwise.
const OF_WINDOWS: [&str; 2] = ["accelmem_capable", "nr_targets"];

/// What they say of the objects of one kind, by name.
type Objects<'v> = BTreeMap<String, &'v Map<String, Value>>;

pub(super) fn run() -> anyhow::Result<()> {
    let mut compared = compare("without regions")?;
    let serials: Vec<u64> = Topology::read(&Sysfs::here())?
        .memdevs
        .iter()
        .map(|memdev| memdev.serial)
        .collect();
    ensure!(serials.len() == 2, "there are {} devices", serials.len());
    for serial in &serials {
        create(*serial)?;
    }
    compared += compare("with a region on each, driven by nobody")?;
    boot::load("kmem")?;
    compared += compare("with their memory in nodes")?;
    lies_are_found()?;
    say::told(&format!("{compared} fields are the same"));
    Ok(())
}

/// Has `cxl` make a region of all of a device.
fn create(serial: u64) -> anyhow::Result<()> {
    let topology = Topology::read(&Sysfs::here())?;
    let memdev = topology.memdev_of(serial).context("it was there")?;
    let endpoint = topology.endpoint_of(memdev).context("it has an endpoint")?;
    let bridge = endpoint
        .parent
        .as_deref()
        .context("it is behind a bridge")?;
    let bridge = topology.ports.iter().find(|port| port.name == bridge);
    let above = bridge.and_then(|port| port.parent.as_deref());
    let root = topology
        .ports
        .iter()
        .find(|port| Some(port.name.as_str()) == above);
    let host = bridge.map(|port| port.host.as_str());
    let way = root.and_then(|root| root.dports.iter().find(|it| Some(it.name.as_str()) == host));
    let way = way.context("its bridge is below the root")?.id;
    let window = topology.windows().find(|window| window.targets == [way]);
    let window = window.context("its bridge has a window")?.name.clone();
    let words = [
        "create-region",
        "-t",
        "ram",
        "-d",
        &window,
        "-m",
        &memdev.name,
    ];
    tool::run("cxl", &words)?;
    Ok(())
}

/// Compares all that there is now, and tells how many fields.
fn compare(when: &str) -> anyhow::Result<usize> {
    let count = same(&Topology::read(&Sysfs::here())?, &Listed::now()?)?;
    say::told(&format!(
        "{when}: {} objects, {} fields",
        count.objects, count.fields
    ));
    Ok(count.fields)
}

/// One lie about each kind of object, each of which the comparison has to find.
fn lies_are_found() -> anyhow::Result<()> {
    let (listed, ours) = (Listed::now()?, Topology::read(&Sysfs::here())?);
    type Lie = fn(&mut Topology);
    let lies: [(&str, Lie); 9] = [
        ("a device is missing", |it| drop(it.memdevs.pop())),
        ("a device has another serial number", |it| {
            it.memdevs[0].serial += 1
        }),
        ("a port is one deeper", |it| it.ports[0].depth += 1),
        ("a way down has another number", |it| {
            let ways = it.ports.iter_mut().flat_map(|port| &mut port.dports);
            ways.for_each(|way| way.id += 1);
        }),
        ("a decoder begins elsewhere", |it| {
            it.decoders[0].addresses.start += 1
        }),
        ("a decoder is missing", |it| drop(it.decoders.pop())),
        ("a region has another target", |it| {
            it.regions[0].targets[0].push('1')
        }),
        ("a region is not committed", |it| {
            it.regions[0].is_committed = false
        }),
        ("a dax device is another node", |it| {
            let cut = it.regions[0].dax.as_mut();
            cut.into_iter()
                .for_each(|cut| cut.devices[0].target_node = Some(9));
        }),
    ];
    for (what, tell) in lies {
        let mut ours = ours.clone();
        tell(&mut ours);
        ensure!(same(&ours, &listed).is_err(), "nobody finds that {what}");
    }
    say::told(&format!("{} lies are found", lies.len()));
    Ok(())
}

/// What the tools tell at one moment.
struct Listed {
    by_cxl: Value,
    by_daxctl: Value,
}

impl Listed {
    fn now() -> anyhow::Result<Self> {
        Ok(Self {
            by_cxl: tool::list("cxl", &["list", "-vvv"])?,
            by_daxctl: tool::list("daxctl", &["list", "-RDM"])?,
        })
    }
}

/// Compares ours with what the tools tell.
fn same(ours: &Topology, listed: &Listed) -> anyhow::Result<Compared> {
    let mut theirs = BTreeMap::new();
    collect(&listed.by_cxl, &mut theirs);
    let mut count = Compared::default();
    count.all("memdev", &theirs, ours.memdevs.iter().map(memdev))?;
    for (key, kind) in [
        ("bus", PortKind::Root),
        ("port", PortKind::Switch),
        ("endpoint", PortKind::Endpoint),
    ] {
        let ports = ours.ports.iter().filter(|port| port.kind == kind);
        count.all(key, &theirs, ports.map(|port| described(key, port)))?;
    }
    let decoders = ours.decoders.iter().map(|it| decoder(ours, it));
    count.all("decoder", &theirs, decoders)?;
    count.all(
        "region",
        &theirs,
        ours.regions.iter().map(|it| region(ours, it)),
    )?;
    let mut theirs = BTreeMap::new();
    collect(&listed.by_daxctl, &mut theirs);
    count.all("chardev", &theirs, ours.dax_devices().map(dax))?;
    Ok(count)
}

/// Finds all objects with a name, by their kind.
fn collect<'v>(value: &'v Value, found: &mut BTreeMap<&'static str, Objects<'v>>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
        Value::Object(fields) => {
            // What has a memdev and a decoder is a mapping of a region, and no object.
            let is_mapping = fields.contains_key("position");
            for key in [
                "memdev", "bus", "port", "endpoint", "region", "decoder", "chardev",
            ] {
                let named = fields.get(key).and_then(Value::as_str);
                let Some(name) = named.filter(|_| !is_mapping) else {
                    continue;
                };
                // A decoder names its region, and is none.
                if !(key == "region" && fields.contains_key("decoder")) {
                    found
                        .entry(key)
                        .or_default()
                        .insert(name.to_owned(), fields);
                }
            }
            fields.values().for_each(|value| collect(value, found));
        }
        _ => {}
    }
}

#[derive(Debug, Default)]
struct Compared {
    objects: usize,
    fields: usize,
}

impl Compared {
    /// Compares all objects of a kind: ours as fields, by the name under their kind.
    fn all(
        &mut self,
        kind: &str,
        theirs: &BTreeMap<&'static str, Objects<'_>>,
        ours: impl Iterator<Item = Value>,
    ) -> anyhow::Result<()> {
        let none = Objects::new();
        let theirs = theirs.get(kind).unwrap_or(&none);
        let mut seen = 0;
        for ours in ours {
            let name = ours[kind].as_str().context("ours has a name")?;
            let theirs = theirs
                .get(name)
                .with_context(|| format!("they have no {name}"))?;
            self.one(name, theirs, &ours)?;
            seen += 1;
        }
        ensure!(
            seen == theirs.len(),
            "{kind}: {seen} of ours, {} of theirs",
            theirs.len()
        );
        self.objects += seen;
        Ok(())
    }

    fn one(&mut self, name: &str, theirs: &Map<String, Value>, ours: &Value) -> anyhow::Result<()> {
        for (field, value) in theirs {
            let is_nested = field.contains(':') || matches!(field.as_str(), "memdev" | "daxregion");
            let is_passed = PASSED_OVER.contains(&field.as_str())
                || OF_WINDOWS.contains(&field.as_str())
                || (is_nested && ours.get(field).is_none());
            if is_passed {
                continue;
            }
            let Some(own) = ours.get(field) else {
                bail!("{name}: they have {field} = {value}, we have no such field");
            };
            ensure!(
                own == &plain(value),
                "{name}: {field} is {value} for them, {own} for us"
            );
            self.fields += 1;
        }
        Ok(())
    }
}

/// Their value without what is passed over within it.
fn plain(value: &Value) -> Value {
    match value {
        Value::Array(values) => values.iter().map(plain).collect(),
        Value::Object(fields) => {
            let kept = fields
                .iter()
                .filter(|(key, _)| !PASSED_OVER.contains(&key.as_str()));
            let kept = kept.map(|(key, value)| (key.clone(), plain(value)));
            Value::Object(kept.collect())
        }
        value => value.clone(),
    }
}

fn memdev(memdev: &Memdev) -> Value {
    let mut fields = json!({
        "memdev": memdev.name,
        "ram_size": memdev.ram.get(),
        "serial": memdev.serial,
        "host": memdev.host,
        "firmware_version": memdev.firmware,
    });
    let size = [("pmem_size", memdev.pmem.get())];
    for (name, bytes) in size.into_iter().filter(|(_, bytes)| *bytes != 0) {
        fields[name] = json!(bytes);
    }
    if let Some(class) = memdev.ram_qos_class {
        fields["ram_qos_class"] = json!(class);
    }
    if let Some(node) = memdev.numa_node {
        fields["numa_node"] = json!(node);
    }
    fields
}

fn described(key: &str, port: &Port) -> Value {
    let dports = port.dports.iter();
    let dports: Vec<Value> = dports
        .map(|dport| json!({ "dport": dport.name, "id": dport.id }))
        .collect();
    let mut fields = json!({
        key: port.name,
        "host": port.host,
        "depth": port.depth,
        "decoders_committed": port.decoders_committed,
        "nr_dports": dports.len(),
        "dports": dports,
    });
    if let Some(above) = &port.parent_dport {
        fields["parent_dport"] = json!(above);
    }
    fields
}

fn decoder(ours: &Topology, decoder: &Decoder) -> Value {
    let mut fields = json!({
        "decoder": decoder.name,
        "interleave_ways": decoder.ways,
    });
    let mut set = |name: &str, value: Value| fields[name] = value;
    if !decoder.addresses.is_empty() {
        set("resource", json!(decoder.addresses.start));
        set("size", json!(decoder.bytes().get()));
    } else if decoder.kind != DecoderKind::Root {
        set("state", json!("disabled"));
    }
    if decoder.ways > 1 {
        set("interleave_granularity", json!(decoder.granularity));
    }
    if let Some(region) = &decoder.region {
        set("region", json!(region));
    }
    if let Some(dpa) = &decoder.dpa {
        set("dpa_resource", json!(dpa.start));
        set("dpa_size", json!(dpa.end - dpa.start));
    }
    if let Some(mode) = &decoder.mode {
        set("mode", json!(mode));
    }
    if decoder.kind == DecoderKind::Root {
        for (name, takes) in [
            ("pmem_capable", decoder.takes_pmem),
            ("volatile_capable", decoder.takes_ram),
        ] {
            if takes {
                set(name, json!(true));
            }
        }
        if let Some(class) = decoder.qos_class {
            set("qos_class", json!(class));
        }
    }
    let port = ours.ports.iter().find(|port| port.name == decoder.port);
    let targets = decoder.targets.iter().enumerate().map(|(position, id)| {
        let way = port.and_then(|port| port.dports.iter().find(|way| way.id == *id));
        let name = way.map(|way| way.name.as_str());
        json!({ "target": name, "position": position, "id": id })
    });
    set("targets", targets.collect());
    fields
}

fn region(ours: &Topology, region: &Region) -> Value {
    let mappings = region
        .targets
        .iter()
        .enumerate()
        .map(|(position, decoder)| {
            let memdev = ours
                .memdev_behind(decoder)
                .map(|memdev| memdev.name.as_str());
            json!({ "position": position, "memdev": memdev, "decoder": decoder })
        });
    // They tell the last one first.
    let mut mappings: Vec<Value> = mappings.collect();
    mappings.reverse();
    let state = if region.is_committed {
        "commit"
    } else {
        "reset"
    };
    let mut fields = json!({
        "region": region.name,
        "resource": region.addresses.start,
        "size": region.bytes().get(),
        "type": region.mode,
        "interleave_ways": region.ways,
        "interleave_granularity": region.granularity,
        "decode_state": state,
        "mappings": mappings,
    });
    if let Some(cut) = &region.dax {
        let devices = cut.devices.iter().map(dax_of_region);
        fields["daxregion"] = json!({
            "id": cut.id,
            "size": cut.bytes.get(),
            "align": cut.align.get(),
            "devices": devices.collect::<Vec<_>>(),
        });
    }
    fields
}

fn dax_of_region(device: &kernel_cxl::DaxDevice) -> Value {
    let mut fields = json!({
        "chardev": device.name,
        "size": device.bytes.get(),
        "target_node": device.target_node,
        "align": device.align.get(),
    });
    let mode = match device.driver.as_deref() {
        Some("kmem") => "system-ram",
        _ => "devdax",
    };
    fields["mode"] = json!(mode);
    if device.driver.is_none() {
        fields["state"] = json!("disabled");
    }
    fields
}

fn dax(device: &kernel_cxl::DaxDevice) -> Value {
    let mut fields = dax_of_region(device);
    let mappings = device.mappings.iter().map(|mapping| {
        json!({
            "page_offset": mapping.page_offset,
            "start": mapping.addresses.start,
            "end": mapping.addresses.end - 1,
            "size": mapping.addresses.end - mapping.addresses.start,
        })
    });
    fields["mappings"] = mappings.collect();
    fields
}
