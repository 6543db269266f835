//! The likeliest tokens of a row of logits, in one pass over the row.

use std::cmp::Ordering;

/// How many logits are compared with the bar at once: few enough for registers.
const LANES: usize = 32;

/// Indices and values of the `k` largest of `logits`, largest first; the lower index first among
/// equals. NaN is never among them.
pub fn top_k(logits: &[f32], k: usize) -> Vec<(usize, f32)> {
    let k = k.min(logits.len());
    if k == 0 {
        return Vec::new();
    }
    let mut best = Vec::new();
    // What a logit must exceed to matter: the smallest of `k` that were found.
    let mut bar = f32::NEG_INFINITY;
    for (chunk, lanes) in logits.chunks(LANES).enumerate() {
        // Without a branch for each, so that it is a few vector instructions.
        if !lanes.iter().fold(false, |any, &logit| any | (logit > bar)) {
            continue;
        }
        for (i, &logit) in lanes.iter().enumerate() {
            if logit > bar {
                best.push((chunk * LANES + i, logit));
            }
        }
        if best.len() > 3 * k {
            best.select_nth_unstable_by(k - 1, likelier);
            best.truncate(k);
            bar = best[k - 1].1;
        }
    }
    best.sort_unstable_by(likelier);
    best.truncate(k);
    best
}

fn likelier(a: &(usize, f32), b: &(usize, f32)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers with many ties, the same each time.
    fn logits(n: usize) -> Vec<f32> {
        (0..n as u64)
            .map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 52) as f32 / 16.0 - 100.0)
            .collect()
    }

    #[test]
    fn it_is_the_beginning_of_the_sorted_row() {
        for n in [1, 31, 32, 33, 1_000, 50_000] {
            let logits = logits(n);
            let mut sorted: Vec<(usize, f32)> = logits.iter().copied().enumerate().collect();
            sorted.sort_by(likelier);
            for k in [1, 2, 40, 1_000] {
                let expected = &sorted[..k.min(n)];
                assert_eq!(top_k(&logits, k), expected, "{k} of {n}");
            }
        }
    }

    #[test]
    fn a_rising_row_moves_the_bar_each_time() {
        let rising: Vec<f32> = (0..5_000).map(|i| i as f32).collect();
        let found: Vec<usize> = top_k(&rising, 3).into_iter().map(|(i, _)| i).collect();
        assert_eq!(found, [4_999, 4_998, 4_997]);
    }

    #[test]
    fn what_is_not_a_number_is_no_candidate() {
        let row = [f32::NAN, 1.0, f32::NEG_INFINITY, f32::NAN, 2.0];
        assert_eq!(top_k(&row, 4), [(4, 2.0), (1, 1.0)]);
    }
}
