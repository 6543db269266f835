//! What a Raspberry Pi's firmware says of itself: `get_throttled`, in its own kernels' sysfs
//! (<https://www.raspberrypi.com/documentation/computers/os.html#get_throttled>).
//!
//! In: a folder `…:firmware` among the platform devices. Out: whether the firmware slows the processor because of heat.
//! Kernels of others, Debian's too, do not have the file: there it is absent.

use std::fs;
use std::path::PathBuf;

use cloister_control::device::{Fault, SocThrottle};

use crate::board::Machine;
use cloister_sysfs::{class, fault};

const UNDER_VOLTAGE: u32 = 1 << 0;
const THROTTLED: u32 = 1 << 2;
const SOFT_TEMPERATURE_LIMIT: u32 = 1 << 3;

/// Reads the flags.
pub struct Throttled {
    file: PathBuf,
}

impl Throttled {
    /// Of this machine; nothing where its kernel does not tell. The folder's name has an address in it on some models:
    /// `/sys/devices/platform/soc/soc:firmware`, `…/soc@107c000000/soc@107c000000:firmware`.
    pub fn of(machine: &Machine) -> Option<Self> {
        let entries = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
        let socs = entries(machine.path("/sys/devices/platform"))
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("soc"));
        let mut files = socs
            .flat_map(|soc| entries(soc.path()))
            .filter(|entry| entry.file_name().to_string_lossy().ends_with(":firmware"))
            .map(|firmware| firmware.path().join("get_throttled"));
        let file = files.find(|file| file.exists())?;
        Some(Self { file })
    }
}

impl SocThrottle for Throttled {
    fn read(&mut self) -> Result<bool, Fault> {
        let text = class::text(&self.file).map_err(|error| fault(&error))?;
        let digits = text.trim_start_matches("0x");
        let flags = u32::from_str_radix(digits, 16).map_err(|_| Fault::Nonsense)?;
        // Too little voltage slows it down as well, and no fan helps against that.
        let hot =
            flags & SOFT_TEMPERATURE_LIMIT != 0 || flags & (THROTTLED | UNDER_VOLTAGE) == THROTTLED;
        Ok(hot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloister_sysfs::made::machine;

    #[test]
    fn heat_is_told_from_too_little_voltage_and_from_what_was_before() {
        let path = "/sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled";
        let (_root, machine) = machine(&[(path, "0")]);
        let mut flags = Throttled::of(&machine).unwrap();
        for (text, hot) in [
            ("0", Ok(false)),
            ("4", Ok(true)),
            ("8", Ok(true)),
            ("0x80008", Ok(true)),
            // Before; now again well.
            ("e0000", Ok(false)),
            // Under-voltage, and slowed down for that.
            ("50005", Ok(false)),
            ("5000d", Ok(true)),
            ("?", Err(Fault::Nonsense)),
            ("", Err(Fault::Nonsense)),
        ] {
            machine.put(path, text);
            assert_eq!(flags.read(), hot, "{text:?}");
        }
        fs::remove_file(machine.path(path)).unwrap();
        assert_eq!(flags.read(), Err(Fault::Absent));
    }

    #[test]
    fn older_models_have_it_elsewhere_and_other_kernels_nowhere() {
        let path = "/sys/devices/platform/soc/soc:firmware/get_throttled";
        let (_root, old) = machine(&[(path, "8")]);
        assert_eq!(Throttled::of(&old).unwrap().read(), Ok(true));
        let (_root, debian) = machine(&[("/sys/devices/platform/soc/soc:firmware/uevent", "")]);
        assert!(Throttled::of(&debian).is_none());
    }
}
