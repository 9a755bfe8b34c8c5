//! How a test wants its daemon: a small pool, and what differs from it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::EXTENT;

/// A device of a test's pool.
#[derive(Debug, Clone)]
pub struct DeviceSetup {
    /// Its name.
    pub name: &'static str,
    /// Its tier.
    pub tier: &'static str,
    /// Its size.
    pub mib: u64,
}

/// A device whose memory comes from a fabric: it asks for 8 extents at once, and more where fewer
/// than 4 are free; beyond 16 they lie idle.
#[derive(Debug, Clone)]
pub struct FabricSetup {
    /// Where it is served.
    pub directory: PathBuf,
    /// The number of this host, and of the logical device that is its way in.
    pub host: u16,
    /// The region of the pooled device.
    pub region: u8,
    /// The most it may be.
    pub extents: u64,
    /// The most that groups may be: a device `common0` of tier `common`, where that is any.
    pub groups: u64,
    /// How long free memory lies idle before it goes back.
    pub idle_ms: u64,
    /// How long the device may be out of reach before it is taken for lost.
    pub patience_ms: u64,
}

/// The configuration of a daemon under test.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The memory: by default one small device in each of `hbm`, `ddr` and `pooled`.
    pub devices: Vec<DeviceSetup>,
    /// Where the window begins, if not where it does by default.
    pub window_base: Option<u64>,
    /// How large the window is, where its base is said; the daemon's default where it is not.
    pub window_bytes: Option<u64>,
    /// The NUMA node that the memory is bound to, if any.
    pub numa_node: Option<u32>,
    /// Where descriptors wait: `keeper` or `clients`.
    pub store: &'static str,
    /// What a clean stop does: `keep` or `release`.
    pub on_stop: &'static str,
    /// How long a restarted daemon waits for its clients.
    pub grace_ms: u64,
    /// How long tenants have to give burst memory back.
    pub pressure_ms: u64,
    /// A device `far0` of tier `far`, whose memory comes from a fabric.
    pub fabric: Option<FabricSetup>,
    /// Tenants and operators, as they stand in the file: `[[tenant]]` sections.
    pub tenants: String,
    /// Variables of the daemon's environment.
    pub environment: Vec<(&'static str, String)>,
}

/// Whether the machine has nodes that memory can be bound to.
#[must_use]
pub fn has_nodes() -> bool {
    Path::new("/sys/devices/system/node/node0").exists()
}

impl Setup {
    /// A small pool of two tiers whose memory is bound to a node, where there are any: binding is a
    /// call of its own.
    #[must_use]
    pub fn of_two_tiers() -> Self {
        let device = |name, tier| DeviceSetup {
            name,
            tier,
            mib: 16,
        };
        Self {
            devices: vec![device("ddr0", "ddr"), device("pooled0", "pooled")],
            numa_node: has_nodes().then_some(0),
            ..Self::default()
        }
    }
}

impl Default for Setup {
    fn default() -> Self {
        let device = |name, tier, mib| DeviceSetup { name, tier, mib };
        Self {
            devices: vec![
                device("hbm0", "hbm", 64),
                device("ddr0", "ddr", 256),
                device("pooled0", "pooled", 128),
            ],
            window_base: None,
            window_bytes: None,
            numa_node: None,
            store: "keeper",
            on_stop: "keep",
            grace_ms: 10_000,
            pressure_ms: 200,
            fabric: None,
            tenants: String::new(),
            environment: Vec::new(),
        }
    }
}

impl Setup {
    /// One device alone, `dev0` of tier `ddr`: for tests that start many daemons, or fill one.
    #[must_use]
    pub fn small(mib: u64) -> Self {
        let devices = vec![DeviceSetup {
            name: "dev0",
            tier: "ddr",
            mib,
        }];
        Self {
            devices,
            ..Self::default()
        }
    }

    /// With one more device.
    #[must_use]
    pub fn and_device(mut self, name: &'static str, tier: &'static str, mib: u64) -> Self {
        self.devices.push(DeviceSetup { name, tier, mib });
        self
    }

    /// On a kernel before Linux 6.16, whose sockets cannot refuse descriptors.
    #[must_use]
    pub fn on_an_older_kernel(self) -> Self {
        self.with("TIERPOOL_FAIL", "setsockopt:1:ENOPROTOOPT:persistent")
    }

    /// With a variable in the daemon's environment.
    #[must_use]
    pub fn with(mut self, variable: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((variable, value.into()));
        self
    }

    /// The configuration file.
    pub(crate) fn to_toml(&self) -> String {
        let mut text = format!(
            "[daemon]\n\
             descriptor_store = \"{}\"\n\
             on_stop = \"{}\"\n\
             reattach_grace_ms = {}\n\
             pressure_deadline_ms = {}\n\
             memory_floor = \"64 MiB\"\n",
            self.store, self.on_stop, self.grace_ms, self.pressure_ms
        );
        if let Some(base) = self.window_base {
            put(&mut text, format_args!("[window]\nbase = \"{base:#x}\"\n"));
            if let Some(bytes) = self.window_bytes {
                put(&mut text, format_args!("size = \"{} MiB\"\n", bytes >> 20));
            }
        }
        let mut tiers: Vec<&str> = self.devices.iter().map(|device| device.tier).collect();
        tiers.dedup();
        let (far, groups) = self
            .fabric
            .as_ref()
            .map_or((0, 0), |it| (it.extents, it.groups));
        tiers.extend((far > 0).then_some("far"));
        tiers.extend((groups > 0).then_some("common"));
        for tier in tiers {
            put(&mut text, format_args!("[[tier]]\nname = \"{tier}\"\n"));
        }
        for DeviceSetup { name, tier, mib } in &self.devices {
            put(
                &mut text,
                format_args!(
                    "[[device]]\nname = \"{name}\"\ntier = \"{tier}\"\nsize = \"{mib} MiB\"\n\
                     kind = \"memfd\"\npages = \"base\"\nemulated = true\n"
                ),
            );
            if let Some(node) = self.numa_node {
                put(&mut text, format_args!("numa_node = {node}\n"));
            }
        }
        if let Some(fabric) = &self.fabric {
            fabric.print(&mut text);
        }
        text.push_str(&self.tenants);
        text
    }
}

impl FabricSetup {
    fn print(&self, text: &mut String) {
        let Self {
            directory,
            host,
            region,
            extents,
            groups,
            idle_ms,
            patience_ms,
        } = self;
        let directory = directory.display();
        let mut device = |name: &str, tier: &str, extents: u64, rest: String| {
            let mib = (extents * EXTENT) >> 20;
            put(
                text,
                format_args!(
                    "[[device]]\nname = \"{name}\"\ntier = \"{tier}\"\nsize = \"{mib} MiB\"\n\
                     kind = \"fabric\"\ndirectory = \"{directory}\"\nhost = {host}\nld = {host}\n\
                     patience_ms = {patience_ms}\n{rest}"
                ),
            );
        };
        if *extents > 0 {
            let ahead = "step = \"16 MiB\"\nlow = \"8 MiB\"\nhigh = \"32 MiB\"\n";
            device(
                "far0",
                "far",
                *extents,
                format!("{ahead}region = {region}\nidle_ms = {idle_ms}\n"),
            );
        }
        if *groups > 0 {
            device(
                "common0",
                "common",
                *groups,
                "region = 1\nshared = true\n".to_owned(),
            );
        }
    }
}

fn put(text: &mut String, part: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = text.write_fmt(part);
}
