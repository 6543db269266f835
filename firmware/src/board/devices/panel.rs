//! What a person sees and touches.

use serde::Deserialize;

use super::Name;

/// A status light.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, tag = "driver", rename_all = "kebab-case")]
pub enum Light {
    /// An LED that the kernel drives.
    Led {
        /// Its name in `/sys/class/leds`.
        name: String,
    },
    /// One LED on a line, or three on three.
    Gpio {
        /// The label of the chip.
        chip: Name,
        /// One line, or red, green and blue.
        lines: Vec<u32>,
        /// Whether they shine when their line is low.
        #[serde(default, rename = "active-low")]
        active_low: bool,
    },
    /// An LED that understands WS2812, on the data line of an SPI bus.
    Ws2812 {
        /// The device in `/dev`; its numbers are those of the bus in the device tree and of its chip select.
        device: String,
    },
}

/// A button or a switch on a line.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Line {
    /// The label of the chip: `pinctrl-rp1`.
    pub chip: Name,
    /// The offset of the line on it; on a Raspberry Pi the number of the GPIO.
    pub line: u32,
    /// Whether it closes to ground; else it closes to the supply.
    #[serde(default = "yes")]
    pub to_ground: bool,
}

fn yes() -> bool {
    true
}

/// A display.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, tag = "driver", rename_all = "kebab-case")]
pub enum Display {
    /// An SSD1306 on an I2C bus.
    Ssd1306 {
        /// The bus, by its alias in the device tree or as its adapter is called.
        bus: String,
        /// The address, 7 bits: 0x3C, or 0x3D.
        address: u8,
        /// How many pixels it has.
        size: Size,
    },
}

/// Width and height in pixels.
#[derive(Clone, Copy, Debug, Deserialize)]
#[allow(missing_docs)]
pub enum Size {
    #[serde(rename = "128x64")]
    S128x64,
    #[serde(rename = "128x32")]
    S128x32,
}
