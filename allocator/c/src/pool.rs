//! The calls of a pool, and those that make, find and end heaps.
//!
//! # Safety
//! Every function asks of its caller what `tierpool.h` says, and that pointers are null or valid.

use core::ffi::{c_char, c_int, c_uint};

use client_sdk::{AttachOptions, HeapOptions, Pool};

use crate::code::{Code, Failure, answer};
use crate::handle::{HeapHandle, PoolHandle};
use crate::input::{put, seen, text, text_if_any, there};

/// The most tiers that are read: more than a heap may have, which it says itself.
const MOST_TIERS: usize = 64;

/// `struct tierpool_heap_options` of `tierpool.h`. All zeros are the defaults.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    size: usize,
    tiers: *const *const c_char,
    shares: *const c_uint,
    tier_count: usize,
    leased: c_int,
}

/// See `tierpool.h`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tierpool_attach(
    socket: *const c_char,
    tenant: *const c_char,
    place: *mut *mut PoolHandle,
) -> c_int {
    answer(|| {
        let place = there(place, "the pool's place")?;
        let mut options = AttachOptions::new();
        // SAFETY: see the module.
        if let Some(socket) = unsafe { text_if_any(socket, "the socket") }? {
            options = options.socket(socket);
        }
        // SAFETY: see the module.
        if let Some(tenant) = unsafe { text_if_any(tenant, "the tenant") }? {
            options = options.tenant(tenant);
        }
        let pool = PoolHandle::new(Pool::attach(&options)?)?;
        // SAFETY: see the module.
        unsafe { put(place, Box::into_raw(Box::new(pool))) };
        Ok(())
    })
}

/// See `tierpool.h`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tierpool_detach(pool: *mut PoolHandle) -> c_int {
    answer(|| {
        // SAFETY: see the module.
        unsafe { seen(pool, "the pool") }?.pool()?;
        // SAFETY: by invariant 1 of handles it was a box, and the caller gives it up.
        drop(unsafe { Box::from_raw(pool) });
        Ok(())
    })
}

/// See `tierpool.h`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tierpool_heap_create(
    pool: *const PoolHandle,
    name: *const c_char,
    options: *const Options,
    place: *mut *mut HeapHandle,
) -> c_int {
    answer(|| {
        let place = there(place, "the heap's place")?;
        // SAFETY: see the module.
        let pool = unsafe { seen(pool, "the pool") }?.pool()?;
        // SAFETY: see the module.
        let mut wanted = HeapOptions::new(unsafe { text(name, "the name") }?);
        if !options.is_null() {
            // SAFETY: see the module.
            let options = unsafe { read_options(options) }?;
            // SAFETY: see the module.
            wanted = unsafe { with_tiers(wanted, &options) }?;
            if options.leased != 0 {
                wanted = wanted.leased();
            }
        }
        let heap = HeapHandle::new(pool.create_heap(&wanted)?)?;
        // SAFETY: see the module.
        unsafe { put(place, Box::into_raw(Box::new(heap))) };
        Ok(())
    })
}

/// Options of a program that was compiled with this header, an older one, or a newer one whose
/// options it does not use.
unsafe fn read_options(place: *const Options) -> Result<Options, Failure> {
    // SAFETY: see the module: there is a size, whatever else there is.
    let size = unsafe { place.cast::<usize>().read() };
    let known = size_of::<Options>();
    if !(size_of::<usize>()..=4_096).contains(&size) {
        let what = format!("options of {size} bytes: set `size` to sizeof(the struct)");
        return Err(Failure::new(Code::Invalid, what));
    }
    let beyond = known.min(size)..size;
    for index in beyond {
        // SAFETY: within the size that the caller said.
        let byte = unsafe { place.cast::<u8>().wrapping_add(index).read() };
        if byte != 0 {
            let what = "an option that this version of the library does not know";
            return Err(Failure::new(Code::Invalid, what));
        }
    }
    let mut options = Options {
        size,
        tiers: core::ptr::null(),
        shares: core::ptr::null(),
        tier_count: 0,
        leased: 0,
    };
    let to = (&raw mut options).cast::<u8>();
    // SAFETY: both have so many bytes, and any bytes are options.
    unsafe { place.cast::<u8>().copy_to(to, known.min(size)) };
    Ok(options)
}

unsafe fn with_tiers(mut wanted: HeapOptions, options: &Options) -> Result<HeapOptions, Failure> {
    if options.tier_count > MOST_TIERS {
        let what = format!("{} tiers: a heap has 8 at most", options.tier_count);
        return Err(Failure::new(Code::Invalid, what));
    }
    if options.tier_count > 0 && options.tiers.is_null() {
        return Err(Failure::null("the tiers"));
    }
    for index in 0..options.tier_count {
        // SAFETY: see the module: there are so many.
        let tier = unsafe { options.tiers.wrapping_add(index).read() };
        // SAFETY: see the module.
        let tier = unsafe { text(tier, "a tier") }?;
        if options.shares.is_null() {
            wanted = wanted.tier(tier);
        } else {
            // SAFETY: see the module: there are as many shares.
            wanted = wanted.share(tier, unsafe { options.shares.wrapping_add(index).read() });
        }
    }
    Ok(wanted)
}

/// See `tierpool.h`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tierpool_heap_open(
    pool: *const PoolHandle,
    name: *const c_char,
    place: *mut *mut HeapHandle,
) -> c_int {
    answer(|| {
        let place = there(place, "the heap's place")?;
        // SAFETY: see the module.
        let pool = unsafe { seen(pool, "the pool") }?.pool()?;
        // SAFETY: see the module.
        let name = unsafe { text(name, "the name") }?;
        let heap = HeapHandle::new(pool.open_heap(name)?)?;
        // SAFETY: see the module.
        unsafe { put(place, Box::into_raw(Box::new(heap))) };
        Ok(())
    })
}

/// See `tierpool.h`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tierpool_heap_close(heap: *mut HeapHandle) -> c_int {
    answer(|| {
        // SAFETY: see the module.
        unsafe { seen(heap, "the heap") }?.check()?;
        // SAFETY: by invariant 1 of handles it was a box, and the caller gives it up.
        drop(unsafe { Box::from_raw(heap) });
        Ok(())
    })
}

/// See `tierpool.h`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tierpool_heap_remove(
    pool: *const PoolHandle,
    name: *const c_char,
) -> c_int {
    answer(|| {
        // SAFETY: see the module.
        let pool = unsafe { seen(pool, "the pool") }?.pool()?;
        // SAFETY: see the module.
        Ok(pool.remove_heap(unsafe { text(name, "the name") }?)?)
    })
}
