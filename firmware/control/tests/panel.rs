//! The panel as a whole: every state is reached, and none is shown that is not so.

use cloister_control::device::Fault;
use cloister_control::display::Page;
use cloister_control::light::{Rgb, pattern};
use cloister_control::privacy;
use cloister_control::thermal::{Limits, Measured, Sample, Throttle};
use cloister_control::units::{Celsius, Duty, Millis, Rpm, Watts};
use cloister_control::{Engine, Inputs, LOADS_WITHIN, Outputs, Panel, Phase, STARTS_WITHIN, Shown};
use proptest::prelude::*;

const LIMITS: Limits = Limits {
    fan_starts: Celsius(50.0),
    fan_full: Celsius(67.0),
    throttle: Celsius(72.0),
    critical: Celsius(78.0),
    limit: Celsius(80.0),
    soc_slows: Celsius(60.0),
    fan_least: Duty(77),
};

const READY: Engine = Engine::Serving {
    phase: Phase::Idle,
    private: false,
};
const PRIVATE: Engine = Engine::Serving {
    phase: Phase::Idle,
    private: true,
};

fn working(phase: Phase) -> Engine {
    Engine::Serving {
        phase,
        private: false,
    }
}

/// A panel, its time, and what it is told.
struct Desk {
    panel: Panel,
    now: Millis,
    engine: Engine,
    button: Option<Result<bool, Fault>>,
    switch: Option<Result<bool, Fault>>,
    degrees: Result<f32, Fault>,
    on_die: bool,
    soc_throttles: Option<bool>,
    rpm: u32,
    tokens: u64,
    /// Whether `serve` passes a self-test each minute.
    computes: bool,
    /// What becomes of the next wish to shut down, and what did of the last one.
    shutdown: Result<(), Fault>,
    shutdown_asked: Option<Result<(), Fault>>,
    has_display: bool,
}

impl Desk {
    fn new() -> Self {
        Self {
            panel: Panel::new(LIMITS),
            now: Millis(5000),
            engine: READY,
            button: Some(Ok(false)),
            switch: Some(Ok(false)),
            degrees: Ok(45.0),
            on_die: false,
            soc_throttles: None,
            rpm: 3000,
            tokens: 0,
            computes: true,
            shutdown: Ok(()),
            shutdown_asked: None,
            has_display: true,
        }
    }

    fn step(&mut self) -> Outputs {
        let sensors = [Sample {
            reading: self.degrees.map(Celsius),
            limit: LIMITS.limit,
            on_die: self.on_die,
        }];
        let outputs = self.panel.step(
            self.now,
            &Inputs {
                engine: self.engine,
                tokens: Some(self.tokens),
                steps: Some(self.tokens),
                tests: if self.computes { self.now.0 / 60_000 } else { 0 },
                button: self.button,
                privacy_switch: self.switch,
                display: self.has_display,
                measured: Some(Measured {
                    sensors: &sensors,
                    fan: Some(Ok(())),
                    tachometer: Some(Ok(Rpm(self.rpm))),
                    soc_throttles: self.soc_throttles,
                    working: matches!(self.engine, Engine::Serving { phase, .. } if phase != Phase::Idle),
                }),
                power: Some(Ok(Watts(6.0))),
                other_fault: false,
                shutdown_asked: self.shutdown_asked.take(),
            },
        );
        if outputs.shut_down {
            self.shutdown_asked = Some(self.shutdown);
        }
        outputs
    }

    /// Goes on for so long, and is asked whenever it wants to be.
    fn after(&mut self, span: Millis) -> Outputs {
        let end = self.now + span;
        loop {
            let outputs = self.step();
            assert!(outputs.again > self.now, "it would be asked for ever");
            if outputs.again >= end {
                self.now = end;
                return self.step();
            }
            self.now = outputs.again;
        }
    }
}

#[test]
fn every_state_is_reached() {
    let shown = |engine| {
        let mut desk = Desk::new();
        desk.step();
        desk.engine = engine;
        desk.after(Millis::seconds(5)).shown
    };
    assert_eq!(shown(Engine::Away), Shown::Starting);
    assert_eq!(shown(Engine::Loading), Shown::Starting);
    assert_eq!(shown(READY), Shown::Ready);
    assert_eq!(shown(working(Phase::Reading)), Shown::Reading);
    assert_eq!(shown(working(Phase::Thinking)), Shown::Thinking);
    assert_eq!(shown(working(Phase::Answering)), Shown::Answering);
    assert_eq!(shown(Engine::Failed), Shown::Broken);
    assert_eq!(shown(Engine::Silent), Shown::Broken);
    let mut desk = Desk::new();
    (desk.engine, desk.switch) = (PRIVATE, Some(Ok(true)));
    assert_eq!(desk.after(Millis::seconds(5)).shown, Shown::Private);
    let mut desk = Desk::new();
    desk.degrees = Ok(79.0);
    let outputs = desk.after(Millis::seconds(5));
    assert_eq!(
        (outputs.shown, outputs.throttle),
        (Shown::TooHot, Throttle::Stop)
    );
    let mut desk = Desk::new();
    desk.step();
    desk.button = Some(Ok(true));
    assert_eq!(desk.after(Millis::seconds(4)).shown, Shown::ShuttingDown);
}

#[test]
fn a_serve_that_stays_away_is_a_fault_and_one_that_comes_back_is_none() {
    let mut desk = Desk::new();
    desk.step();
    desk.engine = Engine::Away;
    assert_eq!(desk.after(Millis::seconds(30)).shown, Shown::Starting);
    assert_eq!(desk.after(STARTS_WITHIN).shown, Shown::Broken);
    desk.engine = READY;
    assert_eq!(desk.step().shown, Shown::Ready);
}

#[test]
fn a_serve_that_loads_for_too_long_or_begins_again_and_again_is_a_fault() {
    for others in [Engine::Loading, Engine::Away] {
        let mut desk = Desk::new();
        desk.step();
        let end = desk.now + LOADS_WITHIN;
        while desk.now < end {
            for engine in [Engine::Loading, others] {
                desk.engine = engine;
                assert_eq!(desk.step().shown, Shown::Starting);
                desk.now = desk.now + Millis::seconds(30);
            }
        }
        assert_eq!(desk.step().shown, Shown::Broken);
        desk.engine = READY;
        assert_eq!(desk.step().shown, Shown::Ready);
    }
}

#[test]
fn private_is_shown_once_serve_has_said_so_and_broken_if_it_does_not() {
    let mut desk = Desk::new();
    desk.step();
    desk.switch = Some(Ok(true));
    let outputs = desk.step();
    assert_eq!((outputs.private, outputs.shown), (Some(true), Shown::Ready));
    let outputs = desk.after(privacy::WITHIN);
    assert_eq!(outputs.shown, Shown::Broken);
    assert!(outputs.problems.privacy_ignored);
    desk.engine = PRIVATE;
    assert_eq!(desk.step().shown, Shown::Private);
    desk.switch = Some(Err(Fault::Absent));
    let outputs = desk.after(Millis::seconds(60));
    assert_eq!(
        (outputs.private, outputs.shown),
        (Some(true), Shown::Private),
        "it stays as it was"
    );
    // Turned off it holds when it has lasted.
    desk.switch = Some(Ok(false));
    assert_eq!(desk.step().private, Some(true));
    assert_eq!(desk.after(Millis(30)).private, Some(false));
}

#[test]
fn a_switch_that_was_off_and_cannot_be_read_is_on_unless_it_is_back_within_half_a_minute() {
    let mut desk = Desk::new();
    assert_eq!(desk.after(Millis::seconds(1)).private, Some(false));
    desk.switch = Some(Err(Fault::Taken));
    let outputs = desk.after(Millis::seconds(29));
    assert_eq!(
        (outputs.private, outputs.shown),
        (Some(false), Shown::Broken)
    );
    assert_eq!(outputs.problems.privacy_switch, Some(Fault::Taken));
    desk.switch = Some(Ok(false));
    assert_eq!(desk.after(Millis::seconds(60)).private, Some(false));
    desk.switch = Some(Err(Fault::Absent));
    let outputs = desk.after(privacy::LOST);
    assert_eq!(
        (outputs.private, outputs.shown),
        (Some(true), Shown::Broken)
    );
    desk.switch = Some(Ok(false));
    desk.step();
    assert_eq!(desk.after(Millis::seconds(1)).private, Some(false));
}

#[test]
fn the_fan_follows_the_heat_without_serve() {
    let mut desk = Desk::new();
    desk.engine = Engine::Away;
    assert_eq!(desk.after(Millis::seconds(120)).fan, Duty::OFF);
    desk.degrees = Ok(60.0);
    let warm = desk.after(Millis::seconds(5)).fan;
    desk.degrees = Ok(68.0);
    let hot = desk.after(Millis::seconds(5)).fan;
    assert!(Duty::OFF < warm && warm < hot && hot == Duty::FULL);
    desk.degrees = Ok(45.0);
    assert_eq!(desk.after(Millis::seconds(3600)).fan, Duty::OFF);
}

#[test]
fn a_switch_that_never_answered_is_on_and_a_board_without_one_says_nothing() {
    let mut desk = Desk::new();
    desk.switch = Some(Err(Fault::Taken));
    assert_eq!(desk.step().private, Some(true));
    let mut desk = Desk::new();
    desk.switch = None;
    assert_eq!(desk.step().private, None);
}

#[test]
fn a_short_press_stops_once_and_a_long_one_shuts_down_once() {
    let mut desk = Desk::new();
    desk.engine = working(Phase::Thinking);
    desk.after(Millis(100));
    // It bounces.
    for closed in [true, false, true, false, true] {
        desk.button = Some(Ok(closed));
        desk.now = desk.now + Millis(3);
        assert!(!desk.step().stop_answers);
    }
    desk.after(Millis(200));
    desk.button = Some(Ok(false));
    let before = desk.step();
    assert!(!before.stop_answers);
    desk.now = before.again;
    let outputs = desk.step();
    assert!(outputs.stop_answers && !outputs.shut_down);
    assert_eq!(outputs.view.page, Page::Figures);
    assert!(!desk.step().stop_answers);

    desk.button = Some(Ok(true));
    let mut shut_down = 0;
    for _ in 0..500 {
        desk.now = desk.now + Millis(10);
        let outputs = desk.step();
        assert!(!outputs.stop_answers);
        shut_down += u32::from(outputs.shut_down);
    }
    assert_eq!(shut_down, 1);
    desk.button = Some(Ok(false));
    desk.now = desk.now + Millis(100);
    assert!(!desk.step().stop_answers && !desk.after(Millis(200)).stop_answers);
}

#[test]
fn a_shutdown_that_nobody_carries_out_hides_nothing() {
    for refused in [Err(Fault::Denied), Ok(())] {
        let mut desk = Desk::new();
        desk.step();
        (desk.shutdown, desk.button) = (refused, Some(Ok(true)));
        desk.after(Millis::seconds(4));
        desk.button = Some(Ok(false));
        if refused.is_ok() {
            assert_eq!(desk.after(Millis::seconds(100)).shown, Shown::ShuttingDown);
            desk.after(Millis::seconds(20));
        }
        let outputs = desk.after(Millis::seconds(1));
        let problems = (outputs.problems.shutdown, outputs.problems.shutdown_ignored);
        assert_eq!(problems, (refused.err(), refused.is_ok()));
        assert_eq!(outputs.shown, Shown::Broken);
        (desk.engine, desk.switch) = (PRIVATE, Some(Ok(true)));
        assert_eq!(desk.step().shown, Shown::Private);
        (desk.engine, desk.switch) = (READY, Some(Ok(false)));
        assert_eq!(
            desk.after(Millis::seconds(121)).shown,
            Shown::Ready,
            "in the end"
        );
    }
}

#[test]
fn a_line_that_was_lost_while_the_button_was_pressed_is_no_long_press() {
    let mut desk = Desk::new();
    desk.after(Millis(100));
    for (span, button) in [
        (100, Ok(true)),
        (10_000, Err(Fault::Absent)),
        (10_000, Ok(true)),
        (100, Ok(false)),
    ] {
        desk.button = Some(button);
        let end = desk.now + Millis(span);
        while desk.now < end {
            let outputs = desk.step();
            assert!(!outputs.shut_down && !outputs.stop_answers, "{button:?}");
            desk.now = desk.now + Millis(50);
        }
    }
}

#[test]
fn a_button_held_from_the_start_or_for_ever_is_a_fault_and_no_wish() {
    let mut desk = Desk::new();
    desk.button = Some(Ok(true));
    for _ in 0..40 {
        let outputs = desk.step();
        assert!(!outputs.shut_down && !outputs.stop_answers);
        desk.now = desk.now + Millis::seconds(1);
    }
    assert!(desk.step().problems.button_stuck);
    desk.button = Some(Ok(false));
    desk.now = desk.now + Millis(100);
    desk.step();
    assert!(!desk.after(Millis(100)).problems.button_stuck);
}

#[test]
fn energy_is_counted_for_each_token_and_for_the_day() {
    let mut desk = Desk::new();
    desk.after(Millis::seconds(1800));
    assert_eq!(desk.step().joules_per_token, None);
    desk.engine = working(Phase::Answering);
    // 10 tokens a second at 6 W.
    for _ in 0..60 {
        desk.step();
        desk.now = desk.now + Millis::seconds(1);
        desk.tokens += 10;
    }
    desk.engine = READY;
    let outputs = desk.step();
    let joules = outputs.joules_per_token.expect("600 tokens").0;
    assert!((0.59..0.62).contains(&joules), "{joules}");
    let hours = outputs.last_day.expect("half an hour").0;
    assert!(
        (3.0..3.2).contains(&hours),
        "{hours} Wh of 6 W for 31 minutes"
    );
    let day = desk
        .after(Millis::seconds(50 * 3600))
        .last_day
        .expect("a day")
        .0;
    assert!((138.0..144.5).contains(&day), "{day} Wh of 6 W for a day");
}

#[test]
fn the_watchdog_is_fed_unless_serve_is_gone_for_long_or_computes_nothing() {
    let mut desk = Desk::new();
    desk.engine = PRIVATE;
    assert!(
        desk.after(Millis::seconds(3600)).feed,
        "private is not dead"
    );
    desk.engine = Engine::Loading;
    assert!(
        desk.after(Millis::seconds(3600)).feed,
        "loading is not dead"
    );
    desk.engine = working(Phase::Reading);
    for _ in 0..200 {
        desk.tokens += 1;
        assert!(desk.after(Millis::seconds(10)).feed, "busy is not dead");
    }
    assert!(!desk.after(Millis::seconds(121)).feed, "stuck");
    desk.engine = READY;
    assert!(desk.after(Millis::seconds(60)).feed);
    desk.engine = Engine::Away;
    assert!(
        desk.after(Millis::seconds(200)).feed,
        "it may be starting again"
    );
    assert!(!desk.after(Millis::seconds(120)).feed, "gone");
}

#[test]
fn an_idle_or_private_serve_that_computes_nothing_any_more_is_not_fed_for() {
    for idle in [READY, PRIVATE] {
        let mut desk = Desk::new();
        desk.engine = idle;
        assert!(desk.after(Millis::seconds(3600)).feed);
        desk.computes = false;
        assert!(
            desk.after(Millis::seconds(290)).feed,
            "it may be a test that was missed"
        );
        assert!(!desk.after(Millis::seconds(20)).feed, "dead");
        desk.computes = true;
        assert!(desk.after(Millis::seconds(60)).feed, "alive again");
    }
}

#[test]
fn a_serve_that_was_never_there_has_no_machine_reset() {
    let mut desk = Desk::new();
    desk.engine = Engine::Away;
    let outputs = desk.after(Millis::seconds(3600));
    assert!(outputs.feed && outputs.shown == Shown::Broken);
}

#[test]
fn a_clock_that_jumps_leaves_nothing_lying_and_starts_nothing() {
    let mut desk = Desk::new();
    desk.engine = working(Phase::Answering);
    let before = desk.step();
    for (jump, back) in [(86_400, false), (3600, true)] {
        let now = desk.now.0;
        desk.now = Millis(if back {
            now.saturating_sub(jump * 1000)
        } else {
            now + jump * 1000
        });
        desk.tokens += 1;
        let after = desk.step();
        assert_eq!(
            (after.shown, after.throttle, after.private, after.feed),
            (before.shown, before.throttle, before.private, true),
            "{jump} s, back: {back}"
        );
        assert!(!after.stop_answers && !after.shut_down && !after.problems.any());
        assert!(
            after
                .joules_per_token
                .is_none_or(|joules| joules.0 < 1000.0)
        );
        // And goes on: what is pressed then is pressed.
        desk.button = Some(Ok(true));
        desk.after(Millis(200));
        desk.button = Some(Ok(false));
        desk.step();
        desk.now = desk.now + Millis(30);
        assert!(desk.step().stop_answers);
    }
}

/// What follows as the button is let go.
fn press(desk: &mut Desk) -> Outputs {
    desk.button = Some(Ok(true));
    desk.after(Millis(100));
    desk.button = Some(Ok(false));
    let let_go = desk.step();
    desk.now = let_go.again;
    desk.step()
}

#[test]
fn presses_ask_for_address_code_and_fingerprint_one_after_the_other() {
    let mut desk = Desk::new();
    desk.after(Millis::seconds(1));
    let pressed = [(); 5].map(|()| press(&mut desk));
    assert!(pressed.iter().all(|of| !of.stop_answers));
    let pages = pressed.map(|of| of.view.page);
    let round = [
        Page::Address,
        Page::Code,
        Page::FingerprintBegin,
        Page::FingerprintEnd,
        Page::Address,
    ];
    assert_eq!(pages, round);
    // Who has looked away begins anew.
    press(&mut desk);
    assert_eq!(desk.after(Millis::seconds(61)).view.page, Page::Dark);
    assert_eq!(press(&mut desk).view.page, Page::Address);
    // Who stops an answer asks for nothing.
    desk.after(Millis::seconds(61));
    desk.engine = working(Phase::Answering);
    let stops = press(&mut desk);
    assert_eq!((stops.view.page, stops.stop_answers), (Page::Figures, true));
    desk.engine = READY;
    assert_eq!(desk.after(Millis(100)).view.page, Page::Figures);
    assert_eq!(press(&mut desk).view.page, Page::Address);
}

#[test]
fn a_prompt_takes_no_code_off_the_display_and_who_turns_its_pages_stops_no_answer() {
    let mut desk = Desk::new();
    desk.after(Millis::seconds(1));
    press(&mut desk);
    desk.engine = working(Phase::Reading);
    desk.tokens += 1;
    assert_eq!(desk.after(Millis::seconds(5)).view.page, Page::Address);
    let turns = press(&mut desk);
    assert_eq!((turns.view.page, turns.stop_answers), (Page::Code, false));
    // Who has read it for a while has something else in mind.
    assert_eq!(desk.after(Millis::seconds(20)).view.page, Page::Code);
    let stops = press(&mut desk);
    assert_eq!((stops.view.page, stops.stop_answers), (Page::Figures, true));

    // Nobody turns pages that nobody sees.
    desk.has_display = false;
    desk.engine = READY;
    press(&mut desk);
    desk.engine = working(Phase::Reading);
    assert!(press(&mut desk).stop_answers);
}

#[test]
fn a_display_moves_and_goes_dark() {
    let mut desk = Desk::new();
    assert_eq!(desk.step().view.page, Page::Dark);
    desk.engine = working(Phase::Answering);
    let first = desk.step().view;
    assert_eq!(first.page, Page::Figures);
    desk.tokens = 1;
    let later = desk.after(Millis::seconds(61)).view;
    assert!(later.page == Page::Figures && later.moved != first.moved);
    desk.engine = READY;
    assert_eq!(desk.after(Millis::seconds(299)).view.page, Page::Figures);
    assert_eq!(desk.after(Millis::seconds(2)).view.page, Page::Dark);
}

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

fn engines() -> impl Strategy<Value = Engine> {
    let phases = prop::sample::select(vec![
        Phase::Idle,
        Phase::Reading,
        Phase::Thinking,
        Phase::Answering,
    ]);
    prop_oneof![
        Just(Engine::Away),
        Just(Engine::Silent),
        Just(Engine::Loading),
        Just(Engine::Failed),
        (phases, any::<bool>()).prop_map(|(phase, private)| Engine::Serving { phase, private }),
    ]
}

fn contacts() -> impl Strategy<Value = Option<Result<bool, Fault>>> {
    prop_oneof![
        8 => any::<bool>().prop_map(|closed| Some(Ok(closed))),
        1 => Just(Some(Err(Fault::Absent))),
    ]
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    Engine(Engine),
    Button(Option<Result<bool, Fault>>),
    Switch(Option<Result<bool, Fault>>),
    Degrees(Result<f32, Fault>),
    Rpm(u32),
    Soc(Option<bool>),
    Nothing,
}

fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let degrees = prop_oneof![4 => (20f32..90.0).prop_map(Ok), 1 => Just(Err(Fault::Bus)), 1 => Just(Ok(f32::NAN))];
    let event = prop_oneof![
        engines().prop_map(Event::Engine),
        contacts().prop_map(Event::Button),
        contacts().prop_map(Event::Switch),
        degrees.prop_map(Event::Degrees),
        prop::sample::select(vec![0, 3000]).prop_map(Event::Rpm),
        prop::sample::select(vec![None, Some(false), Some(true)]).prop_map(Event::Soc),
        Just(Event::Nothing),
    ];
    prop::collection::vec((prop_oneof![1u64..200, 200u64..200_000], event), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_inputs_leaves_the_light_lying(
        events in events(),
        on_die in any::<bool>(),
    ) {
        let mut desk = Desk::new();
        desk.on_die = on_die;
        for (span, event) in events {
            match event {
                Event::Engine(engine) => desk.engine = engine,
                Event::Button(contact) => desk.button = contact,
                Event::Switch(contact) => desk.switch = contact,
                Event::Degrees(degrees) => desk.degrees = degrees,
                Event::Rpm(rpm) => desk.rpm = rpm,
                Event::Soc(slows) => desk.soc_throttles = slows,
                Event::Nothing => {}
            }
            if desk.switch == Some(Ok(true)) {
                prop_assert_eq!(desk.step().private, Some(true), "at once");
            }
            let outputs = desk.after(Millis(span));
            let shown = outputs.shown;
            let (phase, private) = match desk.engine {
                Engine::Serving { phase, private } => (Some(phase), Some(private)),
                _ => (None, None),
            };
            let well = [Shown::Ready, Shown::Reading, Shown::Thinking, Shown::Answering];
            let phases = [Phase::Idle, Phase::Reading, Phase::Thinking, Phase::Answering];
            if let Some(n) = well.iter().position(|of| *of == shown) {
                prop_assert_eq!((phase, private), (Some(phases[n]), Some(false)));
                prop_assert!(outputs.throttle < Throttle::Stop);
                prop_assert_ne!(desk.soc_throttles, Some(true));
                prop_assert!(desk.degrees.is_ok_and(|degrees| degrees < 72.0), "{:?}", desk.degrees);
                prop_assert!(matches!(desk.button, Some(Ok(_))) && matches!(desk.switch, Some(Ok(_))));
            }
            match shown {
                Shown::Private => prop_assert_eq!(private, Some(true)),
                Shown::Broken => prop_assert!(outputs.problems.any()),
                Shown::Starting => prop_assert!(matches!(desk.engine, Engine::Away | Engine::Loading)),
                Shown::TooHot => prop_assert!(outputs.throttle > Throttle::None),
                _ => {}
            }
            // What is not so for long is shown as broken.
            if span > privacy::WITHIN.0 && shown != Shown::ShuttingDown {
                if let (Some(Ok(switch)), Some(private)) = (desk.switch, private)
                    && switch != private
                {
                    prop_assert!(matches!(shown, Shown::Broken | Shown::TooHot), "{shown:?}");
                }
                if desk.degrees.is_ok_and(|degrees| degrees >= 78.0) && private != Some(true) {
                    prop_assert!(matches!(shown, Shown::TooHot | Shown::Broken), "{shown:?}");
                    prop_assert!(outputs.throttle >= Throttle::Half);
                }
            }
            if span > STARTS_WITHIN.0 && desk.engine == Engine::Away && shown != Shown::ShuttingDown {
                prop_assert!(matches!(shown, Shown::Broken | Shown::TooHot), "{shown:?}");
            }
        }
    }
}
