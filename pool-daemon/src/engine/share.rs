//! Sharing with other tenants, and taking a share back.
//!
//! A share that was ever used cannot be taken back on the same file: its holder may have kept a
//! mapping. So revoking moves the contents to a new incarnation, on files that tenant has never
//! seen, and leaves the old ones in quarantine, charged to it.

use pool_core::{ClientId, SegmentId, TenantId, limits, planted};
use pool_proto::common::v1::{Access, Pages};
use pool_proto::session::v1 as session;

use super::job::Purpose;
use super::reply::covers;
use super::segment::Share;
use super::{Engine, Refusal};

impl Engine {
    pub(super) fn share(
        &mut self,
        client: ClientId,
        request_id: u64,
        ask: &session::Share,
    ) -> Result<(), Refusal> {
        let id = self.owned(client, ask.segment_id)?;
        self.not_busy(id)?;
        self.not_of_hosts(id)?;
        let access = Access::try_from(ask.access).unwrap_or_default();
        if access == Access::Unspecified {
            return Err(Refusal::Malformed("access is none of the known ones"));
        }
        if access == Access::ReadWrite {
            self.not_sealed(id)?;
        }
        let segment = self.segment(id)?;
        if segment.name.is_empty() {
            return Err(Refusal::Malformed(
                "a segment without a name cannot be shared: nobody could open it",
            ));
        }
        let known = self.tenants.find(&ask.tenant);
        let is_new = known.is_none_or(|tenant| !segment.shares.contains_key(&tenant));
        if is_new && segment.shares.len() >= limits::SEGMENT_SHARES_MAX {
            let limit = limits::SEGMENT_SHARES_MAX as u64;
            return Err(Refusal::Limit {
                what: "tenants that one segment is shared with",
                limit,
            });
        }
        self.safe_to_share(id)?;
        let owner = segment.tenant;
        let uid = self.clients.get(&client).map(|client| client.peer.uid);
        let uid = uid.ok_or(Refusal::UnknownClient)?;
        self.tenants.may_be_named_by(uid, &ask.tenant)?;
        let tenant = self.known_tenant(&ask.tenant)?;
        if tenant == owner {
            return Err(Refusal::Malformed("the segment is the tenant's own"));
        }
        let Some(segment) = self.segments.get_mut(&id) else {
            return Ok(());
        };
        let before = segment.shares.get(&tenant).copied();
        if before.is_some_and(|before| before.opened && !covers(access, before.access)) {
            return Err(Refusal::Held(
                "the tenant may write already: revoke its share first".to_owned(),
            ));
        }
        segment.shares.insert(
            tenant,
            Share {
                access,
                opened: before.is_some_and(|before| before.opened),
            },
        );
        if let Some(tenant) = self.tenants.get_mut(tenant) {
            tenant.shared.insert(id);
        }
        if !planted!("share.is_not_journaled") {
            self.touch_segment(id);
        }
        self.remember(client, request_id, None);
        self.done(client, request_id);
        Ok(())
    }

    /// The segment is shared with the tenant no more.
    pub(super) fn unshare(&mut self, id: SegmentId, tenant: TenantId) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.shares.remove(&tenant);
        }
        if let Some(tenant) = self.tenants.get_mut(tenant) {
            tenant.shared.remove(&id);
        }
        self.left_by.insert(tenant);
        self.touch_segment(id);
    }

    /// Every page of the segment stays where it is, whatever those do who may write it.
    fn safe_to_share(&self, id: SegmentId) -> Result<(), Refusal> {
        for backing in self
            .segment(id)?
            .backings
            .iter()
            .filter_map(|id| self.backings.get(id))
        {
            let Some(device) = self.devices.get(&backing.device) else {
                continue;
            };
            let unsealed = |why| {
                Err(Refusal::Unsealed {
                    device: device.plan.name.clone(),
                    why,
                })
            };
            if !device.plan.sealed {
                return unsealed(
                    "keeps files whose holders can resize them: move the segment to another tier \
                     to share it",
                );
            }
            if backing
                .built
                .is_some_and(|built| built.pages == Pages::Hugetlb)
            {
                return unsealed(
                    "gave pages that a writer can take away from readers: create the segment \
                     with a name",
                );
            }
        }
        Ok(())
    }

    pub(super) fn revoke(
        &mut self,
        client: ClientId,
        request_id: u64,
        ask: &session::Revoke,
    ) -> Result<(), Refusal> {
        let id = self.owned_and_held(client, ask.segment_id)?;
        self.not_busy(id)?;
        self.all_present(id)?;
        self.is_ready(id)?; // Or the answer would be a refusal of what is done.
        let segment = self.segment(id)?;
        let tenant = self.tenants.find(&ask.tenant);
        let share = tenant.and_then(|tenant| Some((tenant, *segment.shares.get(&tenant)?)));
        let (tenant, share) =
            share.ok_or_else(|| Refusal::not_found("share with tenant", &ask.tenant))?;
        if !share.opened {
            self.unshare(id, tenant);
            self.remember(client, request_id, Some(id));
            self.answer_grant(client, request_id, id);
            return Ok(());
        }
        let tier = segment.tier;
        self.start_move(
            id,
            Some((client, request_id)),
            Purpose::Move {
                dropped: Some(tenant),
                tier,
            },
        )
    }
}
