//! How tokens are drawn: the usual settings under llama.cpp's names, checked on construction.

use crate::llama::Token;

/// Sampling settings. Make one with [`Default`], change fields, then [`Sampling::check`].
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 is greedy. `0..=2`.
    pub temperature: f32,
    /// Keep the `top_k` likeliest tokens; 0 keeps all.
    pub top_k: i32,
    /// Keep the likeliest tokens that together reach this probability. `0..=1`.
    pub top_p: f32,
    /// Keep tokens of at least this share of the likeliest one's probability. `0..=1`.
    pub min_p: f32,
    /// Divides the logits of tokens seen lately; 1 does nothing. `0 < x <= 2`.
    pub repeat_penalty: f32,
    /// How many of the last tokens the penalties look at.
    pub repeat_last_n: i32,
    /// Subtracted once for each time a token was seen. `-2..=2`.
    pub frequency_penalty: f32,
    /// Subtracted if a token was seen at all. `-2..=2`.
    pub presence_penalty: f32,
    /// Added to the logits of these tokens. `-100..=100`, where the ends forbid a token or have nothing else drawn.
    pub logit_bias: Vec<(Token, f32)>,
    /// Same seed, same draw; `None` takes a new one each time.
    pub seed: Option<u32>,
    /// Never draw a token that ends the answer: it runs to its most tokens.
    pub ignore_eos: bool,
}

impl Default for Sampling {
    /// DeepSeek's advice for R1 (temperature 0.6, top-p 0.95), llama.cpp's defaults for the rest.
    fn default() -> Self {
        Self {
            temperature: 0.6,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
            ignore_eos: false,
        }
    }
}

/// A setting outside its range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{field} is {value}, but must be {range}")]
pub struct InvalidSampling {
    /// The setting.
    pub field: &'static str,
    /// What it was.
    pub value: f64,
    /// What it may be.
    pub range: &'static str,
}

impl Sampling {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// The first field that is outside, NaN included.
    pub fn check(&self) -> Result<(), InvalidSampling> {
        let checks: [(
            &'static str,
            f32,
            std::ops::RangeInclusive<f32>,
            &'static str,
        ); 6] = [
            ("temperature", self.temperature, 0.0..=2.0, "from 0 to 2"),
            ("top_p", self.top_p, 0.0..=1.0, "from 0 to 1"),
            ("min_p", self.min_p, 0.0..=1.0, "from 0 to 1"),
            (
                "repeat_penalty",
                self.repeat_penalty,
                f32::MIN_POSITIVE..=2.0,
                "above 0, up to 2",
            ),
            (
                "frequency_penalty",
                self.frequency_penalty,
                -2.0..=2.0,
                "from -2 to 2",
            ),
            (
                "presence_penalty",
                self.presence_penalty,
                -2.0..=2.0,
                "from -2 to 2",
            ),
        ];
        for (field, value, allowed, range) in checks {
            if !allowed.contains(&value) {
                return Err(InvalidSampling {
                    field,
                    value: value.into(),
                    range,
                });
            }
        }
        let biased = self.logit_bias.iter().map(|(_, bias)| *bias);
        if let Some(bias) = biased.into_iter().find(|b| !(-100.0..=100.0).contains(b)) {
            return Err(InvalidSampling {
                field: "logit_bias",
                value: bias.into(),
                range: "from -100 to 100",
            });
        }
        if self.top_k < 0 {
            return Err(InvalidSampling {
                field: "top_k",
                value: self.top_k.into(),
                range: "0 or more",
            });
        }
        Ok(())
    }

    /// Whether any token of the vocabulary may become the likeliest.
    pub(crate) fn moves_logits(&self) -> bool {
        self.has_penalties() || !self.logit_bias.is_empty()
    }

    pub(crate) fn has_penalties(&self) -> bool {
        self.repeat_penalty != 1.0 || self.frequency_penalty != 0.0 || self.presence_penalty != 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Sampling::default().check(), Ok(()));
    }

    #[test]
    fn a_field_outside_its_range_is_named() {
        for (field, sampling) in [
            (
                "temperature",
                Sampling {
                    temperature: -0.1,
                    ..Sampling::default()
                },
            ),
            (
                "temperature",
                Sampling {
                    temperature: f32::NAN,
                    ..Sampling::default()
                },
            ),
            (
                "top_p",
                Sampling {
                    top_p: 1.5,
                    ..Sampling::default()
                },
            ),
            (
                "min_p",
                Sampling {
                    min_p: -1.0,
                    ..Sampling::default()
                },
            ),
            (
                "repeat_penalty",
                Sampling {
                    repeat_penalty: 0.0,
                    ..Sampling::default()
                },
            ),
            (
                "frequency_penalty",
                Sampling {
                    frequency_penalty: f32::INFINITY,
                    ..Sampling::default()
                },
            ),
            (
                "presence_penalty",
                Sampling {
                    presence_penalty: -2.5,
                    ..Sampling::default()
                },
            ),
            (
                "logit_bias",
                Sampling {
                    logit_bias: vec![(1, -100.0), (2, 101.0)],
                    ..Sampling::default()
                },
            ),
            (
                "top_k",
                Sampling {
                    top_k: -1,
                    ..Sampling::default()
                },
            ),
        ] {
            assert_eq!(sampling.check().expect_err("out of range").field, field);
        }
    }
}
