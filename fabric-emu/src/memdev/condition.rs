//! What is wrong with a memory device, apart from its memory.

use std::collections::BTreeMap;

use crate::id::LdId;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Whether it takes and gives no data.
    pub is_viral: bool,
    /// How many times as long it takes to zero memory.
    pub slower: u32,
    /// The serial number that it tells, where that is not its own.
    pub serial: Option<u64>,
    /// The fixed memory that each logical device tells, in granules, where it tells another.
    pub granules: Option<u64>,
    /// The tables that it tells of its speed, by logical device, where they are those of before.
    pub cdat: BTreeMap<LdId, Vec<u8>>,
    /// How many errors were corrected, by logical device.
    pub corrected: BTreeMap<LdId, u32>,
}

impl Default for Condition {
    fn default() -> Self {
        Self {
            is_viral: false,
            slower: 1,
            serial: None,
            granules: None,
            cdat: BTreeMap::new(),
            corrected: BTreeMap::new(),
        }
    }
}
