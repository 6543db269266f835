//! Memory that is asked for while what was asked for before is multiplied, a line of 64 bytes at a time: of lines that are
//! asked for all at once, most wait, and the arithmetic for them.

use std::arch::asm;
use std::arch::x86_64::*;
use std::cell::Cell;

/// Bytes of a line.
const LINE: usize = 64;

/// Rows behind each other, each of whose lines is asked for once.
///
/// The address of a line comes out of the one before, a few cycles later. Else the CPU asks for all that it sees ahead, in any
/// order, and keeps the few buffers that its loads need, too, until memory answers: four columns took a fifth longer.
#[derive(Clone, Copy)]
pub(crate) struct InOrder {
    next: usize,
}

impl InOrder {
    pub fn new(next: *const u8) -> Self {
        Self { next: next.addr() }
    }

    /// Asks for what is due in step `step` of `steps`, over which `bytes` bytes are spread.
    #[inline(always)]
    pub fn ask(&mut self, step: usize, steps: usize, bytes: usize) {
        // As many each time, even if one is asked for twice: of a number that changes, the CPU guesses wrong.
        let lines = bytes.div_ceil(LINE);
        for _ in step * lines / steps..(step + 1) * lines / steps {
            ask(std::ptr::without_provenance(self.next));
            // Times one, which the compiler is not to know.
            // SAFETY: it computes with one number.
            unsafe {
                asm!("imul {0}, {0}, 1", inout(reg) self.next, options(pure, nomem, nostack));
            }
            self.next = self.next.wrapping_add(LINE);
        }
        if step + 1 == steps {
            self.next = self.next.wrapping_sub(lines * LINE - bytes);
        }
    }
}

/// As many bytes of each of several rows.
pub(crate) struct RowByRow {
    place: Cell<*const u8>,
    /// What is due and not asked for yet; a line is as much as `of_line`.
    due: Cell<usize>,
    of_line: usize,
    /// Lines up to the row's end.
    left: Cell<usize>,
    lines: usize,
    to_next_row: usize,
}

impl RowByRow {
    /// `bytes` bytes from `place` on, and as many each `stride` bytes later; asked for in as many shares as `shares` says.
    pub fn new(place: *const u8, stride: usize, bytes: usize, shares: usize) -> Self {
        // Rows begin and end within a line.
        let lines = bytes / LINE + 1;
        Self {
            place: Cell::new(place),
            due: Cell::new(0),
            of_line: bytes * shares,
            left: Cell::new(lines),
            lines,
            to_next_row: stride.wrapping_sub(lines * LINE),
        }
    }

    /// Asks for a share of the next `bytes` bytes.
    #[inline(always)]
    pub fn ask(&self, bytes: usize) {
        let mut place = self.place.get();
        let mut due = self.due.get() + bytes * self.lines;
        while due >= self.of_line {
            ask(place);
            place = place.wrapping_add(LINE);
            due -= self.of_line;
            self.left.set(self.left.get() - 1);
            if self.left.get() == 0 {
                self.left.set(self.lines);
                place = place.wrapping_add(self.to_next_row);
            }
        }
        self.due.set(due);
        self.place.set(place);
    }
}

/// Asks for `bytes` bytes from `from` on, all at once.
pub(super) fn ask_at_once(from: *const u8, bytes: usize) {
    for at in (0..bytes).step_by(LINE) {
        ask(from.wrapping_add(at));
    }
}

#[inline(always)]
fn ask(line: *const u8) {
    // SAFETY: a prefetch never faults.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) };
}
