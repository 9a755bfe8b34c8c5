//! What operators ask of CXL memory: what there is, another region, a region less.
//!
//! All of it reads and writes the kernel's files, which may take long: whoever calls waits on a
//! thread of its own.
//!
//! # Invariants
//! 1. A change that is refused has changed nothing: a plan is made, and everybody who may have the
//!    region is asked, before a file is written.
//! 2. No region goes that a device of this pool is to lie on, that another daemon has, or that a
//!    driver has. The claim of a region is held while it is taken away.
//! 3. Plans are made of a topology that is read under the lock of all changes of regions.
//! 4. A change begins while its asker waits, and early enough for him to hear of it, or never: see
//!    [`Asked`]. Only what the kernel itself needs for what it is told is not bounded.

use std::collections::BTreeMap;
use std::fmt;

use kernel_cxl::{ChangeError, NewRegion, Region, RegionPlan, Sysfs, Topology, serials_told};
use pool_core::clock::{Deadline, eventually};
use pool_core::sync::Arc;
use pool_core::{Bytes, limits};
use pool_proto::admin::v1::{self as admin, CreateRegionRequest, Device as DeviceMessage};
use pool_proto::common::v1::{Error, ErrorClass, ErrorReason};

use super::SetupError;
use super::cxl::{claim, serials_of};
use super::topology::Telling;
use crate::engine::Refusal;

/// A device of the pool that is a region of CXL memory, for as long as its hardware is there.
pub trait Holder: fmt::Debug + Send + Sync {
    /// What it is to lie on, in turn.
    fn serials(&self) -> &[u64];
    /// The region that it has now. It waits for nobody.
    fn region(&self) -> Option<String>;
}

/// Those of a pool, by name.
pub type Holders = BTreeMap<String, Arc<dyn Holder>>;

/// See the module.
#[derive(Debug, Clone)]
pub struct Regions {
    sysfs: Sysfs,
    holders: Holders,
}

/// Who waits for a change, and until when: all that is waited for on his behalf, other programs
/// and what the kernel makes of a region, has this one end.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// When the change has to have begun.
    pub until: Deadline,
    /// Whether somebody waits for it still.
    pub is_awaited: &'a dyn Fn() -> bool,
}

/// A region was made or destroyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Its name, and what it lies or lay on.
    pub region: String,
    /// How large it is, or was.
    pub bytes: Bytes,
}

/// Why a region is not made or destroyed. Nothing was changed, unless the kernel refused half-way.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegionError {
    /// Nothing has a name like this one, of which no more is repeated than a name may have.
    #[error(transparent)]
    Name(Refusal),
    /// A device of this pool lies on it. Take that out of the pool, which destroys the region.
    #[error(
        "device {device} of this pool lies on {region}: drain it and remove it from the pool, \
         which destroys the region"
    )]
    OfPool {
        /// Which region.
        region: String,
        /// Which device.
        device: String,
    },
    /// Its turn did not come while its asker could still hear of it. Ask again.
    #[error("the change did not come to its turn in time, and nothing is changed: ask again")]
    TooLate,
    /// Another daemon has it. Stop that one.
    #[error("another daemon has {0}: stop it, and ask again")]
    Taken(String),
    /// It cannot be claimed: it says why.
    #[error(transparent)]
    Claim(#[from] SetupError),
    /// It cannot be made or destroyed, or could not be: it says why.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl Regions {
    /// Those of a kernel, with the pool's devices that lie on CXL memory.
    #[must_use]
    pub fn new(sysfs: Sysfs, holders: Holders) -> Self {
        Self { sysfs, holders }
    }

    /// All that there is now, with all devices of the pool.
    ///
    /// # Errors
    /// Where the kernel's files cannot be read.
    pub fn topology(&self, devices: Vec<DeviceMessage>) -> Result<admin::Topology, RegionError> {
        let topology = Topology::read(&self.sysfs).map_err(ChangeError::from)?;
        let mut told = self.telling(&topology).all(devices);
        told.has_cxl = self.sysfs.has_cxl();
        Ok(told)
    }

    /// Makes a region, and tells it as it is then.
    ///
    /// # Errors
    /// Why it cannot be, or what the kernel refused.
    pub fn create(
        &self,
        wanted: &CreateRegionRequest,
        asked: Asked<'_>,
    ) -> Result<(admin::Region, Changed), RegionError> {
        let new = NewRegion {
            serials: wanted.serials.clone(),
            bytes: (wanted.bytes != 0).then_some(Bytes::new(wanted.bytes)),
            granularity: (wanted.granularity_bytes != 0).then_some(wanted.granularity_bytes),
        };
        let locked = self.sysfs.lock_regions(asked.until)?;
        let topology = Topology::read(&self.sysfs).map_err(ChangeError::from)?;
        let plan = RegionPlan::new(&topology, &new)?;
        asked.check()?;
        let name = self.sysfs.create_region(&plan)?;
        drop(locked);
        let (topology, region) = self.made(&name, asked.until)?;
        let changed = Changed::of(&topology, &region);
        Ok((self.telling(&topology).region(&region), changed))
    }

    /// A region that was made just now, once it has its dax device, or will have none.
    fn made(&self, name: &str, until: Deadline) -> Result<(Topology, Region), RegionError> {
        let look = || {
            let topology = Topology::read(&self.sysfs)?;
            let mut regions = topology.regions.iter();
            let region = regions.find(|it| it.name == name).cloned();
            let region = region.ok_or_else(|| ChangeError::NoRegion(name.to_owned()))?;
            Ok::<_, ChangeError>((topology, region))
        };
        let is_cut = |region: &Region| region.dax.iter().any(|cut| !cut.devices.is_empty());
        let came = eventually(until, || match look() {
            Ok((topology, region)) => is_cut(&region).then_some(Ok((topology, region))),
            Err(why) => Some(Err(why)),
        });
        match came {
            Ok(made) => Ok(made?),
            // It is there all the same, and is told without.
            Err(_) => Ok(look()?),
        }
    }

    /// Destroys a region, or gives back what a stray decoder has taken.
    ///
    /// # Errors
    /// Who has it, why it cannot go, or what the kernel refused.
    pub fn destroy(&self, name: &str, asked: Asked<'_>) -> Result<Changed, RegionError> {
        if !limits::is_name(name) {
            return Err(RegionError::Name(Refusal::bad_name(name)));
        }
        let _locked = self.sysfs.lock_regions(asked.until)?;
        let topology = Topology::read(&self.sysfs).map_err(ChangeError::from)?;
        let region = topology.regions.iter().find(|it| it.name == name);
        let telling = self.telling(&topology);
        if let Some(device) = region.and_then(|it| telling.device_on(it)) {
            return Err(RegionError::OfPool {
                region: name.to_owned(),
                device: device.to_owned(),
            });
        }
        let claimed = region.map(|_| claim(&self.sysfs, name)).transpose();
        let _claimed = claimed.map_err(|error| match error {
            SetupError::RegionTaken { region } => RegionError::Taken(region),
            other => other.into(),
        })?;
        let changed = match region {
            Some(region) => Changed::of(&topology, region),
            None => Changed::of_stray(&topology, name),
        };
        asked.check()?;
        self.sysfs.destroy_region(&topology, name)?;
        Ok(changed)
    }

    fn telling<'t>(&'t self, topology: &'t Topology) -> Telling<'t> {
        Telling {
            topology,
            holders: &self.holders,
        }
    }
}

impl fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let until = self.until;
        f.debug_struct("Asked")
            .field("until", &until)
            .finish_non_exhaustive()
    }
}

impl Asked<'_> {
    /// Whether the change may begin now.
    fn check(self) -> Result<(), RegionError> {
        if self.until.expired() || !(self.is_awaited)() {
            return Err(RegionError::TooLate);
        }
        Ok(())
    }
}

impl Changed {
    fn of(topology: &Topology, region: &Region) -> Self {
        let serials = serials_told(&serials_of(topology, region).unwrap_or_default());
        let on = if serials.is_empty() { "" } else { " on " };
        Self {
            region: format!("{}{on}{serials}", region.name),
            bytes: region.bytes(),
        }
    }

    fn of_stray(topology: &Topology, name: &str) -> Self {
        let stray = topology.strays().find(|it| it.name == name);
        let taken = stray.and_then(|it| it.dpa.as_ref());
        Self {
            region: name.to_owned(),
            bytes: taken.map_or(Bytes::ZERO, |it| Bytes::new(it.end - it.start)),
        }
    }
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.region)
    }
}

impl From<&RegionError> for Error {
    fn from(error: &RegionError) -> Self {
        let (class, reason) = match error {
            RegionError::Name(refusal) => return Self::from(refusal),
            RegionError::OfPool { .. } | RegionError::Taken(_) => {
                (ErrorClass::Caller, ErrorReason::InUse)
            }
            RegionError::TooLate => (ErrorClass::Lost, ErrorReason::Busy),
            RegionError::Claim(_) => (ErrorClass::Lost, ErrorReason::DeviceFailed),
            RegionError::Change(change) => kind(change),
        };
        let (limit, asked) = match error {
            RegionError::Change(
                ChangeError::DeviceFull { wanted, left, .. }
                | ChangeError::WindowFull { wanted, left, .. },
            ) => (left.get(), wanted.get()),
            _ => (0, 0),
        };
        Self {
            class: class.into(),
            reason: reason.into(),
            message: error.to_string(),
            limit,
            used: 0,
            asked,
        }
    }
}

fn kind(error: &ChangeError) -> (ErrorClass, ErrorReason) {
    use ChangeError as E;
    use ErrorClass::{Caller, Exhausted, Lost};
    use ErrorReason as R;
    match error {
        E::NoMemdev(_) | E::NoRegion(_) | E::NoDax(_) => (Caller, R::NotFound),
        E::NoDevice | E::Twice(_) => (Caller, R::Malformed),
        E::Size { .. } | E::Interleave { .. } | E::NoWindow(_) | E::WindowInterleave { .. } => {
            (Caller, R::OutOfRange)
        }
        E::Locked { .. } | E::Persistent(_) => (Caller, R::NotPermitted),
        E::DeviceFull { .. } | E::WindowFull { .. } | E::NoDecoder(_) => {
            (Exhausted, R::MachineShort)
        }
        E::InUse { .. } | E::Online { .. } => (Caller, R::InUse),
        E::NotLast { .. } | E::NotMovable { .. } | E::Unmovable { .. } | E::NoDriver(_) => {
            (Caller, R::OutOfOrder)
        }
        E::Busy => (Lost, R::Busy),
        _ => (Lost, R::DeviceFailed),
    }
}

#[cfg(test)]
pub(crate) mod tests;
