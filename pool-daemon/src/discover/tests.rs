//! Planted machines, and this one.

use super::*;
use pool_core::units::{GIB, MIB};
use tempfile::TempDir;

const BOOT: &str = "6f0d2a5e-3d0c-4c1a-9a51-0d9f7a3f2b11";

fn plant(files: &[(&str, &str)]) -> TempDir {
    let root = TempDir::new().unwrap();
    let always = [
        (
            "proc/meminfo",
            "MemTotal: 8388608 kB\nMemFree: 1 kB\nMemAvailable: 4194304 kB\n",
        ),
        ("proc/sys/kernel/random/boot_id", &format!("{BOOT}\n")),
    ];
    for (path, text) in always.iter().chain(files) {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn probed(files: &[(&str, &str)]) -> Machine {
    Machine::probe_below(plant(files).path()).unwrap()
}

#[test]
fn a_bare_kernel_has_memory_and_nothing_else() {
    let machine = probed(&[]);
    assert_eq!(machine.memory_total, Bytes::new(8 * GIB));
    assert_eq!(machine.memory_available, Bytes::new(4 * GIB));
    assert_eq!(machine.memory_limit, None);
    assert_eq!(machine.nodes, []);
    assert_eq!(machine.huge_pages, HugePages::default());
    assert_eq!(machine.boot_id, BOOT);
}

#[test]
fn this_machine_can_be_looked_at() {
    let machine = Machine::probe().unwrap();
    assert!(machine.memory_total >= machine.memory_available);
    assert_eq!(machine.boot_id.len(), 36);
}

#[test]
fn a_node_without_cpus_is_far_memory_and_one_without_memory_is_none() {
    let machine = probed(&[
        (
            "sys/devices/system/node/node1/meminfo",
            "Node 1 MemTotal: 2097152 kB\nNode 1 MemFree: 1048576 kB\n",
        ),
        ("sys/devices/system/node/node1/cpulist", "\n"),
        (
            "sys/devices/system/node/node0/meminfo",
            "Node 0 MemTotal: 4194304 kB\nNode 0 MemFree: 2097152 kB\n",
        ),
        ("sys/devices/system/node/node0/cpulist", "0-3,8\n"),
        (
            "sys/devices/system/node/node10/meminfo",
            "Node 10 MemTotal: 0 kB\nNode 10 MemFree: 0 kB\n",
        ),
        ("sys/devices/system/node/node10/cpulist", "4\n"),
        ("sys/devices/system/node/has_cpu", "0\n"),
    ]);
    let near = Node {
        id: 0,
        has_cpus: true,
        total: Bytes::new(4 * GIB),
        free: Bytes::new(2 * GIB),
    };
    let far = Node {
        id: 1,
        has_cpus: false,
        total: Bytes::new(2 * GIB),
        free: Bytes::new(GIB),
    };
    assert_eq!(machine.nodes, [near, far]);
    assert_eq!(machine.far_nodes().collect::<Vec<_>>(), [&far]);
    assert_eq!(machine.near_nodes().collect::<Vec<_>>(), [&near]);
}

#[test]
fn huge_pages_are_counted() {
    let machine = probed(&[
        (
            "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
            "64\n",
        ),
        (
            "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
            "60\n",
        ),
    ]);
    assert_eq!(
        machine.huge_pages,
        HugePages {
            total: 64,
            free: 60
        }
    );
}

#[test]
fn the_tightest_group_above_us_is_the_limit() {
    let machine = probed(&[
        ("proc/self/cgroup", "0::/a.slice/b.service\n"),
        ("sys/fs/cgroup/a.slice/memory.max", "1073741824\n"),
        ("sys/fs/cgroup/a.slice/b.service/memory.max", "max\n"),
    ]);
    assert_eq!(machine.memory_limit, Some(Bytes::new(GIB)));
}

#[test]
fn groups_of_version_1_limit_too_and_a_huge_number_is_no_limit() {
    let groups = ("proc/self/cgroup", "9:cpu:/x\n4:memory,cpuset:/a/b\n0::/\n");
    let machine = probed(&[
        groups,
        (
            "sys/fs/cgroup/memory/memory.limit_in_bytes",
            "9223372036854771712\n",
        ),
        (
            "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
            "536870912\n",
        ),
    ]);
    assert_eq!(machine.memory_limit, Some(Bytes::new(512 * MIB)));
    let root = (
        "sys/fs/cgroup/memory/memory.limit_in_bytes",
        "9223372036854771712\n",
    );
    assert_eq!(probed(&[groups, root]).memory_limit, None);
}

#[test]
fn what_every_linux_has_must_be_there_and_be_understood() {
    let root = plant(&[]);
    fs::remove_file(root.path().join("proc/meminfo")).unwrap();
    assert!(matches!(
        Machine::probe_below(root.path()),
        Err(ProbeError::Read { .. })
    ));
    for (path, text) in [
        ("proc/meminfo", "MemTotal: 1 kB\n"),
        ("proc/meminfo", "MemTotal: x kB\nMemAvailable: 1 kB\n"),
        (
            "sys/devices/system/node/node0/meminfo",
            "Node 0 MemTotal: 1 kB\n",
        ),
        (
            "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
            "many\n",
        ),
        ("sys/fs/cgroup/memory.max", "little\n"),
    ] {
        let root = plant(&[("proc/self/cgroup", "0::/\n"), (path, text)]);
        let error = Machine::probe_below(root.path()).unwrap_err();
        let ProbeError::Missing { path: named, .. } = &error else {
            panic!("{error}")
        };
        assert!(named.ends_with(path), "{error}");
    }
}
