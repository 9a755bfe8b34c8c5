//! What is told of a step: as a page for people, or as one object.

use serde::Serialize;

use crate::output::Grid;
use crate::text;

/// How wide a line of prose is.
const WIDTH: usize = 92;

/// A step, as far as it has come.
#[derive(Debug, Default, Serialize)]
pub(super) struct Step {
    pub(super) step: u8,
    pub(super) title: &'static str,
    pub(super) does: &'static str,
    /// All memory of the fabric is.
    pub(super) emulated: bool,
    /// All of it was seen to be as promised.
    pub(super) as_promised: bool,
    pub(super) promises: Vec<Promise>,
    pub(super) moments: Vec<Moment>,
    pub(super) hosts: Vec<HostRow>,
    pub(super) device: Option<DeviceRow>,
}

/// What was promised, and whether it was seen.
#[derive(Debug, Serialize)]
pub(super) struct Promise {
    pub(super) promise: String,
    pub(super) seen: bool,
}

/// Who had how much at a moment of the step.
#[derive(Debug, Serialize)]
pub(super) struct Moment {
    pub(super) moment: String,
    pub(super) has_bytes: Vec<u64>,
    pub(super) free_bytes: u64,
}

/// A host at the end of a step, and what its daemon says.
#[derive(Debug, Serialize)]
pub(super) struct HostRow {
    pub(super) host: u8,
    pub(super) state: &'static str,
    /// As the fabric says.
    pub(super) has_bytes: u64,
    /// As the daemon says, from here on.
    pub(super) free_bytes: u64,
    pub(super) granted_bytes: u64,
    pub(super) quarantined_bytes: u64,
    /// Out of service, because it is poisoned.
    pub(super) bad_bytes: u64,
    pub(super) balanced: bool,
}

/// The pooled device at the end of a step.
#[derive(Debug, Serialize)]
pub(super) struct DeviceRow {
    pub(super) emulated: bool,
    pub(super) is_there: bool,
    pub(super) bytes: u64,
    pub(super) free_bytes: u64,
}

impl Step {
    /// What stands at the beginning.
    pub(super) fn head(&self) -> String {
        format!("\n{}. {}\n{}", self.step, self.title, wrapped(self.does))
    }

    /// What stands at the end.
    pub(super) fn tables(&self) -> String {
        let mut page = String::new();
        if !self.moments.is_empty() {
            page.push_str(&moments(&self.moments));
        }
        page.push_str(&hosts(&self.hosts));
        if let Some(device) = &self.device {
            page.push_str(&format!(
                "pooled device (emulated): {}, {}, {} free\n",
                text::size(device.bytes),
                if device.is_there { "there" } else { "gone" },
                text::size(device.free_bytes)
            ));
        }
        let lines = page.lines().map(|line| match line {
            "" => "\n".to_owned(),
            line => format!("   {line}\n"),
        });
        lines.collect()
    }
}

impl Promise {
    pub(super) fn line(&self) -> String {
        let mark = if self.seen { "seen" } else { "NOT SEEN" };
        format!("   {mark}: {}\n", self.promise)
    }
}

fn moments(moments: &[Moment]) -> String {
    let mut grid = Grid::new(["MOMENT", ">HOST0", ">HOST1", ">HOST2", ">HOST3", ">FREE"]);
    for moment in moments {
        let has = |host: usize| moment.has_bytes.get(host).copied().unwrap_or(0);
        grid.row([
            moment.moment.clone(),
            text::size(has(0)),
            text::size(has(1)),
            text::size(has(2)),
            text::size(has(3)),
            text::size(moment.free_bytes),
        ]);
    }
    format!("\n{}", grid.render())
}

fn hosts(hosts: &[HostRow]) -> String {
    let titles = [
        "HOST",
        "DAEMON",
        ">HAS",
        ">FREE",
        ">GRANTED",
        ">QUARANTINED",
        ">BAD",
        "CHECK",
    ];
    let mut grid = Grid::new(titles);
    for host in hosts {
        grid.row([
            format!("host{}", host.host),
            host.state.to_owned(),
            text::size(host.has_bytes),
            text::size(host.free_bytes),
            text::size(host.granted_bytes),
            text::size(host.quarantined_bytes),
            text::size(host.bad_bytes),
            (if host.balanced {
                "balanced"
            } else {
                "NOT balanced"
            })
            .to_owned(),
        ]);
    }
    format!("\n{}", grid.render())
}

/// Prose in lines that begin with three blanks.
pub(super) fn wrapped(prose: &str) -> String {
    let (mut page, mut line) = (String::new(), String::new());
    for word in prose.split_whitespace() {
        if !line.is_empty() && line.len() + 1 + word.len() > WIDTH {
            page.push_str(&format!("   {line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    format!("{page}   {line}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_wrapped_between_words_and_none_is_lost() {
        let prose = "word ".repeat(60);
        let page = wrapped(&prose);
        assert!(page.lines().count() > 1);
        assert!(page.lines().all(|line| line.len() <= WIDTH + 3), "{page}");
        assert_eq!(page.split_whitespace().count(), 60);
    }
}
