//! What the law does on a simulated board.

use cloister_control::device::Fault;
use cloister_control::plant::{Figures, Shows};
use cloister_control::thermal::{Doubt, FanFault, Throttle};
use cloister_control::units::Duty;

use crate::board::{Board, Failure, a_board, a_pc, a_pc_that_leaps, shipped};

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

#[test]
fn a_fan_that_starts_only_at_full_is_started_so_and_is_not_called_blocked() {
    for has_tachometer in [true, false] {
        let mut board = a_board();
        (board.fan_starts_at, board.has_tachometer) = (0.9, has_tachometer);
        for _ in 0..8 {
            for (seconds, working) in [(400, true), (900, false)] {
                for _ in 0..seconds {
                    board.run(1.0, working);
                    let cooling = board.cooling();
                    assert_eq!(
                        (cooling.fan_fault, cooling.throttle),
                        (None, Throttle::None)
                    );
                }
                let turns = board.plant.rpm().0 > 500;
                assert_eq!(turns, board.cooling().duty > Duty::OFF);
            }
        }
    }
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
    board.others = 9.5;
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
            board.others = 9.5;
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
fn a_sensor_that_was_silent_under_work_and_comes_back_far_lower_is_not_believed() {
    for (failure, seconds) in [
        (Failure::Silent, 8.0),
        (Failure::Silent, 120.0),
        (Failure::Implausible, 8.0),
    ] {
        let mut board = a_board();
        board.run(60.0, false);
        board.run(300.0, true);
        board.fails(failure);
        board.run(seconds, true);
        let mut lies = board.clone();
        lies.fails(Failure::Offset);
        lies.run(1200.0, true);
        let cooling = lies.cooling();
        assert_eq!(cooling.doubts[0], Some(Doubt::Jumps));
        assert_eq!((cooling.duty, cooling.temperature), (Duty::FULL, None));
        // One that is as it was is.
        board.fails(Failure::None);
        board.run(12.0, true);
        assert_eq!(board.cooling().doubts[0], None, "{failure:?}, {seconds} s");
    }
    // At rest it may well have cooled.
    let mut board = a_board();
    board.run(60.0, false);
    board.run(300.0, true);
    board.fails(Failure::Silent);
    board.run(300.0, false);
    board.fails(Failure::None);
    board.run(14.0, false);
    assert_eq!(board.cooling().doubts[0], None);
}

#[test]
fn a_sensor_the_wrong_way_round_is_not_believed_because_the_fan_cools_the_die_under_work() {
    let mut board = Board::with(
        Figures {
            ambient: 20.0,
            resting: 2.0,
            working: 7.0,
            die: 2.0,
            to_sink: 0.6,
            sink: 20.0,
            still_air: 10.3,
            full_air: 1.8,
        },
        shipped()[0],
    );
    board.run(120.0, false);
    board.fails(Failure::Falls);
    board.run(45.0, true);
    for rest in [22.0, 11.0, 40.0] {
        board.run(rest, false);
        board.run(500.0, true);
        assert_eq!(board.cooling().doubts[0], Some(Doubt::Falls));
    }
}

#[test]
fn a_die_that_leaps_with_work_is_believed_however_late_that_is_told() {
    for leap in [25.0, 32.0] {
        for told_late in [0.0, 0.7, 1.5] {
            let mut pc = a_pc_that_leaps(leap);
            pc.told_late = told_late;
            pc.run(60.3, false);
            for answer in 0..40 {
                // At another moment between two readings each time.
                let working = answer % 2 == 0;
                pc.run(20.0 + 0.13 * f64::from(answer), working);
                let cooling = pc.cooling();
                let case =
                    format!("{leap} °C, told {told_late} s late, answer {answer}: {cooling:?}");
                assert_eq!(cooling.doubts[0], None, "{case}");
                assert!(
                    told_late > 0.0 || cooling.throttle == Throttle::None,
                    "{case}"
                );
            }
        }
    }
}

#[test]
fn a_die_that_leaps_with_the_work_of_others_is_believed() {
    let mut pc = a_pc_that_leaps(30.0);
    pc.run(60.0, false);
    for _ in 0..10 {
        pc.others = 80.0;
        pc.run(20.0, false);
        assert_eq!(pc.cooling().doubts[0], None);
        pc.others = 0.0;
        pc.run(20.0, false);
        assert_eq!(pc.cooling().doubts[0], None);
    }
}

#[test]
fn a_stuck_sensor_is_no_other_one_after_a_silence() {
    let mut board = a_board();
    board.shows = Shows {
        noise: 0.0,
        steps: 1.0,
    };
    board.run(120.0, false);
    board.fails(Failure::Stuck);
    board.run(30.0, true);
    assert_eq!(board.cooling().doubts[0], Some(Doubt::Stuck));
    let at = board.stuck_at;
    board.fails(Failure::Silent);
    board.run(3.0, true);
    board.fails(Failure::Stuck);
    board.stuck_at = at;
    board.run(60.0, true);
    assert_eq!(board.cooling().doubts[0], Some(Doubt::Stuck));
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
