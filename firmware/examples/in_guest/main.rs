//! The drivers on a real kernel: simulated GPIO lines, an emulated thermometer and fan, a software watchdog, an LED of a
//! keyboard.
//! For `tests/firmware/guest`, which starts it as root in a guest that has these; one line for each thing that holds.
//!
//!     in_guest          tries everything, sealed at the end as the panel is
//!     in_guest crash    starts the watchdog, and dies without stopping it
//!     in_guest serve    listens where `serve` does, and does so anew after the first who connects

mod simulations;
mod sockets;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use cloister_control::device::{Fault, StatusLight};
use cloister_control::light::Rgb;
use cloister_control::units::{Celsius, Duty, Rpm};
use cloister_panel::board::devices::Devices;
use cloister_panel::board::{Board, Machine, Outcome, find_wired};
use cloister_panel::drivers::bus_thermometer::Tmp102;
use cloister_panel::drivers::gpio::{self, LineContact};
use cloister_panel::drivers::i2c::{self, Bus};
use cloister_panel::drivers::led::Led;

use simulations::{
    LM75, Lines, STUB, adapter, fan_file, is, plug_in_the_fan, plug_in_the_thermometer, presses,
    read, write,
};

/// What is wired in the guest.
const WIRED: &str = r#"
light = { driver = "gpio", chip = "pinctrl-rp1", lines = [0, 1, 2] }
button = { chip = "pinctrl-rp1", line = 3 }
privacy-switch = { chip = "pinctrl-rp1", line = 4, to-ground = false }
fan = { driver = "hwmon", name = "lm63" }
watchdog = { identity = "Software Watchdog", timeout-seconds = 60 }

[[temperature]]
driver = "hwmon"
names = ["lm75"]
"#;

const DOG: &str = "/sys/class/watchdog/watchdog0/state";

fn main() {
    let word = std::env::args().nth(1);
    if word.as_deref() == Some("serve") {
        return sockets::listen_twice();
    }
    let crash = word.as_deref() == Some("crash");
    let wired = match crash {
        true => WIRED.replace("timeout-seconds = 60", "timeout-seconds = 4"),
        false => WIRED.to_owned(),
    };
    let devices: Devices = toml::from_str(&wired).expect("the wiring is right");
    if crash {
        let mut board = find_wired(&Machine::this(), None, devices).expect("there is a board");
        let dog = board.watchdog.as_mut().expect("a watchdog");
        is(
            dog.ask(|dog| dog.feed()),
            Some(Ok(())),
            "the watchdog starts",
        );
        std::process::abort();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    leds();
    bus();
    rights();
    let find = || find_wired(&Machine::this(), None, devices.clone()).expect("there is a board");
    let mut board = find();
    for finding in &board.findings {
        println!(
            "     {}: {}: {:?}",
            finding.what, finding.place, finding.outcome
        );
    }
    everything_is_found(&board);
    taken();
    look_and_watchdog(&mut board);
    let lines = Lines::of_the_simulation();
    runtime.block_on(all(&mut board, &lines, "open"));
    // Its threads end: who has some cannot be sealed.
    let folders = std::mem::take(&mut board.folders);
    drop(board);
    let mut serve = sockets::serve();
    seal(&folders);
    let mut board = find();
    sockets::reach();
    serve.wait().expect("it ends by itself");
    runtime.block_on(all(&mut board, &lines, "sealed"));
    runtime.block_on(unplugged(&mut board));
    drop(board);
    let governor = read(fan_file("pwm1_enable"));
    is(
        governor,
        "2",
        "a panel that ends gives the fan back to its chip",
    );
    is(
        read(DOG),
        "inactive",
        "a panel that ends stops the watchdog",
    );
    println!("in_guest: everything holds");
}

fn leds() {
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

fn bus() {
    let node = i2c::node(&Machine::this(), STUB).expect("the stub's bus");
    let mut sensor = Tmp102::new(Bus::open(&node, LM75).expect("nobody has it"), LM75);
    let answer = cloister_control::device::Thermometer::read(&mut sensor);
    is(
        answer,
        Err(Fault::Bus),
        "an adapter that cannot do plain I2C is a fault of the bus",
    );
    plug_in_the_thermometer();
    plug_in_the_fan();
    let taken = Bus::open(&node, LM75).err();
    is(
        taken,
        Some(Fault::Taken),
        "an address that a driver of the kernel has is taken",
    );
}

fn rights() {
    let become_user = |user| {
        // SAFETY: it takes a number, and this program has one thread.
        assert_eq!(unsafe { libc::seteuid(user) }, 0);
    };
    become_user(65534);
    let denied = gpio::chip(&Machine::this(), |_| true).err();
    let bus = i2c::node(&Machine::this(), STUB).map(|node| Bus::open(&node, 0x49).err());
    become_user(0);
    is(
        denied,
        Some(Fault::Denied),
        "a GPIO chip without the right to it is denied",
    );
    is(
        bus,
        Ok(Some(Fault::Denied)),
        "an I2C bus without the right to it is denied",
    );
}

fn everything_is_found(board: &Board) {
    for what in [
        "light",
        "button",
        "privacy switch",
        "watchdog",
        "temperature",
        "fan",
        "fan speed",
    ] {
        let found = board.findings.iter().any(|finding| {
            finding.what == what && matches!(finding.outcome, Outcome::Found { .. })
        });
        is(found, true, &format!("{what} is found"));
    }
}

fn taken() {
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

fn look_and_watchdog(board: &mut Board) {
    is(read(DOG), "inactive", "looking starts no watchdog");
    let dog = board.watchdog.as_mut().expect("a watchdog");
    is(dog.ask(|dog| dog.feed()), Some(Ok(())), "it starts");
    is(read(DOG), "active", "and the kernel says so");
    let timeout = read("/sys/class/watchdog/watchdog0/timeout");
    is(timeout, "60", "and waits as long as it was told");
}

async fn all(board: &mut Board, lines: &Lines, how: &str) {
    let what = |what: &str| format!("{how}: {what}");
    let light = board.light.as_mut().expect("a light");
    for (colour, wanted) in [
        (Rgb::new(160, 70, 0), "110"),
        (Rgb::new(0, 0, 90), "001"),
        (Rgb::BLACK, "000"),
    ] {
        is(
            light.ask(|light| light.set(colour)),
            Some(Ok(())),
            &what("a colour"),
        );
        is(lines.values(), wanted, &what("three lines show a colour"));
    }
    let button = board.button.as_mut().expect("a button");
    presses(button, lines, (3, "pull-down", "pull-up"), how).await;
    let switch = board.privacy_switch.as_mut().expect("a switch");
    presses(switch, lines, (4, "pull-up", "pull-down"), how).await;

    let sensor = &mut board.thermometers.last_mut().expect("the LM75").device;
    let mut reads = || sensor.ask(|sensor| sensor.read());
    let warm = Some(Ok(Celsius(25.0)));
    becomes(&mut reads, warm, &what("hwmon's LM75 is read")).await;
    write(adapter().join("delete_device"), "0x48");
    let absent = Some(Err(Fault::Absent));
    let goes_away = what("a sensor that goes away is absent");
    becomes(&mut reads, absent, &goes_away).await;
    write(adapter().join("new_device"), "lm75 0x48");
    let is_back = what("and is read again when it is back");
    becomes(&mut reads, warm, &is_back).await;
    let fan = board.fan.as_mut().expect("a fan");
    for duty in [Duty::FULL, Duty::OFF] {
        is(fan.ask(|fan| fan.set(duty)), Some(Ok(())), &what("a duty"));
        let driven = || (read(fan_file("pwm1")), read(fan_file("pwm1_enable")));
        let wanted = (duty.0.to_string(), "1".to_owned());
        becomes(driven, wanted, &what("the fan is driven, by us")).await;
    }
    let speed = board.tachometer.as_mut().expect("its speed");
    let turns = || speed.ask(|speed| speed.read());
    becomes(turns, Some(Ok(Rpm(2000))), &what("and its speed is read")).await;
    let dog = board.watchdog.as_mut().expect("a watchdog");
    let fed = dog.ask(|dog| dog.feed());
    is(fed, Some(Ok(())), &what("the watchdog is fed"));
}

/// Waits until it is so, as what is on a bus is asked by a thread of its own.
async fn becomes<T: PartialEq + std::fmt::Debug>(
    mut look: impl FnMut() -> T,
    wanted: T,
    what: &str,
) {
    let mut found = look();
    for _ in 0..100 {
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
async fn unplugged(board: &mut Board) {
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
    let lit = light.ask(|light| light.set(Rgb::BLACK));
    is(lit, Some(Err(Fault::Absent)), "with its lights");
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
    let lit = light.ask(|light| light.set(Rgb::new(0, 90, 0)));
    is(
        (lit, &*lines.values()),
        (Some(Ok(())), "010"),
        "its other lines shine, sealed",
    );
    drop(others);
    again().await;
    presses(button, &lines, (3, "pull-down", "pull-up"), "free again").await;
}

fn seal(folders: &BTreeSet<&str>) {
    let mut policy = cloister_sandbox::processes::panel(Path::new(sockets::SOCKET));
    // What this program itself does: pulling lines, and looking at what came of it.
    policy = policy
        .write(adapter().join("new_device"))
        .write(adapter().join("delete_device"))
        .write("/sys/kernel/config");
    for folder in folders {
        policy = policy.devices(folder);
    }
    let seal = policy.seal().expect("it can be sealed");
    println!("     {}", seal.line());
    is(
        (seal.calls, seal.landlock > 0),
        (true, true),
        "it is sealed",
    );
    let opened = fs::File::create("/run/made").map(drop);
    is(opened.is_err(), true, "and makes no file");
}
