//! Domains of the fake, of which the one client is the member at [`SLOT`]. Other members are
//! [`Peer`]s, which have the files of a domain mapped elsewhere in this process.

use std::os::fd::AsFd;

use coherence::recover::{Verdict, recover};
use coherence::{Directory, FutexWait, Layout, Member, Receiver, Slot};
use pool_core::Bytes;
use pool_core::descriptor::Descriptor;
use pool_core::mem::{Access, FileMap};
use pool_core::sync::atomic::Ordering;
use pool_proto::common::v1 as common;
use pool_proto::session::v1::{self as session, reply};

use super::model::{Model, Said, done, refused};

/// The place of the client.
pub(crate) const SLOT: Slot = match Slot::new(1) {
    Some(slot) => slot,
    None => Slot::DAEMON,
};

pub(super) fn layout_of(payload: u64, coherence: &common::Coherence) -> Layout {
    Layout::new(Bytes::new(payload), Bytes::new(coherence.unit_bytes)).unwrap()
}

/// Another member of a domain.
pub(crate) struct Peer {
    pub(crate) member: Member<FutexWait>,
    layout: Layout,
    directory: FileMap,
    payload: FileMap,
}

impl Peer {
    pub(crate) fn line(&self, unit: u32) -> &Descriptor {
        self.directory().line(unit).unwrap()
    }

    pub(crate) fn directory(&self) -> Directory<'_> {
        Directory::new(self.directory.mapped(), self.layout).unwrap()
    }

    /// What others need to hand it something.
    pub(crate) fn receiver(&self) -> Receiver {
        let slot = self.member.slot();
        let era = self.directory().era(slot).unwrap();
        Receiver { slot, era }
    }

    /// Writes the first word of a unit under a lease.
    pub(crate) fn write(&self, unit: u32, value: u64) {
        let line = self.line(unit);
        let grant = self.member.try_exclusive(line).unwrap();
        self.poke(unit, value);
        self.member.release_exclusive(line, &grant, true).unwrap();
    }

    /// Writes the first word of a unit, lease or none.
    pub(crate) fn poke(&self, unit: u32, value: u64) {
        let offset = Bytes::new(u64::from(unit) * self.layout.unit().get());
        let word = self.payload.mapped().write_view::<u64>(offset, 1).unwrap();
        word.set(0, value).unwrap();
    }

    /// What lies in the memory as the first word of a unit.
    pub(crate) fn peek(&self, unit: u32) -> u64 {
        let offset = Bytes::new(u64::from(unit) * self.layout.unit().get());
        let word = self.payload.mapped().view::<u64>(offset, 1).unwrap();
        word.get(0).unwrap()
    }

    /// Takes for dead whoever is in `slot`, as the daemon does.
    pub(crate) fn bury(&self, slot: Slot) {
        self.directory().leave(slot).unwrap();
        for line in self.directory().lines() {
            recover(line, slot, &FutexWait, |_| Verdict::Lost).unwrap();
        }
    }
}

impl Model {
    /// A member beside the client, in the files of a domain as they are now.
    pub(crate) fn peer(&self, segment: u64, slot: u8) -> Peer {
        let seg = &self.segments[&segment];
        let map = |index: usize| {
            let bytes = Bytes::new(seg.message.pieces[index].bytes);
            FileMap::new(
                seg.files[index].as_fd(),
                Bytes::ZERO,
                bytes,
                Access::ReadWrite,
            )
            .unwrap()
        };
        let peer = Peer {
            member: Member::new(Slot::new(slot).unwrap(), FutexWait),
            layout: self.layout(segment),
            directory: map(0),
            payload: map(1),
        };
        peer.directory().enter(peer.member.slot()).unwrap();
        peer
    }

    fn layout(&self, segment: u64) -> Layout {
        let message = &self.segments[&segment].message;
        let coherence = message.coherence.unwrap();
        layout_of(message.bytes - coherence.directory_bytes, &coherence)
    }

    fn with_directory<R>(&self, segment: u64, act: impl FnOnce(Directory<'_>) -> R) -> R {
        let layout = self.layout(segment);
        let file = self.segments[&segment].files[0].as_fd();
        let map = FileMap::new(file, Bytes::ZERO, layout.directory(), Access::ReadWrite).unwrap();
        act(Directory::new(map.mapped(), layout).unwrap())
    }

    pub(super) fn format(&self, segment: u64) {
        let mode = self.segments[&segment].message.coherence.unwrap().mode;
        let mode = u8::try_from(mode).unwrap();
        self.with_directory(segment, |directory| directory.format(mode).unwrap());
        self.place(segment);
    }

    /// Tells that the payload lies where the incarnation says.
    pub(super) fn place(&self, segment: u64) {
        let incarnation = self.segments[&segment].message.incarnation;
        self.with_directory(segment, |directory| {
            for line in directory.lines() {
                line.backing.store(incarnation, Ordering::Release);
            }
        });
    }

    pub(super) fn enter(&self, segment: u64) {
        self.with_directory(segment, |directory| directory.enter(SLOT).unwrap());
    }

    pub(super) fn acquire(&self, segment: u64, unit: u32) -> Said {
        let daemon = Member::new(SLOT, FutexWait);
        self.with_directory(segment, |directory| {
            let line = directory.line(unit).unwrap();
            let own = coherence::Own::judge(line.own.load(Ordering::Acquire)).unwrap();
            let shared = own.is_shared_by(SLOT, own.epoch());
            let granted = if shared {
                Ok(())
            } else {
                daemon.try_shared(unit, line).map(drop)
            };
            use common::{ErrorClass, ErrorReason};
            match granted {
                Ok(()) => {
                    let version = line.version.load(Ordering::Relaxed);
                    let backing = line.backing.load(Ordering::Relaxed);
                    let body = session::Acquired { version, backing };
                    (reply::Body::Acquired(body), Vec::new())
                }
                Err(coherence::LeaseError::Lost { .. }) => {
                    refused(ErrorClass::Lost, ErrorReason::Lost)
                }
                Err(_) => refused(ErrorClass::Exhausted, ErrorReason::InUse),
            }
        })
    }

    pub(super) fn release(&self, segment: u64, unit: u32) -> Said {
        let daemon = Member::new(SLOT, FutexWait);
        self.with_directory(segment, |directory| {
            let line = directory.line(unit).unwrap();
            let own = coherence::Own::judge(line.own.load(Ordering::Acquire)).unwrap();
            let grant = coherence::Grant {
                own,
                version: 0,
                backing: 0,
            };
            match daemon.release_shared(unit, line, &grant) {
                Ok(()) => done(),
                Err(_) => refused(common::ErrorClass::Caller, common::ErrorReason::OutOfOrder),
            }
        })
    }
}
