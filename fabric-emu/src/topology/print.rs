//! Writes the file of a topology.

use core::fmt::{self, Write};

use super::{Host, Link, Memdev, MemdevKind, Region, Switch, Topology};

impl Topology {
    /// The topology as a file that [`Topology::parse`] reads, with every value said.
    #[must_use]
    pub fn to_toml(&self) -> String {
        struct Toml<'t>(&'t Topology);
        impl fmt::Display for Toml<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_all(f, self.0)
            }
        }
        Toml(self).to_string()
    }
}

fn write_all(out: &mut impl Write, topology: &Topology) -> fmt::Result {
    writeln!(out, "name = {}", quoted(&topology.name))?;
    for one in &topology.hosts {
        host(out, one)?;
    }
    for one in &topology.switches {
        switch(out, one)?;
    }
    for one in &topology.memdevs {
        memdev(out, one)?;
    }
    for one in &topology.links {
        link(out, topology, one)?;
    }
    Ok(())
}

fn host(out: &mut impl Write, host: &Host) -> fmt::Result {
    writeln!(out, "\n[[host]]")?;
    writeln!(out, "name = {}", quoted(&host.name))?;
    writeln!(out, "root_ports = {}", host.root_ports)?;
    writeln!(out, "window = \"{}\"", host.window)?;
    let promised = host.writes_back_no_clean_lines;
    writeln!(out, "writes_back_no_clean_lines = {promised}")?;
    let taken = host.takes_back_invalidates;
    writeln!(out, "takes_back_invalidates = {taken}")?;
    writeln!(out, "cache_lines = {}", host.cache_lines)?;
    for memory in &host.memories {
        writeln!(out, "[[host.memory]]")?;
        writeln!(out, "class = {}", quoted(&memory.class))?;
        writeln!(out, "capacity = \"{}\"", memory.capacity)?;
    }
    Ok(())
}

fn switch(out: &mut impl Write, switch: &Switch) -> fmt::Result {
    writeln!(out, "\n[[switch]]")?;
    writeln!(out, "name = {}", quoted(&switch.name))?;
    writeln!(out, "ports = {}", switch.ports)?;
    writeln!(out, "vppbs = {}", switch.vppbs)
}

fn memdev(out: &mut impl Write, memdev: &Memdev) -> fmt::Result {
    writeln!(out, "\n[[memdev]]")?;
    writeln!(out, "name = {}", quoted(&memdev.name))?;
    writeln!(out, "serial = {:#x}", memdev.serial)?;
    match memdev.kind {
        MemdevKind::Sld => writeln!(out, "kind = \"sld\"")?,
        MemdevKind::Mld(count) => writeln!(out, "kind = {{ mld = {count} }}")?,
        MemdevKind::MultiHeaded(count) => writeln!(out, "kind = {{ heads = {count} }}")?,
    }
    writeln!(out, "class = {}", quoted(&memdev.class))?;
    if let Some(limit) = memdev.ld_limit {
        writeln!(out, "ld_limit = {}", limit.get())?;
    }
    writeln!(out, "fixed = \"{}\"", memdev.fixed)?;
    writeln!(out, "dynamic = \"{}\"", memdev.dynamic)?;
    for one in &memdev.regions {
        region(out, one)?;
    }
    Ok(())
}

fn region(out: &mut impl Write, region: &Region) -> fmt::Result {
    writeln!(out, "[[memdev.region]]")?;
    writeln!(out, "length = \"{}\"", region.length)?;
    writeln!(out, "block = \"{}\"", region.block)?;
    writeln!(out, "sharable = {}", region.is_sharable)?;
    writeln!(out, "read_only = {}", region.is_read_only)?;
    writeln!(out, "sanitize = {}", region.sanitizes)?;
    let coherence = if region.is_hardware_coherent {
        "hardware"
    } else {
        "software"
    };
    writeln!(out, "coherence = \"{coherence}\"")
}

fn link(out: &mut impl Write, topology: &Topology, link: &Link) -> fmt::Result {
    writeln!(out, "\n[[link]]")?;
    writeln!(out, "up = {}", quoted(&topology.end(link.up)))?;
    writeln!(out, "down = {}", quoted(&topology.end(link.down)))?;
    writeln!(out, "lanes = {}", link.lanes)?;
    writeln!(out, "gigatransfers = {}", link.gigatransfers)
}

/// A text of the file, whatever it holds.
fn quoted(text: &str) -> toml::Value {
    toml::Value::String(text.to_owned())
}
