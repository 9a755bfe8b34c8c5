//! An object goes from one process to the other and back: nothing of it is copied, and each touches
//! both its ends.
//!
//! The lease carries the right and the order, and a record in a ring tells of it. Below that lies
//! a lease with no more than a word that says whose turn it is, and below that the word alone: what
//! two processors need to hear of each other, with nothing that survives a death. One way is half
//! of a round trip; batches of [`BATCH`] round trips are timed, and their median counts.
//!
//! Who waits for a ring looks for a while before it sleeps, so where it is said to sleep it may not
//! have come to that; the words are slept on at once.

use std::io::{Read as _, Write as _};

use anyhow::ensure;
use pool_core::clock::Deadline;
use pool_core::futex;
use pool_core::sync::atomic::AtomicU32;
use pool_core::sync::atomic::Ordering::{Acquire, Release};
use pool_core::units::GIB;
use serde::{Deserialize, Serialize};

use super::domain::{Domain, Object, Shape, Tool};
use super::iceoryx;
use super::partner::{Partner, Pinned, Side, Task, announce, meet, patience, spin};
use super::rings::{self, Mailbox};
use crate::contest::{Case, Contender, hold, median, timed};
use crate::report::Report;

/// Round trips of one measurement.
const BATCH: u32 = 16;
/// The unit of the object.
const UNIT: u32 = 0;
/// Bytes of the small object: one line.
pub(super) const SMALL: u64 = 64;

/// How an object is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum By {
    /// A lease that is let go of and taken, and a word that tells of it.
    Lease,
    /// A lease, and a record in a ring that tells of it.
    Ring,
    /// The word alone.
    Word,
    /// A pipe that the bytes go through.
    Pipe,
    /// A publisher and a subscriber of the peer.
    Iceoryx,
}

/// How each waits for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Waiting {
    /// It looks all the time.
    Spinning,
    /// It sleeps and is woken; both run on one processor.
    AsleepOnOne,
    /// It sleeps and is woken by the other processor.
    AsleepOnTwo,
}

/// One contest of handing over.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Pass {
    by: By,
    waiting: Waiting,
    bytes: u64,
    trips: u32,
}

/// All cases of this part.
pub(super) fn measure(
    side: &Side<'_>,
    partner: &Partner,
    rounds: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let pass = |by, waiting| Pass {
        by,
        waiting,
        bytes: SMALL,
        trips: if waiting == Waiting::Spinning {
            4096
        } else {
            512
        },
    };
    let contender =
        |name, by, waiting| Contender::new(name, move || one_way(side, partner, pass(by, waiting)));
    for (how, waiting) in [
        ("spinning", Waiting::Spinning),
        ("asleep, on one processor", Waiting::AsleepOnOne),
        ("asleep, on two processors", Waiting::AsleepOnTwo),
    ] {
        let case = Case::time(format!("hand-over of 64 B, {how}"), "us");
        let mut peers = vec![contender("a shared word alone", By::Word, waiting)];
        if waiting == Waiting::Spinning {
            match iceoryx::VERSION {
                Ok(version) => {
                    let peer = contender("iceoryx2, polling", By::Iceoryx, waiting);
                    peers.push(peer.of(version()));
                }
                Err(why) => report.leave_out(case.name.clone(), "iceoryx2", why)?,
            }
        }
        peers.push(contender("pipe that carries it", By::Pipe, waiting));
        peers.push(contender("lease and word", By::Lease, waiting));
        let ours = || one_way(side, partner, pass(By::Ring, waiting));
        report.add(hold(&case, rounds, ours, peers)?)?;
    }
    large(side, partner, rounds, report)
}

/// A unit of 1 GiB is handed over like a small one.
fn large(
    small: &Side<'_>,
    small_partner: &Partner,
    rounds: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let domain = Domain::create(Shape {
        unit_bytes: GIB,
        units: 1,
    })?;
    let (side, partner) = (Side::new(&domain, 0)?, Partner::start(&domain)?);
    let pass = |by, bytes| Pass {
        by,
        waiting: Waiting::Spinning,
        bytes,
        trips: 4096,
    };
    let ours = || one_way(&side, &partner, pass(By::Ring, GIB));
    let peers = vec![
        Contender::new("tierpool, 64 B", || {
            one_way(small, small_partner, pass(By::Ring, SMALL))
        }),
        Contender::new("a shared word alone", || {
            one_way(&side, &partner, pass(By::Word, GIB))
        }),
    ];
    let case = Case::time("hand-over of 1 GiB, spinning", "us");
    report.add(hold(&case, rounds, ours, peers)?)
}

/// Microseconds from one to the other.
fn one_way(side: &Side<'_>, partner: &Partner, pass: Pass) -> anyhow::Result<f64> {
    announce(side.domain)?;
    rings::make(side.domain)?;
    partner.tell(Task::Pass(pass))?;
    let _pinned = pass.pin(side)?;
    let mut trips = Trips::default();
    match pass.by {
        By::Lease | By::Word => {
            let mut hands = Hands::of(side, pass)?;
            meet(side.domain)?;
            trips.make(pass, |_| hands.trip())?;
        }
        By::Ring => {
            let mut mailbox = Mailbox::of(side, pass.bytes, pass.spins())?;
            let mut told = (UNIT, None);
            meet(side.domain)?;
            trips.make(pass, |_| {
                mailbox.hand_on(told.0, told.1)?;
                told = mailbox.await_word()?;
                Ok(())
            })?;
        }
        By::Pipe => {
            let mut bytes = [0; 64];
            ensure!(
                bytes.len() as u64 == pass.bytes,
                "a pipe takes {SMALL} bytes"
            );
            meet(side.domain)?;
            trips.make(pass, |trip| {
                bytes.fill(u8::try_from(trip % 256)?);
                partner.send(&bytes)?;
                partner.receive(&mut bytes)
            })?;
        }
        By::Iceoryx => {
            let mail = iceoryx::Mail::new(std::process::id(), side.number)?;
            meet(side.domain)?;
            trips.make(pass, |trip| {
                mail.send(u64::from(trip))?;
                ensure!(
                    mail.receive()? == u64::from(trip),
                    "another object came back"
                );
                Ok(())
            })?;
        }
    }
    let made = partner.done()?;
    ensure!(
        made == u64::from(pass.trips),
        "the partner made {made} trips"
    );
    Ok(median(&trips.0) / f64::from(BATCH) / 2.0 / 1e3)
}

/// The other side.
pub(super) fn answer(side: &Side<'_>, pass: Pass) -> anyhow::Result<u64> {
    let _pinned = pass.pin(side)?;
    match pass.by {
        By::Lease | By::Word => {
            let mut hands = Hands::of(side, pass)?;
            meet(side.domain)?;
            for _ in 0..pass.trips {
                hands.trip()?;
            }
        }
        By::Ring => {
            let mut mailbox = Mailbox::of(side, pass.bytes, pass.spins())?;
            meet(side.domain)?;
            for _ in 0..pass.trips {
                let (unit, version) = mailbox.await_word()?;
                mailbox.hand_on(unit, version)?;
            }
        }
        By::Pipe => {
            let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
            let mut bytes = [0; 64];
            meet(side.domain)?;
            for _ in 0..pass.trips {
                input.read_exact(&mut bytes)?;
                output.write_all(&bytes)?;
                output.flush()?;
            }
        }
        By::Iceoryx => {
            let mail = iceoryx::Mail::new(std::os::unix::process::parent_id(), side.number)?;
            meet(side.domain)?;
            for _ in 0..pass.trips {
                let object = mail.receive()?;
                mail.send(object)?;
            }
        }
    }
    Ok(u64::from(pass.trips))
}

impl Pass {
    fn spins(self) -> bool {
        self.waiting == Waiting::Spinning
    }

    fn pin(self, side: &Side<'_>) -> anyhow::Result<Option<Pinned>> {
        let number = usize::try_from(side.number)?;
        Ok(match self.waiting {
            Waiting::Spinning => None,
            Waiting::AsleepOnOne => Some(Pinned::to(0)?),
            Waiting::AsleepOnTwo => Some(Pinned::to(number)?),
        })
    }
}

/// How long the batches of round trips took, in nanoseconds.
#[derive(Debug, Default)]
struct Trips(Vec<f64>);

impl Trips {
    fn make(
        &mut self,
        pass: Pass,
        mut trip: impl FnMut(u32) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for batch in 0..pass.trips / BATCH {
            let (time, done) = timed(|| (0..BATCH).try_for_each(|n| trip(batch * BATCH + n)));
            done?;
            self.0.push(time);
        }
        Ok(())
    }
}

/// What one side has in hand.
#[derive(Debug)]
struct Hands<'a> {
    side: &'a Side<'a>,
    pass: Pass,
    object: Object<'a>,
    turn: &'a AtomicU32,
    /// The turn that is this side's: even ones are of the side that begins.
    mine: u32,
    /// The version that the other has published; unknown before the first turn.
    version: Option<u64>,
    until: Deadline,
}

impl<'a> Hands<'a> {
    fn of(side: &'a Side<'a>, pass: Pass) -> anyhow::Result<Self> {
        Ok(Self {
            side,
            pass,
            object: side.domain.object(UNIT, pass.bytes)?,
            turn: side.domain.futex(Tool::Turn)?,
            mine: side.number,
            version: None,
            until: patience(),
        })
    }

    /// Waits for the turn, takes the object, touches it, and hands it on. The side that begins
    /// makes its first round trip with its second turn, and so on.
    #[inline]
    fn trip(&mut self) -> anyhow::Result<()> {
        self.await_turn()?;
        match self.pass.by {
            By::Lease => self.touch_leased()?,
            _ => self.touch()?,
        }
        let turn = self.mine.wrapping_add(1);
        // Release pairs with the acquire of whoever waits for its turn.
        self.turn.store(turn, Release);
        if !self.pass.spins() {
            futex::wake(self.turn, 1)?;
        }
        self.mine = self.mine.wrapping_add(2);
        Ok(())
    }

    #[inline]
    fn await_turn(&self) -> anyhow::Result<()> {
        if self.pass.spins() {
            return spin(|| self.turn.load(Acquire) == self.mine);
        }
        loop {
            let seen = self.turn.load(Acquire);
            if seen == self.mine {
                return Ok(());
            }
            ensure!(!self.until.expired(), "the other process does not come");
            futex::wait(self.turn, seen, self.until)?;
        }
    }

    #[inline]
    fn touch_leased(&mut self) -> anyhow::Result<()> {
        let (member, line) = (&self.side.member, self.side.domain.line(UNIT)?);
        let grant = member.exclusive(line, self.until)?;
        let expected = self.version.is_none_or(|version| version == grant.version);
        ensure!(expected, "version {} was granted", grant.version);
        self.touch()?;
        let published = member.release_exclusive(line, &grant, true)?;
        // The other publishes once before the next turn.
        self.version = Some(published.wrapping_add(1));
        Ok(())
    }

    #[inline]
    fn touch(&self) -> anyhow::Result<()> {
        let turn = u64::from(self.mine);
        if turn > 0 {
            let found = self.object.read()?;
            ensure!(
                found == turn,
                "turn {turn} finds the object of turn {found}"
            );
        }
        self.object.write(turn.wrapping_add(1));
        Ok(())
    }
}
