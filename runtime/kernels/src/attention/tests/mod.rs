//! Each instruction set against the definition in double precision; a query alone against the same beside others.

mod case;

use proptest::prelude::*;

use super::cache::Elements;
use crate::simd::Simd;
use case::{Case, MINUS_INFINITY, ZERO, row_bytes};

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

const ELEMENTS: [Elements; 2] = [Elements::F16, Elements::Q8_0];

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn it_is_what_the_definition_says(
        seed in any::<u64>(),
        tokens in prop_oneof![1usize..10, 20usize..40],
        group in 1usize..9,
        kv_heads in 1usize..3,
        streams in 1usize..3,
        keys in prop_oneof![1usize..40, 250usize..260, 500usize..800],
        key_width in 1usize..10,
        value_width in 1usize..10,
        which in 0usize..4,
    ) {
        let elements = [ELEMENTS[which % 2], ELEMENTS[which / 2]];
        let width = |elements, some: usize| match elements {
            Elements::F16 => some * 16,
            Elements::Q8_0 => some.div_ceil(2) * 32,
        };
        let widths = [width(elements[0], key_width), width(elements[1], value_width)];
        let case = Case::new(seed, [tokens, group * kv_heads, kv_heads, streams, keys], widths, elements);
        let reference = case.reference();
        for simd in Simd::available() {
            let values = case.compute(simd, 1);
            for (i, (value, (expected, apart))) in values.iter().zip(&reference).enumerate() {
                prop_assert!(
                    (f64::from(*value) - expected).abs() <= *apart,
                    "{simd:?}, value {i}: {value} instead of {expected}, {apart}"
                );
            }
            prop_assert!(bits(&case.compute(simd, 3)) == bits(&values), "{simd:?}, by three threads");
        }
    }
}

#[test]
fn a_token_has_the_same_bits_alone_as_beside_others() {
    for elements in ELEMENTS {
        let case = Case::new(11, [70, 6, 2, 1, 700], [64, 96], [elements; 2]);
        for simd in Simd::available() {
            let together = case.compute(simd, 2);
            let values = case.heads * case.widths[1];
            for (tokens, first) in [(1, 0), (1, 69), (2, 5), (5, 60), (8, 33), (9, 12), (33, 30)] {
                let some = Case {
                    tokens,
                    q: case.q[first * case.heads * case.widths[0]..].to_vec(),
                    mask: case.mask[first * case.keys..].to_vec(),
                    ..case.clone()
                };
                assert!(
                    bits(&some.compute(simd, 1))
                        == bits(&together[first * values..][..tokens * values]),
                    "{simd:?}, {elements:?}, {tokens} tokens from {first} on"
                );
            }
        }
    }
}

#[test]
fn who_sees_nothing_gets_zeros() {
    let mut case = Case::new(5, [3, 4, 2, 1, 600], [64, 64], [Elements::F16; 2]);
    case.mask[600..1200].fill(MINUS_INFINITY);
    for simd in Simd::available() {
        let values = case.compute(simd, 2);
        assert!(values[256..512].iter().all(|value| *value == 0.0));
        assert!(values[..256].iter().all(|value| *value != 0.0));
    }
}

#[test]
fn a_broken_key_is_nothing_to_who_does_not_see_it() {
    const KEYS: usize = 600;
    for elements in ELEMENTS {
        for (tokens, half) in [(2, 0x7e00u16), (2, 0x7c00), (40, 0x7e00)] {
            let mut case = Case::new(5, [tokens, 2, 1, 1, KEYS], [64, 64], [elements; 2]);
            case.mask.fill(ZERO);
            // All but the last token.
            for mask in case.mask.chunks_exact_mut(KEYS).take(tokens - 1) {
                mask[300] = MINUS_INFINITY;
            }
            let mut broken = case.clone();
            let key = 300 * (row_bytes(elements, 64) + 2);
            broken.caches[0][key..key + 2].copy_from_slice(&half.to_le_bytes());
            for simd in Simd::available() {
                let (sound, broken) = (case.compute(simd, 2), broken.compute(simd, 2));
                let unseen = (tokens - 1) * case.heads * case.widths[1];
                assert!(
                    bits(&sound[..unseen]) == bits(&broken[..unseen]),
                    "{simd:?}, {elements:?}, {half:x}, {tokens} tokens"
                );
                assert!(broken[unseen..].iter().any(|value| value.is_nan()));
            }
        }
    }
}

/// As the softmax of the definition has it: a sound sum must not come of a broken one.
#[test]
fn a_score_that_is_no_number_or_infinite_leaves_no_number() {
    const KEYS: usize = 600;
    // Of half precision, and of how many keys.
    let (nan, infinite) = (0x7e00u16, 0x7c00u16);
    let broken = [(nan, 1), (nan, KEYS), (infinite, 1), (infinite, 2)];
    for (elements, (half, keys)) in ELEMENTS.iter().flat_map(|e| broken.map(|b| (e, b))) {
        for tokens in [1, 3, 40] {
            let mut case = Case::new(5, [tokens, 2, 1, 1, KEYS], [64, 64], [*elements; 2]);
            case.mask.fill(ZERO);
            case.q.iter_mut().for_each(|x| *x = x.abs() + 0.1);
            let first = if keys == KEYS { 0 } else { 300 };
            let row = row_bytes(*elements, 64) + 2;
            for key in case.caches[0][first * row..]
                .chunks_exact_mut(row)
                .take(keys)
            {
                key[..2].copy_from_slice(&half.to_le_bytes());
                if *elements == Elements::Q8_0 {
                    key[2..34].fill(1);
                }
            }
            for simd in Simd::available() {
                let values = case.compute(simd, 2);
                assert!(
                    values.iter().all(|value| value.is_nan()),
                    "{simd:?}, {elements:?}, {half:x} of {keys}, {tokens} tokens: {values:?}"
                );
            }
        }
    }
}
