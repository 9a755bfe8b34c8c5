//! `poolctl drain`: grant nothing more from a device, and wait until it is empty.

use std::time::Duration;

use pool_core::{Bytes, clock};
use pool_proto::admin::v1::{Device, DrainDeviceRequest};
use tokio::time::sleep;

use super::devices;
use crate::connect::Pool;
use crate::error::CtlError;
use crate::output::Output;

/// How long to wait for the device to be empty, unless told.
pub(super) const WAIT: Duration = Duration::from_secs(60);
/// From one look at the device to the next: moves take longer than that.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Drains, and waits at most `wait` where there is one.
pub(super) async fn run(
    pool: &mut Pool,
    output: &mut Output,
    name: String,
    wait: Option<Duration>,
) -> Result<(), CtlError> {
    let start = clock::now();
    let request = DrainDeviceRequest {
        device: name.clone(),
    };
    let response = pool.calls.drain_device(request).await;
    let mut device = pool.answer(response)?;
    if let Some(wait) = wait {
        while left_on(&device) > 0 {
            let waited = Duration::from_nanos(clock::now().saturating_since(start).get());
            if waited >= wait {
                return Err(CtlError::NotEmpty {
                    device: name,
                    left: Bytes::new(left_on(&device)),
                    waited,
                });
            }
            sleep(LOOK_EVERY.min(wait.saturating_sub(waited))).await;
            device = look(pool, &device).await?;
        }
    }
    devices::show(output, &device)
}

fn left_on(device: &Device) -> u64 {
    device
        .granted_bytes
        .saturating_add(device.quarantined_bytes)
}

async fn look(pool: &mut Pool, device: &Device) -> Result<Device, CtlError> {
    let found = devices::get(pool).await?.devices.into_iter();
    let mut found = found.filter(|found| found.device_id == device.device_id);
    found.next().ok_or_else(|| CtlError::Refused {
        reason: format!("device {} was removed meanwhile", device.name),
    })
}
