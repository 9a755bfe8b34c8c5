//! A daemon of the demonstration: where its program is, how it is configured, and what it says.

use std::env;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{AccessFlags, access};
use pool_proto::admin::v1::{CheckReport, CheckRequest, PoolEvent, StreamEventsRequest};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tonic::Streaming;

use super::error::DemoError;
use super::process::Process;
use super::wait::Patience;
use super::{FAR_TIER, LOCAL_TIER, MIB};
use crate::commands::devices;
use crate::connect::{Address, Pool};
use crate::error::CtlError;

/// The name of its program.
const PROGRAM: &str = "pool-daemon";
/// How long is waited for an event between two looks whether the user has interrupted.
const LOOK: Duration = Duration::from_millis(50);
/// The device of each daemon whose memory comes from the fabric.
const FAR_DEVICE: &str = "far0";

/// The program to run: the one that is given, or beside this one, or in `PATH`.
pub(super) fn find(given: Option<&Path>) -> Result<PathBuf, DemoError> {
    let tried: Vec<PathBuf> = match given {
        Some(path) => vec![path.to_owned()],
        None => {
            let this = env::current_exe().ok();
            let beside = this.and_then(|it| Some(it.parent()?.join(PROGRAM)));
            let path = env::var_os("PATH").unwrap_or_default();
            let in_path: Vec<_> = env::split_paths(&path).map(|it| it.join(PROGRAM)).collect();
            beside.into_iter().chain(in_path).collect()
        }
    };
    let is_program = |it: &&PathBuf| it.is_file() && access(*it, AccessFlags::X_OK).is_ok();
    let found = tried.iter().find(is_program).cloned();
    found.ok_or(DemoError::NoProgram { tried })
}

/// What a daemon has of its device of the fabric.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) total: u64,
    pub(super) free: u64,
    pub(super) granted: u64,
    pub(super) quarantined: u64,
}

/// A daemon that serves; it is killed when dropped.
#[derive(Debug)]
pub(super) struct Daemon {
    process: Process,
    socket: PathBuf,
    admin: Pool,
}

impl Daemon {
    /// Starts the one of host `number` in `folder`, and waits until it answers.
    pub(super) fn start(
        program: &Path,
        (folder, fabric): (&Path, &Path),
        number: u8,
        patience: &Patience,
        runtime: &Runtime,
    ) -> Result<Self, CtlError> {
        let unusable = |source| DemoError::Folder {
            folder: folder.to_owned(),
            source,
        };
        let config = folder.join("pool.toml");
        fs::create_dir_all(folder).map_err(unusable)?;
        fs::write(&config, configuration(fabric, number)?).map_err(unusable)?;
        let sockets = folder.join("run");
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(&config);
        command.arg("--runtime-dir").arg(&sockets);
        command.arg("--state-dir").arg(folder.join("state"));
        command
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let who = format!("the daemon of host{number}");
        let mut process = Process::start(who, command, &folder.join("daemon.log"))?;
        let (socket, admin) = (sockets.join("session.sock"), sockets.join("admin.sock"));
        let serves = patience.until(|| {
            process.lives()?;
            let serves = UnixStream::connect(&admin).is_ok() && socket.exists();
            Ok::<_, DemoError>(serves.then_some(()))
        })?;
        if serves.is_none() {
            return Err(process.silent().into());
        }
        let dial = Pool::connect(Address::Socket(admin), patience.span());
        let admin = runtime.block_on(dial)?;
        Ok(Self {
            process,
            socket,
            admin,
        })
    }

    /// Where clients attach.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// What it has of the pooled device, as it says.
    pub(super) fn share(&mut self, runtime: &Runtime) -> Result<Share, CtlError> {
        let devices = runtime.block_on(devices::get(&mut self.admin))?.devices;
        let far = devices.into_iter().find(|it| it.name == FAR_DEVICE);
        let far = far.ok_or_else(|| self.admin.corrupt(format!("no device {FAR_DEVICE}")))?;
        Ok(Share {
            total: far.total_bytes,
            free: far.free_bytes,
            granted: far.granted_bytes,
            quarantined: far.quarantined_bytes,
        })
    }

    /// Has it count every extent.
    pub(super) fn check(&mut self, runtime: &Runtime) -> Result<CheckReport, CtlError> {
        let response = runtime.block_on(self.admin.calls.check(CheckRequest {}));
        self.admin.answer(response)
    }

    /// What happens from now on.
    pub(super) fn events(&mut self, runtime: &Runtime) -> Result<Streaming<PoolEvent>, CtlError> {
        let ask = self.admin.calls.stream_events(StreamEventsRequest {});
        let response = runtime.block_on(ask);
        self.admin.answer(response)
    }

    /// Whether there is an event of this kind within the time.
    pub(super) fn tells_of(
        &self,
        kind: &str,
        events: &mut Streaming<PoolEvent>,
        patience: &Patience,
        runtime: &Runtime,
    ) -> Result<bool, CtlError> {
        let told = patience.until(|| {
            // Dropped before it is there it loses nothing.
            let next = runtime.block_on(async { timeout(LOOK, events.message()).await });
            match next {
                Ok(Ok(Some(event))) => Ok((event.kind == kind).then_some(())),
                Ok(Ok(None)) => Err(self.admin.ended()),
                Ok(Err(status)) => Err(self.admin.error(&status)),
                Err(_) => Ok(None),
            }
        })?;
        Ok(told.is_some())
    }

    /// Has it stand still, as a host that hangs.
    pub(super) fn hang(&self) -> Result<(), DemoError> {
        self.process.signal(Signal::SIGSTOP)
    }

    /// Has it go on.
    pub(super) fn go_on(&self) -> Result<(), DemoError> {
        self.process.signal(Signal::SIGCONT)
    }

    /// Ends it without warning.
    pub(super) fn kill(self) -> Result<(), DemoError> {
        self.process.kill()
    }

    /// Its process alone: nobody asks it anything more.
    pub(super) fn into_process(self) -> Process {
        self.process
    }
}

/// What the daemon of a host is told.
fn configuration(fabric: &Path, host: u8) -> Result<String, DemoError> {
    let name = || DemoError::Name {
        folder: fabric.to_owned(),
    };
    // A string of JSON is one of TOML as well.
    let quoted = fabric
        .to_str()
        .and_then(|it| serde_json::to_string(it).ok());
    let (directory, most) = (quoted.ok_or_else(name)?, super::DEVICE_BYTES / MIB);
    Ok(format!(
        "# The daemon of host{host}: some memory of its own, and a share of the pooled device.\n\
         [daemon]\n\
         descriptor_store = \"clients\"\n\
         on_stop = \"release\"\n\
         session_mode = \"0600\"\n\
         reattach_grace_ms = 500\n\
         memory_floor = \"64 MiB\"\n\n\
         [[tier]]\nname = \"{LOCAL_TIER}\"\n\n[[tier]]\nname = \"{FAR_TIER}\"\n\n\
         [[device]]\nname = \"ddr0\"\ntier = \"{LOCAL_TIER}\"\nkind = \"memfd\"\n\
         size = \"16 MiB\"\npages = \"base\"\nemulated = false\n\n\
         [[device]]\nname = \"{FAR_DEVICE}\"\ntier = \"{FAR_TIER}\"\nkind = \"fabric\"\n\
         directory = {directory}\nhost = {host}\nld = {host}\n\
         size = \"{most} MiB\"         # the most that it may become\n\
         step = \"16 MiB\"          # so much at once, where less than `low` is free\n\
         low = \"8 MiB\"\n\
         high = \"32 MiB\"          # what is free beyond it for `idle_ms` goes back\n\
         idle_ms = 300\n\
         patience_ms = 2500        # a device that is out of reach for longer is lost\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_any_name_stands_in_a_configuration() {
        let text = configuration(Path::new("/a \"b\"\\c"), 2).unwrap();
        assert!(text.contains(r#"directory = "/a \"b\"\\c""#), "{text}");
        assert!(text.contains("host = 2\nld = 2\n"), "{text}");
    }

    #[test]
    fn a_program_that_is_not_there_or_cannot_be_run_is_none() {
        for given in ["/nonexistent/pool-daemon", "/", "/etc/passwd"] {
            let found = find(Some(Path::new(given)));
            assert!(matches!(found, Err(DemoError::NoProgram { .. })), "{given}");
        }
        assert!(find(Some(Path::new("/bin/sh"))).is_ok());
    }
}
