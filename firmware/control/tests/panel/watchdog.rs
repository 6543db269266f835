//! Whom the watchdog is fed for.

use cloister_control::units::Millis;
use cloister_control::{Engine, Phase, Shown};

use crate::desk::{Desk, PRIVATE, READY, working};

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
            desk.after(Millis::seconds(540)).feed,
            "two tests may have been missed"
        );
        assert!(!desk.after(Millis::seconds(120)).feed, "dead");
        desk.computes = true;
        assert!(desk.after(Millis::seconds(60)).feed, "alive again");
    }
}

#[test]
fn no_silence_hides_that_nothing_is_computed() {
    for lost in [Engine::Away, Engine::Silent] {
        for (says, computes) in [(READY, false), (working(Phase::Answering), true)] {
            let mut desk = Desk::new();
            desk.engine = says;
            assert!(desk.after(Millis::seconds(60)).feed);
            desk.computes = computes;
            // It is heard, lost, and heard again: each time for too short to tell.
            let fed = (0..60).all(|_| {
                desk.engine = lost;
                let fed = desk.after(Millis::seconds(11)).feed;
                desk.engine = says;
                fed && desk.after(Millis::seconds(11)).feed
            });
            assert!(!fed, "{lost:?}, {says:?}");
        }
    }
}

#[test]
fn a_serve_that_was_never_there_has_no_machine_reset() {
    let mut desk = Desk::new();
    desk.engine = Engine::Away;
    let outputs = desk.after(Millis::seconds(3600));
    assert!(outputs.feed && outputs.shown == Shown::Broken);
}
