//! Rows that follow from which commands there are: payloads of other lengths, interfaces that do
//! not do a command, opcodes that nobody knows.

use std::collections::BTreeSet;

use fabric_emu::cci::ReturnCode::Unsupported;
use fabric_emu::cci::tunnel::TunnelTarget;
use fabric_emu::fabric::Cci;

use super::base;
use super::rig::{H0, HEADS, POOL, SINGLE, SWITCH};
use super::row::{Base, Row};

/// Opcodes that the specification has and no component here does, and some that it has not.
const UNKNOWN: [u16; 38] = [
    0x0000, 0x0006, 0x0104, 0x0105, 0x0106, 0x0200, 0x0201, 0x0202, 0x0302, 0x0402, 0x0403, 0x0404,
    0x0405, 0x0500, 0x0501, 0x0502, 0x0600, 0x4001, 0x4100, 0x4101, 0x4102, 0x4201, 0x4303, 0x4304,
    0x4401, 0x4500, 0x4804, 0x4900, 0x5103, 0x5204, 0x5301, 0x5403, 0x5502, 0x5609, 0x5700, 0x8000,
    0xc000, 0xffff,
];

/// What all components do.
const ALL: [u16; 9] = [1, 2, 3, 4, 5, 0x0300, 0x0301, 0x0400, 0x0401];
/// What else a logical device does for its host.
const HOST: [u16; 14] = [
    0x0100, 0x0101, 0x0102, 0x0103, 0x4000, 0x4200, 0x4300, 0x4301, 0x4302, 0x4400, 0x4800, 0x4801,
    0x4802, 0x4803,
];
/// What else a switch does.
const BRIDGES: [u16; 8] = [
    0x5100, 0x5101, 0x5102, 0x5200, 0x5201, 0x5202, 0x5203, 0x5300,
];
/// What else a memory device does for its manager. Its division is fixed: there is no 5402h.
const DEVICE: [u16; 14] = [
    0x0100, 0x0101, 0x5300, 0x5400, 0x5401, 0x5600, 0x5601, 0x5602, 0x5603, 0x5604, 0x5605, 0x5606,
    0x5607, 0x5608,
];
/// What one of several heads does besides.
const SEVERAL: [u16; 2] = [0x5500, 0x5501];

fn does(cci: Cci, opcode: u16) -> bool {
    let own: &[u16] = match cci {
        Cci::Mailbox { .. } => &HOST,
        Cci::Switch(_) => &BRIDGES,
        Cci::Memdev(_) => &DEVICE,
    };
    let is_of_heads = cci == HEADS && SEVERAL.contains(&opcode);
    ALL.contains(&opcode) || own.contains(&opcode) || is_of_heads
}

pub(crate) fn rows() -> Vec<Row> {
    [lengths(), elsewhere(), tunnelled(), unknown()].concat()
}

fn lengths() -> Vec<Row> {
    let mut all = base::one_of_each();
    all.push(base::abort());
    all.iter().flat_map(lengths_of).collect()
}

fn lengths_of(base: &Base) -> Vec<Row> {
    let length = base.payload().len();
    let shorter = [0, length / 2, length.saturating_sub(1)];
    let mut lengths: BTreeSet<usize> = shorter.into_iter().filter(|&it| it < length).collect();
    lengths.extend([length + 1, length + 64]);
    if base.number() == 0x0103 {
        // The fifth byte came later, and may be absent.
        lengths.remove(&4);
        lengths.insert(3);
    }
    let rule = "as long as the command and its counts say";
    lengths
        .into_iter()
        .map(|length| base.long(length, rule))
        .collect()
}

/// Commands where they are not done. 5500h and 5501h are a matter of the device, which is looked
/// at after the payload.
fn elsewhere() -> Vec<Row> {
    let (rule, also) = (
        "not of this interface",
        "not of this interface, whatever is in it",
    );
    let mut rows = vec![
        base::set_allocations().no(Unsupported, "the division is fixed"),
        base::set_allocations()
            .at(HEADS)
            .no(Unsupported, "the division is fixed"),
    ];
    for base in base::one_of_each()
        .into_iter()
        .chain([base::set_allocations()])
    {
        let of_heads = SEVERAL.contains(&base.number());
        for cci in [H0, SWITCH, POOL, SINGLE] {
            let is_pool = matches!(cci, Cci::Memdev(_));
            if does(cci, base.number()) || (is_pool && base.number() == 0x5402) {
                continue;
            }
            let base = base.at(cci);
            rows.push(base.no(Unsupported, rule));
            if !(is_pool && of_heads) && cci != SINGLE {
                rows.push(base.of(&[0xff; 3], Unsupported, also));
            }
        }
    }
    rows
}

fn tunnelled() -> Vec<Row> {
    let end = TunnelTarget::PortOrLd;
    let mut rows = Vec::new();
    for base in base::one_of_each() {
        if !does(POOL, base.number()) {
            let rule = "not of the device behind the switch";
            rows.push(base.through(SWITCH, &[(2, end)]).no(Unsupported, rule));
        }
        if !does(H0, base.number()) {
            let rule = "not of a logical device";
            rows.push(base.through(POOL, &[(1, end)]).no(Unsupported, rule));
            rows.push(
                base.through(SWITCH, &[(2, end), (2, end)])
                    .no(Unsupported, rule),
            );
        }
    }
    rows
}

fn unknown() -> Vec<Row> {
    let base = base::abort();
    let rows = UNKNOWN.iter().flat_map(|&opcode| {
        let at = |cci| {
            base.at(cci)
                .opcode(opcode)
                .no(Unsupported, "no such command")
        };
        [H0, SWITCH, POOL].map(at)
    });
    rows.collect()
}
