//! A daemon on this machine, and what the operator's command says of it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};

use anyhow::{Context as _, bail, ensure};
use pool_core::Nanos;
use pool_core::clock::{Deadline, eventually};
use serde_json::Value;

use super::tool;

/// Where everything of the daemon's lies.
const FOLDER: &str = "/run/pool";
/// What every daemon here has: some memory of the machine, as its fastest tier.
const DRAM: &str = r#"
[daemon]
memory_floor = "16 MiB"

[[tier]]
name = "ddr"

[[device]]
name = "dram"
tier = "ddr"
kind = "memfd"
size = "128 MiB"
emulated = false
"#;
/// Where everything of another pool lies.
const ANOTHER: &str = "/run/another";
/// How long anything may take here that is not waited for by itself: the machine is slow.
pub(super) const PATIENCE: Nanos = Nanos::from_millis(60_000);

/// A daemon that runs, and ends with the value.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts one with these tiers and devices beside DRAM, a configuration's text. Returns when it
    /// answers.
    pub(super) fn start(devices: &str) -> anyhow::Result<Self> {
        let mut command = command(Path::new(FOLDER), devices)?;
        let child = command.spawn().context("the daemon does not start")?;
        let mut daemon = Self { child };
        let pid = daemon.child.id();
        let came = eventually(Deadline::after(PATIENCE), || {
            if let Ok(Some(status)) = daemon.child.try_wait() {
                return Some(Err(status));
            }
            let answered = daemon.ask("status").is_ok_and(|it| it["pid"] == pid);
            answered.then_some(Ok(()))
        });
        match came {
            Ok(Ok(())) => Ok(daemon),
            Ok(Err(status)) => bail!("the daemon has ended: {status}"),
            Err(_) => bail!("the daemon does not answer"),
        }
    }

    /// What a daemon of another pool says that is given these devices and does not start.
    pub(super) fn refusal_of_another(devices: &str) -> anyhow::Result<String> {
        let output = command(Path::new(ANOTHER), devices)?.output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success(), "it has started: {said}");
        Ok(said)
    }

    /// Where clients attach.
    pub(super) fn socket() -> String {
        format!("{FOLDER}/run/session.sock")
    }

    /// Ends it without warning.
    pub(super) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// What `poolctl QUESTION --json` answers.
    pub(super) fn ask(&self, question: &str) -> anyhow::Result<Value> {
        let answer = self.tell(&["--json", question])?;
        serde_json::from_str(&answer).with_context(|| format!("poolctl {question}: {answer}"))
    }

    /// Has `poolctl WORDS` do something.
    pub(super) fn tell(&self, words: &[&str]) -> anyhow::Result<String> {
        let admin = format!("{FOLDER}/run/admin.sock");
        let all = [&["--socket", admin.as_str()], words].concat();
        tool::run("poolctl", &all)
    }

    /// Fails unless `poolctl WORDS` is refused, and says so with `why`.
    pub(super) fn refuses(&self, words: &[&str], why: &str) -> anyhow::Result<()> {
        let Err(refused) = self.tell(words) else {
            bail!("poolctl {words:?} is not refused");
        };
        let refused = refused.to_string();
        let is_refused = refused.contains("refused: ") && refused.contains(why);
        ensure!(is_refused, "poolctl {words:?}: {refused}");
        Ok(())
    }

    /// Fails unless, in the end, nobody has anything and the accounting balances.
    pub(super) fn is_at_rest(&self) -> anyhow::Result<()> {
        let all_free = || {
            let answer = self.ask("tiers").ok()?;
            let mut tiers = answer["tiers"].as_array()?.iter();
            let free = |tier: &Value| tier["free_bytes"] == tier["total_bytes"];
            tiers.all(free).then_some(())
        };
        let free = eventually(Deadline::after(PATIENCE), all_free);
        ensure!(free.is_ok(), "not all is free: {}", self.ask("tiers")?);
        let check = self.ask("check")?;
        ensure!(check["balanced"] == true, "{check}");
        Ok(())
    }
}

/// A daemon whose everything lies in a folder.
fn command(folder: &Path, devices: &str) -> anyhow::Result<Command> {
    fs::create_dir_all(folder)?;
    let config = folder.join("pool.toml");
    fs::write(&config, format!("{DRAM}{devices}"))?;
    let mut command = Command::new("/bin/pool-daemon");
    command.arg("run").arg("--config").arg(&config);
    command.arg("--runtime-dir").arg(folder.join("run"));
    command.arg("--state-dir").arg(folder.join("state"));
    Ok(command)
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _has_ended_by_itself = self.child.kill();
        let _status = self.child.wait();
    }
}
