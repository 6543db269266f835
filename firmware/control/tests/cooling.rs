//! The thermal law on a simulated board: a die on a heat sink with a fan, as two heat capacities and two resistances.
//!
//! The figures of the board are drawn: what holds for one alone may be luck.

use cloister_control::device::Fault;
use cloister_control::thermal::{
    Cooling, Doubt, FanFault, Law, Limits, Measured, Sample, Throttle,
};
use cloister_control::units::{Celsius, Duty, Millis, Rpm};
use proptest::prelude::*;

const LIMITS: Limits = Limits {
    fan_starts: Celsius(50.0),
    fan_full: Celsius(67.0),
    throttle: Celsius(72.0),
    critical: Celsius(78.0),
    limit: Celsius(80.0),
    soc_slows: Celsius(60.0),
    fan_least: Duty(77),
};

/// A simulated step, in seconds.
const DT: f64 = 0.1;

#[derive(Clone, Copy, Debug)]
struct Physics {
    ambient: f64,
    /// W, at rest and at full speed.
    resting: f64,
    working: f64,
    /// J/K and K/W, of the die and towards the sink.
    die: f64,
    to_sink: f64,
    /// J/K, and K/W to the air without and with a full fan.
    sink: f64,
    still_air: f64,
    full_air: f64,
}

/// Boards that their own fan can cool at full speed.
fn physics() -> impl Strategy<Value = Physics> {
    (
        20.0..33.0,
        2.0..3.5,
        7.0..10.0,
        2.0..6.0,
        0.6..1.2,
        20.0..90.0,
        8.0..11.0,
        1.8..2.4,
    )
        .prop_map(
            |(ambient, resting, working, die, to_sink, sink, still_air, full_air)| Physics {
                ambient,
                resting,
                working,
                die,
                to_sink,
                sink,
                still_air,
                full_air,
            },
        )
}

/// How a sensor lies, or the fan fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Failure {
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
const OFFSET: f64 = 30.0;

/// How a sensor shows what it measures: its noise and its steps.
#[derive(Clone, Copy, Debug)]
struct Shows {
    noise: f64,
    steps: f64,
}

const FINE: Shows = Shows {
    noise: 0.4,
    steps: 0.1,
};

#[derive(Debug)]
struct Board {
    physics: Physics,
    limits: Limits,
    has_fan: bool,
    shows: Shows,
    /// What something else takes meanwhile, in watts.
    others: f64,
    die: f64,
    sink: f64,
    /// 0 to 1.
    spin: f64,
    time: f64,
    law: Law,
    cooling: Option<Cooling>,
    failure: Failure,
    stuck_at: f64,
    hottest: f64,
    due: f64,
    noise: u32,
    duties: Vec<(f64, Duty)>,
}

impl Board {
    /// One that has rested for long.
    fn new(physics: Physics) -> Self {
        Self::with(physics, LIMITS)
    }

    fn with(physics: Physics, limits: Limits) -> Self {
        let sink = physics.ambient + physics.resting * physics.still_air;
        let die = sink + physics.resting * physics.to_sink;
        Self {
            physics,
            limits,
            has_fan: true,
            shows: FINE,
            others: 0.0,
            die,
            sink,
            spin: 0.0,
            time: 0.0,
            law: Law::new(limits),
            cooling: None,
            failure: Failure::None,
            stuck_at: 0.0,
            hottest: die,
            due: 0.0,
            noise: 1,
            duties: Vec::new(),
        }
    }

    fn fails(&mut self, failure: Failure) {
        (self.failure, self.stuck_at) = (failure, self.die);
    }

    fn cooling(&self) -> Cooling {
        self.cooling.expect("the law has run")
    }

    /// Goes on for so many seconds; each second the law is asked, or each other one at rest.
    fn run(&mut self, seconds: f64, working: bool) {
        let end = self.time + seconds;
        while self.time < end {
            if self.time >= self.due {
                self.ask(working);
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
            let p = self.physics;
            let power = match working {
                true => p.resting + (p.working - p.resting) * share,
                false => p.resting,
            } + self.others;
            let driven = match self.failure {
                Failure::Blocked | Failure::Undriven => 0.0,
                _ if !self.has_fan => 0.0,
                _ => f64::from(cooling.duty.0) / 255.0,
            };
            self.spin += (driven - self.spin) * DT / 1.5;
            let air = 1.0 / p.still_air + (1.0 / p.full_air - 1.0 / p.still_air) * self.spin;
            let flows = (self.die - self.sink) / p.to_sink;
            self.die += (power - flows) * DT / p.die;
            self.sink += (flows - (self.sink - p.ambient) * air) * DT / p.sink;
            self.hottest = self.hottest.max(self.die);
            self.time += DT;
        }
    }

    fn ask(&mut self, working: bool) {
        self.noise = self
            .noise
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        let Shows { noise, steps } = self.shows;
        let noise = (f64::from(self.noise >> 16) / 32768.0 - 1.0) * noise;
        let so = ((self.die + noise) / steps).round() * steps;
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
        let rpm = Rpm((self.spin * 5000.0) as u32);
        let sensors = [Sample {
            reading: reading.map(|degrees| Celsius(degrees as f32)),
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
                tachometer: self.has_fan.then_some(Ok(rpm)),
                soc_throttles: None,
                working,
            },
        );
        self.duties.push((self.time, cooling.duty));
        self.cooling = Some(cooling);
    }

    /// When the fan changed its direction since `from`.
    fn turns(&self, from: f64) -> Vec<f64> {
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

fn failures() -> impl Strategy<Value = Failure> {
    prop::sample::select(vec![
        Failure::None,
        Failure::Blocked,
        Failure::Undriven,
        Failure::Silent,
        Failure::Stuck,
        Failure::Falls,
        Failure::Jumps,
        Failure::Implausible,
        Failure::Offset,
    ])
}

/// The tables of boards that we ship.
fn shipped() -> Vec<Limits> {
    let tables = [
        include_str!("../../boards/raspberry-pi.toml"),
        include_str!("../../boards/raspberry-pi-5.toml"),
        include_str!("../../boards/jetson-orin.toml"),
        include_str!("../../boards/generic.toml"),
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_limit_is_never_exceeded_whatever_the_load_and_whatever_fails(
        physics in physics(),
        limits in prop::sample::select([shipped(), vec![LIMITS]].concat()),
        load in prop::collection::vec((1.0..400.0, any::<bool>()), 1..8),
        failure in failures(),
        fails_at in 0usize..8,
        comes_back in any::<bool>(),
    ) {
        let mut board = Board::with(physics, limits);
        board.run(120.0, false);
        let fails_at = if failure == Failure::Falls { 0 } else { fails_at };
        for (n, (seconds, working)) in load.into_iter().enumerate() {
            if n == fails_at && failure == Failure::Offset {
                // From the middle of work on, and a while longer.
                board.run(60.0, true);
                board.fails(failure);
                board.run(10.0, true);
            } else if n == fails_at {
                board.fails(failure);
            } else if n == fails_at + 2 && comes_back {
                board.fails(Failure::None);
            }
            board.run(seconds, working);
        }
        prop_assert!(board.hottest <= f64::from(limits.limit.0), "{:.1} °C", board.hottest);
    }

    #[test]
    fn the_fan_changes_its_direction_at_most_once_a_minute_at_steady_load(
        physics in physics(),
        before in 0.0..300.0,
        working in any::<bool>(),
    ) {
        let mut board = Board::new(physics);
        board.run(before, !working);
        // The load is steady from here on, and the answer to its step over in a minute.
        let from = board.time + 60.0;
        board.run(1800.0, working);
        let turns = board.turns(from);
        prop_assert!(turns.windows(2).all(|pair| pair[1] - pair[0] >= 60.0), "{turns:?}");
        // And it comes to rest.
        let late = turns.iter().filter(|at| **at > from + 900.0).count();
        prop_assert!(late <= 5, "{turns:?}");
    }
}

/// A Raspberry Pi 5 with its fan, about.
fn a_board() -> Board {
    Board::new(Physics {
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

#[test]
fn a_step_in_load_is_met_by_the_fan_alone() {
    let mut board = a_board();
    board.run(60.0, false);
    assert_eq!(board.cooling().throttle, Throttle::None);
    board.run(900.0, true);
    let cooling = board.cooling();
    assert_eq!((cooling.throttle, cooling.hot), (Throttle::None, false));
    assert!(
        cooling.duty > Duty::OFF && board.hottest < 67.0,
        "{cooling:?}, {:.1}",
        board.hottest
    );
    board.run(1200.0, false);
    assert_eq!(board.cooling().duty, Duty::OFF);
}

#[test]
fn a_blocked_fan_is_seen_and_the_engine_slowed_until_it_turns_again() {
    let mut board = a_board();
    board.run(300.0, true);
    board.fails(Failure::Blocked);
    board.run(20.0, true);
    let cooling = board.cooling();
    assert_eq!(cooling.fan_fault, Some(FanFault::Blocked));
    assert!(cooling.throttle >= Throttle::Light && cooling.duty == Duty::FULL);
    board.run(1200.0, true);
    assert!(
        board.cooling().hot && board.hottest <= 80.0,
        "{:.1}",
        board.hottest
    );
    board.fails(Failure::None);
    board.run(600.0, true);
    let cooling = board.cooling();
    assert_eq!(
        (cooling.fan_fault, cooling.throttle),
        (None, Throttle::None)
    );
}

/// A PC: its fans are its firmware's.
fn a_pc() -> Board {
    let mut pc = Board::new(Physics {
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

#[test]
fn a_sensor_with_coarse_steps_stays_at_one_figure_and_is_believed() {
    let shows = |noise, steps| Shows { noise, steps };
    for (mut board, shows) in [
        (a_pc(), shows(0.2, 1.0)),
        (a_board(), shows(0.2, 0.55)),
        (a_board(), shows(0.0, 1.0)),
    ] {
        board.shows = shows;
        board.run(120.0, false);
        for _ in 0..3600 {
            board.run(1.0, true);
            let cooling = board.cooling();
            assert_eq!(
                (cooling.doubts[0], cooling.throttle),
                (None, Throttle::None)
            );
        }
        // Short rests between answers, in which it hardly moves.
        for _ in 0..100 {
            board.run(3.0, false);
            board.run(40.0, true);
            assert_eq!(board.cooling().doubts[0], None);
        }
    }
}

#[test]
fn a_box_without_a_fan_answers_slowly_by_a_sensor_that_is_doubted_and_not_hot() {
    let mut board = a_pc();
    board.run(120.0, false);
    board.fails(Failure::Stuck);
    board.run(60.0, true);
    let cooling = board.cooling();
    assert_eq!(
        (cooling.doubts[0], cooling.throttle, cooling.hot),
        (Some(Doubt::Stuck), Throttle::Quarter, false)
    );
    board.fails(Failure::Silent);
    board.run(10.0, true);
    assert_eq!(board.cooling().throttle, Throttle::Stop);
}

#[test]
fn a_sensor_that_falls_as_work_begins_for_another_reason_is_believed_with_the_next_answers() {
    let mut board = a_board();
    board.run(60.0, false);
    board.others = 7.5;
    board.run(400.0, false);
    board.others = 0.0;
    board.run(25.0, true);
    assert_eq!(board.cooling().doubts[0], Some(Doubt::Falls));
    for _ in 0..3 {
        board.run(30.0, false);
        board.run(15.0, true);
    }
    assert_eq!(board.cooling().doubts[0], None);
}

#[test]
fn a_sensor_that_fell_is_believed_again_on_a_box_that_never_rests_unless_it_is_the_wrong_way_round()
{
    for lies in [false, true] {
        let mut board = a_board();
        board.run(60.0, false);
        if lies {
            board.fails(Failure::Falls);
        } else {
            board.others = 7.5;
            board.run(400.0, false);
            board.others = 0.0;
        }
        board.run(30.0, true);
        assert_eq!(board.cooling().doubts[0], Some(Doubt::Falls));
        board.run(900.0, true);
        assert_eq!(board.cooling().doubts[0], lies.then_some(Doubt::Falls));
        if lies {
            board.run(3600.0, true);
            assert_eq!(board.cooling().doubts[0], Some(Doubt::Falls));
        }
        assert!(board.hottest <= 80.0, "{:.1}", board.hottest);
    }
}

#[test]
fn a_board_that_has_cooled_below_where_it_is_slowed_answers_again() {
    let mut law = Law::new(LIMITS);
    let first = at_rest(&mut law, 0, &[die(Ok(78.5))], false);
    assert_eq!(first.throttle, Throttle::Stop);
    let later = |seconds: u64| die(Ok(69.0 + (seconds % 3) as f32 * 0.4));
    let cooling = (1..60).map(|seconds| at_rest(&mut law, seconds, &[later(seconds)], false));
    let cooling = cooling.last().expect("a minute");
    assert_eq!((cooling.throttle, cooling.hot), (Throttle::Quarter, true));
}

#[test]
fn a_sensor_that_cannot_be_true_is_named_and_believed_again_when_it_can() {
    for (failure, doubt) in [
        (Failure::Silent, Doubt::Silent(Fault::Bus)),
        (Failure::Stuck, Doubt::Stuck),
        (Failure::Falls, Doubt::Falls),
        (Failure::Implausible, Doubt::Implausible),
    ] {
        let mut board = a_board();
        board.run(120.0, false);
        board.fails(failure);
        board.run(30.0, true);
        let cooling = board.cooling();
        assert_eq!(cooling.doubts[0], Some(doubt));
        assert_eq!(
            (cooling.duty, cooling.temperature),
            (Duty::FULL, None),
            "{failure:?}"
        );
        assert!(
            cooling.throttle >= Throttle::Half && !cooling.hot,
            "{failure:?}"
        );
        board.fails(Failure::None);
        board.run(120.0, false);
        board.run(120.0, true);
        let cooling = board.cooling();
        assert_eq!(
            (cooling.doubts[0], cooling.throttle),
            (None, Throttle::None),
            "{failure:?}"
        );
    }
}

/// A sensor on the die, and one of the case.
fn die(reading: Result<f32, Fault>) -> Sample {
    Sample {
        reading: reading.map(Celsius),
        limit: LIMITS.limit,
        on_die: true,
    }
}

fn case(degrees: f32) -> Sample {
    Sample {
        reading: Ok(Celsius(degrees)),
        limit: Celsius(60.0),
        on_die: false,
    }
}

/// A board at rest, with a fan that turns, and what the law says to readings at moments, in seconds.
fn at_rest(law: &mut Law, seconds: u64, sensors: &[Sample], soc_throttles: bool) -> Cooling {
    law.update(
        Millis::seconds(seconds),
        &Measured {
            sensors,
            fan: Some(Ok(())),
            tachometer: None,
            soc_throttles: Some(soc_throttles),
            working: false,
        },
    )
}

#[test]
fn the_sensor_that_is_nearest_to_its_limit_decides() {
    let mut law = Law::new(LIMITS);
    let cooling = at_rest(&mut law, 1, &[die(Ok(60.0)), case(59.0)], false);
    assert_eq!(cooling.temperature, Some(Celsius(59.0)));
    assert_eq!(cooling.throttle, Throttle::Stop, "1 °C below its limit");
}

#[test]
fn a_case_that_is_warm_and_far_from_its_limit_turns_no_fan() {
    let mut law = Law::new(LIMITS);
    for seconds in 1..100 {
        let cooling = at_rest(&mut law, seconds, &[die(Ok(42.0)), case(35.0)], false);
        assert_eq!(
            (cooling.duty, cooling.throttle),
            (Duty::OFF, Throttle::None)
        );
    }
    let cooling = at_rest(&mut law, 200, &[die(Ok(42.0)), case(55.0)], false);
    assert_eq!(cooling.duty, Duty::FULL);
    assert!(cooling.hot && cooling.throttle >= Throttle::Light);
}

#[test]
fn a_soc_that_slows_down_while_no_sensor_is_hot_makes_them_doubted() {
    let mut law = Law::new(LIMITS);
    let sensors = [die(Ok(50.0)), case(30.0)];
    let before = at_rest(&mut law, 1, &sensors, false);
    assert_eq!(before.throttle, Throttle::None);
    let measured = Measured {
        sensors: &sensors,
        fan: None,
        tachometer: None,
        soc_throttles: Some(true),
        working: false,
    };
    let cooling = law.update(Millis::seconds(2), &measured);
    assert_eq!(cooling.doubts[..2], [Some(Doubt::Contradicted); 2]);
    assert_eq!(
        (cooling.duty, cooling.throttle),
        (Duty::FULL, Throttle::Stop),
        "without a fan"
    );
}

#[test]
fn a_kernel_that_slows_the_processor_early_makes_no_sensor_a_liar() {
    let mut law = Law::new(LIMITS);
    for seconds in 1..60 {
        let cooling = at_rest(&mut law, seconds, &[die(Ok(65.0))], true);
        assert_eq!(cooling.doubts[0], None);
        assert_eq!(
            (cooling.duty, cooling.throttle, cooling.hot),
            (Duty::FULL, Throttle::Light, true)
        );
    }
    let cooling = at_rest(&mut law, 90, &[die(Ok(60.0))], false);
    assert_eq!((cooling.throttle, cooling.hot), (Throttle::None, false));
}

#[test]
fn no_other_sensor_stands_in_for_one_on_the_die() {
    let mut law = Law::new(LIMITS);
    at_rest(&mut law, 1, &[die(Ok(75.5)), case(33.0)], false);
    for seconds in 2..200 {
        let gone = [die(Err(Fault::Absent)), case(33.0)];
        let cooling = at_rest(&mut law, seconds, &gone, false);
        assert_eq!((cooling.duty, cooling.temperature), (Duty::FULL, None));
        assert!(cooling.throttle >= Throttle::Half, "{seconds} s");
    }
    // But it is not overlooked.
    let hot = at_rest(&mut law, 200, &[die(Err(Fault::Absent)), case(59.0)], false);
    assert_eq!(hot.throttle, Throttle::Stop);
    // Another one on the die does.
    let mut law = Law::new(LIMITS);
    for seconds in 1..60 {
        let two = [die(Err(Fault::Absent)), die(Ok(50.0))];
        let cooling = at_rest(&mut law, seconds, &two, false);
        assert_eq!(cooling.temperature, Some(Celsius(50.0)));
        assert_eq!(cooling.throttle, Throttle::None);
    }
}

#[test]
fn a_sensor_that_stays_hot_though_the_engine_stands_is_stuck_and_refuses_nobody_for_ever() {
    let mut law = Law::new(LIMITS);
    let first = at_rest(&mut law, 1, &[die(Ok(79.0))], false);
    assert_eq!((first.throttle, first.hot), (Throttle::Stop, true));
    let stuck = (2..300).map(|seconds| at_rest(&mut law, seconds, &[die(Ok(79.0))], false));
    let stuck = stuck.last().expect("minutes");
    assert_eq!(stuck.doubts[0], Some(Doubt::Stuck));
    assert_eq!(
        (stuck.duty, stuck.throttle, stuck.hot),
        (Duty::FULL, Throttle::Half, false)
    );
    // One that moves is believed again, after a jump later.
    let moves = |seconds: u64| die(Ok(50.0 + (seconds % 2) as f32));
    let later = (300..700).map(|seconds| at_rest(&mut law, seconds, &[moves(seconds)], false));
    let later = later.last().expect("minutes");
    assert_eq!((later.doubts[0], later.throttle), (None, Throttle::None));
}

#[test]
fn a_jump_is_doubted_until_readings_are_near_what_was_before_or_for_minutes() {
    let mut law = Law::new(LIMITS);
    at_rest(&mut law, 1, &[die(Ok(75.5))], false);
    let noisy = |seconds: u64| die(Ok(20.0 + (seconds % 3) as f32 * 0.4));
    for seconds in 2..250 {
        let cooling = at_rest(&mut law, seconds, &[noisy(seconds)], false);
        assert_eq!(cooling.doubts[0], Some(Doubt::Jumps), "{seconds} s");
        assert!(cooling.duty == Duty::FULL && cooling.throttle >= Throttle::Half);
    }
    let mut back = law.clone();
    let back = (250..270).map(|seconds| at_rest(&mut back, seconds, &[die(Ok(62.0))], false));
    let back: Vec<_> = back.collect();
    assert_eq!(
        back[0].doubts[0],
        Some(Doubt::Jumps),
        "a jump back is one, too"
    );
    assert_eq!(back[19].temperature, Some(Celsius(62.0)));
    // It may have been the reading before that was wrong.
    let later = (250..400).map(|seconds| at_rest(&mut law, seconds, &[noisy(seconds)], false));
    assert_eq!(later.last().expect("minutes").doubts[0], None);
}

#[test]
fn a_board_without_any_sensor_is_left_to_its_firmware() {
    let mut law = Law::new(LIMITS);
    for seconds in 0..60 {
        let cooling = law.update(
            Millis::seconds(seconds),
            &Measured {
                sensors: &[],
                fan: None,
                tachometer: None,
                soc_throttles: None,
                working: true,
            },
        );
        assert_eq!((cooling.throttle, cooling.hot), (Throttle::None, false));
    }
}

#[test]
fn limits_that_cannot_be_kept_to_are_refused() {
    LIMITS.check().expect("in order");
    let wrong = [
        Limits {
            fan_full: Celsius(71.0),
            ..LIMITS
        },
        Limits {
            critical: Celsius(80.0),
            ..LIMITS
        },
        Limits {
            limit: Celsius(f32::NAN),
            ..LIMITS
        },
        Limits {
            limit: Celsius(200.0),
            ..LIMITS
        },
    ];
    assert!(wrong.iter().all(|limits| limits.check().is_err()));
}
