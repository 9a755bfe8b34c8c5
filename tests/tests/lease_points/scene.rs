//! The daemon and the domain, and what this process, the survivor, knows of unit 0.

use std::fmt;

use client_sdk::{
    AttachOptions, Bytes, Create, Domain, DomainOptions, LeaseError, OnDeath, Pool, Slot,
};
use coherence::{Layout, Own};
use pool_core::Nanos;
use pool_core::sync::{Mutex, MutexGuard, lock};
use pool_proto::admin::v1::DomainCheck;
use tierpool_tests::contents::{self, PATIENCE};
use tierpool_tests::daemon::Daemon;
use tierpool_tests::lessee::Lessee;
use tierpool_tests::setup::Setup;
use tierpool_tests::{EXTENT, until};

/// The pools of all tests have the same addresses: one at a time is mapped in this process.
static ONE_POOL: Mutex<()> = Mutex::new(());

/// Bytes of a unit.
pub(crate) const UNIT: Bytes = Bytes::new(4_096);
/// Where in a descriptor the event is that those who sleep wait for, in words.
const EVENT: usize = 3;
/// The slot of the member that dies: this process has the first one.
pub(crate) const VICTIM: u64 = 2;

/// How long survivors waited since the member went on to die, or the daemon was started again.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    count: u32,
    sum: Nanos,
    longest: Nanos,
}

impl Waits {
    pub(crate) fn add(&mut self, wait: Nanos) {
        self.count += 1;
        self.sum = self.sum.saturating_add(wait);
        self.longest = self.longest.max(wait);
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mean = self.sum.get() / u64::from(self.count.max(1)) / 1_000;
        let longest = self.longest.get() / 1_000;
        let count = self.count;
        write!(f, "{count} waits: mean {mean} us, longest {longest} us")
    }
}

pub(crate) struct Scene {
    pub(crate) domain: Domain,
    _pool: Pool,
    pub(crate) daemon: Daemon,
    pub(crate) on_death: OnDeath,
    /// The number of the contents of unit 0 that were published last, and their version.
    pub(crate) number: u64,
    pub(crate) version: u64,
    /// That the daemon ended, and those that ended while it was dead.
    pub(crate) waits: [Waits; 2],
    _turn: MutexGuard<'static, ()>,
}

/// A daemon, and a process attached to it: this one, while the guard lives.
pub(crate) fn attached() -> (MutexGuard<'static, ()>, Daemon, Pool) {
    let turn = lock(&ONE_POOL);
    let setup = Setup {
        // Whoever lives may take as long as it likes to come back.
        grace_ms: 3_600_000,
        ..Setup::small(16)
    };
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_daemon"), &setup);
    let options = AttachOptions::new().socket(daemon.session_socket());
    let pool = Pool::attach(&options.tenant("left")).expect("attach");
    (turn, daemon, pool)
}

/// A member in a process of its own.
pub(crate) fn lessee(daemon: &Daemon, role: &str, number: u64, crash: Option<&str>) -> Lessee {
    let (program, number) = (env!("CARGO_BIN_EXE_lessee"), number.to_string());
    Lessee::start(
        program,
        daemon,
        &["left", "units", "0", role, &number],
        crash,
    )
}

/// A member in the slot of one that died, once it is given again.
pub(crate) fn in_the_victims_slot(
    daemon: &Daemon,
    role: &str,
    number: u64,
    crash: Option<&str>,
) -> Lessee {
    until("the slot is given again", || {
        let mut next = lessee(daemon, role, number, crash);
        if next.tells() == VICTIM {
            return Some(next);
        }
        next.is_killed();
        None
    })
}

/// What the words of the one domain say, by the daemon, whose books balance.
pub(crate) fn row(daemon: &Daemon) -> DomainCheck {
    until("the daemon has seen to the domain", || {
        daemon.balanced().domains.first().copied()
    })
}

/// What the ownership word of a unit says.
pub(crate) fn own(domain: &Domain, unit: u32) -> Own {
    Own::judge(words(domain, unit)[0]).expect("it is one")
}

/// The first words of a descriptor.
pub(crate) fn words(domain: &Domain, unit: u32) -> [u64; 4] {
    let layout = Layout::new(domain.bytes(), domain.unit_bytes()).expect("it is a domain");
    let line = layout.line_at(unit).expect("it has the unit");
    let mut words = [0; 4];
    let view = domain.segment().view(line, words.len());
    let read = view.and_then(|view| view.read_into(0, &mut words));
    read.expect("it is mapped");
    words
}

/// How often those who sleep on unit 0 were woken.
pub(crate) fn wakes(domain: &Domain) -> u32 {
    // The event is the lower half of the word.
    u32::try_from(words(domain, 0)[EVENT] & u64::from(u32::MAX)).unwrap_or(0)
}

/// Whether somebody holds a unit in this slot.
pub(crate) fn holds(domain: &Domain, slot: u64) -> bool {
    let slot = u8::try_from(slot).ok().and_then(Slot::new);
    let slot = slot.expect("it is one");
    (0..domain.units()).any(|unit| own(domain, unit).is_held_by(slot))
}

impl Scene {
    pub(crate) fn new(on_death: OnDeath) -> Self {
        Self::of(on_death, false)
    }

    /// One whose units have checksums.
    pub(crate) fn summed(on_death: OnDeath) -> Self {
        Self::of(on_death, true)
    }

    fn of(on_death: OnDeath, checksums: bool) -> Self {
        let (turn, daemon, pool) = attached();
        let create = Create::new("ddr", Bytes::new(EXTENT)).name("units");
        let options = DomainOptions::new().unit_bytes(UNIT).on_death(on_death);
        let options = options.checksums(checksums);
        let domain = pool.create_domain(&create, &options).expect("a domain");
        let mut scene = Self {
            domain,
            _pool: pool,
            daemon,
            on_death,
            number: 0,
            version: 0,
            waits: Default::default(),
            _turn: turn,
        };
        scene.publish();
        scene
    }

    /// Publishes the next contents.
    fn publish(&mut self) {
        let unit = self.domain.unit(0).expect("it has one");
        let mut guard = unit.write(PATIENCE).expect("it is had");
        self.number = contents::change(&mut guard);
        self.version = guard.release().expect("it stands");
    }

    /// Gives the contents up, half of a change in them.
    pub(crate) fn abandon(&self) {
        let unit = self.domain.unit(0).expect("it has one");
        let mut guard = unit.write(PATIENCE).expect("it is had");
        contents::write_half(&mut guard);
        guard.abandon().expect("it stands");
    }

    /// Lets a member die that has written half of a change.
    pub(crate) fn lose(&self) {
        let mut writer = lessee(&self.daemon, "writes", 0, None);
        assert_eq!(writer.tells(), self.version);
        writer.is_killed();
        let unit = self.domain.unit(0).expect("it has one");
        let lost = unit.read(PATIENCE).map(drop);
        assert!(matches!(lost, Err(LeaseError::Lost { .. })), "{lost:?}");
    }

    /// Writes what is lost anew, with the next number.
    pub(crate) fn restore(&mut self) {
        let unit = self.domain.unit(0).expect("it has one");
        let lost = unit.read(PATIENCE).map(drop);
        assert!(matches!(lost, Err(LeaseError::Lost { .. })), "{lost:?}");
        let mut guard = unit.restore().expect("it is lost");
        self.number += 1;
        contents::write_anew(&mut guard, self.number);
        self.version = guard.release().expect("it stands");
    }

    /// The slot of the dead one is given to a new member, which can work, and nobody holds
    /// anything.
    pub(crate) fn is_succeeded(&mut self) {
        let mut next = in_the_victims_slot(&self.daemon, "succeeds", 0, None);
        assert!(
            !holds(&self.domain, VICTIM),
            "what the dead one held is held still"
        );
        next.goes_on();
        assert_eq!(next.tells(), self.number + 1);
        next.ends_well();
        self.is_at_rest();
        let guard = self.domain.unit(0).and_then(|unit| unit.read(PATIENCE));
        let guard = guard.expect("it is free");
        (self.number, self.version) = (contents::read(&guard), guard.version());
    }

    /// Tells how long survivors waited.
    pub(crate) fn tell_waits(&self) {
        let [with, without] = &self.waits;
        println!("with the daemon: {with}\nwhile it was dead: {without}");
    }

    /// This process is the only member, holds nothing, and the pool balances.
    fn is_at_rest(&self) {
        let row = until("nobody else is a member", || {
            let row = row(&self.daemon);
            (row.members == 1).then_some(row)
        });
        assert_eq!((row.free, row.violations), (row.units, 0), "{row:?}");
    }
}
