//! CXL memory as the Linux kernel shows it, read and changed by files below `/sys` alone.
//!
//! Words are the kernel's, and those of the tools `cxl` and `daxctl`, neither of which is needed:
//! **memdev**: a device with memory, which its serial number tells from all others; its name
//! (`mem0`) is another one after each boot. **Port**: the root of a fabric, a host bridge, a
//! switch, or the endpoint of a memdev. **Decoder**: what maps a range of physical addresses to
//! what lies below a port; one of the root is a *window*, in which regions are made. **Region**:
//! a range of a window that one memdev backs, or several in turn. **dax device**: a region, or a
//! slice of one, as a file that is mapped. **Node**: memory the kernel gives to whoever asks.
//!
//! **Block**: what memory of a node goes online and offline by. **Slice**: a dax device of a part
//! of a region.
//!
//! [`Sysfs`] is where the files are: `/`, or a test's folder that stands for it. [`Topology`] is
//! what there is at one moment.

#![forbid(unsafe_code)]

mod change_error;
mod dax;
mod decoder;
mod media;
mod memdev;
mod node;
mod port;
mod region;
mod region_end;
mod region_plan;
mod region_step;
mod sysfs;
mod topology;

pub use change_error::{ChangeError, serials_told};
pub use dax::DaxDriver;
pub use decoder::{Decoder, DecoderKind};
pub use media::{ListFlags, LostLines, MediaLog, MediaNews, OddLine};
pub use memdev::Memdev;
pub use node::{Node, Performance};
pub use port::{Dport, Port, PortKind};
pub use region::{DaxDevice, DaxMapping, DaxRegion, Region};
pub use region_end::RegionEnd;
pub use region_plan::{NewRegion, REGION_UNIT, RegionPlan};
pub use region_step::{RegionLock, Step, undone};
pub use sysfs::{Sysfs, SysfsError};
pub use topology::Topology;
