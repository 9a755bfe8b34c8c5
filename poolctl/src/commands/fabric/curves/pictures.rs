//! Curves as pictures, with what was published drawn where it belongs.

use std::fs;
use std::path::{Path, PathBuf};

use charts::{Axis, Bar, Curve, Mark, Plot, Row, Spacing};
use fabric_emu::timing::published::Point;

use super::{OfClass, Published, Told, path};
use crate::error::CtlError;

/// Writes all of them into a folder, which is made where it is missing. What was written.
pub(super) fn write(folder: &Path, told: &Told) -> Result<Vec<PathBuf>, CtlError> {
    let failed = |path: &Path, source| CtlError::File {
        path: path.to_owned(),
        source,
    };
    fs::create_dir_all(folder).map_err(|source| failed(folder, source))?;
    let mut written = Vec::new();
    for (name, svg) in all(told) {
        let path = folder.join(format!("{name}.svg"));
        fs::write(&path, svg).map_err(|source| failed(&path, source))?;
        written.push(path);
    }
    Ok(written)
}

/// Each with the name of its file.
fn all(told: &Told) -> Vec<(String, String)> {
    let mut all = vec![("idle".to_owned(), idle(told))];
    for class in &told.classes {
        let name = class.class;
        all.push((
            format!("loaded-{name}"),
            charts::curves(&loaded(told, class)),
        ));
        all.push((format!("mixed-{name}"), charts::curves(&mixed(told, class))));
        if !class.contended.is_empty() {
            let plot = contended(told, class);
            all.push((format!("contended-{name}"), charts::curves(&plot)));
        }
    }
    for (name, title, unit, per) in [
        ("published-latency", "latency", "ps", NANOSECOND),
        ("published-bandwidth", "bandwidth", "B/s", GIGABYTE),
        ("published-ratio", "ratio", "permille", 1e3),
    ] {
        let of_unit = told.published.iter().filter(|figure| figure.unit == unit);
        let rows: Vec<_> = of_unit.map(|figure| compared(figure, per)).collect();
        if !rows.is_empty() {
            let title = format!("{title}: ours (emulated, blue) and published (grey), logarithmic");
            all.push((name.to_owned(), charts::bars(&title, &rows)));
        }
    }
    all
}

/// Picoseconds.
const NANOSECOND: f64 = 1e3;
/// Bytes a second.
const GIGABYTE: f64 = 1e9;

/// A number to draw.
#[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
fn drawn(number: u64, per: f64) -> f64 {
    number as f64 / per
}

fn nanos(picos: u64) -> f64 {
    drawn(picos, NANOSECOND)
}

fn gigabytes(bytes_per_second: u64) -> f64 {
    drawn(bytes_per_second, GIGABYTE)
}

fn axis(label: &str) -> Axis {
    Axis {
        label: label.to_owned(),
        spacing: Spacing::Linear,
    }
}

/// Ours first, and then each published figure of the same path.
fn idle(told: &Told) -> String {
    let mut rows = Vec::new();
    for class in &told.classes {
        for scene in &class.scenes {
            let ours = nanos(scene.idle_read_ps);
            let mut bars = vec![Bar {
                low: ours,
                value: ours,
                high: ours,
                text: format!("{ours} ns, emulated"),
            }];
            let at =
                |figure: &&Published| figure.is_at(class.class, scene.switches, Point::IdleRead);
            let published = told.published.iter().filter(at);
            bars.extend(published.map(|figure| theirs(figure, NANOSECOND)));
            rows.push(Row {
                label: path(class.class, scene.switches),
                bars,
            });
        }
    }
    let title =
        "Unloaded read latency in ns: ours (emulated, blue) and published (grey), logarithmic";
    charts::bars(title, &rows)
}

fn theirs(figure: &Published, per: f64) -> Bar {
    let (low, high) = (drawn(figure.low, per), drawn(figure.high, per));
    Bar {
        low,
        value: f64::midpoint(low, high),
        high,
        text: format!("{}, {}", figure.range(), figure.source),
    }
}

fn compared(figure: &Published, per: f64) -> Row {
    let ours = drawn(figure.ours, per);
    let mine = Bar {
        low: ours,
        value: ours,
        high: ours,
        text: format!("{}, {}, emulated", figure.figure.ours, figure.error()),
    };
    Row {
        label: format!("{} ({})", figure.what, figure.basis),
        bars: vec![mine, theirs(figure, per)],
    }
}

/// What was published of a point of the curves of a class.
fn marks(told: &Told, class: &OfClass, switches: u8, point: Point) -> Vec<Mark> {
    let at = |figure: &&Published| figure.is_at(class.class, switches, point);
    let mark = |figure: &Published| {
        let name = format!(
            "published, {}: {}, {}; ours {}, {}",
            figure.source,
            figure.what,
            figure.range(),
            figure.figure.ours,
            figure.error()
        );
        let per = match point {
            Point::IdleRead => NANOSECOND,
            Point::MostReads | Point::MostWrites | Point::None => GIGABYTE,
        };
        let range = Some((drawn(figure.low, per), drawn(figure.high, per)));
        let (across, up) = match point {
            Point::IdleRead => (None, range),
            Point::MostReads | Point::MostWrites | Point::None => (range, None),
        };
        Mark { name, across, up }
    };
    told.published.iter().filter(at).map(mark).collect()
}

fn loaded(told: &Told, class: &OfClass) -> Plot {
    let scenes = class.scenes.iter().filter(|scene| !scene.loaded.is_empty());
    let curves = scenes.clone().map(|scene| Curve {
        name: format!("{}, reads (emulated)", path(class.class, scene.switches)),
        points: std::iter::once((0.0, nanos(scene.idle_read_ps)))
            .chain(
                scene
                    .loaded
                    .iter()
                    .map(|row| (gigabytes(row.rate), nanos(row.latency_ps))),
            )
            .collect(),
    });
    let mut published = Vec::new();
    for scene in scenes.clone() {
        for point in [Point::IdleRead, Point::MostReads] {
            published.extend(marks(told, class, scene.switches, point));
        }
    }
    Plot {
        title: format!("{}: latency of reads against load (emulated)", class.class),
        across: axis("achieved, GB/s"),
        up: axis("latency, ns"),
        curves: curves.collect(),
        marks: published,
    }
}

fn mixed(told: &Told, class: &OfClass) -> Plot {
    let curve = |name: &str, of: fn(&super::Mix) -> u64| Curve {
        name: format!("{name} (emulated)"),
        points: class
            .mixed
            .iter()
            .map(|row| (drawn(row.reads_percent, 1.0), gigabytes(of(row))))
            .collect(),
    };
    let mut published = Vec::new();
    for (point, reads) in [(Point::MostReads, 100.0), (Point::MostWrites, 0.0)] {
        published.extend(marks(told, class, 0, point).into_iter().map(|mark| Mark {
            // Where all are reads, or none is.
            up: mark.across,
            across: Some((reads - 1.0, reads + 1.0)),
            ..mark
        }));
    }
    Plot {
        title: format!("{}: reads and writes mixed (emulated)", class.class),
        across: axis("reads, % of accesses"),
        up: axis("GB/s"),
        curves: vec![
            curve("achieved by one host", |row| row.rate),
            curve("what the media can", |row| row.media_rate),
        ],
        marks: published,
    }
}

fn contended(told: &Told, class: &OfClass) -> Plot {
    let curve = |name: &str, of: fn(&super::Contended) -> u64| Curve {
        name: format!("{name} (emulated)"),
        points: class
            .contended
            .iter()
            .map(|row| (gigabytes(row.each_offered), nanos(of(row))))
            .collect(),
    };
    Plot {
        title: format!(
            "Two hosts at one {} behind a switch, reads (emulated)",
            class.class
        ),
        across: axis("each offers, GB/s"),
        up: axis("latency, ns"),
        curves: vec![
            curve("alone", |row| row.alone_latency_ps),
            curve("of two", |row| row.latency_ps),
        ],
        marks: marks(told, class, 1, Point::IdleRead),
    }
}
