//! What the owner has wired to a board.

use std::fs;
use std::time::Duration;

use cloister_control::device::Fault;
use cloister_control::light::Rgb;
use cloister_control::units::{Celsius, Duty};
use cloister_panel::board::devices::Devices;
use cloister_panel::board::{Board, Machine, find, find_wired};
use cloister_sysfs::made::machine;
use tokio::time::advance;

use crate::said;

fn wired(machine: &Machine, devices: &str) -> Board {
    let devices: Devices = toml::from_str(devices).unwrap();
    find_wired(machine, None, devices).unwrap()
}

#[test]
fn two_devices_at_one_address_are_named_however_their_bus_is_called() {
    let (_root, machine) = machine(&[
        ("/proc/device-tree/aliases/i2c1", "/soc/i2c@74000\0"),
        ("/sys/firmware/devicetree/base/soc/i2c@74000/status", "okay"),
        ("/sys/class/i2c-dev/i2c-6/name", "the adapter"),
        ("/dev/i2c-6", "no bus"),
    ]);
    let device = machine.path("/sys/class/i2c-dev/i2c-6/device");
    fs::create_dir_all(&device).unwrap();
    let tree = machine.path("/sys/firmware/devicetree/base/soc/i2c@74000");
    std::os::unix::fs::symlink(tree, device.join("of_node")).unwrap();
    let mut board = wired(
        &machine,
        r#"
        power = { driver = "ina219", bus = "the adapter", address = 0x48, shunt-milliohms = 100 }
        display = { driver = "ssd1306", bus = "i2c1", address = 0x3C, size = "128x64" }
        fan = { driver = "emc2101", bus = "i2c2", address = 0x4C }
        [[temperature]]
        driver = "tmp102"
        bus = "i2c1"
        address = 0x48
        [[temperature]]
        driver = "lm75"
        bus = "i2c1"
        address = 0x80
        "#,
    );
    let temperature = said(&board, "temperature");
    assert_eq!(
        temperature[0],
        "TMP102 at 0x48 of i2c1: no: it reports an error"
    );
    assert_eq!(
        temperature[1],
        "LM75 at 0x80 of i2c1: no: an address is 0x08 to 0x77"
    );
    assert_eq!(
        said(&board, "power"),
        ["INA219 at 0x48 of the adapter: no: two devices at one address: TMP102 is there"]
    );
    assert_eq!(
        said(&board, "display"),
        ["SSD1306 at 0x3c of i2c1: no: it reports an error"]
    );
    assert!(said(&board, "fan")[0].contains("no I2C bus is called i2c2"));
    let power = board.power.as_mut().unwrap().ask(|meter| meter.read());
    assert_eq!(power, Some(Err(Fault::Taken)));
    assert!(board.folders.contains("/dev"), "to be opened when sealed");
}

#[test]
fn what_the_owner_has_wired_takes_the_place_of_what_the_table_names() {
    let (_root, machine) = machine(&[
        (
            "/proc/device-tree/compatible",
            "raspberrypi,5-model-b\0brcm,bcm2712\0",
        ),
        ("/sys/class/leds/ACT/max_brightness", "1"),
        ("/sys/class/leds/ACT/brightness", "0"),
    ]);
    let led = said(&find(&machine, None).unwrap(), "light");
    assert_eq!(led, ["LED ACT: shows the state"]);
    let board = wired(
        &machine,
        r#"
        light = { driver = "gpio", chip = "pinctrl-rp1", lines = [17, 27, 22] }
        privacy-switch = { chip = "pinctrl-rp1", line = 6 }
        "#,
    );
    for what in ["light", "privacy switch"] {
        let said = said(&board, what);
        assert!(
            said[0].contains("no GPIO chip has the label pinctrl-rp1"),
            "{said:?}"
        );
    }
}

#[test]
fn a_word_too_much_in_what_is_wired_is_wrong() {
    for wrong in [
        "lamp = 1",
        r#"light = { driver = "candle" }"#,
        r#"light = { driver = "led", name = "ACT", colour = "red" }"#,
        r#"temperature = [{ driver = "tmp102", bus = "i2c1", adress = 0x48 }]"#,
        r#"button = { chip = "pinctrl-rp1" }"#,
    ] {
        assert!(toml::from_str::<Devices>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_limit_that_cannot_be_and_a_shunt_that_resists_nothing_are_refused_by_their_keys() {
    let refused = |table: String, key: &str| {
        let error = toml::from_str::<Devices>(&table).expect_err(&table);
        assert!(error.message().contains(key), "{table}: {error}");
    };
    let bus = r#"bus = "i2c1", address = 0x48"#;
    for limit in ["nan", "inf", "-500", "0", "125.5"] {
        for thermometer in [
            format!(r#"driver = "tmp102", {bus}"#),
            r#"driver = "thermal-zone", names = ["cpu*"]"#.to_owned(),
        ] {
            refused(
                format!("temperature = [{{ {thermometer}, limit = {limit} }}]"),
                "`limit`",
            );
        }
    }
    for shunt in ["nan", "inf", "-100", "0"] {
        refused(
            format!(r#"power = {{ driver = "ina219", {bus}, shunt-milliohms = {shunt} }}"#),
            "`shunt-milliohms`",
        );
    }
    let right = format!(r#"temperature = [{{ driver = "tmp102", {bus}, limit = 125 }}]"#);
    assert!(toml::from_str::<Devices>(&right).is_ok());
}

/// What a light, a fan and a watchdog say to being used.
fn used(board: &mut Board) -> [Option<Result<(), Fault>>; 3] {
    let light = board.light.as_mut().unwrap();
    let fan = board.fan.as_mut().unwrap();
    let dog = board.watchdog.as_mut().unwrap();
    [
        light.ask(|light| light.set(Rgb::BLACK)),
        fan.ask(|fan| fan.set(Duty(90))),
        dog.ask(|dog| dog.feed()),
    ]
}

/// As they appear when a driver is loaded, or something is plugged in.
fn plug_in(machine: &Machine) {
    for (file, text) in [
        ("/sys/class/leds/ACT/max_brightness", "1"),
        ("/sys/class/leds/ACT/brightness", "0"),
        ("/sys/class/hwmon/hwmon4/name", "pwmfan"),
        ("/sys/class/hwmon/hwmon4/pwm1", "0"),
        ("/sys/class/watchdog/watchdog0/identity", "Dog"),
        ("/dev/watchdog0", ""),
    ] {
        machine.put(file, text);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_wired_is_a_fault_until_it_comes_and_what_a_table_alone_names_is_none() {
    let (_root, machine) = machine(&[]);
    let of_table = find(&machine, Some("raspberry-pi-5"));
    let mut of_table = of_table.unwrap();
    assert_eq!(used(&mut of_table), [None; 3]);
    let mut board = wired(
        &machine,
        r#"
        light = { driver = "led", name = "ACT" }
        fan = { driver = "hwmon", name = "pwmfan" }
        watchdog = { identity = "Dog" }
        "#,
    );
    assert_eq!(used(&mut board), [Some(Err(Fault::Absent)); 3]);
    plug_in(&machine);
    advance(Duration::from_secs(1)).await;
    assert_eq!(used(&mut board), [Some(Ok(())); 3]);
    let driven = machine.path("/sys/class/hwmon/hwmon4/pwm1");
    soon(|| fs::read(&driven).unwrap() == b"90");
    advance(Duration::from_secs(10)).await;
    assert_eq!(used(&mut of_table), [Some(Ok(())); 3]);
    // From now on it is missed.
    fs::remove_dir_all(machine.path("/sys/class/leds/ACT")).unwrap();
    soon(|| used(&mut of_table)[0] == Some(Err(Fault::Absent)));
}

/// Waits for what a thread of its own does.
fn soon(mut is: impl FnMut() -> bool) {
    let mut looks = (0..10_000).map(|_| {
        std::thread::sleep(Duration::from_millis(1));
        is()
    });
    assert!(looks.any(|is| is), "never");
}

#[tokio::test(start_paused = true)]
async fn a_thermometer_that_comes_later_is_found_by_its_name() {
    let (_root, machine) = machine(&[]);
    let mut board = wired(
        &machine,
        r#"
        [[temperature]]
        driver = "hwmon"
        names = ["lm75"]
        "#,
    );
    let sought = |board: &Board| board.sought.iter().filter(|sought| sought.wired).count();
    assert_eq!((board.thermometers.len(), sought(&board)), (0, 1));
    // Until then it is a sensor that says nothing, so that the law is blind and not at ease.
    let said: Vec<_> = board.temperatures().map(|of| of.reading).collect();
    assert_eq!(said, [Err(Fault::Absent)]);
    let findings = board.findings.len();
    machine.put("/sys/class/hwmon/hwmon0/name", "lm75");
    machine.put("/sys/class/hwmon/hwmon0/temp1_input", "31500");
    board.look_again();
    let read = board.thermometers[0].device.ask(|device| device.read());
    assert_eq!((read, sought(&board)), (Some(Ok(Celsius(31.5))), 0));
    assert_eq!(board.findings.len(), findings);
}

#[test]
fn thermometers_that_are_too_many_are_told_and_what_the_owner_has_wired_comes_first() {
    let (_root, machine) = machine(&[]);
    for n in 0..10 {
        let zone = format!("/sys/class/thermal/thermal_zone{n}");
        machine.put(&format!("{zone}/type"), &format!("cpu{n}-thermal"));
        machine.put(&format!("{zone}/temp"), "40000");
    }
    let too_many = |board: &Board| {
        let said = said(board, "temperature");
        said.iter().filter(|of| of.contains("8 others")).count()
    };
    let board = find(&machine, None).unwrap();
    assert_eq!((too_many(&board), board.wired_beyond), (2, false));
    let one = "[[temperature]]\ndriver = \"hwmon\"\nnames = [\"lm75\"]\n";
    let mut board = wired(&machine, one);
    assert_eq!((too_many(&board), board.wired_beyond), (3, false));
    machine.put("/sys/class/hwmon/hwmon0/name", "lm75");
    machine.put("/sys/class/hwmon/hwmon0/temp1_input", "31500");
    board.look_again();
    assert_eq!(board.thermometers.last().unwrap().name, "lm75");
    let all = "[[temperature]]\ndriver = \"thermal-zone\"\nnames = [\"cpu*\"]\n";
    assert!(wired(&machine, all).wired_beyond);
}

#[test]
fn nobody_takes_a_switch_that_cannot_be_read_for_one_that_is_off() {
    let (_root, machine) = machine(&[]);
    let mut board = wired(
        &machine,
        r#"privacy-switch = { chip = "pinctrl-rp1", line = 6 }"#,
    );
    let switch = board.privacy_switch.as_mut().expect("it was wired");
    let closed = switch.ask(|switch| switch.is_closed());
    assert_eq!(closed, Some(Err(Fault::Absent)));
}
