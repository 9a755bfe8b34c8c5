//! A configuration as a file, with a comment to each key.
//!
//! What is printed reads as the same configuration. What there is none of is shown by an example
//! behind `#: `, which reads as configuration once that is taken away.

use std::fmt::{Display, Write as _};
use std::path::Path;

use super::{
    Config, CxlMode, CxlSource, Daemon, DescriptorStoreChoice, Device, DeviceKind, FabricSource,
    Grpc, LogFormat, OnStop, PagePolicy,
};
use crate::engine::plan::{Amount, Quota, TenantPlan};

const HEAD: &str = "\
# The configuration of pool-daemon, with every key and its value. Leave out what you do not change.
# Sizes are whole numbers of B, KiB, MiB, GiB or TiB; shares are whole numbers of percent.
";

const TENANT_EXAMPLE: &str = r#"
# Who is known by name: by user id, or by group id. A tier that is missing in its quota has nothing
# for it. What is used beyond the request is asked back when others claim theirs.
#: [[tenant]]
#: name = "vision"
#: uids = [1000, 1001]
#: gids = [1000]
#: [tenant.quota.ddr]
#: request = "25 %"
#: limit = "100 %"
"#;

const GRPC_EXAMPLE: &str = r#"
# Operators' calls over TCP, each proven by a certificate. Nothing listens unless all four are set.
#: [grpc]
#: tcp_listen = "127.0.0.1:7411"
#: cert = "/etc/tierpool/daemon.pem"
#: key = "/etc/tierpool/daemon.key"
#: client_ca = "/etc/tierpool/operators.pem"
"#;

const METRICS_EXAMPLE: &str = r#"
# Metrics over TCP. Only on a loopback address, unless allow_remote is true.
#: [metrics]
#: listen = "127.0.0.1:9464"
"#;

pub(super) fn print(config: &Config) -> String {
    let mut out = Printer(HEAD.to_owned());
    out.daemon(&config.daemon);
    out.line("\n# The virtual range that every process of the pool reserves.\n[window]");
    out.set("base", quoted(config.window.base()));
    out.set("size", quoted(config.window.len()));
    out.memory(config);
    out.tenancy(config);
    out.network(config);
    out.0
}

struct Printer(String);

impl Printer {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn set(&mut self, key: &str, value: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{key} = {value}");
    }

    /// A key with a comment above it.
    fn explain(&mut self, comment: &str, key: &str, value: impl Display) {
        self.line(&format!("# {comment}"));
        self.set(key, value);
    }

    fn daemon(&mut self, daemon: &Daemon) {
        self.line("\n[daemon]");
        self.explain(
            "Where the sockets are.",
            "runtime_dir",
            path(&daemon.runtime_dir),
        );
        self.explain(
            "Where the journal is.",
            "state_dir",
            path(&daemon.state_dir),
        );
        self.explain(
            "What clients attach to.",
            "session_socket",
            path(&daemon.session_socket),
        );
        self.explain(
            "What operators call.",
            "admin_socket",
            path(&daemon.admin_socket),
        );
        let mode = format!("{:04o}", daemon.session_mode);
        self.explain(
            "Who may attach at all, as a file mode.",
            "session_mode",
            quoted(mode),
        );
        let comment =
            "Where descriptors wait while the daemon is dead: auto, systemd, keeper, clients.";
        let store = match daemon.descriptor_store {
            DescriptorStoreChoice::Auto => "auto",
            DescriptorStoreChoice::Systemd => "systemd",
            DescriptorStoreChoice::Keeper => "keeper",
            DescriptorStoreChoice::Clients => "clients",
        };
        self.explain(comment, "descriptor_store", quoted(store));
        let on_stop = match daemon.on_stop {
            OnStop::Keep => "keep",
            OnStop::Release => "release",
        };
        let comment = "What a clean stop does with what is granted: keep it or release it.";
        self.explain(comment, "on_stop", quoted(on_stop));
        let comment = "How long a restarted daemon waits for the clients of before.";
        self.explain(comment, "reattach_grace_ms", millis(daemon.reattach_grace));
        let comment = "How long tenants have to give burst memory back before it is revoked.";
        self.explain(
            comment,
            "pressure_deadline_ms",
            millis(daemon.pressure_deadline),
        );
        let comment = "Memory that is left to the rest of the machine, whatever the pool may have.";
        self.explain(comment, "memory_floor", quoted(daemon.memory_floor));
        let comment = "User ids, besides root and the daemon's own, that may change the pool.";
        self.explain(comment, "operators", list(&daemon.operators));
        let comment =
            "What is logged: a level, or several by module as \"warn,pool_daemon::engine=debug\".";
        self.explain(comment, "log", text(&daemon.log));
        let format = match daemon.log_format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        self.explain(
            "How it is logged: text or json.",
            "log_format",
            quoted(format),
        );
    }

    fn memory(&mut self, config: &Config) {
        self.line(
            "\n# The tiers, fastest first. With no tier and no device, what suits the machine.",
        );
        for tier in &config.tiers {
            self.line("[[tier]]");
            self.set("name", text(tier));
        }
        self.line(
            "\n# Their memory. kind is memfd (with pages: auto, hugetlb, collapsed or base; and",
        );
        self.line("# numa_node), file (with directory), fabric (with the directory of an emulated");
        self.line(
            "# fabric and the number of this host in it), or devdax or kmem (with serials: the CXL",
        );
        self.line(
            "# devices that its region lies on). emulated says that ordinary memory stands for",
        );
        self.line("# something else.");
        for device in &config.devices {
            self.device(device);
        }
    }

    fn device(&mut self, device: &Device) {
        self.line("[[device]]");
        self.set("name", text(&device.name));
        self.set("tier", text(&device.tier));
        self.set("size", quoted(device.size));
        match &device.kind {
            DeviceKind::Memfd { pages, numa_node } => {
                self.set("kind", quoted("memfd"));
                let pages = match pages {
                    PagePolicy::Auto => "auto",
                    PagePolicy::Hugetlb => "hugetlb",
                    PagePolicy::Collapsed => "collapsed",
                    PagePolicy::Base => "base",
                };
                self.set("pages", quoted(pages));
                if let Some(node) = numa_node {
                    self.set("numa_node", node);
                }
            }
            DeviceKind::File { directory } => {
                self.set("kind", quoted("file"));
                self.set("directory", path(directory));
            }
            DeviceKind::Fabric(source) => self.fabric(source),
            DeviceKind::Cxl(source) => self.cxl(source),
        }
        self.set("emulated", device.emulated);
    }

    fn cxl(&mut self, source: &CxlSource) {
        let kind = match source.mode {
            CxlMode::DevDax => "devdax",
            CxlMode::Kmem => "kmem",
        };
        self.set("kind", quoted(kind));
        let serials = kernel_cxl::serials_told(&source.serials);
        self.set("serials", format!("[{serials}]"));
        if source.mode == CxlMode::DevDax {
            self.set("shared", source.shared);
        }
    }

    fn fabric(&mut self, source: &FabricSource) {
        self.set("kind", quoted("fabric"));
        self.set("directory", path(&source.directory));
        self.set("host", source.host);
        self.set("memdev", source.memdev);
        self.set("ld", source.ld);
        self.set("region", source.region);
        self.set("shared", source.shared);
        if source.shared {
            return self.set("patience_ms", source.patience.get() / 1_000_000);
        }
        self.set("step", quoted(source.step));
        self.set("low", quoted(source.low));
        self.set("high", quoted(source.high));
        self.set("idle_ms", source.idle.get() / 1_000_000);
        self.set("patience_ms", source.patience.get() / 1_000_000);
    }

    fn tenancy(&mut self, config: &Config) {
        if config.tenants.is_empty() {
            self.0.push_str(TENANT_EXAMPLE);
        }
        for tenant in &config.tenants {
            self.tenant(tenant);
        }
        self.line("\n# Everybody else: each user is a tenant of his own.\n[default_tenant]");
        let admit = config.default_tenant.admit_unlisted;
        self.explain("Whether they may attach at all.", "admit_unlisted", admit);
        self.line("# A tier that is missing has the request \"0 %\" and the limit \"100 %\".");
        for (tier, &quota) in &config.default_tenant.quotas {
            self.quota("default_tenant", tier, quota);
        }
    }

    fn tenant(&mut self, tenant: &TenantPlan) {
        self.line("\n[[tenant]]");
        self.set("name", text(&tenant.name));
        self.set("uids", list(&tenant.uids));
        self.set("gids", list(&tenant.gids));
        for (tier, &quota) in &tenant.quotas {
            self.quota("tenant", tier, quota);
        }
    }

    fn quota(&mut self, whose: &str, tier: &str, quota: Quota) {
        self.line(&format!("[{whose}.quota.{}]", text(tier)));
        self.set("request", quoted(amount(quota.request)));
        self.set("limit", quoted(amount(quota.limit)));
    }

    fn network(&mut self, config: &Config) {
        match &config.grpc {
            None => self.0.push_str(GRPC_EXAMPLE),
            Some(Grpc {
                tcp_listen,
                cert,
                key,
                client_ca,
            }) => {
                self.line("\n[grpc]");
                self.set("tcp_listen", quoted(tcp_listen));
                self.set("cert", path(cert));
                self.set("key", path(key));
                self.set("client_ca", path(client_ca));
            }
        }
        match config.metrics_listen {
            None => self.0.push_str(METRICS_EXAMPLE),
            Some(listen) => {
                self.line("\n[metrics]");
                self.set("listen", quoted(listen));
                self.set("allow_remote", !listen.ip().is_loopback());
            }
        }
    }
}

/// A value of ours that needs no escapes.
fn quoted(value: impl Display) -> String {
    format!("\"{value}\"")
}

/// Any text, with what must be escaped.
fn text(text: &str) -> toml::Value {
    toml::Value::String(text.to_owned())
}

/// A path. Every path is text: it came from a file of text, or from us.
fn path(path: &Path) -> toml::Value {
    text(&path.to_string_lossy())
}

fn list(ids: &[u32]) -> String {
    format!("{ids:?}")
}

fn millis(span: pool_core::Nanos) -> u64 {
    span.get() / 1_000_000
}

fn amount(amount: Amount) -> String {
    match amount {
        Amount::Bytes(bytes) => bytes.to_string(),
        Amount::Percent(percent) => format!("{percent} %"),
    }
}
