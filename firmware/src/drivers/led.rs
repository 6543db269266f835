//! LEDs that the kernel drives: its LED class
//! (<https://docs.kernel.org/leds/leds-class.html>, <https://docs.kernel.org/leds/leds-class-multicolor.html>).
//!
//! In: an LED by its name, such as `ACT`. Out: light, in colours where it has them. What the kernel showed with it before
//! it shows again when nobody uses it.

use std::path::PathBuf;

use cloister_control::device::{Fault, StatusLight};
use cloister_control::light::Rgb;

use crate::board::Machine;
use cloister_sysfs::{class, fault};

/// One LED.
pub struct Led {
    at: PathBuf,
    /// By what the kernel lit it before.
    trigger: Option<String>,
    used: bool,
}

impl Led {
    /// Of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn of(machine: &Machine, name: &str) -> Result<Self, Fault> {
        let at = machine.path("/sys/class/leds").join(name);
        let triggers = class::text(&at.join("trigger")).unwrap_or_default();
        let between = |text: &str| Some(text.split_once('[')?.1.split_once(']')?.0.to_owned());
        let led = Self {
            at,
            trigger: between(&triggers).filter(|trigger| trigger != "none"),
            used: false,
        };
        led.number("max_brightness").map(|_| led)
    }

    fn text(&self, file: &str) -> Result<String, Fault> {
        class::text(&self.at.join(file)).map_err(|error| fault(&error))
    }

    fn number(&self, file: &str) -> Result<u32, Fault> {
        self.text(file)?.parse().map_err(|_| Fault::Nonsense)
    }

    fn write(&self, file: &str, text: &str) -> Result<(), Fault> {
        class::write(&self.at.join(file), text).map_err(|error| fault(&error))
    }
}

impl StatusLight for Led {
    fn set(&mut self, colour: Rgb) -> Result<(), Fault> {
        self.used = true;
        if self.trigger.is_some() {
            self.write("trigger", "none")?;
        }
        let full = self.number("max_brightness")?;
        if colour.is_lit()
            && let Ok(order) = self.text("multi_index")
        {
            let parts = order.split_whitespace().map(|part| match part {
                "red" => colour.red,
                "green" => colour.green,
                "blue" => colour.blue,
                _ => 0,
            });
            // Each is a share of the brightness that is written last.
            let shares = parts.map(|part| (u32::from(part) * full / 255).to_string());
            self.write("multi_intensity", &shares.collect::<Vec<_>>().join(" "))?;
        }
        let brightness = if colour.is_lit() { full } else { 0 };
        self.write("brightness", &brightness.to_string())
    }
}

impl Drop for Led {
    fn drop(&mut self) {
        if !self.used {
            return;
        }
        let _ = self.set(Rgb::BLACK);
        if let Some(trigger) = &self.trigger {
            let _ = self.write("trigger", trigger);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloister_sysfs::made::machine;

    fn says(machine: &Machine, path: &str) -> String {
        class::text(&machine.path(path)).unwrap()
    }

    #[test]
    fn a_led_shines_for_every_colour_and_is_given_back_to_the_kernel() {
        let (_root, machine) = machine(&[
            (
                "/sys/class/leds/ACT/trigger",
                "none usb-gadget [mmc0] timer",
            ),
            ("/sys/class/leds/ACT/max_brightness", "255"),
            ("/sys/class/leds/ACT/brightness", "0"),
        ]);
        let mut led = Led::of(&machine, "ACT").unwrap();
        led.set(Rgb::new(0, 0, 90)).unwrap();
        assert_eq!(says(&machine, "/sys/class/leds/ACT/brightness"), "255");
        assert_eq!(says(&machine, "/sys/class/leds/ACT/trigger"), "none");
        led.set(Rgb::BLACK).unwrap();
        assert_eq!(says(&machine, "/sys/class/leds/ACT/brightness"), "0");
        drop(led);
        assert_eq!(says(&machine, "/sys/class/leds/ACT/trigger"), "mmc0");
        assert_eq!(Led::of(&machine, "PWR").err(), Some(Fault::Absent));
    }

    #[test]
    fn a_led_of_several_colours_mixes_them_in_its_own_order() {
        let (_root, machine) = machine(&[
            ("/sys/class/leds/panel/max_brightness", "100"),
            ("/sys/class/leds/panel/brightness", "0"),
            ("/sys/class/leds/panel/multi_index", "green white red blue"),
            ("/sys/class/leds/panel/multi_intensity", "0 0 0 0"),
        ]);
        let mut led = Led::of(&machine, "panel").unwrap();
        led.set(Rgb::new(255, 51, 0)).unwrap();
        let mixed = says(&machine, "/sys/class/leds/panel/multi_intensity");
        assert_eq!(mixed, "20 0 100 0");
        assert_eq!(says(&machine, "/sys/class/leds/panel/brightness"), "100");
    }
}
