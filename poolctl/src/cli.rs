//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fabric_emu::id::Port;
use fabric_emu::timing::Picos;
use pool_core::Bytes;

use crate::span;

mod fabric;

/// The first screen holds everything, so the options that all commands share take few lines here;
/// each command's own help and the man pages have them in full.
const TEMPLATE: &str = "{about}\n{usage-heading} {usage}\n\n{subcommands}{after-help}";
const EVERYWHERE: &str = "\
Options of every command (poolctl COMMAND --help says more):
  --socket PATH       the daemon's socket    [env: TIERPOOL_ADMIN_SOCKET]
  --address URL       https://HOST:PORT, with --ca, --cert and --key
  --json              JSON, not tables       --timeout SPAN  as 10s or 500ms
Exit codes: 0 done; 1 the answer is no; 2 usage or files; 3 daemon unreachable; 4 corrupt";

/// Look at a Tierpool and change it
#[derive(Debug, Parser)]
#[command(
    name = "poolctl",
    version,
    disable_help_subcommand = true,
    help_template = TEMPLATE,
    after_help = EVERYWHERE
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Answer with one JSON object, or with one a line where there is no end of answers; sizes in
    /// bytes
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// How long to wait for an answer (10s unless given), for `drain --wait` (60s), or for what
    /// `fabric demo` shows (20s), as 10s or 500ms
    #[arg(long, global = true, value_name = "SPAN", value_parser = span::parse)]
    pub(crate) timeout: Option<Duration>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the daemon is.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The daemon's socket.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "TIERPOOL_ADMIN_SOCKET",
        help = "The daemon's socket [default: the first there is of \
                $XDG_RUNTIME_DIR/tierpool/admin.sock, /tmp/tierpool-UID/admin.sock and \
                /run/tierpool/admin.sock; for root the last one]"
    )]
    pub(crate) socket: Option<PathBuf>,
    /// The URL of a daemon of another machine.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        help = "A daemon of another machine, as https://HOST:PORT"
    )]
    pub(crate) address: Option<String>,
    /// With --address: the authority of the daemon's certificate, PEM
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// With --address: your certificate, PEM
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// With --address: your private key, PEM
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The pool at a glance
    Status,
    /// The pool as it changes
    Top {
        /// Show it once
        #[arg(long)]
        once: bool,
        /// Time from one look to the next
        #[arg(long, value_name = "SPAN", default_value = "1s", value_parser = span::parse)]
        interval: Duration,
    },
    /// Tiers, and how much of each is free
    Tiers,
    /// Devices, or all they lie on as a tree; resize, activate or remove one
    #[command(args_conflicts_with_subcommands = true)]
    Devices {
        /// With CXL memory as the kernel shows it, and what of it is whose; for operators
        #[arg(long)]
        tree: bool,
        #[command(subcommand)]
        change: Option<DeviceChange>,
    },
    /// Regions of CXL memory; create or destroy one
    Regions {
        #[command(subcommand)]
        change: Option<RegionChange>,
    },
    /// Segments, where they lie and who holds them; free one
    Segments {
        /// Those of this tenant only
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
        #[command(subcommand)]
        change: Option<SegmentChange>,
    },
    /// Tenants, their quotas and what they use
    Tenants,
    /// Attached processes
    Clients,
    /// What a heap has; dump, recover, trim or remove it
    Heap(Heap),
    /// Grant nothing more from a device, and have it emptied
    Drain {
        /// The device
        name: String,
        /// Wait until nothing is left on it
        #[arg(long)]
        wait: bool,
    },
    /// What happens, as it happens
    Events(Events),
    /// What of the platform works, falls back or is off
    Doctor,
    /// Count every extent, and see whether the accounts balance
    Check,
    /// The daemon's numbers, as Prometheus reads them
    Metrics,
    /// Emulated fabrics; asks no daemon
    Fabric {
        #[command(subcommand)]
        what: Fabric,
    },
    /// Write man pages or shell completions
    #[command(hide = true)]
    Generate {
        /// Which
        what: Generated,
        /// Where to
        folder: PathBuf,
    },
}

/// Attaches as a client of the tenant whose heap it is, and looks at it itself.
#[derive(Debug, Args)]
pub(crate) struct Heap {
    /// Its name
    pub(crate) name: String,
    /// The label of the tenant whose heap it is, as clients say it
    #[arg(long, value_name = "LABEL", env = "TIERPOOL_TENANT")]
    pub(crate) tenant: Option<String>,
    /// The socket of clients; session.sock beside the one of --socket unless given
    #[arg(long, value_name = "PATH", env = "TIERPOOL_SOCKET")]
    pub(crate) clients: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) change: Option<HeapChange>,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum HeapChange {
    /// Every block: its address, its size, and whether it is published
    Dump,
    /// Free what processes that died had not published
    Recover,
    /// Give chunks without blocks back to the pool
    Trim,
    /// End it for everybody, with all that is in it
    Remove,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceChange {
    /// Make a device larger or smaller
    Resize {
        /// The device
        name: String,
        /// Its new size, as "2 GiB"
        #[arg(value_parser = Bytes::parse)]
        size: Bytes,
    },
    /// Grant from a drained device again
    Activate {
        /// The device
        name: String,
    },
    /// Take a drained, empty device out of the pool
    Remove {
        /// The device
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RegionChange {
    /// Make a region on one memory device, or on several in turn
    Create {
        /// The devices by serial number, as 0xa0 or 0xa0,0xa1; `devices --tree` shows them
        #[arg(
            long = "serial",
            value_name = "SERIAL",
            value_delimiter = ',',
            required = true,
            value_parser = fabric::number
        )]
        serials: Vec<u64>,
        /// Its size, as "512 MiB": a multiple of 256 MiB for each device. All that each has left
        /// unless given
        #[arg(long, value_parser = region_size)]
        size: Option<Bytes>,
        /// How many bytes of each device in turn, a power of two. As its window takes turns unless
        /// given, or 256
        #[arg(
            long,
            value_name = "BYTES",
            value_parser = clap::value_parser!(u32).range(256..=16_384)
        )]
        granularity: Option<u32>,
    },
    /// Destroy a region that nobody uses, or one that was not made to its end
    Destroy {
        /// The region, as region0; or a decoder that has taken memory for none
        name: String,
    },
}

/// The size of a region. None is none: without a size it would be all that there is.
fn region_size(text: &str) -> Result<Bytes, String> {
    let bytes = Bytes::parse(text).map_err(|error| error.to_string())?;
    if bytes == Bytes::ZERO {
        return Err("a region is a multiple of 256 MiB for each device".to_owned());
    }
    Ok(bytes)
}

#[derive(Debug, Subcommand)]
pub(crate) enum SegmentChange {
    /// End a segment, persistent ones included
    Free {
        /// Its id
        id: u64,
        /// Even while a client holds it
        #[arg(long)]
        force: bool,
    },
}

/// When to stop listening. Five seconds unless something else is said.
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Until interrupted
    #[arg(long, conflicts_with_all = ["span", "count"])]
    pub(crate) follow: bool,
    /// For so long
    #[arg(long = "for", id = "span", value_name = "SPAN", value_parser = span::parse)]
    pub(crate) span: Option<Duration>,
    /// Until so many have come
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Fabric {
    /// Draw a topology as a tree, or as a picture
    Draw {
        /// A ready topology (expander, four-hosts, two-heads, gpu-box), or the file of one
        #[arg(value_name = "NAME|FILE", default_value = "four-hosts")]
        topology: PathBuf,
        /// Write an SVG into this file, or to standard output where it is -
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// Serve a fabric in a directory, until SIGINT or SIGTERM
    Serve {
        /// A ready topology (expander, four-hosts, two-heads, gpu-box), or the file of one
        #[arg(value_name = "NAME|FILE")]
        topology: PathBuf,
        #[command(flatten)]
        how: HowServed,
    },
    /// What each host of a served fabric has, and what is free
    Status {
        /// Where it is served
        directory: PathBuf,
    },
    /// Have something go wrong in a served fabric, or be well again
    Fault {
        /// Where it is served
        directory: PathBuf,
        #[command(subcommand)]
        fault: FabricFault,
    },
    /// Have time go by in a served fabric of the mode virtual, with the faults that are planned
    Advance {
        /// Where it is served
        directory: PathBuf,
        /// How many milliseconds
        #[arg(value_name = "MS", value_parser = fabric::millis)]
        time: Picos,
    },
    /// What the timing model says of memory, beside what others published; all of it emulated
    Curves(WhichCurves),
    /// Measure what of the timing parameters this machine can measure, and write them as a file
    Calibrate(HowCalibrated),
    /// Send one command to a socket of a served fabric, byte by byte
    Send(Send),
    /// Show how capacity moves between four hosts: a fabric and four daemons of its own
    Demo(Demo),
    /// Be a client of the demonstration, led over standard input
    #[command(hide = true)]
    DemoClient {
        /// The session socket of its daemon
        socket: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// The daemon to run; without it pool-daemon beside this program, or in PATH
    #[arg(long, value_name = "PATH")]
    pub(crate) daemon: Option<PathBuf>,
    /// A new or empty folder to run in, which is kept with configurations and logs
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    /// Milliseconds to pause before each step, for reading
    #[arg(
        long, value_name = "MS", default_value_t = 0,
        value_parser = clap::value_parser!(u64).range(..=60_000)
    )]
    pub(crate) pace: u64,
}

#[derive(Debug, Args)]
pub(crate) struct HowServed {
    /// Where its sockets are to be; made where it is missing, and nobody else's
    #[arg(long, value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// How its time passes
    #[arg(long, value_enum, default_value_t = TimeMode::Virtual)]
    pub(crate) mode: TimeMode,
    /// The same commands in the same order have the same answers under the same number
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Timing parameters that take the place of the default ones, as calibrate writes them
    #[arg(long, value_name = "FILE")]
    pub(crate) timing: Option<PathBuf>,
    /// Have the faults of this file happen; they are printed at the start, as such a file
    #[arg(long, value_name = "FILE", conflicts_with = "faults")]
    pub(crate) schedule: Option<PathBuf>,
    /// Draw faults from the seed, in milliseconds: every=100,lasts=10,until=60000; of all kinds, or
    /// of some with ,kinds=LinkDown+Poison. They are printed at the start, as a file for --schedule
    #[arg(long, value_name = "MIX", value_parser = fabric::mix)]
    pub(crate) faults: Option<fabric::Drawn>,
}

#[derive(Debug, Args)]
pub(crate) struct WhichCurves {
    /// These classes of memory only
    #[arg(long, value_name = "NAME", num_args = 1.., value_parser = fabric::classes())]
    pub(crate) class: Vec<String>,
    /// Write charts into this folder, and no tables
    #[arg(long, value_name = "DIR")]
    pub(crate) plot: Option<PathBuf>,
    /// Timing parameters that take the place of the default ones, as calibrate writes them
    #[arg(long, value_name = "FILE")]
    pub(crate) timing: Option<PathBuf>,
}

/// Less than 20 s, and less than 3 s where it is to be quick.
#[derive(Debug, Args)]
pub(crate) struct HowCalibrated {
    /// Write the parameters into this file, and tell what was measured
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Measure less often, in less memory
    #[arg(long)]
    pub(crate) quick: bool,
    /// Measure storage too, with a file in this folder that is gone afterwards
    #[arg(long, value_name = "DIR")]
    pub(crate) storage: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TimeMode {
    /// As that of the machine: what goes on in the background takes its time
    Paced,
    /// It jumps to what is due next where somebody waits, or nothing else is to do
    Virtual,
}

/// Nodes by kind and number, as `switch0`; ports after a colon.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum FabricFault {
    /// A host dies, with what is in its caches
    HostDies {
        /// Its number
        host: u16,
    },
    /// A dead host starts anew
    HostStarts {
        /// Its number
        host: u16,
    },
    /// A link goes down
    LinkFails {
        /// One end of it, as switch0:4
        #[arg(value_parser = fabric::port)]
        end: Port,
    },
    /// It is up again
    LinkHeals {
        /// One end of it, as switch0:4
        #[arg(value_parser = fabric::port)]
        end: Port,
    },
    /// A switch starts anew and knows of no binding
    SwitchRestarts {
        /// Its number
        switch: u16,
    },
    /// A memory device is there no more
    MemdevVanishes {
        /// Its number
        memdev: u16,
    },
    /// It is there again, and what it held is lost
    MemdevReturns {
        /// Its number
        memdev: u16,
    },
    /// A line of a memory device is lost
    Poison {
        /// The number of the device
        memdev: u16,
        /// A physical address of it, as 4096 or 0x1000
        #[arg(value_parser = fabric::number)]
        physical: u64,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Send {
    /// The socket, as DIR/host0-memdev0-ld0.cci
    pub(crate) socket: PathBuf,
    /// The opcode in hexadecimal, as 0001 or 4802
    #[arg(value_parser = fabric::opcode)]
    pub(crate) opcode: u16,
    /// The payload in hexadecimal; without it there is none
    #[arg(value_parser = fabric::payload, default_value = "")]
    pub(crate) payload: fabric::Payload,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Generated {
    /// A page for the command and one for each of its parts
    Man,
    /// For bash, zsh and fish
    Completions,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_first_help_is_one_screen_and_names_every_command_and_option() {
        let mut command = Cli::command();
        command.build();
        let help = command.clone().render_long_help().to_string();
        assert!(help.lines().count() <= 24, "{help}");
        assert!(help.lines().all(|line| line.len() <= 100), "{help}");
        for part in command.get_subcommands().filter(|part| !part.is_hide_set()) {
            assert!(help.contains(part.get_name()), "{}", part.get_name());
        }
        for option in command.get_arguments().filter_map(clap::Arg::get_long) {
            let known = ["help", "version"].contains(&option);
            assert!(known || help.contains(&format!("--{option}")), "{option}");
        }
    }
}
