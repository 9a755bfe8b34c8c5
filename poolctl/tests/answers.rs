//! What each command says, as a table and as JSON, of a daemon whose answers are known.

#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

#[path = "../../pool-daemon/tests/support/fake.rs"]
#[expect(dead_code, reason = "the daemon's own tests use the rest of it")]
mod fake;
mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use fake::{Fake, small_pool};
use pool_core::Nanos;
use pool_core::clock::{Deadline, eventually};
use pool_daemon::engine::command::Operation;
use pool_daemon::server::handle::{Answer as Said, Query};
use pool_proto::admin::v1::{CheckReport, CreateRegionRequest, PoolEvent, Topology};
use serde_json::Value;
use support::{Answer, ask, program};

/// Each command that asks and does not listen, and the name of its golden file.
const QUESTIONS: [(&str, &[&str]); 20] = [
    ("status", &["status"]),
    ("top", &["top", "--once"]),
    ("tiers", &["tiers"]),
    ("devices", &["devices"]),
    ("devices-tree", &["devices", "--tree"]),
    ("regions", &["regions"]),
    (
        "regions-create",
        &[
            "regions", "create", "--serial", "0xa0,161", "--size", "512 MiB",
        ],
    ),
    ("regions-destroy", &["regions", "destroy", "region0"]),
    ("devices-resize", &["devices", "resize", "ddr0", "1 GiB"]),
    ("devices-activate", &["devices", "activate", "ddr0"]),
    ("devices-remove", &["devices", "remove", "ddr0"]),
    ("segments", &["segments"]),
    ("segments-of-tenant", &["segments", "--tenant", "trainer"]),
    ("segments-free", &["segments", "free", "7", "--force"]),
    ("tenants", &["tenants"]),
    ("clients", &["clients"]),
    ("drain", &["drain", "hbm0"]),
    ("drain-wait", &["drain", "hbm0", "--wait"]),
    ("doctor", &["doctor"]),
    ("check", &["check"]),
];

/// Compares with the file of this name, or writes it where `TIERPOOL_BLESS` is set.
fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("TIERPOOL_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        text, expected,
        "{name} differs; TIERPOOL_BLESS=1 writes it anew"
    );
}

#[test]
fn every_command_answers_as_recorded() {
    let fake = Fake::start();
    for (name, arguments) in QUESTIONS {
        let table = ask(&fake.config.admin_socket, arguments);
        assert_eq!(
            (table.code, table.err.as_str()),
            (0, ""),
            "{name}: {table:?}"
        );
        assert_golden(&format!("{name}.txt"), &table.out);

        let json = ask(
            &fake.config.admin_socket,
            &[arguments, &["--json"]].concat(),
        );
        assert_eq!((json.code, json.err.as_str()), (0, ""), "{name}: {json:?}");
        assert_eq!(json.out.lines().count(), 1, "{name}: {json:?}");
        let object: Value = serde_json::from_str(&json.out).unwrap();
        assert!(object.is_object(), "{name}: {object}");
        let pretty = serde_json::to_string_pretty(&object).unwrap();
        assert_golden(&format!("{name}.json"), &format!("{pretty}\n"));
    }
}

#[test]
fn a_change_is_asked_for_as_it_was_typed() {
    let fake = Fake::start();
    for arguments in [
        &["devices", "resize", "ddr0", "1 GiB"][..],
        &["devices", "activate", "ddr0"],
        &["devices", "remove", "ddr0"],
        &["drain", "ddr0"],
        &["segments", "free", "7"],
        &["segments", "free", "8", "--force"],
    ] {
        assert_eq!(
            ask(&fake.config.admin_socket, arguments).code,
            0,
            "{arguments:?}"
        );
    }
    let asked: Vec<_> = fake.asked().into_iter().map(|(_, query)| query).collect();
    let ddr0 = || "ddr0".to_owned();
    let free = |segment, force| Operation::Free { segment, force };
    let typed = [
        Operation::Resize(ddr0(), 1 << 30),
        Operation::Activate(ddr0()),
        Operation::Remove(ddr0()),
        Operation::Drain(ddr0()),
        free(7, false),
        free(8, true),
    ];
    assert_eq!(asked, typed.map(Query::Operate));
}

#[test]
fn a_region_is_asked_for_as_it_was_typed() {
    let fake = Fake::start();
    for arguments in [
        &["regions", "create", "--serial", "0xa0"][..],
        &[
            "regions", "create", "--serial", "160", "--serial", "0xA1", "--size", "1GiB",
        ],
        &[
            "regions",
            "create",
            "--serial",
            "1,2",
            "--granularity",
            "1024",
        ],
        &["regions", "destroy", "decoder3.1"],
    ] {
        let answer = ask(&fake.config.admin_socket, arguments);
        assert_eq!(answer.code, 0, "{arguments:?}: {answer:?}");
    }
    let asked: Vec<_> = fake.asked().into_iter().map(|(_, query)| query).collect();
    let create = |serials: &[u64], bytes, granularity_bytes| {
        Query::CreateRegion(CreateRegionRequest {
            serials: serials.to_vec(),
            bytes,
            granularity_bytes,
        })
    };
    let typed = [
        create(&[0xa0], 0, 0),
        create(&[0xa0, 0xa1], 1 << 30, 0),
        create(&[1, 2], 0, 1024),
        Query::DestroyRegion("decoder3.1".to_owned()),
    ];
    assert_eq!(asked, typed);
}

#[test]
fn a_machine_without_cxl_says_so_and_shows_the_devices_of_the_pool() {
    let plain = |caller, query: &Query| {
        let Said::Topology(mut topology) = small_pool(caller, query)? else {
            panic!("another question");
        };
        topology.devices.iter_mut().for_each(|it| it.region.clear());
        Ok(Said::Topology(Topology {
            devices: topology.devices,
            ..Topology::default()
        }))
    };
    let fake = Fake::with(Box::new(plain), |_| {});
    let tree = ask(&fake.config.admin_socket, &["devices", "--tree"]);
    assert_eq!((tree.code, tree.err.as_str()), (0, ""), "{tree:?}");
    assert!(
        tree.out
            .starts_with("CXL: none; this kernel shows no CXL bus\n"),
        "{tree:?}"
    );
    assert!(
        tree.out.contains("device hbm0 (emulated): memfd"),
        "{tree:?}"
    );
    let regions = ask(&fake.config.admin_socket, &["regions"]);
    assert_eq!(
        regions.out,
        "this kernel shows no CXL bus: there are no regions\n"
    );
}

#[test]
fn accounts_that_do_not_balance_are_the_answer_no() {
    let unbalanced = |_, _: &Query| {
        Ok(Said::Check(CheckReport {
            balanced: false,
            findings: vec!["invariant 3: extent 7 of hbm0 has two owners".to_owned()],
            ..CheckReport::default()
        }))
    };
    let fake = Fake::with(Box::new(unbalanced), |_| {});
    let table = ask(&fake.config.admin_socket, &["check"]);
    assert_eq!((table.code, table.err.as_str()), (1, ""));
    assert_golden("check-unbalanced.txt", &table.out);
    let json = ask(&fake.config.admin_socket, &["check", "--json"]);
    assert_eq!(json.code, 1);
    let report: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(report["balanced"], false);
}

#[test]
fn a_path_that_is_broken_is_the_answer_no() {
    let broken = |caller, query: &Query| {
        let Said::Doctor(mut report) = small_pool(caller, query)? else {
            panic!("another question");
        };
        report.findings[1].verdict = "broken".to_owned();
        Ok(Said::Doctor(report))
    };
    let fake = Fake::with(Box::new(broken), |_| {});
    let report = ask(&fake.config.admin_socket, &["doctor"]);
    assert_eq!(report.code, 1);
    assert!(report.out.contains("broken") && report.out.contains("to be mended: "));
}

#[test]
fn a_pool_that_cannot_prove_what_is_released_is_the_answer_no() {
    let unproven = |caller, query: &Query| {
        let Said::Doctor(mut report) = small_pool(caller, query)? else {
            panic!("another question");
        };
        report.findings[0].path = "proof of release".to_owned();
        report.findings[0].verdict = "off".to_owned();
        Ok(Said::Doctor(report))
    };
    let fake = Fake::with(Box::new(unproven), |_| {});
    let report = ask(&fake.config.admin_socket, &["doctor"]);
    assert_eq!(report.code, 1);
    assert!(report.out.contains("to be mended: proof of release"));
}

#[test]
fn a_device_that_does_not_get_empty_in_time_is_the_answer_no() {
    let stuck = |caller, query: &Query| {
        let mut answer = small_pool(caller, query);
        if let Ok(Said::Operated(Some(device))) = &mut answer {
            device.granted_bytes = 64 << 20;
        }
        answer
    };
    let fake = Fake::with(Box::new(stuck), |_| {});
    let wait = ["drain", "hbm0", "--wait", "--timeout", "300ms"];
    let refused = ask(&fake.config.admin_socket, &wait);
    refused.assert_refused(1, "device hbm0 still has 66 MiB");
    // It looked more than once before it gave up.
    assert!(fake.asked().len() > 2);
}

#[test]
fn a_daemon_that_turns_pages_for_ever_is_not_followed() {
    let endless = |_, _: &Query| {
        let Ok(Said::Segments(mut page)) = small_pool(
            pool_daemon::server::handle::Caller::REMOTE_OPERATOR,
            &Query::Segments(Default::default()),
        ) else {
            panic!("another answer");
        };
        page.more = true;
        Ok(Said::Segments(page))
    };
    let fake = Fake::with(Box::new(endless), |_| {});
    let segments = ask(&fake.config.admin_socket, &["segments"]);
    segments.assert_refused(4, "and none is told");
    assert_eq!(fake.asked().len(), 2);
}

#[test]
fn what_a_client_calls_itself_does_not_reach_the_terminal() {
    let hostile = |caller, query: &Query| {
        let mut answer = small_pool(caller, query);
        if let Ok(Said::Clients(reply)) = &mut answer {
            reply.clients[0].name = "\u{1b}[2J\u{7}".to_owned();
        }
        answer
    };
    let fake = Fake::with(Box::new(hostile), |_| {});
    let table = ask(&fake.config.admin_socket, &["clients"]).out;
    assert!(
        !table.contains('\u{1b}') && table.contains("\\u{1b}[2J"),
        "{table}"
    );
}

/// Publishes events until the program has heard enough.
fn hear(fake: &Fake, command: &mut Command) -> Answer {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut sequence = 0;
    let ended = eventually(Deadline::after(Nanos::from_millis(60_000)), || {
        sequence += 1;
        fake.publish(PoolEvent {
            sequence,
            at_ms: 93_784_005,
            kind: "segment-granted".to_owned(),
            tenant: "trainer".to_owned(),
            segment_id: 7,
            bytes: 64 << 20,
            ..PoolEvent::default()
        });
        child.try_wait().unwrap()
    });
    assert!(ended.is_ok(), "it went on listening");
    Answer::of(child.wait_with_output().unwrap())
}

#[test]
fn events_are_told_in_order_until_there_are_enough() {
    let fake = Fake::start();
    let listen = |arguments: &[&str]| {
        let mut command = program();
        command
            .arg("--socket")
            .arg(&fake.config.admin_socket)
            .arg("events")
            .args(arguments);
        let heard = hear(&fake, &mut command);
        assert_eq!((heard.code, heard.err.as_str()), (0, ""), "{heard:?}");
        heard.out
    };
    let table = listen(&["--count", "3"]);
    assert_eq!(table.lines().count(), 3);
    let told = "93784.005  segment-granted   tenant trainer  segment 7  bytes 64 MiB";
    assert!(table.lines().all(|line| line.ends_with(told)), "{table}");

    let json = listen(&["--count", "3", "--json"]);
    let sequences: Vec<_> = json
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["sequence"]
                .as_u64()
                .unwrap()
        })
        .collect();
    assert_eq!(sequences.len(), 3);
    assert!(sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");

    // The end of the time is the end of listening, and no failure.
    let table = listen(&["--for", "200ms"]);
    assert!(table.lines().all(|line| line.ends_with(told)), "{table}");
}

#[test]
fn following_ends_with_the_daemon() {
    let mut fake = Fake::start();
    let mut command = program();
    command
        .arg("--socket")
        .arg(&fake.config.admin_socket)
        .args(["events", "--follow"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // What it prints first says that it follows.
    let mut out = child.stdout.take().unwrap();
    let (follows, followed) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        std::io::Read::read_exact(&mut out, &mut [0]).unwrap();
        follows.send(()).unwrap();
        std::io::Read::read_to_end(&mut out, &mut Vec::new()).unwrap();
    });
    let heard = || {
        fake.publish(PoolEvent::default());
        followed.try_recv().ok()
    };
    eventually(Deadline::after(Nanos::from_millis(60_000)), heard).unwrap();
    fake.stop_servers().unwrap();
    let ended = Answer::of(child.wait_with_output().unwrap());
    ended.assert_refused(3, "ended the stream");
    reader.join().unwrap();
}

#[test]
fn the_metrics_are_shown_as_prometheus_reads_them() {
    let fake = Fake::start();
    fake.metrics.epoch(7);
    let page = ask(&fake.config.admin_socket, &["metrics"]);
    assert_eq!(page.code, 0);
    assert!(page.out.contains("tierpool_daemon_epoch 7\n") && page.out.ends_with("# EOF\n"));
    let json = ask(&fake.config.admin_socket, &["metrics", "--json"]);
    let samples: Vec<Value> = json
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let epoch = samples
        .iter()
        .find(|sample| sample["name"] == "tierpool_daemon_epoch")
        .unwrap();
    assert_eq!(epoch["value"], 7.0);
}
