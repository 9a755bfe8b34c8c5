//! The file system a guest starts from: one archive in the kernel's own format, in memory.
//!
//! It has our programs, linked without libraries, the modules that the guest loads, and `cxl` and
//! `daxctl` with the libraries that they were built for. The kernel unpacks the modules itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::packages::{Roots, files};
use crate::command::output;

/// Kinds of files, as in the mode of an inode.
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTERS: u32 = 0o020_000;

/// Where the loader that the tools were built for looks for their libraries.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const LOADER: &str = "usr/lib64/ld-linux-x86-64.so.2";

/// What is to be in the archive, by its path without the first slash.
#[derive(Debug, Default)]
struct Archive {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    mode: u32,
    bytes: Vec<u8>,
    /// Major and minor number, of a device.
    device: (u32, u32),
}

/// Writes the archive of a guest that has `programs` in `/bin`, the first of which is its first
/// process, and tells which kernel belongs to it.
pub(super) fn write(
    to: &Path,
    roots: &Roots,
    modules: &str,
    programs: &[PathBuf],
) -> anyhow::Result<PathBuf> {
    let mut archive = Archive::default();
    for folder in ["proc", "sys", "dev", "tmp", "run"] {
        archive.folder(folder);
    }
    archive.device("dev/console", (5, 1));
    archive.device("dev/null", (1, 3));
    for program in programs {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        archive.file(&format!("bin/{name}"), fs::read(program)?);
    }
    let first = programs.first().context("a guest needs a program")?;
    archive.file("init", fs::read(first)?);
    add_tools(&mut archive, &roots.tools)?;
    let kernel = only_folder(&roots.kernel.join("usr/lib/modules"))?;
    add_modules(&mut archive, &kernel, modules)?;
    fs::write(to, archive.bytes()?)?;
    let image = kernel.join("vmlinuz");
    ensure!(image.is_file(), "there is no {}", image.display());
    Ok(image)
}

fn only_folder(folder: &Path) -> anyhow::Result<PathBuf> {
    let found = files(folder)?;
    ensure!(
        found.len() == 1,
        "{} has {} entries, and not one",
        folder.display(),
        found.len()
    );
    found.into_iter().next().context("it has one")
}

fn add_tools(archive: &mut Archive, root: &Path) -> anyhow::Result<()> {
    for tool in ["cxl", "daxctl"] {
        let path = root.join("usr/bin").join(tool);
        archive.file(&format!("bin/{tool}"), fs::read(&path)?);
        let mut list = Command::new(root.join(LOADER));
        list.arg("--library-path").arg(root.join(LIBRARIES));
        let listed = output(list.arg("--list").arg(&path))?;
        for library in libraries_in(&listed) {
            let bytes = fs::read(&library).with_context(|| library.clone())?;
            let name = library.rsplit('/').next().unwrap_or_default();
            archive.file(&format!("{LIBRARIES}/{name}"), bytes);
        }
    }
    let loader = fs::read(root.join(LOADER))?;
    archive.file("lib64/ld-linux-x86-64.so.2", loader);
    Ok(())
}

/// The files that the loader says it would load.
fn libraries_in(listed: &str) -> Vec<String> {
    let found = listed.lines().filter_map(|line| {
        let (_, found) = line.split_once("=> ")?;
        found.split_whitespace().next()
    });
    found.map(str::to_owned).collect()
}

fn add_modules(archive: &mut Archive, kernel: &Path, modules: &str) -> anyhow::Result<()> {
    let mut found = BTreeMap::new();
    find_modules(&kernel.join("kernel"), &mut found)?;
    for name in modules.lines().filter(|line| is_module(line)) {
        let path = found.get(name);
        let path = path.with_context(|| format!("the kernel's packages have no module {name}"))?;
        archive.file(&format!("lib/modules/{name}.ko.xz"), fs::read(path)?);
    }
    Ok(())
}

/// Whether a line of the list names a module.
fn is_module(line: &str) -> bool {
    !line.is_empty() && !line.starts_with(['#', '-'])
}

fn find_modules(folder: &Path, found: &mut BTreeMap<String, PathBuf>) -> anyhow::Result<()> {
    for path in files(folder)? {
        if path.is_dir() {
            find_modules(&path, found)?;
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(name) = name.strip_suffix(".ko.xz") {
            found.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

impl Archive {
    fn folder(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            self.add(&path[..at], DIRECTORY | 0o755, Vec::new(), (0, 0));
        }
        self.add(path, DIRECTORY | 0o755, Vec::new(), (0, 0));
    }

    fn file(&mut self, path: &str, bytes: Vec<u8>) {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.folder(folder);
        }
        self.add(path, REGULAR | 0o755, bytes, (0, 0));
    }

    fn device(&mut self, path: &str, numbers: (u32, u32)) {
        self.add(path, CHARACTERS | 0o600, Vec::new(), numbers);
    }

    fn add(&mut self, path: &str, mode: u32, bytes: Vec<u8>, device: (u32, u32)) {
        let entry = Entry {
            mode,
            bytes,
            device,
        };
        self.entries.insert(path.to_owned(), entry);
    }

    /// The archive in the form "newc" of cpio: see `initramfs-buffer-format` of the kernel's
    /// documentation.
    fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        let mut out = Vec::new();
        for (number, (path, entry)) in (1_u32..).zip(&self.entries) {
            write_entry(&mut out, number, path, entry)?;
        }
        let end = Entry {
            mode: 0,
            bytes: Vec::new(),
            device: (0, 0),
        };
        write_entry(&mut out, 0, "TRAILER!!!", &end)?;
        Ok(out)
    }
}

fn write_entry(out: &mut Vec<u8>, number: u32, path: &str, entry: &Entry) -> anyhow::Result<()> {
    let bytes = u32::try_from(entry.bytes.len()).with_context(|| format!("{path} is too large"))?;
    let name = u32::try_from(path.len() + 1)?;
    // Inode, mode, owner, group, links, time, bytes, the device it lies on, the device it is, the
    // length of its name, and a sum that this form has not.
    let (major, minor) = entry.device;
    let fields = [
        number, entry.mode, 0, 0, 1, 0, bytes, 0, 0, major, minor, name, 0,
    ];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(&entry.bytes);
    pad(out);
    Ok(())
}

/// Each part begins at a multiple of four.
fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_each_folder_before_what_lies_in_it_and_parts_at_multiples_of_four() {
        let mut archive = Archive::default();
        archive.file("lib/modules/kmem.ko.xz", b"12345".to_vec());
        archive.device("dev/null", (1, 3));
        let bytes = archive.bytes().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.len() % 4, 0);
        let heads: Vec<usize> = text.match_indices("070701").map(|(at, _)| at).collect();
        assert!(heads.iter().all(|at| at % 4 == 0), "{heads:?}");
        let names = [
            "dev/null\0",
            "lib\0",
            "lib/modules\0",
            "lib/modules/kmem.ko.xz\0",
        ];
        let found = names.map(|name| text.find(name).unwrap());
        assert!(found.is_sorted(), "{found:?}");
        let head = &text[heads[0]..][..110];
        assert_eq!(
            &head[14..22],
            "00002180",
            "a device of characters, for its owner alone"
        );
        assert_eq!(&head[78..94], "0000000100000003");
    }

    #[test]
    fn libraries_are_what_stands_behind_the_arrow() {
        let listed = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /r/usr/lib/libc.so.6 (0x2)\n\
                      \t/lib64/ld-linux-x86-64.so.2 => /r/usr/lib64/ld.so (0x3)\n";
        assert_eq!(
            libraries_in(listed),
            ["/r/usr/lib/libc.so.6", "/r/usr/lib64/ld.so"]
        );
    }
}
