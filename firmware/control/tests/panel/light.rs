//! The patterns of the light.

use cloister_control::Shown;
use cloister_control::light::{Rgb, pattern};
use cloister_control::units::Millis;

/// A rhythm as who sees no colours takes it in: flashes in a period, the period, and the share of it that is lit.
fn rhythm(shown: Shown) -> (usize, u64, f32) {
    let parts = pattern(shown).rhythm;
    let total = |first: usize| {
        parts
            .iter()
            .skip(first)
            .step_by(2)
            .map(|part| u64::from(*part))
            .sum::<u64>()
    };
    let (lit, dark) = (total(0), total(1));
    (
        parts.len() / 2,
        lit + dark,
        lit as f32 / (lit + dark) as f32,
    )
}

#[test]
fn the_states_are_told_apart_without_colour() {
    for (n, a) in Shown::ALL.into_iter().enumerate() {
        for b in Shown::ALL.into_iter().skip(n + 1) {
            let ((flashes_a, period_a, lit_a), (flashes_b, period_b, lit_b)) =
                (rhythm(a), rhythm(b));
            let slower = period_a.max(period_b) as f32 / period_a.min(period_b) as f32;
            let differs = flashes_a != flashes_b || slower >= 2.0 || (lit_a - lit_b).abs() >= 0.3;
            assert!(differs, "{a:?} and {b:?}");
        }
    }
}

#[test]
fn no_pattern_flashes_more_than_three_times_in_a_second() {
    for shown in Shown::ALL {
        let lit = |at: u64| pattern(shown).at(Millis(at)).0 != Rgb::BLACK;
        let begins = (1..20_000u64)
            .filter(|at| lit(*at) && !lit(at - 1))
            .collect::<Vec<_>>();
        assert!(
            begins.windows(4).all(|of| of[3] - of[0] >= 1000),
            "{shown:?}"
        );
    }
}
