//! What is used, open and sealed, and what is pulled out and comes back.

use std::time::Duration;

use cloister_control::device::Fault;
use cloister_control::light::Rgb;
use cloister_panel::board::{Board, Machine};
use cloister_panel::drivers::gpio::{self, LineContact};

use crate::chips;
use crate::simulations::{Lines, is, presses, write};

pub async fn all(board: &mut Board, lines: &Lines, how: &str) {
    let what = |what: &str| format!("{how}: {what}");
    let light = board.light.as_mut().expect("a light");
    for (colour, wanted) in [
        (Rgb::new(160, 70, 0), "110"),
        (Rgb::new(0, 0, 90), "001"),
        (Rgb::BLACK, "000"),
    ] {
        let lit = light.ask(|light| light.set(colour));
        is(lit, Some(Ok(())), &what("a colour"));
        let shown = what("three lines show a colour");
        becomes(|| lines.values(), wanted.to_owned(), &shown).await;
    }
    let button = board.button.as_mut().expect("a button");
    presses(button, lines, (3, "pull-down", "pull-up"), how).await;
    let switch = board.privacy_switch.as_mut().expect("a switch");
    presses(switch, lines, (4, "pull-up", "pull-down"), how).await;

    if chips::HERE {
        chips::all(board, how).await;
    }
    let dog = board.watchdog.as_mut().expect("a watchdog");
    let fed = dog.ask(|dog| dog.feed());
    is(fed, Some(Ok(())), &what("the watchdog is fed"));
}

/// Waits until it is so, as what is on a bus is asked by a thread of its own.
pub async fn becomes<T: PartialEq + std::fmt::Debug>(
    mut look: impl FnMut() -> T,
    wanted: T,
    what: &str,
) {
    let mut found = look();
    for _ in 0..200 {
        if found == wanted {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        found = look();
    }
    is(found, wanted, what);
}

/// A device that was lost is opened again a second later at the earliest.
async fn again() {
    tokio::time::sleep(Duration::from_millis(1100)).await;
}

/// A chip that is pulled out, and comes back when the panel is sealed long since: as a new one, as at the start.
pub async fn unplugged(board: &mut Board) {
    let live = "/sys/kernel/config/gpio-sim/panel/live";
    let button = board.button.as_mut().expect("a button");
    let light = board.light.as_mut().expect("a light");
    let pulled_out = async {
        write(live, "0");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = button.changed() => {}
        () = pulled_out => {}
        () = tokio::time::sleep(Duration::from_secs(5)) => panic!("nobody hears that a chip is gone"),
    }
    let absent = Some(Err(Fault::Absent));
    let closed = button.ask(|button| button.is_closed());
    is(closed, absent, "a chip that is pulled out is absent");
    let lit = || light.ask(|light| light.set(Rgb::BLACK));
    becomes(lit, Some(Err(Fault::Absent)), "with its lights").await;
    again().await;
    let closed = button.ask(|button| button.is_closed());
    is(closed, absent, "and stays so");
    let began = std::time::Instant::now();
    button.changed().await;
    let waited = began.elapsed() >= Duration::from_millis(900);
    is(waited, true, "and who waits for it looks once a second");
    // Somebody is faster.
    write(live, "1");
    let chip = gpio::chip(&Machine::this(), |label| label == "pinctrl-rp1").expect("it is back");
    let others = LineContact::new(&chip, 3, true).expect("its line is free");
    again().await;
    let closed = button.ask(|button| button.is_closed());
    is(
        closed,
        Some(Err(Fault::Taken)),
        "back, with its line taken, it is a fault",
    );
    let lines = Lines::of_the_simulation();
    let mut lit = || {
        let lit = light.ask(|light| light.set(Rgb::new(0, 90, 0)));
        (lit, lines.values())
    };
    let shines = (Some(Ok(())), "010".to_owned());
    becomes(&mut lit, shines, "its other lines shine, sealed").await;
    drop(others);
    again().await;
    presses(button, &lines, (3, "pull-down", "pull-up"), "free again").await;
}
