//! I2C buses, and devices on them.
//!
//! In: a bus by its alias in the device tree or its adapter's name, an address. Out: transfers, and what their errors
//! mean.

use std::fs;
use std::path::{Path, PathBuf};

use cloister_control::device::Fault;
use embedded_hal::i2c::{Error, ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation};
use linux_embedded_hal::I2cdev;
use linux_embedded_hal::i2cdev::linux::LinuxI2CError;

use crate::board::Machine;
use cloister_sysfs::{class, fault};

/// One bus, open.
pub struct Bus(I2cdev);

impl Bus {
    /// Opens a bus by its [`node`], for a device at this address.
    ///
    /// # Errors
    /// It is not there; a driver of the kernel has a device at this address.
    pub fn open(node: &Path, address: u8) -> Result<Self, Fault> {
        let meaning = |error: LinuxI2CError| fault(&error.into());
        let mut open = I2cdev::new(node).map_err(meaning)?;
        // This asks the kernel whether a driver of its own has a device there.
        open.set_slave_address(address.into()).map_err(meaning)?;
        Ok(Self(open))
    }
}

/// `/dev/i2c-N` of a bus, which is called by its alias in the device tree, or as its adapter is.
///
/// # Errors
/// There is no such bus; or several.
pub fn node(machine: &Machine, bus: &str) -> Result<PathBuf, Fault> {
    let alias = machine.path("/proc/device-tree/aliases").join(bus);
    let alias = class::text(&alias).unwrap_or_default();
    let alias = alias.trim_matches(['\0', '/']);
    let entries = fs::read_dir(machine.path("/sys/class/i2c-dev"));
    let mut found = entries.into_iter().flatten().flatten().filter(|entry| {
        let called = class::text(&entry.path().join("name"));
        let node = fs::canonicalize(entry.path().join("device/of_node"));
        called.is_ok_and(|name| name == bus)
            || !alias.is_empty() && node.is_ok_and(|node| node.ends_with(alias))
    });
    match (found.next(), found.next()) {
        (None, _) => Err(Fault::Absent),
        (Some(one), None) => Ok(machine.path("/dev").join(one.file_name())),
        (Some(_), Some(_)) => Err(Fault::Ambiguous),
    }
}

/// An error on the bus.
#[derive(Debug)]
pub struct BusError(linux_embedded_hal::I2CError);

impl Error for BusError {
    fn kind(&self) -> ErrorKind {
        let errno = match self.0.inner() {
            LinuxI2CError::Errno(errno) => Some(*errno),
            LinuxI2CError::Io(error) => error.raw_os_error(),
        };
        match errno {
            // Most adapters say this when nobody acknowledges, those of Raspberry Pis and Jetsons among them.
            Some(libc::EREMOTEIO | libc::ENXIO | libc::ENODEV) => {
                ErrorKind::NoAcknowledge(NoAcknowledgeSource::Unknown)
            }
            _ => self.0.kind(),
        }
    }
}

impl ErrorType for Bus {
    type Error = BusError;
}

impl I2c for Bus {
    fn transaction(
        &mut self,
        address: u8,
        operations: &mut [Operation<'_>],
    ) -> Result<(), Self::Error> {
        I2c::<u8>::transaction(&mut self.0, address, operations).map_err(BusError)
    }
}

/// What an error on a bus means for the device that was addressed.
pub fn meaning(error: &impl Error) -> Fault {
    match error.kind() {
        ErrorKind::NoAcknowledge(_) => Fault::Absent,
        _ => Fault::Bus,
    }
}

/// Reads a register of one byte.
///
/// # Errors
/// The device does not answer.
pub fn read<B: I2c>(bus: &mut B, address: u8, register: u8) -> Result<u8, Fault> {
    let mut byte = [0];
    bus.write_read(address, &[register], &mut byte)
        .map_err(|error| meaning(&error))?;
    Ok(byte[0])
}

/// Reads a register of two bytes, the high one first.
///
/// # Errors
/// The device does not answer.
pub fn read_word<B: I2c>(bus: &mut B, address: u8, register: u8) -> Result<u16, Fault> {
    let mut bytes = [0; 2];
    bus.write_read(address, &[register], &mut bytes)
        .map_err(|error| meaning(&error))?;
    Ok(u16::from_be_bytes(bytes))
}

/// Writes a register of one byte.
///
/// # Errors
/// The device does not answer.
pub fn write<B: I2c>(bus: &mut B, address: u8, register: u8, byte: u8) -> Result<(), Fault> {
    bus.write(address, &[register, byte])
        .map_err(|error| meaning(&error))
}

/// Whether a device is who it should be, asked again after each failure: it may have been another one, or without
/// power, and have forgotten how it was set up.
#[derive(Debug, Default)]
pub struct Known(bool);

impl Known {
    /// Makes sure of that, where it is not.
    ///
    /// # Errors
    /// It is not who it should be, or does not answer.
    pub fn sure(&mut self, find_out: impl FnOnce() -> Result<(), Fault>) -> Result<(), Fault> {
        if !self.0 {
            find_out()?;
            self.0 = true;
        }
        Ok(())
    }

    /// Takes what came of asking it.
    ///
    /// # Errors
    /// The same.
    pub fn keep<T>(&mut self, answer: Result<T, Fault>) -> Result<T, Fault> {
        self.0 &= answer.is_ok();
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloister_sysfs::made::machine;

    #[test]
    fn a_bus_is_found_by_its_alias_or_its_name_and_never_guessed() {
        let (_root, machine) = machine(&[
            ("/proc/device-tree/aliases/i2c1", "/axi/rp1/i2c@74000\0"),
            (
                "/sys/firmware/devicetree/base/axi/rp1/i2c@74000/status",
                "okay",
            ),
            (
                "/sys/class/i2c-dev/i2c-1/name",
                "Synopsys DesignWare I2C adapter",
            ),
            (
                "/sys/class/i2c-dev/i2c-6/name",
                "Synopsys DesignWare I2C adapter",
            ),
            ("/sys/class/i2c-dev/i2c-9/name", "CP2112 SMBus Bridge"),
        ]);
        let device = machine.path("/sys/class/i2c-dev/i2c-6/device");
        fs::create_dir_all(&device).unwrap();
        let tree = machine.path("/sys/firmware/devicetree/base/axi/rp1/i2c@74000");
        std::os::unix::fs::symlink(tree, device.join("of_node")).unwrap();
        let found = |bus: &str| node(&machine, bus);
        assert_eq!(found("i2c1"), Ok(machine.path("/dev/i2c-6")));
        assert_eq!(found("CP2112 SMBus Bridge"), Ok(machine.path("/dev/i2c-9")));
        assert_eq!(found("i2c-1"), Err(Fault::Absent));
        assert_eq!(
            found("Synopsys DesignWare I2C adapter"),
            Err(Fault::Ambiguous)
        );
        // The kernel's device is missing: i2c-dev is loaded, but this user sees no node.
        let opened = || Bus::open(&found("i2c1").unwrap(), 0x48).err();
        assert_eq!(opened(), Some(Fault::Absent));
        machine.put("/dev/i2c-6", "no bus");
        assert_eq!(opened(), Some(Fault::Bus));
    }
}
