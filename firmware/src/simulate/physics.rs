//! What warms and cools the simulated board, as time goes on: about a Raspberry Pi 5.

use std::time::Instant;

use cloister_control::plant::{Figures, Plant, Shows};
use cloister_control::units::{Celsius, Duty, Watts};

const FIGURES: Figures = Figures {
    ambient: 23.0,
    resting: 2.6,
    working: 9.6,
    die: 4.0,
    to_sink: 1.0,
    sink: 40.0,
    still_air: 9.0,
    full_air: 2.2,
};
/// One without noise would be taken for stuck.
const SHOWS: Shows = Shows {
    noise: 0.3,
    steps: 0.1,
};

/// The board's state.
pub struct Physics {
    /// The board itself.
    pub plant: Plant,
    /// How strongly the fan is driven.
    pub duty: Duty,
    /// How much of its full work the engine does, 0 to 1.
    pub work: f32,
    at: Instant,
}

impl Default for Physics {
    fn default() -> Self {
        Self {
            plant: Plant::rested(FIGURES),
            duty: Duty::OFF,
            work: 0.0,
            at: Instant::now(),
        }
    }
}

impl Physics {
    /// Goes on until now.
    pub fn advance(&mut self, blocked: bool) {
        let seconds = self.at.elapsed().as_secs_f32().min(60.0);
        self.at = Instant::now();
        let driven = if blocked { 0 } else { self.duty.0 };
        let power = self.power();
        self.plant
            .advance(seconds, power, f32::from(driven) / 255.0);
    }

    /// As a sensor on the die has it.
    pub fn reads(&mut self) -> Celsius {
        self.plant.reads(SHOWS)
    }

    pub fn power(&self) -> Watts {
        self.plant.power(self.work)
    }
}
