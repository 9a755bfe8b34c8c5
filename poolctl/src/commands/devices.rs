//! `poolctl devices`: the devices, and changes of one.

use pool_core::Bytes;
use pool_proto::admin::v1::{
    ActivateDeviceRequest, Device, ListDevicesReply, ListDevicesRequest, RemoveDeviceRequest,
    ResizeDeviceRequest,
};
use pool_proto::names::Named as _;
use serde_json::json;

use crate::connect::Pool;
use crate::error::CtlError;
use crate::output::{Grid, Output};
use crate::text;

pub(super) async fn list(pool: &mut Pool, output: &mut Output) -> Result<(), CtlError> {
    let devices = get(pool).await?;
    output.show(&devices, |reply| render(&reply.devices))
}

pub(super) async fn get(pool: &mut Pool) -> Result<ListDevicesReply, CtlError> {
    let response = pool.calls.list_devices(ListDevicesRequest {}).await;
    pool.answer(response)
}

pub(super) async fn resize(
    pool: &mut Pool,
    output: &mut Output,
    device: String,
    size: Bytes,
) -> Result<(), CtlError> {
    let request = ResizeDeviceRequest {
        device,
        bytes: size.get(),
    };
    let response = pool.calls.resize_device(request).await;
    show(output, &pool.answer(response)?)
}

pub(super) async fn activate(
    pool: &mut Pool,
    output: &mut Output,
    device: String,
) -> Result<(), CtlError> {
    let response = pool
        .calls
        .activate_device(ActivateDeviceRequest { device })
        .await;
    show(output, &pool.answer(response)?)
}

pub(super) async fn remove(
    pool: &mut Pool,
    output: &mut Output,
    device: String,
) -> Result<(), CtlError> {
    let request = RemoveDeviceRequest {
        device: device.clone(),
    };
    let response = pool.calls.remove_device(request).await;
    pool.answer(response)?;
    let removed = json!({ "removed": device });
    output.show(&removed, |_| {
        format!("device {} is removed\n", text::plain(&device))
    })
}

/// The device as it now is.
pub(super) fn show(output: &mut Output, device: &Device) -> Result<(), CtlError> {
    output.show(device, |device| render(std::slice::from_ref(device)))
}

fn render(devices: &[Device]) -> String {
    let mut grid = Grid::new([
        "DEVICE",
        "TIER",
        "STATE",
        ">SIZE",
        ">MOST",
        ">FREE",
        ">GRANTED",
        ">QUARANTINE",
        ">SEGMENTS",
        "KIND",
        ">NODE",
        "FILES",
    ]);
    for device in devices {
        let node = u32::try_from(device.numa_node).ok();
        grid.row([
            text::with_medium(&device.name, device.emulated),
            text::plain(&device.tier),
            state(device),
            text::size(device.total_bytes),
            text::size(device.most_bytes.max(device.total_bytes)),
            text::size(device.free_bytes),
            text::size(device.granted_bytes),
            text::size(device.quarantined_bytes),
            device.segments.to_string(),
            text::plain(&device.kind),
            node.map_or_else(|| "-".to_owned(), |node| node.to_string()),
            text::plain(&device.protection),
        ]);
    }
    let quarantined = devices.iter().map(|device| device.quarantined_bytes).sum();
    grid.render() + &notes(devices) + text::whom_quarantine_waits_for(quarantined)
}

/// In which state a device is, and whether it is reached.
fn state(device: &Device) -> String {
    let reach = if device.unreached { ", unreached" } else { "" };
    format!("{}{reach}", device.state().word())
}

/// What is in the way of devices, a line each.
fn notes(devices: &[Device]) -> String {
    let noted = devices.iter().filter(|device| !device.note.is_empty());
    let line = |device: &Device| {
        let (name, note) = (text::plain(&device.name), text::plain(&device.note));
        format!("{name}: {note}\n")
    };
    noted.map(line).collect()
}
