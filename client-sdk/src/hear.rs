//! The event socket of a session's connection, and what is done with what comes on it.
//!
//! The background thread hears events as they come. Whoever takes the session up on a new
//! connection first hears those of the connection before: what they say of a segment is more than
//! that it is held no more.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use pool_core::packet::{self, PacketError};
use pool_core::sync::atomic::Ordering;
use pool_core::sync::{Arc, lock};
use pool_core::{Bytes, Incarnation, SegmentId};
use pool_proto::session::v1::event;

use crate::event::Event;
use crate::shared::Shared;
use crate::table::News;
use crate::wire;

/// The event socket of one connection.
#[derive(Debug)]
pub(crate) struct Listening {
    /// Which connection of the session it is.
    generation: u64,
    events: Arc<OwnedFd>,
    /// The daemon has closed it, or broke the protocol.
    broken: bool,
    buffer: Vec<u8>,
}

impl Listening {
    pub(crate) fn new(generation: u64, events: OwnedFd) -> Self {
        Self {
            generation,
            events: Arc::new(events),
            broken: false,
            buffer: wire::buffer(),
        }
    }
}

impl Shared {
    /// The socket on which events come, unless there is none or it is broken.
    pub(crate) fn events_socket(&self) -> Option<Arc<OwnedFd>> {
        let listening = lock(&self.listening);
        let whole = listening.as_ref().filter(|listening| !listening.broken);
        whole.map(|listening| Arc::clone(&listening.events))
    }

    /// Forgets the socket where it is broken, and says whose it was.
    pub(crate) fn broken_connection(&self) -> Option<u64> {
        let broken = lock(&self.listening).take_if(|listening| listening.broken);
        broken.map(|listening| listening.generation)
    }

    /// Acts on every event there is, in the order in which they came.
    pub(crate) fn hear(self: &Arc<Self>) {
        let mut listening = lock(&self.listening);
        let Some(listening) = listening.as_mut() else {
            return;
        };
        while !listening.broken {
            let event = match packet::receive(listening.events.as_fd(), &mut listening.buffer) {
                Ok(packet) => wire::decode_event(&listening.buffer[..packet.len]).ok(),
                Err(PacketError::WouldBlock) => return,
                Err(_) => None,
            };
            let understood = event.and_then(|event| self.act_on(event));
            listening.broken = understood.is_none();
        }
    }

    /// `None` for an event that breaks the protocol.
    fn act_on(self: &Arc<Self>, body: event::Body) -> Option<()> {
        let event = match body {
            event::Body::Pressure(pressure) => {
                let deadline = Duration::from_millis(pressure.deadline_ms);
                self.give_ready_back(&pressure.tier, deadline);
                Event::Pressure {
                    tier: pressure.tier,
                    bytes: Bytes::new(pressure.bytes),
                    deadline,
                }
            }
            event::Body::Revoked(revoked) => {
                let segment = SegmentId::new(revoked.segment_id)?;
                let meant = Incarnation::new(revoked.incarnation);
                if !self.end(segment, News::Revoked(meant)) {
                    return Some(());
                }
                Event::Revoked { segment }
            }
            event::Body::Lost(lost) => {
                let segment = SegmentId::new(lost.segment_id)?;
                if !self.end(segment, News::Lost) {
                    return Some(());
                }
                Event::Lost { segment }
            }
            event::Body::Damaged(damaged) => Event::Damaged {
                segment: SegmentId::new(damaged.segment_id)?,
                offset: Bytes::new(damaged.offset),
                len: Bytes::new(damaged.bytes),
            },
            event::Body::Changed(changed) => {
                // Told to the program when it has happened.
                let segment = SegmentId::new(changed.segment_id)?;
                return self.tell(segment, News::Changed).ok().map(|_| ());
            }
            event::Body::DeviceLeaving(leaving) => {
                let segments = leaving.segment_ids.into_iter().map(SegmentId::new);
                Event::DeviceLeaving {
                    device: leaving.device,
                    segments: segments.collect::<Option<_>>()?,
                }
            }
            event::Body::Recalled(recalled) => {
                let segment = SegmentId::new(recalled.segment_id)?;
                let held = self.find(segment);
                if let Some(domain) = held.as_ref().and_then(|held| held.membership()) {
                    // Relaxed: it is looked at now and then, and nothing is read because of it.
                    domain.recalls.fetch_add(1, Ordering::Relaxed);
                }
                Event::Recalled {
                    segment,
                    unit: recalled.unit,
                    deadline: Duration::from_millis(recalled.within_ms),
                }
            }
            event::Body::DeviceBack(back) => Event::DeviceBack {
                device: back.device,
            },
        };
        self.events.publish(&event);
        Some(())
    }

    /// False where what is held now is not meant, or has ended already.
    fn end(self: &Arc<Self>, segment: SegmentId, news: News) -> bool {
        // What could not be replaced stays mapped, and nobody accesses it: the daemon will not have
        // its proof before the process ends.
        self.tell(segment, news).unwrap_or(true)
    }
}
