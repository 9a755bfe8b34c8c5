//! A fabric as its users see it: how long accesses take, the number that a run comes to, what
//! each fault does and how it ends, schedules of them, and who reaches what.

#[cfg(test)]
mod copies;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod glitches;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod routes;
#[cfg(test)]
#[path = "../../examples/trace/scene.rs"]
mod scene;
#[cfg(test)]
mod schedule;
#[cfg(test)]
mod time;
#[cfg(test)]
mod trace;
