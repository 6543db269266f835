//! What the guest has in place of hardware: the kernel's simulations, and how to look at them and to change them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloister_panel::board::{Contact, Late, Machine};
use cloister_panel::drivers::i2c;
use linux_embedded_hal::i2cdev::core::I2CDevice;
use linux_embedded_hal::i2cdev::linux::LinuxI2CDevice;

/// What the adapter of the emulated chips is called.
pub const STUB: &str = "SMBus stub driver";
/// Where they are.
pub const LM75: u8 = 0x48;
pub const LM63: u8 = 0x4C;

/// Says what holds, or ends with what does not.
pub fn is<T: PartialEq + std::fmt::Debug>(found: T, wanted: impl Into<T>, what: &str) {
    let wanted = wanted.into();
    assert!(found == wanted, "{what}: {found:?} and not {wanted:?}");
    println!("holds: {what}");
}

pub fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    text.trim().to_owned()
}

pub fn write(path: impl AsRef<Path>, text: &str) {
    let path = path.as_ref();
    fs::write(path, text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
}

/// Where the simulation shows its lines.
pub struct Lines(PathBuf);

impl Lines {
    pub fn of_the_simulation() -> Self {
        let simulation = Path::new("/sys/kernel/config/gpio-sim/panel");
        let device = read(simulation.join("dev_name"));
        let chip = read(simulation.join("bank0/chip_name"));
        Self(Path::new("/sys/devices/platform").join(device).join(chip))
    }

    pub fn pull(&self, line: u32, to: &str) {
        write(self.0.join(format!("sim_gpio{line}/pull")), to);
    }

    pub fn values(&self) -> String {
        let value = |line| read(self.0.join(format!("sim_gpio{line}/value")));
        (0..3).map(value).collect()
    }
}

/// Sets a register of an emulated chip, before the kernel's driver has that.
pub fn set(chip: u8, register: u8, value: u8) {
    let node = i2c::node(&Machine::this(), STUB).expect("the stub's bus");
    let mut stub = LinuxI2CDevice::new(node, chip.into()).expect("its address is free");
    stub.smbus_write_byte_data(register, value).unwrap();
}

/// 25 °C.
pub fn plug_in_the_thermometer() {
    set(LM75, 0, 25);
    write(adapter().join("new_device"), "lm75 0x48");
}

/// Its fan turns with 5,400,000 / 2700 revolutions, and is measured.
pub fn plug_in_the_fan() {
    for (register, value) in [(0x46, 0x8C), (0x47, 0x0A), (0x03, 0x04)] {
        set(LM63, register, value);
    }
    write(adapter().join("new_device"), "lm63 0x4c");
}

pub fn fan_file(name: &str) -> PathBuf {
    let chips = fs::read_dir("/sys/class/hwmon").expect("chips").flatten();
    let mut chips = chips.map(|chip| chip.path());
    let chip = chips.find(|chip| read(chip.join("name")) == "lm63");
    chip.expect("the LM63").join(name)
}

pub fn adapter() -> PathBuf {
    let node = i2c::node(&Machine::this(), STUB).expect("the stub's bus");
    Path::new("/sys/bus/i2c/devices").join(node.file_name().unwrap())
}

/// Closes and opens a contact, each time while somebody waits for it.
pub async fn presses(
    contact: &mut Late<dyn Contact>,
    lines: &Lines,
    (line, closed, open): (u32, &str, &str),
    how: &str,
) {
    is(
        contact.ask(|contact| contact.is_closed()),
        Some(Ok(false)),
        &format!("{how}: line {line} is open"),
    );
    for (pull, is_closed) in [(closed, true), (open, false)] {
        let edge = async {
            // Whoever waits and is dropped loses nothing.
            let gave_up = tokio::time::timeout(Duration::from_millis(50), contact.changed()).await;
            assert!(gave_up.is_err(), "line {line} changed by itself");
            lines.pull(line, pull);
            tokio::time::timeout(Duration::from_secs(5), contact.changed()).await
        };
        is(
            edge.await.is_ok(),
            true,
            &format!("{how}: an edge of line {line} is heard"),
        );
        is(
            contact.ask(|contact| contact.is_closed()),
            Some(Ok(is_closed)),
            &format!("{how}: and its level is right"),
        );
    }
}
