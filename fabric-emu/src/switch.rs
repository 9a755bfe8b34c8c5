//! A switch: physical ports, virtual switches, and what their bridges are bound to.
//!
//! Each physical port that leads to a host is the upstream port of one virtual switch. A virtual
//! switch has bridges (vPPB), and a manager binds each to a downstream port, and where that leads
//! to a device of several logical devices to one of those. Through a bound bridge the host reaches
//! the device.
//!
//! # Invariants
//! 1. A downstream port without logical devices is bound to one bridge at most; a logical device
//!    is bound to one at most.
//! 2. What is bound is a downstream port.

use std::collections::BTreeMap;

use pool_core::planted;

use crate::id::{LdId, PortId, VcsId, VppbId};
use crate::refusal::Refusal;

/// What a port is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Nothing is connected.
    Unused,
    /// It leads to a host: the upstream port of this virtual switch.
    Upstream(VcsId),
    /// It leads to another switch, or to a memory device of so many logical devices.
    Downstream {
        /// None where it leads to a switch, or to a device that has but one.
        lds: Option<u16>,
    },
}

/// What a bridge is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bound {
    /// The downstream port.
    pub port: PortId,
    /// The logical device behind it, where there are several.
    pub ld: Option<LdId>,
}

/// A virtual switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualSwitch {
    /// The port that leads to its host.
    pub upstream: PortId,
    /// By [`VppbId`]: what each bridge is bound to.
    pub bridges: Vec<Option<Bound>>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    ports: Vec<Role>,
    virtual_switches: Vec<VirtualSwitch>,
    /// Who has what is bound.
    binders: BTreeMap<Bound, (VcsId, VppbId)>,
    /// Whether it binds and unbinds nothing, though it could.
    refuses: bool,
}

impl Switch {
    /// A switch with these ports, and so many bridges in each virtual switch. Nothing is bound.
    #[must_use]
    pub fn new(ports: Vec<Role>, bridges: u8) -> Self {
        let mut upstream: Vec<(VcsId, PortId)> = (0..)
            .zip(&ports)
            .filter_map(|(number, port)| match port {
                Role::Upstream(vcs) => Some((*vcs, PortId(number))),
                _ => None,
            })
            .collect();
        upstream.sort_unstable();
        let virtual_switch = |(_, upstream)| VirtualSwitch {
            upstream,
            bridges: vec![None; usize::from(bridges)],
        };
        Self {
            ports,
            virtual_switches: upstream.into_iter().map(virtual_switch).collect(),
            binders: BTreeMap::new(),
            refuses: false,
        }
    }

    /// What each of its physical ports is for.
    #[must_use]
    pub fn ports(&self) -> &[Role] {
        &self.ports
    }

    /// Its virtual switches.
    #[must_use]
    pub fn virtual_switches(&self) -> &[VirtualSwitch] {
        &self.virtual_switches
    }

    /// The virtual switch whose upstream port this is.
    #[must_use]
    pub fn behind(&self, upstream: PortId) -> Option<VcsId> {
        match self.ports.get(upstream.index())? {
            Role::Upstream(vcs) => Some(*vcs),
            _ => None,
        }
    }

    /// Whether a bridge may be bound to that.
    ///
    /// # Errors
    /// [`Refusal::Input`].
    pub fn may_bind(&self, (vcs, vppb): (VcsId, VppbId), to: Bound) -> Result<(), Refusal> {
        if self.bridge(vcs, vppb)?.is_some() {
            return Err(Refusal::Input("the bridge is bound already"));
        }
        let port = self.ports.get(to.port.index());
        let port = port.ok_or(Refusal::Input("there is no such port"))?;
        let Role::Downstream { lds } = *port else {
            return Err(Refusal::Input("the port leads to no device"));
        };
        match (lds, to.ld) {
            (None, None) => {}
            (Some(count), Some(ld)) if ld.0 < count => {}
            (Some(_), Some(_)) => return Err(Refusal::Input("there is no such logical device")),
            (Some(_), None) => return Err(Refusal::Input("one logical device is to be named")),
            (None, Some(_)) => return Err(Refusal::Input("the port has no logical devices")),
        }
        if self.binders.contains_key(&to) && !planted!("switch.binds_twice") {
            return Err(Refusal::Input("another bridge is bound to that"));
        }
        Ok(())
    }

    /// Binds a bridge.
    ///
    /// # Errors
    /// As [`Switch::may_bind`].
    pub fn bind(&mut self, (vcs, vppb): (VcsId, VppbId), to: Bound) -> Result<(), Refusal> {
        self.may_bind((vcs, vppb), to)?;
        *self.bridge_mut(vcs, vppb)? = Some(to);
        self.binders.insert(to, (vcs, vppb));
        Ok(())
    }

    /// Frees a bridge, and says what it was bound to.
    ///
    /// # Errors
    /// [`Refusal::Input`] where there is no such bridge, or it is not bound.
    pub fn unbind(&mut self, vcs: VcsId, vppb: VppbId) -> Result<Bound, Refusal> {
        let bound = self.bridge_mut(vcs, vppb)?.take();
        let bound = bound.ok_or(Refusal::Input("the bridge is not bound"))?;
        self.binders.remove(&bound);
        Ok(bound)
    }

    /// Forgets all that is bound, as a switch that starts anew does.
    pub fn forget(&mut self) {
        self.binders.clear();
        let all = self
            .virtual_switches
            .iter_mut()
            .flat_map(|it| &mut it.bridges);
        all.for_each(|bridge| *bridge = None);
    }

    /// Whether a manager is refused what it asks.
    #[must_use]
    pub const fn refuses(&self) -> bool {
        self.refuses
    }

    /// Has managers be refused what they ask, or not any more.
    pub const fn refuse(&mut self, refuses: bool) {
        self.refuses = refuses;
    }

    fn bridge(&self, vcs: VcsId, vppb: VppbId) -> Result<Option<Bound>, Refusal> {
        let vcs = self.virtual_switches.get(vcs.index()).ok_or(NO_VCS)?;
        vcs.bridges.get(vppb.index()).copied().ok_or(NO_VPPB)
    }

    fn bridge_mut(&mut self, vcs: VcsId, vppb: VppbId) -> Result<&mut Option<Bound>, Refusal> {
        let vcs = self.virtual_switches.get_mut(vcs.index()).ok_or(NO_VCS)?;
        vcs.bridges.get_mut(vppb.index()).ok_or(NO_VPPB)
    }
}

const NO_VCS: Refusal = Refusal::Input("there is no such virtual switch");
const NO_VPPB: Refusal = Refusal::Input("there is no such bridge");

#[cfg(test)]
mod tests {
    use super::*;

    fn switch() -> Switch {
        let ports = [
            Role::Upstream(VcsId(1)),
            Role::Upstream(VcsId(0)),
            Role::Downstream { lds: Some(2) },
            Role::Downstream { lds: None },
            Role::Unused,
        ];
        Switch::new(ports.to_vec(), 2)
    }

    fn to(port: u8, ld: Option<u16>) -> Bound {
        Bound {
            port: PortId(port),
            ld: ld.map(LdId),
        }
    }

    fn bridge(vcs: u8, vppb: u8) -> (VcsId, VppbId) {
        (VcsId(vcs), VppbId(vppb))
    }

    #[test]
    fn each_port_to_a_host_has_a_virtual_switch() {
        let switch = switch();
        assert_eq!(switch.virtual_switches()[0].upstream, PortId(1));
        assert_eq!(switch.behind(PortId(0)), Some(VcsId(1)));
        assert_eq!(switch.behind(PortId(2)), None);
        assert_eq!(switch.behind(PortId(9)), None);
    }

    #[test]
    fn a_logical_device_is_bound_once_and_others_of_its_port_may_be() {
        let mut switch = switch();
        switch.bind(bridge(0, 0), to(2, Some(0))).unwrap();
        switch.bind(bridge(1, 0), to(2, Some(1))).unwrap();
        let old = switch.clone();
        for (which, bound) in [
            (bridge(0, 0), to(3, None)),
            (bridge(0, 1), to(2, Some(0))),
            (bridge(0, 1), to(2, Some(2))),
            (bridge(0, 1), to(2, None)),
            (bridge(0, 1), to(3, Some(0))),
            (bridge(0, 1), to(0, None)),
            (bridge(0, 1), to(4, None)),
            (bridge(0, 1), to(9, None)),
            (bridge(2, 0), to(3, None)),
            (bridge(0, 2), to(3, None)),
        ] {
            assert!(switch.bind(which, bound).is_err(), "{which:?} to {bound:?}");
            assert_eq!(switch, old);
        }
        assert_eq!(switch.unbind(VcsId(0), VppbId(0)), Ok(to(2, Some(0))));
        assert!(switch.unbind(VcsId(0), VppbId(0)).is_err());
        switch.bind(bridge(1, 1), to(2, Some(0))).unwrap();
        switch.forget();
        switch.bind(bridge(0, 0), to(2, Some(1))).unwrap();
    }
}
