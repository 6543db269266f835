use super::*;
use crate::Machine;
use crate::made::machine;

fn chips(machine: &Machine) -> Class {
    Class::new(machine.path("/sys/class/hwmon"), "name")
}

#[test]
fn a_device_that_comes_back_under_another_number_is_found_again() {
    let (_root, machine) = machine(&[
        ("/sys/class/hwmon/hwmon0/name", "nvme"),
        ("/sys/class/hwmon/hwmon0/temp1_input", "70000"),
        ("/sys/class/hwmon/hwmon1/name", "tmp102"),
        ("/sys/class/hwmon/hwmon1/temp1_input", "41500"),
    ]);
    let mut devices = chips(&machine).devices(|name| name == "tmp102");
    assert_eq!(devices.len(), 1);
    let device = &mut devices[0];
    assert_eq!(device.read("temp1_input"), Ok(41500));
    let hwmon = |name: &str| machine.path("/sys/class/hwmon").join(name);
    fs::remove_dir_all(hwmon("hwmon1")).unwrap();
    assert_eq!(device.read("temp1_input"), Err(Fault::Absent));
    // Another device has its number, and it has another one.
    fs::rename(hwmon("hwmon0"), hwmon("hwmon1")).unwrap();
    assert_eq!(device.read("temp1_input"), Err(Fault::Absent));
    machine.put("/sys/class/hwmon/hwmon7/name", "tmp102");
    machine.put("/sys/class/hwmon/hwmon7/temp1_input", "42000");
    assert_eq!(device.read("temp1_input"), Ok(42000));
}

#[test]
fn of_two_with_one_name_each_keeps_its_place() {
    let (_root, machine) = machine(&[
        ("/sys/class/hwmon/hwmon4/name", "coretemp"),
        ("/sys/class/hwmon/hwmon4/temp1_input", "4"),
        ("/sys/class/hwmon/hwmon2/name", "coretemp"),
        ("/sys/class/hwmon/hwmon2/temp1_input", "2"),
    ]);
    let mut devices = chips(&machine).devices(|name| name == "coretemp");
    let said: Vec<_> = devices
        .iter_mut()
        .map(|device| device.read("temp1_input"))
        .collect();
    assert_eq!(said, [Ok(2), Ok(4)]);
    fs::remove_dir_all(machine.path("/sys/class/hwmon/hwmon2")).unwrap();
    assert_eq!(devices[0].read("temp1_input"), Err(Fault::Absent));
    assert_eq!(devices[1].read("temp1_input"), Ok(4));
}

#[test]
fn of_two_with_one_name_each_is_known_by_where_it_is_connected_whatever_their_numbers() {
    let (_root, machine) = machine(&[]);
    let plug_in = |at: &str, number: u8| {
        let own = format!("/sys/devices/{at}/hwmon/hwmon{number}");
        machine.put(&format!("{own}/name"), "lm75");
        machine.put(&format!("{own}/temp1_input"), &at.len().to_string());
        let link = machine.path(&format!("/sys/class/hwmon/hwmon{number}"));
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(machine.path(&own), link).unwrap();
    };
    let pull_out = |at: &str, number: u8| {
        fs::remove_file(machine.path(&format!("/sys/class/hwmon/hwmon{number}"))).unwrap();
        fs::remove_dir_all(machine.path(&format!("/sys/devices/{at}"))).unwrap();
    };
    plug_in("a", 3);
    plug_in("bb", 1);
    let mut devices = chips(&machine).devices(|_| true);
    let mut say = || -> Vec<_> {
        let devices = devices.iter_mut();
        devices.map(|device| device.read("temp1_input")).collect()
    };
    assert_eq!(say(), [Ok(1), Ok(2)]);
    pull_out("a", 3);
    assert_eq!(say(), [Err(Fault::Absent), Ok(2)]);
    // The other one has its number then.
    pull_out("bb", 1);
    plug_in("bb", 3);
    assert_eq!(say(), [Err(Fault::Absent), Ok(2)]);
    plug_in("a", 1);
    assert_eq!(say(), [Ok(1), Ok(2)]);
}

#[test]
fn what_is_no_number_is_nonsense_and_what_fails_is_told_by_its_kind() {
    let (_root, machine) = machine(&[
        ("/sys/class/hwmon/hwmon0/name", "x"),
        ("/sys/class/hwmon/hwmon0/temp1_input", "warm"),
        ("/sys/class/hwmon/hwmon0/temp2_input", ""),
        ("/sys/class/hwmon/hwmon0/temp3_input/is", "a folder"),
    ]);
    let device = &mut chips(&machine).devices(|_| true)[0];
    assert_eq!(device.read("temp1_input"), Err(Fault::Nonsense));
    assert_eq!(device.read("temp2_input"), Err(Fault::Nonsense));
    assert_eq!(device.read("temp3_input"), Err(Fault::Bus));
    assert_eq!(device.read("temp4_input"), Err(Fault::Absent));
    assert_eq!(device.write("pwm1", 1), Err(Fault::Absent));
}

#[test]
fn a_file_that_the_kernel_gives_nobody_to_write_is_denied() {
    // Of the real sysfs, which refuses this to root, too.
    let refused = write(Path::new("/sys/kernel/uevent_seqnum"), "1").unwrap_err();
    assert_eq!(fault(&refused), Fault::Denied);
}
