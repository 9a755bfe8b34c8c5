//! A fabric as its users see it: how long accesses take.

#[cfg(test)]
mod time;
