//! The form of a topology in a file, which is TOML. Keys that stand nowhere below are refused.
//!
//! Sizes are texts as `"64 MiB"`. Names are 1 to 32 letters, digits, `-`, `_` and `.`, the first
//! one a letter or digit. A file has up to 16 MiB, and its parts are bounded as
//! [`limits`](super::limits) says.
//!
//! | key | meaning | unless said |
//! |---|---|---|
//! | `name` | what the topology is called | must be there |
//! | **`[[host]]`** | a machine | one must be there |
//! | `name` | what it is called; no other part is called so | must be there |
//! | `root_ports` | how many root ports it has, 0 to 255 | 1 |
//! | `window` | addresses for memory of the fabric: multiple of 256 MiB | `"256 GiB"` |
//! | `writes_back_no_clean_lines` | whether its caches promise that | false |
//! | `takes_back_invalidates` | whether devices may have lines back from its caches | false |
//! | `cache_lines` | lines of its caches, 1 to 1,048,576 | 4096 |
//! | **`[[host.memory]]`** | memory that is its own, 16 at most | none |
//! | `class` | of the timing table, as `"hbm"`, `"ddr"` or `"nvme"` | must be there |
//! | `capacity` | how much | must be there |
//! | **`[[switch]]`** | a switch | none |
//! | `name` | what it is called | must be there |
//! | `ports` | how many ports it has, 2 to 255 | must be there |
//! | `vppbs` | virtual bridges of each virtual switch, 1 to 255 | one fewer than `ports` |
//! | **`[[memdev]]`** | a memory device | none |
//! | `name` | what it is called | must be there |
//! | `serial` | its serial number | 0x1001 and what is added by its place |
//! | `kind` | `"sld"`, `{ mld = 4 }` or `{ heads = 2 }`, 1 to 16 | `"sld"` |
//! | `class` | of the timing table | `"cxl-x8"` |
//! | `ld_limit` | bytes a second that each logical device may move, 10^6 to 10^15 | no limit |
//! | `fixed` | memory from the start: 256 MiB or a multiple for each logical device | `"0"` |
//! | `dynamic` | memory that is added and released, likewise | `"0"` |
//! | **`[[memdev.region]]`** | how each logical device sees the dynamic memory, 8 at most | none |
//! | `length` | addresses: multiple of 256 MiB and of `block` | what `dynamic` says |
//! | `block` | unit in which it is added: power of two, 2 MiB at least | `"256 MiB"` |
//! | `sharable` | whether several hosts may have the same memory | false |
//! | `read_only` | whether hosts only read it | false |
//! | `sanitize` | whether it is zeroed before another host has it | true |
//! | `coherence` | among hosts that share it: `"hardware"` or `"software"` | `"software"` |
//! | **`[[link]]`** | a cable | none |
//! | `up`, `down` | its ends, as `"h0:0"`; `up` is nearer to a host | must be there |
//! | `lanes` | 1, 2, 4, 8 or 16 | 8 |
//! | `gigatransfers` | 10^9 transfers a second of each lane: 8, 16, 32 or 64 | 32 |

use serde::Deserialize;
use toml::Spanned;

type Value<T> = Option<Spanned<T>>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) name: Spanned<String>,
    #[serde(default)]
    pub(super) host: Vec<Spanned<HostEntry>>,
    #[serde(default)]
    pub(super) switch: Vec<Spanned<SwitchEntry>>,
    #[serde(default)]
    pub(super) memdev: Vec<Spanned<MemdevEntry>>,
    #[serde(default)]
    pub(super) link: Vec<Spanned<LinkEntry>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HostEntry {
    pub(super) name: Spanned<String>,
    pub(super) root_ports: Value<u64>,
    pub(super) window: Value<String>,
    #[serde(default)]
    pub(super) writes_back_no_clean_lines: bool,
    #[serde(default)]
    pub(super) takes_back_invalidates: bool,
    pub(super) cache_lines: Value<u64>,
    #[serde(default)]
    pub(super) memory: Vec<Spanned<MemoryEntry>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MemoryEntry {
    pub(super) class: Spanned<String>,
    pub(super) capacity: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SwitchEntry {
    pub(super) name: Spanned<String>,
    pub(super) ports: Spanned<u64>,
    pub(super) vppbs: Value<u64>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum KindEntry {
    Sld,
    Mld(u64),
    Heads(u64),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MemdevEntry {
    pub(super) name: Spanned<String>,
    pub(super) serial: Value<u64>,
    pub(super) kind: Value<KindEntry>,
    pub(super) class: Value<String>,
    pub(super) ld_limit: Value<u64>,
    pub(super) fixed: Value<String>,
    pub(super) dynamic: Value<String>,
    #[serde(default)]
    pub(super) region: Vec<Spanned<RegionEntry>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum CoherenceEntry {
    Hardware,
    #[default]
    Software,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RegionEntry {
    pub(super) length: Value<String>,
    pub(super) block: Value<String>,
    #[serde(default)]
    pub(super) sharable: bool,
    #[serde(default)]
    pub(super) read_only: bool,
    pub(super) sanitize: Option<bool>,
    #[serde(default)]
    pub(super) coherence: CoherenceEntry,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkEntry {
    pub(super) up: Spanned<String>,
    pub(super) down: Spanned<String>,
    pub(super) lanes: Value<u64>,
    pub(super) gigatransfers: Value<u64>,
}
