//! How ports, numbers and bytes of an emulated fabric are written on the command line.

use clap::builder::PossibleValuesParser;
use fabric_emu::cci::MAX_PAYLOAD;
use fabric_emu::id::{HostId, MemdevId, Node, Port, PortId, SwitchId};
use fabric_emu::schedule::{Kind, Mix};
use fabric_emu::timing::Picos;

const PICOS_PER_MILLI: u64 = 1_000_000_000;

/// The payload of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payload(pub(crate) Vec<u8>);

/// The faults that are drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Drawn(pub(crate) Mix);

/// A mix of faults, as `every=100,lasts=10,until=60000,kinds=LinkDown+Poison`.
pub(super) fn mix(text: &str) -> Result<Drawn, String> {
    let form = || "faults are written as every=100,lasts=10,until=60000".to_owned();
    let (mut every, mut lasts, mut until) = (None, None, None);
    let mut kinds = Kind::ALL.to_vec();
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(form)?;
        let time = || millis(value).map_err(|why| format!("{key}: {why}"));
        match key {
            "every" => every = Some(time()?),
            "lasts" => lasts = Some(time()?),
            "until" => until = Some(time()?),
            "kinds" => kinds = value.split('+').map(kind).collect::<Result<_, _>>()?,
            _ => return Err(form()),
        }
    }
    let (every, lasts) = (every.ok_or_else(form)?, lasts.ok_or_else(form)?);
    Ok(Drawn(Mix {
        horizon: until.ok_or_else(form)?,
        lasts,
        kinds: kinds.into_iter().map(|kind| (kind, every)).collect(),
    }))
}

/// A number of milliseconds.
pub(super) fn millis(text: &str) -> Result<Picos, String> {
    let most = u64::MAX / PICOS_PER_MILLI;
    let millis = text.parse().ok().filter(|it| (1..=most).contains(it));
    let time = millis.map(|it: u64| Picos::new(it * PICOS_PER_MILLI));
    time.ok_or_else(|| format!("it is a number of milliseconds, 1 to {most}"))
}

fn kind(name: &str) -> Result<Kind, String> {
    let found = Kind::ALL.iter().find(|kind| kind.name() == name);
    found.copied().ok_or_else(|| {
        let all: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        format!(
            "no kind of faults is {name:?}; there are {}",
            all.join(", ")
        )
    })
}

/// The classes of memory of the timing table.
pub(super) fn classes() -> PossibleValuesParser {
    PossibleValuesParser::new(fabric_emu::timing::curves::classes())
}

/// A port, as `switch0:4`.
pub(super) fn port(text: &str) -> Result<Port, String> {
    let form = || "a port is written as switch0:4, host0:0 or memdev0:0".to_owned();
    let (node, port) = text.split_once(':').ok_or_else(form)?;
    let number = |kind| node.strip_prefix(kind)?.parse().ok();
    let switch = number("switch").map(|it| Node::Switch(SwitchId(it)));
    let host = number("host").map(|it| Node::Host(HostId(it)));
    let memdev = number("memdev").map(|it| Node::Memdev(MemdevId(it)));
    Ok(Port {
        node: switch.or(host).or(memdev).ok_or_else(form)?,
        port: PortId(port.parse().map_err(|_| form())?),
    })
}

/// A number, as `4096` or `0x1000`.
pub(super) fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "a number is written as 4096 or 0x1000".to_owned())
}

/// An opcode, as `4802`, `0x4802` or `4802h`.
pub(super) fn opcode(text: &str) -> Result<u16, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let digits = digits.strip_suffix('h').unwrap_or(digits);
    u16::from_str_radix(digits, 16)
        .map_err(|_| "an opcode is four hexadecimal digits, as 4802".to_owned())
}

/// A payload, as `00ff`.
pub(super) fn payload(text: &str) -> Result<Payload, String> {
    let form = || "a payload is pairs of hexadecimal digits, as 00ff".to_owned();
    if !text.len().is_multiple_of(2) {
        return Err(form());
    }
    if text.len() / 2 > MAX_PAYLOAD {
        return Err(format!("a payload has {MAX_PAYLOAD} bytes at most"));
    }
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|it| u8::try_from(it).ok())
    };
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
    bytes.map(Payload).ok_or_else(form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_numbers_and_bytes_are_written_in_one_way_and_no_other() {
        let four = Port {
            node: Node::Switch(SwitchId(0)),
            port: PortId(4),
        };
        assert_eq!(port("switch0:4"), Ok(four));
        for wrong in [
            "",
            "switch0",
            "switch:4",
            "s0:4",
            "switch0:256",
            "host70000:0",
            ":",
        ] {
            assert!(port(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!((number("4096"), number("0x1000")), (Ok(4_096), Ok(4_096)));
        assert!(number("1000h").is_err() && number("-1").is_err());
        for text in ["4802", "0x4802", "4802h"] {
            assert_eq!(opcode(text), Ok(0x4802));
        }
        assert!(opcode("10000").is_err() && opcode("identify").is_err());
        assert_eq!(payload("00fF"), Ok(Payload(vec![0, 0xff])));
        assert_eq!(payload(""), Ok(Payload(Vec::new())));
        for wrong in ["0", "0g", "\u{e9}", "+1"] {
            assert!(payload(wrong).is_err(), "{wrong:?}");
        }
    }
}
