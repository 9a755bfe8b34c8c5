//! Sessions: attaching, taking up a session of before, requests in order, and the end of a client.

use pool_core::{BackingId, ClientId, SegmentId, TenantId, limits, planted};
use pool_proto::session::v1 as session;
use session::{reply, request};

use super::command::{ConnectionId, PeerIdentity};
use super::domain::Leave;
use super::effect::{Action, Lease};
use super::segment::{Client, Last};
use super::{Engine, PROTOCOL, Refusal, take_id};

impl Engine {
    pub(super) fn attach(
        &mut self,
        connection: ConnectionId,
        request_id: u64,
        peer: PeerIdentity,
        ask: &session::Attach,
        token: [u8; 16],
    ) {
        self.counters.requests += 1;
        let outcome = self.try_attach(peer, ask, token);
        let body = match outcome {
            Ok(client) => {
                self.actions.push(Action::Bind { connection, client });
                self.attached_body(client)
            }
            Err(ref refusal) => self.error_body(refusal),
        };
        let reply = session::Reply {
            request_id,
            body: Some(body),
        };
        self.actions.push(Action::Welcome {
            connection,
            reply,
            welcome: outcome.is_ok(),
        });
    }

    fn try_attach(
        &mut self,
        peer: PeerIdentity,
        ask: &session::Attach,
        token: [u8; 16],
    ) -> Result<ClientId, Refusal> {
        speaks_our_protocol(ask.protocol)?;
        if !ask.name.is_empty() && !limits::is_name(&ask.name) {
            return Err(Refusal::bad_name(&ask.name));
        }
        let at_most = |what, limit: usize| Refusal::Limit {
            what,
            limit: limit as u64,
        };
        if self.clients.len() >= limits::CLIENTS_MAX {
            return Err(at_most("clients", limits::CLIENTS_MAX));
        }
        let of_user = |client: &&Client| client.peer.uid == peer.uid;
        if self.clients.values().filter(of_user).count() >= limits::USER_CLIENTS_MAX {
            return Err(at_most("clients of one user", limits::USER_CLIENTS_MAX));
        }
        let tenant = self.tenants.admit(&peer, &ask.tenant)?;
        let known = self
            .tenants
            .find(&tenant)
            .and_then(|id| self.tenants.get(id));
        if known.map_or(0, |tenant| tenant.clients) >= limits::TENANT_CLIENTS_MAX {
            return Err(at_most("clients of one tenant", limits::TENANT_CLIENTS_MAX));
        }
        let tenant = self.known_tenant(&tenant)?;
        let id = take_id!(self, client);
        let (held, leaving, last) = (
            std::collections::BTreeSet::new(),
            std::collections::BTreeSet::new(),
            Last {
                request_id: 0,
                granted: None,
            },
        );
        let name = ask.name.clone();
        self.add_client(Client {
            id,
            tenant,
            peer,
            name,
            token,
            attached: true,
            held,
            leaving,
            last,
            requests: 1,
        });
        self.touch_client(id);
        self.touch_pool();
        let (tenant, detail) = (
            self.tenants.name(tenant).to_owned(),
            format!("pid {}", peer.pid),
        );
        self.publish("client-attached", |event| {
            (event.client_id, event.tenant, event.detail) = (id.number(), tenant, detail);
        });
        Ok(id)
    }

    pub(super) fn add_client(&mut self, client: Client) {
        if let Some(tenant) = self.tenants.get_mut(client.tenant) {
            tenant.clients += 1;
        }
        self.clients.insert(client.id, client);
    }

    /// The tenant of this name; a new one is journaled.
    pub(super) fn known_tenant(&mut self, name: &str) -> Result<TenantId, Refusal> {
        let (tenant, new) = self.tenants.named(name)?;
        if new {
            self.touch_tenant(tenant);
        }
        Ok(tenant)
    }

    pub(super) fn reattach(
        &mut self,
        connection: ConnectionId,
        request_id: u64,
        peer: &PeerIdentity,
        ask: &session::Reattach,
    ) {
        self.counters.requests += 1;
        let outcome = self.try_reattach(peer, ask);
        let body = match outcome {
            Ok(client) => {
                self.actions.push(Action::Bind { connection, client });
                self.reattached_body(client)
            }
            Err(ref refusal) => self.error_body(refusal),
        };
        let reply = session::Reply {
            request_id,
            body: Some(body),
        };
        self.actions.push(Action::Welcome {
            connection,
            reply,
            welcome: outcome.is_ok(),
        });
        if let Ok(client) = outcome {
            // What was told while it was away, and still stands.
            self.tell_of_leaving(client);
            self.tell_of_pressure(client);
        }
    }

    fn try_reattach(
        &mut self,
        peer: &PeerIdentity,
        ask: &session::Reattach,
    ) -> Result<ClientId, Refusal> {
        speaks_our_protocol(ask.protocol)?;
        let client = ClientId::new(ask.client_id).and_then(|id| self.clients.get_mut(&id));
        // The token alone is not enough: a forked child has it too, but is another process.
        let same = |client: &&mut Client| {
            client.token[..] == ask.token[..]
                && (client.peer.pid, client.peer.started_ticks, client.peer.uid)
                    == (peer.pid, peer.started_ticks, peer.uid)
        };
        let client = client.filter(same).ok_or(Refusal::UnknownClient)?;
        client.attached = true;
        let (id, held) = (client.id, client.held.clone());
        let misses =
            |segment: &super::Segment| segment.backings.iter().any(|id| !self.is_present(*id));
        if self.grace_until.is_none()
            && held
                .iter()
                .filter_map(|id| self.segments.get(id))
                .any(misses)
        {
            // It comes late, and has as long as the others had to bring its descriptors.
            self.grace_until = Some(self.now.saturating_add(self.plan.reattach_grace));
        }
        Ok(id)
    }

    /// One request of an attached client.
    pub(super) fn request(&mut self, client: ClientId, ask: session::Request) {
        self.counters.requests += 1;
        let Some(state) = self.clients.get_mut(&client) else {
            return self.refuse(client, ask.request_id, &Refusal::UnknownClient);
        };
        state.requests += 1;
        let (last, request_id) = (state.last, ask.request_id);
        let waits = self.job_of(client).or_else(|| self.wait_of(client));
        if waits == Some(request_id) {
            return; // Repeated after a reconnection; the answer comes when it is there.
        }
        let ordered = match waits {
            Some(_) => Err(Refusal::OutOfOrder(
                "the request before is not answered yet",
            )),
            None if planted!("engine.takes_any_request_id") => Ok(()),
            None if request_id == 0 => Err(Refusal::OutOfOrder("request ids start at 1")),
            None if request_id < last.request_id => {
                Err(Refusal::OutOfOrder("a later request was answered already"))
            }
            None => Ok(()),
        };
        let outcome = match (ordered, ask.body) {
            (Ok(()), _) if request_id == last.request_id && !planted!("engine.does_it_again") => {
                return self.answer_again(client, last);
            }
            (Ok(()), Some(body)) => self.dispatch(client, request_id, body),
            (Ok(()), None) => Err(Refusal::Malformed("it has no body that this daemon knows")),
            (Err(refusal), _) => Err(refusal),
        };
        if let Err(refusal) = outcome {
            self.refuse(client, request_id, &refusal);
        }
    }

    fn dispatch(&mut self, client: ClientId, id: u64, body: request::Body) -> Result<(), Refusal> {
        use request::Body;
        match body {
            Body::Create(ask) => self.create(client, id, ask),
            Body::Open(ask) => self.open(client, id, &ask),
            Body::Refresh(ask) => self.refresh(client, id, ask.segment_id),
            Body::Close(ask) => self.close(client, id, ask.segment_id),
            Body::Free(ask) => self.free(client, id, ask.segment_id, ask.force),
            Body::Resize(ask) => self.resize(client, id, ask.segment_id, ask.bytes),
            Body::Share(ask) => self.share(client, id, &ask),
            Body::Revoke(ask) => self.revoke(client, id, &ask),
            Body::Relocate(ask) => self.relocate(client, id, &ask),
            Body::Seal(ask) => self.seal(client, id, &ask),
            Body::Join(ask) => self.join_group(client, id, &ask),
            Body::Acquire(ask) => {
                self.lease(client, id, (ask.segment_id, ask.unit), Lease::Acquire)
            }
            Body::Release(ask) => {
                self.lease(client, id, (ask.segment_id, ask.unit), Lease::Release)
            }
            Body::Recall(ask) => self.recall(client, id, &ask),
            Body::List(_) => {
                self.answer_list(client, id);
                Ok(())
            }
            Body::Tiers(_) => {
                self.answer_tiers(client, id);
                Ok(())
            }
            Body::Detach(_) => {
                self.done(client, id);
                self.actions.push(Action::Close { client });
                self.client_leaves(client, Leave::InOrder);
                Ok(())
            }
            Body::Attach(_) | Body::Reattach(_) => {
                Err(Refusal::OutOfOrder("the session is attached already"))
            }
            Body::Supply(_) => Err(Refusal::Malformed("a descriptor was to ride along")),
        }
    }

    /// Answers the repetition of the last changing request from the present state.
    fn answer_again(&mut self, client: ClientId, last: Last) {
        let Some(segment) = last.granted else {
            return self.done(client, last.request_id);
        };
        if let Err(refusal) = self.grant(client, last.request_id, segment) {
            self.refuse(client, last.request_id, &refusal);
        }
    }

    /// Remembers a change in the same commit that makes it.
    pub(super) fn remember(
        &mut self,
        client: ClientId,
        request_id: u64,
        granted: Option<SegmentId>,
    ) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.last = Last {
                request_id,
                granted,
            };
        }
        self.touch_client(client);
    }

    /// A client brought the descriptor of a backing back.
    pub(super) fn supplied(&mut self, client: ClientId, request_id: u64, id: BackingId) {
        self.counters.requests += 1;
        let holds = |segment| {
            self.clients
                .get(&client)
                .is_some_and(|c| c.held.contains(&segment))
        };
        let held = self
            .backings
            .get(&id)
            .is_some_and(|backing| holds(backing.segment));
        let supplied = |backing: &&mut super::Backing| held && backing.built.is_some();
        match self.backings.get_mut(&id).filter(supplied) {
            Some(backing) => {
                // What has left its segment meanwhile can be proven gone now.
                let watch = backing.quarantined && !backing.present;
                backing.present = true;
                if watch {
                    self.actions.push(Action::Watch { backing: id });
                }
                let segment = backing.segment;
                self.to_recover.insert(segment);
                self.done(client, request_id);
            }
            None => self.refuse(
                client,
                request_id,
                &Refusal::not_found("backing", id.number()),
            ),
        }
    }

    /// The connection has ended: the client is awaited, and told nothing.
    pub(super) fn disconnected(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.attached = false;
        }
    }

    /// The process has ended, or is given up: what only it held is taken back.
    pub(super) fn client_gone(&mut self, id: ClientId) {
        self.client_leaves(id, Leave::Gone);
    }

    fn client_leaves(&mut self, id: ClientId, leave: Leave) {
        self.orphan_jobs(id);
        self.stop_waiting(id);
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        let (tenant, held, leaving) = (client.tenant, client.held.clone(), client.leaving.clone());
        for segment in held {
            self.let_go(id, segment, leave);
        }
        for segment in leaving {
            self.has_left(id, segment);
        }
        self.clients.remove(&id);
        if let Some(tenant) = self.tenants.get_mut(tenant) {
            tenant.clients = tenant.clients.saturating_sub(1);
        }
        self.left_by.insert(tenant);
        self.touch_client(id);
        let tenant = self.tenants.name(tenant).to_owned();
        self.publish("client-gone", |event| {
            (event.client_id, event.tenant) = (id.number(), tenant)
        });
    }

    /// Refuses a request: nothing was changed.
    pub(super) fn refuse(&mut self, client: ClientId, request_id: u64, refusal: &Refusal) {
        let body = self.error_body(refusal);
        self.reply(client, request_id, body);
    }

    pub(super) fn error_body(&mut self, refusal: &Refusal) -> reply::Body {
        self.counters.refused += 1;
        reply::Body::Error(refusal.into())
    }
}

fn speaks_our_protocol(found: u32) -> Result<(), Refusal> {
    if found == PROTOCOL {
        Ok(())
    } else {
        Err(Refusal::Version {
            found,
            supported: PROTOCOL,
        })
    }
}
