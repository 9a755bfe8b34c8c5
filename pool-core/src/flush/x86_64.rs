//! `clwb`, `clflushopt`, `clflush`, `movnti` and the fences.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};

use super::{Flusher, Instruction, LINE};

/// There are stores past the caches.
pub(super) const STREAMS: bool = true;

/// What this processor has, the best first. Never empty: every one of 64 bits has `clflush`.
pub(super) fn available() -> Vec<Flusher> {
    let (clwb, clflushopt) = extensions();
    let invalidate = if clflushopt {
        Instruction::Clflushopt
    } else {
        Instruction::Clflush
    };
    // In units of 8 bytes, in bits 8 to 16.
    let line = ((__cpuid(1).ebx >> 8) & 0xff) * 8;
    let step = usize::try_from(line).map_or(LINE, |line| line.clamp(8, LINE));
    let all = [
        (clwb, Instruction::Clwb, invalidate),
        (clflushopt, Instruction::Clflushopt, invalidate),
        (true, Instruction::Clflush, Instruction::Clflush),
    ];
    all.into_iter()
        .filter(|&(has, ..)| has)
        .map(|(_, write_back, invalidate)| Flusher {
            write_back,
            invalidate,
            step,
        })
        .collect()
}

/// Whether there are `clwb` and `clflushopt`.
fn extensions() -> (bool, bool) {
    if __cpuid(0).eax < 7 {
        return (false, false);
    }
    let ebx = __cpuid_count(7, 0).ebx;
    (ebx & (1 << 24) != 0, ebx & (1 << 23) != 0)
}

/// Runs `instruction` `steps` times, from `start` on, every `step` bytes.
///
/// # Safety
/// The processor has the instruction, and every byte it is run on may be read.
pub(super) unsafe fn each_line(
    instruction: Instruction,
    start: *const u8,
    step: usize,
    steps: usize,
) {
    macro_rules! run {
        ($text:literal) => {{
            let mut at = start;
            for _ in 0..steps {
                // SAFETY: the caller's; the instruction changes no register and no flag, and no
                // byte that any thread of this host can tell.
                unsafe { asm!($text, at = in(reg) at, options(nostack, preserves_flags)) };
                at = at.wrapping_add(step);
            }
        }};
    }
    match instruction {
        Instruction::Clwb => run!("clwb [{at}]"),
        Instruction::Clflushopt => run!("clflushopt [{at}]"),
        Instruction::Clflush => run!("clflush [{at}]"),
        // Not of this processor, hence in no flusher (invariant 3).
        Instruction::DcCvac | Instruction::DcCivac => unreachable!("{instruction}"),
    }
}

/// Stores a line past the caches, eight bytes with each access.
///
/// # Safety
/// `to` is aligned to a line, all of which may be written, by atomic accesses of this process only.
pub(super) unsafe fn stream_line(to: *mut u8, line: &[u8; LINE]) {
    // SAFETY: the caller's for the stores, and `line` is as long as what is loaded from it. Each
    // store moves eight aligned bytes, as those of `mem` do.
    unsafe {
        asm!(
            "mov {a}, [{from}]",
            "mov {b}, [{from} + 8]",
            "mov {c}, [{from} + 16]",
            "mov {d}, [{from} + 24]",
            "movnti [{to}], {a}",
            "movnti [{to} + 8], {b}",
            "movnti [{to} + 16], {c}",
            "movnti [{to} + 24], {d}",
            "mov {a}, [{from} + 32]",
            "mov {b}, [{from} + 40]",
            "mov {c}, [{from} + 48]",
            "mov {d}, [{from} + 56]",
            "movnti [{to} + 32], {a}",
            "movnti [{to} + 40], {b}",
            "movnti [{to} + 48], {c}",
            "movnti [{to} + 56], {d}",
            from = in(reg) line.as_ptr(),
            to = in(reg) to,
            a = out(reg) _,
            b = out(reg) _,
            c = out(reg) _,
            d = out(reg) _,
            options(nostack, preserves_flags),
        );
    }
}

/// Orders stores, write-backs and drops before later stores.
#[inline]
pub(super) fn fence_stores() {
    // SAFETY: a fence touches nothing.
    unsafe { asm!("sfence", options(nostack, preserves_flags)) };
}

/// Orders everything before everything that follows.
#[inline]
pub(super) fn fence_all() {
    // SAFETY: a fence touches nothing.
    unsafe { asm!("mfence", options(nostack, preserves_flags)) };
}
