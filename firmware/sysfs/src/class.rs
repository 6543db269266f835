//! Devices of a class in sysfs, found by what they are called, never by their number.
//!
//! In: a class such as `/sys/class/hwmon`, and the name that each of its devices has in a file. Out: numbers, read and
//! written. A device that went away and came back under another number is found again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cloister_control::device::Fault;

use crate::fault;

/// A class of devices.
#[derive(Clone, Debug)]
pub struct Class {
    folder: PathBuf,
    /// The file that says what a device is called.
    key: &'static str,
    /// How the names of its folders begin.
    begins: &'static str,
}

impl Class {
    /// One whose devices are the folders in this one, called what this file of theirs says.
    pub fn new(folder: PathBuf, key: &'static str) -> Self {
        Self {
            folder,
            key,
            begins: "",
        }
    }

    /// Of these devices those whose folders are called so, and a number.
    pub fn only(self, begins: &'static str) -> Self {
        Self { begins, ..self }
    }

    /// The devices whose name meets a condition, in the order of where they are connected.
    pub fn devices(&self, wanted: impl Fn(&str) -> bool) -> Vec<Device> {
        let places = self.places();
        let wanted = places.iter().filter(|(name, _)| wanted(name));
        let device = |(name, at): &(String, PathBuf)| {
            let others = places.iter().filter(|(other, _)| other == name);
            let home = (others.count() > 1).then(|| home(at));
            let mut device = Device {
                class: self.clone(),
                name: name.clone(),
                home,
                nth: 0,
                of: 0,
                at: at.clone(),
            };
            let same = device.same(&places);
            device.of = same.len();
            device.nth = same.iter().take_while(|place| **place != at).count();
            device
        };
        wanted.map(device).collect()
    }

    /// The devices that have any of these names, as [`is_called`] takes them.
    pub fn any_of(&self, wanted: &[&str]) -> Vec<Device> {
        self.devices(|name| wanted.iter().any(|wanted| is_called(name, wanted)))
    }

    /// Of all devices the name and the folder. Numbers go by who came first; where something is connected stays.
    fn places(&self) -> Vec<(String, PathBuf)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let named = entries.filter_map(|entry| {
            let at = entry.path();
            let name = entry.file_name();
            if !name.to_string_lossy().starts_with(self.begins) {
                return None;
            }
            Some((text(&at.join(self.key)).ok()?, at))
        });
        let mut places: Vec<_> = named.collect();
        places.sort_by_cached_key(|(_, at)| fs::canonicalize(at).unwrap_or_else(|_| at.clone()));
        places
    }
}

/// A device of a class.
#[derive(Clone, Debug)]
pub struct Device {
    class: Class,
    name: String,
    /// Where it is connected, if there is another one of its name.
    home: Option<PathBuf>,
    /// Which one of those that have its name and its home, and how many these are.
    nth: usize,
    of: usize,
    at: PathBuf,
}

/// Where something is connected, without its number.
fn home(at: &Path) -> PathBuf {
    let at = fs::canonicalize(at).unwrap_or_else(|_| at.to_owned());
    at.parent().unwrap_or(&at).to_owned()
}

impl Device {
    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it was last.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Whether it has this file.
    pub fn has(&self, file: &str) -> bool {
        self.at.join(file).exists()
    }

    /// The text of a file of it, without the line's end.
    ///
    /// # Errors
    /// The file is not there, or does not answer.
    pub fn text(&mut self, file: &str) -> Result<String, Fault> {
        self.with(file, text)
    }

    /// The number in a file of it.
    ///
    /// # Errors
    /// As [`Self::text`]; and there may be something else than a number.
    pub fn read(&mut self, file: &str) -> Result<i64, Fault> {
        self.text(file)?.parse().map_err(|_| Fault::Nonsense)
    }

    /// Writes a number into a file of it.
    ///
    /// # Errors
    /// The file is not there, or does not take it.
    pub fn write(&mut self, file: &str, number: i64) -> Result<(), Fault> {
        self.with(file, |file| write(file, &number.to_string()))
    }

    fn is_home(&self, at: &Path) -> bool {
        self.home.as_ref().is_none_or(|own| home(at) == *own)
    }

    /// Those of these places that are as good as its own.
    fn same<'a>(&self, places: &'a [(String, PathBuf)]) -> Vec<&'a PathBuf> {
        let same = places
            .iter()
            .filter(|(name, at)| *name == self.name && self.is_home(at));
        same.map(|(_, at)| at).collect()
    }

    fn with<T>(&mut self, file: &str, act: impl Fn(&Path) -> io::Result<T>) -> Result<T, Fault> {
        // Its number may be another device's by now.
        let called = text(&self.at.join(self.class.key));
        if called.ok().as_ref() != Some(&self.name) || !self.is_home(&self.at) {
            let places = self.class.places();
            let same = self.same(&places);
            // With fewer than there were nobody can tell which is missing.
            if same.len() < self.of {
                return Err(Fault::Absent);
            }
            self.at = same[self.nth].clone();
        }
        act(&self.at.join(file)).map_err(|error| fault(&error))
    }
}

/// Whether a device of this name is wanted: by that name, or, with `*` at its end, by how it begins. Capitals are as good as
/// small letters: one and the same zone is `CPU-therm` to one version of NVIDIA's kernel and `cpu-thermal` to the next.
pub fn is_called(name: &str, wanted: &str) -> bool {
    let (name, wanted) = (name.to_ascii_lowercase(), wanted.to_ascii_lowercase());
    match wanted.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == wanted,
    }
}

/// The text of a file without the line's end.
///
/// # Errors
/// The file is not there, or does not answer.
pub fn text(file: &Path) -> io::Result<String> {
    let bytes = fs::read(file)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// Writes a text into a file that is there.
///
/// # Errors
/// The file is not there, or does not take it.
pub fn write(file: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    let mut open = fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(file)?;
    open.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests;
