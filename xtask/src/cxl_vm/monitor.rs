//! What a guest may ask of the hardware around it: that a device is plugged in or pulled, or that
//! some of its memory goes bad.
//!
//! A guest asks by a line on its console, `asks WORDS`; the machine's emulator is told by its
//! monitor (QMP, a line of JSON each way). That it is done is seen in the guest by itself.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use pool_core::Nanos;
use pool_core::clock::{Deadline, eventually};
use serde_json::{Value, json};

use super::machine::Expander;

/// How long the emulator may take for an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a slot may be taken still by the device that was pulled from it.
const POWER_OFF: Nanos = Nanos::from_millis(60_000);
/// What the emulator says of such a slot.
const OCCUPIED: &str = "occupied";

/// What is asked for, of the device with a serial number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// It is put into its slot.
    Plug(u64),
    /// It is taken out.
    Pull(u64),
    /// It lists this line as poisoned from now on.
    Poison(u64, u64),
    /// It reports that the content of this line is lost.
    Report(u64, u64),
}

impl Wish {
    /// What a guest's line wants, which `asks` was taken from.
    pub(super) fn read(words: &str) -> anyhow::Result<Self> {
        let mut words = words.split_whitespace();
        let what = words.next().unwrap_or("");
        let mut number = || {
            let text = words.next().unwrap_or("");
            let number = u64::from_str_radix(text.trim_start_matches("0x"), 16);
            number.with_context(|| format!("{what} {text:?}: a number in hexadecimal is missing"))
        };
        Ok(match what {
            "plug" => Self::Plug(number()?),
            "pull" => Self::Pull(number()?),
            "poison" => Self::Poison(number()?, number()?),
            "report" => Self::Report(number()?, number()?),
            _ => bail!("a guest asks for {what:?}, which nobody can do"),
        })
    }

    const fn serial(self) -> u64 {
        match self {
            Self::Plug(serial)
            | Self::Pull(serial)
            | Self::Poison(serial, _)
            | Self::Report(serial, _) => serial,
        }
    }

    /// The command that does it, of the device of this name in this slot.
    fn command(self, name: &str, index: usize) -> Value {
        let path = format!("/machine/peripheral/{name}");
        let (name, arguments) = match self {
            Self::Plug(serial) => (
                "device_add",
                json!({
                    "driver": "cxl-type3", "bus": format!("rp{index}"), "id": name,
                    "volatile-memdev": format!("memory-of-{name}"), "sn": serial,
                }),
            ),
            Self::Pull(_) => ("device_del", json!({"id": name})),
            Self::Poison(_, dpa) => (
                "cxl-inject-poison",
                json!({"path": path, "start": dpa, "length": 64}),
            ),
            // Of volatile memory (bit 0 of the address), and not to be corrected (bit 0 of the
            // descriptor); the rest says nothing (CXL 3.2, table 8-57).
            Self::Report(_, dpa) => (
                "cxl-inject-general-media-event",
                json!({
                    "path": path, "log": "failure", "flags": 0, "dpa": dpa | 1, "descriptor": 1,
                    "type": 0, "sub-type": 0, "transaction-type": 1,
                }),
            ),
        };
        json!({"execute": name, "arguments": arguments})
    }
}

/// A line to the emulator of a machine.
#[derive(Debug)]
pub(super) struct Monitor {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
    /// How many devices were plugged into each slot.
    plugged: BTreeMap<usize, usize>,
}

impl Monitor {
    pub(super) fn connect(socket: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(socket).context("the emulator has no monitor")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let lines = BufReader::new(stream.try_clone()?);
        let plugged = BTreeMap::new();
        let mut monitor = Self {
            stream,
            lines,
            plugged,
        };
        let _greeting = monitor.line()?;
        monitor.ask(&json!({"execute": "qmp_capabilities"}))?;
        Ok(monitor)
    }

    /// Has a wish of a guest done that has these devices, whose memory lies in files of a folder.
    pub(super) fn fulfil(
        &mut self,
        wish: Wish,
        expanders: &[Expander],
        folder: &Path,
    ) -> anyhow::Result<()> {
        let mut all = (0..).zip(expanders);
        let found = all.find(|(_, it)| it.serial == wish.serial());
        let (index, expander) =
            found.with_context(|| format!("the machine has no device for {wish:x?}"))?;
        let plugged = self.plugged.entry(index).or_insert(0);
        if matches!(wish, Wish::Plug(_)) {
            *plugged += 1;
        }
        // One that was there from the start has the number of its slot alone.
        let name = match *plugged {
            0 => format!("mem{index}"),
            times => format!("mem{index}-{times}"),
        };
        if matches!(wish, Wish::Plug(_)) {
            // The emulator keeps the name and the memory of a device that was pulled: each has its
            // own, of the same file.
            self.ask(&json!({"execute": "object-add", "arguments": {
                "qom-type": "memory-backend-file", "id": format!("memory-of-{name}"),
                "size": expander.mib << 20, "mem-path": expander.file(folder), "share": true,
            }}))?;
        }
        let command = wish.command(&name, index);
        let done = eventually(Deadline::after(POWER_OFF), || match self.ask(&command) {
            Err(why) if why.to_string().contains(OCCUPIED) => None,
            answer => Some(answer),
        });
        match done {
            Ok(answer) => answer.map(drop),
            Err(_) => bail!("{wish:x?}: the slot stays taken"),
        }
    }

    fn ask(&mut self, command: &Value) -> anyhow::Result<Value> {
        writeln!(self.stream, "{command}")?;
        loop {
            let answer = self.line()?;
            if let Some(error) = answer.get("error") {
                bail!("{command}: {error}");
            }
            // Whatever happens meanwhile is told as well.
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
        }
    }

    fn line(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line);
        let read = read.context("the emulator does not answer")?;
        ensure!(read > 0, "the emulator has hung up");
        Ok(serde_json::from_str(&line)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_read_and_nothing_else_is() {
        assert_eq!(Wish::read("plug a1").unwrap(), Wish::Plug(0xa1));
        assert_eq!(
            Wish::read("poison 0xa0 200040").unwrap(),
            Wish::Poison(0xa0, 0x20_0040)
        );
        for words in ["", "plug", "plug zz", "poison a0", "burn a0"] {
            assert!(Wish::read(words).is_err(), "{words}");
        }
    }
}
