//! Counts what the tests of this program allocate, each thread for itself.
//!
//! In: a function. Out: the largest piece of memory it asked for, and the most it held at a time. It
//! must never allocate on its own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[global_allocator]
static COUNTED: Counted = Counted;

struct Counted;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn count(asked: usize, given_back: usize) {
    // What a thread frees after its end is nobody's.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + asked as isize - given_back as isize);
        MOST.set(MOST.get().max(held.get()));
        LARGEST.set(LARGEST.get().max(asked));
    });
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, there: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(there, layout, size) }
    }

    unsafe fn dealloc(&self, there: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(there, layout) }
    }
}

/// Bytes that `f` asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// At once.
    pub largest: usize,
    /// And had not given back, at the worst moment.
    pub most: usize,
}

/// Runs `f`, and says what this thread allocated meanwhile.
pub fn of(f: impl FnOnce()) -> Asked {
    let before = HELD.get();
    MOST.set(before);
    LARGEST.set(0);
    f();
    Asked {
        largest: LARGEST.get(),
        most: (MOST.get() - before) as usize,
    }
}
