//! What the doctor says of planted machines, and of this one.

use super::*;
use crate::discover::{HugePages, Node};
use tempfile::TempDir;

fn machine() -> Machine {
    Machine {
        memory_total: Bytes::new(1 << 34),
        memory_available: Bytes::new(1 << 33),
        memory_limit: None,
        nodes: Vec::new(),
        huge_pages: HugePages::default(),
        uid: 0,
        boot_id: String::new(),
        session_directory: None,
    }
}

fn plant(files: &[(&str, &str)]) -> TempDir {
    let root = TempDir::new().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

/// The verdict on `path` and what is said, with `files` below the root.
fn said(path: &str, files: &[(&str, &str)], machine: &Machine, text: &str) -> (String, String) {
    let config = Config::parse("t.toml", text).unwrap();
    let root = plant(files);
    let findings = examine_below(root.path(), machine, &config, "clients");
    let finding = findings
        .into_iter()
        .find(|finding| finding.path == path)
        .unwrap();
    (finding.verdict, finding.detail)
}

fn verdict(path: &str, files: &[(&str, &str)]) -> String {
    said(path, files, &machine(), "").0
}

#[test]
fn every_finding_has_a_verdict_and_says_something() {
    let machine = Machine::probe().unwrap();
    let config = Config::parse("t.toml", "").unwrap();
    let findings = examine(&machine, &config, "keeper");
    assert_eq!(findings.len(), 15);
    for Finding {
        path,
        verdict,
        detail,
    } in findings
    {
        assert!(
            ["works", "falls back", "off"].contains(&verdict.as_str()),
            "{path}: {verdict}"
        );
        assert!(detail.ends_with('.'), "{path}: {detail}");
    }
}

#[test]
fn a_bare_kernel_has_none_of_what_is_looked_up() {
    for path in ["CXL bus", "devdax", "GPU", "userfaultfd", "NUMA nodes"] {
        assert_eq!(verdict(path, &[]), "off", "{path}");
    }
    assert_eq!(verdict("mappings", &[]), "falls back");
}

#[test]
fn files_that_share_a_file_system_with_the_journal_are_told_of() {
    let folder = TempDir::new().unwrap();
    for name in ["state", "ssd"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    let text = format!(
        "[daemon]\nstate_dir = \"{0}/state\"\n[[tier]]\nname = \"t\"\n[[device]]\nname = \"d\"\n\
         tier = \"t\"\nkind = \"file\"\nsize = \"2 MiB\"\ndirectory = \"{0}/ssd\"\n",
        folder.path().display()
    );
    let (verdict, detail) = said("file systems", &[], &machine(), &text);
    assert_eq!(verdict, "falls back");
    assert!(detail.contains(" for d: "), "{detail}");
    assert_eq!(self::verdict("file systems", &[]), "off");
}

#[test]
fn devices_are_found_by_their_names() {
    let dax = [("dev/dax0.0", ""), ("dev/daxctl", "")];
    let (verdict, detail) = said("devdax", &dax, &machine(), "");
    assert_eq!(verdict, "falls back");
    assert!(detail.contains("dax0.0"), "{detail}");
    let gpus = [
        ("dev/nvidia0", ""),
        ("dev/nvidiactl", ""),
        ("dev/dri/renderD128", ""),
    ];
    let (verdict, detail) = said("GPU", &gpus, &machine(), "");
    assert_eq!(verdict, "falls back");
    assert!(detail.contains("nvidia0, renderD128 "), "{detail}");
}

#[test]
fn a_cxl_bus_works_where_memory_is_on_it() {
    assert_eq!(
        verdict("CXL bus", &[("sys/bus/cxl/devices/port1", "")]),
        "off"
    );
    assert_eq!(
        verdict("CXL bus", &[("sys/bus/cxl/devices/mem0", "")]),
        "works"
    );
}

#[test]
fn userfaultfd_works_by_device_by_sysctl_or_by_capability() {
    let sysctl = |value| ("proc/sys/vm/unprivileged_userfaultfd", value);
    let status = |set| ("proc/self/status", set);
    let without = status("CapEff:\t0000000000000000\n");
    assert_eq!(verdict("userfaultfd", &[("dev/userfaultfd", "")]), "works");
    assert_eq!(verdict("userfaultfd", &[sysctl("1\n"), without]), "works");
    assert_eq!(verdict("userfaultfd", &[sysctl("0\n"), without]), "off");
    let ptrace = status("Name:\tx\nCapEff:\t0000000000080000\n");
    assert_eq!(verdict("userfaultfd", &[sysctl("0\n"), ptrace]), "works");
}

#[test]
fn few_mappings_are_told_with_what_to_set() {
    let few = [("proc/sys/vm/max_map_count", "1000\n")];
    let (verdict, detail) = said("mappings", &few, &machine(), "");
    assert_eq!(verdict, "falls back");
    assert!(
        detail.contains("1000") && detail.contains("vm.max_map_count"),
        "{detail}"
    );
    let many = [("proc/sys/vm/max_map_count", "65530\n")];
    assert_eq!(said("mappings", &many, &machine(), "").0, "works");
}

#[test]
fn far_nodes_are_named_as_such() {
    let near = Node {
        id: 0,
        has_cpus: true,
        total: Bytes::new(1),
        free: Bytes::new(1),
    };
    let far = Node {
        id: 1,
        has_cpus: false,
        ..near
    };
    let machine = Machine {
        nodes: vec![near, far],
        ..machine()
    };
    let (verdict, detail) = said("NUMA nodes", &[], &machine, "");
    assert_eq!(verdict, "works");
    assert!(detail.contains("1 without"), "{detail}");
}

#[test]
fn a_private_session_socket_means_isolation_by_courtesy() {
    let private = "[daemon]\nsession_mode = \"0600\"";
    assert_eq!(
        said("separate user", &[], &machine(), private).0,
        "falls back"
    );
    assert_eq!(said("separate user", &[], &machine(), "").0, "works");
}

#[test]
fn descriptors_with_the_clients_alone_are_the_weakest_store() {
    let store = |store| descriptor_store(store).0;
    assert_eq!(
        (store("systemd"), store("keeper"), store("clients")),
        ("works", "works", "falls back")
    );
}
