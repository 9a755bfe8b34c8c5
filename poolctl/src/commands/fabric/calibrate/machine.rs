//! Where and when it was measured: the kind of machine, and not which one.

use std::fs;
use std::path::Path;

use pool_core::clock;
use pool_core::units::KIB;
use serde::Serialize;

/// See the module.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
    cpu: String,
    pub(super) cpus: usize,
    virtualised: bool,
    kernel: String,
    /// As `2026-11-27`.
    date: String,
    /// The largest cache of the first processor.
    pub(super) cache_bytes: u64,
    /// What a process can still have.
    #[serde(skip)]
    pub(super) free_bytes: u64,
}

impl Machine {
    /// This one. What the kernel does not tell is unknown, or nothing.
    pub(super) fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (cpus, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
        let model = field(&cpus, "model name");
        let flags = field(&cpus, "flags").unwrap_or_default();
        let free = field(&memory, "MemAvailable").and_then(|free| kib(free.strip_suffix(" kB")?));
        Self {
            cpu: model.unwrap_or("unknown processor").to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            virtualised: flags.split(' ').any(|flag| flag == "hypervisor"),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            date: date(clock::calendar()),
            cache_bytes: cache_bytes(Path::new("/sys/devices/system/cpu/cpu0/cache")),
            free_bytes: free.unwrap_or(0),
        }
    }

    /// As a source tells it.
    pub(super) fn told(&self) -> String {
        let guest = if self.virtualised {
            ", virtual machine"
        } else {
            ""
        };
        // A build without optimisation measures itself.
        let build = if cfg!(debug_assertions) {
            ", unoptimised build"
        } else {
            ""
        };
        let Self {
            cpu, kernel, date, ..
        } = self;
        format!("{cpu}{guest}, Linux {kernel}, {date}{build}")
    }
}

/// The first `name: value` of a file of `/proc`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = pairs.find(|(key, _)| key.trim() == name)?;
    Some(value.trim())
}

fn kib(number: &str) -> Option<u64> {
    number.trim().parse::<u64>().ok()?.checked_mul(KIB)
}

/// The largest that is told; 32 MiB, which most have less of, where none is.
fn cache_bytes(folder: &Path) -> u64 {
    let size = |index: u32| {
        let text = fs::read_to_string(folder.join(format!("index{index}/size"))).ok()?;
        kib(text.trim().strip_suffix('K')?)
    };
    (0..8).filter_map(size).max().unwrap_or(32 << 20)
}

/// The day of so many seconds since 1970, in the Gregorian calendar.
fn date(seconds: u64) -> String {
    let mut days = seconds / 86_400;
    let mut year = 1970;
    let leap = |year: u64| {
        (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400)
    };
    // A year of five digits is none that a clock has.
    while days >= 365 + u64::from(leap(year)) && year < 9_999 {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for of_month in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < of_month {
            break;
        }
        days -= of_month;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_the_one_of_the_calendar() {
        for (seconds, day) in [
            (0, "1970-01-01"),
            (86_399, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_735_603_200, "2024-12-31"),
            (1_735_689_600, "2025-01-01"),
        ] {
            assert_eq!(date(seconds), day);
        }
        assert!(date(u64::MAX).starts_with("9999-12-"));
    }

    #[test]
    fn a_machine_is_told_by_its_kind() {
        let machine = Machine::here();
        assert!(machine.cpus > 0 && machine.cache_bytes > 0);
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let told = machine.told();
        assert!(told.contains("Linux ") && !told.split(' ').any(|word| word == host.trim()));
    }
}
