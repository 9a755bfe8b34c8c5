//! Dax devices: who drives them, how they are cut, and their memory on its way into a node and out
//! of it.
//!
//! # What the kernel does by itself
//! - Where `kmem` is there, it takes each new dax device at once, and where the kernel's rule for
//!   new memory says so, puts it online. Under the common rule that memory is also for what cannot
//!   be moved, and the node never goes away again: [`Sysfs::check_movable`] comes before.
//! - Without it a dax device of a region has no driver: `device_dax` takes it once it is told to.
//! - A driver that is unbound while blocks are online leaves the memory in use for ever: nothing
//!   here does that.

use core::ops::Range;
use std::path::PathBuf;

use pool_core::clock::{Deadline, eventually};
use pool_core::{Bytes, Nanos};

use crate::change_error::ChangeError;
use crate::region::DaxDevice;
use crate::sysfs::{Folder, Sysfs, names, parse};

/// Where memory is that can be moved, as a block that is online says it.
const MOVABLE: &str = "Movable";
/// How long the kernel may need for a device that it was told to make.
const PATIENCE: Nanos = Nanos::from_millis(10_000);

/// Who drives a dax device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaxDriver {
    /// It is a file that is mapped.
    DeviceDax,
    /// It is memory of a node.
    Kmem,
}

impl DaxDriver {
    /// Its name in the kernel.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DeviceDax => "device_dax",
            Self::Kmem => "kmem",
        }
    }
}

impl DaxDevice {
    /// Where its file is. Who has made `/dev` from the kernel's own names has it there.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/dev").join(&self.name)
    }
}

impl Sysfs {
    /// Waits until the region of this name has its dax device, and tells that one's name.
    ///
    /// # Errors
    /// Where it does not come within ten seconds.
    pub fn await_dax(&self, region: &str) -> Result<String, ChangeError> {
        let folder = self.dax_region(region);
        let is_device = |name: &String| name.starts_with("dax") && name.contains('.');
        let came = eventually(Deadline::after(PATIENCE), || match names(&folder.path) {
            Ok(names) => names.into_iter().find(is_device).map(Ok),
            Err(why) => Some(Err(why.into())),
        });
        came.unwrap_or_else(|_| Err(ChangeError::DidNotCome(format!("a dax device of {region}"))))
    }

    /// Gives a dax device to a driver, or to nobody. Where it has that already nothing happens.
    ///
    /// # Errors
    /// [`ChangeError::Online`] while memory of it is in use by the kernel,
    /// [`ChangeError::NotMovable`] where it would never come back; what the kernel refuses.
    pub fn drive(&self, device: &str, driver: Option<DaxDriver>) -> Result<(), ChangeError> {
        let folder = self.dax(device)?;
        let before = folder.link("driver")?;
        if before.as_deref() == driver.map(DaxDriver::name) {
            return Ok(());
        }
        if driver == Some(DaxDriver::Kmem) {
            self.check_movable()?;
        }
        if let Some(before) = &before {
            if before == DaxDriver::Kmem.name() {
                let online = self.blocks_of(device)?.into_iter();
                let online = online.filter(|block| block.is_online).count();
                if online > 0 {
                    let device = device.to_owned();
                    return Err(ChangeError::Online { device, online });
                }
            }
            if before == DaxDriver::DeviceDax.name() {
                self.forget_name(device);
            }
            self.driver(before).write("unbind", device)?;
        }
        match driver {
            None => Ok(()),
            Some(driver) => self.bind(device, driver),
        }
    }

    fn bind(&self, device: &str, driver: DaxDriver) -> Result<(), ChangeError> {
        let folder = self.driver(driver.name());
        if !folder.path.is_dir() {
            return Err(ChangeError::NoDriver(driver.name()));
        }
        match driver {
            // A device of a region matches it only once it is named, and is bound by that.
            DaxDriver::DeviceDax => folder.write("new_id", device)?,
            DaxDriver::Kmem => {}
        }
        let bound = self.dax(device)?.link("driver")?;
        if bound.as_deref() == Some(driver.name()) {
            return Ok(());
        }
        folder.write("bind", device)
    }

    /// `device_dax` takes what it was told to take again whenever it is told of anything: it is to
    /// forget what it is to let go.
    fn forget_name(&self, device: &str) {
        let driver = self.driver(DaxDriver::DeviceDax.name());
        // It refuses a name that it was not told.
        let _was_not_named = driver.write("remove_id", device);
    }

    /// Whether memory that is new could be taken away again.
    ///
    /// # Errors
    /// [`ChangeError::NotMovable`] where it could not.
    pub fn check_movable(&self) -> Result<(), ChangeError> {
        let memory = self.folder("sys/devices/system/memory");
        let found = memory.text("auto_online_blocks")?.unwrap_or_default();
        // Offline is what nobody has yet: whoever puts it online says how.
        if matches!(found.as_str(), "online_movable" | "offline") {
            return Ok(());
        }
        let path = memory.path.join("auto_online_blocks");
        Err(ChangeError::NotMovable { path, found })
    }

    /// Makes a dax device of a part of a region, driven by nobody: of these physical addresses, in
    /// this order. They are the region's and no other device's, and begin and end at multiples of
    /// its alignment. Tells its name.
    ///
    /// # Errors
    /// What the kernel refuses. Nothing is left behind.
    pub fn slice(&self, region: &str, parts: &[Range<u64>]) -> Result<String, ChangeError> {
        let folder = self.dax_region(region);
        let own = folder.at("dax_region");
        own.write("create", "1")?;
        let name = own.text("create")?.unwrap_or_default();
        let device = self.dax(&name)?;
        for part in parts {
            let range = format!("{:#x}-{:#x}", part.start, part.end - 1);
            if let Err(why) = device.write("mapping", &range) {
                let _stays = self.unslice(region, &name);
                return Err(why);
            }
        }
        Ok(name)
    }

    /// Takes such a device away again. Nobody drives it.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn unslice(&self, region: &str, device: &str) -> Result<(), ChangeError> {
        self.empty(device)?;
        self.dax_region(region)
            .at("dax_region")
            .write("delete", device)
    }

    /// Leaves a dax device no memory: the first one of a region stays without, and the region is
    /// free to be cut. Nobody drives it.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn empty(&self, device: &str) -> Result<(), ChangeError> {
        self.dax(device)?.write("size", "0")
    }

    /// Whether a driver is there, which takes new dax devices.
    #[must_use]
    pub fn has_driver(&self, driver: DaxDriver) -> bool {
        let drivers = self.path("sys/bus/dax/drivers");
        drivers.join(driver.name()).is_dir()
    }

    /// Puts the memory of a dax device that `kmem` has online, where all of it can be moved.
    ///
    /// # Errors
    /// What the kernel refuses. Blocks before that one are online. [`ChangeError::Unmovable`] where
    /// one was online before, for what cannot be moved as well.
    pub fn put_online(&self, device: &str) -> Result<(), ChangeError> {
        for block in self.blocks_of(device)? {
            if !block.is_online {
                block.folder.write("state", "online_movable")?;
            }
            let zones = block.folder.text("valid_zones")?.unwrap_or_default();
            if zones != MOVABLE {
                let (device, block) = (device.to_owned(), block.folder.name());
                return Err(ChangeError::Unmovable {
                    device,
                    block,
                    zones,
                });
            }
        }
        Ok(())
    }

    /// Takes the memory of a dax device offline: the kernel moves what is there elsewhere first.
    ///
    /// # Errors
    /// Where the kernel finds no place for it, or cannot move it. Blocks before that one are
    /// offline; try again, or put them online.
    pub fn take_offline(&self, device: &str) -> Result<(), ChangeError> {
        for block in self.blocks_of(device)? {
            if block.is_online {
                block.folder.write("state", "offline")?;
            }
        }
        Ok(())
    }

    /// How much of a dax device's memory is online.
    ///
    /// # Errors
    /// Where the kernel's files cannot be read.
    pub fn online_of(&self, device: &str) -> Result<Bytes, ChangeError> {
        let bytes = self.block_bytes()?;
        let online = self.blocks_of(device)?.into_iter();
        let online = online.filter(|block| block.is_online).count();
        Ok(Bytes::new(bytes.saturating_mul(online as u64)))
    }

    fn block_bytes(&self) -> Result<u64, ChangeError> {
        let memory = self.folder("sys/devices/system/memory");
        // Hexadecimal, and without a mark.
        let text = memory.text("block_size_bytes")?.unwrap_or_default();
        let bytes = parse(&format!("0x{text}")).filter(|bytes| *bytes != 0);
        bytes.ok_or_else(|| {
            let form = memory.form("block_size_bytes", &text, "the size of a block of memory");
            ChangeError::Sysfs(form)
        })
    }

    /// The blocks that lie within a dax device: those of its memory where `kmem` has it.
    fn blocks_of(&self, device: &str) -> Result<Vec<Block>, ChangeError> {
        let folder = self.dax(device)?;
        let bytes = self.block_bytes()?;
        let memory = self.folder("sys/devices/system/memory");
        let found = DaxDevice::read(device, &folder)?;
        let mappings = found.into_iter().flat_map(|it| it.mappings);
        let mut blocks = Vec::new();
        for part in mappings.map(|mapping| mapping.addresses) {
            for number in part.start.div_ceil(bytes)..part.end / bytes {
                let folder = memory.at(&format!("memory{number}"));
                if let Some(state) = folder.text("state")? {
                    let is_online = state != "offline";
                    blocks.push(Block { folder, is_online });
                }
            }
        }
        Ok(blocks)
    }

    fn dax(&self, device: &str) -> Result<Folder, ChangeError> {
        let all = self.devices("dax")?;
        let found = all.into_iter().find(|(name, _)| name == device);
        let found = found.map(|(_, folder)| folder);
        found.ok_or_else(|| ChangeError::NoDax(device.to_owned()))
    }

    /// Whether a region is committed and its driver has it: its addresses lead to memory. Of one
    /// whose devices were pulled the kernel leaves at most an empty name.
    ///
    /// # Errors
    /// Where the kernel's files cannot be read: then nobody knows.
    pub fn is_live(&self, region: &str) -> Result<bool, ChangeError> {
        let folder = self.folder("sys/bus/cxl/devices").at(region);
        Ok(folder.flag("commit")? && folder.link("driver")?.is_some())
    }

    /// Where a region lies among the kernel's files.
    #[must_use]
    pub fn region_folder(&self, region: &str) -> PathBuf {
        self.path("sys/bus/cxl/devices").join(region)
    }

    fn dax_region(&self, region: &str) -> Folder {
        self.folder("sys/bus/cxl/devices").at(region).dax()
    }

    fn driver(&self, name: &str) -> Folder {
        self.folder("sys/bus/dax/drivers").at(name)
    }
}

/// A block of memory, which goes online and offline as a whole.
struct Block {
    folder: Folder,
    is_online: bool,
}
