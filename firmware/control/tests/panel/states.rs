//! What the light says, and what follows from it.

use cloister_control::device::Fault;
use cloister_control::thermal::Throttle;
use cloister_control::units::{Duty, Millis};
use cloister_control::{Engine, LOADS_WITHIN, Phase, STARTS_WITHIN, Shown};
use cloister_control::{obeyed, privacy};

use crate::desk::{Desk, PRIVATE, READY, UNHEARD, working};

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
fn a_serve_that_has_not_heard_of_the_switch_is_not_ready_and_one_that_no_panel_can_tell_is_a_fault()
{
    let mut desk = Desk::new();
    desk.engine = UNHEARD;
    assert_eq!(desk.step().shown, Shown::Starting);
    let outputs = desk.after(privacy::WITHIN);
    assert!(outputs.problems.privacy_ignored);
    assert_eq!(outputs.shown, Shown::Broken);
    desk.engine = READY;
    assert_eq!(desk.step().shown, Shown::Ready);
    (desk.engine, desk.switch) = (UNHEARD, None);
    let outputs = desk.step();
    assert!(outputs.problems.privacy_unwired);
    assert_eq!((outputs.shown, outputs.private), (Shown::Broken, None));
    desk.engine = READY;
    assert_eq!(desk.step().shown, Shown::Ready);
}

#[test]
fn a_serve_that_goes_faster_or_slower_than_it_was_asked_to_for_long_is_a_fault() {
    for (degrees, slowed) in [(75.0, Throttle::None), (45.0, Throttle::Stop)] {
        let mut desk = Desk::new();
        desk.degrees = Ok(degrees);
        let asked = desk.after(Millis::seconds(60)).throttle;
        assert_ne!(asked, slowed);
        desk.slowed = Some(slowed);
        let outputs = desk.after(Millis(obeyed::WITHIN.0 - 1));
        assert!(!outputs.problems.throttle_ignored, "it may be on its way");
        let outputs = desk.after(Millis(1));
        assert!(outputs.problems.throttle_ignored);
        assert_eq!(outputs.throttle, asked);
        desk.slowed = None;
        assert!(!desk.step().problems.any());
    }
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
    let total = desk.step().total.expect("all of it").0;
    assert!(
        (302.5..303.8).contains(&total),
        "{total} Wh of 6 W for 50.5 hours"
    );
}

#[test]
fn a_power_meter_that_lies_is_a_fault_and_counts_for_nothing() {
    for lie in [9.2e12, -9.2e9, f32::NAN] {
        let mut desk = Desk::new();
        desk.after(Millis::seconds(1800));
        desk.power = Ok(lie);
        let outputs = desk.after(Millis::seconds(10));
        assert_eq!(outputs.problems.power, Some(Fault::Nonsense));
        desk.power = Ok(6.0);
        let outputs = desk.after(Millis::seconds(1800));
        assert_eq!(outputs.problems.power, None);
        let hours = outputs.last_day.expect("an hour").0;
        assert!((5.9..6.1).contains(&hours), "{hours} Wh of 6 W for an hour");
    }
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
