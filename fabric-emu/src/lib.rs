//! An emulated CXL fabric: hosts, switches and memory devices that do what the specification says,
//! take the time that real ones take, and fail as real ones fail.
//!
//! # The rule
//! Everything follows from a topology, a seed and the events that are fed in. Nothing in here
//! reads a clock, waits, starts a thread, computes with floating point, or depends on the order in
//! which a map is gone through; the one exception is [`serve`], the shell around it, which says so.
//! What is emulated is called emulated beside every figure that comes of it.
//!
//! # Rooms
//! [`topology`]: what there is and how it is connected, as a file says it. [`fabric`]: all of it,
//! and what happens to it, one event after the other. Its parts: [`switch`]; [`memdev`], of
//! [`capacity`], [`media`] and [`log`]; [`cache`], a host's. [`cci`]: commands and answers, as
//! bytes. [`cdat`]: what they tell of their speed.
//! [`timing`]: how long an access takes. [`schedule`]: what goes wrong when.
//! [`trace`]: what happened, as one number. [`id`], [`span`], [`refusal`]: the small change.
//! [`serve`]: a fabric as a process of its own, behind sockets, with its memory in files.
//!
//! # Example
//! A host is bound to a logical device, is offered memory, takes it and writes to it.
//! ```
//! use fabric_emu::cci::dcd::{UpdatedExtent, UpdatedExtentList};
//! use fabric_emu::cci::dcd_management::{InitiateAddRequest, SelectionPolicy};
//! use fabric_emu::cci::virtual_switch::BindVppbRequest;
//! use fabric_emu::cci::{Request, Tag};
//! use fabric_emu::fabric::{Asked, Cci, Effect, Event, Fabric};
//! use fabric_emu::id::{HostId, LdId, MemdevId, PortId, SwitchId, VcsId, VppbId};
//! use fabric_emu::span::Span;
//! use fabric_emu::timing::Picos;
//! use fabric_emu::topology::Topology;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut fabric = Fabric::new(&Topology::named("four-hosts")?, 1)?;
//! let (switch, device) = (Cci::Switch(SwitchId(0)), Cci::Memdev(MemdevId(0)));
//! let (host, memdev, ld) = (HostId(0), MemdevId(0), LdId(0));
//! let here = Cci::Mailbox { host, memdev, ld };
//! let bind = BindVppbRequest {
//!     vcs_id: VcsId(0),
//!     vppb_id: VppbId(0),
//!     port_id: PortId(4),
//!     ld_id: ld,
//! };
//! assert_eq!(fabric.ask(Picos::ZERO, switch, &Request::BindVppb(bind)), Err(Asked::Begun));
//! let now = fabric.next_due().ok_or("nothing is under way")?;
//!
//! let add = InitiateAddRequest {
//!     host_id: ld,
//!     selection_policy: SelectionPolicy::Contiguous,
//!     region_number: 0,
//!     length: 512 << 20,
//!     tag: Tag([7; 16]),
//!     extents: None,
//! };
//! fabric.ask(now, device, &Request::InitiateAdd(add))?;
//! // What is offered stands in the host's event log as well.
//! let taken = UpdatedExtent { start_dpa: 0, length: 512 << 20 };
//! let answer = UpdatedExtentList { flags: 0, extents: vec![taken].try_into()? };
//! fabric.ask(now, here, &Request::AddDcResponse(answer))?;
//!
//! let span = Span::new(1 << 40, 512 << 20).ok_or("an empty range")?;
//! fabric.step(now, &Event::Map { host, span, memdev, ld, address: 0 });
//! let store = Event::Store { host, address: 1 << 40, content: [1; 64] };
//! // Emulated: it is the time of a line that has to be brought.
//! assert!(matches!(fabric.step(now, &store)[..], [Effect::Written { .. }]));
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

pub mod cache;
pub mod capacity;
pub mod cci;
pub mod cdat;
pub mod fabric;
pub mod id;
pub mod log;
pub mod media;
pub mod memdev;
pub mod refusal;
pub mod schedule;
#[cfg(feature = "serve")]
pub mod serve;
pub mod span;
pub mod switch;
pub mod timing;
pub mod topology;
pub mod trace;
