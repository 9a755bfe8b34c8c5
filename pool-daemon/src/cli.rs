//! The command line of the daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::Config;
use crate::discover::Machine;
use crate::journal::Journal as _;
use crate::journal::database::DatabaseJournal;
use crate::{journal, service, store};

/// Exit codes: see `--help`.
const DONE: u8 = 0;
const FAILED: u8 = 1;
const CONFIGURATION: u8 = 2;

/// The daemon that owns the memory tiers of a Tierpool.
#[derive(Debug, Parser)]
#[command(
    name = "pool-daemon",
    version,
    after_help = "Exit codes: 0 stopped as told, 1 failed while running, \
                  2 usage or configuration.\n\
                  Logs go to stderr, answers to stdout."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve in the foreground until SIGTERM or SIGINT.
    Run(Where),
    /// Print the configuration in force, defaults included, and exit.
    Config(Where),
    /// Print every row of the journal as JSON lines; the daemon must not be running.
    Journal(Where),
    /// Keep descriptors while the daemon is dead. Started by the daemon itself.
    #[command(hide = true)]
    Keeper {
        /// The socket to serve.
        #[arg(long)]
        socket: PathBuf,
    },
    /// Write the man page or the shell completions.
    #[command(hide = true)]
    Generate {
        /// `man` or `completions`.
        what: String,
        /// The folder to write to.
        directory: PathBuf,
    },
}

/// Where the configuration, the sockets and the journal are.
#[derive(Debug, clap::Args)]
pub(crate) struct Where {
    /// Configuration file, TOML. Without one: an emulated pool sized to the machine.
    #[arg(long, env = "TIERPOOL_CONFIG")]
    config: Option<PathBuf>,
    /// Folder of the sockets, instead of the configured one.
    #[arg(long)]
    runtime_dir: Option<PathBuf>,
    /// Folder of the journal, instead of the configured one.
    #[arg(long)]
    state_dir: Option<PathBuf>,
}

impl Where {
    fn load(&self, machine: &Machine) -> anyhow::Result<Config> {
        let mut config = match &self.config {
            Some(path) => Config::load(path)?,
            None => Config::without_file(machine)?,
        };
        if let Some(directory) = &self.runtime_dir {
            let daemon = &mut config.daemon;
            daemon.session_socket = directory.join("session.sock");
            daemon.admin_socket = directory.join("admin.sock");
            daemon.runtime_dir.clone_from(directory);
        }
        if let Some(directory) = &self.state_dir {
            config.daemon.state_dir.clone_from(directory);
        }
        Ok(config)
    }
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let code = match Cli::parse().command {
        Command::Run(place) => run(&place),
        Command::Config(place) => print_configuration(&place),
        Command::Journal(place) => report(export_journal(&place), CONFIGURATION),
        Command::Keeper { socket } => {
            report(store::keeper::serve(&socket).map_err(Into::into), FAILED)
        }
        Command::Generate { what, directory } => report(generate(&what, &directory), CONFIGURATION),
    };
    ExitCode::from(code)
}

fn run(place: &Where) -> u8 {
    let prepared = Machine::probe()
        .map_err(Into::into)
        .and_then(|machine| Ok((place.load(&machine)?, machine)));
    match prepared {
        Ok((config, machine)) => match service::prepare(&config, &machine) {
            Ok(service) => report(service.serve(), FAILED),
            Err(error) => report(Err(error), CONFIGURATION),
        },
        Err(error) => report(Err(error), CONFIGURATION),
    }
}

fn print_configuration(place: &Where) -> u8 {
    let config = Machine::probe().map_err(Into::into).and_then(|machine| {
        let mut config = place.load(&machine)?;
        if place.config.is_none() {
            let whole = Config::default_for(&machine)?;
            (config.tiers, config.devices) = (whole.tiers, whole.devices);
        }
        config.plan(&machine)?;
        Ok(config)
    });
    report(
        config.map(|config| print!("{}", config.to_toml())),
        CONFIGURATION,
    )
}

fn export_journal(place: &Where) -> anyhow::Result<()> {
    let machine = Machine::probe()?;
    let config = place.load(&machine)?;
    let path = service::journal_path(&config);
    let mut journal = DatabaseJournal::open(&path, service::durability(&config), &machine.boot_id)?;
    Ok(journal::export::export(
        &journal.load()?,
        &mut std::io::stdout().lock(),
    )?)
}

fn generate(what: &str, directory: &std::path::Path) -> anyhow::Result<()> {
    let mut command = Cli::command();
    match what {
        "man" => clap_mangen::generate_to(command, directory)?,
        "completions" => {
            for shell in [
                clap_complete::Shell::Bash,
                clap_complete::Shell::Zsh,
                clap_complete::Shell::Fish,
            ] {
                clap_complete::generate_to(shell, &mut command, "pool-daemon", directory)?;
            }
        }
        other => anyhow::bail!("{other:?} cannot be generated: say man or completions"),
    }
    Ok(())
}

/// The exit code of an outcome; an error is told in one line.
fn report(outcome: anyhow::Result<()>, code: u8) -> u8 {
    match outcome {
        Ok(()) => DONE,
        Err(error) => {
            eprintln!("pool-daemon: {error:#}");
            code
        }
    }
}
