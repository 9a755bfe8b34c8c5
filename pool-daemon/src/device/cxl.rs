//! The region of CXL memory that a device of the pool is, for as long as its hardware is there.
//!
//! A region is found by the serial numbers of the devices that it lies on: names are others after
//! each start of the machine. Where there is none it is made. It stays when the daemon ends, since
//! its clients go on. It is [given back](Hardware::give_back) once an operator has taken the device
//! out of the pool: then it is destroyed, and the hardware may be pulled.
//!
//! # Who calls what
//! As [`Hardware`] it speaks with the kernel, which may last; one thread does so, that which starts
//! the daemon and then the one that speaks for the device ([`crate::plug`]). Whoever builds or
//! destroys a file asks what is taken (`CxlRegion::taken`), which waits for nobody.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use kernel_cxl::{
    ChangeError, DaxDevice as Slice, DaxDriver, NewRegion, Region, RegionPlan, Sysfs, Topology,
};
use nix::fcntl::{Flock, FlockArg};
use pool_core::clock::Deadline;
use pool_core::sync::{Arc, Mutex, lock};
use pool_core::{Bytes, Extents, Nanos, clock};

use super::dax::DaxDevice;
use super::kmem::KmemDevice;
use super::media::{Media, Traced, Turn};
use super::memfd::{MemfdDevice, PagePolicy};
use super::regions::Holder;
use super::{Device, SetupError};
use crate::config::{CxlMode, CxlSource};
use crate::engine::Run;
use crate::engine::command::WorldError;
use crate::plug::Hardware;
use crate::sys;

/// The sort of memory that is volatile, as the kernel names it.
const RAM: &str = "ram";
/// How long another program may need for its change of regions, where no operator waits.
const PATIENCE: Nanos = Nanos::from_millis(10_000);

/// See the module.
#[derive(Debug)]
pub struct CxlRegion {
    sysfs: Sysfs,
    source: CxlSource,
    taken: Mutex<Option<Arc<Taken>>>,
    /// One that was made here and is not taken yet: its name and its inode. What the kernel has
    /// made of it by itself is nobody's.
    made: Mutex<Option<(String, u64)>>,
}

/// What a region is made into before it is taken.
struct Prepared {
    first: u64,
    node: Option<MemfdDevice>,
    media: Media<Traced>,
}

/// A region that is this daemon's.
#[derive(Debug)]
pub(super) struct Taken {
    /// Its name.
    pub(super) name: String,
    /// Where it begins, physically.
    pub(super) first: u64,
    /// Files of its node, where it is one.
    pub(super) node: Option<MemfdDevice>,
    /// What is reported of its media.
    media: Mutex<Media<Traced>>,
    claim: Flock<OwnedFd>,
}

/// A device of files for a region, and the region. One that an operator has taken out of the pool
/// is left alone.
///
/// # Errors
/// Where the kernel cannot make of it what it is to be, or somebody else has it. That the hardware
/// is not there is none: it may come.
pub fn open(
    source: &CxlSource,
    is_removed: bool,
) -> Result<(Arc<dyn Device>, Arc<CxlRegion>), SetupError> {
    let region = Arc::new(CxlRegion::of(Sysfs::here(), source.clone()));
    region.begin(is_removed)?;
    let shared = Arc::clone(&region);
    let device: Arc<dyn Device> = match source.mode {
        CxlMode::DevDax => {
            let of_hosts = source.shared.then_some(source.size);
            Arc::new(DaxDevice::of(shared, of_hosts))
        }
        CxlMode::Kmem => Arc::new(KmemDevice::of(shared)),
    };
    Ok((device, region))
}

/// What a region that is found may be cut into already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slices {
    /// Anything: the journal, which is read later, knows what is whose.
    AsTheyAre,
    /// Nothing: what this daemon had is gone.
    None,
}

impl SetupError {
    /// Whether it says that hardware is not there, or not in use by its driver yet.
    pub(crate) fn is_absence(&self) -> bool {
        let Self::Cxl(why) = self else { return false };
        matches!(
            **why,
            ChangeError::NoMemdev(_) | ChangeError::NotReady { .. }
        )
    }
}

impl CxlRegion {
    /// One that is not taken yet.
    const fn of(sysfs: Sysfs, source: CxlSource) -> Self {
        Self {
            sysfs,
            source,
            taken: Mutex::new(None),
            made: Mutex::new(None),
        }
    }

    /// Takes it at the start of a daemon, where it is there and in the pool.
    fn begin(&self, is_removed: bool) -> Result<(), SetupError> {
        if is_removed {
            return Ok(());
        }
        match self.take_with(Slices::AsTheyAre) {
            Err(error) if !error.is_absence() => return Err(error),
            Err(error) => tracing::warn!(%error, "a device of the pool is not there"),
            Ok(()) => {}
        }
        Ok(())
    }

    /// What the kernel's files are asked by.
    pub(super) const fn sysfs(&self) -> &Sysfs {
        &self.sysfs
    }

    /// What is had of it now; nothing while its hardware is not there.
    pub(super) fn taken(&self) -> Option<Arc<Taken>> {
        lock(&self.taken).clone()
    }

    /// The devices that it lies on.
    pub(super) fn serials(&self) -> &[u64] {
        &self.source.serials
    }

    /// How large it is while it is there.
    #[must_use]
    pub fn extents(&self) -> Extents {
        // Whole extents, fewer than 2^32 of them, since it was read.
        Extents::holding(self.source.size).unwrap_or(Extents::new(u32::MAX))
    }

    /// Its name while it is there.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        self.taken().map(|taken| taken.name.clone())
    }

    /// Takes the region, which is made where there is none. Where it is had already nothing
    /// happens.
    ///
    /// # Errors
    /// [`SetupError::Cxl`] where the hardware is not there, or the kernel cannot; others where
    /// somebody else has it. What was there before is there still, and what was made is destroyed;
    /// where the kernel refuses that, the next try goes on with it.
    fn take_with(&self, slices: Slices) -> Result<(), SetupError> {
        if self.taken().is_some() {
            return Ok(());
        }
        if let Some(serial) = self.sysfs.missing(&self.source.serials)? {
            return Err(ChangeError::NoMemdev(serial).into());
        }
        if self.source.mode == CxlMode::Kmem {
            // Its driver may be loaded by the new device itself, and put all online at once.
            self.sysfs.check_movable()?;
        }
        let locked = self.sysfs.lock_regions(Deadline::after(PATIENCE))?;
        let name = self.find_or_make()?;
        let claim = claim(&self.sysfs, &name)?;
        drop(locked);
        let prepared = self.prepare(&name, slices);
        let prepared = prepared.inspect_err(|_| self.undo(&name, &claim))?;
        *lock(&self.made) = None;
        *lock(&self.taken) = Some(Arc::new(Taken {
            name,
            first: prepared.first,
            node: prepared.node,
            media: Mutex::new(prepared.media),
            claim,
        }));
        Ok(())
    }

    /// Makes a region that is claimed into what it is to be.
    fn prepare(&self, name: &str, slices: Slices) -> Result<Prepared, SetupError> {
        self.sysfs.await_dax(name)?;
        let topology = Topology::read(&self.sysfs)?;
        let region = region(&topology, name)?;
        let node = match self.source.mode {
            CxlMode::DevDax => {
                self.make_ready_to_cut(region, slices)?;
                None
            }
            CxlMode::Kmem => {
                let node = self.put_online(name)?;
                // All of the node is the pool's: nothing is kept for others.
                Some(MemfdDevice::new(
                    PagePolicy::Collapsed,
                    Some(node),
                    Bytes::ZERO,
                )?)
            }
        };
        let serials = &self.source.serials;
        let reports = Traced::of(&self.sysfs, serials);
        let mut media = Media::of(reports, serials, &topology, region)?;
        // Lists may be long, and whoever starts the daemon waits for none.
        media.begin();
        Ok(Prepared {
            first: region.addresses.start,
            node,
            media,
        })
    }

    /// Destroys a region that was made here and cannot be taken.
    fn undo(&self, name: &str, claim: &Flock<OwnedFd>) {
        if !self.is_made_here(name) {
            return;
        }
        let undone = self.take_offline(name);
        match undone.and_then(|()| Ok(self.sweep(name, claim)?)) {
            Ok(()) => *lock(&self.made) = None,
            Err(error) => {
                tracing::warn!(region = %name, %error, "a region that was made is not destroyed");
            }
        }
    }

    /// Whether this is the very region that was made here, and was not taken yet.
    fn is_made_here(&self, name: &str) -> bool {
        let now = self.inode_of(name).ok().flatten();
        let made = lock(&self.made);
        made.as_ref()
            .is_some_and(|(made, inode)| made == name && now == Some(*inode))
    }

    /// What tells the region of a name from all others that had or will have it; nothing where
    /// there is none.
    fn inode_of(&self, name: &str) -> io::Result<Option<u64>> {
        match fs::metadata(self.sysfs.region_folder(name)) {
            Ok(now) => Ok(Some(now.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Destroys a region, or what is left of it; nothing where it is gone, or its name is another
    /// one's by now.
    fn sweep(&self, name: &str, claim: &Flock<OwnedFd>) -> Result<(), ChangeError> {
        let _locked = self.sysfs.lock_regions(Deadline::after(PATIENCE))?;
        let topology = Topology::read(&self.sysfs)?;
        let is_listed = topology.regions.iter().any(|it| it.name == name);
        if !is_listed || matches!(self.is_ours(name, claim), Some(false)) {
            return Ok(());
        }
        self.sysfs.destroy_region(&topology, name)
    }

    /// Whether the region of this name is the very one that was claimed; nothing where that cannot
    /// be seen just now.
    fn is_ours(&self, name: &str, claim: &Flock<OwnedFd>) -> Option<bool> {
        let ours = sys::status(claim.as_fd()).ok()?.identity.inode;
        let now = self.inode_of(name).ok()?;
        Some(now == Some(ours))
    }

    /// The name of the region on these devices, which is made where there is none.
    fn find_or_make(&self) -> Result<String, SetupError> {
        let (sysfs, source) = (&self.sysfs, &self.source);
        let topology = Topology::read(sysfs)?;
        let wanted = Some(source.serials.clone());
        let mut found = topology.regions.iter();
        if let Some(region) = found.find(|region| wanted == serials_of(&topology, region)) {
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
            return Ok(region.name.clone());
        }
        // It makes memory of a node of each new dax device, and would write to it at once.
        if source.shared && sysfs.has_driver(DaxDriver::Kmem) {
            return Err(SetupError::KmemIsThere);
        }
        let new = NewRegion {
            serials: source.serials.clone(),
            bytes: Some(source.size),
            granularity: None,
        };
        let plan = RegionPlan::new(&topology, &new);
        let name = sysfs.create_region(&plan.map_err(|why| in_the_way(&topology, why))?)?;
        let inode = self.inode_of(&name).ok().flatten();
        *lock(&self.made) = inode.map(|inode| (name.clone(), inode));
        tracing::info!(region = %name, size = %source.size, "a region of CXL memory is made");
        Ok(name)
    }

    /// Takes the device that a region always has from whoever the kernel gave it to by itself, and
    /// its memory from it.
    fn make_ready_to_cut(&self, region: &Region, allowed: Slices) -> Result<(), SetupError> {
        self.check_other_hosts(region)?;
        let is_new = self.is_made_here(&region.name);
        let cut = region
            .dax
            .as_ref()
            .filter(|cut| cut.devices.iter().any(Slice::is_first));
        let cut = cut.ok_or_else(|| no_dax(&region.name))?;
        for slice in &cut.devices {
            if !slice.is_first() {
                if is_kmem(slice) || allowed == Slices::None {
                    return Err(in_use(&region.name, slice));
                }
                continue;
            }
            if slice.bytes == Bytes::ZERO {
                continue;
            }
            if slice.driver.is_some() && !is_new {
                return Err(in_use(&region.name, slice));
            }
            if is_kmem(slice) {
                self.sysfs.take_offline(&slice.name)?;
            }
            self.sysfs.drive(&slice.name, None)?;
            self.sysfs.empty(&slice.name)?;
        }
        Ok(())
    }

    /// Whether the kernel leaves alone what other hosts have: a region that was found, and one that
    /// was made here while no driver waited for it.
    fn check_other_hosts(&self, region: &Region) -> Result<(), SetupError> {
        let mut slices = region.dax.iter().flat_map(|cut| &cut.devices);
        match slices.find(|it| self.source.shared && is_kmem(it)) {
            Some(slice) => Err(SetupError::KmemHasIt {
                region: region.name.clone(),
                device: slice.name.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Makes a region memory of a node, all of which can be moved, and tells which node.
    fn put_online(&self, region: &str) -> Result<u32, SetupError> {
        let slices = slices(&self.sysfs, region)?;
        let is_file = |it: &&Slice| it.driver.as_deref() == Some(DaxDriver::DeviceDax.name());
        if let Some(slice) = slices.iter().find(is_file) {
            return Err(in_use(region, slice));
        }
        let mut node = None;
        for slice in slices {
            self.sysfs.drive(&slice.name, Some(DaxDriver::Kmem))?;
            self.sysfs.put_online(&slice.name)?;
            node = slice.target_node;
        }
        node.ok_or_else(|| ChangeError::DidNotCome(format!("a node of {region}")).into())
    }

    /// Has a region be memory of a node no more. Where it fails, a part may be offline.
    fn take_offline(&self, region: &str) -> Result<(), SetupError> {
        for slice in slices(&self.sysfs, region)? {
            self.sysfs.take_offline(&slice.name)?;
            self.sysfs.drive(&slice.name, None)?;
        }
        Ok(())
    }
}

impl Holder for CxlRegion {
    fn serials(&self) -> &[u64] {
        &self.source.serials
    }

    fn region(&self) -> Option<String> {
        self.name()
    }
}

impl Hardware for CxlRegion {
    fn take(&self) -> Result<(), SetupError> {
        self.take_with(Slices::None)
    }

    fn is_there(&self) -> bool {
        // What cannot be looked at just now is not gone.
        let looked = self.taken().map(|taken| {
            let is_live = || self.sysfs.is_live(&taken.name).unwrap_or(true);
            let is_ours = self.is_ours(&taken.name, &taken.claim);
            is_ours.unwrap_or(true) && is_live()
        });
        looked.unwrap_or(false)
    }

    /// What the kernel has left of it, which would keep its addresses, is swept away.
    fn forget(&self) {
        let Some(taken) = lock(&self.taken).take() else {
            return;
        };
        if let Err(error) = self.sweep(&taken.name, &taken.claim) {
            let region = &taken.name;
            tracing::warn!(%region, %error, "the kernel keeps what is left of a region");
        }
    }

    fn give_back(&self) -> Result<(), SetupError> {
        let Some(taken) = self.taken() else {
            return Ok(());
        };
        // From here on nobody builds on it.
        *lock(&self.taken) = None;
        let mut gone = match taken.node {
            Some(_) => self.take_offline(&taken.name),
            None => Ok(()),
        };
        if gone.is_ok() {
            gone = self
                .sweep(&taken.name, &taken.claim)
                .map_err(SetupError::from);
        }
        if let Err(why) = gone {
            if taken.node.is_some()
                && let Err(error) = self.put_online(&taken.name)
            {
                tracing::error!(region = %taken.name, %error, "memory of a node stays offline");
            }
            *lock(&self.taken) = Some(taken);
            return Err(why);
        }
        tracing::info!(region = %taken.name, "a region of CXL memory is destroyed: pull it");
        Ok(())
    }

    fn damaged(&self) -> Result<Vec<Run>, SetupError> {
        let Some(taken) = self.taken() else {
            return Ok(Vec::new());
        };
        let mut media = lock(&taken.media);
        let turn = media.look(clock::now());
        // Of what was pulled nothing is heard, and that is told otherwise.
        tell(&taken.name, turn.filter(|_| self.is_there()));
        if taken.node.is_some() {
            // Which file has a page of a node, only the kernel knows: it deals with it.
            return Ok(Vec::new());
        }
        media.bad().map_err(SetupError::DamageUnknown)
    }
}

/// Logs that the media of a region are not heard any more, or are again.
fn tell(region: &str, turn: Option<Turn>) {
    match turn {
        Some(Turn::Lost(why)) => {
            tracing::warn!(%region, %why, "not all errors of the media are heard");
        }
        Some(Turn::Back) => tracing::info!(%region, "all errors of the media are heard again"),
        None => {}
    }
}

/// Why there is no room on a device: a region that somebody did not make to its end, where there is
/// one.
fn in_the_way(topology: &Topology, why: ChangeError) -> SetupError {
    let mut half_made = topology.regions.iter().filter(|it| it.is_half_made());
    match (&why, half_made.next()) {
        (ChangeError::DeviceFull { .. } | ChangeError::NoDecoder(_), Some(region)) => {
            SetupError::RegionHalfMade {
                region: region.name.clone(),
                why: Arc::new(why),
            }
        }
        _ => why.into(),
    }
}

/// Keeps a region this daemon's, for as long as the value lives.
pub(super) fn claim(sysfs: &Sysfs, region: &str) -> Result<Flock<OwnedFd>, SetupError> {
    let folder = sysfs.region_folder(region);
    let folder = File::open(&folder).map_err(|error| sys::failed("open", &error))?;
    Flock::lock(OwnedFd::from(folder), FlockArg::LockExclusiveNonblock).map_err(|_| {
        SetupError::RegionTaken {
            region: region.to_owned(),
        }
    })
}

/// The devices that a region lies on, in turn; `None` where one has gone.
pub(super) fn serials_of(topology: &Topology, region: &Region) -> Option<Vec<u64>> {
    let behind = region.targets.iter().map(|it| topology.memdev_behind(it));
    behind.map(|memdev| memdev.map(|it| it.serial)).collect()
}

/// What a region lies on, as a part of the name of a file: `a0-a1`.
pub(super) fn hardware_name(serials: &[u64]) -> String {
    let serials = serials.iter().map(|serial| format!("{serial:x}"));
    serials.collect::<Vec<_>>().join("-")
}

/// A region of this name.
fn region<'t>(topology: &'t Topology, name: &str) -> Result<&'t Region, ChangeError> {
    let mut regions = topology.regions.iter();
    let found = regions.find(|region| region.name == name);
    found.ok_or_else(|| ChangeError::NoRegion(name.to_owned()))
}

/// The dax devices of a region.
pub(super) fn slices(sysfs: &Sysfs, name: &str) -> Result<Vec<Slice>, ChangeError> {
    let topology = Topology::read(sysfs)?;
    let cut = region(&topology, name)?.dax.as_ref();
    Ok(cut.map_or_else(Vec::new, |cut| cut.devices.clone()))
}

fn is_kmem(slice: &Slice) -> bool {
    slice.driver.as_deref() == Some(DaxDriver::Kmem.name())
}

fn no_dax(region: &str) -> ChangeError {
    ChangeError::DidNotCome(format!("a dax device of {region}"))
}

fn in_use(region: &str, slice: &Slice) -> SetupError {
    SetupError::RegionInUse {
        region: region.to_owned(),
        device: slice.name.clone(),
        driver: slice.driver.clone().unwrap_or_default(),
    }
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

#[cfg(test)]
pub(super) mod tests;
