//! What those who have the heap ask of the daemon.

use pool_core::SegmentId;
use pool_proto::common::v1::{Access, Coherence, CoherenceMode, Lifetime};
use pool_proto::session::v1 as session;
use session::request::Body;

use super::super::World;
use super::super::plans::{CHUNK_EXTENTS, TIERS, bytes};
use super::{NAME, Part, Wish, name_of};
use crate::broken::Checked;

/// How long a unit of the domain may be kept: nobody leases one.
const RECALL_MS: u32 = 3_600_000;

impl World {
    /// A process asks for what it wishes, one after the other, until it has to wait.
    pub(super) fn ask(&mut self, h: usize, pid: u32) -> Checked {
        loop {
            let machine = &mut self.machines[h];
            let is_there = machine.engine.is_some();
            let process = machine.processes.get_mut(&pid);
            let Some(process) = process.filter(|process| is_there && process.is_idle()) else {
                return Ok(());
            };
            let Some(wish) = process.wishes.pop_front() else {
                return Ok(());
            };
            if let Some(body) = self.request_for(h, pid, &wish) {
                self.send(h, pid, body)?;
            }
        }
    }

    fn request_for(&mut self, h: usize, pid: u32, wish: &Wish) -> Option<Body> {
        let machine = &self.machines[h];
        let process = machine.processes.get(&pid)?;
        let holds = |id: &SegmentId| process.held.contains_key(id);
        let chunk = |number| {
            let mut parts = machine.parts();
            let found = parts.find(|(part, _)| *part == Part::Chunk(number));
            found.map(|(_, segment)| segment)
        };
        let open = |name| {
            let access = Access::ReadWrite.into();
            Some(Body::Open(session::Open { name, access }))
        };
        match wish {
            Wish::Make(number, tier) => match chunk(*number) {
                Some(segment) if holds(&segment) => None,
                Some(_) => open(name_of(*number)),
                None => Some(Body::Create(self.chunk(*number, tier))),
            },
            Wish::Open(number) => match chunk(*number) {
                Some(segment) if !holds(&segment) => open(name_of(*number)),
                _ => None,
            },
            Wish::Free(segment) => Some(Body::Free(session::Free {
                segment_id: segment.number(),
                force: true,
            })),
            Wish::Close(segment) => holds(segment).then(|| {
                let segment_id = segment.number();
                Body::Close(session::Close { segment_id })
            }),
        }
    }

    fn chunk(&mut self, number: usize, tier: &str) -> session::Create {
        let wait_ms = if self.rng.once_in(4) {
            self.rng.below(500)
        } else {
            0
        };
        session::Create {
            tier: tier.to_owned(),
            bytes: bytes(CHUNK_EXTENTS),
            align: bytes(CHUNK_EXTENTS),
            name: name_of(number),
            lifetime: Lifetime::Persistent.into(),
            wait_ms,
            ..session::Create::default()
        }
    }

    /// A process opens every chunk that there is: what its heap will ask for is there then.
    pub(super) fn ask_for_chunks(&mut self, h: usize, pid: u32) -> Checked {
        let parts = self.machines[h].parts();
        let chunks = parts.filter_map(|(part, _)| match part {
            Part::Chunk(number) => Some(Wish::Open(number)),
            Part::Control => None,
        });
        let chunks: Vec<Wish> = chunks.collect();
        if let Some(process) = self.machines[h].processes.get_mut(&pid) {
            process.wishes.extend(chunks);
        }
        self.ask(h, pid)
    }

    /// A process asks for the domain of the heap: it opens it, or makes it where there is none.
    pub(super) fn ask_for_domain(&mut self, h: usize, pid: u32) -> Checked {
        let mut parts = self.machines[h].parts();
        let is_there = parts.any(|(part, _)| part == Part::Control);
        drop(parts);
        let body = if is_there {
            let (name, access) = (NAME.to_owned(), Access::ReadWrite.into());
            Body::Open(session::Open { name, access })
        } else {
            Body::Create(session::Create {
                tier: TIERS[0].to_owned(),
                bytes: bytes(1),
                name: NAME.to_owned(),
                lifetime: Lifetime::Persistent.into(),
                coherence: Some(Coherence {
                    mode: CoherenceMode::Hardware.into(),
                    unit_bytes: bytes(1),
                    one_host: true,
                    recall_ms: RECALL_MS,
                    ..Coherence::default()
                }),
                ..session::Create::default()
            })
        };
        self.send(h, pid, body)
    }

    /// A process that has left the heap closes all that it had of it.
    pub(super) fn close_heap(&mut self, h: usize, pid: u32) -> Checked {
        if let Some(process) = self.machines[h].processes.get_mut(&pid) {
            process.wishes.clear();
            let parts = process.held.iter().filter(|(_, held)| held.part.is_some());
            let closes = parts.map(|(id, _)| Wish::Close(*id));
            process.wishes.extend(closes.collect::<Vec<_>>());
        }
        self.ask(h, pid)
    }
}
