//! What goes wrong between an interface and who sends it commands.

use super::super::event::{AccessError, Effect};
use super::super::{Cci, Fabric};
use super::kinds::Glitch;

impl Fabric {
    /// An interface that there is, whoever reaches it now.
    fn is_interface(&self, cci: Cci) -> bool {
        match cci {
            Cci::Switch(switch) => switch.index() < self.switches.len(),
            Cci::Memdev(memdev) => memdev.index() < self.memdevs.len(),
            Cci::Mailbox { host, memdev, ld } => {
                let device = self.memdevs.get(memdev.index());
                let has_ld = device.is_some_and(|device| device.ld(ld).is_ok());
                has_ld && host.index() < self.hosts.len()
            }
        }
    }

    pub(super) fn err(&mut self, cci: Cci, glitch: Glitch, times: u16) -> Effect {
        if !self.is_interface(cci) {
            return Effect::Failed(AccessError::Unreachable);
        }
        self.component_mut(cci).glitch = (times > 0).then_some((glitch, times));
        Effect::Done
    }

    pub(super) fn hang(&mut self, cci: Cci) -> Effect {
        if !self.is_interface(cci) {
            return Effect::Failed(AccessError::Unreachable);
        }
        self.component_mut(cci).hangs = true;
        self.hold_background(cci);
        Effect::Done
    }

    pub(super) fn heal_interface(&mut self, cci: Cci) -> Effect {
        if !self.is_interface(cci) {
            return Effect::Failed(AccessError::Unreachable);
        }
        let component = self.component_mut(cci);
        component.glitch = None;
        if std::mem::take(&mut component.hangs) {
            self.end_background(cci);
        }
        Effect::Done
    }

    /// What is wrong with the command that comes now, if anything is.
    pub(in super::super) fn glitch(&mut self, cci: Cci) -> Option<Glitch> {
        self.component(cci).glitch?;
        let glitch = &mut self.component_mut(cci).glitch;
        let (what, left) = (*glitch)?;
        *glitch = left
            .checked_sub(1)
            .filter(|&left| left > 0)
            .map(|left| (what, left));
        Some(what)
    }
}
