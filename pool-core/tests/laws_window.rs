//! Whatever is claimed, extended, mapped and dropped in whatever order: no two regions share an
//! address, and exactly what is mapped is accessible.
//!
//! The oracle is an array with one entry an extent. The kernel is asked after each step.

use std::io::IoSliceMut;

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::getpid;
use pool_core::mem::{Region, Window};
use pool_core::{Bytes, EXTENT_BYTES, PoolAddr, WindowRange};
use proptest::prelude::*;

const BASE: PoolAddr = PoolAddr::new(0x3800_0000_0000);
const EXTENTS: usize = 8;

#[derive(Debug, Clone)]
enum Step {
    Claim {
        first: usize,
        count: usize,
    },
    Extend {
        region: usize,
        count: usize,
    },
    Zero {
        region: usize,
        offset: usize,
        count: usize,
    },
    Drop {
        region: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (place, count) = (0..EXTENTS + 1, 0..EXTENTS + 1);
    prop_oneof![
        (place.clone(), count.clone()).prop_map(|(first, count)| Step::Claim { first, count }),
        (0..4_usize, count.clone()).prop_map(|(region, count)| Step::Extend { region, count }),
        (0..4_usize, place, count).prop_map(|(region, offset, count)| Step::Zero {
            region,
            offset,
            count
        }),
        (0..4_usize).prop_map(|region| Step::Drop { region }),
    ]
}

/// A region as it should be, in extents.
struct Expected {
    region: Region,
    first: usize,
    claimed: usize,
    mapped: usize,
}

fn extents(count: usize) -> Bytes {
    Bytes::new(count as u64 * EXTENT_BYTES)
}

fn addr(extent: usize) -> PoolAddr {
    PoolAddr::new(BASE.get() + extent as u64 * EXTENT_BYTES)
}

fn is_accessible(extent: usize) -> bool {
    let base = usize::try_from(addr(extent).get()).expect("this is a 64-bit machine");
    let remote = RemoteIoVec { base, len: 1 };
    process_vm_readv(getpid(), &mut [IoSliceMut::new(&mut [0])], &[remote]).is_ok()
}

/// Whether no region but number `but` has any of the extents.
fn is_free(all: &[Expected], but: Option<usize>, first: usize, end: usize) -> bool {
    let others = all
        .iter()
        .enumerate()
        .filter(|(number, _)| Some(*number) != but);
    others
        .into_iter()
        .all(|(_, other)| end <= other.first || first >= other.first + other.claimed)
}

fn take(window: &Window, all: &mut Vec<Expected>, step: &Step) -> Result<(), TestCaseError> {
    match *step {
        Step::Claim { first, count } => {
            let end = first + count;
            let allowed = count > 0 && end <= EXTENTS && is_free(all, None, first, end);
            let claimed = window.claim(addr(first), extents(count));
            prop_assert_eq!(claimed.is_ok(), allowed);
            all.extend(claimed.map(|region| Expected {
                region,
                first,
                claimed: count,
                mapped: 0,
            }));
        }
        Step::Extend {
            region: number,
            count,
        } if number < all.len() => {
            let (first, claimed) = (all[number].first, all[number].claimed);
            let end = first + count;
            let allowed =
                count <= claimed || (end <= EXTENTS && is_free(all, Some(number), first, end));
            prop_assert_eq!(all[number].region.extend(extents(count)).is_ok(), allowed);
            if allowed {
                all[number].claimed = claimed.max(count);
            }
        }
        Step::Zero {
            region: number,
            offset,
            count,
        } if number < all.len() => {
            let expected = &mut all[number];
            let end = offset + count;
            let allowed = count > 0 && end <= expected.claimed && offset <= expected.mapped;
            let zeroed = expected.region.zero(extents(offset), extents(count));
            prop_assert_eq!(zeroed.is_ok(), allowed);
            if allowed {
                expected.mapped = expected.mapped.max(end);
            }
        }
        Step::Drop { region } if region < all.len() => drop(all.remove(region)),
        _ => {}
    }
    Ok(())
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn regions_are_apart_and_what_is_mapped_is_what_is_accessible(
        steps in prop::collection::vec(step(), 1..24),
    ) {
        let range = WindowRange::new(BASE, extents(EXTENTS)).expect("it is a valid one");
        let window = Window::reserve(range).expect("the case before has given it back");
        let mut all: Vec<Expected> = Vec::new();
        for step in &steps {
            take(&window, &mut all, step)?;
            for extent in 0..EXTENTS {
                let mapped = |region: &Expected| {
                    (region.first..region.first + region.mapped).contains(&extent)
                };
                prop_assert_eq!(is_accessible(extent), all.iter().any(mapped), "extent {}", extent);
            }
        }
    }
}
