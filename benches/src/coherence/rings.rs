//! Rings between the two processes: how many records a second, and a lease whose hand-over a record
//! tells of, as a client of the pool would.
//!
//! The rings lie in the tools of the domain, zeroed and made anew for each run by this process
//! before the other is told to open them.

use anyhow::{Context as _, ensure};
use coherence::ring::{Capacity, Mpsc, Owner, RingMemory, Spsc, mpsc, spsc};
use coherence::{FutexWait, Slot};
use pool_core::Bytes;
use pool_core::clock::Deadline;
use serde::{Deserialize, Serialize};

use super::domain::{Domain, Object};
use super::partner::{Partner, Side, Task, announce, meet, patience, spin};
use crate::contest::{Case, Contender, hold, number, timed};
use crate::report::Report;

/// Words of a record: 64 bytes, as much as the small object.
const WORDS: usize = 8;
/// Records that a ring holds.
const CAPACITY: u64 = 1024;
/// Records of a run.
const RECORDS: u32 = 1 << 18;
/// Records that are made visible together where that is measured.
const TOGETHER: u32 = 32;

/// How records go from this process to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stream {
    /// One by one; whoever finds nothing sleeps.
    Single,
    /// One by one, through a ring that has room for many producers.
    Many,
    /// Several made visible, and taken, at a time.
    Batched,
    /// By a pipe, one a call.
    Pipe,
}

/// All cases of this part.
pub(super) fn measure(
    side: &Side<'_>,
    partner: &Partner,
    rounds: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    for (name, stream) in [
        ("one producer, one by one", Stream::Single),
        ("one producer, 32 at a time", Stream::Batched),
        ("ring for many producers, one by one", Stream::Many),
    ] {
        let case = Case::rate(format!("records of 64 B to another process: {name}"));
        let ours = || flow(side, partner, stream);
        let pipe = Contender::new("pipe", || flow(side, partner, Stream::Pipe));
        report.add(hold(&case, rounds, ours, vec![pipe])?)?;
    }
    Ok(())
}

/// Records a second.
fn flow(side: &Side<'_>, partner: &Partner, stream: Stream) -> anyhow::Result<f64> {
    announce(side.domain)?;
    make(side.domain)?;
    partner.tell(Task::Drain(stream))?;
    meet(side.domain)?;
    let (time, sent) = timed(|| {
        fill(side, partner, stream)?;
        partner.done()
    });
    let sum = sent?;
    let expected = u64::from(RECORDS) * u64::from(RECORDS - 1) / 2;
    ensure!(sum == expected, "records that add up to {sum} came");
    Ok(number(u64::from(RECORDS)) * 1e9 / time)
}

fn fill(side: &Side<'_>, partner: &Partner, stream: Stream) -> anyhow::Result<()> {
    let until = patience();
    match stream {
        Stream::Single => {
            let mut producer = ring(side.domain, 0)?.producer(owner(side)?)?;
            for number in 0..RECORDS {
                producer.push(&[u64::from(number); WORDS], &FutexWait, until)?;
            }
        }
        Stream::Batched => {
            let mut producer = ring(side.domain, 0)?.producer(owner(side)?)?;
            for batch in 0..RECORDS / TOGETHER {
                let record = |n| [u64::from(batch * TOGETHER + n); WORDS];
                let records: Vec<_> = (0..TOGETHER).map(record).collect();
                push_all(&mut producer, &records, until)?;
            }
        }
        Stream::Many => {
            let sender = many(side.domain)?.sender(owner(side)?);
            for number in 0..RECORDS {
                sender.push(&[u64::from(number); WORDS], &FutexWait, until)?;
            }
        }
        Stream::Pipe => {
            for number in 0..RECORDS {
                let mut bytes = [0; 8 * WORDS];
                let (head, _) = bytes.split_at_mut(8);
                head.copy_from_slice(&u64::from(number).to_le_bytes());
                partner.send(&bytes)?;
            }
        }
    }
    Ok(())
}

fn push_all(
    producer: &mut spsc::Producer<'_, WORDS>,
    records: &[[u64; WORDS]],
    until: Deadline,
) -> anyhow::Result<()> {
    let mut left = records;
    while let Some(first) = left.first() {
        let pushed = match producer.try_push_many(left) {
            Ok(pushed) => pushed,
            Err(coherence::ring::RingError::Full) => {
                producer.push(first, &FutexWait, until)?;
                1
            }
            Err(error) => return Err(error.into()),
        };
        producer.notify(&FutexWait);
        left = left.get(pushed..).unwrap_or_default();
    }
    Ok(())
}

/// The other side: the sum of what came.
pub(super) fn drain(side: &Side<'_>, stream: Stream) -> anyhow::Result<u64> {
    use std::io::Read as _;
    let until = patience();
    let mut sum = 0;
    meet(side.domain)?;
    match stream {
        Stream::Single => {
            let mut consumer = ring(side.domain, 0)?.consumer(owner(side)?)?;
            for _ in 0..RECORDS {
                let [first, ..] = consumer.pop(&FutexWait, until)?;
                sum += first;
            }
        }
        Stream::Batched => {
            let mut consumer = ring(side.domain, 0)?.consumer(owner(side)?)?;
            let mut records = [[0; WORDS]; 32];
            let mut left = RECORDS;
            while left > 0 {
                consumer.wait(&FutexWait, until)?;
                let count = consumer.try_pop_many(&mut records)?;
                consumer.notify(&FutexWait);
                let came = records.iter().take(count);
                sum += came.map(|[first, ..]| first).sum::<u64>();
                left = left.saturating_sub(u32::try_from(count)?);
            }
        }
        Stream::Many => {
            let mut receiver: mpsc::Receiver<'_, WORDS> =
                many(side.domain)?.receiver(owner(side)?)?;
            for _ in 0..RECORDS {
                let [first, ..] = receiver.pop(&FutexWait, until, |_| false)?;
                sum += first;
            }
        }
        Stream::Pipe => {
            let mut input = std::io::stdin().lock();
            let mut bytes = [0; 8 * WORDS];
            for _ in 0..RECORDS {
                input.read_exact(&mut bytes)?;
                sum += u64::from_le_bytes(*bytes.first_chunk().context("a record")?);
            }
        }
    }
    Ok(sum)
}

/// Makes all rings anew.
pub(super) fn make(domain: &Domain) -> anyhow::Result<()> {
    let capacity = Capacity::new(CAPACITY)?;
    for number in 0..2 {
        let memory = domain.ring_memory(number)?;
        let words = usize::try_from(memory.bytes().get() / 8)?;
        memory.write_view::<u64>(Bytes::ZERO, words)?.fill(0);
        Spsc::<WORDS>::create(RingMemory::mapped(memory)?, capacity)?;
    }
    let memory = domain.ring_memory(2)?;
    let words = usize::try_from(memory.bytes().get() / 8)?;
    memory.write_view::<u64>(Bytes::ZERO, words)?.fill(0);
    Mpsc::<WORDS>::create(RingMemory::mapped(memory)?, capacity)?;
    Ok(())
}

fn ring(domain: &Domain, number: u32) -> anyhow::Result<Spsc<'_, WORDS>> {
    Ok(Spsc::open(RingMemory::mapped(
        domain.ring_memory(number)?,
    )?)?)
}

fn many(domain: &Domain) -> anyhow::Result<Mpsc<'_, WORDS>> {
    Ok(Mpsc::open(RingMemory::mapped(domain.ring_memory(2)?)?)?)
}

fn owner(side: &Side<'_>) -> anyhow::Result<Owner> {
    let slot = Slot::new(u8::try_from(side.number)? + 1);
    let slot = slot.context("no such slot")?;
    Ok(Owner { slot, era: 1 })
}

/// A hand-over of which a record tells: the number of the unit, and the version that was published.
#[derive(Debug)]
pub(super) struct Mailbox<'a> {
    side: &'a Side<'a>,
    to: spsc::Producer<'a, WORDS>,
    from: spsc::Consumer<'a, WORDS>,
    object: Object<'a>,
    spins: bool,
    until: Deadline,
}

impl<'a> Mailbox<'a> {
    /// This side's, after both rings were made.
    pub(super) fn of(side: &'a Side<'a>, bytes: u64, spins: bool) -> anyhow::Result<Self> {
        let (there, back) = (ring(side.domain, 0)?, ring(side.domain, 1)?);
        let (to, from) = if side.number == 0 {
            (there, back)
        } else {
            (back, there)
        };
        Ok(Self {
            side,
            to: to.producer(owner(side)?)?,
            from: from.consumer(owner(side)?)?,
            object: side.domain.object(0, bytes)?,
            spins,
            until: patience(),
        })
    }

    /// Takes the unit, finds what the record said, changes it, lets go and tells.
    #[inline]
    pub(super) fn hand_on(&mut self, unit: u32, version: Option<u64>) -> anyhow::Result<()> {
        let (member, line) = (&self.side.member, self.side.domain.line(unit)?);
        let grant = member.exclusive(line, self.until)?;
        // What lies there before the first turn is of another run.
        let found = match version {
            None => 0,
            Some(told) => {
                ensure!(told == grant.version, "{} is not {told}", grant.version);
                self.object.read()?
            }
        };
        self.object.write(found.wrapping_add(1));
        let version = member.release_exclusive(line, &grant, true)?;
        let record = [u64::from(unit), version, 0, 0, 0, 0, 0, 0];
        if self.spins {
            Ok(self.to.try_push(&record)?)
        } else {
            Ok(self.to.push(&record, &FutexWait, self.until)?)
        }
    }

    /// Waits for word of the other.
    #[inline]
    pub(super) fn await_word(&mut self) -> anyhow::Result<(u32, Option<u64>)> {
        let [unit, version, ..] = if self.spins {
            let mut came = Ok(None);
            spin(|| {
                came = self.from.try_pop();
                !matches!(came, Ok(None))
            })?;
            came?.context("no record came")?
        } else {
            self.from.pop(&FutexWait, self.until)?
        };
        Ok((u32::try_from(unit)?, Some(version)))
    }
}
