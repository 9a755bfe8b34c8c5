//! Memory that lies in files outlives mistakes: a daemon that is started with the wrong journal,
//! the wrong directory or the wrong devices says so, and changes nothing.

use std::fs;
use std::path::Path;

use pool_proto::common::v1::Access;
use tempfile::TempDir;
use tierpool_tests::EXTENT;
use tierpool_tests::client::ask;
use tierpool_tests::daemon::Daemon;
use tierpool_tests::setup::Setup;

/// A pool with a device of files in `directory`.
fn setup(directory: &Path) -> Setup {
    Setup {
        tenants: format!(
            "[[tier]]\nname = \"ssd\"\n[[device]]\nname = \"ssd0\"\ntier = \"ssd\"\n\
             size = \"64 MiB\"\nkind = \"file\"\ndirectory = \"{}\"\n",
            directory.display()
        ),
        ..Setup::small(64)
    }
}

/// A stopped daemon with a persistent segment of files, and the folder of these.
fn stored() -> (Daemon, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let setup = setup(&folder.path().join("ssd"));
    let mut daemon = Daemon::start(env!("CARGO_BIN_EXE_daemon"), &setup);
    let mut client = daemon.attach("a");
    let held = client.granted(ask::create_persistent("ssd", EXTENT, "kept"));
    held.write(7);
    drop((held, client));
    assert!(daemon.stop().success());
    (daemon, folder)
}

/// The daemon has the segment, as it was written.
fn still_has_it(daemon: &Daemon) {
    let mut client = daemon.attach("a");
    assert!(client.granted(ask::open("kept", Access::ReadOnly)).holds(7));
    daemon.balanced();
}

/// A start that must be refused, with `why` in what it says.
fn is_refused(daemon: &mut Daemon, why: &str) {
    daemon.launch();
    let status = daemon.await_end();
    let log = daemon.log();
    assert_eq!(status.code(), Some(2), "{log}");
    assert!(log.contains(why), "{log}");
}

#[test]
fn what_lies_in_files_is_there_again_after_a_stop() {
    let (mut daemon, _folder) = stored();
    daemon.restart();
    still_has_it(&daemon);
}

#[test]
fn a_daemon_with_another_journal_neither_uses_nor_cleans_a_directory() {
    let (mut daemon, folder) = stored();
    let setup = setup(&folder.path().join("ssd"));
    let mut other = Daemon::prepare(env!("CARGO_BIN_EXE_daemon"), &setup);
    is_refused(&mut other, "belongs to the pool");
    daemon.restart();
    is_refused(&mut other, "another daemon uses");
    still_has_it(&daemon);
}

#[test]
fn a_device_whose_directory_is_empty_or_of_nobody_is_refused_and_nothing_is_lost() {
    let (mut daemon, folder) = stored();
    let (place, aside) = (folder.path().join("ssd"), folder.path().join("aside"));
    // As where the file system is not mounted.
    fs::rename(&place, &aside).expect("rename");
    is_refused(&mut daemon, "mount or choose the right directory");
    fs::remove_dir(&place).expect("nothing was put there");
    fs::rename(&aside, &place).expect("rename");
    let owner = fs::read_to_string(place.join("pool-id")).expect("it says whose it is");
    fs::remove_file(place.join("pool-id")).expect("remove");
    is_refused(&mut daemon, "mount or choose the right directory");
    // The way out that it names.
    assert!(daemon.log().contains(owner.trim()), "{}", daemon.log());
    fs::write(place.join("pool-id"), owner).expect("write");
    daemon.restart();
    still_has_it(&daemon);
}

#[test]
fn a_configuration_that_lost_a_device_is_refused_and_nothing_is_lost() {
    let (mut daemon, folder) = stored();
    let whole = setup(&folder.path().join("ssd"));
    daemon.set_up(&Setup::small(64));
    is_refused(&mut daemon, "no longer names it");
    daemon.restart_as(&whole);
    still_has_it(&daemon);

    // The same for memory, which the keeper holds meanwhile.
    let mut client = daemon.attach("b");
    client
        .granted(ask::create_persistent("ddr", EXTENT, "kept"))
        .write(8);
    client.ask(ask::detach());
    drop(client);
    assert!(daemon.stop().success());
    let other = Setup {
        devices: Setup::default().devices,
        ..whole.clone()
    };
    daemon.set_up(&other);
    is_refused(&mut daemon, "no longer names it");
    daemon.restart_as(&whole);
    still_has_it(&daemon);
    let mut client = daemon.attach("b");
    assert!(client.granted(ask::open("kept", Access::ReadOnly)).holds(8));
}

#[test]
fn a_stop_that_releases_empties_the_directory_and_anybody_may_take_it() {
    let (mut daemon, folder) = stored();
    let place = folder.path().join("ssd");
    let releasing = Setup {
        on_stop: "release",
        ..setup(&place)
    };
    daemon.restart_as(&releasing);
    still_has_it(&daemon);
    assert!(daemon.stop().success());
    let left = fs::read_dir(&place).expect("the directory");
    let left: Vec<_> = left.map(|entry| entry.expect("it").file_name()).collect();
    assert_eq!(left, ["pool-id"]);
    let other = Daemon::start(env!("CARGO_BIN_EXE_daemon"), &setup(&place));
    other.balanced();
}
