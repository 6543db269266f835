//! What holds for every board, load and failure.

use cloister_control::plant::Figures;
use proptest::prelude::*;

use crate::board::{Board, Failure, shipped};
use crate::limits::LIMITS;

/// Boards that their own fan can cool at full speed.
fn figures() -> impl Strategy<Value = Figures> {
    (
        20.0f32..33.0,
        2.0f32..3.5,
        7.0f32..10.0,
        2.0f32..6.0,
        0.6f32..1.2,
        20.0f32..90.0,
        8.0f32..11.0,
        1.8f32..2.4,
    )
        .prop_map(
            |(ambient, resting, working, die, to_sink, sink, still_air, full_air)| Figures {
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

/// One failure comes after another.
#[derive(Clone, Copy, Debug)]
struct Chain {
    first: Failure,
    lasts: f64,
    then: Failure,
}

fn chains() -> impl Strategy<Value = Chain> {
    use Failure::{Implausible, Jumps, Offset, Silent, Stuck};
    let first = prop::sample::select(vec![Silent, Stuck, Jumps, Implausible]);
    let then = prop::sample::select(vec![Silent, Stuck, Jumps, Implausible, Offset, Offset]);
    (first, 1.0..60.0, then).prop_map(|(first, lasts, then)| Chain { first, lasts, then })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_limit_is_never_exceeded_whatever_fails_after_something_else(
        figures in figures(),
        limits in prop::sample::select([shipped(), vec![LIMITS]].concat()),
        chain in prop::collection::vec(chains(), 1..3),
        warms in 60.0..400.0,
        told_late in 0.0..1.5,
        load in prop::collection::vec((1.0..400.0, any::<bool>()), 1..4),
    ) {
        let mut board = Board::with(figures, limits);
        board.told_late = told_late;
        board.run(120.0, false);
        board.run(warms, true);
        for chain in &chain {
            board.fails(chain.first);
            board.run(chain.lasts, true);
            board.fails(chain.then);
            board.run(60.0, true);
        }
        for (seconds, working) in load {
            board.run(seconds, working);
        }
        prop_assert!(board.hottest <= limits.limit.0, "{:.1} °C", board.hottest);
    }

    #[test]
    fn the_limit_is_never_exceeded_whatever_the_load_and_whatever_fails(
        figures in figures(),
        limits in prop::sample::select([shipped(), vec![LIMITS]].concat()),
        load in prop::collection::vec((1.0..400.0, any::<bool>()), 1..8),
        failure in failures(),
        fails_at in 0usize..8,
        comes_back in any::<bool>(),
        told_late in 0.0..1.5,
    ) {
        let mut board = Board::with(figures, limits);
        board.told_late = told_late;
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
        prop_assert!(board.hottest <= limits.limit.0, "{:.1} °C", board.hottest);
    }

    #[test]
    fn the_fan_changes_its_direction_at_most_once_a_minute_at_steady_load(
        figures in figures(),
        before in 0.0..300.0,
        working in any::<bool>(),
    ) {
        let mut board = Board::new(figures);
        board.run(before, !working);
        // The load is steady from here on, and the answer to its step over in a minute.
        let from = board.time + 60.0;
        board.run(1800.0, working);
        let turns = board.turns(from);
        prop_assert!(turns.windows(2).all(|pair| pair[1] - pair[0] >= 59.999), "{turns:?}");
        // And it comes to rest.
        let late = turns.iter().filter(|at| **at > from + 900.0).count();
        prop_assert!(late <= 5, "{turns:?}");
    }
}
