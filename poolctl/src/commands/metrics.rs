//! `poolctl metrics`: the daemon's numbers, from the metrics socket beside the admin socket.
//!
//! One HTTP/1.1 exchange on a connection that the daemon closes after it.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::cli::Target;
use crate::connect::Address;
use crate::error::CtlError;
use crate::output::Output;

const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: tierpool\r\nConnection: close\r\n\r\n";
/// The page has a few hundred series.
const PAGE_BYTES_MAX: u64 = 16 << 20;

/// One line of the page that is no comment.
#[derive(Debug, PartialEq, Serialize)]
struct Sample<'a> {
    name: &'a str,
    labels: BTreeMap<&'a str, String>,
    value: f64,
}

pub(super) fn run(target: &Target, wait: Duration, output: &mut Output) -> Result<(), CtlError> {
    let Address::Socket(admin) = Address::of(target)? else {
        return Err(CtlError::Combination {
            given: "metrics",
            rule: "come from the socket; those of another machine, from its metrics_listen address",
        });
    };
    let path = admin.with_file_name("metrics.sock");
    let page = fetch(&path, wait)?;
    if !output.is_json() {
        return output.text(&page);
    }
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let sample = parse(line).ok_or_else(|| corrupt(&path, line))?;
        output.json(&sample)?;
    }
    Ok(())
}

fn fetch(path: &Path, wait: Duration) -> Result<String, CtlError> {
    let unreachable = |error: io::Error| CtlError::Unreachable {
        address: path.display().to_string(),
        reason: error.to_string(),
    };
    let answer = exchange(path, wait).map_err(unreachable)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| corrupt(path, &answer))?;
    let status = head.split(' ').nth(1).ok_or_else(|| corrupt(path, head))?;
    if status == "200" {
        Ok(body.to_owned())
    } else {
        Err(CtlError::Refused {
            reason: format!("{} (HTTP {status})", body.trim_end()),
        })
    }
}

fn exchange(path: &Path, wait: Duration) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(wait))?;
    stream.set_write_timeout(Some(wait))?;
    stream.write_all(REQUEST)?;
    let mut answer = String::new();
    stream.take(PAGE_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

fn corrupt(path: &Path, line: &str) -> CtlError {
    let begin: String = line.chars().take(80).collect();
    CtlError::Corrupt {
        address: path.display().to_string(),
        reason: format!("{begin:?} is no line of a metrics page"),
    }
}

/// `name{labels} value`, the labels in braces where there are any.
fn parse(line: &str) -> Option<Sample<'_>> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, parse_labels(labels)?),
        None => (series, BTreeMap::new()),
    };
    let value = value.parse().ok()?;
    Some(Sample {
        name,
        labels,
        value,
    })
}

/// `tier="hbm",state="free"}`, with `\\`, `\"` and `\n` in the values.
fn parse_labels(mut rest: &str) -> Option<BTreeMap<&str, String>> {
    let mut labels = BTreeMap::new();
    while rest != "}" {
        let (name, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = quoted.chars();
        loop {
            match characters.next()? {
                '"' => break,
                '\\' => value.push(match characters.next()? {
                    'n' => '\n',
                    escaped => escaped,
                }),
                plain => value.push(plain),
            }
        }
        labels.insert(name, value);
        rest = characters.as_str();
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_taken_apart() {
        let sample = parse(r#"tierpool_tier_bytes{tier="a, \"b\" {c}",state="free"} 12"#).unwrap();
        assert_eq!(sample.name, "tierpool_tier_bytes");
        let labels = [("tier", r#"a, "b" {c}"#), ("state", "free")];
        assert_eq!(
            sample.labels,
            labels.map(|(name, value)| (name, value.to_owned())).into()
        );
        assert!((sample.value - 12.0).abs() < f64::EPSILON);
        assert!(parse("clients 3").unwrap().labels.is_empty());
    }

    #[test]
    fn what_is_no_sample_is_refused() {
        for line in [
            "",
            "clients",
            "clients three",
            "a{b=\"c\" 1",
            "a{b=\"c} 1",
            "a{b} 1",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
