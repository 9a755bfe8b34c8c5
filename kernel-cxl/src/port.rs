//! What memdevs are reached through: the root of a fabric, host bridges, switches, endpoints.

use crate::sysfs::{Folder, Sysfs, SysfsError, in_order, names};

/// What a port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortKind {
    /// The platform: its decoders are the windows.
    Root,
    /// A host bridge, or a switch.
    Switch,
    /// The end of the way, at a memdev.
    Endpoint,
}

/// One port.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Port {
    /// Its name, as `port1`.
    pub name: String,
    /// What it is.
    pub kind: PortKind,
    /// The port above.
    pub parent: Option<String>,
    /// What it belongs to: a bridge, a switch's port, or a memdev.
    pub host: String,
    /// Through which of the ports of the one above it is reached.
    pub parent_dport: Option<String>,
    /// How many ports are above.
    pub depth: u32,
    /// What is reached through it.
    pub dports: Vec<Dport>,
    /// Decoders that are in use.
    pub decoders_committed: u32,
}

/// A way down from a port.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dport {
    /// The device, as `0000:0c:00.0`.
    pub name: String,
    /// Its number, by which decoders name it.
    pub id: u64,
}

impl Port {
    pub(crate) fn all(sysfs: &Sysfs) -> Result<Vec<Self>, SysfsError> {
        let mut found = Vec::new();
        for (word, kind) in [
            ("endpoint", PortKind::Endpoint),
            ("port", PortKind::Switch),
            ("root", PortKind::Root),
        ] {
            found.extend(sysfs.each(word, |name, folder| Self::read(name, kind, folder))?);
        }
        Ok(found)
    }

    /// One of them; `None` where it is gone.
    fn read(name: String, kind: PortKind, folder: &Folder) -> Result<Option<Self>, SysfsError> {
        let Some(host) = folder.link("uport")? else {
            return Ok(None);
        };
        let parent = folder.above(&["root", "port"]);
        let above = folder.path.ancestors().skip(1);
        let above = above.filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            matches!(in_order(&name), ("root" | "port", numbers) if !numbers.is_empty())
        });
        Ok(Some(Self {
            name,
            kind,
            parent,
            host,
            parent_dport: folder.link("parent_dport")?,
            depth: u32::try_from(above.count()).unwrap_or(u32::MAX),
            dports: dports(folder)?,
            decoders_committed: folder.small("decoders_committed")?.unwrap_or(0),
        }))
    }
}

fn dports(folder: &Folder) -> Result<Vec<Dport>, SysfsError> {
    let mut found = Vec::new();
    for link in names(&folder.path)? {
        let id = link.strip_prefix("dport").and_then(|id| id.parse().ok());
        let Some(id) = id else { continue };
        if let Some(name) = folder.link(&link)? {
            found.push(Dport { name, id });
        }
    }
    Ok(found)
}
