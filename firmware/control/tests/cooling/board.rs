//! A simulated board under the law, and how it fails.

use cloister_control::device::Fault;
use cloister_control::plant::{Figures, Plant, Shows};
use cloister_control::thermal::{Cooling, Law, Limits, Measured, Sample, Throttle};
use cloister_control::units::{Celsius, Duty, Millis, Rpm, Watts};

use crate::limits::LIMITS;

/// A simulated step, in seconds.
const DT: f64 = 0.1;

/// How a sensor lies, or the fan fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Failure {
    None,
    Blocked,
    Undriven,
    Silent,
    Stuck,
    /// It shows the other way round what the temperature does: from a rest on, as in the middle of work it cannot be
    /// told from one that cools.
    Falls,
    Jumps,
    Implausible,
    /// It shows so much less from the middle of work on, and follows the temperature.
    Offset,
}

/// Less would be within what a die may do.
const OFFSET: f32 = 30.0;

const FINE: Shows = Shows {
    noise: 0.4,
    steps: 0.1,
};

#[derive(Clone, Debug)]
pub struct Board {
    pub plant: Plant,
    limits: Limits,
    pub has_fan: bool,
    /// The share of full from which a fan that stands still starts.
    pub fan_starts_at: f32,
    pub has_tachometer: bool,
    pub shows: Shows,
    /// What something else takes meanwhile, in watts.
    pub others: f32,
    /// How much later than it begins, or ends, the law hears of work, in seconds.
    pub told_late: f64,
    /// Whether it worked when that was looked at last, and since when it does what it did not before.
    works: (bool, f64),
    pub time: f64,
    law: Law,
    cooling: Option<Cooling>,
    failure: Failure,
    pub stuck_at: f32,
    pub hottest: f32,
    due: f64,
    duties: Vec<(f64, Duty)>,
}

impl Board {
    /// One that has rested for long.
    pub fn new(figures: Figures) -> Self {
        Self::with(figures, LIMITS)
    }

    pub fn with(figures: Figures, limits: Limits) -> Self {
        let plant = Plant::rested(figures);
        Self {
            plant,
            limits,
            has_fan: true,
            fan_starts_at: 0.0,
            has_tachometer: true,
            shows: FINE,
            others: 0.0,
            told_late: 0.0,
            works: (false, f64::NEG_INFINITY),
            time: 0.0,
            law: Law::new(limits),
            cooling: None,
            failure: Failure::None,
            stuck_at: 0.0,
            hottest: plant.die().0,
            due: 0.0,
            duties: Vec::new(),
        }
    }

    pub fn fails(&mut self, failure: Failure) {
        (self.failure, self.stuck_at) = (failure, self.plant.die().0);
    }

    pub fn cooling(&self) -> Cooling {
        self.cooling.expect("the law has run")
    }

    /// Goes on for so many seconds; each second the law is asked, or each other one at rest.
    pub fn run(&mut self, seconds: f64, working: bool) {
        if working != self.works.0 {
            self.works = (working, self.time);
        }
        let end = self.time + seconds;
        while self.time < end {
            if self.time >= self.due {
                let told = self.time - self.works.1 >= self.told_late;
                self.ask(working == told);
                self.due = self.time + if working { 1.0 } else { 2.0 };
            }
            let cooling = self.cooling();
            let share = match cooling.throttle {
                Throttle::None => 1.0,
                Throttle::Light => 0.75,
                Throttle::Half => 0.5,
                Throttle::Quarter => 0.25,
                Throttle::Stop => 0.0,
            };
            let power = self.plant.power(if working { share } else { 0.0 });
            let driven = match self.failure {
                Failure::Blocked | Failure::Undriven => 0.0,
                _ if !self.has_fan => 0.0,
                _ => f32::from(cooling.duty.0) / 255.0,
            };
            let stands = self.plant.rpm() < Rpm(100);
            let driven = if stands && driven < self.fan_starts_at {
                0.0
            } else {
                driven
            };
            let power = Watts(power.0 + self.others);
            self.plant.advance(DT as f32, power, driven);
            self.hottest = self.hottest.max(self.plant.die().0);
            self.time += DT;
        }
    }

    fn ask(&mut self, working: bool) {
        let so = self.plant.reads(self.shows).0;
        let reading = match self.failure {
            Failure::None | Failure::Blocked | Failure::Undriven => Ok(so),
            Failure::Silent => Err(Fault::Bus),
            Failure::Stuck => Ok(self.stuck_at),
            Failure::Falls => Ok(2.0 * self.stuck_at - so),
            Failure::Jumps => Ok(if (self.time as u64) % 4 < 2 {
                20.0
            } else {
                75.0
            }),
            Failure::Implausible => Ok(-127.0),
            Failure::Offset => Ok(so - OFFSET),
        };
        let sensors = [Sample {
            reading: reading.map(Celsius),
            limit: self.limits.limit,
            on_die: true,
        }];
        let cooling = self.law.update(
            Millis((self.time * 1000.0).round() as u64),
            &Measured {
                sensors: &sensors,
                fan: self.has_fan.then_some(match self.failure {
                    Failure::Undriven => Err(Fault::Denied),
                    _ => Ok(()),
                }),
                tachometer: (self.has_fan && self.has_tachometer).then(|| Ok(self.plant.rpm())),
                soc_throttles: None,
                working,
            },
        );
        self.duties.push((self.time, cooling.duty));
        self.cooling = Some(cooling);
    }

    /// When the fan changed its direction since `from`.
    pub fn turns(&self, from: f64) -> Vec<f64> {
        let mut rising = None;
        let mut turns = Vec::new();
        for pair in self.duties.windows(2) {
            let ((_, before), (at, after)) = (pair[0], pair[1]);
            if before != after {
                let rises = after > before;
                if rising.is_some_and(|was| was != rises) && at >= from {
                    turns.push(at);
                }
                rising = Some(rises);
            }
        }
        turns
    }
}

/// A Raspberry Pi 5 with its fan, about.
pub fn a_board() -> Board {
    Board::new(Figures {
        ambient: 25.0,
        resting: 2.2,
        working: 9.0,
        die: 4.0,
        to_sink: 1.0,
        sink: 50.0,
        still_air: 7.0,
        full_air: 2.0,
    })
}

/// A PC: its fans are its firmware's.
pub fn a_pc() -> Board {
    let mut pc = Board::new(Figures {
        ambient: 25.0,
        resting: 8.0,
        working: 30.0,
        die: 20.0,
        to_sink: 0.3,
        sink: 400.0,
        still_air: 1.0,
        full_air: 1.0,
    });
    pc.has_fan = false;
    pc
}

/// A PC whose die has leapt by so many °C within two seconds of work.
pub fn a_pc_that_leaps(by: f32) -> Board {
    let generic = *shipped().last().expect("the last is generic");
    let mut pc = Board::with(
        Figures {
            ambient: 25.0,
            resting: 10.0,
            working: 90.0,
            die: 1.0,
            to_sink: by / 80.0,
            sink: 2000.0,
            still_air: 0.1,
            full_air: 0.1,
        },
        generic,
    );
    pc.has_fan = false;
    pc
}

/// The tables of boards that we ship.
pub fn shipped() -> Vec<Limits> {
    let tables = [
        include_str!("../../../boards/raspberry-pi.toml"),
        include_str!("../../../boards/raspberry-pi-5.toml"),
        include_str!("../../../boards/jetson-orin.toml"),
        include_str!("../../../boards/generic.toml"),
    ];
    let limits = tables.map(|table| {
        let table: toml::Table = table.parse().expect("it is TOML");
        let limits = table["limits"].as_table().expect("limits");
        let number = |name: &str| {
            let value = &limits[name];
            let number = value.as_float();
            number
                .or(value.as_integer().map(|whole| whole as f64))
                .expect("a number")
        };
        let celsius = |name: &str| Celsius(number(name) as f32);
        Limits {
            fan_starts: celsius("fan-starts"),
            fan_full: celsius("fan-full"),
            throttle: celsius("throttle"),
            critical: celsius("critical"),
            limit: celsius("limit"),
            soc_slows: celsius("soc-slows"),
            fan_least: Duty::share(0.3),
        }
    });
    limits.into()
}
