//! `poolctl fabric curves`: what the timing model says of classes of memory, beside what others
//! published. All of it is emulated: nothing in here measures this machine.
//!
//! [`Told`] is what is said; `tables` writes it for people, `pictures` draws it.

mod pictures;
mod tables;

use fabric_emu::timing::curves::{CurvesError, Scene, classes, has_link};
use fabric_emu::timing::published::{Amount, Figure, Point, published};
use fabric_emu::timing::{Picos, Rate, Share, Table};
use serde::Serialize;

use super::{Written, timing_table};
use crate::cli::WhichCurves;
use crate::error::CtlError;
use crate::output::Output;

/// Accesses under way in one host: as of 16 cores.
const ACCESSES_UNDER_WAY: u32 = 16 * 62;
/// Switches in a row behind which a class is shown idle, where it has a link.
const SWITCHES_MAX: u8 = 3;
/// And under load.
const LOADED_SWITCHES_MAX: u8 = 1;
/// What meets at one device.
const CONTENDING: u8 = 2;

pub(super) fn run(which: &WhichCurves, output: &mut Output) -> Result<(), CtlError> {
    let table = timing_table(which.timing.as_deref())?;
    let told = Told::of(&table, which).map_err(|source| CtlError::Curves { source })?;
    match which.plot.as_deref() {
        Some(folder) => {
            let written = Written {
                written: pictures::write(folder, &told)?,
            };
            output.show(&written, Written::text)
        }
        None => output.show(&told, tables::text),
    }
}

/// Everything that is said. Times are in picoseconds, rates in bytes a second.
#[derive(Debug, Serialize)]
struct Told {
    emulated: bool,
    mode: &'static str,
    /// The file that was laid over the table of parameters.
    timing: Option<std::path::PathBuf>,
    accesses_under_way: u32,
    classes: Vec<OfClass>,
    published: Vec<Published>,
}

/// One class of memory.
#[derive(Debug, Serialize)]
struct OfClass {
    class: &'static str,
    /// By switches in between.
    scenes: Vec<OfScene>,
    /// Without a switch, all that a host can.
    mixed: Vec<Mix>,
    /// Two hosts at one device behind a switch, reads; none where no other host can be there.
    contended: Vec<Contended>,
}

/// One host and one device.
#[derive(Debug, Serialize)]
struct OfScene {
    switches: u8,
    idle_read_ps: u64,
    idle_write_ps: u64,
    /// Reads, from a tenth of the most on.
    loaded: Vec<Loaded>,
}

#[derive(Debug, Serialize)]
struct Loaded {
    offered: u64,
    rate: u64,
    latency_ps: u64,
}

#[derive(Debug, Serialize)]
struct Mix {
    reads_percent: u64,
    media_rate: u64,
    rate: u64,
    latency_ps: u64,
}

#[derive(Debug, Serialize)]
struct Contended {
    each_offered: u64,
    alone_rate: u64,
    alone_latency_ps: u64,
    rate: u64,
    latency_ps: u64,
    device_busy_permille: u64,
}

/// What somebody measured, and what the model says of it.
#[derive(Debug, Serialize)]
struct Published {
    what: &'static str,
    source: &'static str,
    class: &'static str,
    switches: u8,
    unit: &'static str,
    low: u64,
    high: u64,
    ours: u64,
    /// Of ours against the middle, in tenths of a percent.
    error_permille: i64,
    basis: String,
    #[serde(skip)]
    figure: Figure,
}

impl Told {
    fn of(table: &Table, which: &WhichCurves) -> Result<Self, CurvesError> {
        let is_wanted = |class: &str| {
            which.class.is_empty() || which.class.iter().any(|wanted| wanted == class)
        };
        let wanted = classes().filter(|class| is_wanted(class));
        let published = published(table)?.into_iter();
        let published = published.filter(|figure| is_wanted(figure.class));
        Ok(Self {
            emulated: true,
            mode: "virtual",
            timing: which.timing.clone(),
            accesses_under_way: ACCESSES_UNDER_WAY,
            classes: wanted
                .map(|class| OfClass::of(table, class))
                .collect::<Result<_, _>>()?,
            published: published.map(Published::of).collect(),
        })
    }
}

impl OfClass {
    fn of(table: &Table, class: &'static str) -> Result<Self, CurvesError> {
        let most = if has_link(class) { SWITCHES_MAX } else { 0 };
        let scenes = (0..=most).map(|switches| OfScene::of(table, class, switches));
        let mixed = Scene::direct(table, class)?.mixes(ACCESSES_UNDER_WAY)?;
        let mixed = mixed.into_iter().map(|row| Mix {
            reads_percent: row.percent,
            media_rate: row.media.get(),
            rate: row.outcome.rate.get(),
            latency_ps: row.outcome.latency.get(),
        });
        Ok(Self {
            class,
            scenes: scenes.collect::<Result<_, _>>()?,
            mixed: mixed.collect(),
            contended: if has_link(class) {
                contended(table, class)?
            } else {
                Vec::new()
            },
        })
    }
}

impl OfScene {
    fn of(table: &Table, class: &str, switches: u8) -> Result<Self, CurvesError> {
        let scene = Scene::switched(table, class, 1, switches)?;
        let mut loaded = Vec::new();
        if switches <= LOADED_SWITCHES_MAX {
            loaded = scene.loaded(Share::ONE, ACCESSES_UNDER_WAY)?;
        }
        let loaded = loaded.into_iter().map(|row| Loaded {
            offered: row.offered.get(),
            rate: row.outcome.rate.get(),
            latency_ps: row.outcome.latency.get(),
        });
        Ok(Self {
            switches,
            idle_read_ps: scene.unloaded(Share::ONE)?.get(),
            idle_write_ps: scene.unloaded(Share::ZERO)?.get(),
            loaded: loaded.collect(),
        })
    }
}

fn contended(table: &Table, class: &str) -> Result<Vec<Contended>, CurvesError> {
    let scene = Scene::switched(table, class, CONTENDING, 1)?;
    let rows = scene.contended(Share::ONE, ACCESSES_UNDER_WAY)?;
    let rows = rows.into_iter().filter_map(|row| {
        let (one, path) = row.together.streams.first().zip(scene.paths.first())?;
        let busy = row.together.utilisation(path.device);
        Some(Contended {
            each_offered: row.offered.get(),
            alone_rate: row.alone.rate.get(),
            alone_latency_ps: row.alone.latency.get(),
            rate: one.rate.get(),
            latency_ps: one.latency.get(),
            device_busy_permille: busy.of(1000),
        })
    });
    Ok(rows.collect())
}

impl Published {
    fn of(figure: Figure) -> Self {
        let unit = match figure.ours {
            Amount::Time(_) => "ps",
            Amount::Rate(_) => "B/s",
            Amount::Ratio(_) => "permille",
        };
        Self {
            what: figure.what,
            source: figure.source,
            class: figure.class,
            switches: figure.switches,
            unit,
            low: figure.low.number(),
            high: figure.high.number(),
            ours: figure.ours.number(),
            error_permille: figure.error_tenths(),
            basis: figure.basis.to_string(),
            figure,
        }
    }

    /// Whether it is this point of the curves of a class behind so many switches.
    fn is_at(&self, class: &str, switches: u8, point: Point) -> bool {
        (self.class, self.switches, self.figure.point) == (class, switches, point)
    }

    /// As `230.0 ns`, or `214.0 ns to 271.0 ns`.
    fn range(&self) -> String {
        let Figure { low, high, .. } = self.figure;
        if low == high {
            low.to_string()
        } else {
            format!("{low} to {high}")
        }
    }

    /// As `+3.1 %`.
    fn error(&self) -> String {
        let tenths = self.error_permille;
        let sign = if tenths < 0 { '-' } else { '+' };
        let (whole, tenth) = (tenths.unsigned_abs() / 10, tenths.unsigned_abs() % 10);
        format!("{sign}{whole}.{tenth} %")
    }
}

fn time(picos: u64) -> String {
    Picos::new(picos).to_string()
}

fn rate(bytes_per_second: u64) -> String {
    Rate::new(bytes_per_second).to_string()
}

/// What a class behind so many switches is called.
fn path(class: &str, switches: u8) -> String {
    match switches {
        0 => class.to_owned(),
        1 => format!("{class}, one switch"),
        more => format!("{class}, {more} switches"),
    }
}
