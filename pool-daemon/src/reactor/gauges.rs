//! The engine's totals as metrics, brought up to date a few times a second.

use std::collections::BTreeMap;

use pool_core::sync::Arc;
use pool_core::{Bytes, Nanos};

use crate::engine::Engine;
use crate::server::metrics::{Metrics, TierBytes, TierGauges};

/// The shortest time between two updates: between them the counters of a busy pool are left alone.
const PAUSE: Nanos = Nanos::from_millis(100);

/// What the reactor shows of the engine.
#[derive(Debug)]
pub(super) struct Gauges {
    metrics: Arc<Metrics>,
    tiers: BTreeMap<String, TierGauges>,
    updated: Option<Nanos>,
}

impl Gauges {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            tiers: BTreeMap::new(),
            updated: None,
        }
    }

    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub(super) fn update(&mut self, engine: &Engine, oldest_quarantine: Option<Nanos>, now: Nanos) {
        if self
            .updated
            .is_some_and(|before| now.saturating_since(before) < PAUSE)
        {
            return;
        }
        self.updated = Some(now);
        for tier in engine.tiers() {
            let metrics = &self.metrics;
            let gauges = self
                .tiers
                .entry(tier.name.clone())
                .or_insert_with(|| metrics.tier(&tier.name));
            gauges.set(TierBytes {
                total: Bytes::new(tier.total_bytes),
                free: Bytes::new(tier.free_bytes),
                granted: Bytes::new(tier.granted_bytes),
                quarantined: Bytes::new(tier.quarantined_bytes),
            });
        }
        for (tenant, used) in engine.uses() {
            self.metrics.tenant(tenant, used);
        }
        let (clients, segments) = engine.counts();
        self.metrics.clients(clients);
        self.metrics.segments(segments);
        self.metrics.epoch(engine.epoch());
        self.metrics.quarantine_age(
            oldest_quarantine.map_or(Nanos::ZERO, |since| now.saturating_since(since)),
        );
    }
}
