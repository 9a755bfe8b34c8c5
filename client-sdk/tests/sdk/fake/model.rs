//! What the fake daemon knows, and what it answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::memfd::{MFdFlags, memfd_create};
use pool_core::limits::LIVENESS_PAGE_BYTES;
use pool_core::mem::{Access, FileMap};
use pool_core::packet::{self, PacketError};
use pool_core::sync::atomic::{AtomicU64, Ordering};
use pool_core::units::GIB;
use pool_core::{Bytes, EXTENT_BYTES, Extents, GroupTag, PoolAddr};
use pool_proto::common::v1 as common;
use pool_proto::session::v1::{self as session, Reply, Request, reply, request};
use prost::Message as _;

use super::domain::{SLOT, layout_of};
use super::{Matcher, Script};

/// One segment of the fake.
pub(crate) struct Seg {
    pub(crate) message: common::Segment,
    pub(crate) files: Vec<OwnedFd>,
    pub(crate) access: Access,
}

pub(crate) struct Model {
    pub(crate) window_base: u64,
    pub(crate) epoch: u64,
    pub(crate) segments: BTreeMap<u64, Seg>,
    pub(crate) held: BTreeSet<u64>,
    /// Every request, in the order of arrival.
    pub(crate) log: Vec<(u64, request::Body)>,
    /// Backings of which a mapping or descriptor was left when their segment was released.
    pub(crate) unclean: Vec<u64>,
    /// Backings to be asked for at the next Reattach, and those that were brought.
    pub(crate) missing: Vec<u64>,
    pub(crate) supplied: Vec<u64>,
    /// Segments that were revoked, as the next Reattach is told.
    pub(crate) revoked: Vec<u64>,
    /// A client closed its event socket before it ended its session: as if it were to come back.
    pub(crate) hung_up_first: bool,
    /// The next Attach or Reattach is refused for this reason.
    pub(crate) refuse_session: Option<(common::ErrorClass, common::ErrorReason)>,
    pub(crate) liveness: OwnedFd,
    /// Answers that are held back: the connection, the bytes and the files of each.
    pub(super) late: Vec<(OwnedFd, Vec<u8>, Vec<OwnedFd>)>,
    pub(super) scripts: VecDeque<(Matcher, Script)>,
    /// Of each client, its last request that changed something, and the segment it granted.
    last: BTreeMap<u64, (u64, Option<u64>)>,
    clients: u64,
    next_id: u64,
    /// As one of before there was alignment: it does not know the field.
    pub(crate) ignores_align: bool,
    /// In extents from the base; never given out twice unless set back.
    pub(crate) next_extent: u64,
    /// Those that are served, by their number.
    pub(super) connections: BTreeMap<u64, OwnedFd>,
    last_connection: u64,
    pub(super) events: Option<OwnedFd>,
}

/// What every grant says of those who were given the segment to write.
const WRITERS: u64 = 7;

/// A request of a client.
#[derive(Clone, Copy)]
struct Who {
    client: u64,
    id: u64,
}

pub(super) type Said = (reply::Body, Vec<OwnedFd>);

impl Model {
    pub(super) fn add_connection(&mut self, connection: OwnedFd) -> u64 {
        self.last_connection += 1;
        self.connections.insert(self.last_connection, connection);
        self.last_connection
    }

    pub(super) fn new() -> Self {
        static BASE: AtomicU64 = AtomicU64::new(0x4000_0000_0000);
        let liveness = memfd_create("liveness", MFdFlags::MFD_CLOEXEC).unwrap();
        nix::unistd::ftruncate(&liveness, LIVENESS_PAGE_BYTES.cast_signed()).unwrap();
        Self {
            window_base: BASE.fetch_add(GIB, Ordering::Relaxed),
            epoch: 1,
            segments: BTreeMap::new(),
            held: BTreeSet::new(),
            log: Vec::new(),
            unclean: Vec::new(),
            missing: Vec::new(),
            revoked: Vec::new(),
            supplied: Vec::new(),
            hung_up_first: false,
            refuse_session: None,
            liveness,
            late: Vec::new(),
            scripts: VecDeque::new(),
            last: BTreeMap::new(),
            clients: 0,
            next_id: 1,
            ignores_align: false,
            next_extent: 0,
            connections: BTreeMap::new(),
            last_connection: 0,
            events: None,
        }
    }

    /// False to hang up.
    pub(super) fn answer(
        &mut self,
        socket: BorrowedFd<'_>,
        client: &mut u64,
        request: Request,
        files: Vec<OwnedFd>,
    ) -> bool {
        let (id, body) = (request.request_id, request.body.unwrap());
        self.log.push((id, body.clone()));
        match &body {
            request::Body::Attach(_) => {
                self.clients += 1;
                *client = self.clients;
            }
            request::Body::Reattach(ask) => *client = ask.client_id,
            _ => {}
        }
        let who = Who {
            client: *client,
            id,
        };
        let encoded = |request_id, body| {
            let body = Some(body);
            Reply { request_id, body }.encode_to_vec()
        };
        let reply = |id, (body, files): Said| {
            let bytes = encoded(id, body);
            let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
            // It fails where the client has given up.
            let _ = packet::send(socket, &bytes, &files);
        };
        let script = self.scripts.iter().position(|(matches, _)| matches(&body));
        match script.and_then(|place| self.scripts.remove(place)) {
            None => reply(id, self.carry_out(who, body, files)),
            Some((_, Script::DoAndHangUp)) => {
                self.carry_out(who, body, files);
                return false;
            }
            Some((_, Script::HangUp)) => return false,
            Some((_, script @ (Script::DoAndAnswerLate | Script::SayLate(..)))) => {
                let (body, files) = match script {
                    Script::SayLate(body, files) => (body, files),
                    _ => self.carry_out(who, body, files),
                };
                let connection = socket.try_clone_to_owned().unwrap();
                self.late.push((connection, encoded(id, body), files));
            }
            Some((_, Script::Say(body, files))) => reply(id, (body, files)),
            Some((_, Script::Send(bytes))) => packet::send(socket, &bytes, &[]).unwrap(),
            Some((_, Script::DoAndAnswerFirst(other))) => {
                reply(other, self.carry_out(who, body.clone(), Vec::new()));
                reply(id, self.carry_out(who, body, files));
            }
            Some((_, Script::AnswerOnly(other))) => reply(other, done()),
        }
        true
    }

    fn carry_out(&mut self, who: Who, body: request::Body, files: Vec<OwnedFd>) -> Said {
        use request::Body;
        if let Some(&(last, granted)) = self.last.get(&who.client)
            && last == who.id
        {
            return granted.map_or_else(done, |segment| self.grant(segment));
        }
        match body {
            Body::Attach(_) => self.attach(who.client),
            Body::Reattach(_) => self.reattach(),
            Body::Create(ask) => self.create(who, &ask),
            Body::Open(ask) => self.open(who, &ask),
            Body::Refresh(ask) => match self.held.contains(&ask.segment_id) {
                true => self.grant(ask.segment_id),
                false => refused(common::ErrorClass::Caller, common::ErrorReason::NotFound),
            },
            Body::Close(ask) => self.let_go(who, ask.segment_id, false),
            Body::Free(ask) => self.let_go(who, ask.segment_id, true),
            Body::Resize(ask) => self.resize(who, ask.segment_id, ask.bytes),
            Body::Revoke(ask) => self.renew(who, ask.segment_id, None),
            Body::Relocate(ask) => self.renew(who, ask.segment_id, Some(ask.tier)),
            Body::Supply(ask) => {
                assert_eq!(files.len(), 1);
                self.supplied.push(ask.backing_id);
                done()
            }
            Body::List(_) => {
                let segments = self
                    .segments
                    .values()
                    .map(|seg| seg.message.clone())
                    .collect();
                (
                    reply::Body::Listed(session::Listed {
                        segments,
                        truncated: false,
                    }),
                    Vec::new(),
                )
            }
            Body::Tiers(_) => {
                let tier = common::TierInfo {
                    name: "ddr".to_owned(),
                    ..Default::default()
                };
                (
                    reply::Body::Tiers(session::TierList { tiers: vec![tier] }),
                    Vec::new(),
                )
            }
            Body::Detach(_) => {
                // Nothing is ever sent on it.
                let hung_up = |events: &OwnedFd| {
                    let nothing = packet::receive(events.as_fd(), &mut [0]).unwrap_err();
                    nothing != PacketError::WouldBlock
                };
                self.hung_up_first |= self.events.as_ref().is_some_and(hung_up);
                done()
            }
            Body::Share(_) => done(),
            Body::Seal(ask) => self.seal(who, ask),
            Body::Join(ask) => self.join(who, &ask),
            Body::Acquire(ask) => self.acquire(ask.segment_id, ask.unit),
            Body::Release(ask) => self.release(ask.segment_id, ask.unit),
            Body::Recall(_) => done(),
        }
    }

    fn welcome(&mut self) -> Vec<OwnedFd> {
        let (ours, theirs) = packet::pair().unwrap();
        self.events = Some(ours);
        vec![theirs, self.liveness.try_clone().unwrap()]
    }

    fn attach(&mut self, client_id: u64) -> Said {
        if let Some((class, reason)) = self.refuse_session.take() {
            return refused(class, reason);
        }
        let body = session::Attached {
            client_id,
            token: vec![7; 16],
            tenant: "tests".to_owned(),
            window_base: self.window_base,
            window_bytes: 64 * EXTENT_BYTES,
            daemon_epoch: self.epoch,
            ..Default::default()
        };
        (reply::Body::Attached(body), self.welcome())
    }

    fn reattach(&mut self) -> Said {
        if let Some((class, reason)) = self.refuse_session.take() {
            return refused(class, reason);
        }
        let holding = |id: &u64| {
            let message = &self.segments.get(id)?.message;
            let (incarnation, bytes) = (message.incarnation, message.bytes);
            Some(session::Holding {
                segment_id: *id,
                incarnation,
                bytes,
            })
        };
        let body = session::Reattached {
            daemon_epoch: self.epoch,
            missing_backings: std::mem::take(&mut self.missing),
            held: self.held.iter().filter_map(holding).collect(),
            missing_more: false,
            revoked: std::mem::take(&mut self.revoked),
        };
        (reply::Body::Reattached(body), self.welcome())
    }

    fn create(&mut self, who: Who, ask: &session::Create) -> Said {
        let layout = ask
            .coherence
            .map(|coherence| layout_of(ask.bytes, &coherence));
        let directory = layout.map_or(0, |layout| layout.directory().get());
        let bytes = directory + ask.bytes.next_multiple_of(EXTENT_BYTES);
        let capacity = ask.capacity_bytes.max(bytes).next_multiple_of(EXTENT_BYTES);
        let segment = self.take_id();
        if ask.align > 0 && !self.ignores_align {
            let aligned = self.next_addr().get().next_multiple_of(ask.align);
            self.next_extent = (aligned - self.window_base) / EXTENT_BYTES;
        }
        let extents = Extents::new(u32::try_from(bytes / EXTENT_BYTES).unwrap());
        let tag = GroupTag::new([7; 8], self.next_addr(), extents).filter(|_| ask.tier == "common");
        let message = common::Segment {
            segment_id: segment,
            tag: tag.map(|tag| tag.to_string()).unwrap_or_default(),
            incarnation: self.take_id(),
            addr: self.next_addr().get(),
            bytes: 0,
            capacity_bytes: capacity,
            name: ask.name.clone(),
            tenant: "tests".to_owned(),
            tier: ask.tier.clone(),
            lifetime: ask.lifetime,
            coherence: ask.coherence.map(|coherence| common::Coherence {
                directory_bytes: directory,
                ..coherence
            }),
            ..Default::default()
        };
        self.next_extent += capacity / EXTENT_BYTES;
        self.segments.insert(
            segment,
            Seg {
                message,
                files: Vec::new(),
                access: Access::ReadWrite,
            },
        );
        let step = if ask.piece_bytes == 0 {
            bytes
        } else {
            ask.piece_bytes
        };
        let mut left = bytes;
        if let Some(layout) = layout {
            self.append(segment, layout.directory().get(), 0);
            left -= layout.directory().get();
        }
        while left > 0 {
            self.append(segment, step.min(left), 0);
            left -= step.min(left);
        }
        if layout.is_some() {
            self.format(segment);
            self.enter(segment);
        }
        self.held.insert(segment);
        self.last.insert(who.client, (who.id, Some(segment)));
        self.grant(segment)
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Adds a piece, every byte of which is `fill`.
    fn append(&mut self, segment: u64, bytes: u64, fill: u8) {
        let backing_id = self.take_id();
        let file = memfd_create(
            file_name(self.window_base, backing_id).as_str(),
            MFdFlags::MFD_CLOEXEC,
        )
        .unwrap();
        nix::unistd::ftruncate(&file, bytes.cast_signed()).unwrap();
        if fill != 0 {
            let (len, count) = (Bytes::new(bytes), usize::try_from(bytes).unwrap());
            let map = FileMap::new(file.as_fd(), Bytes::ZERO, len, Access::ReadWrite).unwrap();
            map.mapped()
                .write_view::<u8>(Bytes::ZERO, count)
                .unwrap()
                .fill(fill);
        }
        let seg = self.segments.get_mut(&segment).unwrap();
        seg.message.pieces.push(common::Piece {
            offset: seg.message.bytes,
            bytes,
            backing_id,
            descriptor: u32::try_from(seg.files.len()).unwrap(),
            device: "ddr0".to_owned(),
            emulated: true,
            pages: common::Pages::Base.into(),
        });
        seg.message.bytes += bytes;
        seg.files.push(file);
    }

    fn open(&mut self, who: Who, ask: &session::Open) -> Said {
        let found = self
            .segments
            .iter()
            .find(|(_, seg)| seg.message.name == ask.name);
        let Some(segment) = found.map(|(&segment, _)| segment) else {
            return refused(common::ErrorClass::Caller, common::ErrorReason::NotFound);
        };
        let before = self.held.contains(&segment);
        let seg = self.segments.get_mut(&segment).unwrap();
        let asked = match ask.access() {
            common::Access::ReadWrite => Access::ReadWrite,
            _ => Access::ReadOnly,
        };
        seg.access = if before { seg.access.max(asked) } else { asked };
        if !before && seg.message.coherence.is_some() {
            self.enter(segment);
        }
        self.held.insert(segment);
        self.last.insert(who.client, (who.id, Some(segment)));
        self.grant(segment)
    }

    pub(crate) fn grant(&self, segment: u64) -> Said {
        let seg = &self.segments[&segment];
        let access = match seg.access {
            Access::ReadOnly => common::Access::ReadOnly,
            Access::ReadWrite => common::Access::ReadWrite,
        };
        let files = seg
            .files
            .iter()
            .map(|file| reopen(file, seg.access))
            .collect();
        let granted = session::Granted {
            segment: Some(seg.message.clone()),
            access: access.into(),
            slot: match seg.message.coherence {
                Some(_) => u32::from(SLOT.index()),
                None => 0,
            },
            writers: WRITERS,
        };
        (reply::Body::Granted(granted), files)
    }

    /// Whether the client has the segment, as far as it has told.
    pub(crate) fn holds(&self, segment: u64) -> bool {
        self.held.contains(&segment)
    }

    fn let_go(&mut self, who: Who, segment: u64, free: bool) -> Said {
        if free && !self.segments.contains_key(&segment) {
            return refused(common::ErrorClass::Caller, common::ErrorReason::NotFound);
        }
        if let Some(seg) = self
            .segments
            .get(&segment)
            .filter(|_| self.held.contains(&segment))
        {
            for (piece, file) in seg.message.pieces.iter().zip(&seg.files) {
                if in_use(self.window_base, piece.backing_id, file) {
                    self.unclean.push(piece.backing_id);
                }
            }
        }
        self.held.remove(&segment);
        self.last.insert(who.client, (who.id, None));
        let persistent = |seg: &Seg| seg.message.lifetime() == common::Lifetime::Persistent;
        if free || !self.segments.get(&segment).is_some_and(persistent) {
            self.segments.remove(&segment);
        }
        done()
    }

    fn resize(&mut self, who: Who, segment: u64, bytes: u64) -> Said {
        let seg = self.segments.get_mut(&segment).unwrap();
        let before = seg.message.bytes;
        if bytes > before {
            self.append(segment, bytes - before, 0);
            let message = &mut self.segments.get_mut(&segment).unwrap().message;
            message.capacity_bytes = message.capacity_bytes.max(bytes);
        } else {
            let kept = seg
                .message
                .pieces
                .iter()
                .filter(|piece| piece.offset < bytes)
                .count();
            seg.message.pieces.truncate(kept);
            seg.files.truncate(kept);
            seg.message.bytes = bytes;
        }
        self.last.insert(who.client, (who.id, Some(segment)));
        self.grant(segment)
    }

    fn seal(&mut self, who: Who, ask: session::Seal) -> Said {
        let seg = self.segments.get_mut(&ask.segment_id).unwrap();
        assert_eq!(ask.writers, WRITERS, "as it was granted");
        for (piece, file) in seg.message.pieces.iter().zip(&seg.files) {
            if is_mapped(self.window_base, piece.backing_id) {
                self.unclean.push(piece.backing_id);
            }
            // It may be asked for by a daemon that lost it: so it is kept.
            assert!(in_use(self.window_base, piece.backing_id, file));
        }
        (seg.message.sealed, seg.access) = (true, Access::ReadOnly);
        self.last.insert(who.client, (who.id, Some(ask.segment_id)));
        self.grant(ask.segment_id)
    }

    fn join(&mut self, who: Who, ask: &session::Join) -> Said {
        let mut all = self.segments.values();
        let sealed = all.find(|seg| seg.message.sealed && seg.message.tag == ask.tag);
        let Some(id) = sealed.map(|seg| seg.message.segment_id) else {
            return refused(common::ErrorClass::Caller, common::ErrorReason::NotFound);
        };
        self.held.insert(id);
        self.last.insert(who.client, (who.id, Some(id)));
        self.grant(id)
    }

    fn renew(&mut self, who: Who, segment: u64, tier: Option<String>) -> Said {
        self.refill(segment, 0x5a);
        if let Some(tier) = tier {
            self.segments.get_mut(&segment).unwrap().message.tier = tier;
        }
        self.last.insert(who.client, (who.id, Some(segment)));
        self.grant(segment)
    }

    /// A new incarnation in new files, every byte of which is `fill`.
    pub(crate) fn refill(&mut self, segment: u64, fill: u8) {
        let incarnation = self.take_id();
        let seg = self.segments.get_mut(&segment).unwrap();
        let bytes = std::mem::take(&mut seg.message.bytes);
        seg.message.incarnation = incarnation;
        let directory = seg
            .message
            .coherence
            .map_or(0, |domain| domain.directory_bytes);
        let kept = usize::from(directory > 0);
        seg.message.bytes = directory;
        seg.message.pieces.truncate(kept);
        seg.files.truncate(kept);
        self.append(segment, bytes - directory, fill);
        if kept > 0 {
            self.place(segment);
        }
    }

    /// Requests of one kind.
    pub(crate) fn asked(&self, matches: Matcher) -> Vec<u64> {
        self.log
            .iter()
            .filter(|(_, body)| matches(body))
            .map(|(id, _)| *id)
            .collect()
    }

    /// The address of the next segment to be created.
    pub(crate) fn next_addr(&self) -> PoolAddr {
        PoolAddr::new(self.window_base + self.next_extent * EXTENT_BYTES)
    }
}

fn reopen(file: &OwnedFd, access: Access) -> OwnedFd {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(access == Access::ReadWrite);
    options
        .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .unwrap()
        .into()
}

/// Unique in this process, which runs many fakes.
fn file_name(window_base: u64, backing: u64) -> String {
    format!("fake-{window_base:x}-{backing}")
}

/// Whether anything of the file is left but `file`, here where fake and client are one process.
pub(crate) fn in_use(base: u64, backing: u64, file: &OwnedFd) -> bool {
    let mapped = is_mapped(base, backing);
    let inode = |status: nix::sys::stat::FileStat| (status.st_dev, status.st_ino);
    let wanted = inode(nix::sys::stat::fstat(file).unwrap());
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let open = open.filter_map(|entry| nix::sys::stat::stat(&entry.unwrap().path()).ok());
    mapped || open.filter(|status| inode(*status) == wanted).count() > 1
}

fn is_mapped(base: u64, backing: u64) -> bool {
    let name = format!("memfd:{} ", file_name(base, backing));
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.contains(&name)
}

pub(super) fn done() -> Said {
    (reply::Body::Done(session::Done {}), Vec::new())
}

pub(crate) fn refused(class: common::ErrorClass, reason: common::ErrorReason) -> Said {
    let message = format!("refused: {}", reason.as_str_name());
    let error = common::Error {
        class: class.into(),
        reason: reason.into(),
        message,
        limit: 3,
        used: 2,
        asked: 2,
    };
    (reply::Body::Error(error), Vec::new())
}
