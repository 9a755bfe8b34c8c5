//! Regions, drivers, slices and nodes come and go in the order that the kernel accepts; what it
//! would refuse, or half do, is refused before and changes nothing.

use std::fs;
use std::ops::Range;

use anyhow::{Context as _, bail, ensure};
use kernel_cxl::{
    ChangeError, DaxDriver, Decoder, NewRegion, RegionEnd, RegionPlan, Sysfs, Topology,
};
use pool_core::Bytes;
use pool_core::units::MIB;

use crate::boot;
use crate::say;

/// The kernel's rule for memory that is new.
pub(super) const RULE: &str = "/sys/devices/system/memory/auto_online_blocks";

pub(super) fn run() -> anyhow::Result<()> {
    let sysfs = Sysfs::here();
    let before = Topology::read(&sysfs)?;
    refusals(&before)?;
    deaths(&sysfs, &[0xa0])?;
    let first = create(&sysfs, 0xa0, Some(256))?;
    let second = create(&sysfs, 0xa0, Some(512))?;
    stack(&sysfs, &first, &second)?;
    // Whatever nobody drives goes to `kmem` as soon as that is loaded.
    let dax = sysfs.await_dax(&first)?;
    sysfs.drive(&dax, Some(DaxDriver::DeviceDax))?;
    drivers(&sysfs, &second)?;
    slices(&sysfs, &first)?;
    for region in [&second, &first] {
        destroy(&sysfs, region)?;
    }
    let after = Topology::read(&sysfs)?;
    ensure!(after.regions.is_empty(), "{:?} is left", after.regions);
    // The sort of memory that a decoder was last of stays written there.
    let used = |it: &&Decoder| it.region.is_some() || it.dpa.is_some();
    let used: Vec<&Decoder> = after.decoders.iter().filter(used).collect();
    ensure!(used.is_empty(), "{used:?}");
    let whole = create(&sysfs, 0xa0, None)?;
    let topology = Topology::read(&sysfs)?;
    let region = topology.regions.iter().find(|it| it.name == whole);
    let bytes = region.map(kernel_cxl::Region::bytes);
    ensure!(
        bytes == Some(Bytes::new(1024 * MIB)),
        "all of it is {bytes:?}"
    );
    destroy(&sysfs, &whole)
}

/// Two devices behind one bridge, in turn.
pub(super) fn interleave() -> anyhow::Result<()> {
    let sysfs = Sysfs::here();
    deaths(&sysfs, &[0xa1, 0xa0])?;
    let wanted = NewRegion {
        serials: vec![0xa1, 0xa0],
        bytes: Some(Bytes::new(512 * MIB)),
        granularity: Some(1024),
    };
    let plan = RegionPlan::new(&Topology::read(&sysfs)?, &wanted)?;
    let name = sysfs.create_region(&plan)?;
    let topology = Topology::read(&sysfs)?;
    let region = topology.regions.iter().find(|it| it.name == name);
    let region = region.context("it was made")?;
    let behind = region
        .targets
        .iter()
        .filter_map(|it| topology.memdev_behind(it));
    let serials: Vec<u64> = behind.map(|memdev| memdev.serial).collect();
    ensure!(serials == [0xa1, 0xa0], "it lies on {serials:x?}");
    ensure!((region.ways, region.granularity) == (2, 1024), "{region:?}");
    let dax = sysfs.await_dax(&name)?;
    sysfs.drive(&dax, Some(DaxDriver::DeviceDax))?;
    sysfs.drive(&dax, None)?;
    destroy(&sysfs, &name)?;
    let odd = NewRegion {
        bytes: Some(Bytes::new(256 * MIB)),
        ..wanted
    };
    let refused = RegionPlan::new(&Topology::read(&sysfs)?, &odd);
    ensure!(
        matches!(refused, Err(ChangeError::Size { .. })),
        "{refused:?}"
    );
    say::told("a region on two devices by 1024 bytes came and went");
    Ok(())
}

/// What cannot be is told before anything is written.
fn refusals(topology: &Topology) -> anyhow::Result<()> {
    let of = |serials: &[u64], mib: u64| {
        let wanted = NewRegion {
            serials: serials.to_vec(),
            bytes: Some(Bytes::new(mib * MIB)),
            granularity: None,
        };
        RegionPlan::new(topology, &wanted)
    };
    type Is = fn(&ChangeError) -> bool;
    let cases: [(&[u64], u64, Is); 8] = [
        (&[], 256, |it| matches!(it, ChangeError::NoDevice)),
        (&[0xdead], 256, |it| {
            matches!(it, ChangeError::NoMemdev(0xdead))
        }),
        (&[0xa0, 0xa0], 512, |it| {
            matches!(it, ChangeError::Twice(0xa0))
        }),
        (&[0xa0], 128, |it| matches!(it, ChangeError::Size { .. })),
        (&[0xa0], 0, |it| matches!(it, ChangeError::Size { .. })),
        (&[0xa1], 768, |it| {
            matches!(it, ChangeError::DeviceFull { serial: 0xa1, .. })
        }),
        (&[0xa0, 0xa1], 512, |it| {
            matches!(it, ChangeError::NoWindow(_))
        }),
        (&[0xa0; 5], 1280, |it| {
            matches!(it, ChangeError::Interleave { ways: 5, .. })
        }),
    ];
    for (serials, mib, is_right) in cases {
        match of(serials, mib) {
            Err(why) if is_right(&why) => {}
            other => bail!("{serials:x?} of {mib} MiB: {other:?}"),
        }
    }
    let again = Topology::read(&Sysfs::here())?;
    ensure!(again.regions.is_empty() && again.decoders == topology.decoders);
    say::told(&format!(
        "{} regions that cannot be are refused",
        cases.len()
    ));
    Ok(())
}

/// Whatever a death leaves of a region that is made, or taken away, is destroyed by its name.
fn deaths(sysfs: &Sysfs, serials: &[u64]) -> anyhow::Result<()> {
    let used = |topology: &Topology| {
        let decoders = topology.decoders.iter();
        let used = decoders.filter(|it| it.dpa.is_some() || it.region.is_some());
        (topology.regions.len(), used.count())
    };
    let before = Topology::read(sysfs)?;
    let wanted = NewRegion {
        serials: serials.to_vec(),
        bytes: Some(Bytes::new(256 * MIB * serials.len() as u64)),
        granularity: None,
    };
    let plan = RegionPlan::new(&before, &wanted)?;
    let mut left = 0;
    // Its driver, its addresses, each decoder's place and memory, and the region itself.
    let taking_away = 3 + 2 * serials.len();
    for (is_making, count) in [(true, plan.steps("region0").len()), (false, taking_away)] {
        for done in 1..count {
            let name = sysfs.next_region(&plan)?;
            let making = plan.steps(&name);
            let of_making = if is_making { done } else { making.len() };
            for step in &making[..of_making] {
                sysfs.take(step).with_context(|| step.to_string())?;
            }
            if !is_making {
                let end = RegionEnd::new(&Topology::read(sysfs)?, &name)?;
                ensure!(end.steps().len() == count, "{end:?}");
                for step in &end.steps()[..done] {
                    sysfs.take(step).with_context(|| step.to_string())?;
                }
            }
            sysfs.destroy_region(&Topology::read(sysfs)?, &name)?;
            let after = Topology::read(sysfs)?;
            ensure!(used(&after) == used(&before), "after {done}: {after:?}");
            left += 1;
        }
    }
    say::told(&format!("what {left} deaths left of a region is destroyed"));
    Ok(())
}

/// The memory of a device is a stack.
fn stack(sysfs: &Sysfs, first: &str, second: &str) -> anyhow::Result<()> {
    let before = Topology::read(sysfs)?;
    let refused = sysfs.destroy_region(&before, first);
    let is_refused = matches!(&refused, Err(ChangeError::NotLast { first, .. }) if first == second);
    ensure!(is_refused, "{refused:?}");
    let wanted = NewRegion {
        bytes: Some(Bytes::new(512 * MIB)),
        ..NewRegion::of(0xa0)
    };
    let refused = RegionPlan::new(&before, &wanted);
    ensure!(
        matches!(refused, Err(ChangeError::DeviceFull { .. })),
        "{refused:?}"
    );
    let after = Topology::read(sysfs)?;
    let same = (after.regions == before.regions) && (after.decoders == before.decoders);
    ensure!(same, "a refusal changed something");
    say::told("a region below another one stays, and what is above has no room");
    Ok(())
}

/// A file, memory of a node, and a file again.
fn drivers(sysfs: &Sysfs, region: &str) -> anyhow::Result<()> {
    let dax = sysfs.await_dax(region)?;
    let refused = sysfs.drive(&dax, Some(DaxDriver::Kmem));
    ensure!(
        matches!(refused, Err(ChangeError::NotMovable { .. })),
        "{refused:?}"
    );
    sysfs.drive(&dax, Some(DaxDriver::DeviceDax))?;
    fs::metadata(format!("/dev/{dax}")).context("a dax device has a file")?;
    let refused = sysfs.destroy_region(&Topology::read(sysfs)?, region);
    ensure!(
        matches!(refused, Err(ChangeError::InUse { .. })),
        "{refused:?}"
    );
    fs::write(RULE, "online_movable")?;
    let refused = sysfs.drive(&dax, Some(DaxDriver::Kmem));
    ensure!(
        matches!(refused, Err(ChangeError::NoDriver("kmem"))),
        "{refused:?}"
    );
    sysfs.drive(&dax, Some(DaxDriver::DeviceDax))?;
    boot::load("kmem")?;
    for _ in 0..3 {
        sysfs.drive(&dax, Some(DaxDriver::Kmem))?;
        sysfs.put_online(&dax)?;
        let online = sysfs.online_of(&dax)?;
        ensure!(online == Bytes::new(512 * MIB), "{online} are online");
        let topology = Topology::read(sysfs)?;
        let device = topology.dax_devices().find(|it| it.name == dax);
        let node = device.and_then(|it| it.target_node);
        let found = topology.nodes.iter().find(|it| Some(it.id) == node);
        let found = found.context("its memory is a node")?;
        ensure!(!found.has_cpus && found.total == online, "{found:?}");
        let refused = sysfs.drive(&dax, Some(DaxDriver::DeviceDax));
        ensure!(
            matches!(refused, Err(ChangeError::Online { .. })),
            "{refused:?}"
        );
        sysfs.take_offline(&dax)?;
        sysfs.drive(&dax, Some(DaxDriver::DeviceDax))?;
    }
    sysfs.drive(&dax, None)?;
    say::told("a dax device was a file and a node in turn, three times");
    Ok(())
}

/// Parts of a region at chosen addresses, which come and go in any order.
fn slices(sysfs: &Sysfs, region: &str) -> anyhow::Result<()> {
    let whole = sysfs.await_dax(region)?;
    sysfs.drive(&whole, None)?;
    let addresses = addresses(sysfs, region)?;
    sysfs.empty(&whole)?;
    let part = |first: u64, mib: u64| {
        let start = addresses.start + first * MIB;
        start..start + mib * MIB
    };
    let front = sysfs.slice(region, &[part(0, 32)])?;
    let torn = sysfs.slice(region, &[part(100, 2), part(64, 4)])?;
    let back = sysfs.slice(region, &[part(200, 56)])?;
    let refused = sysfs.slice(region, &[part(101, 4)]);
    ensure!(
        matches!(refused, Err(ChangeError::Write { .. })),
        "{refused:?}"
    );
    let topology = Topology::read(sysfs)?;
    let found = topology.dax_devices().find(|it| it.name == torn);
    let found = found.context("a slice is a dax device")?;
    let places: Vec<Range<u64>> = found
        .mappings
        .iter()
        .map(|it| it.addresses.clone())
        .collect();
    ensure!(
        places == [part(100, 2), part(64, 4)],
        "it lies at {places:x?}"
    );
    ensure!(found.bytes == Bytes::new(6 * MIB), "{found:?}");
    sysfs.unslice(region, &front)?;
    let again = sysfs.slice(region, &[part(0, 16)])?;
    for slice in [back, torn, again] {
        sysfs.drive(&slice, Some(DaxDriver::DeviceDax))?;
        let refused = sysfs.unslice(region, &slice);
        ensure!(refused.is_err(), "a slice that somebody drives is gone");
        sysfs.drive(&slice, None)?;
        sysfs.unslice(region, &slice)?;
    }
    say::told("five slices at chosen addresses came and went");
    Ok(())
}

fn addresses(sysfs: &Sysfs, region: &str) -> anyhow::Result<Range<u64>> {
    let topology = Topology::read(sysfs)?;
    let found = topology.regions.iter().find(|it| it.name == region);
    Ok(found.context("the region is there")?.addresses.clone())
}

fn create(sysfs: &Sysfs, serial: u64, mib: Option<u64>) -> anyhow::Result<String> {
    let wanted = NewRegion {
        bytes: mib.map(|mib| Bytes::new(mib * MIB)),
        ..NewRegion::of(serial)
    };
    let plan = RegionPlan::new(&Topology::read(sysfs)?, &wanted)?;
    let name = sysfs.create_region(&plan)?;
    sysfs.await_dax(&name)?;
    say::told(&format!("{name}: {plan}"));
    Ok(name)
}

/// Takes a region away whose dax devices somebody may drive.
fn destroy(sysfs: &Sysfs, region: &str) -> anyhow::Result<()> {
    let topology = Topology::read(sysfs)?;
    let found = topology.regions.iter().find(|it| it.name == region);
    for device in found
        .iter()
        .flat_map(|it| &it.dax)
        .flat_map(|it| &it.devices)
    {
        if device.driver.as_deref() == Some("kmem") {
            sysfs.take_offline(&device.name)?;
        }
        sysfs.drive(&device.name, None)?;
    }
    sysfs.destroy_region(&Topology::read(sysfs)?, region)?;
    Ok(())
}
