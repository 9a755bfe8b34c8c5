//! The builder: what is asked for comes once, in order, and soon where it lies ready.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by a panic, in its helpers too"
)]

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pool_core::clock::{Deadline, eventually};
use pool_core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use pool_core::sync::{Arc, Condvar, Mutex, lock};
use pool_core::{BackingId, Bytes, DeviceId, EXTENT_BYTES, Nanos, packet};
use pool_daemon::device::builder::{Builder, Outcome};
use pool_daemon::device::copy::Part;
use pool_daemon::device::memfd::{MemfdDevice, PagePolicy};
use pool_daemon::device::{Device, NewFile, Place, proof};
use pool_daemon::engine::command::{FileIdentity, WorldError};

const DEVICE: DeviceId = DeviceId::FIRST;
const EXTENT: Bytes = Bytes::new(EXTENT_BYTES);
const TWO_EXTENTS: Bytes = Bytes::new(2 * EXTENT_BYTES);
const SHORT: WorldError = WorldError::MachineShort {
    available_bytes: 0,
    asked_bytes: EXTENT_BYTES,
};

fn soon() -> Deadline {
    Deadline::after(Nanos::from_millis(30_000))
}

fn backing(number: u64) -> BackingId {
    BackingId::new(number).unwrap()
}

fn builder_of(device: Arc<dyn Device>, stock_target: usize) -> Builder {
    Builder::new(BTreeMap::from([(DEVICE, device)]), stock_target).unwrap()
}

/// Real memory, with a door that stops builds and a way to be short of it.
#[derive(Debug)]
struct Gated {
    inner: MemfdDevice,
    /// What is smaller than this passes a closed door.
    stopped_from: u64,
    /// It is somebody else who does not answer.
    asks_others: bool,
    open: Mutex<bool>,
    opened: Condvar,
    short: AtomicBool,
    ahead: AtomicUsize,
}

impl Gated {
    fn new(open: bool) -> Arc<Self> {
        Self::closed_to(if open { u64::MAX } else { 0 })
    }

    /// One whose door is closed to files of so many bytes and more.
    fn closed_to(stopped_from: u64) -> Arc<Self> {
        Arc::new(Self::gate(stopped_from, false))
    }

    fn gate(stopped_from: u64, asks_others: bool) -> Self {
        Self {
            stopped_from,
            asks_others,
            inner: MemfdDevice::new(PagePolicy::Base, None, Bytes::ZERO).unwrap(),
            open: Mutex::new(false),
            opened: Condvar::new(),
            short: AtomicBool::new(false),
            ahead: AtomicUsize::new(0),
        }
    }

    fn open(&self) {
        *lock(&self.open) = true;
        self.opened.notify_all();
    }
}

impl Device for Gated {
    fn asks_others(&self) -> bool {
        self.asks_others
    }

    /// Short of memory once, where it was told to be.
    fn build(
        &self,
        backing: BackingId,
        place: Place<'_>,
        shareable: bool,
    ) -> Result<NewFile, WorldError> {
        let mut open = lock(&self.open);
        while !*open && place.bytes.get() >= self.stopped_from {
            open = self.opened.wait(open).unwrap();
        }
        if self.short.swap(false, SeqCst) {
            return Err(SHORT);
        }
        self.inner.build(backing, place, shareable)
    }

    fn build_ahead(&self, bytes: Bytes, shareable: bool) -> Option<Result<NewFile, WorldError>> {
        self.ahead.fetch_add(1, SeqCst);
        self.inner.build_ahead(bytes, shareable)
    }

    fn find(
        &self,
        backing: BackingId,
        expected: FileIdentity,
    ) -> Result<Option<OwnedFd>, WorldError> {
        self.inner.find(backing, expected)
    }

    fn remove_leftovers(
        &self,
        known: &std::collections::BTreeSet<BackingId>,
        files: &std::collections::BTreeSet<FileIdentity>,
    ) -> Result<usize, WorldError> {
        self.inner.remove_leftovers(known, files)
    }

    fn destroy(&self, backing: BackingId, file: BorrowedFd<'_>) -> Result<(), WorldError> {
        self.inner.destroy(backing, file)
    }
}

/// The next outcomes, as many as asked for, each announced.
fn outcomes(builder: &Builder, count: usize) -> Vec<Outcome> {
    let mut all = Vec::new();
    while all.len() < count {
        packet::wait_readable(builder.event_fd(), soon()).unwrap();
        all.append(&mut builder.outcomes());
    }
    all
}

fn built(outcome: Outcome) -> (BackingId, Result<NewFile, WorldError>) {
    match outcome {
        Outcome::Built { backing, result } => (backing, result),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_asked_for_comes_in_order() {
    let builder = builder_of(Gated::new(true), 0);
    for number in 1..=8 {
        assert!(
            builder
                .build(DEVICE, backing(number), Place::anywhere(EXTENT), false)
                .is_none()
        );
    }
    let came: Vec<_> = outcomes(&builder, 8).into_iter().map(built).collect();
    for (number, (backing, result)) in (1..).zip(came) {
        assert_eq!((backing.number(), result.is_ok()), (number, true));
    }
    assert!(builder.outcomes().is_empty());
}

#[test]
fn who_asks_for_much_holds_up_nobody_who_asks_for_little_or_gives_back() {
    let much = Bytes::new(65 << 20);
    let device = Gated::closed_to(much.get());
    let builder = builder_of(Arc::clone(&device) as _, 0);
    assert!(
        builder
            .build(DEVICE, backing(1), Place::anywhere(much), false)
            .is_none()
    );
    let two = builder.build(DEVICE, backing(2), Place::anywhere(TWO_EXTENTS), false);
    assert!(two.is_none());
    let (first, file) = built(outcomes(&builder, 1).remove(0));
    assert_eq!(first, backing(2));
    builder.destroy(DEVICE, first, file.unwrap().file);
    let gone = outcomes(&builder, 1).remove(0);
    assert!(matches!(gone, Outcome::Destroyed { result: Ok(()), .. }));
    device.open();
    let (last, file) = built(outcomes(&builder, 1).remove(0));
    assert_eq!((last, file.is_ok()), (backing(1), true));
}

#[test]
fn a_device_that_waits_for_others_holds_up_nobody_but_itself() {
    let far = DEVICE.checked_next().unwrap();
    let hung = Arc::new(Gated::gate(0, true));
    let devices: [(_, Arc<dyn Device>); 2] =
        [(DEVICE, Gated::new(true)), (far, Arc::clone(&hung) as _)];
    let builder = Builder::new(BTreeMap::from(devices), 0).unwrap();
    let much = Bytes::new(65 << 20);
    let sizes = [EXTENT, much];
    // Each lane would wait at one of these.
    for (number, bytes) in (1..).zip(sizes) {
        let ready = builder.build(far, backing(number), Place::anywhere(bytes), false);
        assert!(ready.is_none());
    }
    for (number, bytes) in (3..).zip(sizes) {
        let ready = builder.build(DEVICE, backing(number), Place::anywhere(bytes), false);
        assert!(ready.is_none());
    }
    for outcome in outcomes(&builder, 2) {
        let (id, file) = built(outcome);
        assert!(id >= backing(3));
        builder.destroy(DEVICE, id, file.unwrap().file);
    }
    for gone in outcomes(&builder, 2) {
        assert!(matches!(gone, Outcome::Destroyed { result: Ok(()), .. }));
    }
    hung.open();
    let came: Vec<_> = outcomes(&builder, 2).into_iter().map(built).collect();
    assert_eq!((came[0].0, came[1].0), (backing(1), backing(2)));
}

#[test]
fn what_lies_ready_is_handed_out_at_once() {
    let builder = builder_of(Gated::new(true), 2);
    let mut number = 0;
    let ready = eventually(soon(), || {
        number += 1;
        builder.build(DEVICE, backing(number), Place::anywhere(EXTENT), false)
    });
    let file = ready.unwrap().file;
    assert!(!proof::is_held_elsewhere(file.as_fd()).unwrap());
    // A file of another length is never in stock.
    number += 1;
    assert!(
        builder
            .build(DEVICE, backing(number), Place::anywhere(TWO_EXTENTS), false)
            .is_none()
    );
}

#[test]
fn a_job_in_hand_is_not_begun_twice() {
    let device = Gated::new(false);
    let builder = builder_of(Arc::<Gated>::clone(&device), 0);
    for _ in 0..3 {
        assert!(
            builder
                .build(DEVICE, backing(1), Place::anywhere(EXTENT), false)
                .is_none()
        );
    }
    assert!(
        builder
            .build(DEVICE, backing(2), Place::anywhere(EXTENT), false)
            .is_none()
    );
    device.open();
    let came: Vec<_> = outcomes(&builder, 2).into_iter().map(built).collect();
    assert_eq!((came[0].0, came[1].0), (backing(1), backing(2)));
    // Once it is done it may be asked for again.
    assert!(
        builder
            .build(DEVICE, backing(1), Place::anywhere(EXTENT), false)
            .is_none()
    );
    assert_eq!(built(outcomes(&builder, 1).remove(0)).0, backing(1));
}

#[test]
fn a_short_machine_gets_the_stock_back() {
    let device = Gated::new(true);
    let builder = builder_of(Arc::<Gated>::clone(&device), 1);
    // One of each kind.
    let stocked = || (device.ahead.load(SeqCst) == 2).then_some(());
    eventually(soon(), stocked).unwrap();
    device.short.store(true, SeqCst);
    assert!(
        builder
            .build(DEVICE, backing(1), Place::anywhere(TWO_EXTENTS), false)
            .is_none()
    );
    let (_, result) = built(outcomes(&builder, 1).remove(0));
    assert!(result.is_ok(), "{result:?}");
    let another = builder.build(DEVICE, backing(2), Place::anywhere(EXTENT), false);
    assert!(another.is_none(), "the stock was given back");
}

#[test]
fn a_short_machine_without_a_stock_says_so() {
    let device = Gated::new(true);
    let builder = builder_of(Arc::<Gated>::clone(&device), 0);
    device.short.store(true, SeqCst);
    assert!(
        builder
            .build(DEVICE, backing(1), Place::anywhere(EXTENT), false)
            .is_none()
    );
    let (_, result) = built(outcomes(&builder, 1).remove(0));
    assert_eq!(result.unwrap_err(), SHORT);
}

#[test]
fn a_device_that_shall_have_no_stock_has_none() {
    let device = Gated::new(true);
    let builder = builder_of(Arc::<Gated>::clone(&device), 4);
    let stocked = || (device.ahead.load(SeqCst) == 8).then_some(());
    eventually(soon(), stocked).unwrap();
    builder.set_stock(DEVICE, 0);
    assert!(
        builder
            .build(DEVICE, backing(1), Place::anywhere(EXTENT), false)
            .is_none()
    );
    let (_, result) = built(outcomes(&builder, 1).remove(0));
    assert!(result.is_ok(), "{result:?}");
}

#[test]
fn contents_are_copied_and_files_destroyed_beside_the_caller() {
    let builder = builder_of(Gated::new(true), 0);
    for number in [1, 2] {
        assert!(
            builder
                .build(DEVICE, backing(number), Place::anywhere(EXTENT), false)
                .is_none()
        );
    }
    let files: Vec<_> = outcomes(&builder, 2)
        .into_iter()
        .map(|outcome| built(outcome).1.unwrap().file)
        .collect();
    nix::unistd::write(&files[0], b"contents").unwrap();
    let whole = |file| Part {
        file,
        bytes: EXTENT,
    };
    let into = BackingId::FIRST;
    builder
        .copy(into, &[whole(files[0].as_fd())], &[whole(files[1].as_fd())])
        .unwrap();
    let copied = outcomes(&builder, 1).remove(0);
    assert!(matches!(
        copied,
        Outcome::Copied {
            into: BackingId::FIRST,
            result: Ok(())
        }
    ));
    let mut text = [0; 8];
    nix::unistd::read(&files[1], &mut text).unwrap();
    assert_eq!(&text, b"contents");

    let file = files.into_iter().next().unwrap();
    builder.destroy(DEVICE, backing(1), file);
    let destroyed = outcomes(&builder, 1).remove(0);
    let Outcome::Destroyed {
        backing,
        result: Ok(()),
    } = destroyed
    else {
        panic!("{destroyed:?}");
    };
    assert_eq!(backing.number(), 1);
}

#[test]
fn a_builder_that_is_dropped_ends_the_job_it_does_and_no_other() {
    let device = Gated::new(false);
    let builder = builder_of(Arc::<Gated>::clone(&device), 1);
    for number in 1..=3 {
        assert!(
            builder
                .build(DEVICE, backing(number), Place::anywhere(TWO_EXTENTS), false)
                .is_none()
        );
    }
    device.open();
    drop(builder);
    // The worker has let go of the device: it has ended.
    assert_eq!(Arc::strong_count(&device), 1);
}
