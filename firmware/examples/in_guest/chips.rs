//! Chips on an emulated I2C bus, which Debian's kernel has for PCs alone: a thermometer and a fan.

use cloister_control::device::Fault;
use cloister_control::units::{Celsius, Duty, Rpm};
use cloister_panel::board::{Board, Machine};
use cloister_panel::drivers::bus_thermometer::Tmp102;
use cloister_panel::drivers::i2c::{self, Bus};

use crate::simulations::{
    LM75, STUB, adapter, fan_file, is, plug_in_the_fan, plug_in_the_thermometer, read, write,
};
use crate::working::becomes;

/// Whether they are to be here.
pub const HERE: bool = cfg!(target_arch = "x86_64");

/// How they are wired.
pub const WIRED: &str = r#"
fan = { driver = "hwmon", name = "lm63" }

[[temperature]]
driver = "hwmon"
names = ["lm75"]
"#;

/// Why the bus cannot be opened, if so.
pub fn opened() -> Option<Fault> {
    let node = i2c::node(&Machine::this(), STUB).expect("the stub's bus");
    Bus::open(&node, 0x49).err()
}

pub fn bus() {
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

pub async fn all(board: &mut Board, how: &str) {
    let what = |what: &str| format!("{how}: {what}");
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
}

pub fn given_back() {
    let governor = read(fan_file("pwm1_enable"));
    is(
        governor,
        "2",
        "a panel that ends gives the fan back to its chip",
    );
}
