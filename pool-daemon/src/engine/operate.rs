//! What operators change: devices drained, activated, removed and resized, segments ended.

use std::collections::{BTreeMap, BTreeSet};

use pool_core::{BackingId, Bytes, ClientId, DeviceId, Extents, SegmentId};
use pool_proto::admin::v1::Device as DeviceMessage;
use pool_proto::common::v1::{DeviceState, Error};
use pool_proto::session::v1::{self as session, event};

use super::command::{Operation, TicketId};
use super::device::Device;
use super::effect::Action;
use super::segment::{Segment, Stage};
use super::{Engine, Refusal};

impl Engine {
    pub(super) fn operate(&mut self, ticket: TicketId, operation: Operation) {
        let outcome = match operation {
            Operation::Drain(name) => self.drain(&name).map(Some),
            Operation::Activate(name) => self.activate(&name).map(Some),
            Operation::Remove(name) => self.remove(&name).map(|()| None),
            Operation::Resize(name, bytes) => self.resize_device(&name, bytes).map(Some),
            Operation::Free { segment, force } => {
                self.free_as_operator(segment, force).map(|()| None)
            }
        };
        let outcome = match outcome {
            Ok(device) => Ok(device.map(|id| self.device_message(id))),
            Err(refusal) => Err(Error::from(&refusal)),
        };
        self.actions.push(Action::Answer { ticket, outcome });
    }

    fn device_named(&self, name: &str) -> Result<&Device, Refusal> {
        let device = self
            .devices
            .values()
            .find(|device| device.plan.name == name);
        device.ok_or_else(|| Refusal::not_found("device", name))
    }

    fn drain(&mut self, name: &str) -> Result<DeviceId, Refusal> {
        let device = self.device_named(name)?;
        if device.removed {
            return Err(Refusal::not_found("device", name));
        }
        let id = device.id;
        if let Some(device) = self.devices.get_mut(&id) {
            device.draining = true;
        }
        let idle = self.pieces_on(id).filter(|segment| segment.is_idle());
        let idle: Vec<_> = idle.map(|segment| segment.id).collect();
        self.to_move.extend(idle);
        self.touch_device(id);
        self.tell_holders_on(id, leaving);
        self.publish_device("device-draining", id);
        Ok(id)
    }

    fn activate(&mut self, name: &str) -> Result<DeviceId, Refusal> {
        let id = self.device_named(name)?.id;
        if let Some(device) = self.devices.get_mut(&id) {
            (device.draining, device.removed) = (false, false);
        }
        self.touch_device(id);
        self.tell_holders_on(id, |device, _| {
            event::Body::DeviceBack(session::DeviceBack { device })
        });
        self.publish_device("device-activated", id);
        Ok(id)
    }

    fn remove(&mut self, name: &str) -> Result<(), Refusal> {
        let device = self.device_named(name)?;
        let (id, total, used) = (
            device.id,
            device.total(),
            device.total().saturating_sub(device.free()),
        );
        if device.removed {
            return Err(Refusal::not_found("device", name));
        }
        if !device.draining {
            return Err(Refusal::Held(format!(
                "device {name} is in service: drain it first"
            )));
        }
        if used > Extents::ZERO {
            let (device, used, asked) = (name.to_owned(), used.bytes(), Bytes::ZERO);
            return Err(Refusal::InUse {
                device,
                used,
                asked,
            });
        }
        self.keeps_guarantees(device.tier, total)?;
        if let Some(device) = self.devices.get_mut(&id) {
            device.removed = true;
        }
        self.touch_device(id);
        self.publish_device("device-removed", id);
        Ok(())
    }

    /// # Errors
    /// Where the tier, less so many extents, could not hold what its tenants are guaranteed.
    pub(super) fn keeps_guarantees(&self, tier: usize, less: Extents) -> Result<(), Refusal> {
        let left = self.tier_total(tier).saturating_sub(less);
        let guaranteed = self.tenants.guaranteed(self.tier_name(tier), left);
        if guaranteed <= left {
            return Ok(());
        }
        let tier = self.tier_name(tier).to_owned();
        Err(Refusal::Guaranteed {
            tier,
            guaranteed: guaranteed.bytes(),
            left: left.bytes(),
        })
    }

    fn resize_device(&mut self, name: &str, bytes: u64) -> Result<DeviceId, Refusal> {
        let device = self.device_named(name)?;
        if device.removed {
            return Err(Refusal::not_found("device", name));
        }
        if device.plan.dynamic {
            return Err(Refusal::NotPermitted(
                "the device is as large as the fabric makes it: set the most it may be in the \
                 configuration, or drain it",
            ));
        }
        if device.plan.whole {
            return Err(Refusal::NotPermitted(super::whole::IS_WHOLE));
        }
        // What the window cannot address could never be granted.
        let others = self
            .devices
            .values()
            .filter(|other| other.id != device.id && !other.removed);
        let others = super::sum(others.map(Device::total)).bytes().get();
        let most = self.plan.window.len().get().saturating_sub(others);
        let least = pool_core::EXTENT_BYTES;
        let wanted =
            Extents::holding(Bytes::new(bytes)).filter(|_| (least..=most).contains(&bytes));
        let wanted = wanted.ok_or(Refusal::OutOfRange {
            what: "bytes",
            asked: bytes,
            least,
            most,
        })?;
        let (id, tier) = (device.id, device.tier);
        let less = device.total().saturating_sub(wanted);
        if less > Extents::ZERO {
            self.keeps_guarantees(tier, less)?;
        }
        let Some(device) = self.devices.get_mut(&id) else {
            return Ok(id);
        };
        device.resize(wanted).map_err(|in_use| {
            let (device, used, asked) = (name.to_owned(), in_use.used.bytes(), wanted.bytes());
            Refusal::InUse {
                device,
                used,
                asked,
            }
        })?;
        self.touch_device(id);
        self.publish_device("device-resized", id);
        Ok(id)
    }

    fn free_as_operator(&mut self, id: u64, force: bool) -> Result<(), Refusal> {
        let segment = SegmentId::new(id).and_then(|id| self.segments.get(&id));
        let segment = segment.filter(|segment| segment.stage == Stage::Live);
        let segment = segment.ok_or_else(|| Refusal::not_found("segment", id))?;
        let (id, holders) = (segment.id, segment.holders.len());
        self.not_busy(id)?;
        if holders > 0 && !force {
            return Err(Refusal::Held(format!(
                "{holders} clients hold {id}: ask them to close it, or force"
            )));
        }
        self.end_segment(id);
        Ok(())
    }

    /// A segment has come to lie on a draining device, since that began while its files were built:
    /// its holders are told what the others were told then.
    pub(super) fn tell_if_leaving(&mut self, id: SegmentId) {
        let Some(segment) = self.segments.get(&id) else {
            return;
        };
        let (devices, holders) = (self.leaving_devices(segment), segment.holders.clone());
        for device in devices {
            for &client in holders.keys() {
                let (device, segment_ids) = (device.clone(), vec![id.number()]);
                self.tell(client, leaving(device, segment_ids));
            }
        }
    }

    /// Tells a client that is back of the devices that what it holds must leave.
    pub(super) fn tell_of_leaving(&mut self, client: ClientId) {
        let held = self.clients.get(&client).map(|client| client.held.clone());
        let mut on = BTreeMap::<_, Vec<u64>>::new();
        for segment in held.iter().flatten().filter_map(|id| self.segments.get(id)) {
            for device in self.leaving_devices(segment) {
                on.entry(device).or_default().push(segment.id.number());
            }
        }
        for (device, segment_ids) in on {
            self.tell(client, leaving(device, segment_ids));
        }
    }

    /// The names of the draining devices that pieces of a segment lie on.
    fn leaving_devices(&self, segment: &Segment) -> BTreeSet<String> {
        let draining = self.draining_under(segment);
        draining.map(|device| device.plan.name.clone()).collect()
    }

    /// The draining device of each piece of a segment that lies on one.
    pub(super) fn draining_under(&self, segment: &Segment) -> impl Iterator<Item = &Device> {
        let backings = segment.backings.iter();
        let backings = backings.filter_map(|id| self.backings.get(id));
        let devices = backings.filter_map(|backing| self.devices.get(&backing.device));
        devices.filter(|device| device.draining)
    }

    /// Tells each client that holds something on the device, with the ids of what it holds there.
    fn tell_holders_on(&mut self, id: DeviceId, news: impl Fn(String, Vec<u64>) -> event::Body) {
        let Some(name) = self.devices.get(&id).map(|device| device.plan.name.clone()) else {
            return;
        };
        let mut held = BTreeMap::<_, Vec<u64>>::new();
        for segment in self.pieces_on(id) {
            for &client in segment.holders.keys() {
                held.entry(client).or_default().push(segment.id.number());
            }
        }
        for (client, segments) in held {
            self.tell(client, news(name.clone(), segments));
        }
    }

    /// The segments that have a piece in use on the device.
    fn pieces_on(&self, id: DeviceId) -> impl Iterator<Item = &Segment> {
        let on_it = move |file: &BackingId| self.backings.get(file).is_some_and(|b| b.device == id);
        let segments = self
            .devices
            .get(&id)
            .into_iter()
            .flat_map(|d| d.segments.keys());
        segments
            .filter_map(|id| self.segments.get(id))
            .filter(move |segment| segment.backings.iter().any(on_it))
    }

    pub(super) fn publish_device(&mut self, kind: &str, id: DeviceId) {
        let Some(device) = self.devices.get(&id) else {
            return;
        };
        let (name, bytes) = (device.plan.name.clone(), device.total().bytes().get());
        self.publish(kind, |event| (event.device, event.bytes) = (name, bytes));
    }

    /// A device as operators see it.
    pub(super) fn device_message(&self, id: DeviceId) -> DeviceMessage {
        let Some(device) = self.devices.get(&id) else {
            return DeviceMessage::default();
        };
        let state = if device.draining {
            DeviceState::Draining
        } else {
            DeviceState::Online
        };
        DeviceMessage {
            device_id: id.number(),
            name: device.plan.name.clone(),
            tier: device.plan.tier.clone(),
            kind: device.plan.kind.to_owned(),
            emulated: device.plan.emulated,
            state: state.into(),
            total_bytes: device.total().bytes().get(),
            free_bytes: device.free().bytes().get(),
            granted_bytes: device.granted().bytes().get(),
            quarantined_bytes: device.quarantined.bytes().get(),
            segments: u32::try_from(device.segments.len()).unwrap_or(u32::MAX),
            numa_node: device
                .plan
                .numa_node
                .and_then(|node| i32::try_from(node).ok())
                .unwrap_or(-1),
            protection: if device.plan.sealed {
                "sealed"
            } else {
                "unsealed"
            }
            .to_owned(),
            unreached: !device.reached,
            most_bytes: device.most().bytes().get(),
            note: device.note.clone(),
        }
    }
}

fn leaving(device: String, segment_ids: Vec<u64>) -> event::Body {
    event::Body::DeviceLeaving(session::DeviceLeaving {
        device,
        segment_ids,
    })
}
