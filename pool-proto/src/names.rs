//! Enumerators as words: `DEVICE_STATE_ONLINE` is `online` in tables, in JSON and in metadata.

use crate::common::v1::{
    Access, CoherenceMode, DeviceState, ErrorClass, ErrorReason, Lifetime, OnDeath, Pages,
};

/// An enumeration whose enumerators have words.
pub trait Named: TryFrom<i32> {
    /// The name in the `.proto` file without the name of the enumeration, in lower case.
    fn word(self) -> String;
}

macro_rules! named {
    ($($enumeration:ident, $prefix:literal;)*) => {
        $(impl Named for $enumeration {
            fn word(self) -> String {
                let name = self.as_str_name();
                name.strip_prefix($prefix).unwrap_or(name).to_ascii_lowercase()
            }
        })*
    };
}

named! {
    Access, "ACCESS_";
    CoherenceMode, "COHERENCE_MODE_";
    DeviceState, "DEVICE_STATE_";
    ErrorClass, "ERROR_CLASS_";
    ErrorReason, "ERROR_REASON_";
    Lifetime, "LIFETIME_";
    OnDeath, "ON_DEATH_";
    Pages, "PAGES_";
}

/// The word of an enumerator as it lies in a message. One of a later version has its number.
#[must_use]
pub fn word_of<E: Named>(number: i32) -> String {
    E::try_from(number).map_or_else(|_| number.to_string(), Named::word)
}

/// Writes the field of a message that holds an enumerator.
#[cfg(feature = "serde")]
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
pub(crate) fn serialize<E: Named, S: serde::Serializer>(
    number: &i32,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&word_of::<E>(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_do_not_repeat_the_enumeration() {
        assert_eq!(word_of::<DeviceState>(2), "draining");
        assert_eq!(word_of::<Access>(1), "read_only");
        assert_eq!(word_of::<ErrorReason>(9), "over_quota");
        assert_eq!(Pages::Unspecified.word(), "unspecified");
    }

    #[test]
    fn an_enumerator_of_a_later_version_has_its_number() {
        assert_eq!(word_of::<Lifetime>(77), "77");
    }
}
