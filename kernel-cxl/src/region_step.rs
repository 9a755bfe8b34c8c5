//! What is written to make a region and to take it away, a step at a time.
//!
//! Each step is one value for one file, which the kernel does or refuses as a whole. A plan is a
//! list of them, so that what a death leaves is what the first so many of them did: a test stops
//! after each. Making begins with the region and ends with its driver; taking away begins with the
//! driver and ends with the region. So whatever is left half-way, the region is there to be named.

use core::fmt;
use std::fs::File;

use pool_core::clock::{Deadline, eventually};
use pool_core::{Bytes, planted};

use crate::change_error::ChangeError;
use crate::dax::DaxDriver;
use crate::region_end::RegionEnd;
use crate::region_plan::RegionPlan;
use crate::sysfs::{Sysfs, SysfsError};
use crate::topology::Topology;

/// What a target is told that is to be none.
const NOTHING: &str = "\n";

/// One value for one file. Names are the kernel's: of windows, regions, and decoders of endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// In a window there is a region of that name.
    Make(String, String),
    /// A region is interleaved by so many bytes.
    Granularity(String, u32),
    /// Over so many devices.
    Ways(String, u32),
    /// A decoder is for volatile memory.
    Volatile(String),
    /// A decoder takes so much of its device.
    Take(String, Bytes),
    /// A decoder gives that back.
    GiveBack(String),
    /// A region has addresses for so much.
    Size(String, Bytes),
    /// At a position of a region is a decoder.
    Attach(String, u32, String),
    /// At a position of a region is none.
    Detach(String, u32),
    /// The addresses of a region lead to memory.
    Commit(String),
    /// They do not.
    Reset(String),
    /// The driver has a region.
    Enable(String),
    /// It has not.
    Disable(String),
    /// In a window there is no region of that name.
    Delete(String, String),
}

impl Step {
    /// The file below `/sys`, and what it is told.
    fn told(&self) -> (String, String) {
        let bus = |of: &str, file: &str| format!("sys/bus/cxl/devices/{of}/{file}");
        let driver = |file: &str| format!("sys/bus/cxl/drivers/cxl_region/{file}");
        match self {
            Self::Make(window, name) => (bus(window, "create_ram_region"), name.clone()),
            Self::Granularity(name, bytes) => {
                (bus(name, "interleave_granularity"), bytes.to_string())
            }
            Self::Ways(name, ways) => (bus(name, "interleave_ways"), ways.to_string()),
            Self::Volatile(decoder) => (bus(decoder, "mode"), "ram".to_owned()),
            Self::Take(decoder, bytes) => (bus(decoder, "dpa_size"), bytes.get().to_string()),
            Self::GiveBack(decoder) => (bus(decoder, "dpa_size"), "0".to_owned()),
            Self::Size(name, bytes) => (bus(name, "size"), bytes.get().to_string()),
            Self::Attach(name, at, decoder) => (bus(name, &format!("target{at}")), decoder.clone()),
            Self::Detach(name, at) => (bus(name, &format!("target{at}")), NOTHING.to_owned()),
            Self::Commit(name) => (bus(name, "commit"), "1".to_owned()),
            Self::Reset(name) => (bus(name, "commit"), "0".to_owned()),
            Self::Enable(name) => (driver("bind"), name.clone()),
            Self::Disable(name) => (driver("unbind"), name.clone()),
            Self::Delete(window, name) => (bus(window, "delete_region"), name.clone()),
        }
    }

    /// What takes it back where it was done; nothing where it leaves nothing that lasts.
    fn taken_back(&self) -> Option<Self> {
        Some(match self {
            Self::Make(window, name) => Self::Delete(window.clone(), name.clone()),
            Self::Take(decoder, _) => Self::GiveBack(decoder.clone()),
            Self::Attach(name, at, _) => Self::Detach(name.clone(), *at),
            Self::Commit(_) if planted!("region.undoing_leaves_it_committed") => return None,
            Self::Commit(name) => Self::Reset(name.clone()),
            Self::Enable(name) => Self::Disable(name.clone()),
            _ => return None,
        })
    }
}

/// What takes back what was done, and nothing that somebody else did.
#[must_use]
pub fn undone(done: &[Step]) -> Vec<Step> {
    let mut steps: Vec<Step> = done.iter().rev().filter_map(Step::taken_back).collect();
    if planted!("region.undoes_in_the_order_of_doing") {
        steps.reverse();
    }
    steps
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, value) = self.told();
        write!(f, "{:?} into /{file}", value.trim_end())
    }
}

/// As long as this lives, no other program of this project makes or destroys a region.
#[derive(Debug)]
pub struct RegionLock {
    _locked: Option<File>,
}

impl Sysfs {
    /// Keeps other programs of this project from making or destroying regions. The topology that a
    /// plan is made from is to be read under it: of two at once one would take the other's
    /// decoders. `cxl` knows nothing of it.
    ///
    /// # Errors
    /// [`ChangeError::Busy`] where another one has it for so long.
    pub fn lock_regions(&self, until: Deadline) -> Result<RegionLock, ChangeError> {
        let path = self.path("sys/bus/cxl/devices");
        let failed = |source| {
            let path = path.clone();
            ChangeError::Sysfs(SysfsError::Read { path, source })
        };
        if !path.exists() {
            // There is nothing to be made of, and nothing to be destroyed.
            return Ok(RegionLock { _locked: None });
        }
        let file = File::open(&path).map_err(failed)?;
        let locked = eventually(until, || match file.try_lock() {
            Ok(()) => Some(Ok(())),
            Err(std::fs::TryLockError::WouldBlock) => None,
            Err(std::fs::TryLockError::Error(source)) => Some(Err(failed(source))),
        });
        locked.map_err(|_| ChangeError::Busy)??;
        Ok(RegionLock {
            _locked: Some(file),
        })
    }

    /// Does one step. Whole changes are [`Sysfs::create_region`] and [`Sysfs::destroy_region`].
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn take(&self, step: &Step) -> Result<(), ChangeError> {
        let (file, value) = step.told();
        self.folder("").write(&file, &value)
    }

    /// The name that the next region of a plan's window has.
    ///
    /// # Errors
    /// Where the window is gone, or takes no region.
    pub fn next_region(&self, plan: &RegionPlan) -> Result<String, ChangeError> {
        let window = self.folder("sys/bus/cxl/devices").at(&plan.window);
        let name = window.text("create_ram_region")?;
        let name = name.filter(|name| !name.is_empty());
        name.ok_or_else(|| ChangeError::DidNotCome("the name of a region".to_owned()))
    }

    /// Makes a region, and tells its name. Its dax device comes a little later. Have
    /// [`Sysfs::lock_regions`] since before the plan was made.
    ///
    /// # Errors
    /// [`ChangeError::NotMovable`] where `kmem` would take it at once and never give it back. What
    /// the kernel refused; what was done before is undone then.
    pub fn create_region(&self, plan: &RegionPlan) -> Result<String, ChangeError> {
        if self.has_driver(DaxDriver::Kmem) {
            self.check_movable()?;
        }
        let name = self.next_region(plan)?;
        let steps = plan.steps(&name);
        for (done, step) in steps.iter().enumerate() {
            if let Err(why) = self.take(step) {
                for step in undone(&steps[..done]) {
                    // The failure that led here is what is told: what cannot be taken back is seen
                    // in the topology, and the region is there to be destroyed.
                    let _stays = self.take(&step);
                }
                return Err(why);
            }
        }
        Ok(name)
    }

    /// Takes a region away whose memory nobody has any more, or whose making somebody did not
    /// bring to its end, and gives its devices' memory back. The name may be that of a decoder that
    /// has taken memory for no region. Have [`Sysfs::lock_regions`] since before the topology was
    /// read.
    ///
    /// # Errors
    /// Why it cannot go now; nothing has changed then. Or what the kernel refused half-way: what is
    /// left can be destroyed in the same way.
    pub fn destroy_region(&self, topology: &Topology, name: &str) -> Result<(), ChangeError> {
        for step in RegionEnd::new(topology, name)?.steps() {
            self.take(step)?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
