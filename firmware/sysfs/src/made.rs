//! Machines made of files, for tests.

use tempfile::TempDir;

use crate::Machine;

/// A machine with these files, for as long as its folder is kept.
///
/// # Panics
/// They cannot be made.
pub fn machine(files: &[(&str, &str)]) -> (TempDir, Machine) {
    let root = tempfile::tempdir().expect("a folder is made");
    let machine = Machine::below(root.path());
    for (path, text) in files {
        machine.put(path, text);
    }
    (root, machine)
}
