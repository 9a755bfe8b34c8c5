//! Which packages a virtual machine is made of: `tests/cxl-vm/packages.toml`.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

/// All of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pins {
    /// The emulator.
    pub(super) machine: Part,
    /// The kernel of the guests.
    pub(super) kernel: Part,
    /// The tools that our findings are compared with.
    pub(super) tools: Part,
}

/// Packages that are fetched together.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    /// Debian's suite.
    pub(super) suite: String,
    /// Each with its version, as apt names them: `name=version`.
    pub(super) packages: Vec<String>,
    /// Without what they need.
    #[serde(default)]
    pub(super) alone: bool,
}

impl Pins {
    /// Reads the file.
    pub(super) fn read(root: &Path) -> anyhow::Result<Self> {
        let path = root.join("tests/cxl-vm/packages.toml");
        let text = fs::read_to_string(&path)?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }
}

impl Part {
    /// The name of a folder in which just these packages are.
    pub(super) fn key(&self) -> String {
        let text = self.packages.join("_");
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "=.+~-_".contains(c);
        text.chars()
            .map(|c| if is_plain(c) { c } else { '.' })
            .collect()
    }
}
