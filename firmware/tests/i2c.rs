//! Devices on an I2C bus, transaction by transaction, and with a NAK in place of each of them.

use cloister_control::device::{FanDrive, Fault, PowerMeter, Tachometer, Thermometer};
use cloister_control::units::{Celsius, Duty, Rpm, Watts};
use cloister_panel::drivers::bus_thermometer::{Lm75, Tmp102, Tmp117};
use cloister_panel::drivers::emc::{Emc230x, Emc2101, Fan, FanSpeed};
use cloister_panel::drivers::ina::{Ina219, Ina226, Shunt};
use embedded_hal::i2c::{ErrorKind, NoAcknowledgeSource};
use embedded_hal_mock::eh1::i2c::{Mock, Transaction};

fn read(address: u8, register: u8, answer: &[u8]) -> Transaction {
    Transaction::write_read(address, vec![register], answer.to_vec())
}

fn write(address: u8, bytes: &[u8]) -> Transaction {
    Transaction::write(address, bytes.to_vec())
}

/// The crate for the INA226 reads in two transfers.
fn read_in_two(address: u8, register: u8, answer: [u8; 2]) -> [Transaction; 2] {
    [
        write(address, &[register]),
        Transaction::read(address, answer.to_vec()),
    ]
}

/// Uses a device on a bus where all goes well, then with each transaction failing in turn: by a NAK it is absent, by
/// another error it is the bus; and after each failure it does all of it again, and answers.
fn holds<D, T: PartialEq + std::fmt::Debug + Clone>(
    transactions: &[Transaction],
    on: impl Fn(Mock) -> D,
    act: impl Fn(&mut D) -> Result<T, Fault>,
    answer: T,
) {
    let nak = ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address);
    for (error, fault) in [(nak, Fault::Absent), (ErrorKind::Bus, Fault::Bus)] {
        for failing in 0..transactions.len() {
            let mut all = transactions[..failing].to_vec();
            all.push(transactions[failing].clone().with_error(error));
            all.extend_from_slice(transactions);
            let mut bus = Mock::new(&all);
            let mut device = std::mem::ManuallyDrop::new(on(bus.clone()));
            assert_eq!(act(&mut device), Err(fault), "transaction {failing}");
            assert_eq!(act(&mut device), Ok(answer.clone()), "after {failing}");
            bus.done();
        }
    }
}

#[test]
fn an_lm75_says_half_degrees() {
    for (bytes, celsius) in [
        ([0x19, 0x80], 25.5),
        ([0xE7, 0x00], -25.0),
        ([0x7F, 0xFF], 127.5),
    ] {
        holds(
            &[read(0x4F, 0, &bytes)],
            |bus| Lm75::new(bus, 0x4F),
            Lm75::read,
            Celsius(celsius),
        );
    }
}

#[test]
fn a_tmp102_says_sixteenths_of_degrees() {
    for (bytes, celsius) in [([0x32, 0x10], 50.0625), ([0xF6, 0x80], -9.5)] {
        holds(
            &[read(0x4A, 0, &bytes)],
            |bus| Tmp102::new(bus, 0x4A),
            Tmp102::read,
            Celsius(celsius),
        );
    }
}

#[test]
fn a_tmp117_says_who_it_is_and_128ths_of_degrees() {
    for (bytes, celsius) in [([0x0C, 0x90], 25.125), ([0xFF, 0xFF], -0.007_812_5)] {
        let who = read(0x48, 0x0F, &[0x01, 0x17]);
        holds(
            &[who, read(0x48, 0, &bytes)],
            |bus| Tmp117::new(bus, 0x48),
            Tmp117::read,
            Celsius(celsius),
        );
    }
}

#[test]
fn another_device_at_its_address_or_one_that_has_not_measured_yet_is_nonsense() {
    let mut bus = Mock::new(&[
        // An LM75 answers so: the register is one that it does not have.
        read(0x48, 0x0F, &[0x19, 0x00]),
        read(0x48, 0x0F, &[0x11, 0x17]),
        read(0x48, 0, &[0x80, 0x00]),
        // It was itself, and is not asked again who it is.
        read(0x48, 0, &[0x19, 0x00]),
    ]);
    let mut sensor = Tmp117::new(bus.clone(), 0x48);
    assert_eq!(sensor.read(), Err(Fault::Nonsense));
    assert_eq!(sensor.read(), Err(Fault::Nonsense));
    assert_eq!(sensor.read(), Ok(Celsius(50.0)));
    bus.done();
}

#[test]
fn an_ina219_measures_power_over_its_shunt() {
    // 5.0 V: 1250 steps of 4 mV, in the upper 13 bits. 120 mV over 0.1 Ω: 12000 steps of 10 µV.
    let [high, low] = (1250_u16 << 3).to_be_bytes();
    let [shunt_high, shunt_low] = 12_000_u16.to_be_bytes();
    holds(
        &[
            write(0x40, &[0, 0x3F, 0xFF]),
            read(0x40, 2, &[high, low]),
            read(0x40, 1, &[shunt_high, shunt_low]),
        ],
        |bus| Ina219::new(bus, 0x40, Shunt(100.0)),
        Ina219::read,
        Watts(6.0),
    );
}

#[test]
fn an_ina226_says_who_it_is_and_measures_power_over_its_shunt() {
    // 5.0 V: 4000 steps of 1.25 mV. 20 mV over 10 mΩ: 8000 steps of 2.5 µV.
    let mut all = Vec::new();
    all.extend(read_in_two(0x45, 0xFE, [0x54, 0x49]));
    all.extend(read_in_two(0x45, 0xFF, [0x22, 0x60]));
    all.push(write(0x45, &[0, 0x4B, 0x27]));
    all.extend(read_in_two(0x45, 2, 4000_u16.to_be_bytes()));
    all.extend(read_in_two(0x45, 1, 8000_u16.to_be_bytes()));
    holds(
        &all,
        |bus| Ina226::new(bus, 0x45, Shunt(10.0)),
        Ina226::read,
        Watts(10.0),
    );
}

#[test]
fn a_meter_that_is_wired_wrong_or_feeds_nothing_is_nonsense() {
    let [high, low] = (1250_u16 << 3).to_be_bytes();
    let mut bus = Mock::new(&[
        write(0x40, &[0, 0x3F, 0xFF]),
        read(0x40, 2, &[high, low]),
        // -120 mV
        read(0x40, 1, &[0xD1, 0x20]),
        write(0x40, &[0, 0x3F, 0xFF]),
        read(0x40, 2, &[0, 0]),
        read(0x40, 1, &[0, 1]),
    ]);
    let mut meter = Ina219::new(bus.clone(), 0x40, Shunt(100.0));
    assert_eq!(meter.read(), Err(Fault::Nonsense));
    assert_eq!(meter.read(), Err(Fault::Nonsense));
    bus.done();
}

#[test]
fn an_emc2101_drives_its_fan_in_steps_the_next_higher_one() {
    let who = [read(0x4C, 0xFE, &[0x5D]), read(0x4C, 0xFD, &[0x28])];
    let set_up = [
        write(0x4C, &[0x03, 0x04]),
        write(0x4C, &[0x4A, 0x20]),
        write(0x4C, &[0x4D, 7]),
    ];
    for (duty, step) in [(0, 0), (1, 1), (128, 8), (255, 14)] {
        let duty_is = [write(0x4C, &[0x4C, step])];
        holds(
            &[&who[..], &set_up, &duty_is].concat(),
            |bus| Fan::new(bus, 0x4C, Emc2101),
            |fan| fan.set(Duty(duty)),
            (),
        );
    }
    for (low, high, rpm) in [(0x8C, 0x0A, 2000), (0xFF, 0xFF, 0), (0, 0, 0)] {
        let count = [read(0x4C, 0x46, &[low]), read(0x4C, 0x47, &[high])];
        holds(
            &[&who[..], &count].concat(),
            |bus| FanSpeed::new(bus, 0x4C, Emc2101),
            FanSpeed::read,
            Rpm(rpm),
        );
    }
}

#[test]
fn an_emc2302_drives_its_second_fan_and_has_no_third() {
    let who = [read(0x2E, 0xFE, &[0x5D]), read(0x2E, 0xFD, &[0x36])];
    let second = Emc230x { fan: 1 };
    let set = [write(0x2E, &[0x42, 0x0B]), write(0x2E, &[0x40, 90])];
    holds(
        &[&who[..], &set].concat(),
        |bus| Fan::new(bus, 0x2E, second),
        |fan| fan.set(Duty(90)),
        (),
    );
    // 1966 of the clock for a turn, in the upper 13 bits; all of them when it stands still.
    for (count, rpm) in [([0x3D, 0x70], 2000), ([0xFF, 0xF8], 0), ([0, 0], 0)] {
        let count = [read(0x2E, 0x4E, &count[..1]), read(0x2E, 0x4F, &count[1..])];
        holds(
            &[&who[..], &count].concat(),
            |bus| FanSpeed::new(bus, 0x2E, second),
            FanSpeed::read,
            Rpm(rpm),
        );
    }
    let mut bus = Mock::new(&who);
    let third = FanSpeed::new(bus.clone(), 0x2E, Emc230x { fan: 2 }).read();
    assert_eq!(third, Err(Fault::Nonsense));
    bus.done();
}

#[test]
fn a_fan_that_nobody_governs_any_more_is_full() {
    let mut bus = Mock::new(&[
        read(0x2F, 0xFE, &[0x5D]),
        read(0x2F, 0xFD, &[0x37]),
        write(0x2F, &[0x32, 0x0B]),
        write(0x2F, &[0x30, 80]),
        write(0x2F, &[0x30, 255]),
    ]);
    let mut fan = Fan::new(bus.clone(), 0x2F, Emc230x { fan: 0 });
    fan.set(Duty(80)).unwrap();
    drop(fan);
    bus.done();
}
