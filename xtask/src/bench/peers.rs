//! The allocators that the suite `alloc` measures against, as shared libraries that a program is
//! run with in the place of the C library's heap.
//!
//! mimalloc 2 and 3 and snmalloc are compiled from the sources that their crates carry, as shared
//! libraries with the options that their own build files give for those: no call is added on the
//! way. Which versions, the lock file of `benches/peers` says. jemalloc and tcmalloc are those of
//! Debian's packages, unpacked and not installed.
//!
//! All of it lies in `target/peers`: a library beside a file that tells what it was made of, so
//! that it is made anew when that is no longer so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use crate::command::{cargo, output, shown};
use crate::debian;

/// What makes a library a heap that a program can be run with.
const CALLS: [&str; 7] = [
    "malloc",
    "free",
    "calloc",
    "realloc",
    "posix_memalign",
    "aligned_alloc",
    "malloc_usable_size",
];

/// The heap of the C library: there without any doing.
const GLIBC: &str = "glibc";

/// One that has to be made.
struct Peer {
    name: &'static str,
    made: fn(&Sources<'_>, &Path) -> anyhow::Result<Made>,
}

/// A library that is there.
pub(super) struct Made {
    pub(super) version: String,
    pub(super) library: PathBuf,
}

const PEERS: [Peer; 5] = [
    Peer {
        name: "mimalloc2",
        made: |sources, folder| mimalloc(sources, folder, "v2"),
    },
    Peer {
        name: "mimalloc3",
        made: |sources, folder| mimalloc(sources, folder, "v3"),
    },
    Peer {
        name: "snmalloc",
        made: snmalloc,
    },
    Peer {
        name: "jemalloc",
        made: |_, folder| of_debian(folder, "libjemalloc2", "libjemalloc.so.2"),
    },
    Peer {
        name: "tcmalloc",
        made: |_, folder| of_debian(folder, "libtcmalloc-minimal4", "libtcmalloc_minimal.so.4"),
    },
];

/// Whether one is called so.
pub(super) fn has(name: &str) -> bool {
    name == GLIBC || PEERS.iter().any(|peer| peer.name == name)
}

/// Makes those that are in `wanted`, or all where it is empty, in `target`, and returns the list of
/// them. One that cannot be made is in the list as missing, with the reason.
pub(super) fn make(root: &Path, target: &Path, wanted: &[String]) -> anyhow::Result<PathBuf> {
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|peer| peer == name);
    let mut list = Vec::new();
    if is_wanted(GLIBC) {
        list.push(json!({ "name": GLIBC }));
    }
    let sources = Sources { root };
    for peer in PEERS.iter().filter(|peer| is_wanted(peer.name)) {
        let folder = target.join("peers").join(peer.name);
        fs::create_dir_all(&folder)?;
        let made = (peer.made)(&sources, &folder).and_then(|made| {
            has_all_calls(&made.library)?;
            Ok(made)
        });
        list.push(match made {
            Ok(Made { version, library }) => {
                json!({ "name": peer.name, "version": version, "library": library })
            }
            Err(error) => json!({ "name": peer.name, "missing": format!("{error:#}") }),
        });
    }
    let path = target.join("peers/list.json");
    fs::create_dir_all(target.join("peers"))?;
    fs::write(&path, serde_json::to_string_pretty(&list)?)?;
    Ok(path)
}

/// The packages of `benches/peers`, as cargo has fetched them.
pub(super) struct Sources<'a> {
    pub(super) root: &'a Path,
}

impl Sources<'_> {
    /// The sources of a version of mimalloc: `v2` or `v3`.
    pub(super) fn mimalloc(&self, version: &str) -> anyhow::Result<PathBuf> {
        let (package, _) = self.package("libmimalloc-sys")?;
        Ok(package.join("c_src/mimalloc").join(version))
    }

    /// The folder and the version of a package.
    fn package(&self, name: &str) -> anyhow::Result<(PathBuf, String)> {
        let manifest = self.root.join("benches/peers/Cargo.toml");
        let mut command = cargo(self.root);
        command.args(["metadata", "--format-version", "1", "--locked"]);
        let metadata = output(command.arg("--manifest-path").arg(manifest))?;
        let metadata: Value = serde_json::from_str(&metadata)?;
        let packages = metadata["packages"].as_array();
        let mut packages = packages.into_iter().flatten();
        let package = packages
            .find(|package| package["name"] == name)
            .with_context(|| format!("benches/peers does not name {name}"))?;
        let manifest = package["manifest_path"].as_str();
        let folder = manifest.and_then(|path| Path::new(path).parent());
        let version = package["version"].as_str();
        match (folder, version) {
            (Some(folder), Some(version)) => Ok((folder.to_path_buf(), version.to_owned())),
            _ => bail!("cargo metadata has another form than we know"),
        }
    }
}

/// One translation unit has all of it. The flags are those of its CMakeLists for a shared library
/// that overrides `malloc`, in a release.
pub(super) fn mimalloc(
    sources: &Sources<'_>,
    folder: &Path,
    version: &str,
) -> anyhow::Result<Made> {
    let source = sources.mimalloc(version)?;
    let library = folder.join(format!("libmimalloc-{version}.so"));
    let mut command = Command::new("cc");
    command
        .args(["-std=gnu11", "-O3", "-shared", "-fPIC", "-pthread"])
        .args(["-fvisibility=hidden", "-ftls-model=initial-exec"])
        .args(["-fno-builtin-malloc", "-DNDEBUG", "-DMI_BUILD_RELEASE"])
        .args(["-DMI_MALLOC_OVERRIDE", "-DMI_SHARED_LIB"])
        .arg("-DMI_SHARED_LIB_EXPORT")
        .arg("-I")
        .arg(source.join("include"))
        .arg(source.join("src/static.c"));
    compile(&mut command, &library)?;
    let header = fs::read_to_string(source.join("include/mimalloc.h"))?;
    Ok(Made {
        version: mimalloc_version(&header)?,
        library,
    })
}

/// The version that a header of mimalloc tells: `#define MI_MALLOC_VERSION 30302` for 3.3.2.
fn mimalloc_version(header: &str) -> anyhow::Result<String> {
    let mut lines = header.lines();
    let number = lines
        .find_map(|line| line.strip_prefix("#define MI_MALLOC_VERSION"))
        .and_then(|rest| rest.split_whitespace().next())
        .context("mimalloc.h does not tell a version")?;
    let number: u32 = number.parse()?;
    let (major, minor, patch) = (number / 10_000, number / 100 % 100, number % 100);
    Ok(format!("{major}.{minor}.{patch}"))
}

/// The flags are those of its CMakeLists for `snmallocshim`, for what a machine of today has.
fn snmalloc(sources: &Sources<'_>, folder: &Path) -> anyhow::Result<Made> {
    let (package, version) = sources.package("snmalloc-sys")?;
    let source = package.join("upstream/src");
    let library = folder.join("libsnmalloc.so");
    let mut command = Command::new("c++");
    command
        .args(["-std=c++20", "-O3", "-shared", "-fPIC", "-pthread"])
        .args(["-fvisibility=hidden", "-ftls-model=initial-exec"])
        .args(["-fomit-frame-pointer", "-DNDEBUG", "-static-libstdc++"])
        .arg("-DSNMALLOC_EXPORT=__attribute__((visibility(\"default\")))")
        .args([
            "-DSNMALLOC_USE_WAIT_ON_ADDRESS=1",
            "-DSNMALLOC_USE_CXX11_THREAD_ATEXIT_DIRECT",
            "-DSNMALLOC_CHECK_LOADS=false",
            "-DSNMALLOC_PAGEID=false",
            "-DSNMALLOC_HAS_LINUX_FUTEX_H",
            "-DSNMALLOC_HAS_LINUX_RANDOM_H",
            "-DSNMALLOC_PLATFORM_HAS_GETENTROPY",
        ]);
    if cfg!(target_arch = "x86_64") {
        command.args(["-mcx16", "-mprfchw"]);
    }
    command.arg("-I").arg(&source);
    for file in ["malloc.cc", "new.cc"] {
        command.arg(source.join("snmalloc/override").join(file));
    }
    compile(&mut command, &library)?;
    Ok(Made { version, library })
}

/// Runs a compiler that makes `library`, unless it was made by the same command.
fn compile(command: &mut Command, library: &Path) -> anyhow::Result<()> {
    compile_from(command, library, "")
}

/// The same for what is made of `text`, sources that change.
pub(super) fn compile_from(command: &mut Command, made: &Path, text: &str) -> anyhow::Result<()> {
    let note = made.with_extension("made-by");
    let by = format!("{command:?}\n{text}");
    if made.is_file() && fs::read_to_string(&note).is_ok_and(|noted| noted == by) {
        return Ok(());
    }
    eprintln!("building {}", made.display());
    output(command.arg("-o").arg(made)).map(drop)?;
    Ok(fs::write(note, by)?)
}

/// A library out of a package of Debian's.
fn of_debian(folder: &Path, package: &str, library: &str) -> anyhow::Result<Made> {
    let root = debian::unpack(folder, &[package])?;
    let library = library_in(&root, library)?;
    Ok(Made {
        version: debian::version(folder, package)?,
        library,
    })
}

/// A library below the folder that stands for the root of the machine.
pub(super) fn library_in(root: &Path, library: &str) -> anyhow::Result<PathBuf> {
    let folders = fs::read_dir(root.join("usr/lib"))?;
    let found = folders
        .filter_map(|folder| Some(folder.ok()?.path().join(library)))
        .find(|path| path.is_file());
    found.with_context(|| format!("no package holds {library}"))
}

/// Fails unless `library` defines the whole family: what is missing the C library would do, with
/// memory that is not its own.
fn has_all_calls(library: &Path) -> anyhow::Result<()> {
    let mut names = Command::new("nm");
    names.args(["--dynamic", "--defined-only"]).arg(library);
    let missing = missing_calls(&output(&mut names)?);
    ensure!(
        missing.is_empty(),
        "`{}` shows no {}",
        shown(&names),
        missing.join(", ")
    );
    Ok(())
}

/// The calls that are not among `symbols`: lines of an address, a kind and a name.
fn missing_calls(symbols: &str) -> Vec<&'static str> {
    let names: Vec<_> = symbols
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .map(|name| name.split_once('@').map_or(name, |(name, _)| name))
        .collect();
    CALLS
        .into_iter()
        .filter(|call| !names.contains(call))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_without_the_whole_family_is_refused() {
        let mut symbols = String::new();
        for call in CALLS {
            symbols.push_str(&format!("0000000000001000 T {call}@@V1\n"));
        }
        assert!(missing_calls(&symbols).is_empty());
        let without = symbols.replace(" realloc@", " mi_realloc@");
        assert_eq!(missing_calls(&without), ["realloc"]);
    }

    #[test]
    fn the_header_of_mimalloc_tells_its_version() {
        let header = "#pragma once\n#define MI_MALLOC_VERSION 30302   // major, minor, patch\n";
        assert_eq!(mimalloc_version(header).unwrap(), "3.3.2");
        assert!(mimalloc_version("").is_err());
    }
}
