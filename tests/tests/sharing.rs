//! Two processes that know each other only through the pool see one memory at one address.

use std::process::{Command, Stdio};

use client_sdk::{Access, AttachOptions, Bytes, Create, Pool};
use tierpool_tests::EXTENT;
use tierpool_tests::chain;
use tierpool_tests::churn::tenant_name;
use tierpool_tests::daemon::Daemon;
use tierpool_tests::setup::Setup;

#[test]
fn a_pointer_leads_to_the_same_bytes_in_every_process() {
    let setup = Setup::small(16).and_device("dev1", "pooled", 16);
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_daemon"), &setup);
    let options = AttachOptions::new().socket(daemon.session_socket());
    let pool = Pool::attach(&options.tenant("left")).unwrap();
    // Address space before it, so that an address that just comes first would be another.
    let _before = pool
        .create(&Create::new("pooled", Bytes::new(EXTENT)))
        .unwrap();
    let pieces = Create::new("ddr", Bytes::new(3 * EXTENT)).piece(Bytes::new(EXTENT));
    let segment = pool.create(&pieces.name("chain")).unwrap();
    segment
        .share(&tenant_name("right"), Access::ReadWrite)
        .unwrap();
    let links = chain::write(&segment, false).unwrap();

    let name = format!("{}:chain", tenant_name("left"));
    let peer = Command::new(env!("CARGO_BIN_EXE_peer"))
        .arg(daemon.session_socket())
        .args(["right", &name])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(peer.status.success(), "{}", peer.status);
    let told = String::from_utf8(peer.stdout).unwrap();
    let (address, numbers) = told.trim_end().split_once('\n').unwrap();

    assert_eq!(address, segment.addr().get().to_string());
    let numbers: Vec<u64> = serde_json::from_str(numbers).unwrap();
    assert_eq!(numbers, (0..links).collect::<Vec<_>>());
    let back = chain::follow(&segment).unwrap();
    assert_eq!(back, (0..links).rev().collect::<Vec<_>>());
    assert!(links > 1_000, "{links} links");
}
