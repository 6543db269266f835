//! A board to try the laws on: a die on a heat sink with a fan, as two heat capacities and two resistances.
//!
//! In: how much the engine works, how strongly the fan is driven. Out: what the sensor on the die and the tachometer say.
//! Must never be taken for a board.

use crate::units::{Celsius, Rpm, Watts};

/// Of a full fan.
const FULL_RPM: f32 = 5000.0;
/// A fan takes so many seconds.
const SPINS_UP: f32 = 1.5;
/// The longest step, in seconds.
const STEP: f32 = 0.1;

/// What a board is like.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// °C around it.
    pub ambient: f32,
    /// W, at rest.
    pub resting: f32,
    /// W, at full work.
    pub working: f32,
    /// J/K of the die.
    pub die: f32,
    /// K/W from the die to the sink.
    pub to_sink: f32,
    /// J/K of the sink.
    pub sink: f32,
    /// K/W from the sink to the air, with a fan that stands still.
    pub still_air: f32,
    /// The same with a full one.
    pub full_air: f32,
}

/// How a sensor shows what it measures.
#[derive(Clone, Copy, Debug)]
pub struct Shows {
    /// °C, up and down.
    pub noise: f32,
    /// °C
    pub steps: f32,
}

/// A board.
#[derive(Clone, Copy, Debug)]
pub struct Plant {
    /// What it is like, which may change meanwhile.
    pub figures: Figures,
    die: f32,
    sink: f32,
    /// 0 to 1.
    spin: f32,
    noise: u32,
}

impl Plant {
    /// One that has rested for long.
    pub fn rested(figures: Figures) -> Self {
        let sink = figures.ambient + figures.resting * figures.still_air;
        Self {
            figures,
            die: sink + figures.resting * figures.to_sink,
            sink,
            spin: 0.0,
            noise: 1,
        }
    }

    /// What it takes at this share of full work.
    pub fn power(&self, work: f32) -> Watts {
        let of = &self.figures;
        Watts(of.resting + (of.working - of.resting) * work)
    }

    /// Goes on for so many seconds, at this power, with the fan driven by a share of full.
    pub fn advance(&mut self, seconds: f32, power: Watts, driven: f32) {
        let of = self.figures;
        let mut left = seconds;
        while left > 0.0 {
            let span = left.min(STEP);
            left -= span;
            self.spin += (driven - self.spin) * span / SPINS_UP;
            let air = 1.0 / of.still_air + (1.0 / of.full_air - 1.0 / of.still_air) * self.spin;
            let flows = (self.die - self.sink) / of.to_sink;
            self.die += (power.0 - flows) * span / of.die;
            self.sink += (flows - (self.sink - of.ambient) * air) * span / of.sink;
        }
    }

    /// How warm the die is.
    pub fn die(&self) -> Celsius {
        Celsius(self.die)
    }

    /// How warm a sensor on the die says that it is.
    pub fn reads(&mut self, shows: Shows) -> Celsius {
        self.noise = self
            .noise
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        let noise = ((self.noise >> 16) as f32 / 32768.0 - 1.0) * shows.noise;
        let steps = (self.die + noise) / shows.steps;
        // Without `std` nothing rounds.
        let whole = (steps + if steps < 0.0 { -0.5 } else { 0.5 }) as i32;
        Celsius(whole as f32 * shows.steps)
    }

    /// How fast the fan turns.
    pub fn rpm(&self) -> Rpm {
        Rpm((self.spin * FULL_RPM) as u32)
    }
}
