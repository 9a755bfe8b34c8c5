//! The real daemon as a process, over a folder of its own: started, killed, stopped, and started
//! again over what it left.
//!
//! Whatever a test does, the end of a [`Daemon`] ends its process, and the keeper that the daemon
//! started; what it logged is shown if the test failed.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pool_core::clock::eventually;
use pool_core::fault::CRASH_STATUS;
use pool_proto::admin::v1::CheckReport;
use tempfile::TempDir;

use crate::admin::Admin;
use crate::client::{Connection, Session};
use crate::setup::Setup;
use crate::{patience, until};

/// Lines of the log that a failed test shows.
const LOG_LINES_SHOWN: usize = 24;

/// A daemon, running or not, and all that it keeps on disk.
#[derive(Debug)]
pub struct Daemon {
    program: PathBuf,
    home: TempDir,
    setup: Setup,
    child: Option<Child>,
}

impl Daemon {
    /// Starts `program` on a pool as `setup` says, and waits until it serves.
    ///
    /// `program` is `env!("CARGO_BIN_EXE_daemon")`, which only the tests themselves can name.
    #[must_use]
    pub fn start(program: &str, setup: &Setup) -> Self {
        let mut daemon = Self::prepare(program, setup);
        daemon.launch();
        daemon.await_service();
        daemon
    }

    /// A daemon that is not started yet.
    #[must_use]
    pub fn prepare(program: &str, setup: &Setup) -> Self {
        let home = tempfile::Builder::new().prefix("tierpool-").tempdir();
        let home = home.expect("a folder for the daemon");
        // Users of other ids go through it to the sockets.
        fs::set_permissions(home.path(), Permissions::from_mode(0o755)).expect("chmod");
        Self {
            program: program.into(),
            home,
            setup: setup.clone(),
            child: None,
        }
    }

    /// Starts the process, and does not wait for anything.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "the daemon runs already");
        let child = self.command("run").spawn().expect("the daemon starts");
        self.child = Some(child);
    }

    /// A command of the daemon's program over this daemon's folders.
    fn command(&self, subcommand: &str) -> Command {
        self.command_in(subcommand, "run")
    }

    /// The same, with the sockets in the folder `runtime`.
    fn command_in(&self, subcommand: &str, runtime: &str) -> Command {
        fs::write(self.path("pool.toml"), self.setup.to_toml()).expect("the configuration");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("log"));
        let mut command = Command::new(&self.program);
        command
            .arg(subcommand)
            .arg("--config")
            .arg(self.path("pool.toml"))
            .arg("--runtime-dir")
            .arg(self.path(runtime))
            .arg("--state-dir")
            .arg(self.path("state"))
            .envs(
                self.setup
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a file for the log"));
        command
    }

    /// Starts a second daemon over the same state, with its sockets in the folder `runtime`, which
    /// must give up: its exit status and what it said.
    #[must_use]
    pub fn rival(&self, runtime: &str) -> (ExitStatus, String) {
        let mut command = self.command_in("run", runtime);
        let output = command
            .stderr(Stdio::piped())
            .output()
            .expect("a rival starts");
        (
            output.status,
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    /// Waits until both sockets answer.
    pub fn await_service(&mut self) {
        if let Err(status) = self.await_start() {
            panic!(
                "the daemon ended while it started: {status}\n{}",
                self.log()
            );
        }
    }

    /// Waits until both sockets answer, or the process has ended.
    ///
    /// # Errors
    /// The exit status of a daemon that could not start.
    pub fn await_start(&mut self) -> Result<(), ExitStatus> {
        let (session, admin) = (self.session_socket(), self.admin_socket());
        until("the daemon serves", || {
            if let Some(status) = self.ended() {
                return Some(Err(status));
            }
            let serves = Connection::open(&session).is_ok() && UnixStream::connect(&admin).is_ok();
            serves.then_some(Ok(()))
        })
    }

    /// The exit status, once the process has ended. It is told once.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut()?;
        let status = child.try_wait().expect("wait");
        if status.is_some() {
            self.child = None;
        }
        status
    }

    /// Starts it again over what it left, and waits until it serves.
    pub fn restart(&mut self) {
        self.launch();
        self.await_service();
    }

    /// Starts it again with other settings.
    pub fn restart_as(&mut self, setup: &Setup) {
        self.setup = setup.clone();
        self.restart();
    }

    /// Changes the settings that the next start reads.
    pub fn set_up(&mut self, setup: &Setup) {
        self.setup = setup.clone();
    }

    /// Waits until the process ends by itself.
    pub fn await_end(&mut self) -> ExitStatus {
        until("the daemon ends", || self.ended())
    }

    /// Waits until the process has ended at a crash point.
    pub fn await_crash(&mut self) {
        let status = self.await_end();
        assert_eq!(
            status.code(),
            Some(CRASH_STATUS),
            "{status}\n{}",
            self.log()
        );
    }

    /// Kills it, as `kill -9` does, and collects it.
    pub fn kill(&mut self) {
        let child = self.child.as_mut().expect("the daemon runs");
        child.kill().expect("kill");
        self.await_end();
    }

    /// Tells it to stop, and waits until it has.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.await_end()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().cast_signed()), signal).expect("kill");
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.is_some() && self.ended().is_none()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon runs").id()
    }

    /// Where clients attach.
    #[must_use]
    pub fn session_socket(&self) -> PathBuf {
        self.path("run/session.sock")
    }

    /// Where operators call.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.path("run/admin.sock")
    }

    /// The configured settings.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// A path in the daemon's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A session as the tenant that the user's `label` makes.
    #[must_use]
    pub fn attach(&self, label: &str) -> Session {
        match Session::attach(&self.session_socket(), label, "test") {
            Ok(session) => session,
            Err(error) => panic!("attach as {label:?}: {error}"),
        }
    }

    /// The operators' calls.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::connect(&self.admin_socket()).expect("the admin socket answers")
    }

    /// Checks the accounting, which must balance.
    pub fn balanced(&self) -> CheckReport {
        let report = self.admin().check().expect("check");
        assert!(
            report.balanced,
            "the pool does not balance: {:#?}",
            report.findings
        );
        for device in &report.devices {
            let sum = device.free_extents + device.granted_extents + device.quarantined_extents;
            assert_eq!(sum, device.total_extents, "{device:?}");
        }
        report
    }

    /// Waits until every extent is free again.
    pub fn await_all_free(&self) {
        let mut admin = self.admin();
        let freed = eventually(patience(), || {
            let status = admin.status().ok()?;
            (status.free_bytes == status.total_bytes).then_some(())
        });
        if freed.is_err() {
            panic!("not every extent is free: {:#?}", admin.segments());
        }
        self.balanced();
    }

    /// The rows of the journal as lines; the daemon must not be running.
    #[must_use]
    pub fn journal(&self) -> Vec<String> {
        assert!(self.child.is_none(), "the daemon has its journal open");
        let mut command = self.command("journal");
        // An armed fault is the running daemon's.
        command
            .env_remove("TIERPOOL_CRASH")
            .env_remove("TIERPOOL_FAIL");
        let output = command
            .stdout(Stdio::piped())
            .output()
            .expect("the journal is exported");
        assert!(output.status.success(), "{}\n{}", output.status, self.log());
        let text = String::from_utf8(output.stdout).expect("JSON is text");
        text.lines().map(str::to_owned).collect()
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Whether descriptors that it does not await are refused to whoever sends them: so they are
    /// since Linux 6.16, and before that they are received, and closed.
    #[must_use]
    pub fn refuses_descriptors(&self) -> bool {
        !self.log().contains("clients can send unwanted descriptors")
    }

    /// How many descriptors it has open.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        let open = fs::read_dir(format!("/proc/{}/fd", self.pid()));
        open.expect("the daemon runs").count()
    }

    /// What its descriptors are open to, as the kernel names it.
    #[must_use]
    pub fn open_files(&self) -> Vec<String> {
        let open = fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the daemon runs");
        // One that is closed meanwhile is none.
        let names = open
            .flatten()
            .filter_map(|link| fs::read_link(link.path()).ok());
        let mut names: Vec<String> = names.map(|name| name.display().to_string()).collect();
        names.sort();
        names
    }

    /// How many descriptors of a process it has open.
    #[must_use]
    pub fn pidfds_of(&self, pid: u32) -> usize {
        let open = fs::read_dir(format!("/proc/{}/fdinfo", self.pid())).expect("the daemon runs");
        let told = open
            .flatten()
            .filter_map(|info| fs::read_to_string(info.path()).ok());
        let line = format!("Pid:\t{pid}");
        told.filter(|text| text.lines().any(|said| said == line))
            .count()
    }

    /// How many files of memory it has open: those that are granted, and those in stock.
    #[must_use]
    pub fn files_of_memory(&self) -> usize {
        let open = fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the daemon runs");
        // One that is closed meanwhile is none.
        let names = open
            .flatten()
            .filter_map(|link| fs::read_link(link.path()).ok());
        let of_memory = names.filter(|name| name.to_string_lossy().starts_with("/memfd:tierpool "));
        of_memory.count()
    }

    /// Its resident memory, without the files it has mapped.
    #[must_use]
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("the daemon runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let number = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
        number.expect("the kernel tells RssAnon")
    }

    /// The processes that keep descriptors for this daemon, by what their command lines say.
    #[must_use]
    pub fn keepers(&self) -> Vec<Pid> {
        let daemon = self.child.as_ref().map(Child::id);
        let processes = fs::read_dir("/proc").expect("/proc").flatten();
        let pid = |path: PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
        processes
            .filter_map(|entry| pid(entry.path()))
            .filter(|pid| Some(*pid) != daemon && self.is_named_by(*pid))
            .map(|pid| Pid::from_raw(pid.cast_signed()))
            .collect()
    }

    /// Whether the command line of a process names something in this daemon's folder.
    fn is_named_by(&self, pid: u32) -> bool {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        words.any(|word| Path::new(&*word).starts_with(self.home.path()))
    }

    /// Kills the keeper, if there is one.
    pub fn kill_keeper(&self) {
        for pid in self.keepers() {
            // It may have ended by itself meanwhile.
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let shown = lines.len().saturating_sub(LOG_LINES_SHOWN);
            eprintln!(
                "-- the end of the daemon's log\n{}\n--",
                lines[shown..].join("\n")
            );
        }
        if let Some(mut child) = self.child.take() {
            // Where it has ended already there is nothing to kill.
            drop(child.kill());
            drop(child.wait());
        }
        self.kill_keeper();
    }
}
