//! Which paths of the platform work here, and what is done where one does not.
//!
//! What can be tried is tried, with the very code that the daemon uses, on scratch memory that is
//! gone at once: pages, the proof of release, io_uring. What cannot is looked up below one root,
//! `/` or a test's folder that stands for it. Nothing is changed by a look.

#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use io_uring::IoUring;
use nix::sys::resource::{Resource, getrlimit};
use pool_core::limits::CLIENT_SEGMENTS_MAX;
use pool_core::{BackingId, Bytes, EXTENT_BYTES};
use pool_proto::admin::v1::Finding;
use pool_proto::common::v1::Pages;

use crate::config::{Config, DeviceKind, PagePolicy};
use crate::device::memfd::MemfdDevice;
use crate::device::{Device as _, Place};
use crate::discover::Machine;

/// The mappings that a client needs which holds all the segments it may, and as many again for
/// everything else in it.
const MAPPINGS_WANTED: u64 = 2 * CLIENT_SEGMENTS_MAX as u64;
/// Descriptors for a pool of ordinary size: one for each backing, a few for each client. As many as
/// the service's unit asks for.
const DESCRIPTORS_WANTED: u64 = 524_288;
/// Which bit of the capabilities lets a process make a userfaultfd that sees the kernel's faults.
const CAP_SYS_PTRACE: u32 = 19;

/// What there is to say about one path: a verdict, and a detail.
type Said = (&'static str, String);

/// It is there and does what it should.
fn works(detail: impl Into<String>) -> Said {
    ("works", detail.into())
}

/// Something weaker does its work.
fn falls_back(detail: impl Into<String>) -> Said {
    ("falls back", detail.into())
}

/// It is not there, and nothing stands for it.
fn off(detail: impl Into<String>) -> Said {
    ("off", detail.into())
}

/// Looks at every path of the platform on `machine`, with what `config` needs and with the
/// descriptor store that is in use: `systemd`, `keeper` or `clients`.
#[must_use]
pub fn examine(machine: &Machine, config: &Config, store: &str) -> Vec<Finding> {
    examine_below(Path::new("/"), machine, config, store)
}

fn examine_below(root: &Path, machine: &Machine, config: &Config, store: &str) -> Vec<Finding> {
    let findings = [
        ("huge pages (hugetlb)", hugetlb(machine)),
        ("huge pages (collapse)", collapsed()),
        ("proof of release", proof_of_release()),
        ("separate user", separate_user(machine, config)),
        ("descriptor store", descriptor_store(store)),
        ("journal", journal(config)),
        ("file systems", file_systems(config)),
        ("descriptors", descriptors()),
        ("mappings", mappings(root)),
        ("NUMA nodes", numa(machine)),
        ("CXL bus", cxl(root)),
        ("devdax", devdax(root)),
        ("GPU", gpu(root)),
        ("userfaultfd", userfaultfd(root)),
        ("io_uring", uring()),
    ];
    let finding = |(path, (verdict, detail)): (&str, Said)| Finding {
        path: path.to_owned(),
        verdict: verdict.to_owned(),
        detail,
    };
    findings.into_iter().map(finding).collect()
}

/// Builds a scratch file of one extent with `policy`; tells the pages it got.
fn scratch_pages(policy: PagePolicy) -> Result<Pages, String> {
    let device = MemfdDevice::new(policy, None, Bytes::ZERO).map_err(|error| error.to_string())?;
    let built = device.build(
        BackingId::FIRST,
        Place::anywhere(Bytes::new(EXTENT_BYTES)),
        false,
    );
    built
        .map(|built| built.pages)
        .map_err(|error| error.to_string())
}

fn hugetlb(machine: &Machine) -> Said {
    let (free, total) = (machine.huge_pages.free, machine.huge_pages.total);
    match scratch_pages(PagePolicy::Hugetlb) {
        Ok(_) => works(format!(
            "{free} of {total} pages of 2 MiB were free at the start."
        )),
        Err(reason) => falls_back(format!(
            "To pages that the kernel puts together: {reason}. Reserve some by vm.nr_hugepages, \
             best at boot."
        )),
    }
}

fn collapsed() -> Said {
    match scratch_pages(PagePolicy::Collapsed) {
        Ok(Pages::Collapsed) => works("The kernel put a page of 2 MiB together."),
        Ok(_) => falls_back(
            "To pages of 4 KiB: the kernel put none together. It takes Linux 6.1 with \
             CONFIG_TRANSPARENT_HUGEPAGE, and memory that is not all in pieces.",
        ),
        Err(reason) => falls_back(format!("To pages of 4 KiB: {reason}.")),
    }
}

fn proof_of_release() -> Said {
    // To set a device up is to try it: a bare mapping must be seen, and be seen to go.
    match MemfdDevice::new(PagePolicy::Base, None, Bytes::ZERO) {
        Ok(_) => works("The kernel tells when nobody has a file any more (F_SETLEASE)."),
        Err(error) => off(format!(
            "Freed memory cannot be given to others: {error}. Set fs.leases-enable=1."
        )),
    }
}

fn separate_user(machine: &Machine, config: &Config) -> Said {
    let uid = machine.uid;
    if config.daemon.session_mode & 0o066 == 0 {
        return falls_back(format!(
            "To courtesy: only clients of the daemon's own user {uid} can attach, and those can \
             reopen whatever it owns. Run it as a user of its own, with session_mode = \"0666\"."
        ));
    }
    works(format!(
        "Clients of other users get no more than they are granted. Those of the daemon's own user, \
         {uid}, are held by courtesy only."
    ))
}

fn descriptor_store(store: &str) -> Said {
    match store {
        "systemd" => works("The service manager holds granted files for a dead daemon."),
        "keeper" => works(
            "A process of the daemon's holds granted files for a dead daemon, until it is itself \
             killed.",
        ),
        _ => falls_back(
            "To the clients: what none of them has attached is lost with the daemon. Set \
             daemon.descriptor_store = \"auto\".",
        ),
    }
}

fn journal(config: &Config) -> Said {
    works(if config.is_persistent() {
        "A commit survives the machine's power, as some of the memory does."
    } else {
        "A commit survives the death of the daemon, and ends with the machine, as the memory does."
    })
}

/// Whether what clients may write to shares a file system with what they shall not fill.
fn file_systems(config: &Config) -> Said {
    let file_system = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
    let precious = [config.daemon.state_dir.as_path(), Path::new("/")].map(file_system);
    let directories = config
        .devices
        .iter()
        .filter_map(|device| match &device.kind {
            DeviceKind::File { directory } => Some((&device.name, file_system(directory))),
            DeviceKind::Memfd { .. } | DeviceKind::Fabric(_) | DeviceKind::Cxl(_) => None,
        });
    let (own, shared): (Vec<_>, Vec<_>) =
        directories.partition(|(_, found)| !precious.contains(found));
    let names = |devices: &[(&String, _)]| {
        let names: Vec<_> = devices.iter().map(|(name, _)| name.as_str()).collect();
        names.join(", ")
    };
    match (own.as_slice(), shared.as_slice()) {
        ([], []) => off("There is no device of kind file."),
        (own, []) => works(format!("{} have one of their own.", names(own))),
        (_, shared) => falls_back(format!(
            "To one with the journal or the system for {}: who may write a segment there can make \
             its file longer, and fill it. Give each a file system of its own.",
            names(shared)
        )),
    }
}

fn descriptors() -> Said {
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, most)) if most >= DESCRIPTORS_WANTED => works(format!("Up to {most} can be open.")),
        Ok((_, most)) => falls_back(format!(
            "To at most {most} open files, one a backing. Set LimitNOFILE={DESCRIPTORS_WANTED} for \
             the service, or ulimit -n."
        )),
        Err(errno) => falls_back(format!("To an unknown limit of open files: {errno}.")),
    }
}

fn mappings(root: &Path) -> Said {
    match number(&root.join("proc/sys/vm/max_map_count")) {
        Some(most) if most >= MAPPINGS_WANTED => works(format!("A process can have {most}.")),
        Some(most) => falls_back(format!(
            "To {most} mappings in a process, and fewer segments in a client. Set \
             vm.max_map_count={MAPPINGS_WANTED} or more."
        )),
        None => falls_back("To an unknown limit: vm.max_map_count cannot be read."),
    }
}

fn numa(machine: &Machine) -> Said {
    let (near, far) = (machine.near_nodes().count(), machine.far_nodes().count());
    match (near, far) {
        (0 | 1, 0) => off("There is one node, and nothing to choose between."),
        (_, 0) => works(format!(
            "{near} nodes with CPUs. numa_node binds a device to one."
        )),
        _ => works(format!(
            "{near} nodes with CPUs and {far} without, which are far memory. numa_node binds a \
             device to one."
        )),
    }
}

fn cxl(root: &Path) -> Said {
    let devices = entries(&root.join("sys/bus/cxl/devices"), "mem");
    match (root.join("sys/bus/cxl").exists(), devices.as_slice()) {
        (false, _) => off("There is no CXL bus. Load cxl_core where the platform has one."),
        (true, []) => off("The CXL bus has no memory devices."),
        (true, _) => works(format!(
            "It has {}. Once that is online as a NUMA node, numa_node names it.",
            devices.join(", ")
        )),
    }
}

fn devdax(root: &Path) -> Said {
    match entries(&root.join("dev"), "dax").as_slice() {
        [] => off("There is no /dev/dax*."),
        devices => falls_back(format!(
            "To NUMA nodes: {} can be no device of the pool as it is. Bring it online by daxctl \
             reconfigure-device --mode=system-ram.",
            devices.join(", ")
        )),
    }
}

fn gpu(root: &Path) -> Said {
    let mut cards = entries(&root.join("dev"), "nvidia");
    // Not nvidiactl and its like.
    cards.retain(|name| name.ends_with(|last: char| last.is_ascii_digit()));
    cards.extend(entries(&root.join("dev"), "kfd"));
    cards.extend(entries(&root.join("dev/dri"), "renderD"));
    match cards.as_slice() {
        [] => off("There is no /dev/nvidia*, /dev/kfd or /dev/dri/renderD*: hbm is emulated."),
        _ => falls_back(format!(
            "To emulated hbm: {} can be no device of the pool in this version.",
            cards.join(", ")
        )),
    }
}

fn userfaultfd(root: &Path) -> Said {
    let device = root.join("dev/userfaultfd");
    let error = match File::options().read(true).write(true).open(device) {
        Ok(_) => return works("/dev/userfaultfd opens. Nothing uses it in this version."),
        Err(error) => error,
    };
    match number(&root.join("proc/sys/vm/unprivileged_userfaultfd")) {
        None => off("The kernel has none. Nothing uses it in this version."),
        Some(allowed) if allowed == 1 || has_capability(root, CAP_SYS_PTRACE) => {
            works("By its system call. Nothing uses it in this version.")
        }
        Some(_) => off(format!(
            "/dev/userfaultfd: {error}. Give it to the daemon's user by an udev rule. Nothing uses \
             it in this version."
        )),
    }
}

fn uring() -> Said {
    match IoUring::new(1) {
        Ok(_) => works("A ring could be set up. Nothing uses one in this version."),
        Err(error) => off(format!(
            "{error}. Set kernel.io_uring_disabled=0. Nothing uses it in this version."
        )),
    }
}

/// Whether this process has a capability.
fn has_capability(root: &Path, capability: u32) -> bool {
    let status = fs::read_to_string(root.join("proc/self/status")).unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    set.is_some_and(|set| set & (1 << capability) != 0)
}

/// The number in a file, or `None` where it cannot be had.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// What lies in `directory` under names with `prefix`, in order; nothing where it cannot be read.
fn entries(directory: &Path, prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let mut found: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests;
