//! The daemon's numbers for Prometheus.
//!
//! Everything is an atomic that the reactor and the servers update as things happen; reading walks
//! the series there are, whose number is bounded, and never the pool.
//!
//! # Invariants
//! 1. The number of series does not depend on the size of the pool, on the number of requests or on
//!    anything a client sends: label values are names of tiers, words of this program, and at most
//!    [`TENANTS_SHOWN_MAX`] tenants.
//! 2. The sum over all series of `tierpool_tenant_used_bytes` is what all tenants use: those beyond
//!    the bound are summed under the tenant `all others`, a name no tenant can have.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use pool_core::sync::atomic::AtomicU64;
use pool_core::{Bytes, Nanos};
use pool_proto::common::v1::ErrorClass;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tonic::Code;

/// The most tenants with a series of their own.
pub const TENANTS_SHOWN_MAX: usize = 256;
/// The tenant that stands for all beyond. Names of tenants hold no space.
const OTHER_TENANTS: &str = "all others";

type Amount = Gauge<u64, AtomicU64>;
type Seconds = Gauge<f64, AtomicU64>;
type Durations = Family<KindLabel, Histogram, NewHistogram>;

/// How the memory of one tier is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TierBytes {
    /// All of it.
    pub total: Bytes,
    /// Granted to nobody.
    pub free: Bytes,
    /// Granted.
    pub granted: Bytes,
    /// Freed, and mapped somewhere.
    pub quarantined: Bytes,
}

/// The gauges of one tier. Keep it: looking it up costs more than setting it.
#[derive(Debug, Clone)]
pub struct TierGauges {
    total: Amount,
    free: Amount,
    granted: Amount,
    quarantined: Amount,
}

impl TierGauges {
    /// The tier is now used so.
    pub fn set(&self, bytes: TierBytes) {
        self.total.set(bytes.total.get());
        self.free.set(bytes.free.get());
        self.granted.set(bytes.granted.get());
        self.quarantined.set(bytes.quarantined.get());
    }
}

/// Every number of the daemon.
pub struct Metrics {
    registry: Registry,
    tier_total: Family<TierLabel, Amount>,
    tier_use: Family<TierUseLabel, Amount>,
    tenants: Mutex<Tenants>,
    clients: Amount,
    segments: Amount,
    requests: Family<RequestLabel, Counter<u64, AtomicU64>>,
    request_seconds: Durations,
    admin_calls: Family<CallLabel, Counter<u64, AtomicU64>>,
    admin_seconds: Durations,
    journal_seconds: Histogram,
    builds: Family<OutcomeLabel, Counter<u64, AtomicU64>>,
    quarantine_age: Seconds,
    events_dropped: Counter<u64, AtomicU64>,
    connections_refused: Counter<u64, AtomicU64>,
    epoch: Amount,
    devices_unreached: Amount,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The registry is as large as what it renders.
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let tenant_use = Family::default();
        let mut metrics = Self {
            registry: Registry::with_prefix("tierpool"),
            tier_total: Family::default(),
            tier_use: Family::default(),
            tenants: Mutex::new(Tenants::new(tenant_use.clone())),
            clients: Gauge::default(),
            segments: Gauge::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(NewHistogram),
            admin_calls: Family::default(),
            admin_seconds: Family::new_with_constructor(NewHistogram),
            journal_seconds: NewHistogram.new_metric(),
            builds: Family::default(),
            quarantine_age: Gauge::default(),
            events_dropped: Counter::default(),
            connections_refused: Counter::default(),
            epoch: Gauge::default(),
            devices_unreached: Gauge::default(),
        };
        metrics.register_memory(tenant_use);
        metrics.register_work();
        metrics
    }

    /// The gauges of the tier of this name.
    #[must_use]
    pub fn tier(&self, name: &str) -> TierGauges {
        let tier = || name.to_owned();
        let used = |state| {
            self.tier_use.get_or_create_owned(&TierUseLabel {
                tier: tier(),
                state,
            })
        };
        TierGauges {
            total: self
                .tier_total
                .get_or_create_owned(&TierLabel { tier: tier() }),
            free: used("free"),
            granted: used("granted"),
            quarantined: used("quarantined"),
        }
    }

    /// A tenant now uses so much, in all tiers.
    pub fn tenant(&self, name: &str, used: Bytes) {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.set(name, used.get());
    }

    /// A tenant is no more.
    pub fn forget_tenant(&self, name: &str) {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.forget(name);
    }

    /// So many clients are attached or awaited.
    pub fn clients(&self, count: u64) {
        self.clients.set(count);
    }

    /// So many devices are out of reach.
    pub fn devices_unreached(&self, count: u64) {
        self.devices_unreached.set(count);
    }

    /// There are so many segments.
    pub fn segments(&self, count: u64) {
        self.segments.set(count);
    }

    /// A client's request of this kind was answered, with an error of this class or none.
    pub fn request(&self, kind: &'static str, error: Option<ErrorClass>, took: Nanos) {
        let outcome = outcome(error);
        self.requests
            .get_or_create(&RequestLabel { kind, outcome })
            .inc();
        self.request_seconds
            .get_or_create(&KindLabel { kind })
            .observe(seconds(took));
    }

    /// The journal made a commit durable.
    pub fn journal_commit(&self, took: Nanos) {
        self.journal_seconds.observe(seconds(took));
    }

    /// A file was built, or could not be.
    pub fn build(&self, error: Option<ErrorClass>) {
        let outcome = outcome(error);
        self.builds.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// The oldest file in quarantine has been there for so long; zero where there is none.
    pub fn quarantine_age(&self, oldest: Nanos) {
        self.quarantine_age.set(seconds(oldest));
    }

    /// Events were lost because a receiver was too slow.
    pub fn events_dropped(&self, count: u64) {
        self.events_dropped.inc_by(count);
    }

    /// The daemon runs for the `epoch`-th time on its journal.
    pub fn epoch(&self, epoch: u64) {
        self.epoch.set(epoch);
    }

    /// An operator's call was answered.
    pub(super) fn admin_call(&self, kind: &'static str, code: Code, took: Nanos) {
        let code = code_word(code);
        self.admin_calls
            .get_or_create(&CallLabel { kind, code })
            .inc();
        self.admin_seconds
            .get_or_create(&KindLabel { kind })
            .observe(seconds(took));
    }

    /// A connection was closed because its peer has too many.
    pub(super) fn connection_refused(&self) {
        self.connections_refused.inc();
    }

    /// All of it, as `OpenMetrics` text.
    ///
    /// # Errors
    /// None that is known: writing to a string does not fail.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut page = String::new();
        text::encode(&mut page, &self.registry)?;
        Ok(page)
    }

    fn register_memory(&mut self, tenant_use: Family<TenantLabel, Amount>) {
        let registry = &mut self.registry;
        let mut bytes = |name, help, family| {
            registry.register_with_unit(name, help, Unit::Bytes, family);
        };
        bytes("tenant_used", "Memory of a tenant in all tiers", tenant_use);
        registry.register_with_unit(
            "tier_capacity",
            "Memory of a tier",
            Unit::Bytes,
            self.tier_total.clone(),
        );
        registry.register_with_unit(
            "tier",
            "Memory of a tier by its use; the uses add up to the capacity",
            Unit::Bytes,
            self.tier_use.clone(),
        );
        registry.register(
            "clients",
            "Clients attached or awaited",
            self.clients.clone(),
        );
        registry.register("segments", "Segments granted", self.segments.clone());
        let help = "Devices whose memory is out of reach";
        registry.register("devices_unreached", help, self.devices_unreached.clone());
        registry.register_with_unit(
            "quarantine_age",
            "Age of the oldest file that is freed and mapped somewhere",
            Unit::Seconds,
            self.quarantine_age.clone(),
        );
        let help = "Which run of the daemon on its journal this is; it rises with each restart";
        registry.register("daemon_epoch", help, self.epoch.clone());
    }

    fn register_work(&mut self) {
        let registry = &mut self.registry;
        let help = "Requests of clients answered, by kind and by the class of the error";
        registry.register("requests", help, self.requests.clone());
        let help = "Operators' calls answered, by kind and by gRPC code";
        registry.register("admin_calls", help, self.admin_calls.clone());
        for (name, help, durations) in [
            (
                "request",
                "Time to answer a client's request",
                &self.request_seconds,
            ),
            (
                "admin_call",
                "Time to answer an operator's call",
                &self.admin_seconds,
            ),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, durations.clone());
        }
        registry.register_with_unit(
            "journal_commit",
            "Time to make a commit of the journal durable",
            Unit::Seconds,
            self.journal_seconds.clone(),
        );
        registry.register("builds", "Files built for segments", self.builds.clone());
        let help = "Events lost because their receiver was too slow";
        registry.register("events_dropped", help, self.events_dropped.clone());
        let help = "Connections closed because their peer has too many";
        registry.register(
            "connections_refused",
            help,
            self.connections_refused.clone(),
        );
    }
}

/// The series of the tenants, and what those beyond the bound use.
#[derive(Debug)]
struct Tenants {
    family: Family<TenantLabel, Amount>,
    shown: BTreeMap<String, Amount>,
    beyond: BTreeMap<String, u64>,
    beyond_sum: u64,
}

impl Tenants {
    fn new(family: Family<TenantLabel, Amount>) -> Self {
        Self {
            family,
            shown: BTreeMap::new(),
            beyond: BTreeMap::new(),
            beyond_sum: 0,
        }
    }

    fn set(&mut self, name: &str, used: u64) {
        if let Some(gauge) = self.shown.get(name) {
            gauge.set(used);
        } else if !self.beyond.contains_key(name) && self.shown.len() < TENANTS_SHOWN_MAX {
            let gauge = self.family.get_or_create_owned(&TenantLabel::of(name));
            gauge.set(used);
            self.shown.insert(name.to_owned(), gauge);
        } else {
            let before = self.beyond.insert(name.to_owned(), used).unwrap_or(0);
            self.beyond_sum = (self.beyond_sum - before).saturating_add(used);
            self.show_beyond();
        }
    }

    fn forget(&mut self, name: &str) {
        if self.shown.remove(name).is_some() {
            self.family.remove(&TenantLabel::of(name));
        } else if let Some(before) = self.beyond.remove(name) {
            self.beyond_sum -= before;
            self.show_beyond();
        }
    }

    fn show_beyond(&self) {
        let others = TenantLabel::of(OTHER_TENANTS);
        if self.beyond.is_empty() {
            self.family.remove(&others);
        } else {
            self.family.get_or_create(&others).set(self.beyond_sum);
        }
    }
}

/// 1 us to 4.2 s in steps of 4.
#[derive(Debug, Clone)]
struct NewHistogram;

impl MetricConstructor<Histogram> for NewHistogram {
    fn new_metric(&self) -> Histogram {
        Histogram::new(exponential_buckets(1e-6, 4.0, 12))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TierLabel {
    tier: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TierUseLabel {
    tier: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TenantLabel {
    tenant: String,
}

impl TenantLabel {
    fn of(name: &str) -> Self {
        Self {
            tenant: name.to_owned(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabel {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabel {
    kind: &'static str,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

fn outcome(error: Option<ErrorClass>) -> &'static str {
    match error {
        None => "done",
        Some(ErrorClass::Caller) => "caller",
        Some(ErrorClass::Exhausted) => "exhausted",
        Some(ErrorClass::Lost) => "lost",
        Some(ErrorClass::Revoked) => "revoked",
        Some(ErrorClass::Unreachable) => "unreachable",
        Some(ErrorClass::Corrupt) => "corrupt",
        Some(ErrorClass::Unspecified) => "unspecified",
    }
}

fn code_word(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid-argument",
        Code::DeadlineExceeded => "deadline-exceeded",
        Code::NotFound => "not-found",
        Code::AlreadyExists => "already-exists",
        Code::PermissionDenied => "permission-denied",
        Code::ResourceExhausted => "resource-exhausted",
        Code::FailedPrecondition => "failed-precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out-of-range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data-loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

fn seconds(span: Nanos) -> f64 {
    std::time::Duration::from_nanos(span.get()).as_secs_f64()
}

#[cfg(test)]
mod tests;
