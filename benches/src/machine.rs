//! Where it was measured: a figure without its machine says nothing.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

/// What a reader has to know of the machine.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cpus: usize,
    memory_mib: u64,
    kernel: String,
    /// Runs under a hypervisor: waking another CPU costs more there.
    virtualised: bool,
    /// Huge pages set aside by the operator.
    hugetlb_pages: u64,
    /// To whom the kernel gives huge pages on its own: `always`, `madvise` or `never`.
    transparent_huge_pages: String,
    /// Processes that wanted a CPU when the run began, over one minute: the neighbours.
    load: f64,
    profile: &'static str,
}

impl Machine {
    /// This one.
    pub(crate) fn here() -> anyhow::Result<Self> {
        let (cpuinfo, meminfo) = (read("/proc/cpuinfo")?, read("/proc/meminfo")?);
        let load = read("/proc/loadavg")?;
        let load = load.split(' ').next().context("/proc/loadavg is empty")?;
        Ok(Self {
            cpu: field(&cpuinfo, "model name")
                .unwrap_or("unknown")
                .to_owned(),
            cpus: std::thread::available_parallelism()?.get(),
            memory_mib: amount(&meminfo, "MemTotal")? / 1024,
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            virtualised: field(&cpuinfo, "flags")
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            hugetlb_pages: amount(&meminfo, "HugePages_Total")?,
            transparent_huge_pages: transparent_huge_pages()?,
            load: load.parse()?,
            profile: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            },
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cpu,
            cpus,
            memory_mib,
            kernel,
            virtualised,
            hugetlb_pages,
            transparent_huge_pages,
            load,
            profile,
        } = self;
        let guest = if *virtualised {
            ", a virtual machine"
        } else {
            ""
        };
        write!(
            f,
            "{cpus} x {cpu}{guest}, {memory_mib} MiB, {hugetlb_pages} huge pages set aside, \
             transparent ones: {transparent_huge_pages}, Linux {kernel}, load {load}, \
             {profile} build"
        )
    }
}

fn read(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

fn transparent_huge_pages() -> anyhow::Result<String> {
    let path = Path::new("/sys/kernel/mm/transparent_hugepage/enabled");
    if !path.exists() {
        return Ok("none".to_owned());
    }
    let choices = fs::read_to_string(path)?;
    let chosen = chosen(&choices).with_context(|| format!("{}: {choices:?}", path.display()))?;
    Ok(chosen.to_owned())
}

/// The one of several words that is in brackets.
fn chosen(words: &str) -> Option<&str> {
    let (_, rest) = words.split_once('[')?;
    Some(rest.split_once(']')?.0)
}

/// The first `name: value` of a file of `/proc`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let values = text.lines().filter_map(|line| line.split_once(':'));
    let mut values = values.filter(|(key, _)| key.trim() == name);
    values.next().map(|(_, value)| value.trim())
}

/// The number at the start of the value of `name`.
pub(crate) fn amount(text: &str, name: &str) -> anyhow::Result<u64> {
    let value = field(text, name).with_context(|| format!("the kernel does not tell {name}"))?;
    let number = value.split(' ').next().unwrap_or_default();
    number
        .parse()
        .with_context(|| format!("{name} is {value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_read_without_its_unit() {
        assert_eq!(amount("A: 1 kB\nVmRSS:\t  42 kB\n", "VmRSS").unwrap(), 42);
        assert!(amount("A: 1 kB\n", "B").is_err());
    }

    #[test]
    fn the_choice_is_the_word_in_brackets() {
        assert_eq!(chosen("always [madvise] never\n"), Some("madvise"));
        assert_eq!(chosen("always\n"), None);
    }
}
