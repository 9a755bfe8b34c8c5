//! What daemon and keeper say to each other.
//!
//! The two may be of different versions: a keeper outlives the daemon that started it, and its
//! upgrade. So this format does not change under its version number.
//!
//! # Layout
//! Numbers are little-endian. A request is 16 bytes:
//!
//! | bytes | |
//! |---|---|
//! | 0 | the version, 1 |
//! | 1 | 1 put, with one descriptor; 2 remove; 3 list; 4 count; 5 end |
//! | 2..8 | zeros |
//! | 8..16 | put, remove: the backing; list: the last backing of the batch before, or 0 |
//!
//! A reply begins with the request, but for byte 2: 0 done, 1 refused. To a packet that is no
//! request the answer is a refusal of request 0. Up to 60 numbers of 8
//! bytes follow. To a list they are backings, in rising order, with as many descriptors, and none
//! at the end. To a count they are how many descriptors are held, and how many can be.

use pool_core::BackingId;
use pool_core::limits::DESCRIPTORS_MAX;

const VERSION: u8 = 1;
/// Bytes of a request, and of the head of a reply.
pub(super) const REQUEST_BYTES: usize = 16;
/// Descriptors in one batch of a list.
pub(super) const BATCH: usize = 60;
/// The answer to what is no request.
pub(super) const NOT_UNDERSTOOD: [u8; REQUEST_BYTES] =
    [VERSION, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// The longest reply.
pub(super) const REPLY_BYTES_MAX: usize = REQUEST_BYTES + BATCH * 8;

const _: () = assert!(BATCH <= DESCRIPTORS_MAX);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// Keep the descriptor that rides along, in place of an older one.
    Put(BackingId),
    /// Close it, if there is one.
    Remove(BackingId),
    /// Name and send those with higher numbers than this.
    List {
        after: u64,
    },
    Count,
    /// Close all and end.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Done,
    Refused,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) request: Request,
    pub(super) status: Status,
    pub(super) numbers: Vec<u64>,
}

impl Request {
    pub(super) fn encode(self) -> [u8; REQUEST_BYTES] {
        let (code, number) = match self {
            Self::Put(backing) => (1, backing.number()),
            Self::Remove(backing) => (2, backing.number()),
            Self::List { after } => (3, after),
            Self::Count => (4, 0),
            Self::End => (5, 0),
        };
        let mut bytes = [0; REQUEST_BYTES];
        bytes[0] = VERSION;
        bytes[1] = code;
        bytes[8..].copy_from_slice(&number.to_le_bytes());
        bytes
    }

    /// `None` for anything that [`Self::encode`] does not make.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; REQUEST_BYTES] = bytes.try_into().ok()?;
        let number = u64::from_le_bytes(*bytes.last_chunk()?);
        let request = match bytes[1] {
            1 => Self::Put(BackingId::new(number)?),
            2 => Self::Remove(BackingId::new(number)?),
            3 => Self::List { after: number },
            4 => Self::Count,
            5 => Self::End,
            _ => return None,
        };
        (request.encode() == *bytes).then_some(request)
    }
}

impl Reply {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.request.encode().to_vec();
        bytes[2] = match self.status {
            Status::Done => 0,
            Status::Refused => 1,
        };
        bytes.extend(self.numbers.iter().flat_map(|number| number.to_le_bytes()));
        bytes
    }

    /// `None` for anything that [`Self::encode`] does not make.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, numbers) = bytes.split_first_chunk::<REQUEST_BYTES>()?;
        let mut head = *head;
        let status = match core::mem::take(&mut head[2]) {
            0 => Status::Done,
            1 => Status::Refused,
            _ => return None,
        };
        let (numbers, rest) = numbers.as_chunks::<8>();
        rest.is_empty().then_some(Self {
            request: Request::decode(&head)?,
            status,
            numbers: numbers
                .iter()
                .map(|bytes| u64::from_le_bytes(*bytes))
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request() -> impl Strategy<Value = Request> {
        let backing = (1..=u64::MAX).prop_map(|number| BackingId::new(number).unwrap());
        prop_oneof![
            backing.clone().prop_map(Request::Put),
            backing.prop_map(Request::Remove),
            any::<u64>().prop_map(|after| Request::List { after }),
            Just(Request::Count),
            Just(Request::End),
        ]
    }

    proptest! {
        #[test]
        fn a_request_is_read_as_it_was_written(request in request()) {
            prop_assert_eq!(Request::decode(&request.encode()), Some(request));
        }

        #[test]
        fn a_reply_is_read_as_it_was_written(
            request in request(),
            refused in any::<bool>(),
            numbers in prop::collection::vec(any::<u64>(), 0..BATCH),
        ) {
            let status = if refused { Status::Refused } else { Status::Done };
            let reply = Reply { request, status, numbers };
            let bytes = reply.encode();
            prop_assert!(bytes.len() <= REPLY_BYTES_MAX);
            prop_assert_eq!(Reply::decode(&bytes), Some(reply));
            prop_assert_eq!(Reply::decode(&bytes[..bytes.len() - 1]), None);
        }

        #[test]
        fn no_bytes_are_read_as_what_is_written_otherwise(
            bytes in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            if let Some(request) = Request::decode(&bytes) {
                prop_assert_eq!(request.encode().to_vec(), bytes.clone());
            }
            if let Some(reply) = Reply::decode(&bytes) {
                prop_assert_eq!(reply.encode(), bytes);
            }
        }
    }
}
