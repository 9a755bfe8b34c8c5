//! Rows of what every component does: the limit of answers, background operations, logs.

use fabric_emu::cci::ReturnCode::{InvalidInput, InvalidLog};
use fabric_emu::cci::tunnel::TunnelTarget;

use super::base;
use super::rig::{H0, HEADS, POOL, SWITCH};
use super::row::{Base, Row, b1, b4, bytes};

pub(crate) fn rows() -> Vec<Row> {
    [limits(), aborts(), logs()].concat()
}

fn limits() -> Vec<Row> {
    let row = |base: &Base, limit| base.with(&[b1(0, limit)], InvalidInput, "from 8 to 20");
    let mut rows: Vec<Row> = [H0, SWITCH, POOL]
        .iter()
        .flat_map(|&cci| [0, 1, 7, 21, 0x80, 0xff].map(|limit| row(&base::limit().at(cci), limit)))
        .collect();
    let way = [(2, TunnelTarget::PortOrLd), (1, TunnelTarget::PortOrLd)];
    rows.extend([7, 21].map(|limit| row(&base::limit().through(SWITCH, &way), limit)));
    rows
}

fn aborts() -> Vec<Row> {
    [H0, SWITCH, POOL, HEADS]
        .map(|cci| base::abort().at(cci).no(InvalidInput, "nothing goes on"))
        .to_vec()
}

fn logs() -> Vec<Row> {
    let vendor_debug = [
        0x5e, 0x18, 0x19, 0xd9, 0x11, 0xa9, 0x40, 0x0c, 0x81, 0x1f, 0xd6, 0x07, 0x19, 0x40, 0x3d,
        0x86,
    ];
    let log = base::log();
    let mut rows = vec![
        log.with(&[bytes(0, &[0; 16])], InvalidLog, "no such log"),
        log.with(&[bytes(0, &[0xff; 16])], InvalidLog, "no such log"),
        log.with(
            &[b1(0x00, 0x0c)],
            InvalidLog,
            "no such log: one bit differs",
        ),
        log.with(
            &[b1(0x0f, 0x16)],
            InvalidLog,
            "no such log: one bit differs",
        ),
        log.with(
            &[bytes(0, &vendor_debug)],
            InvalidLog,
            "the vendor's log is not here",
        ),
        log.with(
            &[bytes(0, &[0; 16]), b4(0x14, u32::MAX)],
            InvalidLog,
            "no such log",
        ),
    ];
    // So long is the log of each interface: four bytes for each of its commands.
    for (cci, length) in [(H0, 23 * 4), (SWITCH, 17 * 4)] {
        let log = base::log().at(cci);
        let mut part = |offset, length, rule| {
            rows.push(log.with(&[b4(0x10, offset), b4(0x14, length)], InvalidInput, rule));
        };
        part(0, length + 1, "past the end");
        part(1, length, "past the end");
        part(length, 1, "past the end");
        part(length - 3, 4, "past the end");
        part(length + 1, 0, "begins past the end");
        part(u32::MAX, 1, "begins past the end");
        part(u32::MAX, u32::MAX, "the sum is no number");
        part(0, u32::MAX, "past the end");
    }
    rows
}
