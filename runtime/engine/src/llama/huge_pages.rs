//! Asks Linux to keep a model file in large pages.
//!
//! In: the path of a file that is about to be mapped. Out: nothing, but what then maps it has an entry in the CPU's
//! address tables for each 2 MiB instead of each 4 KiB, where file system and kernel can (ext4 since Linux 6.16, XFS,
//! Btrfs): weights come from memory up to a third faster. What the page cache has already stays as it is. Must never
//! fail: where it cannot be had, all is as before.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::null_mut;

/// Reads the file at `path` into the page cache, in large pages if that can be.
pub fn read_ahead(path: &Path) {
    let Ok(file) = File::open(path) else { return };
    let Some(length) = file
        .metadata()
        .ok()
        .and_then(|about| usize::try_from(about.len()).ok())
    else {
        return;
    };
    // What does not fit would push itself out again.
    if length == 0 || length > memory() / 4 * 3 {
        return;
    }
    // SAFETY: a new mapping, which nobody reads, and which is gone afterwards; advice changes no contents.
    unsafe {
        let flags = libc::MAP_SHARED;
        let map = libc::mmap(
            null_mut(),
            length,
            libc::PROT_READ,
            flags,
            file.as_raw_fd(),
            0,
        );
        if map != libc::MAP_FAILED {
            if libc::madvise(map, length, libc::MADV_HUGEPAGE) == 0 {
                libc::madvise(map, length, libc::MADV_POPULATE_READ);
            }
            libc::munmap(map, length);
        }
    }
}

/// Bytes of memory that this machine has.
fn memory() -> usize {
    // SAFETY: it asks for two numbers.
    let [pages, size] = unsafe {
        [
            libc::sysconf(libc::_SC_PHYS_PAGES),
            libc::sysconf(libc::_SC_PAGESIZE),
        ]
    };
    usize::try_from(pages.max(0)).unwrap_or(0) * usize::try_from(size.max(0)).unwrap_or(0)
}
