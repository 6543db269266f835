//! Whether the disk has room for the file, asked before its first byte.
//!
//! In: the path of the output and its size. Out: nothing, or an error that says how much is missing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Result, bail};
use cloister_gguf::partial_path;

/// Fails if `size` bytes are more than the disk of `out` has free. An unfinished file of the same
/// name counts as free: it is gone on with or replaced.
pub fn check(out: &Path, size: u64) -> Result<()> {
    let folder = match out.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // A folder that is missing is named when the file is created.
    let Ok(disk) = rustix::fs::statvfs(folder) else {
        return Ok(());
    };
    let partial = fs::metadata(partial_path(out)?);
    let there = partial.map_or(0, |stat| stat.blocks() * 512);
    let free = (disk.f_bavail.saturating_mul(disk.f_frsize)).saturating_add(there);
    // Some network disks do not tell, and say 0 of 0.
    if disk.f_blocks != 0 && free < size {
        bail!(
            "{}: needs {:.1} MB, but its disk has {:.1} MB free; free {:.1} MB or name a file on \
             another disk",
            out.display(),
            size as f64 / 1e6,
            free as f64 / 1e6,
            (size - free) as f64 / 1e6
        );
    }
    Ok(())
}
