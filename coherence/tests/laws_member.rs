//! What holds for a member whatever others have written into the descriptor.

#![cfg(not(loom))]

use coherence::recover::{self, Verdict};
use coherence::{FutexWait, Grant, LeaseError, Member, Own, Slot};
use pool_core::Nanos;
use pool_core::clock::Deadline;
use pool_core::descriptor::Descriptor;
use pool_core::sync::atomic::Ordering::Relaxed;
use proptest::prelude::*;

const A: Slot = match Slot::new(1) {
    Some(slot) => slot,
    None => Slot::DAEMON,
};

/// Something that is done to a unit.
#[derive(Debug, Clone, Copy)]
enum Act {
    Word(u64),
    Version(u64),
    Base(u64),
    Shared,
    Beside,
    Exclusive,
    Wait,
    WaitToWrite,
    Restore,
    Upgrade,
    Downgrade,
    Release,
    ReleaseWritten,
    ReleaseShared,
    Check,
    Recover,
    Rouse,
}

fn word() -> impl Strategy<Value = u64> {
    // Mostly words that are nearly right: a state, few holders, any marks.
    let near =
        (0_u64..8, 0_u64..8, 0_u64..4, 0_u64..8).prop_map(|(state, marks, epoch, holders)| {
            state << 61 | marks << 58 | epoch << 32 | holders
        });
    prop_oneof![4 => near, 1 => any::<u64>()]
}

fn act() -> impl Strategy<Value = Act> {
    let own = [
        Act::Shared,
        Act::Beside,
        Act::Exclusive,
        Act::Wait,
        Act::WaitToWrite,
        Act::Restore,
        Act::Upgrade,
        Act::Downgrade,
        Act::Release,
        Act::ReleaseWritten,
        Act::ReleaseShared,
        Act::Check,
        Act::Recover,
        Act::Rouse,
    ];
    prop_oneof![
        3 => word().prop_map(Act::Word),
        1 => any::<u64>().prop_map(Act::Version),
        1 => any::<u64>().prop_map(Act::Base),
        9 => prop::sample::select(own.to_vec()),
    ]
}

/// Does it; a grant that it brings becomes `held`. Says what was refused.
fn perform(
    act: Act,
    line: &Descriptor,
    member: &Member<FutexWait>,
    held: &mut Grant,
) -> Result<(), LeaseError> {
    let past = Deadline::after(Nanos::ZERO);
    match act {
        Act::Word(word) => line.own.store(word, Relaxed),
        Act::Version(version) => line.version.store(version, Relaxed),
        Act::Base(base) => line.base.store(base, Relaxed),
        Act::Shared => *held = member.try_shared(0, line)?,
        Act::Beside => *held = member.try_shared_beside(0, line)?,
        Act::Exclusive => *held = member.try_exclusive(line)?,
        Act::Wait => *held = member.shared(0, line, past)?,
        Act::WaitToWrite => *held = member.exclusive(line, past)?,
        Act::Restore => *held = member.try_restore(line)?,
        Act::Upgrade => *held = member.try_upgrade(line, held)?,
        Act::Downgrade => *held = member.downgrade(line, held, true)?,
        Act::Release => drop(member.release_exclusive(line, held, false)?),
        Act::ReleaseWritten => drop(member.release_exclusive(line, held, true)?),
        Act::ReleaseShared => member.release_shared(0, line, held)?,
        Act::Check => {
            member.check_shared(line, held)?;
            member.check_exclusive(line, held)?;
        }
        Act::Recover | Act::Rouse => {}
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_word_makes_anybody_panic_and_a_corrupt_one_stays_as_it_is(
        acts in prop::collection::vec(act(), 1..40)
    ) {
        let line = Descriptor::default();
        let member = Member::new(A, FutexWait);
        let mut held = member.try_shared(0, &line).unwrap();
        for act in acts {
            let before = line.own.load(Relaxed);
            let done = perform(act, &line, &member, &mut held);
            let good = |_| Verdict::Good;
            let daemon = match act {
                Act::Recover => recover::recover(&line, A, &FutexWait, good).err(),
                Act::Rouse => recover::rouse(&line, &FutexWait).err(),
                _ => None,
            };
            let after = line.own.load(Relaxed);
            let found_corrupt = matches!(done, Err(LeaseError::Corrupt(_))) || daemon.is_some();
            if found_corrupt {
                prop_assert!(Own::judge(before).is_err(), "{act:?} of {before:#x}");
                prop_assert_eq!(after, before);
            } else if !matches!(act, Act::Word(_)) && Own::judge(before).is_ok() {
                prop_assert!(Own::judge(after).is_ok(), "{act:?}: {before:#x} to {after:#x}");
            }
            if done.is_err() && !matches!(act, Act::Word(_)) {
                prop_assert_eq!(after, before, "{:?} was refused: {:?}", act, done);
            }
        }
    }

    #[test]
    fn the_epoch_never_falls_while_only_members_and_the_daemon_change_it(
        acts in prop::collection::vec(act(), 1..60)
    ) {
        let line = Descriptor::default();
        let member = Member::new(A, FutexWait);
        let mut held = member.try_shared(0, &line).unwrap();
        let (mut epoch, mut version) = (0, 0);
        for act in acts {
            match act {
                Act::Word(_) | Act::Version(_) | Act::Base(_) => continue,
                Act::Recover => {
                    let verdict = if epoch % 2 == 0 { Verdict::Good } else { Verdict::Lost };
                    recover::recover(&line, A, &FutexWait, |_| verdict).unwrap();
                }
                Act::Rouse => recover::rouse(&line, &FutexWait).unwrap(),
                _ => drop(perform(act, &line, &member, &mut held)),
            }
            let own = Own::judge(line.own.load(Relaxed)).unwrap();
            let now = line.version.load(Relaxed);
            prop_assert!(own.epoch().number() >= epoch && now >= version, "{act:?}: {own:?}");
            (epoch, version) = (own.epoch().number(), now);
        }
    }
}
