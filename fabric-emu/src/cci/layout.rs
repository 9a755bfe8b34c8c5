//! Layouts as tables: a line for each field, with the offset that the specification gives it.
//!
//! Bytes that no line names are reserved: they are written as zero and not looked at. A field may
//! end in `; bits MASK`, which refuses every other bit, or in `; from LOW to HIGH`. Only requests
//! say so: what asks for something unknown is refused, what answers more than is known is read.

/// Whether each field lies within the layout and none lies on another.
pub(crate) const fn tiles(fields: &[(usize, usize)], bytes: usize) -> bool {
    let mut left = 0;
    while left < fields.len() {
        let (at, length) = fields[left];
        if at + length > bytes {
            return false;
        }
        let mut right = left + 1;
        while right < fields.len() {
            let (other, other_length) = fields[right];
            if at < other + other_length && other < at + length {
                return false;
            }
            right += 1;
        }
        left += 1;
    }
    true
}

/// A layout of a fixed length.
macro_rules! layout {
    ($(#[$doc:meta])* $name:ident = $bytes:literal {$(
        $(#[$field_doc:meta])* $at:literal $field:ident: $ty:ty
            $(; bits $mask:literal)? $(; from $low:literal to $high:literal)?,
    )*}) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {$(
            $(#[$field_doc])*
            pub $field: $ty,
        )*}

        const _: () = assert!($crate::cci::layout::tiles(
            &[$(($at, <$ty as $crate::cci::bytes::Fixed>::BYTES)),*],
            $bytes,
        ));

        impl $crate::cci::bytes::Fixed for $name {
            const BYTES: usize = $bytes;

            fn read(
                reader: $crate::cci::bytes::Reader<'_>,
            ) -> Result<Self, $crate::cci::bytes::Malformed> {
                $(
                    let $field: $ty = reader.at($at)?;
                    $(if $field & !$mask != 0 {
                        return Err($crate::cci::bytes::Malformed::Value);
                    })?
                    $(if !($low..=$high).contains(&$field) {
                        return Err($crate::cci::bytes::Malformed::Value);
                    })?
                )*
                Ok(Self { $($field),* })
            }

            fn write(&self, writer: &mut $crate::cci::bytes::Writer, at: usize) {
                writer.grow(at + $bytes);
                $(writer.at(at + $at, &self.$field);)*
            }
        }

        impl $crate::cci::bytes::Wire for $name {
            fn decode(bytes: &[u8]) -> Result<Self, $crate::cci::bytes::Malformed> {
                $crate::cci::bytes::Fixed::decode_exact(bytes)
            }

            fn encode(&self) -> Vec<u8> {
                $crate::cci::bytes::Fixed::encode_exact(self)
            }
        }

        #[cfg(test)]
        impl $crate::cci::sample::Sample for $name {
            fn sample(source: &mut $crate::cci::sample::Source) -> Self {
                $(
                    let $field: $ty = source.sample();
                    $(let $field = $field & $mask;)?
                    $(let $field = $low + $field % ($high - $low + 1);)?
                )*
                Self { $($field),* }
            }
        }
    };
}

/// A layout with a fixed head, a list that a field of the head counts, and at times an end.
macro_rules! listed {
    ($(#[$doc:meta])* $name:ident = $head:literal {$(
        $(#[$field_doc:meta])* $at:literal $field:ident: $ty:ty
            $(; bits $mask:literal)? $(; from $low:literal to $high:literal)?,
    )*} then {
        $(#[$list_doc:meta])*
        $list:ident: [$each:ty; $max:expr], $count:ident at $count_at:literal
    } $(end {
        $(#[$end_doc:meta])*
        $end:ident: $end_ty:ty
    })? $(check $check:path)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $(
                $(#[$field_doc])*
                pub $field: $ty,
            )*
            $(#[$list_doc])*
            pub $list: $crate::cci::bytes::List<$each, { $max }>,
            $(
                $(#[$end_doc])*
                pub $end: $end_ty,
            )?
        }

        const _: () = {
            assert!($crate::cci::layout::tiles(
                &[
                    $(($at, <$ty as $crate::cci::bytes::Fixed>::BYTES),)*
                    ($count_at, <$count as $crate::cci::bytes::Fixed>::BYTES),
                ],
                $head,
            ));
            // The count can say how many there are.
            assert!(
                <$count as $crate::cci::bytes::Fixed>::BYTES >= 4
                    || ($max) >> (8 * <$count as $crate::cci::bytes::Fixed>::BYTES) == 0
            );
        };

        impl $crate::cci::bytes::Wire for $name {
            fn decode(bytes: &[u8]) -> Result<Self, $crate::cci::bytes::Malformed> {
                use $crate::cci::bytes::{Count, Fixed, List, Reader};

                let reader = Reader::new(bytes);
                $(
                    let $field: $ty = reader.at($at)?;
                    $(if $field & !$mask != 0 {
                        return Err($crate::cci::bytes::Malformed::Value);
                    })?
                    $(if !($low..=$high).contains(&$field) {
                        return Err($crate::cci::bytes::Malformed::Value);
                    })?
                )*
                let count = reader.at::<$count>($count_at)?.get();
                let $list: List<$each, { $max }> = reader.list($head, count)?;
                let over = $head + count * <$each as Fixed>::BYTES;
                $(
                    let $end: $end_ty = reader.at(over)?;
                    let over = over + <$end_ty as Fixed>::BYTES;
                )?
                reader.ends_at(over)?;
                let all = Self { $($field,)* $list, $($end,)? };
                $($check(&all)?;)?
                Ok(all)
            }

            fn encode(&self) -> Vec<u8> {
                use $crate::cci::bytes::{Count, Writer};

                let mut writer = Writer::default();
                $(writer.at($at, &self.$field);)*
                writer.at($count_at, &<$count as Count>::of(self.$list.len()));
                writer.list($head, &self.$list);
                $(
                    let over = self.$list.len() * <$each as $crate::cci::bytes::Fixed>::BYTES;
                    writer.at($head + over, &self.$end);
                )?
                writer.into_bytes()
            }
        }

        #[cfg(test)]
        impl $crate::cci::sample::Sample for $name {
            fn sample(source: &mut $crate::cci::sample::Source) -> Self {
                $(
                    let $field: $ty = source.sample();
                    $(let $field = $field & $mask;)?
                    $(let $field = $low + $field % ($high - $low + 1);)?
                )*
                Self {
                    $($field,)*
                    $list: source.sample(),
                    $($end: source.sample::<$end_ty>(),)?
                }
            }
        }
    };
}

/// A field with a meaning for each of its values. A value that has none is refused.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident: $int:ty {$(
        $(#[$each_doc:meta])* $number:literal $each:ident,
    )*}) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {$(
            $(#[$each_doc])*
            $each,
        )*}

        impl $name {
            /// All of them, by their numbers.
            pub const ALL: &[Self] = &[$(Self::$each),*];

            /// The one with this number.
            #[must_use]
            pub const fn of(number: $int) -> Option<Self> {
                match number {
                    $($number => Some(Self::$each),)*
                    _ => None,
                }
            }

            /// Its number.
            #[must_use]
            pub const fn number(self) -> $int {
                match self {
                    $(Self::$each => $number,)*
                }
            }
        }

        impl $crate::cci::bytes::Fixed for $name {
            const BYTES: usize = <$int as $crate::cci::bytes::Fixed>::BYTES;

            fn read(
                reader: $crate::cci::bytes::Reader<'_>,
            ) -> Result<Self, $crate::cci::bytes::Malformed> {
                Self::of(<$int as $crate::cci::bytes::Fixed>::read(reader)?)
                    .ok_or($crate::cci::bytes::Malformed::Value)
            }

            fn write(&self, writer: &mut $crate::cci::bytes::Writer, at: usize) {
                $crate::cci::bytes::Fixed::write(&self.number(), writer, at);
            }
        }

        #[cfg(test)]
        impl $crate::cci::sample::Sample for $name {
            fn sample(source: &mut $crate::cci::sample::Source) -> Self {
                Self::ALL[source.below(Self::ALL.len())]
            }
        }
    };
}

pub(crate) use {codes, layout, listed};
