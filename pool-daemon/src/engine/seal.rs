//! Sealing: from then on nobody writes the segment, for as long as it lives.
//!
//! # Protocol
//! The client that seals holds the segment read-write. It unmaps it, drops every line of it from
//! its host's caches, and asks; it holds the segment read-only from the answer on. Between the drop
//! and the request another client may have had the segment to write, and left dirty lines behind.
//! So each grant says how often a client was given the segment to write; the request repeats the
//! number that was told before the drop, and is refused where it has risen. A client that dies on
//! the way has changed nothing.
//!
//! # Who could still write
//! Clients of the owning tenant trust each other: one that kept a mapping past its close could. Of
//! other tenants nobody can: the seal is refused while one has a share to write, and such a share,
//! once it was used, is only taken back by moving the contents to files that its clients have never
//! seen. What is sealed may still be moved so, since nobody writes it meanwhile.

use pool_core::{ClientId, SegmentId, planted};
use pool_proto::common::v1::Access;
use pool_proto::session::v1 as session;

use super::{Engine, Refusal};

impl Engine {
    pub(super) fn seal(
        &mut self,
        client: ClientId,
        request_id: u64,
        ask: &session::Seal,
    ) -> Result<(), Refusal> {
        let id = self.owned_and_held(client, ask.segment_id)?;
        self.not_sealed(id)?;
        self.not_busy(id)?;
        self.not_a_domain(id)?;
        self.not_of_hosts(id)?;
        self.all_present(id)?;
        self.nobody_else_writes(client, id)?;
        if self.segment(id)?.writers != ask.writers && !planted!("seal.forgets_who_wrote") {
            return Err(Refusal::Held(format!(
                "a client was given {id} to write since its lines were dropped: seal it again"
            )));
        }
        let Some(segment) = self.segments.get_mut(&id) else {
            return Ok(());
        };
        segment.sealed = true;
        segment.holders.insert(client, Access::ReadOnly);
        if !planted!("seal.is_not_journaled") {
            self.touch_segment(id);
        }
        self.publish_segment("segment-sealed", id, String::new());
        self.publish_group(id);
        self.tell_changed(id, Some(client));
        self.remember(client, request_id, Some(id));
        self.answer_grant(client, request_id, id);
        Ok(())
    }

    /// # Errors
    /// [`Refusal::Held`] where another client or tenant may write the segment.
    fn nobody_else_writes(&self, client: ClientId, id: SegmentId) -> Result<(), Refusal> {
        let mut shares = self.segment(id)?.shares.iter();
        let writes = shares.find(|(_, share)| share.access == Access::ReadWrite);
        if let Some((&tenant, _)) = writes {
            let tenant = self.tenants.name(tenant);
            return Err(Refusal::Held(format!(
                "tenant {tenant} may write {id}: revoke its share before you seal it"
            )));
        }
        match self.other_writers(id, Some(client), None)? {
            others if others > 0 && !planted!("seal.admits_another_writer") => {
                Err(Refusal::Held(format!(
                    "{others} other clients may write {id}: it can be sealed when they have \
                     closed it"
                )))
            }
            _ => Ok(()),
        }
    }

    /// # Errors
    /// [`Refusal::Sealed`].
    pub(super) fn not_sealed(&self, id: SegmentId) -> Result<(), Refusal> {
        if self.segment(id)?.sealed {
            return Err(Refusal::Sealed(id.number()));
        }
        Ok(())
    }
}
