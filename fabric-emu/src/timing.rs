//! How long an access takes, in picoseconds of emulated time.
//!
//! A pure library in whole numbers: no clock, no floating point, no order of a map. It knows
//! neither hosts nor switches of a topology, only a list of [`Elements`] and [`Path`]s through it.
//! What it says is emulated, and is called so beside every figure.
//!
//! # Rooms
//! [`Table`]: the parameters, each with its source. [`Elements`], [`Path`], [`Stream`]: what is
//! asked about. [`alone`] and [`solve`]: accesses of a line, all the time. [`Transfers`] and
//! [`fair_shares`]: bytes in bulk. [`Bucket`] and [`LoadLevel`]: what a logical device may take.
//! [`Server`]: who comes while another one is served waits. [`Tail`]: what takes longer now and
//! then. [`Mode`] and [`Debt`]: who waits.
//! [`curves`]: rows for tables and charts. [`published`]: the model beside what others measured.
//!
//! # Example
//! ```
//! use fabric_emu::timing::{Rate, Share, Stream, Table, curves::Scene, solve};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let table = Table::embedded()?;
//! // Two hosts read from one expander behind a switch, each all that 200 accesses at once can.
//! let scene = Scene::switched(&table, "cxl-x8", 2, 1)?;
//! let streams: Vec<_> = scene
//!     .paths
//!     .iter()
//!     .map(|path| Stream {
//!         path: path.clone(),
//!         demand: Rate::MAX,
//!         reads: Share::ONE,
//!         mlp: 200,
//!     })
//!     .collect();
//! let solution = solve(&scene.elements, &streams)?;
//! let [first, second] = solution.streams[..] else { panic!("an outcome for each stream") };
//! assert!(first.rate.saturating_add(second.rate) <= Rate::new(20_800_000_000));
//! assert!(first.latency > scene.unloaded(Share::ONE)?);
//! # Ok(())
//! # }
//! ```

pub mod curves;
mod element;
mod flow;
mod mode;
pub mod published;
mod qos;
mod queue;
mod schema;
mod server;
mod solve;
mod table;
mod tail;
mod units;

pub use self::element::{
    Device, Element, ElementId, Elements, Link, Path, PathError, Stream, Switch, little, mixed,
};
pub use self::flow::{Ended, Flow, TransferId, Transfers, fair_shares, transfer_time};
pub use self::mode::{Debt, Mode, Sampled};
pub use self::qos::{Bucket, LoadLevel, NotYet, Thresholds, ld_rate};
pub use self::queue::{CurveError, Curves, md1};
pub use self::server::Server;
pub use self::solve::{Outcome, Solution, alone, solve};
pub use self::table::{Curve, Evidence, Table, TableError, Value};
pub use self::tail::{Tail, TailParameters};
pub use self::units::{Picos, Rate, Share};
