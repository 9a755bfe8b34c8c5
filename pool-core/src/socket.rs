//! Where the sockets of a daemon are that nobody named.
//!
//! Started without a configuration, a daemon of root's makes them in `/run/tierpool`, and one of
//! another user in that user's session folder or, where there is none, in `/tmp`. Whoever looks for
//! one takes the user's own daemon before the system's.
//!
//! In `/tmp` anybody can make a folder of any name. So a socket counts only in a folder where
//! nobody but root and this user can have put it up; another one is passed over.

use std::fs::symlink_metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

/// The folder of the system's daemon. No user can make it, whoever runs the daemon.
const SYSTEM: &str = "/run/tierpool";

/// There is no socket where sockets are. Start the daemon, or name its socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotFound {
    /// Where one was looked for.
    pub tried: Vec<PathBuf>,
    /// Why the first one that is there does not count.
    pub untrusted: Option<Untrusted>,
}

/// Somebody else can have put up the socket in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untrusted {
    /// Where the socket is.
    pub folder: PathBuf,
    /// Whose folder it is.
    pub owner: u32,
    /// Its permissions.
    pub mode: u32,
}

/// The first socket called `name` of those a daemon makes by default.
///
/// # Errors
/// [`NotFound`].
pub fn find(name: &str) -> Result<PathBuf, NotFound> {
    let user = geteuid().as_raw();
    let session = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    first_trusted(candidates(name, user, session.as_deref()), user)
}

fn candidates(name: &str, user: u32, session: Option<&Path>) -> Vec<PathBuf> {
    let system = Path::new(SYSTEM).join(name);
    if user == 0 {
        return vec![system];
    }
    let session = session.filter(|folder| folder.is_absolute());
    let own = session.map(|folder| folder.join("tierpool").join(name));
    let fallback = PathBuf::from(format!("/tmp/tierpool-{user}")).join(name);
    own.into_iter().chain([fallback, system]).collect()
}

fn first_trusted(tried: Vec<PathBuf>, user: u32) -> Result<PathBuf, NotFound> {
    let mut untrusted = None;
    for socket in tried.iter().filter(|socket| socket.exists()) {
        match check_folder(socket.parent().unwrap_or(socket), user) {
            Ok(()) => return Ok(socket.clone()),
            Err(error) => untrusted = untrusted.or(error),
        }
    }
    Err(NotFound { tried, untrusted })
}

/// `Err(None)` where the folder is gone by now.
fn check_folder(folder: &Path, user: u32) -> Result<(), Option<Untrusted>> {
    let status = symlink_metadata(folder).map_err(|_| None)?;
    let (owner, mode) = (status.uid(), status.mode() & 0o7777);
    let ours = status.is_dir() && (owner == 0 || owner == user) && mode & 0o022 == 0;
    if ours || folder == Path::new(SYSTEM) {
        return Ok(());
    }
    Err(Some(Untrusted {
        folder: folder.to_owned(),
        owner,
        mode,
    }))
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_user_looks_for_its_own_daemon_before_the_systems() {
        let tried = candidates("a.sock", 1000, Some(Path::new("/run/user/1000")));
        let expected = [
            "/run/user/1000/tierpool/a.sock",
            "/tmp/tierpool-1000/a.sock",
            "/run/tierpool/a.sock",
        ];
        assert_eq!(tried, expected.map(PathBuf::from));
        assert_eq!(candidates("a.sock", 1000, None), tried[1..]);
        assert_eq!(
            candidates("a.sock", 1000, Some(Path::new("run"))),
            tried[1..]
        );
        let session = Some(Path::new("/run/user/0"));
        assert_eq!(candidates("a.sock", 0, session), tried[2..]);
    }

    #[test]
    fn a_socket_that_somebody_else_can_have_put_up_is_passed_over() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let user = geteuid().as_raw();
        let socket = folder.path().join("a.sock");
        let (link, second) = (other.path().join("link"), other.path().join("a.sock"));
        let tried = vec![socket.clone(), second.clone()];
        let find = || first_trusted(tried.clone(), user);
        let nothing = NotFound {
            tried: tried.clone(),
            untrusted: None,
        };
        assert_eq!(find(), Err(nothing.clone()));
        write(&socket, "").unwrap();
        assert_eq!(find(), Ok(socket.clone()));
        for mode in [0o775, 0o757, 0o1777] {
            set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
            let (folder, owner) = (folder.path().to_owned(), user);
            let untrusted = Some(Untrusted {
                folder,
                owner,
                mode,
            });
            let error = NotFound {
                untrusted,
                ..nothing.clone()
            };
            assert_eq!(find(), Err(error));
        }
        write(&second, "").unwrap();
        assert_eq!(find(), Ok(second));
        set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        assert_eq!(find(), Ok(socket.clone()));
        symlink(folder.path(), &link).unwrap();
        assert!(first_trusted(vec![link.join("a.sock")], user).is_err());
        // Root's folders are everybody's to trust.
        assert_eq!(check_folder(folder.path(), user + 1).is_ok(), user == 0);
    }
}
