//! What the kernel shows of CXL memory, as operators are told it: bounded, and with the devices of
//! the pool on it.

use std::collections::BTreeSet;

use kernel_cxl::{
    DaxDevice, DaxRegion, Decoder, DecoderKind, Memdev, Node, Performance, Port, PortKind, Region,
    Topology,
};
use pool_proto::admin::v1::{self as admin, Device as DeviceMessage};

use super::regions::Holders;

/// The most objects of each kind that are told.
const OBJECTS_MAX: usize = 4_096;
/// The most dax devices of one region.
const DAX_DEVICES_MAX: usize = 1_024;
/// The most pieces of one dax device.
const MAPPINGS_MAX: usize = 16;

/// A topology that is told, and who of the pool has what of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Telling<'t> {
    pub(super) topology: &'t Topology,
    pub(super) holders: &'t Holders,
}

impl<'t> Telling<'t> {
    /// Everything.
    pub(super) fn all(&self, devices: Vec<DeviceMessage>) -> admin::Topology {
        let topology = self.topology;
        let mut left_out = 0;
        let memdevs = bounded(&topology.memdevs, &mut left_out, |it| self.memdev(it));
        let ports = bounded(&topology.ports, &mut left_out, port);
        let strays: BTreeSet<&str> = topology.strays().map(|it| it.name.as_str()).collect();
        let decoder = |it: &Decoder| decoder(it, strays.contains(it.name.as_str()));
        let decoders = bounded(&topology.decoders, &mut left_out, decoder);
        let regions = bounded(&topology.regions, &mut left_out, |it| self.region(it));
        let nodes = bounded(&topology.nodes, &mut left_out, node);
        let cut = topology.regions.iter().filter_map(|it| it.dax.as_ref());
        let beyond = cut.map(|cut| cut.devices.len().saturating_sub(DAX_DEVICES_MAX));
        left_out += beyond.sum::<usize>();
        admin::Topology {
            has_cxl: true,
            memdevs,
            ports,
            decoders,
            regions,
            nodes,
            devices: devices.into_iter().map(|it| self.pool_device(it)).collect(),
            left_out: left_out as u64,
        }
    }

    /// The pool's device that has a region.
    pub(super) fn device_on(&self, region: &Region) -> Option<&'t str> {
        let mut holders = self.holders.iter();
        let found = holders.find(|(_, it)| it.region().as_ref() == Some(&region.name));
        found.map(|(name, _)| name.as_str())
    }

    fn pool_device(&self, device: DeviceMessage) -> admin::PoolDevice {
        let holder = self.holders.get(&device.name);
        admin::PoolDevice {
            serials: holder.map_or_else(Vec::new, |it| it.serials().to_vec()),
            region: holder.and_then(|it| it.region()).unwrap_or_default(),
            device: Some(device),
        }
    }

    fn memdev(&self, memdev: &Memdev) -> admin::Memdev {
        admin::Memdev {
            name: memdev.name.clone(),
            serial: memdev.serial,
            host: memdev.host.clone(),
            ram_bytes: memdev.ram.get(),
            pmem_bytes: memdev.pmem.get(),
            ram_qos_class: memdev.ram_qos_class,
            firmware: memdev.firmware.clone(),
            numa_node: memdev.numa_node,
            enabled: memdev.is_enabled,
            free_bytes: self.topology.left_of(memdev).get(),
        }
    }

    /// One region.
    pub(super) fn region(&self, region: &Region) -> admin::Region {
        let target = |decoder: &String| {
            let memdev = self.topology.memdev_behind(decoder);
            admin::RegionTarget {
                decoder: decoder.clone(),
                memdev: memdev.map_or_else(String::new, |it| it.name.clone()),
                serial: memdev.map_or(0, |it| it.serial),
            }
        };
        admin::Region {
            name: region.name.clone(),
            decoder: region.decoder.clone(),
            address: region.addresses.start,
            bytes: region.bytes().get(),
            ways: region.ways,
            granularity_bytes: region.granularity,
            mode: region.mode.clone(),
            committed: region.is_committed,
            enabled: region.is_enabled,
            half_made: region.is_half_made(),
            targets: region.targets.iter().map(target).collect(),
            performance: region.performance.map(performance),
            dax: region.dax.as_ref().map(dax_region),
            pool_device: self.device_on(region).unwrap_or_default().to_owned(),
        }
    }
}

/// As many as are told, and how many more there are.
fn bounded<T, M>(all: &[T], left_out: &mut usize, told: impl Fn(&T) -> M) -> Vec<M> {
    *left_out += all.len().saturating_sub(OBJECTS_MAX);
    all.iter().take(OBJECTS_MAX).map(told).collect()
}

fn port(port: &Port) -> admin::Port {
    let kind = match port.kind {
        PortKind::Root => "root",
        PortKind::Switch => "switch",
        PortKind::Endpoint => "endpoint",
    };
    let dports = port.dports.iter().map(|way| admin::Dport {
        name: way.name.clone(),
        id: way.id,
    });
    admin::Port {
        name: port.name.clone(),
        kind: kind.to_owned(),
        parent: port.parent.clone().unwrap_or_default(),
        host: port.host.clone(),
        parent_dport: port.parent_dport.clone().unwrap_or_default(),
        depth: port.depth,
        dports: dports.collect(),
        decoders_committed: port.decoders_committed,
    }
}

fn decoder(decoder: &Decoder, is_stray: bool) -> admin::Decoder {
    let dpa = decoder.dpa.clone();
    let kind = match decoder.kind {
        DecoderKind::Root => "root",
        DecoderKind::Switch => "switch",
        DecoderKind::Endpoint => "endpoint",
    };
    admin::Decoder {
        name: decoder.name.clone(),
        kind: kind.to_owned(),
        port: decoder.port.clone(),
        address: decoder.addresses.start,
        bytes: decoder.bytes().get(),
        ways: decoder.ways,
        granularity_bytes: decoder.granularity,
        targets: decoder.targets.clone(),
        region: decoder.region.clone().unwrap_or_default(),
        dpa_address: dpa.as_ref().map(|dpa| dpa.start),
        dpa_bytes: dpa.map_or(0, |dpa| dpa.end - dpa.start),
        mode: decoder.mode.clone().unwrap_or_default(),
        takes_ram: decoder.takes_ram,
        takes_pmem: decoder.takes_pmem,
        qos_class: decoder.qos_class,
        locked: decoder.is_locked,
        stray: is_stray,
    }
}

fn performance(it: Performance) -> admin::Performance {
    admin::Performance {
        read_latency_ns: it.read_latency,
        write_latency_ns: it.write_latency,
        read_bandwidth_mb_s: it.read_bandwidth,
        write_bandwidth_mb_s: it.write_bandwidth,
    }
}

fn dax_region(cut: &DaxRegion) -> admin::DaxRegion {
    let devices = cut.devices.iter().take(DAX_DEVICES_MAX);
    admin::DaxRegion {
        id: cut.id,
        bytes: cut.bytes.get(),
        free_bytes: cut.available.get(),
        align_bytes: cut.align.get(),
        devices: devices.map(dax_device).collect(),
        devices_total: count(cut.devices.len()),
    }
}

fn dax_device(device: &DaxDevice) -> admin::DaxDevice {
    let mappings = device.mappings.iter().take(MAPPINGS_MAX);
    let mappings = mappings.map(|it| admin::DaxMapping {
        address: it.addresses.start,
        bytes: it.addresses.end - it.addresses.start,
    });
    admin::DaxDevice {
        name: device.name.clone(),
        bytes: device.bytes.get(),
        align_bytes: device.align.get(),
        target_node: device.target_node,
        driver: device.driver.clone().unwrap_or_default(),
        mappings: mappings.collect(),
        mappings_total: count(device.mappings.len()),
    }
}

fn node(node: &Node) -> admin::Node {
    admin::Node {
        id: node.id,
        has_cpus: node.has_cpus,
        total_bytes: node.total.get(),
        free_bytes: node.free.get(),
        tier: node.tier,
        performance: node.performance.map(performance),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
