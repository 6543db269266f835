//! What `cloister-panel` tells `cloister serve`: what is to hold, and how the board is.
//!
//! In and out: JSON, as `PUT /api/panel` takes it. Numbers and fixed words alone: must never hold text of users.

use serde::{Deserialize, Deserializer, Serialize};

/// What is to hold from now on, and how the board is. Sent after each change, and every few seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PanelReport {
    /// A number of the panel's own, that tells two of them apart.
    #[serde(default)]
    pub panel: u64,
    /// Whether the privacy switch is on; none without a switch: then this panel neither opens nor closes the box.
    #[serde(default)]
    pub private: Option<bool>,
    /// Whether its board is none that can be touched: its switch holds while it is there, and opens or closes nothing
    /// beyond that.
    #[serde(default)]
    pub simulated: bool,
    /// Whether this is its last word: another panel may take its place at once.
    #[serde(default)]
    pub leaves: bool,
    /// How far to slow down.
    #[serde(default)]
    pub throttle: Throttle,
    /// How the board is.
    #[serde(default)]
    pub board: Board,
}

/// How far the engine has to slow down: steps from 0, not at all, to 4, where nobody is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Throttle(u8);

impl Throttle {
    /// The step at which nobody is answered.
    pub const STOP: Self = Self(4);

    /// The step.
    pub fn step(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Throttle {
    type Error = String;

    fn try_from(step: u8) -> Result<Self, String> {
        match step {
            0..=4 => Ok(Self(step)),
            _ => Err(format!("throttle has the steps 0 to 4, not {step}")),
        }
    }
}

impl From<Throttle> for u8 {
    fn from(throttle: Throttle) -> Self {
        throttle.0
    }
}

/// How the board is. What it does not measure is not there, nor is what cannot be true: what is to hold comes with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// What the status light says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub light: Option<Word>,
    /// In °C, of the sensor that is nearest to its limit.
    #[serde(
        default,
        deserialize_with = "within::<-30, 130, _>",
        skip_serializing_if = "Option::is_none"
    )]
    pub temperature: Option<f64>,
    /// In watts, of the whole board.
    #[serde(
        default,
        deserialize_with = "within::<0, 2000, _>",
        skip_serializing_if = "Option::is_none"
    )]
    pub power: Option<f64>,
    /// How strongly the fan is driven, in percent.
    #[serde(
        default,
        deserialize_with = "within::<0, 100, _>",
        skip_serializing_if = "Option::is_none"
    )]
    pub fan: Option<f64>,
    /// How fast it turns, in revolutions a minute.
    #[serde(
        default,
        deserialize_with = "within::<0, 100_000, _>",
        skip_serializing_if = "Option::is_none"
    )]
    pub fan_speed: Option<f64>,
    /// What a generated token took lately, in joules.
    #[serde(
        default,
        deserialize_with = "within::<0, 1_000_000, _>",
        skip_serializing_if = "Option::is_none"
    )]
    pub joules_per_token: Option<f64>,
    /// What the box took within the last day, in watt-hours.
    #[serde(
        default,
        deserialize_with = "within::<0, 50_000, _>",
        skip_serializing_if = "Option::is_none"
    )]
    pub watt_hours: Option<f64>,
    /// What it took since the panel's start, in watt-hours: a meter, which only rises until it begins anew.
    #[serde(
        default,
        deserialize_with = "within::<0, 2_000_000_000, _>",
        skip_serializing_if = "Option::is_none"
    )]
    pub watt_hours_total: Option<f64>,
    /// What is wrong.
    #[serde(default)]
    pub problems: Vec<Problem>,
}

/// A figure, if it is from `LEAST` to `MOST`.
fn within<'de, const LEAST: i32, const MOST: i32, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<f64>, D::Error> {
    let figure = Option::<f64>::deserialize(from)?;
    Ok(figure.filter(|figure| (LEAST.into()..=MOST.into()).contains(figure)))
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// With what: `fan`, `privacy_switch`, `power`, a sensor's own name.
    pub what: Word,
    /// `blocked`, `stuck`, `absent`.
    pub why: Word,
}

/// A fixed word: up to 32 of a to z, 0 to 9, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Word(String);

impl Word {
    /// This one.
    ///
    /// # Errors
    /// It has other characters, none, or too many.
    pub fn new(word: impl Into<String>) -> Result<Self, String> {
        let word = word.into();
        let fits = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        match (1..=32).contains(&word.len()) && word.bytes().all(fits) {
            true => Ok(Self(word)),
            false => Err("a word has up to 32 of a to z, 0 to 9, _ and -".to_owned()),
        }
    }

    /// Its letters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Word {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        Self::new(word)
    }
}

impl From<Word> for String {
    fn from(word: Word) -> Self {
        word.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_cannot_be_true_is_left_out_and_what_is_to_hold_is_taken() {
        let report = r#"{"private": true, "throttle": 3,
            "board": {"power": 1e12, "watt_hours": -5.0, "temperature": 51.0, "fan": 101, "fan_speed": null}}"#;
        let report: PanelReport = serde_json::from_str(report).unwrap();
        assert_eq!((report.private, report.throttle.step()), (Some(true), 3));
        let board = Board {
            temperature: Some(51.0),
            ..Board::default()
        };
        assert_eq!(report.board, board);
    }
}
