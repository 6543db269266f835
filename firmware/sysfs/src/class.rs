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
pub(crate) mod tests {
    use super::*;
    use crate::Machine;

    /// A machine with these files.
    pub fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        let root = tempfile::tempdir().unwrap();
        let machine = Machine::below(root.path());
        files
            .iter()
            .for_each(|(path, text)| machine.put(path, text));
        (root, machine)
    }

    fn chips(machine: &Machine) -> Class {
        Class::new(machine.path("/sys/class/hwmon"), "name")
    }

    #[test]
    fn a_device_that_comes_back_under_another_number_is_found_again() {
        let (_root, machine) = machine(&[
            ("/sys/class/hwmon/hwmon0/name", "nvme"),
            ("/sys/class/hwmon/hwmon0/temp1_input", "70000"),
            ("/sys/class/hwmon/hwmon1/name", "tmp102"),
            ("/sys/class/hwmon/hwmon1/temp1_input", "41500"),
        ]);
        let mut devices = chips(&machine).devices(|name| name == "tmp102");
        assert_eq!(devices.len(), 1);
        let device = &mut devices[0];
        assert_eq!(device.read("temp1_input"), Ok(41500));
        let hwmon = |name: &str| machine.path("/sys/class/hwmon").join(name);
        fs::remove_dir_all(hwmon("hwmon1")).unwrap();
        assert_eq!(device.read("temp1_input"), Err(Fault::Absent));
        // Another device has its number, and it has another one.
        fs::rename(hwmon("hwmon0"), hwmon("hwmon1")).unwrap();
        assert_eq!(device.read("temp1_input"), Err(Fault::Absent));
        machine.put("/sys/class/hwmon/hwmon7/name", "tmp102");
        machine.put("/sys/class/hwmon/hwmon7/temp1_input", "42000");
        assert_eq!(device.read("temp1_input"), Ok(42000));
    }

    #[test]
    fn of_two_with_one_name_each_keeps_its_place() {
        let (_root, machine) = machine(&[
            ("/sys/class/hwmon/hwmon4/name", "coretemp"),
            ("/sys/class/hwmon/hwmon4/temp1_input", "4"),
            ("/sys/class/hwmon/hwmon2/name", "coretemp"),
            ("/sys/class/hwmon/hwmon2/temp1_input", "2"),
        ]);
        let mut devices = chips(&machine).devices(|name| name == "coretemp");
        let said: Vec<_> = devices
            .iter_mut()
            .map(|device| device.read("temp1_input"))
            .collect();
        assert_eq!(said, [Ok(2), Ok(4)]);
        fs::remove_dir_all(machine.path("/sys/class/hwmon/hwmon2")).unwrap();
        assert_eq!(devices[0].read("temp1_input"), Err(Fault::Absent));
        assert_eq!(devices[1].read("temp1_input"), Ok(4));
    }

    #[test]
    fn of_two_with_one_name_each_is_known_by_where_it_is_connected_whatever_their_numbers() {
        let (_root, machine) = machine(&[]);
        let plug_in = |at: &str, number: u8| {
            let own = format!("/sys/devices/{at}/hwmon/hwmon{number}");
            machine.put(&format!("{own}/name"), "lm75");
            machine.put(&format!("{own}/temp1_input"), &at.len().to_string());
            let link = machine.path(&format!("/sys/class/hwmon/hwmon{number}"));
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(machine.path(&own), link).unwrap();
        };
        let pull_out = |at: &str, number: u8| {
            fs::remove_file(machine.path(&format!("/sys/class/hwmon/hwmon{number}"))).unwrap();
            fs::remove_dir_all(machine.path(&format!("/sys/devices/{at}"))).unwrap();
        };
        plug_in("a", 3);
        plug_in("bb", 1);
        let mut devices = chips(&machine).devices(|_| true);
        let mut say = || -> Vec<_> {
            let devices = devices.iter_mut();
            devices.map(|device| device.read("temp1_input")).collect()
        };
        assert_eq!(say(), [Ok(1), Ok(2)]);
        pull_out("a", 3);
        assert_eq!(say(), [Err(Fault::Absent), Ok(2)]);
        // The other one has its number then.
        pull_out("bb", 1);
        plug_in("bb", 3);
        assert_eq!(say(), [Err(Fault::Absent), Ok(2)]);
        plug_in("a", 1);
        assert_eq!(say(), [Ok(1), Ok(2)]);
    }

    #[test]
    fn what_is_no_number_is_nonsense_and_what_fails_is_told_by_its_kind() {
        let (_root, machine) = machine(&[
            ("/sys/class/hwmon/hwmon0/name", "x"),
            ("/sys/class/hwmon/hwmon0/temp1_input", "warm"),
            ("/sys/class/hwmon/hwmon0/temp2_input", ""),
            ("/sys/class/hwmon/hwmon0/temp3_input/is", "a folder"),
        ]);
        let device = &mut chips(&machine).devices(|_| true)[0];
        assert_eq!(device.read("temp1_input"), Err(Fault::Nonsense));
        assert_eq!(device.read("temp2_input"), Err(Fault::Nonsense));
        assert_eq!(device.read("temp3_input"), Err(Fault::Bus));
        assert_eq!(device.read("temp4_input"), Err(Fault::Absent));
        assert_eq!(device.write("pwm1", 1), Err(Fault::Absent));
    }

    #[test]
    fn a_file_that_the_kernel_gives_nobody_to_write_is_denied() {
        // Of the real sysfs, which refuses this to root, too.
        let refused = write(Path::new("/sys/kernel/uevent_seqnum"), "1").unwrap_err();
        assert_eq!(fault(&refused), Fault::Denied);
    }
}
