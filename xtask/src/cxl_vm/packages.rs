//! The packages that a virtual machine is made of: fetched with the machine's own apt, checked by
//! it, unpacked below the target directory, and never installed.
//!
//! The suites are not those of the machine, so apt works in a directory of its own, with the
//! machine's keys and the archive that the machine itself uses. It is told that nothing is
//! installed, so it fetches all that a package needs: the programs then run with their own loader
//! and libraries, whatever the machine's release is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

use super::pins::{Part, Pins};
use crate::command::output;
use crate::debian::lay_out;

/// Where the parts lie, unpacked.
#[derive(Debug)]
pub(super) struct Roots {
    /// The machine's emulator.
    pub(super) machine: PathBuf,
    /// The kernel and its modules.
    pub(super) kernel: PathBuf,
    /// `cxl` and `daxctl`, which our findings are compared with.
    pub(super) tools: PathBuf,
}

/// Why there are no machines.
#[derive(Debug)]
pub(super) enum Missing {
    /// The packages are not to be had here: no fault of what is tested.
    Unavailable(anyhow::Error),
    /// They are, and something of ours went wrong.
    Failed(anyhow::Error),
}

/// Unpacks what is pinned below `folder`, unless it is there.
pub(super) fn fetch(folder: &Path, pins: &Pins) -> Result<Roots, Missing> {
    let root = |name: &str, part: &Part| fetch_part(folder, name, part);
    Ok(Roots {
        machine: root("machine", &pins.machine)?,
        kernel: root("kernel", &pins.kernel)?,
        tools: root("tools", &pins.tools)?,
    })
}

fn fetch_part(folder: &Path, name: &str, part: &Part) -> Result<PathBuf, Missing> {
    let at = folder.join(name);
    let root = at.join(part.key());
    if root.is_dir() {
        return Ok(root);
    }
    let archive = archive().map_err(Missing::Unavailable)?;
    let apt = Apt::new(&folder.join("apt"), archive).map_err(Missing::Failed)?;
    let archives = folder.join("archives").join(name);
    apt.update().map_err(Missing::Unavailable)?;
    apt.download(&archives, part)?;
    let mut found = files(&archives).map_err(Missing::Failed)?;
    found.retain(|path| path.extension().is_some_and(|it| it == "deb"));
    lay_out(&found, &at, &root).map_err(Missing::Failed)?;
    Ok(root)
}

/// The entries of a folder, in order.
pub(super) fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    paths.sort_unstable();
    Ok(paths)
}

/// apt, with a directory of its own.
#[derive(Debug)]
struct Apt {
    configuration: PathBuf,
    /// Written when the lists have been read.
    read: PathBuf,
}

/// Where the machine's own packages come from.
#[derive(Debug, PartialEq, Eq)]
struct Archive {
    uri: String,
    keys: Option<String>,
}

impl Apt {
    fn new(folder: &Path, archive: Archive) -> anyhow::Result<Self> {
        for part in ["lists/partial", "cache/archives/partial", "sources"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let keys = archive.keys.map(|keys| format!("Signed-By: {keys}\n"));
        let keys = keys.unwrap_or_default();
        let source = format!(
            "Types: deb\nURIs: {}\nSuites: trixie trixie-backports\nComponents: main\n{keys}",
            archive.uri
        );
        fs::write(folder.join("sources/debian.sources"), source)?;
        fs::write(folder.join("installed"), "")?;
        let configuration = folder.join("apt.conf");
        fs::write(&configuration, Self::options(folder))?;
        let read = folder.join("lists/read");
        Ok(Self {
            configuration,
            read,
        })
    }

    /// Reads the lists of the suites, once an hour at most.
    fn update(&self) -> anyhow::Result<()> {
        let age = fs::metadata(&self.read).and_then(|it| it.modified());
        let age = age.ok().and_then(|at| at.elapsed().ok());
        if age.is_none_or(|age| age.as_secs() > 3_600) {
            // An archive that cannot be reached is an error, not a warning.
            let words = ["--quiet", "-o", "APT::Update::Error-Mode=any", "update"];
            self.run(&words, None)
                .context("Debian's archive is not to be reached")?;
            fs::write(&self.read, "")?;
        }
        Ok(())
    }

    fn options(folder: &Path) -> String {
        let folder = folder.display();
        format!(
            "Dir::Etc::sourcelist \"/dev/null\";\n\
             Dir::Etc::sourceparts \"{folder}/sources\";\n\
             Dir::Etc::preferences \"/dev/null\";\n\
             Dir::Etc::preferencesparts \"/dev/null\";\n\
             Dir::State::lists \"{folder}/lists\";\n\
             Dir::State::status \"{folder}/installed\";\n\
             Dir::Cache \"{folder}/cache\";\n\
             APT::Update::Post-Invoke-Success \"\";\n\
             APT::Install-Recommends \"0\";\n\
             APT::Sandbox::User \"root\";\n\
             Debug::NoLocking \"1\";\n"
        )
    }

    fn run(&self, words: &[&str], at: Option<&Path>) -> anyhow::Result<String> {
        let mut command = Command::new("apt-get");
        command
            .args(words)
            .env("APT_CONFIG", &self.configuration)
            .stdin(Stdio::null());
        if let Some(at) = at {
            command.current_dir(at);
        }
        output(&mut command)
    }

    /// Fetches the packages of a part into a folder, and what they need unless they come alone.
    fn download(&self, folder: &Path, part: &Part) -> Result<(), Missing> {
        let make = || {
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
            Ok(fs::create_dir_all(folder.join("partial"))?)
        };
        make().map_err(Missing::Failed)?;
        let packages = part.packages.iter().map(String::as_str);
        let told = || {
            format!(
                "{} of the suite {} is not to be had: where a newer version took its place, name \
                 that in tests/cxl-vm/packages.toml",
                part.packages.join(", "),
                part.suite
            )
        };
        let archives = format!("Dir::Cache::archives={}/", folder.display());
        let words: Vec<&str> = if part.alone {
            ["--quiet", "download"]
                .into_iter()
                .chain(packages)
                .collect()
        } else {
            let words = [
                "--quiet",
                "-y",
                "--download-only",
                "-o",
                &archives,
                "-t",
                &part.suite,
            ];
            words
                .into_iter()
                .chain(["install"])
                .chain(packages)
                .collect()
        };
        let done = self.run(&words, Some(folder)).with_context(told);
        done.map(drop).map_err(Missing::Unavailable)
    }
}

/// The archive of the machine's own sources that is Debian's.
fn archive() -> anyhow::Result<Archive> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the machines are for x86-64, and this is none"
    );
    for folder in ["/etc/apt/sources.list.d", "/etc/apt"] {
        for path in files(Path::new(folder)).unwrap_or_default() {
            if let Ok(text) = fs::read_to_string(&path)
                && let Some(archive) = archive_in(&text)
            {
                return Ok(archive);
            }
        }
    }
    bail!("the sources of apt name no archive of Debian: this needs one")
}

/// Debian's archive in a list of sources of either form.
fn archive_in(text: &str) -> Option<Archive> {
    let is_debian = |uri: &str| uri.trim_end_matches('/').ends_with("/debian");
    for stanza in text.split("\n\n") {
        let value = |field: &str| {
            let lines = stanza.lines();
            let mut found = lines.filter_map(|line| line.strip_prefix(field));
            found.next().map(|value| value.trim().to_owned())
        };
        if let Some(uri) = value("URIs:").filter(|uri| is_debian(uri)) {
            let keys = value("Signed-By:").filter(|keys| keys.starts_with('/'));
            return Some(Archive { uri, keys });
        }
    }
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?.trim();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let uri = rest
            .split_whitespace()
            .next()
            .filter(|uri| is_debian(uri))?;
        let keys = options.split_whitespace();
        let keys = keys.filter_map(|it| it.strip_prefix("signed-by="));
        Some(Archive {
            uri: uri.to_owned(),
            keys: keys.map(str::to_owned).next(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debians_archive_is_found_in_either_form_of_a_list_and_no_other_is() {
        let keys = Some("/usr/share/keyrings/debian.gpg".to_owned());
        let uri = "http://archive.invalid/debian".to_owned();
        let stanzas = "Types: deb\nURIs: http://archive.invalid/debian-security\nSuites: x\n\n\
                       Types: deb\nURIs: http://archive.invalid/debian\nSuites: x\n\
                       Signed-By: /usr/share/keyrings/debian.gpg\n";
        let found = archive_in(stanzas);
        assert_eq!(
            found,
            Some(Archive {
                uri: uri.clone(),
                keys: keys.clone()
            })
        );
        let lines = "# deb http://other.invalid/debian x main\n\
                     deb [arch=amd64 signed-by=/usr/share/keyrings/debian.gpg] \
                     http://archive.invalid/debian x main\n";
        assert_eq!(archive_in(lines), Some(Archive { uri, keys }));
        assert_eq!(
            archive_in("deb http://archive.invalid/ubuntu x main\n"),
            None
        );
    }
}
