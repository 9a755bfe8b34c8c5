//! `poolctl devices --tree`: CXL memory as the kernel shows it, and the pool's devices on it.
//!
//! Each object is a line, below what it belongs to: windows below their root, regions below their
//! windows, and below a region what it lies on, what it is cut into, and who has it. Memdevs,
//! nodes and the pool's other devices follow, so that a machine without CXL has a tree as well.

use std::fmt::Write as _;

use pool_proto::admin::v1::{
    DaxDevice, Decoder, Device, GetTopologyRequest, Memdev, Node, Performance, PoolDevice, Port,
    Region, Topology,
};
use pool_proto::names::Named as _;

use crate::connect::Pool;
use crate::error::CtlError;
use crate::output::Output;
use crate::text;

pub(super) async fn run(pool: &mut Pool, output: &mut Output) -> Result<(), CtlError> {
    let topology = get(pool).await?;
    output.show(&topology, render)
}

pub(super) async fn get(pool: &mut Pool) -> Result<Topology, CtlError> {
    let response = pool.calls.get_topology(GetTopologyRequest {}).await;
    pool.answer(response)
}

fn render(topology: &Topology) -> String {
    let mut tree = Tree::default();
    if topology.has_cxl {
        let roots: Vec<&Port> = topology
            .ports
            .iter()
            .filter(|it| it.kind == "root")
            .collect();
        for root in &roots {
            tree.line(0, &format!("{}: CXL", text::plain(&root.name)));
            tree.windows(topology, &root.name);
        }
        if roots.is_empty() {
            tree.line(
                0,
                "CXL: the kernel has a bus for it, and no window of memory",
            );
        }
        tree.memdevs(topology);
    } else {
        tree.line(0, "CXL: none; this kernel shows no CXL bus");
    }
    tree.nodes(&topology.nodes);
    tree.others(topology);
    if topology.left_out > 0 {
        tree.line(
            0,
            &format!("{} objects more are not shown", topology.left_out),
        );
    }
    tree.text
}

/// Lines, each two spaces further in than what it belongs to.
#[derive(Default)]
struct Tree {
    text: String,
}

impl Tree {
    fn line(&mut self, depth: usize, line: &str) {
        let indent = 2 * depth;
        // Writing to a string does not fail.
        let _written = writeln!(self.text, "{:indent$}{line}", "");
    }

    fn windows(&mut self, topology: &Topology, root: &str) {
        let windows = topology.decoders.iter();
        let windows = windows.filter(|it| it.kind == "root" && it.port == root);
        for window in windows {
            self.line(1, &window_line(window));
            let regions = topology.regions.iter();
            let regions = regions.filter(|it| it.decoder == window.name);
            for region in regions {
                self.region(topology, region);
            }
        }
    }

    fn region(&mut self, topology: &Topology, region: &Region) {
        self.line(2, &region_line(region));
        for target in &region.targets {
            let (decoder, memdev) = (text::plain(&target.decoder), text::plain(&target.memdev));
            self.line(
                3,
                &match memdev.as_str() {
                    "" => format!("on a device that has gone, by {decoder}"),
                    memdev => format!("on {:#x} ({memdev}) by {decoder}", target.serial),
                },
            );
        }
        if let Some(cut) = &region.dax {
            for device in &cut.devices {
                self.line(3, &dax_line(device));
                let nodes = topology.nodes.iter();
                let is_its =
                    |it: &&Node| device.driver == "kmem" && Some(it.id) == device.target_node;
                for node in nodes.filter(is_its) {
                    self.line(4, &node_line(node));
                }
            }
            let more = (cut.devices_total as usize).saturating_sub(cut.devices.len());
            if more > 0 {
                self.line(3, &format!("{more} dax devices more"));
            }
        }
        let on_it = topology.devices.iter();
        for device in on_it.filter(|it| it.region == region.name) {
            self.pool_device(3, device);
        }
    }

    fn memdevs(&mut self, topology: &Topology) {
        self.line(0, "memdevs");
        for memdev in &topology.memdevs {
            self.line(1, &memdev_line(memdev));
            let strays = topology.decoders.iter().filter(|it| it.stray);
            for stray in strays.filter(|it| memdev_of(topology, it) == Some(&memdev.name)) {
                let (name, size) = (text::plain(&stray.name), text::size(stray.dpa_bytes));
                self.line(2, &format!("{name}: {size} taken for no region"));
            }
        }
    }

    fn nodes(&mut self, nodes: &[Node]) {
        self.line(0, "nodes");
        for node in nodes {
            self.line(1, &node_line(node));
        }
    }

    /// The pool's devices that lie on no region.
    fn others(&mut self, topology: &Topology) {
        self.line(0, "devices of the pool");
        for device in topology.devices.iter().filter(|it| it.region.is_empty()) {
            self.pool_device(1, device);
        }
        let on_regions = topology.devices.iter();
        let on_regions = on_regions.filter(|it| !it.region.is_empty()).count();
        if on_regions > 0 {
            let devices = text::count(on_regions as u64, "device");
            self.line(1, &format!("{devices} on regions above"));
        }
    }

    fn pool_device(&mut self, depth: usize, placed: &PoolDevice) {
        if let Some(device) = &placed.device {
            self.line(depth, &pool_line(device, &placed.serials, &placed.region));
        }
    }
}

/// The memdev that a decoder of an endpoint belongs to.
fn memdev_of<'t>(topology: &'t Topology, decoder: &Decoder) -> Option<&'t String> {
    let mut ports = topology.ports.iter();
    let port = ports.find(|it| it.name == decoder.port)?;
    Some(&port.host)
}

fn window_line(window: &Decoder) -> String {
    let mut takes = Vec::new();
    for (is_taken, sort) in [(window.takes_ram, "ram"), (window.takes_pmem, "pmem")] {
        takes.extend(is_taken.then_some(sort));
    }
    let takes = if takes.is_empty() {
        "nothing".to_owned()
    } else {
        takes.join(" and ")
    };
    let (name, size) = (text::plain(&window.name), text::size(window.bytes));
    let class = qos(window.qos_class);
    format!(
        "window {name}: {size} at {:#x}, for {takes}{class}",
        window.address
    )
}

fn qos(class: Option<u32>) -> String {
    class.map_or_else(String::new, |class| format!(", QoS class {class}"))
}

/// What became of a region.
pub(super) fn state(region: &Region) -> &'static str {
    match (region.committed, region.enabled) {
        _ if region.half_made => "half made",
        (false, _) => "not committed",
        (true, false) => "not enabled",
        (true, true) => "enabled",
    }
}

fn region_line(region: &Region) -> String {
    let (name, size) = (text::plain(&region.name), text::size(region.bytes));
    let mut line = format!("{name}: {size} at {:#x}, {}", region.address, state(region));
    if region.ways > 1 {
        let bytes = region.granularity_bytes;
        line += &format!(", {} ways by {bytes} bytes", region.ways);
    }
    if let Some(figures) = &region.performance {
        line += &performance(figures);
    }
    line
}

fn performance(figures: &Performance) -> String {
    let (read, write) = (figures.read_latency_ns, figures.write_latency_ns);
    let (reads, writes) = (figures.read_bandwidth_mb_s, figures.write_bandwidth_mb_s);
    format!(", read {read} ns {reads} MB/s, write {write} ns {writes} MB/s")
}

/// Who has a dax device.
pub(super) fn driver(device: &DaxDevice) -> String {
    match device.driver.as_str() {
        "" => "no driver".to_owned(),
        driver => text::plain(driver),
    }
}

fn dax_line(device: &DaxDevice) -> String {
    let (name, size) = (text::plain(&device.name), text::size(device.bytes));
    let node = device.target_node.map(|node| format!(", node {node}"));
    format!(
        "{name}: {size}, {}{}",
        driver(device),
        node.unwrap_or_default()
    )
}

fn memdev_line(memdev: &Memdev) -> String {
    let name = text::plain(&memdev.name);
    let (ram, free) = (text::size(memdev.ram_bytes), text::size(memdev.free_bytes));
    let host = text::plain(&memdev.host);
    let mut line = format!(
        "{:#x} ({name}) at {host}: {ram} ram, {free} free",
        memdev.serial
    );
    if memdev.pmem_bytes > 0 {
        line += &format!(", {} pmem", text::size(memdev.pmem_bytes));
    }
    line += &qos(memdev.ram_qos_class);
    if let Some(node) = memdev.numa_node {
        line += &format!(", near node {node}");
    }
    if !memdev.enabled {
        line += ", no driver";
    }
    line
}

fn node_line(node: &Node) -> String {
    let (total, free) = (text::size(node.total_bytes), text::size(node.free_bytes));
    let mut line = format!("node {}: {total}, {free} free", node.id);
    if node.has_cpus {
        line += ", with processors";
    }
    if let Some(tier) = node.tier {
        line += &format!(", kernel's tier {tier}");
    }
    if let Some(figures) = &node.performance {
        line += &performance(figures);
    }
    line
}

fn pool_line(device: &Device, serials: &[u64], region: &str) -> String {
    let name = text::with_medium(&device.name, device.emulated);
    let (tier, kind) = (text::plain(&device.tier), text::plain(&device.kind));
    let (size, state) = (text::size(device.total_bytes), device.state().word());
    let mut line = format!("device {name}: {kind}, tier {tier}, {size}, {state}");
    if let Ok(node) = u32::try_from(device.numa_node) {
        line += &format!(", node {node}");
    }
    if !serials.is_empty() && region.is_empty() {
        line += &format!(", no region on {}", text::serials(serials.iter().copied()));
    }
    line
}
