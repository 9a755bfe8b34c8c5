//! What is said before a process ends that freed what it does not have.

use crate::system;

/// What is wrong with a pointer that was to be freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misuse {
    /// The block is free already.
    DoubleFree,
    /// No block begins there.
    InvalidFree,
    /// It is asked how large it is, or to be another size, and no block begins there.
    InvalidPointer,
}

/// Says on the standard error what is wrong with `address`, and ends the process.
#[cold]
#[inline(never)]
pub(crate) fn misuse(what: Misuse, address: usize) -> ! {
    let what: &[u8] = match what {
        Misuse::DoubleFree => b"double free of ",
        Misuse::InvalidFree => b"invalid free, no block begins at ",
        Misuse::InvalidPointer => b"invalid pointer, no block begins at ",
    };
    let mut line = Line {
        bytes: [0; 128],
        length: 0,
    };
    line.put(b"tierpool: ");
    line.put(what);
    line.put_address(address);
    line.put(b"\n");
    system::tell(&line.bytes[..line.length]);
    system::abort()
}

struct Line {
    bytes: [u8; 128],
    length: usize,
}

impl Line {
    fn put(&mut self, text: &[u8]) {
        for &byte in text {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = byte;
                self.length += 1;
            }
        }
    }

    fn put_address(&mut self, address: usize) {
        self.put(b"0x");
        let digits = (usize::BITS - address.leading_zeros()).div_ceil(4).max(1);
        for digit in (0..digits).rev() {
            let value = (address >> (digit * 4)) & 0xf;
            self.put(&b"0123456789abcdef"[value..=value]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_in_full() {
        for address in [0, 0xf, 0x10, 0x1234_5678_9abc, usize::MAX] {
            let mut line = Line {
                bytes: [0; 128],
                length: 0,
            };
            line.put_address(address);
            assert_eq!(
                line.bytes[..line.length],
                *format!("{address:#x}").as_bytes()
            );
        }
    }
}
