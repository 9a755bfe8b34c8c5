//! A process that is killed tells of it through its robust word, and another process that waits for
//! many such words is woken.
//!
//! The victim is this very program, started again: its standard input is the file that holds the
//! word. The test harness would not let it start as the victim, so this program is its own.

use std::error::Error;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use nix::sys::memfd::{MFdFlags, memfd_create};
use pool_core::clock::Deadline;
use pool_core::futex::{self, OWNER_DIED, RobustWord, TID_MASK, WAITERS, Waited, WaitedAny};
use pool_core::limits::LIVENESS_PAGE_BYTES;
use pool_core::mem::{Access, FileMap};
use pool_core::sync::atomic::{AtomicU32, Ordering::Acquire};
use pool_core::{Bytes, Nanos};

/// Makes this program the victim.
const VICTIM: &str = "TIERPOOL_TEST_VICTIM";

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    if std::env::var_os(VICTIM).is_some() {
        return be_the_victim();
    }
    a_killed_process_wakes_who_waits_for_its_word()?;
    println!("test a_killed_process_wakes_who_waits_for_its_word ... ok");
    Ok(())
}

fn be_the_victim() -> Outcome {
    let page = map(&std::io::stdin().as_fd().try_clone_to_owned()?)?;
    let _robust = RobustWord::register(page, Bytes::ZERO)?;
    loop {
        std::thread::park();
    }
}

fn a_killed_process_wakes_who_waits_for_its_word() -> Outcome {
    let file = memfd_create("liveness", MFdFlags::MFD_CLOEXEC)?;
    nix::unistd::ftruncate(&file, i64::try_from(LIVENESS_PAGE_BYTES)?)?;
    let page = map(&file)?;
    let word = page.mapped().atomic_u32(Bytes::ZERO)?;
    let silent = page.mapped().atomic_u32(Bytes::new(64))?;

    let mut victim = Victim::start(&file)?;
    let held = changed(word, 0)?;
    assert_eq!(
        held,
        victim.0.id() | WAITERS,
        "the victim has one thread, named as its process"
    );

    victim.0.kill()?;
    let held = loop {
        match futex::wait_any(&[(silent, 0), (word, held)], long_enough())? {
            WaitedAny::TimedOut => panic!("nobody told of the victim's death"),
            WaitedAny::Woken { index } => assert_eq!(index, 1),
            WaitedAny::Changed => {}
        }
        let now = word.load(Acquire);
        if now != held {
            break now;
        }
    };
    assert_eq!((held & OWNER_DIED, held & TID_MASK), (OWNER_DIED, 0));
    Ok(())
}

/// Waits until `word` is another one than `was`.
fn changed(word: &AtomicU32, was: u32) -> Result<u32, Box<dyn Error>> {
    loop {
        let now = word.load(Acquire);
        if now != was {
            return Ok(now);
        }
        assert_ne!(futex::wait(word, was, long_enough())?, Waited::TimedOut);
    }
}

fn map(file: &OwnedFd) -> Result<FileMap, Box<dyn Error>> {
    let page = Bytes::new(LIVENESS_PAGE_BYTES);
    Ok(FileMap::new(
        file.as_fd(),
        Bytes::ZERO,
        page,
        Access::ReadWrite,
    )?)
}

fn long_enough() -> Deadline {
    Deadline::after(Nanos::from_millis(20_000))
}

struct Victim(Child);

impl Victim {
    fn start(file: &OwnedFd) -> Result<Self, Box<dyn Error>> {
        let stdin = Stdio::from(file.try_clone()?);
        let mut command = Command::new(std::env::current_exe()?);
        Ok(Self(
            command
                .env(VICTIM, "1")
                .stdin(stdin)
                .stdout(Stdio::null())
                .spawn()?,
        ))
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        ended.expect("a child can be killed and waited for");
    }
}
