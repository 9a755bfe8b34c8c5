//! Making and taking away on a model of the kernel that accepts what the kernel accepts: each step
//! in its place, memory of a device as a stack. That the real one agrees is shown in virtual
//! machines, by the same steps.

use core::ops::Range;

use pool_core::Nanos;
use pool_core::units::{GIB, MIB};

use super::*;
use crate::decoder::{Decoder, DecoderKind};
use crate::memdev::Memdev;
use crate::port::{Dport, Port, PortKind};
use crate::region::Region;
use crate::region_plan::NewRegion;
use crate::sysfs::in_order;

const DECODERS: usize = 3;
pub(crate) const WINDOW: &str = "decoder0.0";

pub(crate) fn decoder(name: String, kind: DecoderKind, port: &str) -> Decoder {
    let is_root = kind == DecoderKind::Root;
    Decoder {
        name,
        kind,
        port: port.to_owned(),
        addresses: if is_root { 0..8 * GIB } else { 0..0 },
        ways: 1,
        granularity: 256,
        targets: if is_root { vec![7] } else { Vec::new() },
        region: None,
        dpa: None,
        mode: None,
        takes_ram: is_root,
        takes_pmem: false,
        qos_class: None,
        is_locked: false,
    }
}

pub(crate) fn port(name: &str, kind: PortKind, parent: Option<&str>, host: &str) -> Port {
    let is_root = kind == PortKind::Root;
    let way = Dport {
        name: "bridge".to_owned(),
        id: 7,
    };
    Port {
        name: name.to_owned(),
        kind,
        parent: parent.map(str::to_owned),
        host: host.to_owned(),
        parent_dport: Some("bridge".to_owned()),
        depth: 0,
        dports: if is_root { vec![way] } else { Vec::new() },
        decoders_committed: 0,
    }
}

/// Two devices of 1 GiB behind one bridge, in one window.
pub(crate) fn empty() -> Topology {
    let mut topology = Topology {
        ports: vec![
            port("root0", PortKind::Root, None, "ACPI"),
            port("port1", PortKind::Switch, Some("root0"), "bridge"),
        ],
        decoders: vec![decoder(WINDOW.to_owned(), DecoderKind::Root, "root0")],
        ..Topology::default()
    };
    for (index, serial) in [0xa0, 0xa1].into_iter().enumerate() {
        let (mem, endpoint) = (format!("mem{index}"), format!("endpoint{}", index + 2));
        topology.memdevs.push(Memdev {
            name: mem.clone(),
            serial,
            host: String::new(),
            ram: Bytes::new(GIB),
            pmem: Bytes::ZERO,
            ram_qos_class: None,
            firmware: String::new(),
            numa_node: None,
            is_enabled: true,
        });
        let own = port(&endpoint, PortKind::Endpoint, Some("port1"), &mem);
        topology.ports.push(own);
        for number in 0..DECODERS {
            let name = format!("decoder{}.{number}", index + 2);
            let own = decoder(name, DecoderKind::Endpoint, &endpoint);
            topology.decoders.push(own);
        }
    }
    topology
}

/// What the kernel shows, and what it would do.
#[derive(Debug, Clone)]
struct Kernel {
    shown: Topology,
    /// The targets of each region by position, which may have gaps.
    targets: Vec<(String, Vec<Option<String>>)>,
}

type Refused = Result<(), String>;
/// What of a device a decoder has taken, and for which region.
type Used = (Option<Range<u64>>, Option<String>);

impl Kernel {
    fn new() -> Self {
        let shown = empty();
        let targets = Vec::new();
        Self { shown, targets }
    }

    fn region(&mut self, name: &str) -> Result<&mut Region, String> {
        let mut all = self.shown.regions.iter_mut();
        let found = all.find(|it| it.name == name);
        found.ok_or_else(|| format!("no {name}"))
    }

    fn decoder(&mut self, name: &str) -> Result<&mut Decoder, String> {
        let mut all = self.shown.decoders.iter_mut();
        let found = all.find(|it| it.name == name);
        found.ok_or_else(|| format!("no {name}"))
    }

    fn do_all(&mut self, steps: &[Step]) {
        for step in steps {
            self.take(step)
                .unwrap_or_else(|why| panic!("{step}: {why}"));
        }
    }

    fn take(&mut self, step: &Step) -> Refused {
        let ok = |is_right: bool, why: &str| is_right.then_some(()).ok_or_else(|| why.to_owned());
        match step {
            Step::Make(window, name) => {
                ok(window == WINDOW && self.region(name).is_err(), "make")?;
                self.shown.regions.push(new_region(name));
                self.targets.push((name.clone(), Vec::new()));
            }
            Step::Granularity(name, bytes) => self.region(name)?.granularity = *bytes,
            Step::Ways(name, ways) => {
                self.region(name)?.ways = *ways;
                self.targets(name)?.resize(*ways as usize, None);
            }
            Step::Volatile(name) => self.decoder(name)?.mode = Some("ram".to_owned()),
            Step::Take(name, bytes) => self.stack(name, Some(bytes.get()))?,
            Step::GiveBack(name) => self.stack(name, None)?,
            Step::Size(name, bytes) => {
                let at = self.shown.regions.iter().map(|it| it.addresses.end).max();
                let at = at.unwrap_or(0);
                let region = self.region(name)?;
                ok(region.ways > 0 && region.addresses.is_empty(), "size")?;
                region.addresses = at..at + bytes.get();
            }
            Step::Attach(name, at, decoder) => self.attach(name, *at as usize, decoder)?,
            Step::Detach(name, at) => self.detach(name, *at as usize)?,
            Step::Commit(name) => {
                let all = self.targets(name)?.iter().all(Option::is_some);
                ok(all && self.region(name)?.ways > 0, "commit")?;
                self.region(name)?.is_committed = true;
            }
            Step::Reset(name) => {
                ok(!self.region(name)?.is_enabled, "reset under a driver")?;
                self.region(name)?.is_committed = false;
            }
            Step::Enable(name) => {
                ok(self.region(name)?.is_committed, "enable")?;
                self.region(name)?.is_enabled = true;
            }
            Step::Disable(name) => {
                ok(self.region(name)?.is_enabled, "disable")?;
                self.region(name)?.is_enabled = false;
            }
            Step::Delete(window, name) => {
                let is_empty = self.targets(name)?.iter().all(Option::is_none);
                ok(window == WINDOW && is_empty, "delete")?;
                self.shown.regions.retain(|it| it.name != *name);
                self.targets.retain(|(it, _)| it != name);
            }
        }
        Ok(())
    }

    fn targets(&mut self, region: &str) -> Result<&mut Vec<Option<String>>, String> {
        let mut all = self.targets.iter_mut();
        let found = all.find(|(it, _)| it == region);
        found
            .map(|(_, targets)| targets)
            .ok_or_else(|| format!("no {region}"))
    }

    /// Memory of a device is taken behind the last that is taken, and the last goes first.
    fn stack(&mut self, name: &str, bytes: Option<u64>) -> Refused {
        let own = self.decoder(name)?.clone();
        let of_device = self.shown.decoders.iter().filter(|it| it.port == own.port);
        let taken = of_device.filter(|it| it.dpa.is_some() && it.name != name);
        let number = |it: &Decoder| in_order(&it.name).1[1];
        let mut below: Vec<Range<u64>> = Vec::new();
        for other in taken {
            if number(other) > number(&own) {
                return Err(format!("{} is above {name}", other.name));
            }
            below.extend(other.dpa.clone());
        }
        if own.region.is_some() {
            return Err(format!("{name} is attached"));
        }
        if bytes.is_some() && below.len() as u64 != number(&own) {
            return Err(format!("{name} is not the next one"));
        }
        let end = below.iter().map(|it| it.end).max().unwrap_or(0);
        self.decoder(name)?.dpa = bytes.map(|bytes| end..end + bytes);
        Ok(())
    }

    fn attach(&mut self, name: &str, at: usize, decoder: &str) -> Refused {
        let region = self.region(name)?.clone();
        let each = region.bytes().get().checked_div(region.ways.into());
        let own = self.decoder(decoder)?.clone();
        let taken = own.dpa.map(|it| it.end - it.start);
        if own.region.is_some() || region.is_committed || taken.is_none() || taken != each {
            return Err(format!("{decoder} does not fit {name}"));
        }
        let targets = self.targets(name)?;
        let place = targets.get_mut(at).ok_or("no such position")?;
        *place = Some(decoder.to_owned());
        self.decoder(decoder)?.region = Some(name.to_owned());
        self.show_targets(name)
    }

    fn detach(&mut self, name: &str, at: usize) -> Refused {
        if self.region(name)?.is_committed {
            return Err(format!("{name} is committed"));
        }
        let place = self.targets(name)?.get_mut(at);
        let decoder = place.ok_or("no such position")?.take();
        if let Some(decoder) = decoder {
            self.decoder(&decoder)?.region = None;
        }
        self.show_targets(name)
    }

    fn show_targets(&mut self, name: &str) -> Refused {
        let targets = self.targets(name)?.iter().flatten().cloned().collect();
        self.region(name)?.targets = targets;
        Ok(())
    }

    /// What lasts: regions, and what of devices is taken by whom.
    fn lasting(&self) -> (Vec<Region>, Vec<Used>) {
        let decoders = self.shown.decoders.iter();
        let taken = decoders.map(|it| (it.dpa.clone(), it.region.clone()));
        (self.shown.regions.clone(), taken.collect())
    }

    fn plan(&self, serials: &[u64]) -> RegionPlan {
        let wanted = NewRegion {
            serials: serials.to_vec(),
            bytes: Some(Bytes::new(256 * MIB * serials.len() as u64)),
            granularity: None,
        };
        RegionPlan::new(&self.shown, &wanted).expect("there is room")
    }

    fn end(&self, name: &str) -> Vec<Step> {
        let end = RegionEnd::new(&self.shown, name);
        end.expect("it can go").steps().to_vec()
    }
}

pub(crate) fn new_region(name: &str) -> Region {
    Region {
        name: name.to_owned(),
        decoder: WINDOW.to_owned(),
        addresses: 0..0,
        ways: 0,
        granularity: 0,
        mode: "ram".to_owned(),
        is_committed: false,
        is_enabled: false,
        is_locked: false,
        targets: Vec::new(),
        performance: None,
        dax: None,
    }
}

/// Every way in which a region may lie: alone, in turn, and above another one.
fn beginnings() -> Vec<(Kernel, RegionPlan)> {
    let mut beginnings = Vec::new();
    for serials in [&[0xa0][..], &[0xa0, 0xa1], &[0xa1, 0xa0]] {
        for below in [&[][..], &[0xa0], &[0xa0, 0xa1]] {
            let mut kernel = Kernel::new();
            if !below.is_empty() {
                kernel.do_all(&kernel.plan(below).steps("region0"));
            }
            let plan = kernel.plan(serials);
            beginnings.push((kernel, plan));
        }
    }
    beginnings
}

#[test]
fn whatever_step_of_making_a_region_is_the_last_it_is_destroyed_whole_and_made_anew() {
    for (before, plan) in beginnings() {
        let steps = plan.steps("region1");
        for done in 1..=steps.len() {
            let mut kernel = before.clone();
            kernel.do_all(&steps[..done]);
            kernel.do_all(&kernel.end("region1"));
            assert_eq!(kernel.lasting(), before.lasting(), "after {done} of {plan}");
            kernel.do_all(&kernel.plan(&[0xa0]).steps("region1"));
        }
    }
}

#[test]
fn whatever_step_of_destroying_a_region_is_the_last_it_is_destroyed_from_there() {
    for (before, plan) in beginnings() {
        let mut whole = before.clone();
        whole.do_all(&plan.steps("region1"));
        let steps = whole.end("region1");
        for done in 0..steps.len() {
            let mut kernel = whole.clone();
            kernel.do_all(&steps[..done]);
            kernel.do_all(&kernel.end("region1"));
            assert_eq!(kernel.lasting(), before.lasting(), "after {done} of {plan}");
        }
    }
}

#[test]
fn what_was_done_is_taken_back_and_what_others_took_meanwhile_is_left() {
    for (before, plan) in beginnings() {
        let steps = plan.steps("region1");
        for done in 0..steps.len() {
            let mut kernel = before.clone();
            kernel.do_all(&steps[..done]);
            kernel.do_all(&undone(&steps[..done]));
            assert_eq!(kernel.lasting(), before.lasting(), "after {done} of {plan}");
        }
        // Another one was faster: it has the last of the decoders that the plan would take.
        let mut kernel = before.clone();
        let taken = Step::Take(plan.decoders[plan.decoders.len() - 1].clone(), plan.bytes);
        kernel.do_all(core::slice::from_ref(&taken));
        let others = kernel.lasting();
        let mut done = 0;
        while !matches!(&steps[done], Step::Take(decoder, _) if kernel.has_taken(decoder)) {
            kernel.do_all(&steps[done..=done]);
            done += 1;
        }
        kernel.do_all(&undone(&steps[..done]));
        assert_eq!(kernel.lasting(), others, "{plan}");
    }
}

impl Kernel {
    fn has_taken(&mut self, decoder: &str) -> bool {
        self.decoder(decoder).is_ok_and(|it| it.dpa.is_some())
    }
}

#[test]
fn what_several_left_half_made_on_one_device_is_given_back_from_the_top() {
    let mut kernel = Kernel::new();
    for name in ["region0", "region1"] {
        let steps = kernel.plan(&[0xa0]).steps(name);
        let taken = steps.iter().position(|it| matches!(it, Step::Take(..)));
        kernel.do_all(&steps[..=taken.expect("it takes memory")]);
    }
    for name in ["region0", "region1"] {
        kernel.do_all(&kernel.end(name));
    }
    assert_eq!(kernel.lasting(), Kernel::new().lasting());
}

#[test]
fn what_the_firmware_has_locked_stays_and_so_does_what_is_persistent() {
    let mut whole = Kernel::new();
    whole.do_all(&whole.plan(&[0xa0, 0xa1]).steps("region0"));
    let refused = |change: fn(&mut Kernel)| {
        let mut kernel = whole.clone();
        change(&mut kernel);
        let refused = RegionEnd::new(&kernel.shown, "region0");
        refused.expect_err("it stays").to_string()
    };
    let locked = refused(|kernel| kernel.shown.regions[0].is_locked = true);
    assert!(locked.contains("locked region0:"), "{locked}");
    let locked = refused(|kernel| {
        let decoder = kernel.decoder("decoder3.0").expect("it is there");
        decoder.is_locked = true;
    });
    assert!(locked.contains("locked decoder3.0:"), "{locked}");
    let kept = refused(|kernel| kernel.shown.regions[0].mode = "pmem".to_owned());
    assert!(kept.contains("region0 is persistent memory"), "{kept}");
}

/// Catches: region.end_forgets_the_strays, region.end_gives_back_the_first_one_first
/// Catches: region.end_leaves_the_driver, region.end_overlooks_what_lies_above
/// Catches: region.undoes_in_the_order_of_doing, region.undoing_leaves_it_committed
#[cfg(feature = "fault")]
#[test]
fn each_planted_bug_of_steps_is_found() {
    let undone: fn() = what_was_done_is_taken_back_and_what_others_took_meanwhile_is_left;
    let bugs: [(&str, fn()); 6] = [
        (
            "region.end_forgets_the_strays",
            whatever_step_of_making_a_region_is_the_last_it_is_destroyed_whole_and_made_anew,
        ),
        (
            "region.end_gives_back_the_first_one_first",
            what_several_left_half_made_on_one_device_is_given_back_from_the_top,
        ),
        (
            "region.end_leaves_the_driver",
            whatever_step_of_destroying_a_region_is_the_last_it_is_destroyed_from_there,
        ),
        (
            "region.end_overlooks_what_lies_above",
            a_region_that_is_not_the_last_stays_and_it_is_told_which_goes_first,
        ),
        ("region.undoes_in_the_order_of_doing", undone),
        ("region.undoing_leaves_it_committed", undone),
    ];
    for (bug, law) in bugs {
        law();
        let planted = pool_core::fault::plant_here(bug);
        let broken = std::panic::catch_unwind(law).is_err();
        drop(planted);
        assert!(broken, "{bug} is not found");
    }
}

#[test]
fn a_region_that_is_not_the_last_stays_and_it_is_told_which_goes_first() {
    let mut kernel = Kernel::new();
    kernel.do_all(&kernel.plan(&[0xa0]).steps("region0"));
    let above = kernel.plan(&[0xa0, 0xa1]).steps("region1");
    // From the moment on that it has taken memory there, made whole or not.
    for done in 5..=above.len() {
        let mut kernel = kernel.clone();
        kernel.do_all(&above[..done]);
        let refused = RegionEnd::new(&kernel.shown, "region0");
        let Err(ChangeError::NotLast { first, serial, .. }) = refused else {
            panic!("after {done}: {refused:?}");
        };
        assert_eq!((first.as_str(), serial), ("region1", 0xa0), "after {done}");
    }
}

#[test]
fn a_whole_region_takes_no_stray_along_and_a_stray_is_given_back_by_its_own_name() {
    let mut kernel = Kernel::new();
    kernel.do_all(&kernel.plan(&[0xa0]).steps("region0"));
    let before = kernel.lasting();
    let stray = Step::Take("decoder3.0".to_owned(), Bytes::new(256 * MIB));
    kernel.do_all(&[stray]);
    let strays: Vec<_> = kernel.shown.strays().map(|it| it.name.as_str()).collect();
    assert_eq!(strays, ["decoder3.0"]);
    let end = kernel.end("region0");
    let touches = |step: &Step| step.to_string().contains("decoder3.0");
    assert!(!end.iter().any(touches), "{end:?}");
    kernel.do_all(&kernel.end("decoder3.0"));
    assert_eq!(kernel.lasting(), before);
    let refused = RegionEnd::new(&kernel.shown, "decoder2.0");
    assert!(
        matches!(refused, Err(ChangeError::NoRegion(_))),
        "{refused:?}"
    );
}

#[test]
fn one_program_changes_regions_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let sysfs = Sysfs::at(root.path());
    // Where there is no bus there is nothing to keep others from.
    let lock = || sysfs.lock_regions(Deadline::at(Nanos::ZERO));
    drop((lock().unwrap(), lock().unwrap()));
    let bus = root.path().join("sys/bus/cxl/devices");
    std::fs::create_dir_all(&bus).unwrap();
    let locked = lock().unwrap();
    let other = File::open(&bus).unwrap();
    assert!(matches!(
        other.try_lock(),
        Err(std::fs::TryLockError::WouldBlock)
    ));
    assert!(matches!(lock(), Err(ChangeError::Busy)));
    drop(locked);
    other.try_lock().unwrap();
}
