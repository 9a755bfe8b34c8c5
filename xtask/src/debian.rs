//! Packages of Debian's, unpacked into a folder of the target directory and never installed: so
//! nobody has to be root, and the machine stays what it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::command::output;

/// Unpacks the newest of `packages` that this machine's lists have, together, below `folder`,
/// unless they are there. The folder that stands for the root of the machine.
pub(crate) fn unpack(folder: &Path, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let root = folder.join("root");
    if root.is_dir() {
        return Ok(root);
    }
    fs::create_dir_all(folder).with_context(|| format!("no folder {}", folder.display()))?;
    let mut download = Command::new("apt-get");
    download.args(["download", "--quiet"]).args(packages);
    output(download.current_dir(folder).stdin(Stdio::null()))?;
    let archives = packages.iter().map(|package| archive(folder, package));
    lay_out(
        &archives.collect::<anyhow::Result<Vec<_>>>()?,
        folder,
        &root,
    )?;
    Ok(root)
}

/// Unpacks archives together into `root`, by a folder within `folder`: one that is half full is
/// never taken for the whole.
pub(crate) fn lay_out(archives: &[PathBuf], folder: &Path, root: &Path) -> anyhow::Result<()> {
    let fresh = folder.join("fresh");
    if fresh.exists() {
        fs::remove_dir_all(&fresh)?;
    }
    fs::create_dir_all(&fresh)?;
    for archive in archives {
        let mut unpack = Command::new("dpkg-deb");
        output(unpack.arg("-x").arg(archive).arg(&fresh))?;
    }
    Ok(fs::rename(&fresh, root)?)
}

/// The version of a package that was unpacked below `folder`.
pub(crate) fn version(folder: &Path, package: &str) -> anyhow::Result<String> {
    let mut command = Command::new("dpkg-deb");
    command.arg("--field").arg(archive(folder, package)?);
    Ok(output(command.arg("Version"))?.trim().to_owned())
}

/// The archive of a package that was downloaded.
fn archive(folder: &Path, package: &str) -> anyhow::Result<PathBuf> {
    let begins = format!("{package}_");
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&begins) && name.ends_with(".deb")
    };
    let entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let found = entries.iter().map(fs::DirEntry::path).find(is_it);
    found.with_context(|| format!("no archive of {package} in {}", folder.display()))
}
