//! Values of every type, made from one number: what the laws are tried on.

use super::bytes::{List, U24};

/// Numbers without end, all of them told by the first.
#[derive(Debug)]
pub(crate) struct Source(u64);

impl Source {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.draw() % u64::try_from(bound).unwrap()).unwrap()
    }

    pub(crate) fn sample<T: Sample>(&mut self) -> T {
        T::sample(self)
    }
}

/// A value that can be made from numbers.
pub(crate) trait Sample: Sized {
    fn sample(source: &mut Source) -> Self;
}

macro_rules! integers {
    ($($int:ty),*) => {$(
        impl Sample for $int {
            fn sample(source: &mut Source) -> Self {
                <$int>::from_le_bytes(source.sample())
            }
        }
    )*};
}

integers!(u8, u16, u32, u64);

impl<const N: usize> Sample for [u8; N] {
    fn sample(source: &mut Source) -> Self {
        core::array::from_fn(|_| source.draw().to_le_bytes()[0])
    }
}

impl Sample for U24 {
    fn sample(source: &mut Source) -> Self {
        U24::new(source.sample::<u32>() & 0xff_ffff).unwrap()
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(source: &mut Source) -> Self {
        (source.below(2) == 1).then(|| source.sample())
    }
}

impl<T: Sample, const MAX: usize> Sample for List<T, MAX> {
    fn sample(source: &mut Source) -> Self {
        let count = source.below(MAX.min(5) + 1);
        let all: Vec<T> = (0..count).map(|_| source.sample()).collect();
        all.try_into().unwrap()
    }
}
