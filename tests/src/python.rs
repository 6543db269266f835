//! Python programs in `clients/`, run in the virtual environment that `tests/run` makes.

use std::path::PathBuf;
use std::process::Command;

use crate::parts::repository;

/// Runs `clients/<script>`; fails with what it printed when it fails. Gives its output.
pub fn run(script: &str, arguments: &[&str]) -> String {
    let venv = std::env::var_os("CLOISTER_VENV")
        .map_or_else(|| repository().join(".cloister/venv"), PathBuf::from);
    let python = venv.join("bin/python");
    assert!(
        python.is_file(),
        "{} is missing; run: tests/run",
        python.display()
    );
    let output = Command::new(python)
        .arg(repository().join("tests/clients").join(script))
        .args(arguments)
        .output()
        .expect("Python starts");
    assert!(
        output.status.success(),
        "{script} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
