//! What is found, and by whom it may be used, before anything is.

use std::fs;

use cloister_control::device::{Fault, StatusLight};
use cloister_control::light::Rgb;
use cloister_panel::board::{Board, Machine, Outcome};
use cloister_panel::drivers::gpio::{self, LineContact};
use cloister_panel::drivers::led::Led;

use crate::DOG;
use crate::chips;
use crate::simulations::{is, read};

pub fn leds() {
    let mut leds = fs::read_dir("/sys/class/leds").expect("LEDs").flatten();
    let led = leds.find(|led| led.file_name().to_string_lossy().ends_with("::scrolllock"));
    let led = led.expect("a keyboard's LED").path();
    let trigger = || read(led.join("trigger"));
    let before = trigger();
    let name = led.file_name().unwrap().to_string_lossy().into_owned();
    let mut light = Led::of(&Machine::this(), &name).expect("it can be used");
    light.set(Rgb::new(0, 90, 0)).unwrap();
    is(
        read(led.join("brightness")),
        "1",
        "an LED of the kernel's shines",
    );
    light.set(Rgb::BLACK).unwrap();
    is(read(led.join("brightness")), "0", "and goes out");
    is(
        trigger().starts_with("[none]"),
        true,
        "and is nobody else's",
    );
    drop(light);
    is(trigger(), before, "and is given back");
}

pub fn rights() {
    let become_user = |user| {
        // SAFETY: it takes a number, and this program has one thread.
        assert_eq!(unsafe { libc::seteuid(user) }, 0);
    };
    become_user(65534);
    let denied = gpio::chip(&Machine::this(), |_| true).err();
    let bus = chips::HERE.then(chips::opened);
    become_user(0);
    is(
        denied,
        Some(Fault::Denied),
        "a GPIO chip without the right to it is denied",
    );
    if let Some(bus) = bus {
        let denied = "an I2C bus without the right to it is denied";
        is(bus, Some(Fault::Denied), denied);
    }
}

pub fn everything_is_found(board: &Board) {
    let own = ["light", "button", "privacy switch", "watchdog"];
    let of_chips = ["temperature", "fan", "fan speed"].into_iter();
    for what in own.into_iter().chain(of_chips.filter(|_| chips::HERE)) {
        let found = board.findings.iter().any(|finding| {
            finding.what == what && matches!(finding.outcome, Outcome::Found { .. })
        });
        is(found, true, &format!("{what} is found"));
    }
}

pub fn taken() {
    let chip = || gpio::chip(&Machine::this(), |label| label == "pinctrl-rp1").unwrap();
    is(
        LineContact::new(&chip(), 3, true).err(),
        Some(Fault::Taken),
        "a line that somebody has is taken",
    );
    let user = gpio::user(&chip(), 3);
    is(
        user,
        Some("cloister-panel".to_owned()),
        "and it is known by whom",
    );
    is(
        LineContact::new(&chip(), 99, true).err(),
        Some(Fault::Absent),
        "a line that the chip lacks is absent",
    );
}

pub fn look_and_watchdog(board: &mut Board) {
    is(read(DOG), "inactive", "looking starts no watchdog");
    let dog = board.watchdog.as_mut().expect("a watchdog");
    is(dog.ask(|dog| dog.feed()), Some(Ok(())), "it starts");
    is(read(DOG), "active", "and the kernel says so");
    let timeout = read("/sys/class/watchdog/watchdog0/timeout");
    is(timeout, "60", "and waits as long as it was told");
}
