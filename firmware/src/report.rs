//! What the panel tells `serve`, made of what the laws decide.
//!
//! In: [`Outputs`] and readings. Out: a [`PanelReport`], rounded to what means something, so that it changes only then.

use cloister_control::units::{Rpm, Watts};
use cloister_control::{Outputs, Problems};
use cloister_program::panel::{Board, PanelReport, Problem, Throttle, Word};

/// What was read last, where there is something to read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Readings {
    /// The power of the board.
    pub power: Option<Watts>,
    /// How fast the fan turns.
    pub fan: Option<Rpm>,
    /// Whether there is one.
    pub has_fan: bool,
}

/// As `serve` takes it.
/// `faults` is what is wrong besides: what with, and why.
pub fn report(
    outputs: &Outputs,
    readings: &Readings,
    sensors: &[&str],
    faults: &[(&str, &str)],
) -> PanelReport {
    let tenths = |figure: f64| (figure * 10.0).round() / 10.0;
    PanelReport {
        panel: 0,
        simulated: false,
        leaves: false,
        private: outputs.private,
        throttle: Throttle::try_from(outputs.throttle.step()).expect("the steps are the same"),
        board: Board {
            light: Some(word(outputs.shown.name())),
            temperature: outputs
                .temperature
                .map(|degrees| f64::from(degrees.0.round())),
            power: readings.power.map(|watts| tenths(watts.0.into())),
            fan: readings.has_fan.then(|| f64::from(outputs.fan.percent())),
            // In fifties: less is no news.
            fan_speed: readings.fan.map(|rpm| f64::from((rpm.0 + 25) / 50 * 50)),
            joules_per_token: outputs
                .joules_per_token
                .map(|of| (of.0 * 100.0).round() / 100.0),
            watt_hours: outputs.last_day.map(|of| tenths(of.0)),
            // Whole ones that are full, so that it rises and never falls.
            watt_hours_total: outputs.total.map(|of| of.0.floor()),
            problems: problems(&outputs.problems, sensors, faults),
        },
    }
}

fn problems(problems: &Problems, sensors: &[&str], faults: &[(&str, &str)]) -> Vec<Problem> {
    let is = |wrong: bool, why: &'static str| wrong.then_some(why);
    let named = sensors.iter().zip(&problems.sensors);
    let doubts = named.filter_map(|(name, doubt)| Some((*name, doubt.as_ref()?.name())));
    let others = [
        ("engine", is(problems.engine, "away_or_failed")),
        ("privacy_switch", is(problems.privacy_ignored, "ignored")),
        ("privacy_switch", is(problems.privacy_unwired, "not_wired")),
        ("throttle", is(problems.throttle_ignored, "ignored")),
        (
            "privacy_switch",
            problems.privacy_switch.map(|fault| fault.name()),
        ),
        ("button", problems.button.map(|fault| fault.name())),
        ("button", is(problems.button_stuck, "stuck")),
        ("shutdown", problems.shutdown.map(|fault| fault.name())),
        ("shutdown", is(problems.shutdown_ignored, "ignored")),
        ("fan", problems.fan.map(|fault| fault.name())),
        ("power", problems.power.map(|fault| fault.name())),
    ];
    let others = others
        .into_iter()
        .filter_map(|(what, why)| Some((what, why?)));
    doubts
        .chain(others)
        .chain(faults.iter().copied())
        .map(|(what, why)| Problem {
            what: word(what),
            why: word(why),
        })
        .collect()
}

/// What is no word of its own, as a kernel's name for a sensor, becomes one.
fn word(name: &str) -> Word {
    let fits = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9' | '_' | '-') => c,
        _ => '_',
    };
    let fitting: String = name.chars().map(fits).take(32).collect();
    Word::new(fitting).unwrap_or_else(|_| Word::new("unnamed").expect("a word"))
}

#[cfg(test)]
mod tests {
    use cloister_control::device::Fault;
    use cloister_control::thermal::{Limits, Measured, Sample};
    use cloister_control::units::{Celsius, Duty, Millis};
    use cloister_control::{Engine, Inputs, Panel};

    use super::*;

    #[test]
    fn all_that_fails_is_named_and_the_box_is_as_safe_as_it_can_be() {
        let limit = Celsius(80.0);
        let limits = Limits {
            fan_starts: Celsius(50.0),
            fan_full: Celsius(67.0),
            throttle: Celsius(72.0),
            critical: Celsius(78.0),
            limit,
            soc_slows: Celsius(60.0),
            fan_least: Duty(77),
        };
        let sensors = [Sample {
            reading: Err(Fault::Absent),
            limit,
            on_die: true,
        }];
        let outputs = Panel::new(limits).step(
            Millis(0),
            &Inputs {
                engine: Engine::Failed,
                button: Some(Err(Fault::Bus)),
                privacy_switch: Some(Err(Fault::Taken)),
                measured: Some(Measured {
                    sensors: &sensors,
                    fan: Some(Err(Fault::Denied)),
                    tachometer: None,
                    soc_throttles: None,
                    working: false,
                }),
                power: Some(Err(Fault::Nonsense)),
                other_fault: true,
                shutdown_asked: Some(Err(Fault::Denied)),
                ..Inputs::default()
            },
        );
        let faults = [("display", Fault::Ambiguous.name())];
        let report = report(&outputs, &Readings::default(), &["die"], &faults);
        let said: Vec<String> = report
            .board
            .problems
            .iter()
            .map(|of| format!("{} {}", of.what.as_str(), of.why.as_str()))
            .collect();
        let named = [
            "die absent",
            "engine away_or_failed",
            "privacy_switch taken",
            "button bus_error",
            "shutdown denied",
            "fan denied",
            "power nonsense",
            "display ambiguous",
        ];
        assert_eq!(said, named);
        assert_eq!((outputs.fan, report.throttle.step()), (Duty::FULL, 4));
        assert_eq!(report.private, Some(true));
    }

    #[test]
    fn whatever_a_kernel_calls_a_sensor_becomes_a_word() {
        for (name, as_word) in [
            ("CPU-therm", "cpu-therm"),
            ("VDD IN (5V)", "vdd_in__5v_"),
            ("", "unnamed"),
        ] {
            assert_eq!(word(name).as_str(), as_word);
        }
        assert_eq!(word(&"é".repeat(99)).as_str(), "_".repeat(32));
    }
}
