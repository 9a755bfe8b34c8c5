//! The engine without its world: each file that it wants built is there at once, and each that it
//! watches is gone at once. Used by the modelled cases and by the micro-benchmarks.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use pool_core::units::EXTENT_BYTES;
use pool_core::{ClientId, Extents, Nanos, SegmentId, WindowRange, clock};
use pool_daemon::engine::command::{Built, Command, ConnectionId, FileIdentity, PeerIdentity};
use pool_daemon::engine::effect::{Action, Effects};
use pool_daemon::engine::plan::{Amount, DevicePlan, Plan, Quota, Tenancy, TierPlan};
use pool_daemon::engine::{Engine, Found};
use pool_daemon::journal::{Record, Rows};
use pool_proto::common::v1::{Lifetime, Pages};
use pool_proto::session::v1::{self as session, reply, request};

/// The one tier, and the name of its device.
const TIER: &str = "ddr";
/// Any boot of a machine.
pub(crate) const BOOT_ID: &str = "6fa1c1f4-6f57-4a0e-9a53-4f1d1c0a7f10";

/// A pool of one device with so many extents, for one user.
pub(crate) fn plan(extents: u32) -> Plan {
    let quota = Quota {
        request: Amount::Percent(0),
        limit: Amount::Percent(100),
    };
    Plan {
        window: WindowRange::DEFAULT,
        tiers: vec![TierPlan {
            name: TIER.to_owned(),
        }],
        devices: vec![DevicePlan {
            name: TIER.to_owned(),
            tier: TIER.to_owned(),
            extents: Extents::new(extents),
            emulated: false,
            kind: "memfd",
            sealed: true,
            persistent: false,
            numa_node: None,
            dynamic: false,
            shared: None,
            whole: false,
        }],
        tenancy: Tenancy {
            tenants: Vec::new(),
            default_quotas: BTreeMap::from([(TIER.to_owned(), quota)]),
            admit_unlisted: true,
        },
        daemon_uid: 0,
        pressure_deadline: Nanos::from_millis(2_000),
        reattach_grace: Nanos::from_millis(10_000),
    }
}

/// An engine, and what it has asked to be remembered since that was last taken.
#[derive(Debug)]
pub(crate) struct Drive {
    pub(crate) engine: Engine,
    pub(crate) records: Vec<Record>,
    requests: u64,
    connections: u64,
}

impl Drive {
    /// A new pool.
    pub(crate) fn new(plan: Plan) -> anyhow::Result<Self> {
        let found = Found {
            boot_id: BOOT_ID.to_owned(),
            ..Found::default()
        };
        let (engine, effects) = Engine::recover(plan, Rows::default(), &found, clock::now())?;
        Ok(Self {
            engine,
            records: effects.records,
            requests: 1,
            connections: 0,
        })
    }

    /// A new client.
    pub(crate) fn attach(&mut self) -> anyhow::Result<ClientId> {
        self.connections += 1;
        let pid = u32::try_from(self.connections)?;
        let effects = self.engine.step(
            clock::now(),
            Command::Attach {
                connection: ConnectionId(self.connections),
                request_id: 1,
                peer: PeerIdentity {
                    pid,
                    started_ticks: 1,
                    uid: 0,
                    gid: 0,
                },
                request: session::Attach {
                    protocol: 1,
                    ..session::Attach::default()
                },
                token: [7; 16],
            },
        );
        self.records.extend(effects.records);
        let bound = effects.actions.into_iter().find_map(|action| match action {
            Action::Bind { client, .. } => Some(client),
            _ => None,
        });
        bound.context("the engine admits nobody")
    }

    /// A segment of so many extents.
    pub(crate) fn create(&mut self, client: ClientId, extents: u32) -> anyhow::Result<SegmentId> {
        let body = request::Body::Create(session::Create {
            tier: TIER.to_owned(),
            bytes: u64::from(extents) * EXTENT_BYTES,
            lifetime: Lifetime::Held.into(),
            ..session::Create::default()
        });
        match self.ask(client, body)? {
            reply::Body::Granted(granted) => granted
                .segment
                .and_then(|segment| SegmentId::new(segment.segment_id))
                .context("the grant names no segment"),
            other => bail!("no grant but {other:?}"),
        }
    }

    /// One request and all that follows from it, up to the proof that freed memory is nobody's.
    pub(crate) fn ask(
        &mut self,
        client: ClientId,
        body: request::Body,
    ) -> anyhow::Result<reply::Body> {
        self.requests += 1;
        let request = session::Request {
            request_id: self.requests,
            body: Some(body),
        };
        let effects = self
            .engine
            .step(clock::now(), Command::Request { client, request });
        self.settle(effects)?.context("the engine does not answer")
    }

    /// Does what the engine wants done, and what it wants done after that.
    fn settle(&mut self, effects: Effects) -> anyhow::Result<Option<reply::Body>> {
        let mut answer = None;
        let mut waiting = vec![effects];
        while let Some(effects) = waiting.pop() {
            self.records.extend(effects.records);
            for action in effects.actions {
                let command = match action {
                    Action::Build { backing, .. } => {
                        let identity = FileIdentity {
                            device: 1,
                            inode: backing.number(),
                        };
                        let pages = Pages::Collapsed;
                        Command::Built {
                            backing,
                            result: Ok(Built { pages, identity }),
                        }
                    }
                    Action::Watch { backing } => Command::Released { backing },
                    Action::Reply { reply, .. } => {
                        answer = reply.body;
                        continue;
                    }
                    _ => continue,
                };
                waiting.push(self.engine.step(clock::now(), command));
            }
        }
        Ok(answer)
    }
}
