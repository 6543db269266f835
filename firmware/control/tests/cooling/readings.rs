//! What the law does with readings.

use cloister_control::device::Fault;
use cloister_control::thermal::{Cooling, Doubt, Law, Limits, Measured, Sample, Throttle};
use cloister_control::units::{Celsius, Duty, Millis};

use crate::limits::LIMITS;

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
fn the_sensor_that_is_nearest_to_its_limit_decides() {
    let mut law = Law::new(LIMITS);
    let cooling = at_rest(&mut law, 1, &[die(Ok(60.0)), case(59.0)], false);
    assert_eq!(cooling.temperature, Some(Celsius(59.0)));
    assert_eq!(cooling.throttle, Throttle::Stop, "1 °C below its limit");
}

/// It jumps up for a moment, and is low from then on.
#[test]
fn a_die_that_is_far_lower_after_a_jump_under_work_is_not_believed_for_an_hour() {
    let mut law = Law::new(LIMITS);
    for second in 0..3000 {
        let degrees = match second {
            0..100 => 60.0,
            100 => 105.0,
            _ => 30.0,
        };
        let measured = Measured {
            sensors: &[die(Ok(degrees + (second % 3) as f32 * 0.4))],
            fan: Some(Ok(())),
            tachometer: None,
            soc_throttles: None,
            working: true,
        };
        let cooling = law.update(Millis::seconds(1 + second), &measured);
        let doubt = (second >= 100).then_some(Doubt::Jumps);
        assert_eq!(cooling.doubts[0], doubt, "{second} s");
    }
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
