//! `poolctl fabric` draws topologies, and asks no daemon.

#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

mod support;

use std::path::Path;

use serde_json::Value;
use support::{Answer, ask};

/// With a socket that nobody listens on.
fn draw(arguments: &[&str]) -> Answer {
    let arguments = [&["fabric", "draw"], arguments].concat();
    ask(Path::new("/nonexistent/admin.sock"), &arguments)
}

fn assert_answered(answer: &Answer) {
    assert_eq!((answer.code, answer.err.as_str()), (0, ""), "{answer:?}");
}

#[test]
fn a_topology_is_drawn_by_its_name_and_the_same_one_by_its_file() {
    for name in ["expander", "four-hosts", "two-heads", "gpu-box"] {
        let named = draw(&[name]);
        assert_answered(&named);
        assert!(named.out.starts_with(&format!("{name}: ")), "{named:?}");
        let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fabric-emu/topologies");
        let file = files.join(format!("{name}.toml"));
        let filed = draw(&[file.to_str().unwrap()]);
        assert_answered(&filed);
        assert_eq!(filed.out, named.out);
    }
    assert_eq!(draw(&[]).out, draw(&["four-hosts"]).out);
}

#[test]
fn a_topology_is_told_as_json_with_sizes_in_bytes() {
    let answer = draw(&["two-heads", "--json"]);
    assert_answered(&answer);
    assert_eq!(answer.out.lines().count(), 1);
    let told: Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(told["hosts"][1]["name"], "h1");
    assert_eq!(
        told["hosts"][1]["memories"][0]["capacity_bytes"],
        64_u64 << 30
    );
    assert_eq!(told["memdevs"][0]["heads"], 2);
    assert_eq!(told["memdevs"][0]["regions"][0]["coherence"], "hardware");
    assert_eq!(told["links"][1]["down"], "shared:1");
    assert_eq!(told["switches"].as_array().unwrap().len(), 0);
}

#[test]
fn a_picture_goes_where_it_was_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fabric.svg");
    let path_text = path.to_str().unwrap();
    let written = draw(&["four-hosts", "--svg", path_text]);
    assert_answered(&written);
    assert_eq!(written.out, format!("{path_text}\n"));
    let shown = draw(&["four-hosts", "--svg", "-"]);
    assert_answered(&shown);
    assert!(shown.out.starts_with("<svg ") && shown.out.ends_with("</svg>\n"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), shown.out);
    let told = draw(&["four-hosts", "--svg", path_text, "--json"]);
    let told: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(told["written"][0], path_text);
}

#[test]
fn what_is_no_topology_is_a_wrong_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.toml");
    let path_text = path.to_str().unwrap();
    draw(&[path_text]).assert_refused(2, "by name: expander, four-hosts, two-heads, gpu-box");
    std::fs::write(&path, "name = \"t\"\n\n[[host]]\nname = \"\"\n").unwrap();
    draw(&[path_text]).assert_refused(2, "wrong.toml:4: host[0].name: \"\" is no name");
    std::fs::write(&path, "name = \"t\"\n[[hosts]]\n").unwrap();
    draw(&[path_text]).assert_refused(2, "wrong.toml:2: topology: unknown field `hosts`");
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    draw(&[path_text]).assert_refused(2, "UTF-8");
    draw(&["/dev/zero"]).assert_refused(2, "bytes");
    draw(&["--svg", "/nonexistent/a.svg"]).assert_refused(2, "/nonexistent/a.svg");
    draw(&["--svg", "-", "--json"]).assert_refused(2, "--svg - is no JSON");
}
