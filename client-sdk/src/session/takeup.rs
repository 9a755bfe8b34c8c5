//! Taking a session up again on a new connection, after the daemon restarted or hung up.
//!
//! The daemon says which files it has lost, and is brought those that this process has; it says
//! what this process holds by its journal, and what differs is lost or to be refreshed.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use pool_core::clock::Deadline;
use pool_core::limits::LIVENESS_PAGE_BYTES;
use pool_core::mem::{Access, FileMap};
use pool_core::sync::atomic::Ordering;
use pool_core::sync::{Arc, lock};
use pool_core::{Bytes, SegmentId};
use pool_proto::common::v1::ErrorReason;
use pool_proto::session::v1::{self as session, request};

use super::{ATTEMPT, Session, refusal};
use crate::connection::{Connection, Trip};
use crate::error::Error;
use crate::event::Event;
use crate::hear::Listening;
use crate::held::Fate;
use crate::shared::Shared;
use crate::table::News;
use crate::wire::{self, PROTOCOL, Welcome};

/// Why the session could not be taken up.
pub(super) enum Failed {
    /// Perhaps later.
    Now,
    /// It never will.
    ForGood(Error),
}

impl Session {
    /// Takes the session up on a new connection.
    pub(super) fn take_up(
        &mut self,
        shared: &Arc<Shared>,
        deadline: Deadline,
    ) -> Result<(), Failed> {
        let mut connection = Connection::open(&shared.socket).map_err(|errno| match errno {
            // It has stopped or died, or has more callers than it can take at once.
            Errno::ENOENT | Errno::ECONNREFUSED | Errno::EAGAIN => Failed::Now,
            errno => Failed::ForGood(Error::Socket {
                socket: shared.socket.clone(),
                errno,
            }),
        })?;
        // The ids of what belongs to a connection do not count: nothing of it changes the pool.
        let id = self.next_id;
        let deadline = deadline.min(Deadline::after(ATTEMPT));
        let ask = session::Reattach {
            protocol: PROTOCOL,
            client_id: self.client.number(),
            token: self.token.clone(),
        };
        let answer = connection.round_trip(id, &request::Body::Reattach(ask), &[], deadline)?;
        match refusal(&answer) {
            Some(ErrorReason::UnknownClient) => return Err(Failed::ForGood(self.end(shared))),
            Some(ErrorReason::Version) | None => {}
            Some(_) => return Err(Failed::Now),
        }
        let wire::Reattached { message, welcome } =
            wire::reattached(answer).map_err(Failed::ForGood)?;
        let Welcome { events, liveness } = welcome;
        let liveness = liveness_page(&liveness).map_err(Failed::ForGood)?;
        supply(shared, &mut connection, id, &message, deadline)?;
        // What the daemon told before says of some segments why they are held no more.
        shared.hear();
        reconcile(shared, &message).map_err(Failed::ForGood)?;
        self.generation += 1;
        *lock(&shared.listening) = Some(Listening::new(self.generation, events));
        *lock(&shared.liveness) = Some(liveness);
        let epoch = message.daemon_epoch;
        shared.epoch.store(epoch, Ordering::Relaxed);
        self.connection = Some(connection);
        shared.events.publish(&Event::DaemonBack { epoch });
        shared.wake();
        Ok(())
    }
}

impl From<Trip> for Failed {
    fn from(trip: Trip) -> Self {
        match trip {
            Trip::NotSent | Trip::NoAnswer | Trip::Gone => Self::Now,
            Trip::Broken(error) => Self::ForGood(error.into()),
            Trip::Unsent(error) | Trip::Unreceived(error) => Self::ForGood(Error::Packet(error)),
        }
    }
}

pub(crate) fn liveness_page(file: &OwnedFd) -> Result<FileMap, Error> {
    let page = Bytes::new(LIVENESS_PAGE_BYTES);
    Ok(FileMap::new(
        file.as_fd(),
        Bytes::ZERO,
        page,
        Access::ReadWrite,
    )?)
}

/// Brings back the files that the daemon has lost.
fn supply(
    shared: &Arc<Shared>,
    connection: &mut Connection,
    id: u64,
    message: &session::Reattached,
    deadline: Deadline,
) -> Result<(), Trip> {
    for held in shared.holdings() {
        let detail = held.detail();
        for piece in &detail.pieces {
            let backing_id = piece.backing.number();
            if message.missing_more || message.missing_backings.contains(&backing_id) {
                let body = request::Body::Supply(session::Supply { backing_id });
                // One that is refused is not wanted, or the segment ends: an event will say so.
                connection.round_trip(id, &body, &[piece.file.as_fd()], deadline)?;
            }
        }
    }
    Ok(())
}

/// Brings what this process holds in line with what the daemon says it holds.
fn reconcile(shared: &Arc<Shared>, said: &session::Reattached) -> Result<(), Error> {
    for held in shared.holdings() {
        let (id, detail) = (held.id(), held.detail());
        let (incarnation, bytes) = (detail.info.incarnation.number(), detail.info.bytes.get());
        drop(detail);
        let news = match said.held.iter().find(|said| said.segment_id == id.number()) {
            _ if held.fate() != Fate::Live => continue,
            None if said.revoked.contains(&id.number()) => News::Revoked(None),
            None => News::Lost,
            Some(said) if (said.incarnation, said.bytes) == (incarnation, bytes) => continue,
            Some(_) => News::Changed,
        };
        match (shared.tell(id, news)?, news) {
            (true, News::Lost) => shared.events.publish(&Event::Lost { segment: id }),
            (true, News::Revoked(_)) => shared.events.publish(&Event::Revoked { segment: id }),
            _ => {}
        }
    }
    let said = said.held.iter();
    shared.close_unknown(said.filter_map(|said| SegmentId::new(said.segment_id)));
    Ok(())
}
