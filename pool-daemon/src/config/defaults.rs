//! What suits a machine that nobody has configured.
//!
//! Half of the memory to spare becomes the pool, in whole extents: 1/8 of it is `hbm` and 3/8 are
//! `pooled`, both emulated by ordinary DRAM, and 1/2 is `ddr`, which is what it says, in one device
//! for each node with CPUs. Where the machine has nodes without CPUs, `pooled` is real: half of
//! what is free on each of them; and the DRAM that need not stand for it is `ddr`.

use std::path::PathBuf;

use pool_core::units::{GIB, MIB};
use pool_core::{Bytes, EXTENT_BYTES, Nanos};

use super::{
    ConfigError, Daemon, DescriptorStoreChoice, Device, DeviceKind, LogFormat, OnStop, PagePolicy,
    Sizes,
};
use crate::discover::{Machine, Node};

pub(super) const TIERS: [&str; 3] = ["hbm", "ddr", "pooled"];

/// What a device of a fabric asks for at once, when it does, and what it keeps.
pub(super) const FABRIC_STEP: Bytes = Bytes::new(256 * MIB);
pub(super) const FABRIC_LOW: Bytes = Bytes::new(64 * MIB);
pub(super) const FABRIC_HIGH: Bytes = Bytes::new(512 * MIB);
pub(super) const FABRIC_IDLE: Nanos = Nanos::from_millis(10_000);
pub(super) const FABRIC_PATIENCE: Nanos = Nanos::from_millis(10_000);

/// A smaller device is of no use.
const DEVICE_EXTENTS_MIN: u64 = 16;
/// The user id of root.
const ROOT: u32 = 0;

impl Daemon {
    /// Of a process under `directory`, which has its state in `state`.
    pub(super) fn under(directory: PathBuf, state: PathBuf) -> Self {
        Self {
            session_socket: directory.join("session.sock"),
            admin_socket: directory.join("admin.sock"),
            runtime_dir: directory,
            state_dir: state,
            session_mode: 0o666,
            descriptor_store: DescriptorStoreChoice::Auto,
            on_stop: OnStop::Keep,
            reattach_grace: Nanos::from_millis(10_000),
            pressure_deadline: Nanos::from_millis(2_000),
            memory_floor: Bytes::new(GIB),
            operators: Vec::new(),
            log: "info".to_owned(),
            log_format: LogFormat::Text,
        }
    }

    /// Of a system service.
    pub(super) fn of_the_system() -> Self {
        Self::under("/run/tierpool".into(), "/var/lib/tierpool".into())
    }

    /// Of whoever starts the daemon on `machine` without a file.
    pub(super) fn default_for(machine: &Machine) -> Self {
        if machine.uid == ROOT {
            return Self::of_the_system();
        }
        let directory = match &machine.session_directory {
            Some(session) => session.join("tierpool"),
            None => PathBuf::from(format!("/tmp/tierpool-{}", machine.uid)),
        };
        let state = directory.join("state");
        // Nobody else can reach a user's own directories, and so nobody else may attach.
        Self {
            session_mode: 0o600,
            ..Self::under(directory, state)
        }
    }
}

/// The devices of `machine`, fastest first. Those that were there before keep their size.
pub(super) fn devices(machine: &Machine, before: &Sizes) -> Result<Vec<Device>, ConfigError> {
    let far: Vec<_> = machine.far_nodes().collect();
    let far_free = sum(far.iter().map(|node| node.free));
    let near_free = Bytes::new(
        machine
            .memory_available
            .get()
            .saturating_sub(far_free.get()),
    );
    // A control group limits near and far memory together: they share it as the tiers do.
    let limit = machine.memory_limit.unwrap_or(Bytes::new(u64::MAX));
    let (near_limit, far_limit) = if far.is_empty() {
        (limit, Bytes::ZERO)
    } else {
        (share(limit, 5, 8), share(limit, 3, 8))
    };
    let spare = near_free.min(near_limit);
    let pool = share(spare, 1, 2);

    let mut devices = vec![memfd("hbm0".into(), "hbm", share(pool, 1, 8), true, None)];
    devices.extend(ddr(
        machine,
        share(pool, if far.is_empty() { 4 } else { 7 }, 8),
    ));
    if far.is_empty() {
        devices.push(memfd(
            "pooled0".into(),
            "pooled",
            share(pool, 3, 8),
            true,
            None,
        ));
    }
    for node in &far {
        let free = node.free.min(part(far_limit, node.free, far_free));
        let name = format!("pooled{}", node.id);
        devices.push(memfd(
            name,
            "pooled",
            share(free, 1, 2),
            false,
            Some(node.id),
        ));
    }
    for device in &mut devices {
        if let Some(size) = before.get(&device.name) {
            device.size = *size;
            continue;
        }
        let extents = device.size.get() / EXTENT_BYTES;
        if extents < DEVICE_EXTENTS_MIN {
            return Err(too_small(device, spare));
        }
        device.size = Bytes::new(extents * EXTENT_BYTES);
    }
    Ok(devices)
}

/// One device for each node with CPUs, as large as its part of what is free on them.
fn ddr(machine: &Machine, bytes: Bytes) -> Vec<Device> {
    let near: Vec<&Node> = machine.near_nodes().collect();
    if near.len() < 2 {
        return vec![memfd("ddr0".into(), "ddr", bytes, false, None)];
    }
    let free = sum(near.iter().map(|node| node.free));
    let on = |node: &&Node| {
        let size = part(bytes, node.free, free);
        memfd(format!("ddr{}", node.id), "ddr", size, false, Some(node.id))
    };
    near.iter().map(on).collect()
}

fn memfd(name: String, tier: &str, size: Bytes, emulated: bool, numa_node: Option<u32>) -> Device {
    let kind = DeviceKind::Memfd {
        pages: PagePolicy::Auto,
        numa_node,
    };
    Device {
        name,
        tier: tier.to_owned(),
        size,
        emulated,
        kind,
    }
}

fn too_small(device: &Device, spare: Bytes) -> ConfigError {
    let needed = u128::from(DEVICE_EXTENTS_MIN * EXTENT_BYTES) * u128::from(spare.get())
        / u128::from(device.size.get().max(1));
    ConfigError::MachineTooSmall {
        spare,
        device: device.name.clone(),
        needed: Bytes::new(u64::try_from(needed).unwrap_or(u64::MAX)),
    }
}

/// `parts` of `of` parts.
fn share(bytes: Bytes, parts: u64, of: u64) -> Bytes {
    part(bytes, Bytes::new(parts), Bytes::new(of))
}

/// As much of `bytes` as `weight` is of `all`; nothing where `all` is nothing.
fn part(bytes: Bytes, weight: Bytes, all: Bytes) -> Bytes {
    let product = u128::from(bytes.get()) * u128::from(weight.get());
    let part = product
        .checked_div(u128::from(all.get()))
        .unwrap_or_default();
    // Past the end of the numbers only where the weight is more than all.
    Bytes::new(u64::try_from(part).unwrap_or(u64::MAX))
}

fn sum(amounts: impl Iterator<Item = Bytes>) -> Bytes {
    amounts.fold(Bytes::ZERO, |sum, bytes| {
        Bytes::new(sum.get().saturating_add(bytes.get()))
    })
}
