//! What a configuration may be, and what is said of one that may not.

mod pages;
mod refused;

use std::path::{Path, PathBuf};

use pool_core::units::{GIB, MIB, TIB};
use pool_core::{Bytes, Extents, Nanos, PoolAddr, WindowRange};
use pool_daemon::config::{
    Config, ConfigError, CxlMode, CxlSource, DeviceSpec, DirectoryError, OnStop, PagePolicy,
};
use pool_daemon::discover::{HugePages, Machine, Node};
use pool_daemon::engine::plan::{Amount, Quota};
use proptest::prelude::*;

fn machine() -> Machine {
    Machine {
        memory_total: Bytes::new(16 * GIB),
        memory_available: Bytes::new(8 * GIB),
        memory_limit: None,
        nodes: vec![near(0, 8)],
        huge_pages: HugePages::default(),
        uid: 0,
        boot_id: "6f0d2a5e-3d0c-4c1a-9a51-0d9f7a3f2b11".into(),
        session_directory: None,
    }
}

fn near(id: u32, free_gib: u64) -> Node {
    Node {
        id,
        has_cpus: true,
        total: Bytes::new(16 * GIB),
        free: Bytes::new(free_gib * GIB),
    }
}

fn far(id: u32, free_gib: u64) -> Node {
    Node {
        has_cpus: false,
        ..near(id, free_gib)
    }
}

/// Two tiers on two devices.
const POOL: &str = r#"
[[tier]]
name = "ddr"
[[tier]]
name = "far"
[[device]]
name = "ddr0"
tier = "ddr"
kind = "memfd"
size = "1 GiB"
emulated = false
[[device]]
name = "far0"
tier = "far"
kind = "file"
size = "2 GiB"
directory = "/mnt/far"
"#;

#[test]
fn a_runtime_directory_has_one_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Config::parse("t.toml", "").unwrap().daemon;
    daemon.runtime_dir = folder.path().join("run");
    daemon.state_dir = folder.path().join("state");
    daemon.make_directories().unwrap();
    let first = daemon.lock_runtime_dir().unwrap();
    let second = daemon.lock_runtime_dir().unwrap_err();
    assert!(matches!(second, DirectoryError::InUse { .. }), "{second}");
    drop(first);
    daemon.lock_runtime_dir().unwrap();
}

#[test]
fn an_empty_file_is_a_system_service_on_the_pool_of_the_machine() {
    let config = Config::parse("t.toml", "").unwrap();
    let daemon = &config.daemon;
    assert_eq!(
        daemon.session_socket,
        Path::new("/run/tierpool/session.sock")
    );
    assert_eq!(daemon.admin_socket, Path::new("/run/tierpool/admin.sock"));
    assert_eq!(daemon.state_dir, Path::new("/var/lib/tierpool"));
    assert_eq!(daemon.session_mode, 0o666);
    assert_eq!(daemon.memory_floor, Bytes::new(GIB));
    assert_eq!(
        (config.grpc.is_some(), config.metrics_listen),
        (false, None)
    );
    let (plan, specs) = config.plan(&machine()).unwrap();
    let (default, _) = Config::default_for(&machine())
        .unwrap()
        .plan(&machine())
        .unwrap();
    assert_eq!(plan.devices, default.devices);
    assert_eq!(plan.reattach_grace, Nanos::from_millis(10_000));
    assert_eq!(specs.len(), plan.devices.len());
    assert!(plan.tenancy.admit_unlisted);
    let quota = Quota {
        request: Amount::Percent(0),
        limit: Amount::Percent(100),
    };
    assert!(
        plan.tenancy
            .default_quotas
            .values()
            .all(|&found| found == quota)
    );
    let tiers: Vec<_> = plan
        .tenancy
        .default_quotas
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(tiers, ["ddr", "hbm", "pooled"]);
}

#[test]
fn half_the_memory_to_spare_becomes_the_pool_by_default() {
    let (plan, specs) = Config::default_for(&machine())
        .unwrap()
        .plan(&machine())
        .unwrap();
    let found: Vec<_> = plan
        .devices
        .iter()
        .map(|device| {
            (
                device.name.as_str(),
                device.tier.as_str(),
                device.extents.get(),
                device.emulated,
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("hbm0", "hbm", 256, true),
            ("ddr0", "ddr", 1024, false),
            ("pooled0", "pooled", 768, true)
        ]
    );
    assert!(
        plan.devices
            .iter()
            .all(|device| device.sealed && !device.persistent && device.kind == "memfd")
    );
    let spec = DeviceSpec::Memfd {
        pages: PagePolicy::Auto,
        numa_node: None,
        size: Bytes::new(GIB / 2),
    };
    assert_eq!(specs[0], spec);
    assert_eq!(
        plan.tiers
            .iter()
            .map(|tier| tier.name.as_str())
            .collect::<Vec<_>>(),
        ["hbm", "ddr", "pooled"]
    );
}

#[test]
fn a_control_group_with_less_makes_a_smaller_pool() {
    let machine = Machine {
        memory_limit: Some(Bytes::new(4 * GIB)),
        ..machine()
    };
    let (plan, _) = Config::default_for(&machine)
        .unwrap()
        .plan(&machine)
        .unwrap();
    let extents: Vec<_> = plan.devices.iter().map(|device| device.extents).collect();
    assert_eq!(
        extents,
        [Extents::new(128), Extents::new(512), Extents::new(384)]
    );
}

#[test]
fn each_node_with_cpus_has_a_device_as_large_as_its_part() {
    let machine = Machine {
        nodes: vec![near(0, 6), near(2, 2)],
        ..machine()
    };
    let (plan, _) = Config::default_for(&machine)
        .unwrap()
        .plan(&machine)
        .unwrap();
    let found: Vec<_> = plan
        .devices
        .iter()
        .filter(|device| device.tier == "ddr")
        .map(|device| {
            (
                device.name.as_str(),
                device.numa_node,
                device.extents.get(),
                device.emulated,
            )
        })
        .collect();
    assert_eq!(
        found,
        [("ddr0", Some(0), 768, false), ("ddr2", Some(2), 256, false)]
    );
}

#[test]
fn far_memory_is_pooled_and_not_emulated() {
    let machine = Machine {
        memory_available: Bytes::new(24 * GIB),
        memory_total: Bytes::new(48 * GIB),
        nodes: vec![near(0, 8), far(1, 16)],
        ..machine()
    };
    let (plan, specs) = Config::default_for(&machine)
        .unwrap()
        .plan(&machine)
        .unwrap();
    let found: Vec<_> = plan
        .devices
        .iter()
        .map(|device| {
            (
                device.tier.as_str(),
                device.numa_node,
                device.extents.get(),
                device.emulated,
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("hbm", None, 256, true),
            ("ddr", None, 1792, false),
            ("pooled", Some(1), 4096, false)
        ]
    );
    let size = Bytes::new(8 * GIB);
    assert_eq!(
        specs[2],
        DeviceSpec::Memfd {
            pages: PagePolicy::Auto,
            numa_node: Some(1),
            size
        }
    );

    let limited = Machine {
        memory_limit: Some(Bytes::new(8 * GIB)),
        ..machine
    };
    let (plan, _) = Config::default_for(&limited)
        .unwrap()
        .plan(&limited)
        .unwrap();
    let all: u64 = plan
        .devices
        .iter()
        .map(|device| device.extents.bytes().get())
        .sum();
    assert_eq!(all, 4 * GIB, "half of what the group allows");
}

#[test]
fn devices_that_nobody_configured_keep_their_sizes_whatever_is_free_later() {
    for config in [
        Config::without_file(&machine()).unwrap(),
        Config::parse("t.toml", "").unwrap(),
    ] {
        let (first, _) = config.plan(&machine()).unwrap();
        let sizes = first
            .devices
            .iter()
            .map(|device| (device.name.clone(), device.extents.bytes()));
        let used_up = Machine {
            memory_available: Bytes::new(MIB),
            ..machine()
        };
        let (second, _) = config.plan_again(&used_up, &sizes.collect()).unwrap();
        assert_eq!(second.devices, first.devices);
        config.plan(&used_up).unwrap_err();
    }
}

#[test]
fn a_machine_with_too_little_is_told_what_it_takes() {
    let with = |mib| Machine {
        memory_available: Bytes::new(mib * MIB),
        ..machine()
    };
    let error = Config::default_for(&with(511)).unwrap_err();
    let ConfigError::MachineTooSmall {
        spare,
        device,
        needed,
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!((*spare, device.as_str()), (Bytes::new(511 * MIB), "hbm0"));
    assert!(needed.get().abs_diff(512 * MIB) < MIB, "{error}");
    Config::default_for(&with(512)).unwrap();
    Config::default_for(&with(0)).unwrap_err();
    Config::parse("t.toml", "")
        .unwrap()
        .plan(&with(0))
        .unwrap_err();
}

#[test]
fn a_user_without_a_file_has_private_directories() {
    let user = Machine {
        uid: 1000,
        ..machine()
    };
    let daemon = Config::default_for(&user).unwrap().daemon;
    assert_eq!(daemon.runtime_dir, Path::new("/tmp/tierpool-1000"));
    assert_eq!(daemon.state_dir, Path::new("/tmp/tierpool-1000/state"));
    assert_eq!(daemon.session_mode, 0o600);
    let session = Some(PathBuf::from("/run/user/1000"));
    let user = Machine {
        session_directory: session,
        ..user
    };
    let daemon = Config::default_for(&user).unwrap().daemon;
    assert_eq!(
        daemon.session_socket,
        Path::new("/run/user/1000/tierpool/session.sock")
    );
}

/// Every key that [`POOL`] leaves out, none with its default.
const OTHER_KEYS: &str = r#"
[daemon]
runtime_dir = "/r"
state_dir = "/s"
session_socket = "/r/a"
admin_socket = "/r/b"
session_mode = "0660"
descriptor_store = "clients"
on_stop = "release"
reattach_grace_ms = 5
pressure_deadline_ms = 6
memory_floor = "64 MiB"
operators = [1, 2]
log = "warn,pool_daemon::engine=debug"
log_format = "json"
[window]
base = "0x1000_0000_0000"
size = "1 TiB"
[[tenant]]
name = "a"
uids = [7]
gids = [8]
[tenant.quota.ddr]
request = "25%"
limit = "1 GiB"
[default_tenant]
admit_unlisted = false
[default_tenant.quota.far]
limit = "10 %"
[grpc]
tcp_listen = "[::1]:7411"
cert = "/c"
key = "/k"
client_ca = "/a"
[metrics]
listen = "0.0.0.0:9464"
allow_remote = true
"#;

#[test]
fn every_key_is_taken() {
    let text = format!("{POOL}{OTHER_KEYS}");
    let config = Config::parse("t.toml", &text).unwrap();
    assert_eq!(config.daemon.runtime_dir, Path::new("/r"));
    assert_eq!(config.daemon.session_socket, Path::new("/r/a"));
    assert_eq!(config.daemon.session_mode, 0o660);
    assert_eq!(config.daemon.on_stop, OnStop::Release);
    assert_eq!(config.daemon.operators, [1, 2]);
    assert_eq!(config.metrics_listen, Some("0.0.0.0:9464".parse().unwrap()));
    assert_eq!(config.grpc.as_ref().unwrap().client_ca, Path::new("/a"));
    assert!(config.is_persistent());
    let (plan, specs) = config.plan(&machine()).unwrap();
    let window = WindowRange::new(PoolAddr::new(1 << 44), Bytes::new(TIB)).unwrap();
    assert_eq!(plan.window, window);
    assert_eq!(plan.pressure_deadline, Nanos::from_millis(6));
    assert!(!plan.tenancy.admit_unlisted);
    let (file, memfd) = (&plan.devices[1], &plan.devices[0]);
    assert_eq!(
        (file.kind, file.persistent, file.sealed),
        ("file", true, false)
    );
    assert_eq!(
        (memfd.kind, memfd.persistent, memfd.sealed),
        ("memfd", false, true)
    );
    let directory = PathBuf::from("/mnt/far");
    assert_eq!(
        specs[1],
        DeviceSpec::File {
            directory,
            size: Bytes::new(2 * GIB)
        }
    );
    let tenant = &plan.tenancy.tenants[0];
    let ddr = Quota {
        request: Amount::Percent(25),
        limit: Amount::Bytes(Bytes::new(GIB)),
    };
    assert_eq!(
        tenant.quotas.iter().collect::<Vec<_>>(),
        [(&"ddr".to_owned(), &ddr)]
    );
    let far = Quota {
        request: Amount::Percent(0),
        limit: Amount::Percent(10),
    };
    assert_eq!(plan.tenancy.default_quotas["far"], far);
    reads_as_printed(&config);
}

#[test]
fn cxl_memory_is_known_by_the_serial_numbers_of_its_devices() {
    let text = "[[tier]]\nname = \"pooled\"\n\
                [[device]]\nname = \"a\"\ntier = \"pooled\"\nkind = \"devdax\"\n\
                serials = [0xffff_ffff_0000_00a0]\nsize = \"512 MiB\"\n\
                [[device]]\nname = \"b\"\ntier = \"pooled\"\nkind = \"kmem\"\n\
                serials = [161, 0xa2]\nsize = \"1 GiB\"\n";
    let config = Config::parse("t.toml", text).unwrap();
    let machine = Machine::probe().unwrap();
    let (plan, specs) = config.plan(&machine).unwrap();
    let source = |serials: &[u64], mode, mib: u64| {
        DeviceSpec::Cxl(CxlSource {
            serials: serials.to_vec(),
            mode,
            size: Bytes::new(mib << 20),
            shared: false,
        })
    };
    let first = source(&[0xffff_ffff_0000_00a0], CxlMode::DevDax, 512);
    let second = source(&[0xa1, 0xa2], CxlMode::Kmem, 1024);
    assert_eq!(specs, [first, second]);
    let kinds: Vec<_> = plan.devices.iter().map(|it| (it.kind, it.sealed)).collect();
    assert_eq!(kinds, [("devdax", true), ("kmem", true)]);
    reads_as_printed(&config);
}

/// One tenant, and nobody else, has what other hosts have as well.
const OF_HOSTS: &str = "[[tier]]\nname = \"hosts\"\n\
                        [[device]]\nname = \"a\"\ntier = \"hosts\"\nkind = \"devdax\"\n\
                        serials = [0xa0]\nsize = \"512 MiB\"\nshared = true\n\
                        [[tenant]]\nname = \"one\"\nuids = [7]\n\
                        [tenant.quota.hosts]\nlimit = \"100 %\"\n";

#[test]
fn memory_that_other_hosts_have_is_for_one_tenant_alone() {
    let nobody = "[default_tenant.quota.hosts]\nlimit = \"0 %\"\n";
    let unlisted = "[default_tenant]\nadmit_unlisted = false\n";
    let machine = Machine::probe().unwrap();
    for others in [nobody, unlisted] {
        let config = Config::parse("t.toml", &format!("{OF_HOSTS}{others}")).unwrap();
        let (plan, specs) = config.plan(&machine).unwrap();
        assert!(plan.devices[0].whole);
        assert!(matches!(&specs[0], DeviceSpec::Cxl(source) if source.shared));
        reads_as_printed(&config);
    }
    let second = "[[tenant]]\nname = \"two\"\nuids = [8]\n\
                  [tenant.quota.hosts]\nlimit = \"2 MiB\"\n";
    for (others, key) in [
        (String::new(), "default_tenant.quota.hosts.limit"),
        (format!("{second}{unlisted}"), "tenant[1].quota.hosts.limit"),
    ] {
        let config = Config::parse("t.toml", &format!("{OF_HOSTS}{others}")).unwrap();
        let refused = config.plan(&machine).unwrap_err().to_string();
        assert!(refused.contains(key), "{refused}");
    }
}

#[test]
fn what_is_printed_reads_as_the_same_configuration() {
    for machine in [
        machine(),
        Machine {
            uid: 1000,
            nodes: vec![near(0, 4), far(1, 4)],
            ..machine()
        },
    ] {
        reads_as_printed(&Config::default_for(&machine).unwrap());
    }
    reads_as_printed(&Config::parse("t.toml", "").unwrap());
}

fn reads_as_printed(config: &Config) {
    let text = config.to_toml();
    let again = Config::parse("printed", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(again.to_toml(), text);
    assert_eq!(again.daemon, config.daemon);
    assert_eq!(again.window, config.window);
    assert_eq!(
        (&again.tiers, &again.devices),
        (&config.tiers, &config.devices)
    );
    assert_eq!(again.tenants, config.tenants);
    assert_eq!(again.default_tenant, config.default_tenant);
    assert_eq!(
        (&again.grpc, again.metrics_listen),
        (&config.grpc, config.metrics_listen)
    );
}

#[test]
fn the_examples_that_are_printed_are_configuration() {
    let text = Config::default_for(&machine())
        .unwrap()
        .to_toml()
        .replace("#: ", "");
    let config = Config::parse("printed", &text).unwrap();
    assert_eq!(config.tenants[0].name, "vision");
    assert!(config.grpc.is_some() && config.metrics_listen.is_some());
    config.plan(&machine()).unwrap();
}

#[test]
fn a_file_is_loaded_and_named_in_errors() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("tierpool.toml");
    let error = Config::load(&path).unwrap_err();
    assert!(matches!(error, ConfigError::Read { .. }), "{error}");
    std::fs::write(&path, "[daemon]\nlog = 1\n").unwrap();
    let error = Config::load(&path).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("{}:2:7: daemon.log = 1", path.display())),
        "{error}"
    );
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(matches!(Config::load(&path), Err(ConfigError::Read { .. })));
    std::fs::write(&path, vec![b'#'; 5 << 20]).unwrap();
    assert!(matches!(Config::load(&path), Err(ConfigError::Read { .. })));
    std::fs::write(&path, POOL).unwrap();
    assert_eq!(Config::load(&path).unwrap().devices.len(), 2);
}

#[test]
fn directories_are_made_and_foreign_ones_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::TempDir::new().unwrap();
    let mut daemon = Config::parse("t.toml", "").unwrap().daemon;
    daemon.runtime_dir = root.path().join("a/run");
    daemon.state_dir = root.path().join("a/run/state");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    daemon.make_directories().unwrap();
    daemon.make_directories().unwrap();
    assert_eq!(
        (mode(&daemon.runtime_dir), mode(&daemon.state_dir)),
        (0o755, 0o700)
    );

    let open = PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&daemon.state_dir, open).unwrap();
    let error = daemon.make_directories().unwrap_err().to_string();
    assert!(error.contains("mode 40777"), "{error}");

    std::fs::remove_dir(&daemon.state_dir).unwrap();
    std::os::unix::fs::symlink(root.path(), &daemon.state_dir).unwrap();
    daemon.make_directories().unwrap_err();
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let _ = Config::parse("t.toml", &text).and_then(|config| config.plan(&machine()));
    }

    #[test]
    fn no_document_makes_it_panic(lines in prop::collection::vec(line(), 0..30)) {
        let text = lines.join("\n");
        let _ = Config::parse("t.toml", &text).and_then(|config| config.plan(&machine()));
    }

    #[test]
    fn no_change_of_a_valid_file_makes_it_panic(at in 0..2000_usize, with in any::<char>()) {
        let printed = Config::default_for(&machine()).unwrap().to_toml();
        let mut text: Vec<char> = printed.chars().collect();
        let at = at % text.len();
        text[at] = with;
        let text: String = text.into_iter().collect();
        if let Ok(config) = Config::parse("t.toml", &text) {
            reads_as_printed(&config);
        }
    }
}

/// A line as it might stand in a configuration.
fn line() -> impl Strategy<Value = String> {
    let header = prop::sample::select(vec![
        "[daemon]",
        "[window]",
        "[[tier]]",
        "[[device]]",
        "[[tenant]]",
        "[tenant.quota.ddr]",
        "[default_tenant]",
        "[default_tenant.quota.\"a b\"]",
        "[grpc]",
        "[metrics]",
    ]);
    let key = prop::sample::select(vec![
        "name",
        "tier",
        "kind",
        "size",
        "pages",
        "numa_node",
        "emulated",
        "directory",
        "base",
        "uids",
        "gids",
        "request",
        "limit",
        "log",
        "operators",
        "listen",
        "session_mode",
        "reattach_grace_ms",
        "memory_floor",
        "quota",
        "daemon",
        "device",
    ]);
    let value = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:?}")),
        prop::sample::select(vec![
            "\"memfd\"",
            "\"file\"",
            "\"ddr\"",
            "\"1 GiB\"",
            "\"2 MiB\"",
            "\"25 %\"",
            "true",
            "[]",
            "[[]]",
            "[1, 2]",
            "{}",
            "{a = 1}",
            "\"\"",
            "1979-05-27",
            "0xffff",
            "\"/x\"",
            "''",
            "\"\"\"\n\"\"\"",
        ])
        .prop_map(str::to_owned),
    ];
    prop_oneof![
        2 => header.prop_map(str::to_owned),
        5 => (key, value).prop_map(|(key, value)| format!("{key} = {value}")),
        1 => "\\PC{0,20}",
    ]
}
