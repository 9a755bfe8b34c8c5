//! From a document to a configuration: every key, its kind and its bounds.

use std::path::PathBuf;

use pool_core::Bytes;
use pool_core::limits::{DEVICES_MAX, NAME_BYTES_MAX, TENANTS_MAX, is_name};

use super::reader::{Document, Item, Section};
use super::{Config, ConfigError};

mod daemon;
mod memory;
mod network;
mod tenancy;

/// User ids or group ids of one tenant, and user ids of operators.
const IDS_MAX: usize = 1_024;
/// The last user id: 2^32 - 1 means none.
const ID_MAX: u32 = u32::MAX - 1;

pub(super) fn document(file: &str, text: &str) -> Result<Config, ConfigError> {
    let document = Document::new(file.to_owned(), text);
    let mut top = document.top()?;
    let daemon = daemon::daemon(top.section("daemon")?)?;
    let window = memory::window(top.section("window")?)?;
    let tiers = memory::tiers(top.sections("tier", DEVICES_MAX)?)?;
    let devices = top.sections("device", DEVICES_MAX)?;
    if tiers.is_empty() && !devices.is_empty() {
        return Err(top.missing(
            "tier",
            "a [[tier]] with a name for each tier, fastest first",
        ));
    }
    let devices = memory::devices(devices, &tiers)?;
    let tenants = tenancy::tenants(top.sections("tenant", TENANTS_MAX)?)?;
    let default_tenant = tenancy::default_tenant(top.section("default_tenant")?)?;
    let grpc = top.section("grpc")?.map(network::grpc).transpose()?;
    let metrics_listen = top
        .section("metrics")?
        .map(network::metrics)
        .transpose()?
        .flatten();
    top.finish()?;
    Ok(Config {
        daemon,
        window,
        tiers,
        devices,
        tenants,
        default_tenant,
        grpc,
        metrics_listen,
        written: document.into_written(),
    })
}

/// Puts a value that was written in the place of the default.
fn set<T>(value: &mut T, written: Option<Item<T>>) {
    if let Some(written) = written {
        *value = written.value;
    }
}

/// The value of a key that must be there.
fn required<T>(
    section: &Section<'_>,
    key: &str,
    allowed: &str,
    written: Option<Item<T>>,
) -> Result<Item<T>, ConfigError> {
    written.ok_or_else(|| section.missing(key, allowed))
}

/// An amount of memory of which `fits` holds.
fn size(
    section: &mut Section<'_>,
    key: &'static str,
    allowed: &str,
    fits: impl Fn(Bytes) -> bool,
) -> Result<Option<Item<Bytes>>, ConfigError> {
    let parse = |text: String| Bytes::parse(&text).ok().filter(|&bytes| fits(bytes));
    section
        .text(key, allowed)?
        .map(|text| text.convert(allowed, parse))
        .transpose()
}

/// An absolute path of at most `most` bytes.
fn path(
    section: &mut Section<'_>,
    key: &'static str,
    most: usize,
) -> Result<Option<Item<PathBuf>>, ConfigError> {
    let allowed = format!("an absolute path of at most {most} bytes");
    let parse = |text: String| {
        let fits = text.starts_with('/') && text.len() <= most && !text.contains('\0');
        fits.then(|| PathBuf::from(text))
    };
    section
        .text(key, &allowed)?
        .map(|text| text.convert(&allowed, parse))
        .transpose()
}

/// The name of the section, which no other in `taken` has.
fn name(section: &mut Section<'_>, taken: &[&str]) -> Result<Item<String>, ConfigError> {
    let allowed = format!(
        "1 to {NAME_BYTES_MAX} letters, digits and -, _, . or /, and different from the other names"
    );
    let written = section.text("name", &allowed)?;
    let name = required(section, "name", &allowed, written)?;
    let fits = |name: String| (is_name(&name) && !taken.contains(&name.as_str())).then_some(name);
    name.convert(&allowed, fits)
}

/// User ids or group ids.
fn ids(
    section: &mut Section<'_>,
    key: &'static str,
) -> Result<Option<Item<Vec<u32>>>, ConfigError> {
    let ids = section.numbers(key, 0..=u64::from(ID_MAX), IDS_MAX)?;
    let narrow = |ids: Vec<u64>| ids.into_iter().map(|id| u32::try_from(id).ok()).collect();
    ids.map(|ids| ids.convert("a list of ids", narrow))
        .transpose()
}
