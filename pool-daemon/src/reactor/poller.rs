//! What the reactor waits for, all in one epoll set.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use pool_core::fault::{self, Call};
use pool_core::{ClientId, Nanos};

use super::ReactorError;
use crate::engine::command::ConnectionId;

/// Events taken from the kernel at once: what is ready together is committed together.
const BATCH: usize = 128;

/// Who is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Listener,
    Inbox,
    Builder,
    Liveness,
    Signals,
    /// A session socket has a request, or has ended.
    Connection(ConnectionId),
    /// The process of a client has ended.
    Process(ClientId),
    /// The event socket of a client has room again, or has ended.
    Events(ClientId),
    /// The descriptor store is gone.
    Store,
    /// A process that had a slot of a domain has ended.
    Departed(u64),
    /// Something is said of a device whose memory comes from a fabric.
    Stewards,
    /// A change of CXL regions has come to its end.
    Regions,
}

const KIND_SHIFT: u32 = 56;
const NUMBER_MASK: u64 = (1 << KIND_SHIFT) - 1;

impl Token {
    /// Ids rise one by one from 1: none reaches 2^56.
    fn pack(self) -> u64 {
        let (kind, number) = match self {
            Self::Listener => (0, 0),
            Self::Inbox => (1, 0),
            Self::Builder => (2, 0),
            Self::Liveness => (3, 0),
            Self::Signals => (4, 0),
            Self::Connection(id) => (5, id.0),
            Self::Process(client) => (6, client.number()),
            Self::Events(client) => (7, client.number()),
            Self::Store => (8, 0),
            Self::Departed(number) => (9, number),
            Self::Stewards => (10, 0),
            Self::Regions => (11, 0),
        };
        (kind << KIND_SHIFT) | (number & NUMBER_MASK)
    }

    fn unpack(data: u64) -> Option<Self> {
        let number = data & NUMBER_MASK;
        Some(match data >> KIND_SHIFT {
            0 => Self::Listener,
            1 => Self::Inbox,
            2 => Self::Builder,
            3 => Self::Liveness,
            4 => Self::Signals,
            5 => Self::Connection(ConnectionId(number)),
            6 => Self::Process(ClientId::new(number)?),
            7 => Self::Events(ClientId::new(number)?),
            8 => Self::Store,
            9 => Self::Departed(number),
            10 => Self::Stewards,
            11 => Self::Regions,
            _ => return None,
        })
    }
}

/// What a descriptor is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interest {
    /// Data, or the end.
    Readable,
    /// Room, or the end.
    Writable,
    /// The end only.
    End,
}

impl Interest {
    fn flags(self) -> EpollFlags {
        match self {
            Self::Readable => EpollFlags::EPOLLIN,
            Self::Writable => EpollFlags::EPOLLOUT,
            // The end is always told.
            Self::End => EpollFlags::empty(),
        }
    }
}

/// The epoll set. A descriptor leaves it when its last duplicate is closed; `remove` does not rely
/// on that.
#[derive(Debug)]
pub(super) struct Poller(Epoll);

impl Poller {
    pub(super) fn new() -> Result<Self, ReactorError> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC);
        epoll
            .map(Self)
            .map_err(|errno| ReactorError::os("epoll_create1", errno))
    }

    pub(super) fn add(
        &self,
        what: impl AsFd,
        token: Token,
        interest: Interest,
    ) -> Result<(), ReactorError> {
        let event = EpollEvent::new(interest.flags(), token.pack());
        self.0
            .add(what, event)
            .map_err(|errno| ReactorError::os("epoll_ctl", errno))
    }

    pub(super) fn change(
        &self,
        what: impl AsFd,
        token: Token,
        interest: Interest,
    ) -> Result<(), ReactorError> {
        let mut event = EpollEvent::new(interest.flags(), token.pack());
        self.0
            .modify(what, &mut event)
            .map_err(|errno| ReactorError::os("epoll_ctl", errno))
    }

    /// The descriptor is not waited for any more; one that never was is none either.
    pub(super) fn remove(&self, what: impl AsFd) {
        match self.0.delete(what) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => {
                tracing::warn!(%errno, "a descriptor could not be taken out of the epoll set")
            }
        }
    }

    /// Waits until something is ready, at most for `span`; nothing is ready where a signal came
    /// first.
    pub(super) fn wait(&self, span: Nanos) -> Result<Vec<Token>, ReactorError> {
        // Rounded up, so that a deadline has passed when it is looked at. Two days at the longest.
        let ms = span.get().div_ceil(1_000_000).min(172_800_000);
        let timeout = i32::try_from(ms)
            .ok()
            .and_then(|ms| EpollTimeout::try_from(ms).ok());
        let mut events = [EpollEvent::empty(); BATCH];
        let waited = fault::syscall(Call::Poll).and_then(|()| {
            self.0
                .wait(&mut events, timeout.unwrap_or(EpollTimeout::ZERO))
        });
        match waited {
            Ok(count) => Ok(events
                .iter()
                .take(count)
                .filter_map(|event| Token::unpack(event.data()))
                .collect()),
            Err(Errno::EINTR) => Ok(Vec::new()),
            Err(errno) => Err(ReactorError::os("epoll_wait", errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_went_in() {
        let client = ClientId::new(77).unwrap();
        for token in [
            Token::Listener,
            Token::Inbox,
            Token::Builder,
            Token::Liveness,
            Token::Signals,
            Token::Connection(ConnectionId(1 << 40)),
            Token::Process(client),
            Token::Events(client),
            Token::Store,
            Token::Departed(7),
        ] {
            assert_eq!(Token::unpack(token.pack()), Some(token));
        }
        assert_eq!(Token::unpack(99 << KIND_SHIFT), None);
        assert_eq!(
            Token::unpack(6 << KIND_SHIFT),
            None,
            "no client has number 0"
        );
    }
}
