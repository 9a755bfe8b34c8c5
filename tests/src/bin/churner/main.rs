//! A client that does everything a client can, at random and without end, and looks after its
//! memory all the while. It is there to be killed: see the test `kill`.
//!
//! `churner SOCKET TENANT NUMBER SEED`. After each step it writes a byte to its standard output, if
//! there is room for one. Where memory holds what it should not, or a call fails in a way that the
//! deaths of others do not explain, it panics.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a churner that fails fails its test")]

mod own;
mod slots;

use std::time::Duration;

use client_sdk::{AttachOptions, Bytes, Error, Pool, Reason, Reserve};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tierpool_tests::EXTENT;
use tierpool_tests::churn::{FAILURE, STEP};
use tierpool_tests::random::Random;

use own::Own;
use slots::Slots;

/// Far longer than the daemon is ever dead: a call that fails for that reason is a failure.
const TIMEOUT: Duration = Duration::from_secs(120);
/// The tiers of the pool.
const TIERS: [&str; 2] = ["ddr", "pooled"];
/// Segments that are held at once, beside the slots.
const OWN_MAX: usize = 6;

fn main() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(FAILURE);
        say(panic);
    }));
    fcntl(std::io::stdout(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, tenant, number, seed] = &arguments[..] else {
        panic!("churner SOCKET TENANT NUMBER SEED");
    };
    let options = AttachOptions::new()
        .socket(socket)
        .tenant(tenant)
        .name("churner")
        .timeout(TIMEOUT)
        .wait_for_daemon(true);
    let pool = Pool::attach(&options).unwrap();
    let mut churner = Churner {
        reserve: pool.reserve(TIERS[0], Bytes::new(EXTENT), 1).unwrap(),
        slots: Slots::new(&pool, number.parse().unwrap()),
        own: Vec::new(),
        random: Random::new(seed.parse().unwrap()),
        pool,
    };
    loop {
        churner.step();
        tell(STEP);
    }
}

/// Tells the test of a step, or of a failure before anything else is said of it: killed while it
/// says more, it would seem to have been well.
fn tell(what: u8) {
    match nix::unistd::write(std::io::stdout(), &[what]) {
        // Nobody has read for a while.
        Ok(_) | Err(Errno::EAGAIN) => {}
        Err(errno) => panic!("the test is gone: {errno}"),
    }
}

struct Churner {
    pool: Pool,
    reserve: Reserve,
    random: Random,
    own: Vec<Own>,
    slots: Slots,
}

impl Churner {
    fn step(&mut self) {
        match self.random.below(16) {
            0..=2 => self.create(),
            3 => self.take(),
            4..=5 => self.change(Own::resize),
            6 => self.change(Own::relocate),
            7 => self.give_back(),
            8 => self.ask(),
            9..=11 => self.slots.write(),
            12 => self.slots.share_or_revoke(&mut self.random),
            13 => self.slots.look_at_another(&self.pool, &mut self.random),
            14 => self.slots.move_or_free(&mut self.random),
            _ => self.slots.open_own(&self.pool),
        }
        self.own.iter().for_each(Own::verify);
        self.slots.verify();
    }

    fn create(&mut self) {
        if self.own.len() < OWN_MAX {
            let made = Own::create(&self.pool, &mut self.random);
            self.own.extend(unless_short(made));
        }
    }

    fn take(&mut self) {
        if self.own.len() < OWN_MAX {
            let taken = self.reserve.take();
            let seed = self.random.number();
            self.own
                .extend(unless_short(taken).map(|segment| Own::new(segment, seed)));
        }
    }

    fn change(&mut self, change: fn(&mut Own, &mut Random)) {
        let count = self.own.len() as u64;
        if count > 0 {
            let index = usize::try_from(self.random.below(count)).unwrap();
            change(&mut self.own[index], &mut self.random);
        }
    }

    fn give_back(&mut self) {
        let count = self.own.len() as u64;
        if count > 0 {
            let index = usize::try_from(self.random.below(count)).unwrap();
            self.own.swap_remove(index).give_back(&mut self.random);
        }
    }

    fn ask(&self) {
        assert_eq!(self.pool.tiers().unwrap().len(), TIERS.len());
        self.pool.segments().unwrap();
    }
}

/// What was asked for, or nothing where there is no memory or address for it.
fn unless_short<T>(outcome: Result<T, Error>) -> Option<T> {
    unless(
        outcome,
        &[
            Reason::OverQuota,
            Reason::TierFull,
            Reason::WindowFull,
            Reason::Limit,
        ],
    )
}

/// What was asked for, or nothing where it was refused for one of these reasons.
fn unless<T>(outcome: Result<T, Error>, reasons: &[Reason]) -> Option<T> {
    match outcome {
        Ok(done) => Some(done),
        Err(error)
            if error
                .reason()
                .is_some_and(|reason| reasons.contains(&reason)) =>
        {
            None
        }
        Err(error) => panic!("{error}: {error:?}"),
    }
}
