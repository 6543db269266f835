//! The picture of the simulated board, and its keys.

use std::io::{self, IsTerminal, Write as _};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cloister_program::panel::PanelReport;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep_until};

use super::Simulation;

/// Between two pictures.
const DRAWS_EVERY: Duration = Duration::from_millis(100);
/// How long a key presses the button, for a short and for a long press: a terminal tells no release.
const SHORT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_millis(3200);

/// The terminal, in which keys come one by one; as it was before, once dropped.
pub struct Terminal {
    before: Termios,
}

impl Terminal {
    /// Takes the terminal of this process.
    ///
    /// # Errors
    /// It has none.
    pub fn open() -> Result<Self> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            bail!("--simulate draws in a terminal: start it in one");
        }
        let before = tcgetattr(io::stdin()).context("cannot ask the terminal how it is set")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).context("cannot set the terminal")?;
        // Another screen, without a cursor, on which what is too wide is cut.
        say("\x1b[?1049h\x1b[?25l\x1b[?7l");
        Ok(Self { before })
    }

    /// Draws and takes keys until one of them says to end.
    ///
    /// # Errors
    /// The terminal cannot be read.
    pub async fn run(
        &self,
        simulation: &Simulation,
        reports: watch::Receiver<PanelReport>,
        working: watch::Receiver<bool>,
    ) -> Result<()> {
        // SAFETY: standard input is open for as long as the process runs.
        let keys = unsafe { AsyncFd::register(io::stdin()) }.context("cannot wait for keys")?;
        let mut draws = interval(DRAWS_EVERY);
        let mut release: Option<Instant> = None;
        let mut shown = (0, String::new());
        loop {
            let due = release;
            tokio::select! {
                _ = draws.tick() => {
                    let report = reports.borrow().clone();
                    simulation.work(*working.borrow(), &report);
                    let rows = tcgetwinsize(io::stdout()).map_or(0, |size| size.ws_row);
                    let picture = (rows, picture(simulation, &report, rows));
                    if picture != shown {
                        say(&picture.1);
                        shown = picture;
                    }
                }
                () = async { sleep_until(due.expect("checked")).await }, if due.is_some() => {
                    simulation.button.send_replace(false);
                    release = None;
                }
                ready = keys.readable() => {
                    let mut ready = ready.context("cannot wait for keys")?;
                    let mut typed = [0; 64];
                    let n = rustix::io::read(io::stdin(), &mut typed).context("cannot read keys")?;
                    ready.clear_ready();
                    for key in &typed[..n] {
                        match key {
                            // Ctrl-C, too, which is a key like any other here.
                            b'q' | 3 => return Ok(()),
                            b' ' => release = Some(simulation.press(SHORT)),
                            b'h' => release = Some(simulation.press(LONG)),
                            key => simulation.turn(*key),
                        }
                    }
                    if n == 0 {
                        return Ok(());
                    }
                }
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        say("\x1b[?7h\x1b[?25h\x1b[?1049l");
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Who cannot be drawn for has gone.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

impl Simulation {
    fn press(&self, time: Duration) -> Instant {
        self.button.send_replace(true);
        Instant::now() + time
    }

    fn turn(&self, key: u8) {
        let state = &mut *self.state.borrow_mut();
        let (failures, plant) = (&mut state.failures, &mut state.physics.plant);
        let ambient = &mut plant.figures.ambient;
        match key {
            b'p' => self.switch.send_modify(|on| *on = !*on),
            b'+' => *ambient = (*ambient + 5.0).min(60.0),
            b'-' => *ambient = (*ambient - 5.0).max(-10.0),
            b'b' => failures.fan_blocked ^= true,
            b's' => failures.sensor_silent ^= true,
            b't' => {
                failures.sensor_stuck = match failures.sensor_stuck {
                    None => Some((plant.die().0 * 10.0) as i32),
                    Some(_) => None,
                }
            }
            b'g' => failures.switch_gone ^= true,
            b'l' => failures.sensor_lies ^= true,
            b'u' => failures.fan_undriven ^= true,
            _ => {}
        }
    }

    /// Has the engine's work warm the board, whatever the light says meanwhile.
    fn work(&self, working: bool, report: &PanelReport) {
        let share = 1.0 - f32::from(report.throttle.step()) / 4.0;
        self.state.borrow_mut().physics.work = if working { share } else { 0.0 };
    }
}

/// The whole screen, of so many rows; 0 if nobody knows.
fn picture(simulation: &Simulation, report: &PanelReport, rows: u16) -> String {
    let state = &*simulation.state.borrow();
    let (board, failures, light) = (&report.board, &state.failures, state.light);
    let on = |on: bool| if on { "[x]" } else { "[ ]" };
    let figure = |figure: Option<f64>, unit: &str| {
        figure.map_or_else(|| format!("? {unit}"), |n| format!("{n} {unit}"))
    };
    // A terminal's colours are brighter than a light has to be.
    let lamp = match light.is_lit() {
        true => {
            let strong = |part: u8| u16::from(part).saturating_mul(2).min(255);
            format!(
                "\x1b[38;2;{};{};{}m●\x1b[0m",
                strong(light.red),
                strong(light.green),
                strong(light.blue)
            )
        }
        false => "○".to_owned(),
    };
    let says = board.light.as_ref().map_or("?", |light| light.as_str());
    let waits = match says {
        "starting" => format!("   waits for serve at {}", simulation.socket.display()),
        _ => String::new(),
    };
    let mut lines = vec![
        format!("cloister-panel: {}, simulated   q ends", simulation.name),
        String::new(),
        format!("light        {lamp} {says}{waits}"),
        format!(
            "button       {}   space presses it, h holds it for 3 s",
            on(*simulation.button.borrow())
        ),
        format!(
            "privacy      {}   p turns the switch",
            on(*simulation.switch.borrow())
        ),
        String::new(),
        format!(
            "temperature  {} of {:.0}; really {:.1}, in air of {:.0}   + - warmer, colder",
            figure(board.temperature, "°C"),
            simulation.limits.limit.0,
            state.physics.plant.die().0,
            state.physics.plant.figures.ambient
        ),
        format!(
            "fan          {}, {}",
            figure(board.fan, "%"),
            figure(board.fan_speed, "rpm")
        ),
        format!(
            "engine       slowed by {} of 4 steps",
            report.throttle.step()
        ),
        format!(
            "energy       {}, {}, {} in the last day",
            figure(board.power, "W"),
            figure(board.joules_per_token, "J/token"),
            figure(board.watt_hours, "Wh")
        ),
        String::new(),
    ];
    let screen = state
        .screen
        .as_ref()
        .map(|screen| &screen.lines[..])
        .unwrap_or_default();
    for n in 0..4 {
        let title = if n == 0 { "display" } else { "" };
        lines.push(format!(
            "{title:<12} │{:<21}│",
            screen.get(n).map_or("", |line| line)
        ));
    }
    lines.push(String::new());
    lines.push(format!(
        "failures     {} b fan blocked   {} s sensor silent",
        on(failures.fan_blocked),
        on(failures.sensor_silent)
    ));
    lines.push(format!(
        "             {} g switch gone   {} t sensor stuck",
        on(failures.switch_gone),
        on(failures.sensor_stuck.is_some())
    ));
    lines.push(format!(
        "             {} l sensor lies   {} u fan undriven",
        on(failures.sensor_lies),
        on(failures.fan_undriven)
    ));
    let problems: Vec<String> = board
        .problems
        .iter()
        .map(|of| format!("{}: {}", of.what.as_str(), of.why.as_str()))
        .collect();
    lines.push(format!(
        "problems     {}",
        if problems.is_empty() {
            "none".to_owned()
        } else {
            problems.join(", ")
        }
    ));
    if rows > 0 {
        lines.truncate(rows.into());
    }
    // Clears what is left of longer ones, and of more.
    format!("\x1b[H{}\x1b[J", lines.join("\x1b[K\r\n") + "\x1b[K")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use cloister_program::panel::{Board, Throttle, Word};

    use super::*;
    use crate::board::{Machine, find};

    #[test]
    fn work_warms_the_board_and_rest_does_not_whatever_the_light_says() {
        let root = tempfile::tempdir().unwrap();
        let limits = find(&Machine::below(root.path()), None).unwrap().limits;
        let simulation = Simulation::of("any", limits, PathBuf::new());
        for light in ["broken", "too_hot", "private", "ready"] {
            let report = PanelReport {
                throttle: Throttle::try_from(1).unwrap(),
                board: Board {
                    light: Some(Word::new(light).unwrap()),
                    ..Board::default()
                },
                ..PanelReport::default()
            };
            for (working, share) in [(true, 0.75), (false, 0.0)] {
                simulation.work(working, &report);
                assert_eq!(simulation.state.borrow().physics.work, share, "{light}");
            }
        }
    }
}
