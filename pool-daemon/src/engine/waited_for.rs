//! Who may still have mapped what is in quarantine: what operators are told of it.
//!
//! The proof that a file is gone says whether anybody has it, not who: the kernel tells that of no
//! process of another user. The engine knows who was given the file and has not said since that it
//! has let go. So it names candidates, and where there is none, whoever has the file is one that
//! said so and lied, or a process that the pool has never heard of.

use pool_core::{Bytes, ClientId};
use pool_proto::admin::v1::WaitedFor;

use super::Engine;
use super::domain::{Departed, Domain};
use super::segment::Segment;

/// So many processes are named for one segment.
const NAMED_MAX: usize = 16;

impl Engine {
    /// What is in quarantine of the files that were ever a segment's.
    pub(super) fn quarantined_of(&self, segment: &Segment) -> Bytes {
        let files = segment.files.iter().filter_map(|id| self.backings.get(id));
        let out_of_use = files.filter(|backing| backing.quarantined);
        let bytes = out_of_use.map(|backing| backing.extents().bytes().get());
        Bytes::new(bytes.sum())
    }

    /// The processes that may have mapped what is in quarantine of a segment, and how many there
    /// are beyond those that are named.
    pub(super) fn waited_for(&self, segment: &Segment) -> (Vec<WaitedFor>, u32) {
        let told = segment.leaving.iter();
        let told = told.map(|&client| self.client_waited_for(client, "told"));
        let domain = segment.domain.as_ref().into_iter();
        let departed = domain.flat_map(Domain::living_departed);
        // Who was evicted and has not answered yet is both.
        let once = departed.filter(|departed| !self.is_leaving(segment, departed));
        let departed = once.map(|departed| self.departed_waited_for(departed));
        let holders = segment.holders.keys();
        let holders = holders.map(|&client| self.client_waited_for(client, "holds"));
        let mut all = told.chain(departed).chain(holders);
        let named = all.by_ref().take(NAMED_MAX).collect();
        (named, u32::try_from(all.count()).unwrap_or(u32::MAX))
    }

    fn client_waited_for(&self, id: ClientId, why: &str) -> WaitedFor {
        let client = self.clients.get(&id);
        WaitedFor {
            client_id: id.number(),
            pid: client.map_or(0, |client| client.peer.pid),
            tenant: client.map_or_else(String::new, |client| {
                self.tenants.name(client.tenant).to_owned()
            }),
            why: why.to_owned(),
        }
    }

    fn departed_waited_for(&self, departed: &Departed) -> WaitedFor {
        // It is forgotten when nobody else names it.
        let tenant = departed.tenant.and_then(|id| self.tenants.get(id));
        WaitedFor {
            client_id: 0,
            pid: departed.process.pid,
            tenant: tenant.map_or_else(String::new, |tenant| tenant.name.clone()),
            why: "departed".to_owned(),
        }
    }

    fn is_leaving(&self, segment: &Segment, departed: &Departed) -> bool {
        let process = (departed.process.pid, departed.process.started_ticks);
        let clients = segment.leaving.iter();
        let mut leaving = clients.filter_map(|client| self.clients.get(client));
        leaving.any(|client| (client.peer.pid, client.peer.started_ticks) == process)
    }
}
