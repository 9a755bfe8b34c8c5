//! How much memory the machine can spare for files that are filled at once.
//!
//! Asked before each build, since taking more than there is does not fail: the kernel kills
//! processes to satisfy it, this one perhaps. The answer is the least of what the machine, the
//! NUMA node and each control group (version 2) above this process have left. It is an estimate,
//! and others take memory meanwhile: hence the floor. Builds of this process that are under way at
//! the same time know of each other: what one has been promised and has not taken yet is not there
//! for the next.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use nix::errno::Errno;

use crate::fault::{self, Call};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::units::{Bytes, KIB, MIB};

/// Memory cannot be promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RoomError {
    /// The machine has not enough free memory. Free some, or ask for less.
    #[error("the machine has {available_bytes} bytes to spare and {asked_bytes} were asked")]
    Short {
        /// What is free beyond the floor kept for the rest of the machine.
        available_bytes: u64,
        /// What was asked.
        asked_bytes: u64,
    },
    /// The kernel did not say how much there is, which is not the same as no limit.
    #[error("{call} of a file of the kernel's about memory: {errno}")]
    Os {
        /// The system call.
        call: &'static str,
        /// What it answered.
        errno: Errno,
    },
}

/// The files in which the kernel tells about memory.
#[derive(Debug, Clone)]
pub struct Room {
    /// `/`, or a test's folder that stands for it.
    root: PathBuf,
    /// Bytes that were promised to builds and not taken yet.
    promised: Arc<AtomicU64>,
}

/// Memory that a build may take. What is left of it when this is dropped is there for others.
#[derive(Debug)]
pub struct Promise {
    promised: Arc<AtomicU64>,
    left: u64,
}

impl Promise {
    /// So much of it has been taken: the kernel counts it from now on.
    pub fn take(&mut self, bytes: u64) {
        let taken = bytes.min(self.left);
        self.left -= taken;
        self.promised.fetch_sub(taken, Ordering::AcqRel);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.take(self.left);
    }
}

impl Room {
    /// Of this machine: for all devices of this process together.
    #[must_use]
    pub fn here() -> Self {
        static HERE: LazyLock<Room> = LazyLock::new(|| Room::under(Path::new("/")));
        HERE.clone()
    }

    fn under(root: &Path) -> Self {
        let root = root.to_owned();
        let promised = Arc::default();
        Self { root, promised }
    }

    /// Promises `asked` bytes of ordinary memory, unless that would leave less than `floor` to
    /// everybody else.
    ///
    /// # Errors
    /// [`RoomError`].
    pub fn promise(
        &self,
        node: Option<u32>,
        floor: Bytes,
        asked: Bytes,
    ) -> Result<Promise, RoomError> {
        let (promised, left) = (Arc::clone(&self.promised), asked.get());
        // Before looking: of two that ask at once each counts the other.
        let others = promised.fetch_add(left, Ordering::AcqRel);
        let promise = Promise { promised, left };
        let free = self.left(node)?.saturating_sub(floor.get());
        short_of(free.saturating_sub(others), asked)?;
        Ok(promise)
    }

    /// Fails where the machine, or the node, has not `asked` bytes of free huge pages of 2 MiB.
    ///
    /// # Errors
    /// [`RoomError`].
    pub fn check_huge(&self, node: Option<u32>, asked: Bytes) -> Result<(), RoomError> {
        let pages = match node {
            Some(node) => format!("sys/devices/system/node/node{node}/hugepages"),
            None => "sys/kernel/mm/hugepages".to_owned(),
        };
        let free = self.number(format!("{pages}/hugepages-2048kB/free_hugepages"))?;
        let reserved = match node {
            // The kernel does not tell on which node a page that was reserved will be taken.
            Some(_) => 0,
            None => self.number(format!("{pages}/hugepages-2048kB/resv_hugepages"))?,
        };
        short_of(free.saturating_sub(reserved) * (2 * MIB), asked)
    }

    fn left(&self, node: Option<u32>) -> Result<u64, RoomError> {
        let machine = self.machine()?;
        let groups = self.groups()?;
        let node = node.map(|node| self.node(node)).transpose()?;
        Ok([Some(machine), groups, node]
            .into_iter()
            .flatten()
            .fold(u64::MAX, u64::min))
    }

    fn machine(&self) -> Result<u64, RoomError> {
        let text = self.text("proc/meminfo")?;
        kib_of(&text, "MemAvailable:").ok_or(unreadable())
    }

    /// What is free, and half of what caches files: the kernel keeps some of that in any case.
    fn node(&self, node: u32) -> Result<u64, RoomError> {
        let text = self.text(format!("sys/devices/system/node/node{node}/meminfo"))?;
        let amount = |name| kib_of(&text, name).ok_or(unreadable());
        let cached = amount("Active(file):")?.saturating_add(amount("Inactive(file):")?);
        Ok(amount("MemFree:")?.saturating_add(cached / 2))
    }

    /// The least that a control group above this process has left; `None` where none is limited.
    fn groups(&self) -> Result<Option<u64>, RoomError> {
        let Some(text) = there(self.text("proc/self/cgroup"))? else {
            return Ok(None);
        };
        let Some(group) = text.lines().find_map(|line| line.strip_prefix("0::/")) else {
            return Ok(None);
        };
        let mut least = None;
        for group in Path::new(group).ancestors() {
            let left = self.group(&Path::new("sys/fs/cgroup").join(group))?;
            least = [least, left].into_iter().flatten().min();
        }
        Ok(least)
    }

    fn group(&self, group: &Path) -> Result<Option<u64>, RoomError> {
        let Some(limit) = there(self.text(group.join("memory.max")))? else {
            return Ok(None);
        };
        if limit.trim() == "max" {
            return Ok(None);
        }
        let limit: u64 = limit.trim().parse().map_err(|_| unreadable())?;
        let used = self.number(group.join("memory.current"))?;
        let stat = self.text(group.join("memory.stat"))?;
        let cached = amount_of(&stat, "inactive_file").unwrap_or(0);
        Ok(Some(limit.saturating_sub(used.saturating_sub(cached))))
    }

    fn number(&self, path: impl AsRef<Path>) -> Result<u64, RoomError> {
        self.text(path)?.trim().parse().map_err(|_| unreadable())
    }

    fn text(&self, path: impl AsRef<Path>) -> Result<String, RoomError> {
        let read = |errno| RoomError::Os {
            call: "open",
            errno,
        };
        fault::syscall(Call::Open).map_err(read)?;
        std::fs::read_to_string(self.root.join(path)).map_err(|error| {
            // What std says without the kernel is that it does not take what it read.
            read(error.raw_os_error().map_or(Errno::EILSEQ, Errno::from_raw))
        })
    }
}

fn short_of(available_bytes: u64, asked: Bytes) -> Result<(), RoomError> {
    let asked_bytes = asked.get();
    if available_bytes >= asked_bytes {
        return Ok(());
    }
    Err(RoomError::Short {
        available_bytes,
        asked_bytes,
    })
}

/// The text, or `None` where there is no such file.
fn there(text: Result<String, RoomError>) -> Result<Option<String>, RoomError> {
    match text {
        Err(RoomError::Os {
            errno: Errno::ENOENT,
            ..
        }) => Ok(None),
        text => text.map(Some),
    }
}

/// A file of the kernel's is not as it has always been.
fn unreadable() -> RoomError {
    let (call, errno) = ("read", Errno::EBADMSG);
    RoomError::Os { call, errno }
}

/// The bytes that follow the word `name` in `text`, which counts KiB.
fn kib_of(text: &str, name: &str) -> Option<u64> {
    amount_of(text, name)?.checked_mul(KIB)
}

fn amount_of(text: &str, name: &str) -> Option<u64> {
    let mut words = text.split_ascii_whitespace();
    words.find(|&word| word == name)?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Room) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let room = Room::under(root.path());
        (root, room)
    }

    const MEMINFO: (&str, &str) = (
        "proc/meminfo",
        "MemTotal:  9000 kB\nMemFree:  10 kB\nMemAvailable:    4000 kB\n",
    );

    #[test]
    fn this_machine_has_some_memory_left() {
        assert!(Room::here().left(None).unwrap() > 0);
    }

    #[test]
    fn the_floor_is_left_to_everybody_else() {
        let (_root, room) = machine(&[MEMINFO]);
        let kib = |count: u64| Bytes::new(count * KIB);
        assert!(room.promise(None, kib(1000), kib(3000)).is_ok());
        let short = RoomError::Short {
            available_bytes: 3000 * KIB,
            asked_bytes: 3001 * KIB,
        };
        assert_eq!(room.promise(None, kib(1000), kib(3001)).err(), Some(short));
        let none = room.promise(None, kib(5000), kib(1));
        assert!(matches!(
            none,
            Err(RoomError::Short {
                available_bytes: 0,
                ..
            })
        ));
    }

    #[test]
    fn what_is_promised_to_one_is_not_there_for_another_until_it_is_taken() {
        let (_root, room) = machine(&[MEMINFO]);
        let promise = |count: u64| room.promise(None, Bytes::ZERO, Bytes::new(count * KIB));
        let mut one = promise(3000).unwrap();
        assert!(promise(1001).is_err());
        let another = promise(1000).unwrap();
        assert!(promise(1).is_err());
        // The kernel counts what was taken; here it counts nothing.
        one.take(2000 * KIB);
        assert!(promise(2000).is_ok());
        drop((one, another));
        assert!(promise(4000).is_ok());
    }

    #[test]
    fn the_tightest_control_group_counts() {
        let groups = [
            ("proc/self/cgroup", "1:cpu:/\n0::/pool/daemon\n"),
            ("sys/fs/cgroup/pool/daemon/memory.max", "max\n"),
            ("sys/fs/cgroup/pool/memory.max", "1000000\n"),
            ("sys/fs/cgroup/pool/memory.current", "700000\n"),
            (
                "sys/fs/cgroup/pool/memory.stat",
                "anon 1\ninactive_file 100000\nfile 3\n",
            ),
        ];
        let (_root, room) = machine(&[&[MEMINFO][..], &groups[..]].concat());
        assert_eq!(room.left(None), Ok(400_000));
    }

    #[test]
    fn a_node_lends_what_is_free_and_half_of_its_cache() {
        let node = (
            "sys/devices/system/node/node3/meminfo",
            "Node 3 MemFree:  100 kB\nNode 3 Active(file):  30 kB\nNode 3 Inactive(file):  10 kB\n",
        );
        let (_root, room) = machine(&[MEMINFO, node]);
        assert_eq!(room.left(Some(3)), Ok(120 * KIB));
    }

    #[test]
    fn a_reserved_huge_page_is_not_free() {
        let (_root, room) = machine(&[
            (
                "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
                "3\n",
            ),
            (
                "sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages",
                "1\n",
            ),
        ]);
        assert_eq!(room.check_huge(None, Bytes::new(4 * MIB)), Ok(()));
        assert!(room.check_huge(None, Bytes::new(6 * MIB)).is_err());
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_not_no_limit() {
        let (_root, room) = machine(&[("proc/meminfo", "MemAvailable: lots\n")]);
        assert_eq!(room.left(None), Err(unreadable()));
    }
}
