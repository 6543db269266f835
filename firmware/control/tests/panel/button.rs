//! What a press means, and what the display shows then.

use cloister_control::device::Fault;
use cloister_control::display::Page;
use cloister_control::units::Millis;
use cloister_control::{Phase, Shown};

use crate::desk::{Desk, PRIVATE, READY, press, working};

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
fn a_prompt_takes_no_code_off_the_display_and_no_page_keeps_a_press_from_stopping_it() {
    let mut desk = Desk::new();
    desk.after(Millis::seconds(1));
    press(&mut desk);
    press(&mut desk);
    desk.engine = working(Phase::Reading);
    desk.tokens += 1;
    assert_eq!(desk.after(Millis::seconds(2)).view.page, Page::Code);
    for _ in 0..10 {
        let stops = press(&mut desk);
        assert_eq!((stops.view.page, stops.stop_answers), (Page::Code, true));
        desk.tokens += 1;
        desk.after(Millis::seconds(3));
    }
    desk.engine = READY;
    assert_eq!(press(&mut desk).view.page, Page::FingerprintBegin);
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
