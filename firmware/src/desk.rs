//! The loop: reads the board, has the laws decide, has done what they say, and sleeps until something happens.
//!
//! In: a [`Board`], what `serve` says. Out: what `hands` does, wishes to `serve`.
//! Must never decide anything itself, and must never wake without need: it has 0.3 % of a core.

mod hands;
mod screens;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cloister_control::device::Fault;
use cloister_control::thermal::{MAX_SENSORS, Measured, Sample};
use cloister_control::units::{Millis, Watts};
use cloister_control::{Engine, Inputs, Outputs, Panel};
use cloister_program::panel::PanelReport;
use cloister_program::readiness::Readiness;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::board::{Board, Contact, Late};
use crate::link::{Heard, Link};
use crate::report::{Readings, report};
use hands::Hands;
use screens::Screens;

/// How often to look for thermometers that are named and not there.
const LOOKS_EVERY: Duration = Duration::from_secs(10);

/// All that the loop works with.
pub struct Desk {
    board: Board,
    panel: Panel,
    hands: Hands,
    screens: Screens,
    /// What is made to shut the machine down; none on a box that does not.
    shutdown: Option<PathBuf>,
    began: Instant,
    measure_at: Millis,
    look_at: Instant,
    /// What became of a wish to shut down, until the laws have heard it.
    shutdown_asked: Option<Result<(), Fault>>,
    readings: Readings,
    samples: Vec<Sample>,
    /// Whether `serve` refuses what it is told.
    is_refused: bool,
    /// What is wrong, as it was logged last.
    problems: Vec<String>,
    alive: (Readiness, Instant),
    reports: watch::Sender<PanelReport>,
    working: watch::Sender<bool>,
}

impl Desk {
    /// For a board.
    pub fn of(board: Board, shutdown: Option<PathBuf>, readiness: Readiness) -> Self {
        Self {
            panel: Panel::new(board.limits),
            hands: Hands::default(),
            screens: Screens::default(),
            shutdown,
            began: Instant::now(),
            measure_at: Millis(0),
            look_at: Instant::now(),
            shutdown_asked: None,
            readings: Readings::default(),
            samples: Vec::with_capacity(MAX_SENSORS),
            is_refused: false,
            problems: Vec::new(),
            board,
            alive: (readiness, Instant::now()),
            reports: watch::Sender::default(),
            working: watch::Sender::default(),
        }
    }

    /// What is told to `serve`, as it changes.
    pub fn reports(&self) -> watch::Receiver<PanelReport> {
        self.reports.subscribe()
    }

    /// Whether `serve` computes, by its own word.
    pub fn working(&self) -> watch::Receiver<bool> {
        self.working.subscribe()
    }

    /// Works until `end` comes. Then the fan is full and the light dark: nobody watches any more.
    pub async fn run(mut self, link: Arc<Link>, end: impl Future<Output = ()>) {
        let (heard_by, mut heard) = watch::channel(None);
        let heard_too = heard.clone();
        let (tests_by, tests) = watch::channel(0);
        let (listener, tester) = (link.clone(), link.clone());
        tokio::spawn(async move { listener.listen(heard_by).await });
        tokio::spawn(async move { tester.test(tests_by).await });
        let mut teller = None;
        if let Err(error) = self.alive.0.tell() {
            warn!("cannot tell that the panel is ready: {error}");
        }
        tokio::pin!(end);
        loop {
            let news = self.screens.news();
            let outputs = self.step(heard.borrow_and_update().as_ref(), *tests.borrow(), &link);
            let report = self.report(&outputs);
            self.reports.send_if_modified(|before| {
                let changed = *before != report;
                *before = report;
                changed
            });
            // Before the first step there is nothing to tell.
            if teller.is_none() {
                let (link, reports) = (link.clone(), self.reports.subscribe());
                let heard = heard_too.clone();
                teller = Some(tokio::spawn(async move { link.tell(reports, heard).await }));
            }
            if outputs.stop_answers {
                info!("the button is pressed: answers are to stop");
                let link = link.clone();
                tokio::spawn(async move { link.stop_answers().await });
            }
            if outputs.shut_down {
                self.shutdown_asked = Some(self.shut_down());
                continue;
            }
            let again = self.began + Duration::from_millis(outputs.again.0);
            tokio::select! {
                () = sleep_until(again) => {}
                _ = heard.changed() => {}
                () = news => {}
                () = changed(&mut self.board.button) => {}
                () = changed(&mut self.board.privacy_switch) => {}
                () = &mut end => break,
            }
        }
        self.hands.let_go(&mut self.board);
        if let Some(teller) = teller {
            teller.abort();
        }
        let mut last = self.reports.borrow().clone();
        last.leaves = true;
        // A simulated switch ends with its board.
        last.private = last.private.filter(|_| !self.board.is_simulated);
        link.leave(last).await;
    }

    fn report(&self, outputs: &Outputs) -> PanelReport {
        let sensors: Vec<&str> = self.board.thermometers.iter().map(|of| &*of.name).collect();
        PanelReport {
            simulated: self.board.is_simulated,
            ..report(outputs, &self.readings, &sensors, &self.faults())
        }
    }

    /// What is wrong that the laws do not see by themselves.
    fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let mut faults = self.hands.faults();
        if self.is_refused {
            faults.push(("serve", "refuses"));
        }
        if self.board.wired_beyond {
            faults.push(("temperature", "too_many"));
        }
        let mut sought = self.board.sought.iter();
        if sought.any(|sought| sought.wired) {
            faults.push(("temperature", Fault::Absent.name()));
        }
        faults
    }

    fn now(&self) -> Millis {
        Millis(self.began.elapsed().as_millis() as u64)
    }

    fn step(&mut self, heard: Option<&Heard>, tests: u64, link: &Arc<Link>) -> Outputs {
        let now = self.now();
        let engine = heard.map_or(Engine::Away, Heard::engine);
        let works = matches!(engine, Engine::Serving { phase, .. } if phase != Default::default());
        self.working.send_replace(works);
        self.is_refused = link.is_refused();
        let due = now >= self.measure_at;
        let mut power = None;
        let mut measured = None;
        if due {
            let meter = self.board.power.as_mut();
            power = meter.and_then(|meter| meter.ask(|meter| meter.read()));
            measured = Some(self.measure(power, works));
        }
        let other_fault = !self.faults().is_empty();
        let board = &mut self.board;
        let outputs = self.panel.step(
            now,
            &Inputs {
                engine,
                tokens: heard.map(Heard::generated),
                steps: heard.map(Heard::steps),
                tests,
                button: is_closed(&mut board.button),
                privacy_switch: is_closed(&mut board.privacy_switch),
                measured: measured.map(|of| Measured {
                    sensors: &self.samples,
                    ..of
                }),
                power,
                other_fault,
                shutdown_asked: self.shutdown_asked.take(),
            },
        );
        self.measure_at = outputs.measure_at;
        self.screens.turn_to(outputs.view.page, link);
        let screens = &self.screens;
        let draw = |size| screens.screen(outputs.view, outputs.temperature, heard, size);
        self.hands.act(board, &outputs, draw, due);
        self.readings.has_fan = self.hands.has_fan();
        if due {
            self.tell_who_started_it();
            self.log(&outputs);
        }
        outputs
    }

    /// Reads the board. The samples are left in `self.samples`.
    fn measure(&mut self, power: Option<Result<Watts, Fault>>, working: bool) -> Measured<'static> {
        let board = &mut self.board;
        if self.look_at <= Instant::now() {
            board.look_again();
            self.look_at = Instant::now() + LOOKS_EVERY;
        }
        self.samples.clear();
        self.samples.extend(board.temperatures());
        let tachometer = board.tachometer.as_mut();
        let tachometer = tachometer.and_then(|of| of.ask(|of| of.read()));
        let soc = board.soc.as_mut().and_then(|soc| soc.ask(|soc| soc.read()));
        self.readings.power = power.and_then(Result::ok);
        self.readings.fan = tachometer.and_then(Result::ok);
        Measured {
            sensors: &[],
            fan: self.hands.fan(board),
            tachometer,
            soc_throttles: soc.and_then(Result::ok),
            working,
        }
    }

    fn tell_who_started_it(&mut self) {
        let (readiness, told) = &mut self.alive;
        // A measurement, each second or two, comes at the latest.
        if readiness
            .alive_every()
            .is_some_and(|every| told.elapsed() >= every)
        {
            // Nobody who listens is not there.
            let _ = readiness.alive();
            *told = Instant::now();
        }
    }

    /// One line for each problem that comes, and one when all are over.
    fn log(&mut self, outputs: &Outputs) {
        let report = self.report(outputs);
        let problems = report.board.problems.iter();
        let problems: Vec<String> = problems
            .map(|of| format!("{}: {}", of.what.as_str(), of.why.as_str()))
            .collect();
        for new in problems.iter().filter(|of| !self.problems.contains(of)) {
            warn!("{new}");
        }
        if problems.is_empty() && !self.problems.is_empty() {
            info!("all is well again");
        }
        self.problems = problems;
    }

    fn shut_down(&self) -> Result<(), Fault> {
        let Some(file) = &self.shutdown else {
            warn!("a long press, and no --shutdown-file to ask for it: the machine stays on");
            return Err(Fault::Absent);
        };
        info!("a long press: the machine is to shut down");
        std::fs::write(file, "").map_err(|error| {
            warn!("cannot ask for a shutdown by {}: {error}", file.display());
            cloister_sysfs::fault(&error)
        })
    }
}

fn is_closed(contact: &mut Option<Late<dyn Contact>>) -> Option<Result<bool, Fault>> {
    let contact = contact.as_mut()?;
    contact.ask(|contact| contact.is_closed())
}

async fn changed(contact: &mut Option<Late<dyn Contact>>) {
    match contact {
        Some(contact) => contact.changed().await,
        None => std::future::pending().await,
    }
}
