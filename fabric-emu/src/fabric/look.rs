//! What is there now, for who looks on.

use super::Fabric;
use crate::id::{HostId, LdId, MemdevId};
use crate::timing::Picos;

impl Fabric {
    /// What time it is, since the beginning.
    #[must_use]
    pub const fn now(&self) -> Picos {
        self.now
    }

    /// All hosts, the dead ones too.
    pub fn hosts(&self) -> impl Iterator<Item = HostId> + use<> {
        (0..).map(HostId).take(self.hosts.len())
    }

    /// All memory devices, those that vanished too.
    pub fn memdevs(&self) -> impl Iterator<Item = MemdevId> + use<> {
        (0..).map(MemdevId).take(self.memdevs.len())
    }

    /// Whether a host is alive.
    #[must_use]
    pub fn is_alive(&self, host: HostId) -> bool {
        let found = self.hosts.get(host.index());
        found.is_some_and(|host| host.is_alive)
    }

    /// Whether a memory device has not vanished.
    #[must_use]
    pub fn is_there(&self, memdev: MemdevId) -> bool {
        self.gone.get(memdev.index()) == Some(&false)
    }

    /// Whether a host that is alive reached a logical device when [`Fabric::advance`] or
    /// [`Fabric::step`] looked last.
    #[must_use]
    pub fn has_way(&self, host: HostId, memdev: MemdevId, ld: LdId) -> bool {
        self.is_alive(host) && self.reaches(host, memdev, ld)
    }
}
