//! Boards as their kernels show them: trees of sysfs in a folder of the test's.

use std::fs;

use cloister_control::device::Fault;
use cloister_control::units::Celsius;
use cloister_panel::board::devices::Devices;
use cloister_panel::board::{Board, Machine, Outcome, find, find_wired};
use tempfile::TempDir;

fn machine(files: &[(&str, &str)]) -> (TempDir, Machine) {
    let root = tempfile::tempdir().unwrap();
    let machine = Machine::below(root.path());
    for (path, text) in files {
        put(&machine, path, text);
    }
    (root, machine)
}

fn put(machine: &Machine, path: &str, text: &str) {
    let path = machine.path(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("{text}\n")).unwrap();
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
    assert_eq!(board.thermometers[0].device.read(), Ok(Celsius(51.234)));
    assert!(board.thermometers[0].on_die && board.fan.is_some() && board.tachometer.is_some());
    assert_eq!(board.soc.as_mut().unwrap().read(), Ok(false));
    assert_eq!(
        said(&board, "temperature"),
        ["zone cpu-thermal: cools by it; now 51.2 °C"]
    );
    assert_eq!(board.watchdog.as_ref().unwrap().timeout.as_secs(), 15);
    let dog = machine.path("/dev/watchdog0");
    assert_eq!(fs::read(&dog).unwrap(), b"\n", "a look has started it");
    assert_eq!(board.start_watchdog(), Ok(()));
    assert_eq!(fs::read(&dog).unwrap(), b"\0");
    assert_eq!(said(&board, "fan"), ["chip pwmfan, pwm1: cools with it"]);
    assert!(
        board.writes[0].ends_with("sys/class/hwmon"),
        "{:?}",
        board.writes
    );
}

#[test]
fn what_debians_kernel_lacks_on_a_raspberry_pi_is_said_and_not_pretended() {
    let (_root, machine) = machine(&[
        ("/sys/class/thermal/thermal_zone0/type", "cpu-thermal"),
        ("/sys/class/thermal/thermal_zone0/temp", "broken"),
    ]);
    let board = find(&machine, Some("raspberry-pi-5")).unwrap();
    assert!(board.fan.is_none() && board.tachometer.is_none() && board.soc.is_none());
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
    assert_eq!(
        board.power.as_mut().unwrap().read().unwrap().to_string(),
        "7.0 W"
    );
    assert_eq!(board.tachometer.as_mut().unwrap().read().unwrap().0, 1800);
    assert!(board.fan.is_some() && board.soc.is_some());
}

#[test]
fn of_two_meters_none_is_guessed() {
    let (_root, machine) = machine(&[
        ("/sys/class/hwmon/hwmon1/name", "ina226"),
        ("/sys/class/hwmon/hwmon1/power1_input", "1"),
    ]);
    assert!(find(&machine, None).unwrap().power.is_some());
    put(&machine, "/sys/class/hwmon/hwmon2/name", "ina219");
    put(&machine, "/sys/class/hwmon/hwmon2/power1_input", "2");
    let board = find(&machine, None).unwrap();
    assert!(board.power.is_none());
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
    let board = wired(
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
    assert!(board.power.is_none() && board.fan.is_none());
}

#[test]
fn what_the_owner_has_wired_takes_the_place_of_what_the_table_names() {
    let (_root, machine) = machine(&[
        ("/proc/device-tree/compatible", "raspberrypi,5-model-b\0"),
        ("/sys/class/leds/ACT/max_brightness", "1"),
        ("/sys/class/leds/ACT/brightness", "0"),
    ]);
    assert!(find(&machine, None).unwrap().light.is_some());
    let board = wired(
        &machine,
        r#"
        light = { driver = "gpio", chip = "pinctrl-rp1", lines = [17, 27, 22] }
        privacy-switch = { chip = "pinctrl-rp1", line = 6 }
        "#,
    );
    assert!(board.light.is_none());
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
fn what_is_wired_and_cannot_be_used_is_a_fault_and_what_a_table_alone_names_is_none() {
    let (_root, machine) = machine(&[]);
    let board = find(&machine, Some("raspberry-pi-5")).unwrap();
    assert!(board.fan.is_none() && board.unbound().next().is_none());
    let mut board = wired(
        &machine,
        r#"
        privacy-switch = { chip = "pinctrl-rp1", line = 6 }
        display = { driver = "ssd1306", bus = "i2c1", address = 0x3C, size = "128x64" }
        light = { driver = "ws2812", device = "spidev0.0" }
        [[temperature]]
        driver = "tmp102"
        bus = "i2c1"
        address = 0x48
        "#,
    );
    let unbound: Vec<_> = board.unbound().collect();
    assert_eq!(unbound, ["light", "display", "temperature"]);
    // And nobody takes a switch that cannot be read for one that is off.
    let switch = board.privacy_switch.as_mut().expect("it was wired");
    assert_eq!(switch.is_closed(), Err(Fault::Absent));
}
