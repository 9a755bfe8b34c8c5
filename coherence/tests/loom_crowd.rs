//! Several threads of one process that read one unit, under every schedule. Plain `cargo test` runs
//! each body once.

mod models;

use coherence::{Member, ModelWait};
use models::{A, B, Unit, explore, spawn};
use pool_core::clock::Deadline;
use pool_core::sync::{Arc, thread};

type Process = Member<ModelWait>;

/// A process, of which each thread has the same place.
fn process() -> Arc<Process> {
    Arc::new(Member::new(A, ModelWait::default()))
}

/// Reads where that is granted now.
fn read(unit: &Unit, process: &Process) {
    if let Ok(grant) = process.try_shared(0, &unit.line) {
        assert_eq!(process.check_shared(&unit.line, &grant), Ok(()));
        assert_eq!(unit.page.read(), grant.version);
        assert_eq!(process.release_shared(0, &unit.line, &grant), Ok(()));
    }
}

/// One more thread of the process, which reads.
fn reader(unit: &Arc<Unit>, process: &Arc<Process>) -> thread::JoinHandle<()> {
    let process = Arc::clone(process);
    spawn(unit, move |unit| read(unit, &process))
}

/// Catches: member.joins_without_mark, member.ignores_the_crowd
#[test]
fn the_last_thread_of_a_process_gives_back_and_none_before() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let process = process();
        let other = reader(&unit, &process);
        read(&unit, &process);
        other.join().unwrap();
        unit.assert_at_rest();
    });
}

/// Catches: member.joins_without_mark, member.ignores_the_crowd
#[test]
fn no_other_process_writes_while_any_thread_reads() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let process = process();
        let held = process.try_shared(0, &unit.line).unwrap();
        let other = reader(&unit, &process);
        let writer = spawn(&unit, |unit| {
            let member = unit.member(B);
            if let Ok(grant) = member.try_exclusive(&unit.line) {
                unit.page.write(grant.version + 1);
                member.release_exclusive(&unit.line, &grant, true).unwrap();
            }
        });
        process.release_shared(0, &unit.line, &held).unwrap();
        other.join().unwrap();
        writer.join().unwrap();
        unit.assert_at_rest();
    });
}

/// Catches: member.joins_without_mark
#[test]
fn no_thread_writes_while_another_of_its_process_reads() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let process = process();
        let other = reader(&unit, &process);
        if let Ok(grant) = process.try_shared(0, &unit.line) {
            match process.try_upgrade(&unit.line, &grant) {
                Ok(grant) => {
                    unit.page.write(grant.version + 1);
                    process.release_exclusive(&unit.line, &grant, true).unwrap();
                }
                Err(_) => process.release_shared(0, &unit.line, &grant).unwrap(),
            }
        }
        other.join().unwrap();
        unit.assert_at_rest();
    });
}

/// Catches: member.ignores_the_crowd
#[test]
fn a_process_that_comes_back_beside_a_crowd_of_another_is_counted_anew() {
    explore(|turned| {
        let unit = Unit::new(turned);
        // The word stays crowded while the other one reads.
        let crowd = unit.member(B);
        let first = crowd.try_shared(0, &unit.line).unwrap();
        let second = crowd.try_shared(0, &unit.line).unwrap();
        let process = process();
        let other = reader(&unit, &process);
        read(&unit, &process);
        other.join().unwrap();
        crowd.release_shared(0, &unit.line, &second).unwrap();
        assert_eq!(crowd.check_shared(&unit.line, &first), Ok(()));
        crowd.release_shared(0, &unit.line, &first).unwrap();
        unit.assert_at_rest();
    });
}

/// Catches: wait.event_not_moved
#[test]
fn a_writer_that_waits_for_a_crowd_is_woken_by_its_last_thread() {
    explore(|turned| {
        let unit = Unit::new(turned);
        let crowd = unit.member(A);
        let first = crowd.try_shared(0, &unit.line).unwrap();
        let second = crowd.try_shared(0, &unit.line).unwrap();
        let writer = spawn(&unit, |unit| {
            let member = unit.member(B);
            let grant = member.exclusive(&unit.line, Deadline::NEVER).unwrap();
            unit.page.write(1);
            member.release_exclusive(&unit.line, &grant, true).unwrap();
        });
        crowd.release_shared(0, &unit.line, &first).unwrap();
        assert_eq!(unit.page.read(), 0, "the second one still reads");
        crowd.release_shared(0, &unit.line, &second).unwrap();
        writer.join().unwrap();
        unit.assert_at_rest();
    });
}
