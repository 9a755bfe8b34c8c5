//! Where a fabric is served, by whom, and what is left of it.

use std::fs::{Permissions, set_permissions, write};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;

use fabric_emu::cci::Request;
use fabric_emu::cci::generic::Empty;
use fabric_emu::serve::{
    AskError, Config, ConnectError, DirectoryError, Mode, Remote, ServeError, Server,
};
use fabric_emu::topology::Topology;

use crate::rig::{Rig, names_in, topology};

const ALL: [&str; 9] = [
    "control",
    "host0-memdev0-ld0.cci",
    "host0-memdev0-ld1.cci",
    "host0.memory",
    "host1-memdev0-ld0.cci",
    "host1-memdev0-ld1.cci",
    "host1.memory",
    "memdev0.cci",
    "switch0.cci",
];

#[test]
fn a_server_removes_its_sockets_and_another_one_begins_anew_there() {
    let mut rig = Rig::start();
    rig.bind_all();
    assert_eq!(names_in(&rig.directory()), ALL);
    let mode = std::fs::metadata(rig.directory())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o700);
    let mut before = rig.mailbox(0);
    assert!(before.ask(&Request::Identify(Empty)).is_ok());
    rig.stop();
    assert_eq!(names_in(&rig.directory()), Vec::<String>::new());
    assert_eq!(
        before.ask(&Request::Identify(Empty)),
        Err(AskError::Dropped)
    );
    let nobody = Remote::connect(&rig.path("switch0.cci"));
    assert!(matches!(nobody, Err(ConnectError::Nobody { .. })));
    rig.serve(Config::new(Mode::Virtual, 1));
    // It is another fabric: nothing is bound.
    assert_eq!(
        rig.mailbox(0).ask(&Request::Identify(Empty)),
        Err(AskError::Dropped)
    );
    rig.bind_all();
    assert!(rig.mailbox(0).ask(&Request::Identify(Empty)).is_ok());
}

#[test]
fn a_directory_has_one_server() {
    let rig = Rig::start();
    let second = Server::open(&topology(), &rig.directory(), Config::new(Mode::Virtual, 1));
    let Err(ServeError::Directory(DirectoryError::InUse { path })) = second else {
        panic!("{second:?}");
    };
    assert_eq!(path, rig.directory());
    // The first one goes on.
    assert!(rig.operator().state().is_ok());
}

#[test]
fn what_a_killed_server_left_is_removed_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    for name in ["control", "host7.memory", "switch9.cci", "other.sock"] {
        drop(UnixListener::bind(folder.path().join(name)).unwrap());
    }
    write(folder.path().join("notes.cci"), "mine").unwrap();
    let server = Server::open(&topology(), folder.path(), Config::new(Mode::Paced, 1)).unwrap();
    let mut expected = ALL.to_vec();
    expected.extend(["notes.cci", "other.sock"]);
    expected.sort_unstable();
    assert_eq!(names_in(folder.path()), expected);
    drop(server);
    assert_eq!(names_in(folder.path()), ["notes.cci", "other.sock"]);
}

#[test]
fn a_directory_that_others_may_enter_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let open = folder.path().join("open");
    std::fs::create_dir(&open).unwrap();
    for mode in [0o750, 0o701, 0o777] {
        set_permissions(&open, Permissions::from_mode(mode)).unwrap();
        let refused = Server::open(&topology(), &open, Config::new(Mode::Virtual, 1));
        let Err(ServeError::Directory(DirectoryError::NotPrivate { mode: found, .. })) = refused
        else {
            panic!("{refused:?}");
        };
        assert_eq!(found, mode);
    }
    let missing = folder.path().join("a/b");
    let refused = Server::open(&topology(), &missing, Config::new(Mode::Virtual, 1));
    assert!(matches!(
        refused,
        Err(ServeError::Directory(DirectoryError::Os { .. }))
    ));
    write(folder.path().join("file"), "").unwrap();
    symlink("file", folder.path().join("link")).unwrap();
    for name in ["file", "link"] {
        let path = folder.path().join(name);
        let refused = Server::open(&topology(), &path, Config::new(Mode::Virtual, 1));
        assert!(matches!(
            refused,
            Err(ServeError::Directory(DirectoryError::Os { .. }))
        ));
    }
}

#[test]
fn a_topology_with_more_sockets_than_are_made_is_refused() {
    let mut many = Topology::named("four-hosts").unwrap();
    let host = many.hosts[0].clone();
    many.hosts.extend(vec![host; 5_000]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d");
    let refused = Server::open(&many, &path, Config::new(Mode::Virtual, 1));
    assert_eq!(refused.err(), Some(ServeError::TooManySockets));
    assert!(!path.exists());
}
