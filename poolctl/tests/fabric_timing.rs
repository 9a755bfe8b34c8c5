//! `poolctl fabric curves` says what the timing model says, and `calibrate` what this machine says.

#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

mod support;

use std::path::Path;

use fabric_emu::timing::{Evidence, Table};
use serde_json::Value;
use support::{Answer, ask};

/// With a socket that nobody listens on.
fn fabric(arguments: &[&str]) -> Answer {
    let arguments = [&["fabric"], arguments].concat();
    ask(Path::new("/nonexistent/admin.sock"), &arguments)
}

fn answered(arguments: &[&str]) -> String {
    let answer = fabric(arguments);
    assert_eq!((answer.code, answer.err.as_str()), (0, ""), "{answer:?}");
    answer.out
}

fn told(arguments: &[&str]) -> Value {
    let text = answered(arguments);
    assert_eq!(text.lines().count(), 1);
    serde_json::from_str(&text).unwrap()
}

#[test]
fn curves_are_called_emulated_and_stand_beside_what_was_published_with_its_source() {
    let text = answered(&["curves"]);
    for line in [
        "Every figure of ours is emulated, in mode virtual.",
        "Unloaded latency (emulated)",
        "cxl-x8, one switch: latency of reads against load (emulated)",
        "Reads and writes mixed, all that a host can (emulated)",
        "Two hosts at one cxl-x8 behind a switch, reads (emulated)",
        "Published figures, and ours (emulated)",
    ] {
        assert!(
            text.lines().any(|it| it.starts_with(line)),
            "{line}: {text}"
        );
    }
    // A prediction with its source and our error, as docs/fabric.md has it.
    let row = text
        .lines()
        .find(|line| line.starts_with("CXL FPGA to DDR, read"))
        .unwrap();
    for cell in ["CXL-DMSim", "2.88 x", "3.83 x", "+33.2 %", "predicted"] {
        assert!(row.contains(cell), "{cell}: {row}");
    }
}

#[test]
fn curves_of_a_class_are_told_as_json_of_that_class_alone() {
    let told = told(&["curves", "--class", "cxl-x8", "ddr", "--json"]);
    assert_eq!(
        (&told["emulated"], &told["mode"]),
        (&true.into(), &"virtual".into())
    );
    let classes = told["classes"].as_array().unwrap();
    let names: Vec<_> = classes.iter().map(|class| &class["class"]).collect();
    assert_eq!(names, ["ddr", "cxl-x8"]);
    let switched = &classes[1]["scenes"][1];
    assert_eq!(
        (&switched["switches"], &switched["idle_read_ps"]),
        (&1.into(), &550_000.into())
    );
    assert_eq!(switched["loaded"].as_array().unwrap().len(), 10);
    assert_eq!(classes[1]["contended"].as_array().unwrap().len(), 10);
    // Nobody else is at a host's own memory.
    assert_eq!(classes[0]["contended"].as_array().unwrap().len(), 0);
    for figure in told["published"].as_array().unwrap() {
        assert!(
            ["ddr", "cxl-x8"].contains(&figure["class"].as_str().unwrap()),
            "{figure}"
        );
        assert!(!figure["source"].as_str().unwrap().is_empty());
        assert!(figure["error_permille"].is_i64());
    }
    let wrong = fabric(&["curves", "--class", "dram"]);
    assert!(
        wrong.code == 2 && wrong.err.contains("cxl-fpga"),
        "{wrong:?}"
    );
}

#[test]
fn pictures_have_the_curves_and_the_published_figures_with_their_sources() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("charts");
    let written = answered(&[
        "curves",
        "--class",
        "cxl-x8",
        "--plot",
        path.to_str().unwrap(),
    ]);
    let names = [
        "idle",
        "loaded-cxl-x8",
        "mixed-cxl-x8",
        "contended-cxl-x8",
        "published-latency",
    ];
    for name in names {
        let file = path.join(format!("{name}.svg"));
        assert!(
            written.lines().any(|line| Path::new(line) == file),
            "{written}"
        );
        let svg = std::fs::read_to_string(file).unwrap();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("emulated"), "{name}");
        assert!(
            svg.contains("Nomad, table 1") || svg.contains("LiteSwitch"),
            "{name}"
        );
    }
    assert_eq!(
        std::fs::read_dir(&path).unwrap().count(),
        written.lines().count()
    );
    let nowhere = ["curves", "--plot", "/proc/nowhere/charts"];
    fabric(&nowhere).assert_refused(2, "/proc/nowhere/charts");
}

/// No time is asserted: only that there is one, and that none is a mistake of units.
#[test]
fn a_quick_calibration_is_an_overlay_of_just_what_it_says_and_curves_take_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("here.toml");
    let file = path.to_str().unwrap();
    let told = told(&["calibrate", "--quick", "--out", file, "--json"]);
    assert_eq!(
        (&told["emulated"], &told["written"]),
        (&false.into(), &file.into())
    );
    let default = Table::embedded().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let here = default.overlay(&text).unwrap();
    let parameters = told["parameters"].as_array().unwrap();
    let is_told = |class: &str, key: &str| {
        parameters
            .iter()
            .any(|one| one["class"] == class && one["key"] == key)
    };
    assert!(is_told("model", "cache_hit"), "{told}");
    for (before, (class, key, value)) in default.values().zip(here.values()) {
        assert_eq!((before.0, before.1), (class, key));
        assert_eq!(is_told(class, key), before.2 != value, "{class}.{key}");
        if is_told(class, key) && value.evidence == Evidence::Measured {
            assert!(
                value.value > 0 && value.source.contains("Linux "),
                "{value:?}"
            );
            let is_latency = value.unit == "ps";
            assert!(!is_latency || value.value < 10_000_000, "{value:?}");
        }
    }
    // Whatever was left out is said, here and in the file.
    let left_out = told["not_measured"].as_array().unwrap();
    assert!(left_out.iter().any(|one| one["what"] == "nvme"));
    assert!(
        text.contains("# not measured: nvme: not asked for"),
        "{text}"
    );
    let hit = here.cache_hit().unwrap();
    assert!(hit.get() > 0);
    let curves = answered(&["curves", "--class", "ddr", "--timing", file]);
    assert!(
        curves.contains(&format!("Parameters: those of {file} over")),
        "{curves}"
    );
}

#[test]
fn what_is_no_table_and_no_folder_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.toml");
    let file = path.to_str().unwrap();
    fabric(&["curves", "--timing", file]).assert_refused(2, "wrong.toml");
    let value = "value = 0, unit = \"ns\", source = \"s\", evidence = \"measured\"";
    let wrong = format!("[ddr]\nlatency = {{ {value} }}\n");
    std::fs::write(&path, wrong).unwrap();
    fabric(&["curves", "--timing", file]).assert_refused(2, "[ddr] latency: 0 ns is out of range");
    let served = folder.path().join("fabric");
    let serve = [
        "serve",
        "expander",
        "--timing",
        file,
        "--directory",
        served.to_str().unwrap(),
    ];
    fabric(&serve).assert_refused(2, "[ddr] latency");
    assert!(!served.exists());
    let nowhere = ["calibrate", "--quick", "--storage", "/nonexistent"];
    fabric(&nowhere).assert_refused(2, "/nonexistent");
    let unwritable = ["calibrate", "--quick", "--out", "/nonexistent/here.toml"];
    fabric(&unwritable).assert_refused(2, "/nonexistent/here.toml");
}

#[test]
fn storage_is_measured_where_it_is_one_and_left_out_where_it_is_memory() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().to_str().unwrap();
    let told = told(&["calibrate", "--quick", "--storage", here, "--json"]);
    let has = |list: &str, field: &str, what: &str| {
        told[list]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one[field] == what)
    };
    assert_ne!(
        has("parameters", "class", "nvme"),
        has("not_measured", "what", "nvme"),
        "{told}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
