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
mod tests;
