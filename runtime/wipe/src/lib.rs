//! Memory that a program gives back is wiped first, so that nothing of what was said stays in it.
//!
//! In: every `free` and `realloc` of the program, by Rust, C and C++ alike: these are in place of the C library's, where a
//! program holds on to them by [`on_free`]. Out: the same blocks of zeros, to the C library's own functions.
//! Must never touch a block that the kernel takes back as a whole: that would fill memory that was never used.

use std::ffi::c_void;

unsafe extern "C" {
    fn __libc_free(block: *mut c_void);
    fn __libc_malloc(size: usize) -> *mut c_void;
    fn __libc_realloc(block: *mut c_void, size: usize) -> *mut c_void;
}

/// In the word before a block, glibc's mark of one that has a mapping of its own.
const OWN_MAPPING: usize = 2;

/// To be called once by a program that wants this: a linker leaves out what nobody needs.
pub fn on_free() {
    let functions: [*const (); 2] = [free as *const (), realloc as *const ()];
    std::hint::black_box(functions);
}

/// Wipes what functions that have returned have left on the stack of this thread, as deep as most go. To be called from where
/// little of it is in use.
#[inline(never)]
pub fn stack() {
    const DEPTH: usize = 256 << 10;
    let mut left = [0u8; DEPTH];
    std::hint::black_box(&mut left);
}

/// Wipes the block and gives it back.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free(block: *mut c_void) {
    // SAFETY: the caller gives up a block of this C library, or null, whose functions these are.
    unsafe {
        if let Some(size) = size_to_wipe(block) {
            block.cast::<u8>().write_bytes(0, size);
        }
        __libc_free(block);
    }
}

/// The block with another size, there or elsewhere; what is left behind is wiped.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: as in `free`. What is copied and wiped lies within what the C library says that the blocks hold.
    unsafe {
        let Some(there) = size_to_wipe(block) else {
            return __libc_realloc(block, size);
        };
        if size <= there {
            block.cast::<u8>().add(size).write_bytes(0, there - size);
            return __libc_realloc(block, size);
        }
        let new = __libc_malloc(size);
        if !new.is_null() {
            new.cast::<u8>()
                .copy_from_nonoverlapping(block.cast(), there);
            free(block);
        }
        new
    }
}

/// The bytes of a block that stays in the heap; none of what the kernel wipes.
///
/// # Safety
/// The block is one of the C library's, or null.
unsafe fn size_to_wipe(block: *mut c_void) -> Option<usize> {
    if block.is_null() {
        return None;
    }
    // SAFETY: glibc keeps a chunk's size and its marks in the word before the block: its own `malloc_usable_size` reads it, too.
    unsafe {
        let marks = block.cast::<usize>().sub(1).read();
        (marks & OWN_MAPPING == 0).then(|| libc::malloc_usable_size(block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block of this size, filled with this byte.
    fn filled(size: usize, byte: u8) -> *mut u8 {
        // SAFETY: the block has that size.
        unsafe {
            let block = libc::malloc(size).cast::<u8>();
            block.write_bytes(byte, size);
            block
        }
    }

    fn bytes<'a>(block: *mut u8, size: usize) -> &'a [u8] {
        // SAFETY: the tests read what they have, and not longer.
        unsafe { std::slice::from_raw_parts(block, size) }
    }

    #[test]
    fn a_block_that_grows_or_shrinks_keeps_what_it_holds() {
        for size in [1, 24, 100, 5000, 200_000, 1 << 20] {
            for new in [1, 30, 4000, 300_000, 2 << 20] {
                let block = filled(size, 7);
                // SAFETY: the block is given up for the new one, and that at the end.
                unsafe {
                    let block = realloc(block.cast(), new).cast::<u8>();
                    assert!(bytes(block, size.min(new)).iter().all(|byte| *byte == 7));
                    block.write_bytes(9, new);
                    free(block.cast());
                }
            }
        }
    }

    #[test]
    fn what_is_cut_off_is_wiped() {
        let block = filled(4096, 7);
        // SAFETY: it stays where it is, and what comes after it is still of this heap.
        unsafe {
            let there = libc::malloc_usable_size(block.cast());
            let smaller = realloc(block.cast(), 4000).cast::<u8>();
            assert_eq!(smaller, block);
            let rest = bytes(
                block.add(4000),
                libc::malloc_usable_size(block.cast()).min(there) - 4000,
            );
            assert!(rest.iter().all(|byte| *byte == 0), "{rest:?}");
            free(block.cast());
        }
    }

    #[test]
    fn a_freed_block_comes_back_without_what_it_held() {
        on_free();
        let freed: Vec<usize> = (0..100)
            .map(|_| {
                let block = std::hint::black_box(filled(777, 7));
                // SAFETY: it is given up.
                unsafe { libc::free(block.cast()) };
                block as usize
            })
            .collect();
        // SAFETY: a new block.
        let again = std::hint::black_box(unsafe { libc::malloc(777).cast::<u8>() });
        assert!(
            freed.contains(&(again as usize)),
            "the C library uses it again"
        );
        // Its first two words were the C library's meanwhile.
        assert!(bytes(again, 777)[16..].iter().all(|byte| *byte != 7));
        // SAFETY: it is given up.
        unsafe { libc::free(again.cast()) };
    }
}
