//! Making a machine of a kernel and an archive: what an init program does.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, ensure};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::stat::Mode;
use pool_core::Nanos;
use pool_core::clock::{Deadline, eventually};

/// `MODULE_INIT_COMPRESSED_FILE`: the kernel unpacks the file (`linux/module.h`).
const COMPRESSED: ModuleInitFlags = ModuleInitFlags::from_bits_retain(4);
/// Which modules there are; those below the line are loaded by scenarios.
const MODULES: &str = include_str!("../modules.txt");
/// The class of a memory device of CXL, as sysfs shows it.
const MEMORY_CLASS: &str = "0x050210";
/// Where the kernel's trace is.
pub(crate) const TRACE: &str = "/sys/kernel/tracing";
/// How long the driver may need for its devices, on a busy machine.
const PATIENCE: Nanos = Nanos::from_millis(60_000);

/// What the command line of the kernel asks for.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) scenario: String,
    /// Of this machine, among those of the scenario.
    pub(crate) name: String,
}

/// Mounts, loads, and waits for the devices.
pub(crate) fn prepare() -> anyhow::Result<Options> {
    for (kind, at) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/tmp"),
        ("tmpfs", "/run"),
        ("tracefs", TRACE),
    ] {
        show(kind, at)?;
    }
    nix::unistd::mkdir("/dev/shm", Mode::from_bits_truncate(0o777))?;
    show("tmpfs", "/dev/shm")?;
    for name in MODULES.lines().take_while(|line| *line != "---") {
        if !name.is_empty() && !name.starts_with('#') {
            load(name)?;
        }
    }
    await_devices()?;
    let line = fs::read_to_string("/proc/cmdline")?;
    let value = |key: &str| {
        let mut words = line.split_whitespace();
        let found = words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let found = found.map(str::to_owned);
        found.with_context(|| format!("the command line has no {key}"))
    };
    Ok(Options {
        scenario: value("scenario")?,
        name: value("name")?,
    })
}

/// Mounts a file system of the kernel's own.
pub(crate) fn show(kind: &str, at: &str) -> anyhow::Result<()> {
    let nothing: Option<&str> = None;
    mount(Some(kind), at, Some(kind), MsFlags::empty(), nothing)
        .with_context(|| format!("{at} is not mounted"))
}

/// Loads a module, unless it is there.
pub(crate) fn load(name: &str) -> anyhow::Result<()> {
    if Path::new("/sys/module").join(name).exists() {
        return Ok(());
    }
    let path = format!("/lib/modules/{name}.ko.xz");
    let file = File::open(&path).with_context(|| path.clone())?;
    finit_module(&file, c"", COMPRESSED).with_context(|| format!("{name} is not loaded"))
}

/// The driver looks for its devices meanwhile: waits until each has its endpoint.
fn await_devices() -> anyhow::Result<()> {
    let mut wanted = 0;
    for device in fs::read_dir("/sys/bus/pci/devices")? {
        let class = fs::read_to_string(device?.path().join("class"))?;
        wanted += usize::from(class.trim() == MEMORY_CLASS);
    }
    let found = || {
        let entries = fs::read_dir("/sys/bus/cxl/devices").ok()?;
        let names = entries.flatten().map(|entry| entry.file_name());
        let names = names.filter(|name| name.to_string_lossy().starts_with("endpoint"));
        (names.count() >= wanted).then_some(())
    };
    let came = eventually(Deadline::after(PATIENCE), found);
    ensure!(came.is_ok(), "not each of {wanted} devices has an endpoint");
    Ok(())
}

/// Ends the machine.
pub(crate) fn turn_off() -> ! {
    nix::unistd::sync();
    let Err(why) = reboot(RebootMode::RB_POWER_OFF);
    panic!("the machine does not turn off: {why}");
}
