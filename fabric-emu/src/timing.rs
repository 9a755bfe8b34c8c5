//! How long an access takes, in picoseconds of emulated time.
//!
//! A pure library in whole numbers: no clock, no floating point, no order of a map. It knows
//! neither hosts nor switches of a topology, only a list of [`Elements`] and [`Path`]s through it.
//! What it says is emulated, and is called so beside every figure.
//!
//! # Rooms
//! [`Table`]: the parameters, each with its source. [`Elements`], [`Path`], [`Stream`]: what is
//! asked about. [`alone`] and [`solve`]: accesses of a line,
//! all the time. [`Transfers`] and
//! [`fair_shares`]: bytes in bulk. [`Bucket`] and [`LoadLevel`]: what a logical device may take.
//! [`Tail`]: what takes longer now and then. [`Mode`] and [`Debt`]: who waits.

mod element;
mod flow;
mod mode;
mod qos;
mod queue;
mod schema;
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
pub use self::solve::{Outcome, Solution, alone, solve};
pub use self::table::{Curve, Evidence, Table, TableError, Value};
pub use self::tail::{Tail, TailParameters};
pub use self::units::{Picos, Rate, Share};
