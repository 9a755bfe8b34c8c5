//! The books of one daemon, kept from the rows of its journal alone.
//!
//! # Rules
//! - *one owner*: an extent belongs to one backing, from the commit that grants it to the one that
//!   frees it (P1, P2).
//! - *freed after proof*: it is free only after nobody maps it, as far as the daemon can know, and
//!   after it was in quarantine.
//! - *ids never repeat*: what a row was deleted under, or an incarnation, names nothing else ever.
//! - *acknowledged is durable*: what a client is told it was granted, or is done, the journal says
//!   (P2).
//! - *only who may*: a client is granted what its tenant owns, or what is shared with its tenant,
//!   with no more rights than that.
//! - *granted is there*: a file is made of extents of a device that were said to be there, and
//!   never of one that was said to be bad since it came, in this life of the daemon (P8).
//! - *given back is nobody's*: what the fabric is given back is of no backing that the journal has.
//! - *damage is told once*: a holder is told of each bad extent once, and again where it opens the
//!   segment or the daemon has begun anew.
//! - *a restart keeps*: within one boot a restart keeps every client, every segment that is held
//!   and every backing in use; a second restart changes nothing but the epoch (P3).
//! - *a seal is for ever*, and a segment stays where it is.
//! - *all is accounted for*: free + granted + in quarantine + retired = total (P1).

use std::collections::{BTreeMap, BTreeSet};

use pool_core::{DeviceId, EXTENT_BYTES};
use pool_daemon::engine::command::Capacity;
use pool_daemon::engine::{Engine, Run, RunSet};
use pool_daemon::journal::{Record, Table};
use pool_proto::common::v1::Access;
use pool_proto::journal::v1 as row;

use crate::broken::{Checked, broken, holds};
use crate::world::machine::{Durable, commit};

/// What is remembered from one commit to the next.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// Device and extent to backing.
    owners: BTreeMap<(u32, u32), u64>,
    /// Every row that was ever deleted.
    dead: BTreeSet<(Table, u64)>,
    incarnations: BTreeSet<u64>,
    /// Extents of a device whose memory comes and goes: those that are there, and the bad ones.
    there: RunSet,
    bad: RunSet,
    /// Client, segment and offset of all that was told in this life of the daemon.
    damage: BTreeSet<(u64, u64, u64)>,
}

/// Whether a file is there and mapped, as the daemon can know.
pub(crate) struct Known {
    pub(crate) is_kept: bool,
    pub(crate) is_mapped: bool,
}

fn extents_of(backing: &row::BackingRow) -> impl Iterator<Item = (u32, u32)> + '_ {
    let runs = backing.runs.iter();
    let numbers = runs.flat_map(|run| run.first..run.first.saturating_add(run.count));
    numbers.map(|extent| (backing.device_id, extent))
}

impl Books {
    /// Before `records` are taken into what is `durable`.
    pub(crate) fn commit(
        &mut self,
        durable: &Durable,
        records: &[Record],
        known: impl Fn(u64) -> Known,
    ) -> Checked {
        // What is freed in a commit may be granted again in it.
        for record in records {
            if let Record::Delete(table, key) = record
                && let Some(before) = durable.get(&(*table, *key))
            {
                self.dead.insert((*table, *key));
                if let Record::Backing(backing) = before {
                    self.freed(backing, &known(backing.backing_id))?;
                }
            }
        }
        for record in records {
            if matches!(record, Record::Delete(..)) {
                continue;
            }
            let place = record.place();
            let before = durable.get(&place);
            if before.is_none() {
                let is_new = !self.dead.contains(&place);
                holds(is_new, "ids never repeat", || format!("{place:?} again"))?;
            }
            match (before, record) {
                (None, Record::Backing(backing)) => self.granted(backing)?,
                (Some(Record::Backing(before)), Record::Backing(now)) => {
                    let same = before.runs == now.runs && before.device_id == now.device_id;
                    holds(same, "one owner", || format!("{now:?} was {before:?}"))?;
                }
                (None, Record::Segment(segment)) => self.incarnate(segment)?,
                (Some(Record::Segment(before)), Record::Segment(now)) => {
                    self.changed(before, now)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn granted(&mut self, backing: &row::BackingRow) -> Checked {
        for extent in extents_of(backing) {
            let before = self.owners.insert(extent, backing.backing_id);
            holds(before.is_none(), "one owner", || {
                let id = backing.backing_id;
                format!("extent {extent:?} is granted to backing {id} and is {before:?}'s")
            })?;
        }
        Ok(())
    }

    fn freed(&mut self, backing: &row::BackingRow, known: &Known) -> Checked {
        let id = backing.backing_id;
        for extent in extents_of(backing) {
            let owner = self.owners.remove(&extent);
            holds(owner == Some(id), "one owner", || {
                format!("extent {extent:?} of backing {id} is freed and is {owner:?}'s")
            })?;
        }
        let rule = "freed after proof";
        let is_proven = !(known.is_kept && known.is_mapped);
        holds(is_proven, rule, || format!("backing {id} is mapped"))?;
        // A file whose descriptor is lost may end in the commit that finds it lost.
        let was_in_quarantine = !known.is_kept || backing.charged_tenant_id != 0;
        holds(was_in_quarantine, rule, || {
            format!("backing {id} was in use")
        })
    }

    fn incarnate(&mut self, segment: &row::SegmentRow) -> Checked {
        let is_new = self.incarnations.insert(segment.incarnation);
        holds(is_new, "ids never repeat", || {
            format!("incarnation {} again", segment.incarnation)
        })
    }

    fn changed(&mut self, before: &row::SegmentRow, now: &row::SegmentRow) -> Checked {
        let id = now.segment_id;
        let stays = before.addr == now.addr && before.tenant_id == now.tenant_id;
        holds(stays, "a seal is for ever", || {
            format!("segment {id} is elsewhere")
        })?;
        if now.freed {
            return Ok(());
        }
        holds(now.sealed || !before.sealed, "a seal is for ever", || {
            format!("segment {id} is sealed no more")
        })?;
        if before.incarnation == now.incarnation {
            let mut both = before.backings.iter().zip(&now.backings);
            return holds(both.all(|(a, b)| a == b), "ids never repeat", || {
                format!("segment {id} has other files in the same incarnation")
            });
        }
        self.incarnate(now)
    }

    /// The daemon started anew, from `before`, and committed `records`.
    pub(crate) fn restarted(
        before: &Durable,
        after: &Durable,
        boot: &str,
        again: &[Record],
    ) -> Checked {
        let pool = |durable: &Durable| match durable.get(&(Table::Pool, 1)) {
            Some(Record::Pool(pool)) => Some(row::PoolRow {
                daemon_epoch: 0,
                ..pool.clone()
            }),
            _ => None,
        };
        let rule = "a restart keeps";
        let mut twice = after.clone();
        commit(&mut twice, again);
        let same = pool(&twice) == pool(after) && {
            let rest = |durable: &Durable| {
                let mut durable = durable.clone();
                durable.remove(&(Table::Pool, 1));
                durable
            };
            rest(&twice) == rest(after)
        };
        holds(same, rule, || format!("a second restart writes {again:?}"))?;
        if pool(before).is_none_or(|pool| pool.boot_id != boot) {
            return Ok(());
        }
        for (place, record) in before {
            let is_granted = match record {
                Record::Client(_) => true,
                Record::Segment(segment) => !segment.freed && !segment.holders.is_empty(),
                Record::Backing(backing) => backing.charged_tenant_id == 0,
                _ => false,
            };
            if is_granted && after.get(place) != Some(record) {
                let now = after.get(place);
                return broken(
                    rule,
                    format_args!("{place:?} is {now:?} and was {record:?}"),
                );
            }
        }
        Ok(())
    }

    /// A client is told that it holds a segment.
    pub(crate) fn told_granted(
        durable: &Durable,
        (client, segment): (u64, u64),
        (incarnation, is_sealed): (u64, bool),
        pieces: &[u64],
    ) -> Checked {
        let rule = "acknowledged is durable";
        let Some(Record::Segment(row)) = durable.get(&(Table::Segments, segment)) else {
            return broken(rule, format_args!("segment {segment} has no row"));
        };
        let holds_it = row.holders.iter().any(|holder| holder.client_id == client);
        let as_told = row.incarnation == incarnation
            && row.backings == pieces
            && row.sealed == is_sealed
            && !row.freed;
        holds(holds_it && as_told, rule, || {
            format!("client {client} is told of {incarnation}, {pieces:?}, and the row is {row:?}")
        })?;
        for &id in pieces {
            let Some(Record::Backing(backing)) = durable.get(&(Table::Backings, id)) else {
                return broken(rule, format_args!("backing {id} has no row"));
            };
            let is_its = backing.segment_id == segment && backing.charged_tenant_id == 0;
            holds(is_its, rule, || {
                format!("{backing:?} is a piece of segment {segment}")
            })?;
        }
        Ok(())
    }

    /// A client is told that it holds a segment: its tenant owns it, or it is shared with that.
    pub(crate) fn told_to_whom_it_may_be(
        durable: &Durable,
        (client, segment): (u64, u64),
        access: Access,
    ) -> Checked {
        let (Some(Record::Client(client)), Some(Record::Segment(row))) = (
            durable.get(&(Table::Clients, client)),
            durable.get(&(Table::Segments, segment)),
        ) else {
            return Ok(());
        };
        let covers = |share: &&row::ShareRow| {
            share.tenant_id == client.tenant_id
                && (share.access() == Access::ReadWrite || share.access() == access)
        };
        let may = client.tenant_id == row.tenant_id || row.shares.iter().any(|it| covers(&it));
        holds(may, "only who may", || {
            format!("{client:?} is granted {row:?}")
        })
    }

    /// A client is told that it holds a segment no more, or that nobody does.
    pub(crate) fn told_gone(durable: &Durable, client: Option<u64>, segment: u64) -> Checked {
        let Some(Record::Segment(row)) = durable.get(&(Table::Segments, segment)) else {
            return Ok(());
        };
        let holds_it = |client| row.holders.iter().any(|holder| holder.client_id == client);
        let is_there = client.map_or(!row.freed, holds_it);
        holds(!is_there, "acknowledged is durable", || {
            format!("client {client:?} is told that {segment} is gone, and the row is {row:?}")
        })
    }

    /// After a step. `building`: extents of files that are ordered and not granted yet.
    pub(crate) fn accounted(&self, engine: &Engine) -> Checked {
        let rule = "all is accounted for";
        let report = engine.check();
        holds(report.balanced, rule, || format!("{:?}", report.findings))?;
        let mut owned = 0;
        for device in &report.devices {
            let parts = device.free_extents + device.granted_extents + device.quarantined_extents;
            holds(device.total_extents == parts, rule, || {
                format!("{device:?}")
            })?;
            owned += device.granted_extents + device.quarantined_extents;
        }
        // What is being built is carved and has no row yet.
        let rows = self.owners.len();
        holds(rows <= owned as usize, rule, || {
            format!("{rows} extents have owners, and the engine knows of {owned}")
        })
    }

    /// Something is said of the device.
    pub(crate) fn told(&mut self, change: &Capacity) {
        let set = |runs: &[Run]| runs.iter().copied().collect::<RunSet>();
        match change {
            Capacity::Present(runs) => {
                self.there = set(runs);
                // Of one that leaves and comes anew nothing is known, and what becomes of it is
                // told anew.
                let still = self.bad.common(&self.there);
                if still.count() < self.bad.count() {
                    self.damage.clear();
                }
                self.bad = still;
            }
            Capacity::Poisoned(runs) => {
                let fresh = set(runs).minus(&self.bad);
                let all = self.bad.iter().chain(fresh.iter()).collect();
                self.bad = all;
            }
            Capacity::Withdraw { .. }
            | Capacity::Reached(_)
            | Capacity::Noted(_)
            | Capacity::Groups(_)
            | Capacity::Unpublished(_)
            | Capacity::NoGroup { .. } => {}
        }
    }

    /// The daemon has let go of extents.
    pub(crate) fn withdrawn(&mut self, runs: &[Run]) {
        self.there = self.there.minus(&runs.iter().copied().collect());
    }

    /// A file is to be made of these extents of the device.
    pub(crate) fn ordered(&self, runs: &[Run]) -> Checked {
        let runs: RunSet = runs.iter().copied().collect();
        let is_there = runs.minus(&self.there).count() == 0;
        let is_good = runs.common(&self.bad).count() == 0;
        holds(is_there && is_good, "granted is there", || {
            format!(
                "{runs:?}; there are {:?}, bad are {:?}",
                self.there, self.bad
            )
        })
    }

    /// A device is about to give a piece back to the fabric: where it begins, behind the first
    /// extent, and how many bytes there are.
    pub(crate) fn gives_back(&self, device: DeviceId, (start, bytes): (u64, u64)) -> Checked {
        let first = start / EXTENT_BYTES;
        let mut extents = first..first + bytes / EXTENT_BYTES;
        let owner = extents.find_map(|extent| {
            let extent = u32::try_from(extent).ok()?;
            self.owners.get(&(device.number(), extent))
        });
        holds(owner.is_none(), "given back is nobody's", || {
            format!("{bytes} bytes at {start} of {device} have an extent of backing {owner:?}")
        })
    }

    /// Whether it was said that an extent is bad, or it is not there.
    pub(crate) fn knows_bad(&self, extent: u32) -> bool {
        let one = RunSet::of(Run {
            first: extent,
            count: 1,
        });
        self.bad.common(&one).count() > 0 || self.there.common(&one).count() == 0
    }

    /// A daemon begins a life: it knows of no damage, hears of what is bad still, and says again
    /// what it has said.
    pub(crate) fn begins_a_life(&mut self) {
        self.damage.clear();
        self.bad = RunSet::default();
    }

    /// A client opens a segment: it may be told again of what is bad.
    pub(crate) fn opens(&mut self, client: u64) {
        self.damage.retain(|(whom, ..)| *whom != client);
    }

    /// A client is told of damage.
    pub(crate) fn told_of_damage(&mut self, client: u64, segment: u64, offset: u64) -> Checked {
        let is_news = self.damage.insert((client, segment, offset));
        holds(is_news, "damage is told once", || {
            format!("client {client} was told of {offset} of segment {segment} before")
        })
    }

    /// Nothing is owned by anybody.
    pub(crate) fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }
}
