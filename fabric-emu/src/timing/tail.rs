//! Accesses that take longer than their kind does, and flits that are sent again.
//!
//! Each device and each link has a stream of numbers of its own, which follows from the seed of
//! the run and its number: one more device shifts no draw of another. Each question draws the same
//! count of numbers whatever comes of it, so a rate that is changed shifts none either.

use pool_core::rng::Rng;

use super::table::{Table, TableError};
use super::units::Picos;

/// How often and how much longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailParameters {
    /// One access in so many; 0 is never.
    pub once_in: u32,
    /// The least that it takes longer.
    pub min: Picos,
    /// The most; less than `min` counts as that.
    pub max: Picos,
}

/// The stream of one device or link.
#[derive(Debug, Clone)]
pub struct Tail {
    parameters: TailParameters,
    rng: Rng,
}

impl Tail {
    /// The stream of device `device` in a run of `seed`.
    #[must_use]
    pub const fn of_device(parameters: TailParameters, seed: u64, device: u64) -> Self {
        Self::new(parameters, seed, device, 0x6465_7669_6365)
    }

    /// The stream of link `link` in a run of `seed`: one flit in `once_in` takes another
    /// `round_trip`.
    #[must_use]
    pub const fn of_link(once_in: u32, round_trip: Picos, seed: u64, link: u64) -> Self {
        let parameters = TailParameters {
            once_in,
            min: round_trip,
            max: round_trip,
        };
        Self::new(parameters, seed, link, 0x6c69_6e6b)
    }

    /// Mixed twice: streams of neighbouring numbers would else be one stream at two places.
    const fn new(parameters: TailParameters, seed: u64, number: u64, kind: u64) -> Self {
        let kind = Rng::new(seed ^ kind).number();
        Self {
            parameters,
            rng: Rng::new(Rng::new(kind ^ number).number()),
        }
    }

    /// From now on it is as often and as much longer as that; no draw is shifted.
    pub const fn set(&mut self, parameters: TailParameters) {
        self.parameters = parameters;
    }

    /// How much longer the access takes that is made now.
    pub const fn draw(&mut self) -> Picos {
        let TailParameters { once_in, min, max } = self.parameters;
        let is_slow = self.rng.once_in(once_in);
        // Up to and with `max`; a range of all numbers lacks its last one.
        let width = max.saturating_sub(min).get().saturating_add(1);
        let more = Picos::new(self.rng.below(width));
        if is_slow {
            min.saturating_add(more)
        } else {
            Picos::ZERO
        }
    }
}

impl Table {
    /// The tail of a class of memory.
    ///
    /// # Errors
    /// [`TableError::Missing`] where `class` is no class of memory.
    pub fn tail(&self, class: &str) -> Result<TailParameters, TableError> {
        Ok(TailParameters {
            once_in: once_in(self.number(class, "tail_once_in")?),
            min: Picos::new(self.number(class, "tail_min")?),
            max: Picos::new(self.number(class, "tail_max")?),
        })
    }

    /// How rarely a link of that speed sends a flit again: once in so many.
    ///
    /// # Errors
    /// [`TableError::Missing`] where no class of links has that speed.
    pub fn retry_once_in(&self, gigatransfers: u8) -> Result<u32, TableError> {
        let class = format!("link-{gigatransfers}");
        Ok(once_in(self.number(&class, "retry_once_in")?))
    }
}

/// A table holds no more than fits.
fn once_in(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
