//! What operators ask, once each, and what was acknowledged of it.

use std::collections::BTreeSet;

use pool_core::Nanos;
use pool_proto::admin::v1 as admin;
use pool_proto::common::v1::DeviceState;
use tierpool_tests::EXTENT;
use tierpool_tests::admin::Admin;
use tierpool_tests::asker::Tally;
use tierpool_tests::daemon::Daemon;
use tonic::{Code, Status};

/// How long an operator waits who takes no answer for one.
const BRIEFLY: Nanos = Nanos::from_millis(2_000);
const EXTENTS: u64 = 8;

/// What the device `pooled0` may be.
#[derive(Debug)]
pub(crate) struct Operators {
    states: BTreeSet<i32>,
    sizes: BTreeSet<u64>,
}

impl Default for Operators {
    fn default() -> Self {
        Self {
            states: BTreeSet::from([DeviceState::Online.into()]),
            sizes: BTreeSet::from([EXTENTS * EXTENT]),
        }
    }
}

fn device() -> String {
    "pooled0".to_owned()
}

fn resize(extents: u64) -> admin::ResizeDeviceRequest {
    let (device, bytes) = (device(), extents * EXTENT);
    admin::ResizeDeviceRequest { device, bytes }
}

fn drain() -> admin::DrainDeviceRequest {
    admin::DrainDeviceRequest { device: device() }
}

fn activate() -> admin::ActivateDeviceRequest {
    admin::ActivateDeviceRequest { device: device() }
}

/// Takes an outcome down; whether it is known what was done.
fn take(tally: &mut Tally, outcome: &Result<admin::Device, Status>) -> Option<bool> {
    let Err(status) = outcome else {
        tally.done += 1;
        return Some(true);
    };
    match status.code() {
        // The journal failed in the midst of it, or the server has ended it.
        Code::Unavailable | Code::ResourceExhausted => {
            let reason = format!("{:?}", status.code());
            *tally.refused.entry(reason).or_default() += 1;
            None
        }
        Code::Cancelled | Code::DeadlineExceeded => {
            tally.late += 1;
            None
        }
        // The connection ended under the call.
        Code::Unknown if status.message().contains("transport error") => {
            tally.ended += 1;
            None
        }
        _ => panic!("{status:?}"),
    }
}

impl Operators {
    /// Has a device leave and come back, and gives it another size and its own again.
    pub(crate) fn ask(&mut self, daemon: &Daemon) -> Tally {
        let mut tally = Tally::default();
        let Ok(mut admin) = Admin::connect_within(&daemon.admin_socket(), BRIEFLY) else {
            tally.ended += 1;
            return tally;
        };
        let (online, draining) = (DeviceState::Online.into(), DeviceState::Draining.into());
        let drained = admin.drain_device(drain());
        self.is_now(draining, take(&mut tally, &drained));
        let activated = admin.activate_device(activate());
        self.is_now(online, take(&mut tally, &activated));
        for extents in [6, EXTENTS] {
            let resized = admin.resize_device(resize(extents));
            match take(&mut tally, &resized) {
                Some(_) => self.sizes = BTreeSet::from([extents * EXTENT]),
                None => _ = self.sizes.insert(extents * EXTENT),
            }
        }
        tally
    }

    fn is_now(&mut self, state: i32, known: Option<bool>) {
        if known.is_some() {
            self.states.clear();
        }
        self.states.insert(state);
    }

    /// A daemon that lives tells what it has, and its accounts balance. Whether it does.
    pub(crate) fn are_told(&self, daemon: &Daemon, plan: &str) -> bool {
        let told = Admin::connect(&daemon.admin_socket()).map(|mut admin| {
            let (status, segments) = (admin.status()?, admin.segments()?);
            Ok::<_, Status>((status, segments, admin.check()?, admin.devices()?))
        });
        let Ok(Ok((_, _, report, devices))) = told else {
            return false;
        };
        for device in &report.devices {
            let sum = device.free_extents + device.granted_extents + device.quarantined_extents;
            assert_eq!(sum, device.total_extents, "{plan}: {device:?}");
        }
        let found = devices.iter().find(|found| found.name == device());
        self.fits(found.expect("it is one of them"));
        true
    }

    fn fits(&self, found: &admin::Device) {
        let (state, bytes) = (found.state, found.total_bytes);
        assert!(
            self.states.contains(&state) && self.sizes.contains(&bytes),
            "{found:?} is none of {self:?}"
        );
    }

    /// What was acknowledged has come about, and what is asked now is done.
    pub(crate) fn are_obeyed(&self, daemon: &Daemon) {
        let mut admin: Admin = daemon.admin();
        self.fits(&admin.device("pooled0"));
        let activated = admin.activate_device(activate()).expect("it is done");
        assert_eq!(activated.state(), DeviceState::Online);
        let resized = admin.resize_device(resize(EXTENTS)).expect("it is done");
        assert_eq!(resized.total_bytes, EXTENTS * EXTENT);
        daemon.balanced();
    }
}
