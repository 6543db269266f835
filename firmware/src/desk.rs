//! The loop: reads the board, has the laws decide, does what they say, and sleeps until something happens.
//!
//! In: a [`Board`], what `serve` says. Out: light, fan, display, watchdog, wishes to `serve`.
//! Must never decide anything itself, and must never wake without need: it has 0.3 % of a core.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cloister_control::device::Fault;
use cloister_control::display::{Page, View};
use cloister_control::light::Rgb;
use cloister_control::thermal::{MAX_SENSORS, Measured, Sample};
use cloister_control::units::{Celsius, Duty, Millis, Watts};
use cloister_control::{Engine, Inputs, Options, Outputs, Panel};
use cloister_program::panel::PanelReport;
use cloister_program::readiness::Readiness;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::board::{Board, Contact, Screen};
use crate::link::{Heard, Link};
use crate::report::{Readings, report};

/// systemd's watchdog of this process is told so often that it runs.
const ALIVE_EVERY: Duration = Duration::from_secs(10);

/// All that the loop works with.
pub struct Desk {
    board: Board,
    panel: Panel,
    /// What is made to shut the machine down; none on a box that does not.
    shutdown: Option<PathBuf>,
    began: Instant,
    done: Done,
    readings: Readings,
    samples: Vec<Sample>,
    fan: Option<Result<(), Fault>>,
    alive: (Readiness, Instant),
    reports: watch::Sender<PanelReport>,
}

/// What was done last, so that it is not done again.
#[derive(Default)]
struct Done {
    light: Option<Rgb>,
    screen: Option<Option<Screen>>,
    light_fault: Option<Fault>,
    display_fault: Option<Fault>,
    watchdog_fault: Option<Fault>,
    fed: Option<Instant>,
    measure_at: Millis,
    problems: Vec<String>,
}

impl Desk {
    /// For a board.
    pub fn of(board: Board, shutdown: Option<PathBuf>, readiness: Readiness) -> Self {
        let panel = Panel::new(Options {
            limits: board.limits,
        });
        Self {
            panel,
            shutdown,
            began: Instant::now(),
            done: Done::default(),
            readings: Readings {
                has_fan: board.fan.is_some(),
                ..Readings::default()
            },
            samples: Vec::with_capacity(MAX_SENSORS),
            fan: board.fan.is_some().then_some(Ok(())),
            board,
            alive: (readiness, Instant::now()),
            reports: watch::Sender::default(),
        }
    }

    /// What is told to `serve`, as it changes.
    pub fn reports(&self) -> watch::Receiver<PanelReport> {
        self.reports.subscribe()
    }

    /// Works until `end` comes. Then the fan is full and the light dark: nobody watches any more.
    pub async fn run(mut self, link: Arc<Link>, end: impl Future<Output = ()>) {
        let (heard_by, mut heard) = watch::channel(None);
        let listener = link.clone();
        tokio::spawn(async move { listener.listen(heard_by).await });
        let mut first = true;
        if let Err(error) = self.alive.0.tell() {
            warn!("cannot tell that the panel is ready: {error}");
        }
        tokio::pin!(end);
        loop {
            let outputs = self.step(heard.borrow_and_update().as_ref());
            let report = self.report(&outputs);
            self.reports.send_if_modified(|before| {
                let changed = *before != report;
                *before = report;
                changed
            });
            // Before the first step there is nothing to tell.
            if std::mem::take(&mut first) {
                let (teller, reports) = (link.clone(), self.reports.subscribe());
                tokio::spawn(async move { teller.tell(reports).await });
            }
            if outputs.stop_answers {
                info!("the button is pressed: answers are to stop");
                let link = link.clone();
                tokio::spawn(async move { link.stop_answers().await });
            }
            if outputs.shut_down {
                self.shut_down();
            }
            let again = self.began + Duration::from_millis(outputs.again.0);
            tokio::select! {
                () = sleep_until(again) => {}
                _ = heard.changed() => {}
                () = changed(&mut self.board.button) => {}
                () = changed(&mut self.board.privacy_switch) => {}
                () = &mut end => break,
            }
        }
        if let Some(fan) = &mut self.board.fan {
            let _ = fan.set(Duty::FULL);
        }
        if let Some(light) = &mut self.board.light {
            let _ = light.set(Rgb::BLACK);
        }
        if let Some(display) = &mut self.board.display {
            let _ = display.show(None);
        }
    }

    fn report(&self, outputs: &Outputs) -> PanelReport {
        let sensors: Vec<&str> = self.board.thermometers.iter().map(|of| &*of.name).collect();
        report(outputs, &self.readings, &sensors)
    }

    fn now(&self) -> Millis {
        Millis(self.began.elapsed().as_millis() as u64)
    }

    fn step(&mut self, heard: Option<&Heard>) -> Outputs {
        let now = self.now();
        let engine = heard.map_or(Engine::Away, Heard::engine);
        let works = matches!(engine, Engine::Serving { phase, .. } if phase != Default::default());
        let due = now >= self.done.measure_at;
        let mut power = None;
        let mut measured = None;
        if due {
            power = self.board.power.as_mut().map(|meter| meter.read());
            measured = Some(self.measure(power, works));
        }
        let outputs = self.panel.step(
            now,
            &Inputs {
                engine,
                tokens: heard.map(Heard::generated),
                steps: heard.map(Heard::steps),
                button: self.board.button.as_mut().map(|button| button.is_closed()),
                privacy_switch: self
                    .board
                    .privacy_switch
                    .as_mut()
                    .map(|switch| switch.is_closed()),
                measured: measured.map(|of| Measured {
                    sensors: &self.samples,
                    ..of
                }),
                power,
                other_fault: self.done.light_fault.is_some()
                    || self.done.display_fault.is_some()
                    || self.done.watchdog_fault.is_some(),
            },
        );
        self.done.measure_at = outputs.measure_at;
        self.act(&outputs, heard, due);
        outputs
    }

    /// Reads the board. The samples are left in `self.samples`.
    fn measure(&mut self, power: Option<Result<Watts, Fault>>, working: bool) -> Measured<'static> {
        let board = &mut self.board;
        self.samples.clear();
        let sensors = board.thermometers.iter_mut().take(MAX_SENSORS);
        self.samples.extend(sensors.map(|of| Sample {
            reading: of.device.read(),
            limit: of.limit,
            on_die: of.on_die,
        }));
        let tachometer = board.tachometer.as_mut().map(|of| of.read());
        self.readings.power = power.and_then(Result::ok);
        self.readings.fan = tachometer.and_then(Result::ok);
        Measured {
            sensors: &[],
            fan: self.fan,
            tachometer,
            soc_throttles: board.soc.as_mut().and_then(|soc| soc.read().ok()),
            working,
        }
    }

    fn act(&mut self, outputs: &Outputs, heard: Option<&Heard>, measured: bool) {
        let (board, done) = (&mut self.board, &mut self.done);
        if measured && let Some(fan) = &mut board.fan {
            self.fan = Some(fan.set(outputs.fan));
        }
        // A light that failed is tried again with each measurement.
        let again = measured && done.light_fault.is_some();
        if let Some(light) = &mut board.light
            && (done.light != Some(outputs.light) || again)
        {
            done.light_fault = light.set(outputs.light).err();
            done.light = Some(outputs.light);
        }
        if let Some(display) = &mut board.display {
            let size = display.size();
            let screen = screen(outputs.view, outputs.temperature, heard, size);
            let again = measured && done.display_fault.is_some();
            if done.screen.as_ref() != Some(&screen) || again {
                done.display_fault = display.show(screen.as_ref()).err();
                done.screen = Some(screen);
            }
        }
        if let Some(guard) = &mut board.watchdog {
            let now = Instant::now();
            let due = done.fed.is_none_or(|fed| now - fed >= guard.timeout / 4);
            if outputs.feed && due {
                done.watchdog_fault = guard.device.feed().err();
                done.fed = Some(now);
            }
        }
        if self.alive.1.elapsed() >= ALIVE_EVERY {
            // Nobody who listens is not there.
            let _ = self.alive.0.alive();
            self.alive.1 = Instant::now();
        }
        if measured {
            self.log(outputs);
        }
    }

    /// One line for each problem that comes, and one when all are over.
    fn log(&mut self, outputs: &Outputs) {
        let report = self.report(outputs);
        let problems = report.board.problems.iter();
        let problems: Vec<String> = problems
            .map(|of| format!("{}: {}", of.what.as_str(), of.why.as_str()))
            .collect();
        for new in problems
            .iter()
            .filter(|of| !self.done.problems.contains(of))
        {
            warn!("{new}");
        }
        if problems.is_empty() && !self.done.problems.is_empty() {
            info!("all is well again");
        }
        self.done.problems = problems;
    }

    fn shut_down(&self) {
        let Some(file) = &self.shutdown else {
            return warn!(
                "a long press, and no --shutdown-file to ask for it: the machine stays on"
            );
        };
        info!("a long press: the machine is to shut down");
        if let Err(error) = std::fs::write(file, "") {
            warn!("cannot ask for a shutdown by {}: {error}", file.display());
        }
    }
}

async fn changed(contact: &mut Option<Box<dyn Contact>>) {
    match contact {
        Some(contact) => contact.changed().await,
        None => std::future::pending().await,
    }
}

/// What the display shows.
fn screen(
    view: View,
    temperature: Option<Celsius>,
    heard: Option<&Heard>,
    (columns, rows): (usize, usize),
) -> Option<Screen> {
    let mut lines = match view.page {
        Page::Dark => return None,
        Page::Figures => vec![
            heard
                .and_then(|of| of.model.clone())
                .unwrap_or_else(|| "no model".to_owned()),
            format!("{:.1} tokens/s", heard.map_or(0.0, Heard::speed)),
            temperature.map_or_else(
                || "? °C".to_owned(),
                |degrees| format!("{:.0} °C", degrees.0),
            ),
            format!("{} waiting", heard.map_or(0, Heard::waiting)),
        ],
        Page::Address => {
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            vec![
                "open in a browser:".to_owned(),
                format!("{}.local", name.trim()),
            ]
        }
    };
    lines.truncate(rows);
    for line in &mut lines {
        *line = line.chars().take(columns).collect();
    }
    Some(Screen {
        lines,
        moved: view.moved,
    })
}
