//! Curves as tables.

use super::{OfClass, OfScene, Told, path, rate, time};
use crate::output::Grid;

pub(super) fn text(told: &Told) -> String {
    let mut text = format!(
        "Every figure of ours is emulated, in mode {}. A host has {} accesses under way at most.\n",
        told.mode, told.accesses_under_way
    );
    if let Some(file) = &told.timing {
        text.push_str(&format!(
            "Parameters: those of {} over the default ones.\n",
            file.display()
        ));
    }
    text.push_str(&idle(told));
    for class in &told.classes {
        for scene in class.scenes.iter().filter(|scene| !scene.loaded.is_empty()) {
            text.push_str(&loaded(class, scene));
        }
    }
    text.push_str(&mixed(told));
    for class in told
        .classes
        .iter()
        .filter(|class| !class.contended.is_empty())
    {
        text.push_str(&contended(class));
    }
    text.push_str(&published(told));
    text
}

fn idle(told: &Told) -> String {
    let mut grid = Grid::new(["PATH", ">READ", ">WRITE"]);
    for class in &told.classes {
        for scene in &class.scenes {
            let name = path(class.class, scene.switches);
            grid.row([name, time(scene.idle_read_ps), time(scene.idle_write_ps)]);
        }
    }
    format!("\nUnloaded latency (emulated)\n{}", grid.render())
}

fn loaded(class: &OfClass, scene: &OfScene) -> String {
    let mut grid = Grid::new([">OFFERED", ">ACHIEVED", ">LATENCY"]);
    for row in &scene.loaded {
        grid.row([rate(row.offered), rate(row.rate), time(row.latency_ps)]);
    }
    let name = path(class.class, scene.switches);
    format!(
        "\n{name}: latency of reads against load (emulated)\n{}",
        grid.render()
    )
}

fn mixed(told: &Told) -> String {
    let mut grid = Grid::new(["PATH", ">READS", ">MEDIA", ">ACHIEVED", ">LATENCY"]);
    for class in &told.classes {
        for row in &class.mixed {
            grid.row([
                class.class.to_owned(),
                format!("{} %", row.reads_percent),
                rate(row.media_rate),
                rate(row.rate),
                time(row.latency_ps),
            ]);
        }
    }
    format!(
        "\nReads and writes mixed, all that a host can (emulated)\n{}",
        grid.render()
    )
}

fn contended(class: &OfClass) -> String {
    let titles = [
        ">EACH OFFERS",
        ">ALONE",
        ">LATENCY",
        ">OF TWO",
        ">LATENCY",
        ">BUSY",
    ];
    let mut grid = Grid::new(titles);
    for row in &class.contended {
        let busy = row.device_busy_permille;
        grid.row([
            rate(row.each_offered),
            rate(row.alone_rate),
            time(row.alone_latency_ps),
            rate(row.rate),
            time(row.latency_ps),
            format!("{}.{} %", busy / 10, busy % 10),
        ]);
    }
    format!(
        "\nTwo hosts at one {} behind a switch, reads (emulated)\n{}",
        class.class,
        grid.render()
    )
}

fn published(told: &Told) -> String {
    let titles = ["FIGURE", "SOURCE", ">PUBLISHED", ">OURS", ">ERROR", "BASIS"];
    let mut grid = Grid::new(titles);
    for figure in &told.published {
        grid.row([
            figure.what.to_owned(),
            figure.source.to_owned(),
            figure.range(),
            figure.figure.ours.to_string(),
            figure.error(),
            figure.basis.clone(),
        ]);
    }
    format!(
        "\nPublished figures, and ours (emulated)\n{}\
         input: a parameter is this figure; between: one lies between this and others; \
         predicted: none was set by it.\n",
        grid.render()
    )
}
