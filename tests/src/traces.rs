//! What is left of a text in the files of a machine.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The regular files in a folder and below, as far as they can be read.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files_below(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

/// The files in the folders that everybody may write to, as far as they were changed after this.
pub fn scratch_since(began: SystemTime) -> Vec<PathBuf> {
    let changed = |file: &PathBuf| {
        let found = file.metadata().and_then(|found| found.modified());
        found.is_ok_and(|changed| changed >= began)
    };
    ["/tmp", "/var/tmp", "/dev/shm", "/run"]
        .iter()
        .flat_map(|folder| files_below(Path::new(folder)))
        .filter(changed)
        .collect()
}

/// The regular files that a process holds open, deleted ones too.
pub fn open_files(id: u32) -> Vec<PathBuf> {
    let descriptors = Path::new("/proc").join(id.to_string()).join("fd");
    let links = descriptors
        .read_dir()
        .expect("the process runs")
        .map(|entry| entry.expect("it can be read").path());
    links
        .filter(|link| link.metadata().is_ok_and(|found| found.is_file()))
        .collect()
}

/// Whether a file that is there holds this text.
pub fn holds(file: &Path, text: &str) -> bool {
    std::fs::read(file).is_ok_and(|bytes| {
        bytes
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    })
}
