//! The engine's totals as metrics, brought up to date a few times a second.

use std::collections::{BTreeMap, BTreeSet};

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
    /// Tenants that are shown.
    tenants: BTreeSet<String>,
    updated: Option<Nanos>,
}

impl Gauges {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            tiers: BTreeMap::new(),
            tenants: BTreeSet::new(),
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
        self.update_tenants(engine.uses());
        let (clients, segments) = engine.counts();
        self.metrics.clients(clients);
        self.metrics.segments(segments);
        self.metrics.devices_unreached(engine.unreached());
        self.metrics.epoch(engine.epoch());
        self.metrics.quarantine_age(
            oldest_quarantine.map_or(Nanos::ZERO, |since| now.saturating_since(since)),
        );
    }

    /// Shows these tenants, and forgets those that are no more.
    fn update_tenants<'t>(&mut self, uses: impl Iterator<Item = (&'t str, Bytes)>) {
        let mut gone = self.tenants.clone();
        for (tenant, used) in uses {
            self.metrics.tenant(tenant, used);
            if !gone.remove(tenant) {
                self.tenants.insert(tenant.to_owned());
            }
        }
        for tenant in gone {
            self.metrics.forget_tenant(&tenant);
            self.tenants.remove(&tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_that_is_no_more_is_shown_no_more() {
        let metrics = Arc::new(Metrics::new());
        let mut gauges = Gauges::new(Arc::clone(&metrics));
        let shown = |name: &str| {
            metrics
                .render()
                .unwrap()
                .contains(&format!("tenant=\"{name}\""))
        };
        let bytes = Bytes::new(1);
        gauges.update_tenants([("uid-1/a", bytes), ("uid-1/b", bytes)].into_iter());
        assert!(shown("uid-1/a") && shown("uid-1/b"));
        gauges.update_tenants([("uid-1/b", bytes), ("uid-1/c", bytes)].into_iter());
        assert!(!shown("uid-1/a") && shown("uid-1/b") && shown("uid-1/c"));
    }
}
