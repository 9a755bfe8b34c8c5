//! What was measured as parameters, and as a file of them.

use core::fmt;

use fabric_emu::timing::{Evidence, Table, TableError};
use pool_core::units::LINE_BYTES;
use serde::{Serialize, Serializer};

use super::machine::Machine;
use super::spread::Spread;

/// One value of the file.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Parameter {
    pub(super) class: &'static str,
    pub(super) key: &'static str,
    pub(super) value: u64,
    pub(super) unit: &'static str,
    /// What was measured, where, when, and how far the runs were apart.
    pub(super) source: String,
    #[serde(serialize_with = "as_text")]
    pub(super) evidence: Evidence,
}

fn as_text<S: Serializer>(evidence: &Evidence, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(evidence)
}

/// What was not measured, and why.
#[derive(Debug, Clone, Serialize)]
pub(super) struct NotMeasured {
    what: String,
    why: String,
}

impl fmt::Display for NotMeasured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not measured: {}: {}", self.what, self.why)
    }
}

/// A class and its key.
type Name = (&'static str, &'static str);

/// See the module.
#[derive(Debug)]
pub(super) struct Overlay {
    machine: String,
    pub(super) parameters: Vec<Parameter>,
    pub(super) not_measured: Vec<NotMeasured>,
}

impl Overlay {
    /// Nothing was measured yet.
    pub(super) fn new(machine: &Machine) -> Self {
        Self {
            machine: machine.told(),
            parameters: Vec::new(),
            not_measured: Vec::new(),
        }
    }

    /// Says that something is not in the file.
    pub(super) fn leave_out(&mut self, what: &str, why: &str) {
        self.not_measured.push(NotMeasured {
            what: what.to_owned(),
            why: why.to_owned(),
        });
    }

    /// A time, in picoseconds.
    pub(super) fn time(&mut self, name: Name, measured: Option<Spread>, what: &str) {
        match measured {
            Some(spread) => self.spread(name, &spread, "ps", what),
            None => self.leave_out(&format!("{}.{}", name.0, name.1), "no run came to an end"),
        }
    }

    /// Bytes a second, in MB/s.
    pub(super) fn rate(&mut self, name: Name, measured: Spread, what: &str) {
        self.spread(name, &measured, "MB/s", what);
    }

    fn spread(&mut self, name: Name, spread: &Spread, unit: &'static str, what: &str) {
        let source = format!("{what}: {}; {}", spread.told(unit), self.machine);
        self.push(name, (spread.median(), unit), source, Evidence::Measured);
    }

    fn push(
        &mut self,
        (class, key): Name,
        (value, unit): (u64, &'static str),
        source: String,
        evidence: Evidence,
    ) {
        self.parameters.push(Parameter {
            class,
            key,
            value,
            unit,
            source,
            evidence,
        });
    }

    /// How many accesses one core has under way: by Little's law, of what it reads and how long an
    /// access takes that is alone.
    pub(super) fn accesses_of_a_core(&mut self, read: &Spread, latency: &Option<Spread>) {
        let Some(latency) = latency else {
            return self.leave_out("model.core_accesses", "there is no latency to divide by");
        };
        // MB/s times picoseconds are millionths of a byte.
        let bytes = read.median().saturating_mul(latency.median()) / 1_000_000;
        let source = format!(
            "{} MB/s read by one thread times {} ps of an access alone, by lines of {LINE_BYTES} \
             B; {}",
            read.median(),
            latency.median(),
            self.machine
        );
        let lines = (bytes / LINE_BYTES).max(1);
        let name = ("model", "core_accesses");
        self.push(name, (lines, "count"), source, Evidence::Measured);
    }

    /// This overlay as one that fits over `table`. Where a latency is less than the parts that the
    /// table has it made of, the parts are made as much smaller: they are assumed before and after.
    ///
    /// # Errors
    /// [`TableError`] where what was measured is out of all range.
    pub(super) fn fitted(mut self, table: &Table) -> Result<Self, TableError> {
        let measured: Vec<_> = self.parameters.clone();
        for one in measured.iter().filter(|one| one.key == "latency") {
            let parts = PARTS.map(|part| (part, picos(table, one.class, part)));
            let sum: u64 = parts.iter().map(|(_, picos)| picos).sum();
            if sum <= one.value {
                continue;
            }
            for (part, picos) in parts.into_iter().filter(|(_, picos)| *picos > 0) {
                let scaled = u128::from(picos) * u128::from(one.value) / u128::from(sum);
                let scaled = u64::try_from(scaled).unwrap_or(0);
                let source = format!(
                    "{picos} ps of the default table, made smaller as the latency that was \
                     measured is less than its parts"
                );
                self.push((one.class, part), (scaled, "ps"), source, Evidence::Assumed);
            }
        }
        table.overlay(&self.to_toml())?;
        Ok(self)
    }

    /// As a file.
    pub(super) fn to_toml(&self) -> String {
        let mut text = format!(
            "# Timing parameters, measured by `poolctl fabric calibrate`.\n# {}\n",
            one_line(&self.machine)
        );
        for left_out in &self.not_measured {
            text.push_str(&format!("# {}\n", one_line(&left_out.to_string())));
        }
        let mut classes: Vec<_> = self.parameters.iter().map(|one| one.class).collect();
        classes.sort_unstable();
        classes.dedup();
        for class in classes {
            text.push_str(&format!("\n[{class}]\n"));
            for one in self.parameters.iter().filter(|one| one.class == class) {
                let Parameter {
                    key,
                    value,
                    unit,
                    source,
                    evidence,
                    ..
                } = one;
                let source = quoted(source);
                text.push_str(&format!(
                    "{key} = {{ value = {value}, unit = \"{unit}\", source = {source}, \
                     evidence = \"{evidence}\" }}\n"
                ));
            }
        }
        text
    }
}

/// What a latency is made of, beside the controller.
const PARTS: [&str; 3] = ["latency_link", "host", "media_read"];

/// A time of the table, in picoseconds.
fn picos(table: &Table, class: &str, key: &str) -> u64 {
    let found = table
        .values()
        .find(|(its, name, _)| (*its, *name) == (class, key));
    found.map_or(0, |(_, _, value)| {
        let scale = match value.unit.as_str() {
            "us" => 1_000_000,
            "ns" => 1_000,
            _ => 1,
        };
        value.value.saturating_mul(scale)
    })
}

/// A string of TOML: what a processor is called may have any characters.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", one_line(&escaped))
}

fn one_line(text: &str) -> String {
    text.chars()
        .map(|one| if one.is_control() { ' ' } else { one })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay() -> Overlay {
        Overlay::new(&Machine::here())
    }

    fn spread(of: u64) -> Spread {
        Spread::of(vec![of, of - 1, of + 1]).unwrap()
    }

    /// The keys whose values are others than those of the default table.
    fn changed(overlay: &Overlay) -> Vec<String> {
        let before = Table::embedded().unwrap();
        let after = before.overlay(&overlay.to_toml()).unwrap();
        let pairs = before.values().zip(after.values());
        let changed = pairs.filter(|(before, after)| before != after);
        changed
            .map(|(_, (class, key, _))| format!("{class}.{key}"))
            .collect()
    }

    #[test]
    fn what_was_measured_takes_the_place_of_just_those_values() {
        let mut overlay = overlay();
        overlay.time(("ddr", "latency"), Some(spread(98_000)), "a \"chain\"\n");
        overlay.rate(("ddr", "bandwidth_read"), spread(12_000), "reading");
        overlay.accesses_of_a_core(&spread(12_000), &Some(spread(98_000)));
        overlay.time(("model", "cache_hit"), None, "nothing");
        let table = Table::embedded().unwrap();
        let overlay = overlay.fitted(&table).unwrap();
        let expected = ["ddr.bandwidth_read", "ddr.latency", "model.core_accesses"];
        assert_eq!(changed(&overlay), expected);
        let core = overlay
            .parameters
            .iter()
            .find(|one| one.key == "core_accesses");
        assert_eq!(core.unwrap().value, 18, "12 GB/s at 98 ns");
        let text = overlay.to_toml();
        assert!(
            text.contains("# not measured: model.cache_hit: no run"),
            "{text}"
        );
        assert!(
            text.contains("3 runs of 97999 to 98001 ps, median 98000; "),
            "{text}"
        );
    }

    #[test]
    fn a_latency_below_its_assumed_parts_makes_them_smaller_and_says_so() {
        let mut overlay = overlay();
        overlay.time(("ddr", "latency"), Some(spread(60_000)), "a chain");
        let overlay = overlay.fitted(&Table::embedded().unwrap()).unwrap();
        assert_eq!(
            changed(&overlay),
            ["ddr.host", "ddr.latency", "ddr.media_read"]
        );
        let evidence = overlay.parameters.iter().map(|one| (one.key, one.evidence));
        let expected = [
            ("latency", Evidence::Measured),
            ("host", Evidence::Assumed),
            ("media_read", Evidence::Assumed),
        ];
        assert_eq!(evidence.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_cannot_be_is_no_file() {
        let table = Table::embedded().unwrap();
        let mut overlay = overlay();
        overlay.time(
            ("ddr", "latency"),
            Some(spread(2_000_000_000_000)),
            "a chain",
        );
        assert!(matches!(
            overlay.fitted(&table),
            Err(TableError::Range { .. })
        ));
        let mut overlay = self::overlay();
        overlay.rate(
            ("ddr", "bandwidth_read"),
            Spread::of(vec![0]).unwrap(),
            "nothing",
        );
        assert!(overlay.fitted(&table).is_err());
    }
}
