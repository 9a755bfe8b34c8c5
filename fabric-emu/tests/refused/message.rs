//! Rows by the header of the message, and by the way to the interface. Nobody answers to these.

use fabric_emu::fabric::Cci;
use fabric_emu::id::{MemdevId, SwitchId};

use super::base;
use super::rig::{H0, POOL, SWITCH, Situation, mailbox};
use super::row::{Answer, Row, message};

pub(crate) fn rows() -> Vec<Row> {
    [short(), headers(), ways()].concat()
}

fn raw(cci: Cci, message: Vec<u8>, what: &str, rule: &'static str) -> Row {
    Row {
        situation: Situation::Rich,
        cci,
        message,
        layers: 0,
        answer: Answer::Dropped,
        what: format!("0001 {what}"),
        rule,
    }
}

/// A header that is not all there.
fn short() -> Vec<Row> {
    let whole = message(0x0001, &[]);
    let row = |length: usize| {
        let what = format!("{length} of 12 bytes");
        raw(
            SWITCH,
            whole[..length].to_vec(),
            &what,
            "a header has 12 bytes",
        )
    };
    (0..whole.len()).map(row).collect()
}

fn headers() -> Vec<Row> {
    let changes: [(usize, u8, &str, &'static str); 20] = [
        (0x00, 0x01, "category 1", "an answer is no command"),
        (0x00, 0x02, "category 2", "no such category"),
        (0x00, 0x08, "category 8", "no such category"),
        (0x00, 0x0f, "category 15", "no such category"),
        (0x00, 0x10, "byte 0 bit 4", "reserved"),
        (0x00, 0x20, "byte 0 bit 5", "reserved"),
        (0x00, 0x40, "byte 0 bit 6", "reserved"),
        (0x00, 0x80, "byte 0 bit 7", "reserved"),
        (0x02, 0x01, "byte 2 bit 0", "reserved"),
        (0x02, 0xff, "byte 2 full", "reserved"),
        (0x05, 0x01, "length 1", "there is no payload"),
        (0x05, 0xff, "length 255", "there is no payload"),
        (0x06, 0x01, "length 256", "there is no payload"),
        (0x07, 0x01, "length 65536", "there is no payload"),
        (0x07, 0x1f, "length 2031616", "there is no payload"),
        (0x07, 0x20, "byte 7 bit 5", "reserved"),
        (0x07, 0x40, "byte 7 bit 6", "reserved"),
        (0x08, 0x21, "return code 33", "no such code"),
        (0x08, 0xff, "return code 255", "no such code"),
        (0x09, 0x01, "return code 256", "no such code"),
    ];
    let row = |cci, (at, value, what, rule): (usize, u8, &str, &'static str)| {
        let mut message = message(0x0001, &[]);
        message[at] = value;
        raw(cci, message, what, rule)
    };
    let mut rows: Vec<Row> = [SWITCH, H0]
        .iter()
        .flat_map(|&cci| changes.map(|it| row(cci, it)))
        .collect();
    let mut long = message(0x0001, &[]);
    long.push(0);
    rows.push(raw(
        POOL,
        long,
        "a byte more",
        "the header says that there is no payload",
    ));
    let mut less = message(0x0004, &[12]);
    less[0x05] = 0;
    rows.push(raw(POOL, less, "length 0", "there is a payload"));
    rows
}

/// Interfaces where nobody is.
fn ways() -> Vec<Row> {
    let all = [
        (mailbox(0, 0, 1), "it is host 1's"),
        (mailbox(0, 0, 2), "it is bound to nobody"),
        (mailbox(0, 0, 3), "no such logical device"),
        (mailbox(0, 0, u16::MAX), "no such logical device"),
        (mailbox(1, 0, 0), "it is host 0's"),
        (mailbox(1, 1, 0), "it is host 0's"),
        (mailbox(0, 1, 1), "it has one logical device"),
        (mailbox(0, 2, 0), "no bridge leads there"),
        (mailbox(1, 2, 0), "it is at the other head"),
        (mailbox(0, 3, 0), "no such device"),
        (mailbox(2, 0, 0), "the host is dead"),
        (mailbox(2, 0, 2), "the host is dead"),
        (mailbox(3, 0, 0), "no such host"),
        (mailbox(u16::MAX, 0, 0), "the manager comes by a tunnel"),
        (Cci::Memdev(MemdevId(3)), "no such device"),
        (Cci::Memdev(MemdevId(u16::MAX)), "no such device"),
        (Cci::Switch(SwitchId(1)), "no such switch"),
        (Cci::Switch(SwitchId(u16::MAX)), "no such switch"),
    ];
    let rows = all.iter().flat_map(|&(cci, rule)| {
        let identify = raw(cci, message(0x0001, &[]), "as it is", rule);
        [identify, base::limit().at(cci).whole(Answer::Dropped, rule)]
    });
    rows.collect()
}
