//! An LED whose colour is sent to it: WS2812 and those that understand the same, on the data line of an SPI bus.
//!
//! In: a device of spidev. Out: light. Four bits on the bus are one bit of a colour: what makes it a 1 or a 0 is how long
//! the line is high, so that the bus has to be fast enough, and all of it has to go out without a pause.

use cloister_control::device::{Fault, StatusLight};
use cloister_control::light::Rgb;
use embedded_hal::spi::SpiBus;
use linux_embedded_hal::SpidevBus;
use linux_embedded_hal::spidev::{SpiModeFlags, SpidevOptions};
use smart_leds_trait::{RGB8, SmartLedsWrite};
use ws2812_spi::prerendered;

use crate::board::Machine;
use cloister_sysfs::fault;

/// A bit of 1.05 µs, high for 0.26 or 0.79 µs.
const HERTZ: u32 = 3_800_000;
/// One LED's 12 bytes, and the silence before and after it by which it knows that this is all.
const BYTES: usize = 12 + 2 * 140;

/// One LED.
pub struct Ws2812<B> {
    bus: B,
}

impl Ws2812<SpidevBus> {
    /// On a device of spidev, such as `spidev0.0`, whose bus nothing else may use.
    ///
    /// # Errors
    /// There is none, or it cannot go so fast.
    pub fn open(machine: &Machine, device: &str) -> Result<Self, Fault> {
        let at = machine.path("/dev").join(device);
        let mut device = linux_embedded_hal::spidev::Spidev::open(at).map_err(|e| fault(&e))?;
        let options = SpidevOptions::new()
            .bits_per_word(8)
            .max_speed_hz(HERTZ)
            .mode(SpiModeFlags::SPI_MODE_0)
            .build();
        device.configure(&options).map_err(|error| fault(&error))?;
        Ok(Self::on(SpidevBus(device)))
    }
}

impl<B: SpiBus> Ws2812<B> {
    /// On a bus that runs at 2 to 3.8 MHz.
    pub fn on(bus: B) -> Self {
        Self { bus }
    }
}

impl<B: SpiBus> StatusLight for Ws2812<B> {
    fn set(&mut self, colour: Rgb) -> Result<(), Fault> {
        let mut rendered = [0; BYTES];
        let mut led = prerendered::Ws2812::new(&mut self.bus, &mut rendered);
        let colour = RGB8::new(colour.red, colour.green, colour.blue);
        led.write([colour]).map_err(|_| Fault::Bus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embedded_hal_mock::eh1::spi::{Mock, Transaction};

    #[test]
    fn a_colour_is_one_transfer_of_green_red_and_blue_between_silences() {
        let silence = [0; 140];
        let green = [0xEE, 0xEE, 0xEE, 0xEE];
        let red = [0x88, 0x88, 0x88, 0x8E];
        let blue = [0xE8, 0x88, 0x88, 0x88];
        let sent = [&silence[..], &green, &red, &blue, &silence].concat();
        let mut bus = Mock::new(&[Transaction::write_vec(sent)]);
        let mut led = Ws2812::on(&mut bus);
        led.set(Rgb::new(1, 255, 128)).unwrap();
        bus.done();
    }

    #[test]
    fn a_bus_that_fails_is_a_fault() {
        struct Broken;
        impl embedded_hal::spi::ErrorType for Broken {
            type Error = embedded_hal::spi::ErrorKind;
        }
        impl SpiBus for Broken {
            fn read(&mut self, _: &mut [u8]) -> Result<(), Self::Error> {
                unreachable!("nothing is read")
            }
            fn write(&mut self, _: &[u8]) -> Result<(), Self::Error> {
                Err(embedded_hal::spi::ErrorKind::Other)
            }
            fn transfer(&mut self, _: &mut [u8], _: &[u8]) -> Result<(), Self::Error> {
                unreachable!("nothing is read")
            }
            fn transfer_in_place(&mut self, _: &mut [u8]) -> Result<(), Self::Error> {
                unreachable!("nothing is read")
            }
            fn flush(&mut self) -> Result<(), Self::Error> {
                Ok(())
            }
        }
        assert_eq!(Ws2812::on(Broken).set(Rgb::BLACK), Err(Fault::Bus));
    }

    #[test]
    fn a_device_that_is_not_there_is_absent() {
        let machine = Machine::below("/nowhere");
        let opened = Ws2812::open(&machine, "spidev0.0").err();
        assert_eq!(opened, Some(Fault::Absent));
    }
}
