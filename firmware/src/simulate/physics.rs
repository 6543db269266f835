//! What warms and cools the simulated board: a die on a heat sink, with a fan; about a Raspberry Pi 5.

use std::time::Instant;

use cloister_control::units::Duty;

/// W, at rest, and more at full speed.
const RESTING: f32 = 2.6;
const WORKING: f32 = 7.0;
/// J/K, and K/W between the two and to the air, with a still and with a full fan.
const DIE: f32 = 4.0;
const SINK: f32 = 40.0;
const TO_SINK: f32 = 1.0;
const STILL_AIR: f32 = 9.0;
const FULL_AIR: f32 = 2.2;
/// A full fan.
const FULL_RPM: f32 = 5000.0;
/// s
const SPINS_UP: f32 = 1.5;
const STEP: f32 = 0.05;

/// The board's state.
pub struct Physics {
    /// °C around it.
    pub ambient: f32,
    /// How strongly the fan is driven.
    pub duty: Duty,
    /// How much of its full work the engine does, 0 to 1.
    pub work: f32,
    die: f32,
    sink: f32,
    spin: f32,
    at: Instant,
    noise: u32,
}

impl Default for Physics {
    fn default() -> Self {
        let ambient = 23.0;
        let sink = ambient + RESTING * STILL_AIR;
        Self {
            ambient,
            duty: Duty::OFF,
            work: 0.0,
            die: sink + RESTING * TO_SINK,
            sink,
            spin: 0.0,
            at: Instant::now(),
            noise: 1,
        }
    }
}

impl Physics {
    /// Goes on until now.
    pub fn advance(&mut self, blocked: bool) {
        let mut left = self.at.elapsed().as_secs_f32().min(60.0);
        self.at = Instant::now();
        while left > 0.0 {
            let span = left.min(STEP);
            left -= span;
            let driven = if blocked {
                0.0
            } else {
                f32::from(self.duty.0) / 255.0
            };
            self.spin += (driven - self.spin) * span / SPINS_UP;
            let air = 1.0 / STILL_AIR + (1.0 / FULL_AIR - 1.0 / STILL_AIR) * self.spin;
            let flows = (self.die - self.sink) / TO_SINK;
            self.die += (self.power() - flows) * span / DIE;
            self.sink += (flows - (self.sink - self.ambient) * air) * span / SINK;
        }
    }

    /// °C
    pub fn die(&self) -> f32 {
        self.die
    }

    /// °C, as a sensor on it has it: with noise of ±0.3, in steps of 0.1. One without noise would be taken for stuck.
    pub fn reads(&mut self) -> f32 {
        self.noise = self
            .noise
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        let noise = ((self.noise >> 16) as f32 / 32768.0 - 1.0) * 0.3;
        ((self.die + noise) * 10.0).round() / 10.0
    }

    /// W
    pub fn power(&self) -> f32 {
        RESTING + WORKING * self.work
    }

    /// As the tachometer has it.
    pub fn rpm(&self) -> u32 {
        (self.spin * FULL_RPM) as u32
    }
}
