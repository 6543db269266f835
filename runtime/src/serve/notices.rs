//! What the system that this runs in has to tell the owner: a setting that is wrong, an update that was not taken.
//!
//! In: a file of lines, which the system writes. Out: the latest of them, for the page.

use std::path::{Path, PathBuf};

/// The most lines that are told.
const MOST: usize = 20;

/// The file of `--notices`, if there is one.
pub struct Notices(pub Option<PathBuf>);

impl Notices {
    /// Where the file is: the system puts a new one in its place.
    pub fn folder(&self) -> Option<&Path> {
        self.0.as_deref()?.parent()
    }

    /// The latest lines, the oldest of them first.
    pub fn lines(&self) -> Vec<String> {
        let text = self
            .0
            .as_ref()
            .and_then(|file| std::fs::read_to_string(file).ok());
        let text = text.unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines
            .iter()
            .skip(lines.len().saturating_sub(MOST))
            .map(|line| line.to_string())
            .collect()
    }
}
