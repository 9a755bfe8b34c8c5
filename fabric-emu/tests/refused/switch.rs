//! Rows of the switch: ports, virtual switches, bridges, and tunnels from there on.

use fabric_emu::cci::ReturnCode::{InvalidInput, InvalidPayloadLength, Unsupported};
use fabric_emu::cci::tunnel::TunnelTarget::{LdPool, PortOrLd};

use super::base;
use super::rig::{POOL, SWITCH};
use super::row::{Row, b1, b2, b4, bytes, message};

pub(crate) fn rows() -> Vec<Row> {
    [
        ports(),
        virtual_switches(),
        binds(),
        unbinds(),
        errors(),
        tunnels(),
        layers(),
    ]
    .concat()
}

fn ports() -> Vec<Row> {
    let ports = base::ports(&[2, 3]);
    let rule = "the count is not that of the ports";
    let mut rows: Vec<Row> = [0, 1, 3, 0xff]
        .map(|count| ports.with(&[b1(0, count)], InvalidPayloadLength, rule))
        .to_vec();
    let control = base::control();
    for port in [5, 7, 0x80, 0xff] {
        rows.push(control.with(&[b1(0, port)], InvalidInput, "nothing is on the port"));
    }
    for operation in [3, 4, 0x80, 0xff] {
        rows.push(control.with(&[b1(1, operation)], InvalidInput, "no such operation"));
    }
    rows.push(control.with(
        &[b1(0, 5), b1(1, 0)],
        InvalidInput,
        "nothing is on the port",
    ));
    rows.push(control.with(
        &[b1(0, 5), b1(1, 1)],
        InvalidInput,
        "nothing is on the port",
    ));
    rows
}

fn virtual_switches() -> Vec<Row> {
    let all = base::virtual_switches(&[0, 1]);
    let rule = "the count is not that of the virtual switches";
    let mut rows: Vec<Row> = [0, 1, 3, 0xff]
        .map(|count| all.with(&[b1(2, count)], InvalidPayloadLength, rule))
        .to_vec();
    rows.push(all.with(&[b1(1, 0)], InvalidInput, "a limit is from 1 to 255"));
    rows.push(base::virtual_switches(&[]).no(InvalidInput, "one is named at least"));
    rows
}

fn binds() -> Vec<Row> {
    let bind = base::bind();
    let to = |port, ld| [b1(2, port), b2(4, ld)];
    let mut rows = Vec::new();
    for vcs in [3, 4, 0x80, 0xff] {
        rows.push(bind.with(&[b1(0, vcs)], InvalidInput, "no such virtual switch"));
    }
    for vppb in [3, 4, 0x80, 0xff] {
        rows.push(bind.with(&[b1(1, vppb)], InvalidInput, "no such bridge"));
    }
    for port in [7, 0x80, 0xff] {
        rows.push(bind.with(&[b1(2, port)], InvalidInput, "no such port"));
    }
    for port in [0, 1, 6] {
        rows.push(bind.with(&[b1(2, port)], InvalidInput, "the port leads to a host"));
    }
    rows.push(bind.with(&[b1(2, 5)], InvalidInput, "nothing is on the port"));
    for ld in [3, 4, 15, 16, 0xff, 0x0100, 0xfffe] {
        rows.push(bind.with(&to(2, ld), InvalidInput, "no such logical device"));
    }
    rows.push(bind.with(&to(2, 0xffff), InvalidInput, "the device has several"));
    for ld in [0, 1, 0xfffe] {
        rows.push(bind.with(&to(4, ld), InvalidInput, "the port has no logical devices"));
    }
    rows.push(bind.with(
        &to(3, 0xffff),
        InvalidInput,
        "it is bound to another bridge",
    ));
    rows.push(bind.with(&to(2, 0), InvalidInput, "it is bound to another bridge"));
    rows.push(bind.with(&to(2, 1), InvalidInput, "it is bound to another bridge"));
    for (vcs, vppb) in [(0, 0), (0, 1), (1, 0)] {
        let rule = "the bridge is bound";
        rows.push(bind.with(&[b1(0, vcs), b1(1, vppb)], InvalidInput, rule));
    }
    let again = [b1(0, 0), b1(1, 0), b1(2, 2), b2(4, 0)];
    rows.push(bind.with(&again, InvalidInput, "it is bound to that already"));
    rows
}

fn unbinds() -> Vec<Row> {
    let unbind = base::unbind();
    let mut rows = Vec::new();
    for vcs in [3, 0x80, 0xff] {
        rows.push(unbind.with(&[b1(0, vcs)], InvalidInput, "no such virtual switch"));
    }
    for vppb in [3, 0x80, 0xff] {
        rows.push(unbind.with(&[b1(1, vppb)], InvalidInput, "no such bridge"));
    }
    for (vcs, vppb) in [(0, 2), (1, 1), (1, 2), (2, 0), (2, 2)] {
        let rule = "the bridge is not bound";
        rows.push(unbind.with(&[b1(0, vcs), b1(1, vppb)], InvalidInput, rule));
    }
    for option in [3, 4, 0x80, 0xff] {
        rows.push(unbind.with(&[b1(2, option)], InvalidInput, "no such option"));
    }
    rows
}

fn errors() -> Vec<Row> {
    let aer = base::aer();
    let mut rows = Vec::new();
    for vcs in [3, 0x80, 0xff] {
        rows.push(aer.with(&[b1(0, vcs)], InvalidInput, "no such virtual switch"));
    }
    for vppb in [4, 5, 0xff] {
        rows.push(aer.with(&[b1(1, vppb)], InvalidInput, "no such bridge"));
    }
    for bits in [0x20, 0x0100, 0x4000_0000, 0x7fff_ffe0, u32::MAX] {
        rows.push(aer.with(&[b4(4, bits)], InvalidInput, "reserved bits"));
    }
    rows
}

fn tunnels() -> Vec<Row> {
    let mut rows = Vec::new();
    let switch = base::tunnel(2, PortOrLd);
    for port in [0, 1, 6] {
        rows.push(switch.with(&[b1(0, port)], InvalidInput, "the port leads to a host"));
    }
    for port in [5, 7, 0xff] {
        rows.push(switch.with(&[b1(0, port)], InvalidInput, "nothing is on the port"));
    }
    rows.push(switch.with(&[b1(1, 1)], InvalidInput, "a switch is no device"));
    let pool = base::tunnel(1, PortOrLd).at(POOL);
    for ld in [3, 4, 15, 0x80, 0xff] {
        rows.push(pool.with(&[b1(0, ld)], InvalidInput, "no such logical device"));
    }
    for base in [switch, pool] {
        for target in [2, 3, 0x80, 0xff] {
            rows.push(base.with(&[b1(1, target)], InvalidInput, "no such target"));
        }
        for count in [0, 11, 13, 0x0100, 0xffff] {
            let rule = "the count is not that of the message";
            rows.push(base.with(&[b2(2, count)], InvalidPayloadLength, rule));
        }
        let cut = |length: u16| {
            let inner = &message(0x0001, &[])[..length.into()];
            let payload = [&base.payload()[..2], &length.to_le_bytes(), inner].concat();
            base.of(
                &payload,
                InvalidPayloadLength,
                "the message has no whole header",
            )
        };
        rows.extend([0, 1, 11].map(cut));
        for length in [1, 0xff] {
            let rule = "the message is not as long as it says";
            rows.push(base.with(&[b1(4 + 5, length)], InvalidPayloadLength, rule));
        }
        for category in [1, 2, 0x0f, 0x10, 0x80] {
            let rule = "what is in a tunnel is a command";
            rows.push(base.with(&[b1(4, category)], InvalidInput, rule));
        }
        rows.push(base.with(&[b1(4 + 2, 1)], InvalidInput, "reserved byte of the header"));
        rows.push(base.with(
            &[b1(4 + 7, 0x20)],
            InvalidInput,
            "reserved bit of the header",
        ));
        rows.push(base.with(&[b1(4 + 8, 0xff)], InvalidInput, "no such return code"));
        let rule = "the answer to a command is no command";
        rows.push(base.with(&[bytes(4, &[1, 7, 0, 3, 0])], InvalidInput, rule));
    }
    rows
}

fn layers() -> Vec<Row> {
    let pool = (0, LdPool);
    let device = (2, PortOrLd);
    let rule = "more than three layers of tunnels";
    let all = [
        (POOL, vec![pool, pool, pool, pool]),
        (POOL, vec![pool, pool, pool, (1, PortOrLd)]),
        (SWITCH, vec![device, pool, pool, pool]),
        (SWITCH, vec![device, pool, pool, (1, PortOrLd)]),
    ];
    // The tunnel that is one too many is refused, and the command in it is not looked at.
    let row = |(cci, way): (_, Vec<_>)| {
        let mut row = base::limit().through(cci, &way).no(Unsupported, rule);
        row.layers -= 1;
        row.what = format!("5300 with {}", row.what);
        row
    };
    all.map(row).to_vec()
}
