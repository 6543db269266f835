//! What is left of a text in the files of a machine.

use std::fs::File;
use std::os::unix::fs::FileExt;
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

/// How often a process has this text in the memory that it can write to.
pub fn times_in_memory(id: u32, text: &str) -> usize {
    let process = Path::new("/proc").join(id.to_string());
    let maps = std::fs::read_to_string(process.join("maps")).expect("the process runs");
    let memory = File::open(process.join("mem")).expect("this test needs to be root");
    let regions = maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (from, to) = range.split_once('-')?;
        let parsed = |hex| u64::from_str_radix(hex, 16).expect("an address");
        rest.starts_with("rw").then(|| (parsed(from), parsed(to)))
    });
    let mut found = 0;
    for (mut from, to) in regions {
        let mut region = Vec::new();
        while from < to {
            let mut part = vec![0; (to - from).min(1 << 20) as usize];
            // What was unmapped meanwhile cannot be read.
            let Ok(read @ 1..) = memory.read_at(&mut part, from) else {
                break;
            };
            region.extend_from_slice(&part[..read]);
            from += read as u64;
        }
        found += memchr::memmem::find_iter(&region, text).count();
    }
    found
}
