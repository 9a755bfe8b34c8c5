//! `dc cvac`, `dc civac` and `dsb`, which the kernel allows to user space (`SCTLR_EL1.UCI`).

use core::arch::asm;

use super::{Flusher, Instruction, LINE};

/// There are no stores that are sure to pass the caches: `stnp` is a hint.
pub(super) const STREAMS: bool = false;

/// What this processor has, the best first: every one has both.
pub(super) fn available() -> Vec<Flusher> {
    let step = smallest_line().min(LINE);
    [Instruction::DcCvac, Instruction::DcCivac]
        .map(|write_back| Flusher {
            write_back,
            invalidate: Instruction::DcCivac,
            step,
        })
        .to_vec()
}

/// The smallest line of any data cache, in bytes.
fn smallest_line() -> usize {
    let kind: u64;
    // SAFETY: reads a register that user space may read, or that the kernel reads in its stead.
    unsafe {
        asm!("mrs {kind}, ctr_el0", kind = out(reg) kind, options(nomem, nostack, preserves_flags));
    }
    // The binary logarithm of the line in words of 4 bytes, in bits 16 to 20.
    4 << ((kind >> 16) & 0xf)
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
        Instruction::DcCvac => run!("dc cvac, {at}"),
        Instruction::DcCivac => run!("dc civac, {at}"),
        // Not of this processor, hence in no flusher (invariant 3).
        Instruction::Clwb | Instruction::Clflushopt | Instruction::Clflush => {
            unreachable!("{instruction}")
        }
    }
}

/// Never called, as [`STREAMS`] is false: an ordinary store of a line.
///
/// # Safety
/// `to` is aligned to a line, all of which may be written, by atomic accesses of this process only.
pub(super) unsafe fn stream_line(to: *mut u8, line: &[u8; LINE]) {
    // SAFETY: the caller's.
    unsafe { to.copy_from_nonoverlapping(line.as_ptr(), LINE) };
}

/// Holds everything that follows back until cache maintenance is done. A weaker `dsb st` does not
/// wait for it on every processor.
#[inline]
pub(super) fn fence_stores() {
    fence_all();
}

/// Holds everything that follows back until all before it is done.
#[inline]
pub(super) fn fence_all() {
    // SAFETY: a barrier touches nothing.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}
