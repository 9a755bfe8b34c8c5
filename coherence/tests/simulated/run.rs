//! Runs the world of one seed: its threads, from their first turn to their last.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pool_core::sync::thread::{self, JoinHandle};
use pool_core::sync::{Arc, Mutex, lock};

use crate::daemon;
use crate::member::Thread;
use crate::mix::Mix;
use crate::report::{Story, broken};
use crate::scheduler::{self, Stand};
use crate::world::{DAEMON, End, World};

/// Held while a world runs: planted bugs are the process's.
pub(crate) static TURN: Mutex<()> = Mutex::new(());

/// Runs the world that follows from `seed`.
pub(crate) fn run(seed: u64, operations: u64) -> Story {
    pool_core::fault::observe(Some(scheduler::pass));
    let world = Arc::new(World::new(Mix::of(seed, operations)));
    let count = world.state().schedule.strands.len();
    let threads: Vec<JoinHandle<()>> = (0..count)
        .map(|me| {
            let world = Arc::clone(&world);
            let body = move || {
                scheduler::enter(Arc::clone(&world), me);
                world.baton.wait_for(me);
                run_thread(&world, me);
            };
            let name = format!("seed {seed}, thread {me}");
            let thread = thread::Builder::new().name(name).spawn(body);
            thread.expect("a thread of a test")
        })
        .collect();
    let handles = threads.iter().map(|thread| thread.thread().clone());
    world.baton.register(handles.collect());
    world.baton.hand_to(1);
    for thread in threads {
        drop(thread.join());
    }
    world.story()
}

/// Lives, and lives again, until the world is over or there is nothing more to do.
fn run_thread(world: &World, me: usize) {
    loop {
        let lived = catch_unwind(AssertUnwindSafe(|| {
            let state = world.state();
            world.go_on(state, me);
            match me {
                DAEMON => daemon::serve(world),
                _ => Thread::new(world, me).live(),
            }
        }));
        let end = lived.map_err(|payload| cause(world, &*payload));
        let mut state = world.state();
        match end {
            Ok(()) => {
                if me != DAEMON {
                    state.finish(me);
                }
                break;
            }
            Err(End::Over) => break,
            // A daemon that was killed is started again.
            Err(End::Killed) if me == DAEMON => state.mourn(me),
            Err(End::Killed) => state.bury(world, me),
        }
    }
    leave(world, me);
}

/// Why a thread has unwound.
fn cause(world: &World, payload: &(dyn Any + Send)) -> End {
    if let Some(end) = payload.downcast_ref::<End>() {
        return *end;
    }
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    let panicked = broken("nothing panics", text.unwrap_or("of an unknown kind"));
    world.settle(&mut world.state(), panicked);
    End::Over
}

/// The last turn of a thread: it hands the baton on and does not ask for it again.
fn leave(world: &World, me: usize) {
    let mut state = world.state();
    state.schedule.strands[me].stand = Stand::Gone;
    let next = if state.is_over {
        None
    } else {
        Some(state.next(world, me))
    };
    // Where the world is over all others unwind one after the other.
    let next = next.filter(|next| *next != me).or_else(|| {
        let mut strands = state.schedule.strands.iter();
        strands.position(|strand| strand.stand != Stand::Gone)
    });
    drop(state);
    if let Some(next) = next {
        world.baton.hand_to(next);
    }
}

/// Waits for the turn of this test.
pub(crate) fn turn() -> impl Drop {
    lock(&TURN)
}
