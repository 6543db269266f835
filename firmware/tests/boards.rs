//! Boards as their kernels show them: trees of sysfs in a folder of the test's.

use std::fs;
use std::time::Duration;

use cloister_control::device::Fault;
use cloister_control::light::Rgb;
use cloister_control::units::{Celsius, Duty, Rpm, Watts};
use cloister_panel::board::devices::Devices;
use cloister_panel::board::{Board, Machine, Outcome, find, find_wired};
use tempfile::TempDir;
use tokio::time::advance;

fn machine(files: &[(&str, &str)]) -> (TempDir, Machine) {
    let root = tempfile::tempdir().unwrap();
    let machine = Machine::below(root.path());
    files
        .iter()
        .for_each(|(path, text)| machine.put(path, text));
    (root, machine)
}

fn said(board: &Board, what: &str) -> Vec<String> {
    let of = board.findings.iter().filter(|finding| finding.what == what);
    of.map(|finding| match &finding.outcome {
        Outcome::Found { does } => format!("{}: {does}", finding.place),
        Outcome::Missing { why } => format!("{}: no: {why}", finding.place),
    })
    .collect()
}

#[test]
fn a_raspberry_pi_is_bound_as_its_own_kernel_shows_it() {
    let flags = "/sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled";
    let (_root, machine) = machine(&[
        (
            "/proc/device-tree/compatible",
            "raspberrypi,5-model-b\0brcm,bcm2712\0",
        ),
        ("/sys/class/thermal/thermal_zone0/type", "cpu-thermal"),
        ("/sys/class/thermal/thermal_zone0/temp", "51234"),
        ("/sys/class/hwmon/hwmon2/name", "pwmfan"),
        ("/sys/class/hwmon/hwmon2/pwm1", "0"),
        ("/sys/class/hwmon/hwmon2/fan1_input", "0"),
        (flags, "0"),
        (
            "/sys/class/watchdog/watchdog0/identity",
            "Broadcom BCM2835 Watchdog timer",
        ),
        ("/sys/class/watchdog/watchdog0/max_timeout", "15"),
        ("/dev/watchdog0", ""),
    ]);
    let mut board = find(&machine, None).unwrap();
    assert_eq!(board.name, "raspberry-pi-5");
    let thermometer = &mut board.thermometers[0];
    let read = thermometer.device.ask(|device| device.read());
    assert_eq!(
        (read, thermometer.on_die),
        (Some(Ok(Celsius(51.234))), true)
    );
    let soc = board.soc.as_mut().unwrap();
    assert_eq!(soc.ask(|soc| soc.read()), Some(Ok(false)));
    assert_eq!(
        said(&board, "temperature"),
        ["zone cpu-thermal: cools by it; now 51.2 °C"]
    );
    let dog = "watchdog *: resets the machine when it was not fed for 15 s";
    assert_eq!(said(&board, "watchdog"), [dog]);
    let node = machine.path("/dev/watchdog0");
    assert_eq!(fs::read(&node).unwrap(), b"\n", "a look has started it");
    let dog = board.watchdog.as_mut().unwrap();
    assert_eq!(dog.ask(|dog| dog.feed()), Some(Ok(())));
    assert_eq!(fs::read(&node).unwrap(), b"\0");
    assert_eq!(said(&board, "fan"), ["chip pwmfan, pwm1: cools with it"]);
    assert!(said(&board, "fan speed")[0].contains("now 0 rpm"));
}

#[test]
fn an_older_raspberry_pi_keeps_below_where_its_firmware_slows_it() {
    for names in [
        "raspberrypi,4-model-b\0brcm,bcm2711\0",
        "raspberrypi,3-model-b-plus\0",
    ] {
        let (_root, machine) = machine(&[
            ("/proc/device-tree/compatible", names),
            ("/sys/class/thermal/thermal_zone0/type", "cpu-thermal"),
            ("/sys/class/thermal/thermal_zone0/temp", "51234"),
            ("/sys/devices/platform/soc/soc:firmware/get_throttled", "8"),
        ]);
        let mut board = find(&machine, None).unwrap();
        assert_eq!(board.name, "raspberry-pi");
        assert!(board.limits.limit < Celsius(80.0));
        assert!(board.thermometers[0].on_die);
        let soc = board.soc.as_mut().unwrap();
        assert_eq!(soc.ask(|soc| soc.read()), Some(Ok(true)));
    }
}

#[test]
fn what_debians_kernel_lacks_on_a_raspberry_pi_is_said_and_not_pretended() {
    let (_root, machine) = machine(&[
        ("/sys/class/thermal/thermal_zone0/type", "cpu-thermal"),
        ("/sys/class/thermal/thermal_zone0/temp", "broken"),
    ]);
    let mut board = find(&machine, Some("raspberry-pi-5")).unwrap();
    let fan = board.fan.as_mut().unwrap();
    assert_eq!(fan.ask(|fan| fan.set(Duty::FULL)), None);
    // It is there, and may answer again.
    assert_eq!(board.thermometers.len(), 1);
    for what in ["temperature", "fan", "fan speed", "power", "throttling"] {
        let said = said(&board, what);
        assert!(said[0].contains(": no: "), "{what}: {said:?}");
    }
}

#[test]
fn a_jetson_is_bound_as_nvidias_kernel_shows_it() {
    let (_root, machine) = machine(&[
        (
            "/proc/device-tree/compatible",
            "nvidia,p3768-0000+p3767-0000\0nvidia,tegra234\0",
        ),
        ("/sys/class/thermal/thermal_zone0/type", "CPU-therm"),
        ("/sys/class/thermal/thermal_zone0/temp", "49000"),
        ("/sys/class/thermal/thermal_zone8/type", "tj-therm"),
        ("/sys/class/thermal/thermal_zone8/temp", "50500"),
        (
            "/sys/class/thermal/cooling_device0/type",
            "thermal-cpufreq-0",
        ),
        ("/sys/class/thermal/cooling_device0/cur_state", "0"),
        ("/sys/class/hwmon/hwmon1/name", "ina3221"),
        ("/sys/class/hwmon/hwmon1/in1_label", "VDD_IN"),
        ("/sys/class/hwmon/hwmon1/in1_input", "5000"),
        ("/sys/class/hwmon/hwmon1/curr1_input", "1400"),
        ("/sys/class/hwmon/hwmon2/name", "pwm_tach"),
        ("/sys/class/hwmon/hwmon2/rpm", "1800"),
        ("/sys/class/hwmon/hwmon3/name", "pwmfan"),
        ("/sys/class/hwmon/hwmon3/pwm1", "60"),
    ]);
    let mut board = find(&machine, None).unwrap();
    assert_eq!(board.name, "jetson-orin");
    let names: Vec<_> = board
        .thermometers
        .iter()
        .map(|at| (&*at.name, at.on_die))
        .collect();
    assert_eq!(names, [("tj-therm", true), ("CPU-therm", false)]);
    let power = board.power.as_mut().unwrap().ask(|meter| meter.read());
    assert_eq!(power, Some(Ok(Watts(7.0))));
    let speed = board.tachometer.as_mut().unwrap().ask(|speed| speed.read());
    assert_eq!(speed, Some(Ok(Rpm(1800))));
    for what in ["fan", "throttling"] {
        assert!(!said(&board, what)[0].contains(": no: "), "{what}");
    }
}

#[test]
fn what_cools_is_no_thermometer_though_it_is_called_like_one() {
    let (_root, machine) = machine(&[
        ("/sys/class/thermal/thermal_zone0/type", "cpu-thermal"),
        ("/sys/class/thermal/thermal_zone0/temp", "51000"),
        ("/sys/class/thermal/cooling_device0/type", "cpufreq-cpu0"),
        ("/sys/class/thermal/cooling_device0/cur_state", "0"),
    ]);
    let board = find(&machine, None).unwrap();
    let names: Vec<_> = board.thermometers.iter().map(|of| &*of.name).collect();
    assert_eq!((&*board.name, names), ("generic", vec!["cpu-thermal"]));
    assert!(!said(&board, "throttling")[0].contains(": no: "));
}

#[test]
fn of_two_meters_none_is_guessed() {
    let (_root, machine) = machine(&[
        ("/sys/class/hwmon/hwmon1/name", "ina226"),
        ("/sys/class/hwmon/hwmon1/power1_input", "1"),
    ]);
    let of_one = said(&find(&machine, None).unwrap(), "power");
    assert!(of_one[0].contains("accounts for energy"), "{of_one:?}");
    machine.put("/sys/class/hwmon/hwmon2/name", "ina219");
    machine.put("/sys/class/hwmon/hwmon2/power1_input", "2");
    let board = find(&machine, None).unwrap();
    assert!(said(&board, "power")[0].contains("several"));
}

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
}

#[test]
fn what_the_owner_has_wired_takes_the_place_of_what_the_table_names() {
    let (_root, machine) = machine(&[
        ("/proc/device-tree/compatible", "raspberrypi,5-model-b\0"),
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
    let is_driven = || {
        std::thread::sleep(Duration::from_millis(1));
        fs::read(&driven).unwrap() == b"90"
    };
    assert!((0..10_000).any(|_| is_driven()), "by a thread of its own");
    advance(Duration::from_secs(10)).await;
    assert_eq!(used(&mut of_table), [Some(Ok(())); 3]);
    // From now on it is missed.
    fs::remove_dir_all(machine.path("/sys/class/leds/ACT")).unwrap();
    assert_eq!(used(&mut of_table)[0], Some(Err(Fault::Absent)));
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
