//! The names of things: small integers that cannot be mixed up.
//!
//! Each id is a newtype over a non-zero integer, so that `Option<SegmentId>` is as small as the id
//! and a zeroed message names nothing. Ids are handed out by the daemon in rising order, are
//! journaled with what they name, and are never used again.

use core::fmt;
use core::num::{NonZeroU32, NonZeroU64};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $non_zero:ty, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($non_zero);

        impl $name {
            /// The first id ever handed out.
            pub const FIRST: Self = Self(<$non_zero>::MIN);

            /// The id with this number, or `None` for 0, which names nothing.
            #[must_use]
            pub const fn new(number: $inner) -> Option<Self> {
                match <$non_zero>::new(number) {
                    Some(number) => Some(Self(number)),
                    None => None,
                }
            }

            /// The number, as it travels and as it is journaled.
            #[must_use]
            pub const fn number(self) -> $inner {
                self.0.get()
            }

            /// The id handed out after this one, or `None` at the end of the numbers.
            #[must_use]
            pub fn checked_next(self) -> Option<Self> {
                self.0.checked_add(1).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(
    /// A contiguous range of the window, granted to one tenant.
    SegmentId, u64, NonZeroU64, "seg-"
);
id!(
    /// Which backing of a segment's addresses is meant; rises with each new one.
    Incarnation, u64, NonZeroU64, "inc-"
);
id!(
    /// One file that backs a piece of a segment.
    BackingId, u64, NonZeroU64, "back-"
);
id!(
    /// One attached process.
    ClientId, u64, NonZeroU64, "client-"
);
id!(
    /// Who pays: an identity with quotas.
    TenantId, u32, NonZeroU32, "tenant-"
);
id!(
    /// A piece of memory the daemon owns.
    DeviceId, u32, NonZeroU32, "dev-"
);
id!(
    /// A class of devices, ordered by speed.
    TierId, u32, NonZeroU32, "tier-"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_names_nothing() {
        assert_eq!(SegmentId::new(0), None);
        assert_eq!(SegmentId::new(7).unwrap().number(), 7);
    }

    #[test]
    fn ids_end_rather_than_wrap() {
        assert_eq!(TenantId::new(u32::MAX).unwrap().checked_next(), None);
        assert_eq!(SegmentId::FIRST.checked_next(), SegmentId::new(2));
    }

    #[test]
    fn an_optional_id_is_no_larger_than_the_id() {
        assert_eq!(size_of::<Option<SegmentId>>(), size_of::<SegmentId>());
    }
}
