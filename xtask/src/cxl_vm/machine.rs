//! One virtual machine: which devices it has, how it is started, and what it says.
//!
//! Everything runs in software (TCG): `/dev/kvm` is not needed. What has to be so, and why, was
//! found by trial:
//! - `hypervisor=off`: the kernel flushes no caches in a machine that says it is virtual, and
//!   refuses regions there.
//! - `hdm_for_passthrough=true`: without, a bridge with one port decodes one region only.
//! - One window for each bridge: of two windows on one, only one is fast.
//! - Two processors: with one, QEMU drops the lock of an instruction that is to be atomic, and two
//!   machines that share memory lose updates.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;

use super::console;
use super::monitor::{Monitor, Wish};
use super::packages::Roots;

/// Memory of the machine's own, of its first node and of one without processors.
const NODES_MIB: [u64; 2] = [1024, 512];

/// One device behind one bridge with one window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expander {
    /// Its serial number.
    pub(super) serial: u64,
    /// How much memory it has.
    pub(super) mib: u64,
    /// It is in its slot from the start; else its guest asks for it.
    pub(super) is_plugged: bool,
}

/// The devices of a machine.
#[derive(Debug, Clone, Copy)]
pub(super) enum Topology {
    /// Each behind a bridge of its own.
    Bridges(&'static [Expander]),
    /// All behind one bridge, in one window: they may be interleaved, slowly.
    Window(&'static [Expander]),
}

/// What a machine is started from.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) kernel: PathBuf,
    pub(super) archive: PathBuf,
}

/// A machine that runs.
#[derive(Debug)]
pub(super) struct Machine {
    child: Child,
    expanders: &'static [Expander],
    /// Where what devices hold lies.
    memory: PathBuf,
    /// Where its emulator is told things.
    socket: PathBuf,
    /// Once something was told.
    monitor: Option<Monitor>,
    /// Wishes of its guest that were fulfilled.
    fulfilled: usize,
    /// What it said.
    pub(super) log: PathBuf,
}

impl Expander {
    /// Where what it holds lies, in a folder: several machines that have that have one memory.
    pub(super) fn file(&self, folder: &Path) -> PathBuf {
        folder.join(format!("memory-{:x}", self.serial))
    }
}

impl Topology {
    pub(super) fn expanders(&self) -> &'static [Expander] {
        match self {
            Self::Bridges(expanders) | Self::Window(expanders) => expanders,
        }
    }

    /// How large its windows are: twice what lies behind them, of whole GiB.
    fn windows(&self) -> Vec<u64> {
        let gib = |mib: u64| (2 * mib).div_ceil(1024);
        match self {
            Self::Bridges(expanders) => expanders.iter().map(|it| gib(it.mib)).collect(),
            Self::Window(expanders) => vec![gib(expanders.iter().map(|it| it.mib).sum())],
        }
    }

    fn bridge_of(&self, index: usize) -> usize {
        match self {
            Self::Bridges(_) => index,
            Self::Window(_) => 0,
        }
    }

    /// The arguments for all of it. What devices hold lies in files of `folder`.
    fn arguments(&self, folder: &Path) -> Vec<String> {
        let mut machine = "q35,cxl=on,hmat=on".to_owned();
        let mut arguments = Vec::new();
        let mut add = |option: &str, value: String| {
            arguments.extend([option.to_owned(), value]);
        };
        for (bridge, gib) in self.windows().iter().enumerate() {
            machine +=
                &format!(",cxl-fmw.{bridge}.targets.0=cxl.{bridge},cxl-fmw.{bridge}.size={gib}G");
            let bus = 12 + 52 * bridge;
            add(
                "-device",
                format!("pxb-cxl,bus_nr={bus},bus=pcie.0,id=cxl.{bridge},hdm_for_passthrough=true"),
            );
        }
        for (index, expander) in self.expanders().iter().enumerate() {
            let (bridge, serial) = (self.bridge_of(index), expander.serial);
            add(
                "-device",
                format!(
                    "cxl-rp,port={index},bus=cxl.{bridge},id=rp{index},chassis=0,slot={}",
                    index + 2
                ),
            );
            if expander.is_plugged {
                add(
                    "-object",
                    format!(
                        "memory-backend-file,id=cm{index},share=on,size={}M,mem-path={}",
                        expander.mib,
                        expander.file(folder).display()
                    ),
                );
                add(
                    "-device",
                    format!(
                        "cxl-type3,bus=rp{index},volatile-memdev=cm{index},id=mem{index},\
                         sn={serial:#x}"
                    ),
                );
            }
        }
        add("-M", machine);
        arguments
    }
}

/// The machine's own memory: a node with the processors, one without, and a port through which
/// the bridge is reached, so that the kernel has figures for the way to each device.
fn nodes() -> Vec<String> {
    let [near, far] = NODES_MIB;
    let latency = "hierarchy=memory,data-type=access-latency,latency";
    let bandwidth = "hierarchy=memory,data-type=access-bandwidth,bandwidth";
    let lines = [
        format!("-m {}M,maxmem=16G,slots=4", near + far),
        format!("-object memory-backend-ram,id=m0,size={near}M"),
        format!("-object memory-backend-ram,id=m1,size={far}M"),
        "-numa node,nodeid=0,cpus=0-1,memdev=m0".to_owned(),
        "-numa node,nodeid=1,memdev=m1,initiator=0".to_owned(),
        "-numa node,nodeid=2".to_owned(),
        "-object acpi-generic-port,id=gp0,pci-bus=cxl.0,node=2".to_owned(),
        "-numa dist,src=0,dst=1,val=20".to_owned(),
        "-numa dist,src=0,dst=2,val=21".to_owned(),
        "-numa dist,src=1,dst=2,val=31".to_owned(),
        format!("-numa hmat-lb,initiator=0,target=0,{latency}=100"),
        format!("-numa hmat-lb,initiator=0,target=0,{bandwidth}=100G"),
        format!("-numa hmat-lb,initiator=0,target=1,{latency}=400"),
        format!("-numa hmat-lb,initiator=0,target=1,{bandwidth}=20G"),
        format!("-numa hmat-lb,initiator=0,target=2,{latency}=200"),
        format!("-numa hmat-lb,initiator=0,target=2,{bandwidth}=50G"),
    ];
    let words = lines.iter().flat_map(|line| line.split_once(' '));
    words
        .flat_map(|(option, value)| [option.to_owned(), value.to_owned()])
        .collect()
}

impl Machine {
    /// Starts a machine in `folder`, whose guest runs `scenario` under the name `name`.
    pub(super) fn start(
        roots: &Roots,
        image: &Image,
        topology: Topology,
        (folder, memory): (&Path, &Path),
        (scenario, name): (&str, &str),
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        fs::create_dir_all(memory)?;
        let log = folder.join("console");
        let usr = roots.machine.join("usr");
        let libraries = usr.join("lib/x86_64-linux-gnu");
        let mut command = Command::new(usr.join("lib64/ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(&libraries);
        command.arg(usr.join("bin/qemu-system-x86_64"));
        for part in ["share/qemu", "share/seabios"] {
            command.arg("-L").arg(usr.join(part));
        }
        command.args(["-nodefaults", "-no-user-config", "-no-reboot"]);
        command.args(["-display", "none", "-serial", "stdio"]);
        command.args(["-accel", "tcg,thread=multi,tb-size=256"]);
        command.args(["-cpu", "max,hypervisor=off", "-smp", "2"]);
        command.args(nodes()).args(topology.arguments(memory));
        command.arg("-kernel").arg(&image.kernel);
        command.arg("-initrd").arg(&image.archive);
        command.arg("-append").arg(format!(
            "console=ttyS0 panic=-1 quiet loglevel=4 scenario={scenario} name={name}"
        ));
        let socket = folder.join("monitor");
        command.arg("-qmp");
        command.arg(format!("unix:{},server=on,wait=off", socket.display()));
        command.stdin(Stdio::null());
        let out = File::create(&log)?;
        command.stderr(out.try_clone()?).stdout(out);
        let child = command.spawn().context("the emulator does not start")?;
        Ok(Self {
            child,
            expanders: topology.expanders(),
            memory: memory.to_owned(),
            socket,
            monitor: None,
            fulfilled: 0,
            log,
        })
    }

    /// Whether it has ended by itself; until then what its guest asks for is done.
    pub(super) fn has_ended(&mut self) -> anyhow::Result<bool> {
        if self.child.try_wait()?.is_some() {
            return Ok(true);
        }
        let said = fs::read(&self.log)?;
        let said = String::from_utf8_lossy(&said);
        for words in console::asked(&said).skip(self.fulfilled) {
            let wish = Wish::read(words)?;
            let monitor = match &mut self.monitor {
                Some(monitor) => monitor,
                none => none.insert(Monitor::connect(&self.socket)?),
            };
            monitor.fulfil(wish, self.expanders, &self.memory)?;
            self.fulfilled += 1;
        }
        Ok(false)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Whatever becomes of it, it is gone then.
        let _ended_by_itself = self.child.kill();
        let _status = self.child.wait();
    }
}
