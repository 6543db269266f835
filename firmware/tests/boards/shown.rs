//! What kernels show by themselves.

use std::fs;

use cloister_control::units::{Celsius, Duty, Rpm, Watts};
use cloister_panel::board::find;
use cloister_sysfs::made::machine;

use crate::said;

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
        "raspberrypi,3-model-b-plus\0brcm,bcm2837\0",
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
