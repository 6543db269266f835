//! A small OLED display on an I2C bus: SSD1306, 128 pixels wide, 64 or 32 high.
//!
//! In: lines of text. Out: the same, in letters of 6 by 10 pixels. What has not changed is not sent: a whole picture
//! takes 0.1 s on a bus of 100 kHz.

use std::cell::Cell;
use std::rc::Rc;

use cloister_control::device::Fault;
use embedded_graphics::framebuffer::{Framebuffer, buffer_size};
use embedded_graphics::image::GetPixel;
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::iso_8859_1::FONT_6X10;
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::pixelcolor::raw::{LittleEndian, RawU1};
use embedded_graphics::prelude::*;
use embedded_graphics::text::{Baseline, Text};
use embedded_hal::i2c::{ErrorType, I2c, Operation};
use ssd1306::I2CDisplayInterface;
use ssd1306::mode::{BufferedGraphicsMode, DisplayConfig};
use ssd1306::prelude::{Brightness, DisplayRotation, I2CInterface};
use ssd1306::size::DisplaySize;

use super::i2c::meaning;
use crate::board::{Display, Screen};

const WIDTH: usize = 128;
const HEIGHT: usize = 64;
/// A line's height, and a letter's width.
const LINE: usize = 10;
const LETTER: usize = 6;
/// By how far a screen can be moved.
const MOVES: usize = 2;

type Picture = Framebuffer<
    BinaryColor,
    RawU1,
    LittleEndian,
    WIDTH,
    HEIGHT,
    { buffer_size::<BinaryColor>(WIDTH, HEIGHT) },
>;

/// The picture of a screen.
fn picture(screen: &Screen) -> Picture {
    let mut picture = Picture::new();
    let style = MonoTextStyle::new(&FONT_6X10, BinaryColor::On);
    let (right, down) = screen.moved;
    for (n, line) in screen.lines.iter().enumerate() {
        let at = Point::new(right.into(), i32::from(down) + (n * LINE) as i32);
        // Nothing can go wrong in memory, and what is outside is left out.
        let _ = Text::with_baseline(line, at, style, Baseline::Top).draw(&mut picture);
    }
    picture
}

/// A display.
pub struct Ssd1306<B: I2c, S: DisplaySize> {
    device: ssd1306::Ssd1306<I2CInterface<Heard<B>>, S, BufferedGraphicsMode<S>>,
    fault: Rc<Cell<Fault>>,
    state: State,
}

enum State {
    /// Nobody knows: it was not asked yet, or failed, and may have been without power.
    Unknown,
    Dark,
    Shows(Box<Picture>),
}

impl<B: I2c, S: DisplaySize> Ssd1306<B, S> {
    /// Its [`Display::size`].
    pub const CHARACTERS: (usize, usize) = (
        (S::WIDTH as usize - MOVES) / LETTER,
        (S::HEIGHT as usize - MOVES) / LINE,
    );

    /// At this address: 0x3C or 0x3D.
    pub fn new(bus: B, address: u8, size: S) -> Self {
        let fault = Rc::new(Cell::new(Fault::Bus));
        let heard = Heard {
            bus,
            fault: Rc::clone(&fault),
        };
        let interface = I2CDisplayInterface::new_custom_address(heard, address);
        let device = ssd1306::Ssd1306::new(interface, size, DisplayRotation::Rotate0);
        Self {
            device: device.into_buffered_graphics_mode(),
            fault,
            state: State::Unknown,
        }
    }

    fn wake(&mut self) -> Result<(), display_interface::DisplayError> {
        self.device.init()?;
        // It is read from near by, and lasts longer so.
        self.device.set_brightness(Brightness::DIM)?;
        self.device.clear_buffer();
        self.device.flush()?;
        self.state = State::Shows(Box::new(Picture::new()));
        Ok(())
    }

    fn turn(&mut self, screen: Option<&Screen>) -> Result<(), display_interface::DisplayError> {
        if matches!(self.state, State::Unknown) {
            self.wake()?;
        }
        let Some(screen) = screen else {
            self.device.set_display_on(false)?;
            self.state = State::Dark;
            return Ok(());
        };
        if matches!(self.state, State::Dark) {
            // Its memory was kept, and is written anew all the same: it may have lost it in the dark.
            self.wake()?;
        }
        let new = picture(screen);
        if let State::Shows(old) = &self.state {
            for (x, y) in (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x, y))) {
                let at = Point::new(x as i32, y as i32);
                if old.pixel(at) != new.pixel(at) {
                    let lit = new.pixel(at) == Some(BinaryColor::On);
                    self.device.set_pixel(x as u32, y as u32, lit);
                }
            }
        }
        self.device.flush()?;
        self.state = State::Shows(Box::new(new));
        Ok(())
    }
}

impl<B: I2c, S: DisplaySize> Display for Ssd1306<B, S> {
    fn size(&self) -> (usize, usize) {
        Self::CHARACTERS
    }

    fn show(&mut self, screen: Option<&Screen>) -> Result<(), Fault> {
        let shown = self.turn(screen);
        shown.map_err(|_| {
            self.state = State::Unknown;
            self.fault.get()
        })
    }
}

impl<B: I2c, S: DisplaySize> Drop for Ssd1306<B, S> {
    fn drop(&mut self) {
        if matches!(self.state, State::Shows(_)) {
            let _ = self.show(None);
        }
    }
}

/// A bus whose errors are kept: the layer above has one word for all of them.
struct Heard<B> {
    bus: B,
    fault: Rc<Cell<Fault>>,
}

impl<B: ErrorType> ErrorType for Heard<B> {
    type Error = B::Error;
}

impl<B: I2c> I2c for Heard<B> {
    fn write(&mut self, address: u8, bytes: &[u8]) -> Result<(), Self::Error> {
        let written = self.bus.write(address, bytes);
        written.inspect_err(|error| self.fault.set(meaning(error)))
    }

    fn transaction(
        &mut self,
        address: u8,
        operations: &mut [Operation<'_>],
    ) -> Result<(), Self::Error> {
        let done = self.bus.transaction(address, operations);
        done.inspect_err(|error| self.fault.set(meaning(error)))
    }
}

#[cfg(test)]
mod tests;
