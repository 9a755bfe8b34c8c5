//! A fabric as its users see it: how long accesses take, and the number that a run comes to.

#[cfg(test)]
#[path = "../../examples/trace/scene.rs"]
mod scene;
#[cfg(test)]
mod time;
#[cfg(test)]
mod trace;
