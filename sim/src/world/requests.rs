//! What an op has a process ask for.

use pool_core::SegmentId;
use pool_daemon::journal::Record;
use pool_proto::common::v1::{Access, Coherence, CoherenceMode, Lifetime, OnDeath};
use pool_proto::session::v1 as session;
use session::request::Body;

use super::World;
use super::heap;
use super::plans::{GROUP_NAMES, NAMES, TENANTS, TIERS, bytes};
use crate::op::{Kind, Op};

/// The longest that anybody waits for memory.
pub(super) const WAIT_MOST_MS: u64 = 4_000;

impl World {
    /// The request of an op of a process; nothing where the op is none that asks.
    pub(super) fn request_of(&mut self, h: usize, pid: u32, op: &Op) -> Option<Body> {
        let [_, _, c, d] = op.picks;
        let tenant = |pick: u16| TENANTS[usize::from(pick) % TENANTS.len()].to_owned();
        let segment_id = self.segment_of(h, pid, c);
        let access = if d.is_multiple_of(3) {
            Access::ReadOnly
        } else {
            Access::ReadWrite
        };
        Some(match op.kind {
            Kind::Create => Body::Create(self.create(c, d)),
            Kind::CreateDomain => Body::Create(self.create_domain(c, d)),
            Kind::MakeGroup => Body::Create(self.make_group(c, d)?),
            Kind::Join => Body::Join(self.join_group(h, c, d)?),
            Kind::Open => {
                let names = NAMES.into_iter().chain(GROUP_NAMES);
                let names = names.filter(|name| !name.is_empty());
                let count = if self.mix.group_extents > 0 { 6 } else { 3 };
                let name = names.clone().nth(usize::from(c) % count).unwrap_or("");
                let name = match d % 4 {
                    0 => format!("{}:{name}", tenant(d / 4)),
                    _ => name.to_owned(),
                };
                let access = access.into();
                Body::Open(session::Open { name, access })
            }
            Kind::Refresh => Body::Refresh(session::Refresh { segment_id }),
            Kind::Close => {
                let owes = self.machines[h].processes.get(&pid)?.owes.first();
                let segment_id = owes.map_or(segment_id, |id| id.number());
                Body::Close(session::Close { segment_id })
            }
            Kind::Free => {
                let force = d.is_multiple_of(2);
                Body::Free(session::Free { segment_id, force })
            }
            Kind::Resize => {
                let bytes = bytes(u32::from(d % 8) + 1);
                Body::Resize(session::Resize { segment_id, bytes })
            }
            Kind::Share => Body::Share(session::Share {
                segment_id,
                tenant: tenant(d / 4),
                access: access.into(),
            }),
            Kind::Revoke => {
                let tenant = tenant(d);
                Body::Revoke(session::Revoke { segment_id, tenant })
            }
            Kind::Relocate => {
                let tier = TIERS[usize::from(d) % TIERS.len()].to_owned();
                Body::Relocate(session::Relocate { segment_id, tier })
            }
            Kind::Seal => Body::Seal(self.seal(h, pid, segment_id, d)),
            Kind::SealGroup => {
                let segment_id = self.group_to_seal(h, pid)?;
                Body::Seal(self.seal(h, pid, segment_id, d))
            }
            Kind::Recall => {
                let waits = self.wait_for_unit(h, pid, d);
                let (segment_id, unit) = waits.unwrap_or((segment_id, u32::from(d % 3)));
                Body::Recall(session::Recall { segment_id, unit })
            }
            Kind::List => Body::List(session::List {}),
            Kind::Detach => Body::Detach(session::Detach {}),
            _ => return None,
        })
    }

    /// Now and then it is not known who wrote.
    fn seal(&self, h: usize, pid: u32, segment_id: u64, d: u16) -> session::Seal {
        let known = self.writers_of(h, pid, segment_id);
        let writers = known ^ u64::from(d.is_multiple_of(8));
        session::Seal {
            segment_id,
            writers,
        }
    }

    fn create(&mut self, c: u16, d: u16) -> session::Create {
        let (rng, extents) = (&mut self.rng, u32::from(c % 5) + 1);
        let named = usize::from(c / 8) % NAMES.len();
        let spare = if rng.once_in(4) { 1 + rng.below(5) } else { 0 };
        let spare = u32::try_from(spare).unwrap_or(0);
        let piece = if rng.once_in(2) { 1 + rng.below(3) } else { 0 };
        let kept = named > 0 && rng.once_in(2);
        session::Create {
            tier: TIERS[usize::from(d) % TIERS.len()].to_owned(),
            bytes: bytes(extents),
            capacity_bytes: if spare == 0 {
                0
            } else {
                bytes(extents + spare)
            },
            name: NAMES[named].to_owned(),
            lifetime: if kept {
                Lifetime::Persistent
            } else {
                Lifetime::Held
            }
            .into(),
            piece_bytes: bytes(u32::try_from(piece).unwrap_or(0)),
            wait_ms: if rng.once_in(2) {
                rng.below(WAIT_MOST_MS)
            } else {
                0
            },
            coherence: None,
            align: if rng.once_in(4) {
                bytes(1 << rng.below(5))
            } else {
                0
            },
        }
    }

    /// Domains lie in DDR: their words are this host's alone.
    fn create_domain(&mut self, c: u16, d: u16) -> session::Create {
        let on_death = if d.is_multiple_of(3) {
            OnDeath::Keep
        } else {
            OnDeath::Lose
        };
        session::Create {
            tier: TIERS[0].to_owned(),
            bytes: bytes(u32::from(c % 2) + 1),
            name: NAMES[1 + usize::from(c / 8) % (NAMES.len() - 1)].to_owned(),
            coherence: Some(Coherence {
                mode: CoherenceMode::Hardware.into(),
                unit_bytes: bytes(1),
                on_death: on_death.into(),
                one_host: true,
                recall_ms: 50,
                ..Coherence::default()
            }),
            ..session::Create::default()
        }
    }

    /// The id of a segment: mostly of one that the process holds, else of one that is, was or never
    /// will be.
    fn segment_of(&self, h: usize, pid: u32, pick: u16) -> u64 {
        let machine = &self.machines[h];
        // What is of a heap its members see to.
        let held = machine.processes.get(&pid).map(|process| &process.held);
        let held = held.into_iter().flatten();
        let held = held
            .filter(|(_, held)| held.part.is_none())
            .map(|(id, _)| id);
        let held: Vec<_> = held.collect();
        let place = usize::from(pick / 8).checked_rem(held.len());
        if let Some(id) = place.and_then(|place| held.get(place))
            && !pick.is_multiple_of(8)
        {
            return id.number();
        }
        let segments = machine.durable.values().filter_map(|record| match record {
            Record::Segment(row) if heap::part(&row.name).is_none() => Some(row.segment_id),
            _ => None,
        });
        let segments: Vec<_> = segments.collect();
        let place = usize::from(pick / 8) % (segments.len() + 1);
        segments.get(place).copied().unwrap_or(u64::from(pick))
    }

    /// A group that a process may write.
    fn group_to_seal(&self, h: usize, pid: u32) -> Option<u64> {
        let mut held = self.machines[h].processes.get(&pid)?.held.iter();
        let (id, _) = held.find(|(_, held)| held.may_be_sealed())?;
        Some(id.number())
    }

    pub(super) fn writers_of(&self, h: usize, pid: u32, segment: u64) -> u64 {
        let process = self.machines[h].processes.get(&pid);
        let id = SegmentId::new(segment);
        let held = process
            .zip(id)
            .and_then(|(process, id)| process.held.get(&id));
        held.map_or(0, |held| held.writers)
    }
}
