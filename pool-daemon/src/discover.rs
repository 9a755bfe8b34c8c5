//! What the machine has: memory, NUMA nodes, huge pages, and who we are on it.
//!
//! Everything is read from files below one root, `/` or a test's folder that stands for it. What
//! any Linux has must be there; what only some kernels have is reported as absent where it is not.

#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pool_core::Bytes;
use pool_core::units::KIB;

/// A version 1 control group without a limit says a number near 2^63.
const NO_LIMIT_FROM: u64 = 1 << 62;

/// One machine as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// All memory the kernel manages.
    pub memory_total: Bytes,
    /// What could be had without swapping.
    pub memory_available: Bytes,
    /// The least that the control groups above this process allow it and its siblings.
    pub memory_limit: Option<Bytes>,
    /// The NUMA nodes that have memory, by id; none on a kernel without NUMA.
    pub nodes: Vec<Node>,
    /// The hugetlb pool of 2 MiB pages.
    pub huge_pages: HugePages,
    /// The effective user id of this process.
    pub uid: u32,
    /// This boot of the machine.
    pub boot_id: String,
    /// The folder of the user's session for sockets and the like, where there is one.
    pub session_directory: Option<PathBuf>,
}

/// A NUMA node with memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub id: u32,
    /// Whether CPUs belong to it. A node without is a CXL expander or other far memory.
    pub has_cpus: bool,
    /// All of its memory.
    pub total: Bytes,
    /// What is free on it.
    pub free: Bytes,
}

/// A pool of huge pages, which an operator sets apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HugePages {
    /// Pages of 2 MiB in the pool.
    pub total: u64,
    /// Those not in use.
    pub free: u64,
}

/// The machine does not tell what the daemon must know. Mount `/proc` and `/sys`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// A file that every Linux has cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A file has not what it should.
    #[error("{path} does not say {missing}")]
    Missing {
        /// Which.
        path: PathBuf,
        /// What was looked for in it.
        missing: &'static str,
    },
}

impl Machine {
    /// Looks at this machine.
    ///
    /// # Errors
    /// [`ProbeError`] where `/proc` or `/sys` is not as Linux has it.
    pub fn probe() -> Result<Self, ProbeError> {
        let session = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        Ok(Self {
            session_directory: session.filter(|path| path.is_absolute()),
            ..Self::probe_below(Path::new("/"))?
        })
    }

    /// Looks at the machine whose `proc` and `sys` lie below `root`. It has no session directory.
    ///
    /// # Errors
    /// [`ProbeError`] where a file that every Linux has is missing or has not what it should.
    pub fn probe_below(root: &Path) -> Result<Self, ProbeError> {
        let path = root.join("proc/meminfo");
        let meminfo = read(&path)?;
        let amount = |name, missing| {
            kib_of(&meminfo, name).ok_or_else(|| ProbeError::Missing {
                path: path.clone(),
                missing,
            })
        };
        let boot_id = root.join("proc/sys/kernel/random/boot_id");
        Ok(Self {
            memory_total: amount("MemTotal:", "MemTotal")?,
            memory_available: amount("MemAvailable:", "MemAvailable")?,
            memory_limit: memory_limit(root)?,
            nodes: nodes(&root.join("sys/devices/system/node"))?,
            huge_pages: huge_pages(&root.join("sys/kernel/mm/hugepages/hugepages-2048kB"))?,
            uid: nix::unistd::geteuid().as_raw(),
            boot_id: read(&boot_id)?.trim().to_owned(),
            session_directory: None,
        })
    }

    /// The nodes without CPUs: CXL expanders and other far memory.
    pub fn far_nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| !node.has_cpus)
    }

    /// The nodes with CPUs.
    pub fn near_nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.has_cpus)
    }
}

fn read(path: &Path) -> Result<String, ProbeError> {
    fs::read_to_string(path).map_err(|source| ProbeError::Read {
        path: path.to_owned(),
        source,
    })
}

/// The file, or `None` where this kernel has none.
fn read_if_there(path: &Path) -> Result<Option<String>, ProbeError> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        Err(ProbeError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn number_if_there(path: &Path) -> Result<Option<u64>, ProbeError> {
    let Some(text) = read_if_there(path)? else {
        return Ok(None);
    };
    let missing = || ProbeError::Missing {
        path: path.to_owned(),
        missing: "a number",
    };
    text.trim().parse().map(Some).map_err(|_| missing())
}

/// The amount behind `name` in lines as `MemTotal:  1024 kB`, wherever in the line it stands.
fn kib_of(text: &str, name: &str) -> Option<Bytes> {
    let words = text.lines().map(str::split_whitespace);
    let kib: u64 = words.into_iter().find_map(|mut line| {
        line.find(|&word| word == name)?;
        line.next()?.parse().ok()
    })?;
    kib.checked_mul(KIB).map(Bytes::new)
}

fn nodes(directory: &Path) -> Result<Vec<Node>, ProbeError> {
    let failed = |source| ProbeError::Read {
        path: directory.to_owned(),
        source,
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut nodes = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let id = name
            .to_str()
            .and_then(|name| name.strip_prefix("node")?.parse().ok());
        if let Some(id) = id {
            nodes.extend(node(&directory.join(&name), id)?);
        }
    }
    nodes.sort_unstable_by_key(|node| node.id);
    Ok(nodes)
}

/// The node, or `None` where it has no memory.
fn node(directory: &Path, id: u32) -> Result<Option<Node>, ProbeError> {
    let path = directory.join("meminfo");
    let meminfo = read(&path)?;
    let amount = |name, missing| {
        kib_of(&meminfo, name).ok_or_else(|| ProbeError::Missing {
            path: path.clone(),
            missing,
        })
    };
    let total = amount("MemTotal:", "MemTotal")?;
    let free = amount("MemFree:", "MemFree")?;
    let has_cpus = !read(&directory.join("cpulist"))?.trim().is_empty();
    Ok((total > Bytes::ZERO).then_some(Node {
        id,
        has_cpus,
        total,
        free,
    }))
}

fn huge_pages(directory: &Path) -> Result<HugePages, ProbeError> {
    let number = |name| Ok(number_if_there(&directory.join(name))?.unwrap_or_default());
    Ok(HugePages {
        total: number("nr_hugepages")?,
        free: number("free_hugepages")?,
    })
}

/// The least limit of the memory control groups from this process's own up to the root.
fn memory_limit(root: &Path) -> Result<Option<Bytes>, ProbeError> {
    let Some(groups) = read_if_there(&root.join("proc/self/cgroup"))? else {
        return Ok(None);
    };
    let mut least: Option<Bytes> = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (mount, file) = if controllers.is_empty() {
            ("sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        // A group seen from inside a container may not be mounted here: its ancestors are.
        for ancestor in Path::new(group.trim_start_matches('/')).ancestors() {
            let limit = limit_in(&root.join(mount).join(ancestor).join(file))?;
            least = [least, limit].into_iter().flatten().min();
        }
    }
    Ok(least)
}

fn limit_in(path: &Path) -> Result<Option<Bytes>, ProbeError> {
    match read_if_there(path)?.as_deref().map(str::trim) {
        None | Some("max") => Ok(None),
        Some(text) => {
            let missing = || ProbeError::Missing {
                path: path.to_owned(),
                missing: "a limit",
            };
            let bytes: u64 = text.parse().map_err(|_| missing())?;
            Ok((bytes < NO_LIMIT_FROM).then_some(Bytes::new(bytes)))
        }
    }
}

#[cfg(test)]
mod tests {
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
}
