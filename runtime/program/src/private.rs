//! What a program writes is its owner's alone, wherever it was started from.
//!
//! In: the mask that the program was started with, folders and files that may be there already. Out: none that others
//! can read. Must never close what is the owner's to share: sockets, and what a folder's group may do.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, set_permissions};
use std::io::{Error, ErrorKind, Result, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::OnceLock;

/// For nobody but the owner.
const PRIVATE: libc::mode_t = 0o077;

/// Of when the program was started.
static USUAL: OnceLock<libc::mode_t> = OnceLock::new();

/// Has all that this process makes from now on be its owner's alone. To be called once, with one thread.
pub fn begin() {
    USUAL.get_or_init(|| mask(PRIVATE));
}

/// Makes something that others are to reach as far as the mask lets them that the program was started with. To be called
/// with one thread, or in a child that is about to become another program.
pub fn shared<T>(make: impl FnOnce() -> T) -> T {
    let Some(usual) = USUAL.get() else {
        return make();
    };
    mask(*usual);
    let made = make();
    mask(PRIVATE);
    made
}

/// Goes back to that mask: for a child that is about to become another program.
pub fn end() {
    if let Some(usual) = USUAL.get() {
        mask(*usual);
    }
}

fn mask(mask: libc::mode_t) -> libc::mode_t {
    // SAFETY: umask takes and gives a number, and cannot fail.
    unsafe { libc::umask(mask) }
}

/// Puts this in the place of what a file said, for its owner alone: whole, or not at all, also when the power is cut.
///
/// # Errors
/// It cannot be written; then the file is as it was.
pub fn replace(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(contents.as_ref())?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    // The name is the folder's.
    path.parent()
        .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// A folder for its owner: made, if it is not there; one of ours that everybody may look into is closed to them.
///
/// # Errors
/// It cannot be made or closed; everybody may write to it.
pub fn folder(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let found = path.metadata()?;
    let mode = found.mode() & 0o7777;
    // One like /tmp belongs to everybody, even where root asks.
    let sticky = mode & libc::S_ISVTX != 0;
    if mode & libc::S_IWOTH != 0 && (sticky || !is_ours(&found)) {
        return Err(Error::new(
            ErrorKind::PermissionDenied,
            "everybody may write to it; choose a folder of your own",
        ));
    }
    match mode & libc::S_IRWXO {
        0 => Ok(()),
        _ if !is_ours(&found) => Ok(()),
        others => set_permissions(path, Permissions::from_mode(mode & !others)),
    }
}

/// Closes a file of ours to all others, if it is there.
///
/// # Errors
/// Its mode cannot be read or changed.
pub fn file(path: &Path) -> Result<()> {
    match path.metadata() {
        Ok(found) if found.mode() & PRIVATE != 0 && is_ours(&found) => {
            set_permissions(path, Permissions::from_mode(0o600))
        }
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn is_ours(found: &std::fs::Metadata) -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    found.uid() == unsafe { libc::geteuid() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_mode(path: &Path, mode: u32) -> u32 {
        set_permissions(path, Permissions::from_mode(mode)).unwrap();
        folder(path).unwrap();
        path.metadata().unwrap().mode() & 0o7777
    }

    #[test]
    fn a_folder_is_closed_to_all_but_its_owner_and_whom_they_let_in() {
        let scratch = tempfile::tempdir().unwrap();
        let made = scratch.path().join("a/b");
        folder(&made).unwrap();
        assert_eq!(made.metadata().unwrap().mode() & 0o7777, 0o700);
        for (mode, closed) in [
            (0o755, 0o750),
            (0o777, 0o770),
            (0o750, 0o750),
            (0o2775, 0o2770),
        ] {
            assert_eq!(with_mode(&made, mode), closed, "{mode:o}");
        }
        let error = {
            set_permissions(&made, Permissions::from_mode(0o1777)).unwrap();
            folder(&made).unwrap_err().to_string()
        };
        assert!(error.contains("everybody"), "{error}");
    }

    #[test]
    fn a_file_is_closed_to_all_others() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("f");
        file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
        file(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
    }
}
