//! The regions of CXL memory that a configuration names, and what becomes of them.
//!
//! A region is found by the serial numbers of the devices that it lies on: names are others after
//! each start of the machine. Where there is none it is made. It stays when the daemon ends, since
//! its clients go on; whoever wants it gone destroys it with the daemon stopped.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use kernel_cxl::{
    ChangeError, DaxDevice as Slice, DaxDriver, NewRegion, Region, RegionPlan, Sysfs, Topology,
};
use nix::fcntl::{Flock, FlockArg};
use pool_core::Bytes;
use pool_core::sync::Arc;

use super::dax::DaxDevice;
use super::memfd::{MemfdDevice, PagePolicy};
use super::{Device, SetupError};
use crate::config::{CxlMode, CxlSource};
use crate::engine::command::WorldError;

/// The sort of memory that is volatile, as the kernel names it.
const RAM: &str = "ram";
/// By how many bytes a region of several devices is interleaved.
const GRANULARITY: u32 = 256;

/// Takes a region over, which is made where there is none, and makes of it what it is to be.
///
/// # Errors
/// Where the kernel cannot, or somebody else has it. What was there before is there still.
pub fn open(source: &CxlSource) -> Result<Arc<dyn Device>, SetupError> {
    let sysfs = Sysfs::here();
    let (region, is_new) = find_or_make(&sysfs, source)?;
    let claim = claim(&sysfs, &region)?;
    match source.mode {
        CxlMode::DevDax => Ok(Arc::new(DaxDevice::open(sysfs, &region, is_new, claim)?)),
        CxlMode::Kmem => {
            let node = put_online(&sysfs, &region)?;
            // All of the node is the pool's: nothing is kept for others.
            let node = MemfdDevice::new(PagePolicy::Collapsed, Some(node), Bytes::ZERO)?;
            Ok(Arc::new(node.keeping(claim)))
        }
    }
}

/// The name of the region on these devices, and whether it was made just now.
fn find_or_make(sysfs: &Sysfs, source: &CxlSource) -> Result<(String, bool), SetupError> {
    let topology = Topology::read(sysfs)?;
    let serials_of = |region: &Region| {
        let behind = region.targets.iter().map(|it| topology.memdev_behind(it));
        behind.map(|memdev| memdev.map(|it| it.serial)).collect()
    };
    let wanted = Some(source.serials.clone());
    let mut found = topology.regions.iter();
    if let Some(region) = found.find(|region| wanted == serials_of(region)) {
        if region.mode != RAM || !region.is_committed || !region.is_enabled {
            return Err(SetupError::RegionUnusable {
                region: region.name.clone(),
            });
        }
        if region.bytes() != source.size {
            return Err(SetupError::RegionSize {
                region: region.name.clone(),
                found: region.bytes(),
                wanted: source.size,
            });
        }
        return Ok((region.name.clone(), false));
    }
    let new = NewRegion {
        serials: source.serials.clone(),
        bytes: Some(source.size),
        granularity: GRANULARITY,
    };
    let name = sysfs.create_region(&RegionPlan::new(&topology, &new)?)?;
    sysfs.await_dax(&name)?;
    tracing::info!(region = %name, size = %source.size, "a region of CXL memory is made");
    Ok((name, true))
}

/// A region as it is now.
pub(super) fn region(sysfs: &Sysfs, name: &str) -> Result<Region, ChangeError> {
    let regions = Topology::read(sysfs)?.regions;
    let found = regions.into_iter().find(|region| region.name == name);
    found.ok_or_else(|| ChangeError::NoRegion(name.to_owned()))
}

/// The dax devices of a region.
pub(super) fn slices(sysfs: &Sysfs, name: &str) -> Result<Vec<Slice>, ChangeError> {
    let cut = region(sysfs, name)?.dax;
    Ok(cut.map_or_else(Vec::new, |cut| cut.devices))
}

/// Makes a region memory of a node, all of which can be moved, and tells which node.
fn put_online(sysfs: &Sysfs, region: &str) -> Result<u32, SetupError> {
    let mut node = None;
    for slice in slices(sysfs, region)? {
        if slice.driver.as_deref() == Some(DaxDriver::DeviceDax.name()) {
            return Err(in_use(region, &slice));
        }
        sysfs.drive(&slice.name, Some(DaxDriver::Kmem))?;
        sysfs.put_online(&slice.name)?;
        node = slice.target_node;
    }
    node.ok_or_else(|| ChangeError::DidNotCome(format!("a node of {region}")).into())
}

pub(super) fn in_use(region: &str, slice: &Slice) -> SetupError {
    SetupError::RegionInUse {
        region: region.to_owned(),
        device: slice.name.clone(),
        driver: slice.driver.clone().unwrap_or_default(),
    }
}

/// Keeps a region this daemon's, for as long as the value lives.
fn claim(sysfs: &Sysfs, region: &str) -> Result<Flock<OwnedFd>, SetupError> {
    let folder = sysfs.region_folder(region);
    let folder = File::open(&folder).map_err(|error| crate::sys::failed("open", &error))?;
    Flock::lock(OwnedFd::from(folder), FlockArg::LockExclusiveNonblock).map_err(|_| {
        SetupError::RegionTaken {
            region: region.to_owned(),
        }
    })
}

/// What the kernel refused, as it is told of a file.
pub(super) fn told(error: &ChangeError) -> WorldError {
    tracing::error!(%error, "a dax device is not as it should be");
    let (call, source) = match error {
        ChangeError::Write { path, source, .. } => (of_file(path), source.raw_os_error()),
        _ => ("sysfs", None),
    };
    let errno = source.unwrap_or(libc::EIO);
    WorldError::Os { call, errno }
}

/// What is told of a file of the kernel's that did not take what it was told.
fn of_file(path: &Path) -> &'static str {
    const FILES: [&str; 6] = ["create", "mapping", "new_id", "unbind", "size", "delete"];
    let mut files = FILES.into_iter();
    let found = files.find(|name| path.ends_with(name));
    found.unwrap_or("sysfs")
}
