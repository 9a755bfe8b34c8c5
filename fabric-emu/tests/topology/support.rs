//! A file of a topology that is right, and what is said of files that are not.

use fabric_emu::topology::{Topology, TopologyError};

/// Of a host, a switch and a device, in a row. Line 2 is the host, 6 the switch, 10 the device, 16
/// its region, and 20 and 24 are the links.
pub(crate) const GOOD: &str = "\
name = \"t\"
[[host]]
name = \"h\"
window = \"1 GiB\"

[[switch]]
name = \"s\"
ports = 3

[[memdev]]
name = \"m\"
serial = 7
kind = { mld = 2 }
dynamic = \"1 GiB\"

[[memdev.region]]
length = \"1 GiB\"
block = \"256 MiB\"

[[link]]
up = \"h:0\"
down = \"s:0\"

[[link]]
up = \"s:1\"
down = \"m:0\"
";

/// The good file with one text for another, which must be there.
pub(crate) fn changed(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replace(from, to)
}

pub(crate) fn more(lines: &str) -> String {
    format!("{GOOD}{lines}")
}

pub(crate) fn refusal(text: &str) -> TopologyError {
    match Topology::parse("t.toml", text) {
        Ok(topology) => panic!("{text}\nwas read as {topology:?}"),
        Err(error) => error,
    }
}
