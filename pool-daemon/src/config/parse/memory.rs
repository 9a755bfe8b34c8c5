//! `[window]`, `[[tier]]` and `[[device]]`.

use std::path::PathBuf;

use kernel_cxl::REGION_UNIT;
use pool_core::units::TIB;
use pool_core::{Bytes, EXTENT_BYTES, Nanos, PoolAddr, WindowRange};

use super::super::reader::{Item, Section};
use super::super::{
    ConfigError, CxlMode, CxlSource, Device, DeviceKind, FabricSource, PagePolicy, defaults,
};
use super::{name, path, required, size};

/// Linux numbers its NUMA nodes from 0 to below 2^10.
const NUMA_NODE_MAX: u64 = 1_023;
/// Half of the extents that 32 bits can count.
const DEVICE_BYTES_MAX: u64 = 4_096 * TIB;
const _: () = assert!(DEVICE_BYTES_MAX / EXTENT_BYTES < u32::MAX as u64);
/// The most devices that a region may lie on in turn.
const CXL_WAYS_MAX: usize = 16;
/// The longest idleness and patience.
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// What the kernel takes as a path, less its final zero.
const PATH_BYTES_MAX: usize = 4_095;

pub(super) fn window(section: Option<Section<'_>>) -> Result<WindowRange, ConfigError> {
    let default = WindowRange::DEFAULT;
    let Some(mut section) = section else {
        return Ok(default);
    };
    let allowed = "an address from 4 GiB to below 2^47 in steps of 2 MiB, as \"0x2000_0000_0000\"";
    let base = section
        .text_or_number("base", allowed)?
        .map(|text| text.convert(allowed, base))
        .transpose()?
        .map_or(default.base(), |base| base.value);
    let allowed =
        "an amount from \"2 MiB\" in steps of 2 MiB that with the base ends at 2^47 at most";
    let size = size(&mut section, "size", allowed, |size| {
        WindowRange::new(base, size).is_ok()
    })?;
    let size = size.map_or(default.len(), |size| size.value);
    // Only the default size can still be too much for the base.
    let window = WindowRange::new(base, size).map_err(|_| section.missing("size", allowed))?;
    section.finish()?;
    Ok(window)
}

/// A base as `0x2000_0000_0000` or in decimal digits.
fn base(text: String) -> Option<PoolAddr> {
    let digits = text.replace('_', "");
    let base = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok()?,
        None => digits.parse().ok()?,
    };
    let base = PoolAddr::new(base);
    WindowRange::new(base, Bytes::new(EXTENT_BYTES))
        .is_ok()
        .then_some(base)
}

pub(super) fn tiers(sections: Vec<Section<'_>>) -> Result<Vec<String>, ConfigError> {
    let mut tiers: Vec<String> = Vec::new();
    for mut section in sections {
        let taken: Vec<_> = tiers.iter().map(String::as_str).collect();
        let tier = name(&mut section, &taken)?.value;
        section.finish()?;
        tiers.push(tier);
    }
    Ok(tiers)
}

pub(super) fn devices(
    sections: Vec<Section<'_>>,
    tiers: &[String],
) -> Result<Vec<Device>, ConfigError> {
    let mut devices: Vec<Device> = Vec::new();
    for mut section in sections {
        let taken: Vec<_> = devices.iter().map(|device| device.name.as_str()).collect();
        let device = device(&mut section, &taken, tiers)?;
        section.finish()?;
        devices.push(device);
    }
    Ok(devices)
}

fn device(
    section: &mut Section<'_>,
    taken: &[&str],
    tiers: &[String],
) -> Result<Device, ConfigError> {
    let name = name(section, taken)?.value;
    let tiers: Vec<_> = tiers
        .iter()
        .map(|tier| (tier.as_str(), tier.as_str()))
        .collect();
    let written = section.word("tier", &tiers)?;
    let tier = required(section, "tier", "the name of a [[tier]]", written)?
        .value
        .to_owned();
    let allowed = format!(
        "an amount from \"2 MiB\" to \"{}\" in steps of 2 MiB",
        Bytes::new(DEVICE_BYTES_MAX)
    );
    let fits = |size: Bytes| {
        (EXTENT_BYTES..=DEVICE_BYTES_MAX).contains(&size.get())
            && size.get().is_multiple_of(EXTENT_BYTES)
    };
    let written = size(section, "size", &allowed, fits)?;
    let size = required(section, "size", &allowed, written)?;
    let kinds: [(&str, ReadKind); 5] = [
        ("memfd", memfd),
        ("file", file),
        ("fabric", fabric),
        ("devdax", |section, size| {
            cxl(section, size, CxlMode::DevDax)
        }),
        ("kmem", |section, size| cxl(section, size, CxlMode::Kmem)),
    ];
    let written = section.word("kind", &kinds)?;
    let allowed = "\"memfd\", \"file\", \"fabric\", \"devdax\" or \"kmem\"";
    let read = required(section, "kind", allowed, written)?.value;
    let (kind, emulated) = read(section, &size)?;
    Ok(Device {
        name,
        tier,
        size: size.value,
        emulated,
        kind,
    })
}

/// Reads the keys that devices of one kind have, of which one is so large, and whether it is
/// emulated.
type ReadKind = fn(&mut Section<'_>, &Item<Bytes>) -> Result<(DeviceKind, bool), ConfigError>;

fn memfd(
    section: &mut Section<'_>,
    _size: &Item<Bytes>,
) -> Result<(DeviceKind, bool), ConfigError> {
    let policies = [
        ("auto", PagePolicy::Auto),
        ("hugetlb", PagePolicy::Hugetlb),
        ("collapsed", PagePolicy::Collapsed),
        ("base", PagePolicy::Base),
    ];
    let pages = section
        .word("pages", &policies)?
        .map_or(PagePolicy::Auto, |pages| pages.value);
    let node = section.number("numa_node", 0..=NUMA_NODE_MAX)?;
    let numa_node = node.and_then(|node| u32::try_from(node.value).ok());
    // Not left to a default: whether bytes are what their tier says is the operator's to state.
    let allowed = "true where ordinary memory stands for something else, else false";
    let written = section.boolean("emulated")?;
    let emulated = required(section, "emulated", allowed, written)?.value;
    Ok((DeviceKind::Memfd { pages, numa_node }, emulated))
}

fn file(section: &mut Section<'_>, _size: &Item<Bytes>) -> Result<(DeviceKind, bool), ConfigError> {
    let written = path(section, "directory", PATH_BYTES_MAX)?;
    let directory: PathBuf = required(section, "directory", "an absolute path", written)?.value;
    let emulated = section
        .boolean("emulated")?
        .is_some_and(|emulated| emulated.value);
    Ok((DeviceKind::File { directory }, emulated))
}

fn fabric(
    section: &mut Section<'_>,
    _size: &Item<Bytes>,
) -> Result<(DeviceKind, bool), ConfigError> {
    let written = path(section, "directory", PATH_BYTES_MAX)?;
    let allowed = "the absolute path of a directory that `poolctl fabric serve` serves";
    let directory = required(section, "directory", allowed, written)?.value;
    let allowed = "the number of this host in the fabric, 0 to 65535";
    let host = section.number("host", 0..=u64::from(u16::MAX))?;
    let host = required(section, "host", allowed, host)?.value;
    let number = |written: Option<Item<u64>>| {
        // Within the bounds it was read with.
        let number = written.map_or(0, |written| written.value);
        u16::try_from(number).unwrap_or(u16::MAX)
    };
    let memdev = number(section.number("memdev", 0..=u64::from(u16::MAX))?);
    let ld = number(section.number("ld", 0..=u64::from(u16::MAX))?);
    let region = number(section.number("region", 0..=7)?);
    let shared = section.boolean("shared")?.is_some_and(|it| it.value);
    let ahead = if shared {
        Ahead::default() // Groups are asked for one by one, so these keys are none of its own.
    } else {
        ahead(section)?
    };
    let patience = section.number("patience_ms", 1..=DAY_MS)?;
    let patience = millis(patience, defaults::FABRIC_PATIENCE);
    let written = section.boolean("emulated")?;
    if written.is_some_and(|written| !written.value) {
        return Err(section.missing("emulated", "true, or left out: the fabric is emulated"));
    }
    let source = FabricSource {
        directory,
        host: u16::try_from(host).unwrap_or(u16::MAX),
        memdev,
        ld,
        // At most 7.
        region: u8::try_from(region).unwrap_or(0),
        shared,
        step: ahead.step,
        low: ahead.low,
        high: ahead.high,
        idle: ahead.idle,
        patience,
    };
    Ok((DeviceKind::Fabric(source), true))
}

fn cxl(
    section: &mut Section<'_>,
    size: &Item<Bytes>,
    mode: CxlMode,
) -> Result<(DeviceKind, bool), ConfigError> {
    let serials = section.numbers("serials", 0..=u64::MAX, CXL_WAYS_MAX)?;
    let allowed = "the serial numbers of one memory device or several, as [0xa0]";
    let serials = required(section, "serials", allowed, serials)?;
    let unit = REGION_UNIT.get().saturating_mul(serials.value.len() as u64);
    if serials.value.is_empty() {
        return Err(section.missing("serials", allowed));
    }
    if !size.value.get().is_multiple_of(unit) {
        let unit = Bytes::new(unit);
        let allowed = format!("a multiple of {unit}: 256 MiB for each of its memory devices");
        return Err(size.written.refused(allowed));
    }
    let emulated = section.boolean("emulated")?.is_some_and(|it| it.value);
    let serials = serials.value;
    // The kernel writes to the memory of a node as it likes: no other host can have it.
    let shared = mode == CxlMode::DevDax && section.boolean("shared")?.is_some_and(|it| it.value);
    let source = CxlSource {
        serials,
        mode,
        size: size.value,
        shared,
    };
    Ok((DeviceKind::Cxl(source), emulated))
}

/// How much of a device is asked for ahead, and when it is given back.
#[derive(Debug)]
struct Ahead {
    step: Bytes,
    low: Bytes,
    high: Bytes,
    idle: Nanos,
}

impl Default for Ahead {
    fn default() -> Self {
        Self {
            step: defaults::FABRIC_STEP,
            low: defaults::FABRIC_LOW,
            high: defaults::FABRIC_HIGH,
            idle: defaults::FABRIC_IDLE,
        }
    }
}

fn ahead(section: &mut Section<'_>) -> Result<Ahead, ConfigError> {
    let (step, low) = (
        extents(section, "step", defaults::FABRIC_STEP)?,
        extents(section, "low", defaults::FABRIC_LOW)?,
    );
    let least = Bytes::new(low.get().saturating_add(step.get()));
    let allowed = format!("no less than low and step together, {least}, in steps of 2 MiB");
    let written = size(section, "high", &allowed, |high| {
        high >= least && high.get().is_multiple_of(EXTENT_BYTES)
    })?;
    let high = written.map_or(defaults::FABRIC_HIGH.max(least), |high| high.value);
    let idle = section.number("idle_ms", 1..=DAY_MS)?;
    let idle = millis(idle, defaults::FABRIC_IDLE);
    Ok(Ahead {
        step,
        low,
        high,
        idle,
    })
}

fn millis(written: Option<Item<u64>>, default: Nanos) -> Nanos {
    written.map_or(default, |written| Nanos::from_millis(written.value))
}

/// A whole number of extents, at least one.
fn extents(
    section: &mut Section<'_>,
    key: &'static str,
    default: Bytes,
) -> Result<Bytes, ConfigError> {
    let allowed = "an amount from \"2 MiB\" in steps of 2 MiB";
    let fits = |size: Bytes| size > Bytes::ZERO && size.get().is_multiple_of(EXTENT_BYTES);
    let fits = |size: Bytes| fits(size) && size.get() <= DEVICE_BYTES_MAX;
    let written = size(section, key, allowed, fits)?;
    Ok(written.map_or(default, |written| written.value))
}
