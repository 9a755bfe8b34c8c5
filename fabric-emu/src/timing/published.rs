//! Figures that others measured, and what the model says of the same.
//!
//! A figure that the table of parameters takes as it is says nothing of the model, and one between
//! which and others a parameter lies says little: each is marked so. What is left was not used to
//! set a parameter.

use core::fmt;

use pool_core::units::LINE_BYTES;

use super::curves::{CurvesError, Scene};
use super::element::Element;
use super::flow::transfer_time;
use super::table::Table;
use super::units::{Picos, Rate, Share, mul_div};

/// An amount of either kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// A latency or a duration.
    Time(Picos),
    /// A bandwidth.
    Rate(Rate),
    /// A ratio, in parts of 1000.
    Ratio(u64),
}

impl Amount {
    /// The number alone: picoseconds, bytes a second, parts of 1000.
    #[must_use]
    pub const fn number(self) -> u64 {
        match self {
            Self::Time(time) => time.get(),
            Self::Rate(rate) => rate.get(),
            Self::Ratio(permille) => permille,
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) => time.fmt(f),
            Self::Rate(rate) => rate.fmt(f),
            Self::Ratio(permille) => write!(f, "{}.{:02} x", permille / 1000, permille % 1000 / 10),
        }
    }
}

/// What someone measured, and what the model says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// What was measured.
    pub what: &'static str,
    /// By whom, or where it is told.
    pub source: &'static str,
    /// The least that was measured.
    pub low: Amount,
    /// The most.
    pub high: Amount,
    /// What the model says: emulated.
    pub ours: Amount,
    /// What it has to do with the parameters.
    pub basis: Basis,
    /// Which memory it is of.
    pub class: &'static str,
    /// Behind how many switches.
    pub switches: u8,
    /// Which point of that memory's curves it is.
    pub point: Point,
}

/// Where a published figure belongs beside the curves of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    /// The time of a read with nobody else there.
    IdleRead,
    /// All reads that there can be.
    MostReads,
    /// All writes.
    MostWrites,
    /// Of one core, of a copy, of a link, or a comparison: of no curve.
    None,
}

/// What a published figure has to do with the parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Basis {
    /// A parameter is this figure.
    Input,
    /// A parameter lies between this figure and others.
    Between,
    /// No parameter was set by it.
    Predicted,
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "input",
            Self::Between => "between",
            Self::Predicted => "predicted",
        })
    }
}

impl Figure {
    /// How much the model says more than the middle of what was measured, in tenths of a percent.
    #[must_use]
    pub fn error_tenths(&self) -> i64 {
        let (low, high) = (self.low.number(), self.high.number());
        let middle = low / 2 + high / 2 + (low % 2 + high % 2) / 2;
        let ours = self.ours.number();
        let off = mul_div(ours.abs_diff(middle), 1000, middle);
        let off = i64::try_from(off).unwrap_or(i64::MAX);
        if ours < middle { -off } else { off }
    }

    /// Whether the model is within what was measured.
    #[must_use]
    pub fn is_within(&self) -> bool {
        (self.low.number()..=self.high.number()).contains(&self.ours.number())
    }
}

const NOMAD: &str = "Nomad, table 1";
const POLAR: &str = "PolarCXLMem, XConn switch";
const PANMNESIA: &str = "LiteSwitch, table of Panmnesia";
const KTH: &str = "GH200, press on a KTH study";
const VENDOR: &str = "PM1743, vendor";
const CHECKER: &str = "memory latency checker, Ice Lake";
const DMSIM: &str = "CXL-DMSim";
const SWITCH: &str = "LiteSwitch, PolarCXLMem";

/// So many accesses under way that only bandwidth bounds.
const PLENTY: u32 = 1 << 16;

/// What is asked of the model.
#[derive(Clone, Copy)]
enum Ask {
    /// A read of this class behind so many switches.
    Idle(&'static str, u8),
    /// How much longer a read of the one takes than of the other.
    Longer(&'static str, &'static str),
    /// How many times as long a read takes as one of the other without a switch.
    Times(&'static str, u8, &'static str),
    /// What one core takes to read so many bytes through a switch.
    Copy(u64),
    /// All reads that one core can make.
    Core(&'static str),
    /// The same at an expander of 8 lanes that takes so many nanoseconds.
    CoreAt(u64),
    /// All reads that the class can serve.
    Read(&'static str),
    /// All writes.
    Write(&'static str),
    /// Reads in bulk.
    BulkRead(&'static str),
    /// Writes in bulk.
    BulkWrite(&'static str),
    /// One direction of a link of so many lanes.
    Lanes(u8),
}

impl Ask {
    /// Of which memory it is asked, behind how many switches, and where that belongs.
    const fn place(self) -> (&'static str, u8, Point) {
        match self {
            Self::Idle(class, switches) => (class, switches, Point::IdleRead),
            Self::Read(class) => (class, 0, Point::MostReads),
            Self::Write(class) => (class, 0, Point::MostWrites),
            Self::Times(class, switches, _) => (class, switches, Point::None),
            Self::Longer(class, _)
            | Self::Core(class)
            | Self::BulkRead(class)
            | Self::BulkWrite(class) => (class, 0, Point::None),
            Self::Copy(_) => ("cxl-x16", 1, Point::None),
            Self::CoreAt(_) => ("cxl-x8", 0, Point::None),
            Self::Lanes(8) => ("cxl-x8", 0, Point::None),
            Self::Lanes(_) => ("cxl-x16", 0, Point::None),
        }
    }
}

/// What was measured, by whom, the least and the most, and what it has to do
/// with the parameters.
type Measured = (&'static str, &'static str, [u64; 2], Ask, Basis);

/// In tenths of nanoseconds.
const LATENCIES: [Measured; 14] = [
    (
        "DDR5 read",
        NOMAD,
        [1060, 1060],
        Ask::Idle("ddr", 0),
        Basis::Input,
    ),
    (
        "DDR read",
        CHECKER,
        [808, 808],
        Ask::Idle("ddr", 0),
        Basis::Predicted,
    ),
    (
        "remote DDR read",
        CHECKER,
        [1404, 1404],
        Ask::Idle("remote-ddr", 0),
        Basis::Input,
    ),
    (
        "CXL ASIC read",
        NOMAD,
        [1920, 1920],
        Ask::Idle("cxl-x8", 0),
        Basis::Between,
    ),
    (
        "CXL expander A read",
        PANMNESIA,
        [2140, 2710],
        Ask::Idle("cxl-x8", 0),
        Basis::Between,
    ),
    (
        "CXL expander B read",
        PANMNESIA,
        [2650, 2850],
        Ask::Idle("cxl-x8", 0),
        Basis::Between,
    ),
    (
        "CXL expander C read",
        PANMNESIA,
        [2710, 4420],
        Ask::Idle("cxl-x8", 0),
        Basis::Predicted,
    ),
    (
        "CXL, four devices, read",
        "Melody",
        [1400, 4100],
        Ask::Idle("cxl-x8", 0),
        Basis::Predicted,
    ),
    (
        "CXL FPGA read",
        NOMAD,
        [4070, 4070],
        Ask::Idle("cxl-fpga", 0),
        Basis::Input,
    ),
    (
        "pool, longer than DDR",
        "Pond",
        [700, 900],
        Ask::Longer("cxl-x8", "ddr"),
        Basis::Predicted,
    ),
    (
        "one switch, read",
        SWITCH,
        [5000, 6000],
        Ask::Idle("cxl-x8", 1),
        Basis::Between,
    ),
    (
        "one switch, 64 B by one core",
        POLAR,
        [7500, 7500],
        Ask::Copy(64),
        Basis::Predicted,
    ),
    (
        "one switch, 1 KiB by one core",
        POLAR,
        [10700, 10700],
        Ask::Copy(1024),
        Basis::Predicted,
    ),
    (
        "one switch, 16 KiB by one core",
        POLAR,
        [24600, 24600],
        Ask::Copy(16384),
        Basis::Predicted,
    ),
];

/// In hundredths.
const RATIOS: [Measured; 3] = [
    (
        "CXL ASIC to DDR, read",
        DMSIM,
        [218, 218],
        Ask::Times("cxl-x8", 0, "ddr"),
        Basis::Predicted,
    ),
    (
        "CXL FPGA to DDR, read",
        DMSIM,
        [288, 288],
        Ask::Times("cxl-fpga", 0, "ddr"),
        Basis::Predicted,
    ),
    (
        "one switch to direct, read",
        POLAR,
        [200, 200],
        Ask::Times("cxl-x8", 1, "cxl-x8"),
        Basis::Between,
    ),
];

/// In units of 100 MB/s.
const BANDWIDTHS: [Measured; 16] = [
    (
        "DDR5, one core, read",
        NOMAD,
        [378, 378],
        Ask::Core("ddr"),
        Basis::Input,
    ),
    (
        "CXL ASIC, one core, read",
        NOMAD,
        [203, 203],
        Ask::Core("cxl-x8"),
        Basis::Predicted,
    ),
    (
        "the same at its 192 ns",
        NOMAD,
        [203, 203],
        Ask::CoreAt(192),
        Basis::Predicted,
    ),
    (
        "DDR5 socket, read",
        NOMAD,
        [2700, 2700],
        Ask::Read("ddr"),
        Basis::Input,
    ),
    (
        "DDR5 socket, write",
        NOMAD,
        [2720, 2720],
        Ask::Write("ddr"),
        Basis::Input,
    ),
    (
        "CXL ASIC, read",
        NOMAD,
        [208, 208],
        Ask::Read("cxl-x8"),
        Basis::Input,
    ),
    (
        "CXL ASIC, write",
        NOMAD,
        [210, 210],
        Ask::Write("cxl-x8"),
        Basis::Input,
    ),
    (
        "CXL FPGA, read",
        NOMAD,
        [217, 217],
        Ask::Read("cxl-fpga"),
        Basis::Input,
    ),
    (
        "link of 8 lanes, one way",
        PANMNESIA,
        [250, 300],
        Ask::Lanes(8),
        Basis::Predicted,
    ),
    (
        "link of 16 lanes, one way",
        PANMNESIA,
        [500, 600],
        Ask::Lanes(16),
        Basis::Predicted,
    ),
    (
        "HBM3, read",
        KTH,
        [34000, 34000],
        Ask::Read("hbm"),
        Basis::Input,
    ),
    (
        "C2C, host to device",
        KTH,
        [3750, 3750],
        Ask::Read("c2c"),
        Basis::Input,
    ),
    (
        "C2C, device to host",
        KTH,
        [2970, 2970],
        Ask::Write("c2c"),
        Basis::Input,
    ),
    (
        "NVMe, read in bulk",
        VENDOR,
        [130, 130],
        Ask::BulkRead("nvme"),
        Basis::Input,
    ),
    (
        "NVMe, write in bulk",
        VENDOR,
        [66, 66],
        Ask::BulkWrite("nvme"),
        Basis::Input,
    ),
    (
        "NVMe, 2.5 M reads of 4 KiB",
        VENDOR,
        [102, 103],
        Ask::Read("nvme"),
        Basis::Input,
    ),
];

/// The published figures, with what a model of `table` says of each.
///
/// # Errors
/// None that a table can have.
pub fn published(table: &Table) -> Result<Vec<Figure>, CurvesError> {
    let time = |tenths| Amount::Time(Picos::new(tenths * 100));
    let ratio = |hundredths| Amount::Ratio(hundredths * 10);
    let rate = |tenths| Amount::Rate(Rate::new(tenths * 100_000_000));
    let mut figures = ours(table, &LATENCIES, time)?;
    figures.extend(ours(table, &RATIOS, ratio)?);
    figures.extend(ours(table, &BANDWIDTHS, rate)?);
    Ok(figures)
}

/// What a model of `table` says of these.
fn ours(
    table: &Table,
    all: &[Measured],
    amount: fn(u64) -> Amount,
) -> Result<Vec<Figure>, CurvesError> {
    let figure = |&(what, source, measured, ask, basis): &Measured| {
        let [low, high] = measured.map(amount);
        let (class, switches, point) = ask.place();
        Ok(Figure {
            what,
            source,
            low,
            high,
            ours: Ours(table).answer(ask)?,
            basis,
            class,
            switches,
            point,
        })
    };
    all.iter().map(figure).collect()
}

/// A model of a table.
struct Ours<'a>(&'a Table);

impl Ours<'_> {
    fn answer(&self, ask: Ask) -> Result<Amount, CurvesError> {
        Ok(match ask {
            Ask::Idle(class, switches) => Amount::Time(self.idle(class, switches)?),
            Ask::Longer(class, than) => {
                Amount::Time(self.idle(class, 0)?.saturating_sub(self.idle(than, 0)?))
            }
            Ask::Times(class, switches, than) => {
                let (longer, shorter) = (self.idle(class, switches)?, self.idle(than, 0)?);
                Amount::Ratio(mul_div(longer.get(), 1000, shorter.get()))
            }
            Ask::Copy(bytes) => Amount::Time(self.copy(bytes)?),
            Ask::Core(class) => self.most(class, Share::ONE, self.core()?)?,
            Ask::CoreAt(nanos) => Amount::Rate(self.core_at(Picos::from_nanos(nanos))?),
            Ask::Read(class) => self.most(class, Share::ONE, PLENTY)?,
            Ask::Write(class) => self.most(class, Share::ZERO, PLENTY)?,
            Ask::BulkRead(class) => Amount::Rate(self.0.device(class)?.bulk_read),
            Ask::BulkWrite(class) => Amount::Rate(self.0.device(class)?.bulk_write),
            Ask::Lanes(lanes) => Amount::Rate(self.0.link(32, lanes)?.up),
        })
    }

    fn idle(&self, class: &str, switches: u8) -> Result<Picos, CurvesError> {
        Scene::switched(self.0, class, 1, switches)?.unloaded(Share::ONE)
    }

    fn most(&self, class: &str, reads: Share, mlp: u32) -> Result<Amount, CurvesError> {
        Ok(Amount::Rate(
            Scene::direct(self.0, class)?.most(reads, mlp)?.rate,
        ))
    }

    /// The first line after the whole latency, and the rest as fast as one core can.
    fn copy(&self, bytes: u64) -> Result<Picos, CurvesError> {
        let scene = Scene::switched(self.0, "cxl-x16", 1, 1)?;
        let first = scene.unloaded(Share::ONE)?;
        let rate = scene.most(Share::ONE, self.core()?)?.rate;
        Ok(transfer_time(first, bytes.saturating_sub(LINE_BYTES), rate))
    }

    fn core_at(&self, latency: Picos) -> Result<Rate, CurvesError> {
        let mut scene = Scene::direct(self.0, "cxl-x8")?;
        let less = scene.unloaded(Share::ONE)?.saturating_sub(latency);
        for element in &mut scene.elements.list {
            if let Element::Device(device) = element {
                device.controller = device.controller.saturating_sub(less);
            }
        }
        Ok(scene.most(Share::ONE, self.core()?)?.rate)
    }

    fn core(&self) -> Result<u32, CurvesError> {
        Ok(self.0.core_accesses()?)
    }
}
