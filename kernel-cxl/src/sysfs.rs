//! Files below `/sys`: one value each, and links that say what belongs to what.
//!
//! Devices come and go while they are read. A file that is gone is no error here but `None`; who
//! needs it says what that means. A device whose folder goes while it is read is left out as a
//! whole ([`Folder::whole`]): half of it would be a lie, and its failure nobody's fault.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use pool_core::Bytes;

/// What some kernel says in place of a number that there is not.
const NONE: &str = "-1";

/// Where the kernel's files are: `/`, or a folder that stands for it.
#[derive(Debug, Clone)]
pub struct Sysfs {
    root: PathBuf,
}

/// The kernel's files do not say what they should, or refuse what they are told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SysfsError {
    /// A file or folder cannot be read. Mount `/sys`, and read as root: some values are hidden
    /// from others.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A file holds something else than it does on the kernels we know. Report it with the
    /// kernel's version.
    #[error("{path} holds {found:?}, which is not {wanted}")]
    Form {
        /// Which.
        path: PathBuf,
        /// What it holds.
        found: String,
        /// What was expected.
        wanted: &'static str,
    },
}

/// One folder of a device.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
}

impl Sysfs {
    /// The kernel that runs this program.
    #[must_use]
    pub fn here() -> Self {
        Self::at(Path::new("/"))
    }

    /// The files below a folder that stands for `/`.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
        }
    }

    /// A path that begins with `sys/`.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub(crate) fn folder(&self, path: &str) -> Folder {
        Folder {
            path: self.path(path),
        }
    }

    /// What `read` makes of each device of the CXL bus whose name is `word` and a number; without
    /// those that went meanwhile.
    pub(crate) fn each<T>(
        &self,
        word: &str,
        read: impl Fn(String, &Folder) -> Result<Option<T>, SysfsError>,
    ) -> Result<Vec<T>, SysfsError> {
        let mut found = Vec::new();
        for (name, folder) in self.devices("cxl")? {
            if in_order(&name).0 == word {
                found.extend(folder.whole(|| read(name, &folder))?);
            }
        }
        Ok(found)
    }

    /// The devices of a bus, each at the place where it really lies, by name; none where the
    /// kernel has no such bus.
    pub(crate) fn devices(&self, bus: &str) -> Result<Vec<(String, Folder)>, SysfsError> {
        let links = self.path("sys/bus").join(bus).join("devices");
        let mut found = Vec::new();
        for name in names(&links)? {
            match fs::canonicalize(links.join(&name)) {
                Ok(path) => found.push((name, Folder { path })),
                // It was unplugged since the folder was read.
                Err(error) if is_gone(&error) => {}
                Err(source) => {
                    let path = links.join(&name);
                    return Err(SysfsError::Read { path, source });
                }
            }
        }
        Ok(found)
    }
}

/// What is in a folder, in order; nothing where there is none.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, SysfsError> {
    let failed = |source| SysfsError::Read {
        path: folder.to_path_buf(),
        source,
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => names.push(entry.file_name().to_string_lossy().into_owned()),
            // It went since it was opened, and what was told of it up to here with it.
            Err(error) if is_absent(&error) => break,
            Err(error) => return Err(failed(error)),
        }
    }
    names.sort_unstable_by(|a, b| in_order(a).cmp(&in_order(b)));
    Ok(names)
}

/// `mem10` comes after `mem9`.
pub(crate) fn in_order(name: &str) -> (&str, Vec<u64>) {
    let end = name
        .find(|c: char| c.is_ascii_digit())
        .unwrap_or(name.len());
    let (word, numbers) = name.split_at(end);
    let numbers = numbers.split('.').filter_map(|part| part.parse().ok());
    (word, numbers.collect())
}

impl Folder {
    pub(crate) fn name(&self) -> String {
        last(&self.path)
    }

    /// Of a region: where its dax devices lie.
    pub(crate) fn dax(&self) -> Self {
        self.at(&self.name().replace("region", "dax_region"))
    }

    /// The folder that it lies in.
    pub(crate) fn parent(&self) -> Option<Self> {
        let path = self.path.parent()?.to_path_buf();
        Some(Self { path })
    }

    /// The nearest folder above whose name begins with one of `words` and goes on with a number.
    pub(crate) fn above(&self, words: &[&str]) -> Option<String> {
        let mut above = self.path.ancestors().skip(1).map(last);
        above.find(|name| words.contains(&in_order(name).0) && !in_order(name).1.is_empty())
    }

    pub(crate) fn at(&self, name: &str) -> Self {
        Self {
            path: self.path.join(name),
        }
    }

    /// What `read` makes of it, unless it goes meanwhile or another one takes its place: what was
    /// read is of no device then, and there is none.
    pub(crate) fn whole<T>(
        &self,
        read: impl FnOnce() -> Result<Option<T>, SysfsError>,
    ) -> Result<Option<T>, SysfsError> {
        let before = self.identity()?;
        let read = read();
        if before.is_none() || self.identity()? != before {
            return Ok(None);
        }
        read
    }

    /// What tells it from any other folder; `None` where it is gone.
    fn identity(&self) -> Result<Option<(u64, u64)>, SysfsError> {
        match fs::metadata(&self.path) {
            Ok(found) => Ok(Some((found.dev(), found.ino()))),
            Err(error) if is_gone(&error) => Ok(None),
            Err(source) => Err(SysfsError::Read {
                path: self.path.clone(),
                source,
            }),
        }
    }

    /// What a file holds, without the end of its line; `None` where there is none, or its device
    /// has no such value now.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, SysfsError> {
        let path = self.path.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim_end().to_owned())),
            Err(error) if is_absent(&error) => Ok(None),
            Err(source) => Err(SysfsError::Read { path, source }),
        }
    }

    /// The name of what a link leads to.
    pub(crate) fn link(&self, name: &str) -> Result<Option<String>, SysfsError> {
        let path = self.path.join(name);
        match fs::read_link(&path) {
            Ok(target) => Ok(Some(last(&target))),
            Err(error) if is_gone(&error) => Ok(None),
            Err(source) => Err(SysfsError::Read { path, source }),
        }
    }

    /// A number, in any base that the kernel writes; `None` as for [`Folder::text`], and where it
    /// says that there is none.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, SysfsError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        if text == NONE || text.is_empty() {
            return Ok(None);
        }
        let found = parse(&text);
        let form = || self.form(name, &text, "a number");
        found.map(Some).ok_or_else(form)
    }

    pub(crate) fn bytes(&self, name: &str) -> Result<Bytes, SysfsError> {
        Ok(Bytes::new(self.number(name)?.unwrap_or(0)))
    }

    /// A number that fits in 32 bits.
    pub(crate) fn small(&self, name: &str) -> Result<Option<u32>, SysfsError> {
        let Some(number) = self.number(name)? else {
            return Ok(None);
        };
        let form = |_| self.form(name, &number.to_string(), "a small number");
        u32::try_from(number).map(Some).map_err(form)
    }

    pub(crate) fn flag(&self, name: &str) -> Result<bool, SysfsError> {
        Ok(self.number(name)?.is_some_and(|number| number != 0))
    }

    pub(crate) fn form(&self, name: &str, found: &str, wanted: &'static str) -> SysfsError {
        SysfsError::Form {
            path: self.path.join(name),
            found: found.to_owned(),
            wanted,
        }
    }
}

/// Decimal, or hexadecimal with its mark.
pub(crate) fn parse(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The file is not there, or the device behind it is not, or has no such value in its state.
fn is_absent(error: &io::Error) -> bool {
    // ENXIO, ENODEV, EINVAL
    let is_of_the_device = matches!(error.raw_os_error(), Some(6 | 19 | 22));
    is_gone(error) || is_of_the_device
}

/// It is not there, or what it lies in is none of the sort any more.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

fn last(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_of_their_numbers() {
        let mut names = ["mem10", "dax1.2", "mem9", "dax1.10", "dax0.3"];
        names.sort_unstable_by(|a, b| in_order(a).cmp(&in_order(b)));
        assert_eq!(names, ["dax0.3", "dax1.2", "dax1.10", "mem9", "mem10"]);
    }

    #[test]
    fn numbers_are_read_in_either_base_and_nothing_else_is() {
        assert_eq!(parse("0x0000000010000000"), Some(0x1000_0000));
        assert_eq!(parse("256"), Some(256));
        for text in ["", "0x", "-1", "12 ", "0x1g", "99999999999999999999"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
