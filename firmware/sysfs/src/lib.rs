//! What the kernel tells of sensors and fans, in `/sys`.
//!
//! In: a [`Machine`], names. Out: readings of what it measures, duties for its fans, or the [`Fault`] that says why not.
//! Must never find a device by its number, and never choose one.

pub mod class;
pub mod hwmon;
#[cfg(any(test, feature = "made"))]
pub mod made;
pub mod thermal;

use std::fs;
use std::io;
use std::path::PathBuf;

use cloister_control::device::Fault;

/// Where the machine's trees of files are; in tests, below a folder of theirs.
#[derive(Clone, Debug)]
pub struct Machine {
    root: PathBuf,
}

impl Machine {
    /// This machine.
    pub fn this() -> Self {
        Self::below("/")
    }

    /// One whose `/sys`, `/dev` and `/proc` are below this folder.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// A path such as `/sys/class/hwmon` on this machine.
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// Makes a file as the kernel shows one, with a line's end.
    ///
    /// # Panics
    /// It cannot be made.
    #[cfg(any(test, feature = "made"))]
    pub fn put(&self, absolute: &str, text: &str) {
        let path = self.path(absolute);
        let folder = path.parent().expect("a file is in a folder");
        fs::create_dir_all(folder).expect("a folder is made");
        fs::write(path, format!("{text}\n")).expect("a file is made");
    }

    /// What the device tree calls the machine, the most exact name first; nothing where there is no device tree.
    pub fn compatible(&self) -> Vec<String> {
        let names = fs::read(self.path("/proc/device-tree/compatible")).unwrap_or_default();
        let names = names
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty());
        names
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect()
    }
}

/// What an error of the kernel means for a device.
pub fn fault(error: &io::Error) -> Fault {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO | libc::ENOTDIR) => Fault::Absent,
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => Fault::Denied,
        Some(libc::EBUSY) => Fault::Taken,
        _ => Fault::Bus,
    }
}
