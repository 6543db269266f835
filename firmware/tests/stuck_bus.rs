//! A bus that is stuck, as if for ever: what hangs on it is a fault, and everything else goes on.

use std::convert::Infallible;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use cloister_control::device::{FanDrive, Fault, PowerMeter, StatusLight, Thermometer};
use cloister_control::light::Rgb;
use cloister_control::units::{Celsius, Duty};
use cloister_panel::board::aside::{Aside, AsideDisplay};
use cloister_panel::board::{Board, Contact, Display, Late, Machine, Screen, Sensor, find};
use cloister_panel::desk::Desk;
use cloister_panel::drivers::bus_thermometer::Lm75;
use cloister_panel::drivers::emc::{Emc2101, Fan};
use cloister_panel::drivers::ina::{Ina219, Shunt};
use cloister_panel::drivers::ssd1306::Ssd1306;
use cloister_panel::link::Link;
use cloister_program::panel::PanelReport;
use cloister_program::readiness::Readiness;
use embedded_hal::i2c::{ErrorType, I2c, Operation};
use ssd1306::size::DisplaySize128x32;
use tokio::sync::watch;
use tokio::time::timeout;

/// A bus on which every transfer waits until it is let go on, and how many wait.
#[derive(Clone, Default)]
struct Stuck(Arc<(Mutex<(bool, u32)>, Condvar)>);

impl Stuck {
    fn gone_on() -> Self {
        let bus = Self::default();
        bus.let_go_on();
        bus
    }

    fn let_go_on(&self) {
        self.0.0.lock().unwrap().0 = true;
        self.0.1.notify_all();
    }

    fn waiting(&self) -> u32 {
        self.0.0.lock().unwrap().1
    }
}

impl ErrorType for Stuck {
    type Error = Infallible;
}

impl I2c for Stuck {
    fn transaction(&mut self, _: u8, operations: &mut [Operation<'_>]) -> Result<(), Infallible> {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.1 += 1;
        let mut state = changed.wait_while(state, |(goes_on, _)| !*goes_on).unwrap();
        state.1 -= 1;
        for operation in operations {
            // 25 °C.
            if let Operation::Read(bytes) = operation {
                bytes.fill(0);
                bytes[0] = 25;
            }
        }
        Ok(())
    }
}

/// A light on the lines of an expander.
struct Expander(Stuck);

impl StatusLight for Expander {
    fn set(&mut self, _: Rgb) -> Result<(), Fault> {
        let sent = self.0.write(0x20, &[1, 0]);
        sent.map_err(|error| match error {})
    }
}

/// A switch that the test turns.
struct Switch(watch::Receiver<bool>);

impl Contact for Switch {
    fn is_closed(&mut self) -> Result<bool, Fault> {
        Ok(*self.0.borrow_and_update())
    }

    fn changed(&mut self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(async { self.0.changed().await.expect("the test holds it") })
    }
}

fn switch(turned: &watch::Sender<bool>) -> Late<dyn Contact> {
    let contact = turned.subscribe();
    Late::new(true, move || {
        Ok(Box::new(Switch(contact.clone())) as Box<dyn Contact>)
    })
}

/// A board with everything that can be on a bus, and a switch that is not.
fn board(bus: &Stuck, turned: &watch::Sender<bool>) -> Board {
    let root = tempfile::tempdir().unwrap();
    let limits = find(&Machine::below(root.path()), None).unwrap().limits;
    let mut board = Board::bare("a board".to_owned(), limits);
    let on = || bus.clone();
    let there = || Ok(());
    let own = on();
    let thermometer = Aside::new(
        move || Ok(Box::new(Lm75::new(own.clone(), 0x48))),
        |device: &mut Lm75<_>, ()| device.read(),
        Ok(Celsius(25.0)),
    );
    board.thermometers.push(Sensor {
        name: "case".to_owned(),
        limit: limits.limit,
        on_die: false,
        device: thermometer.late(true, there, |device| Box::new(device)),
    });
    let own = on();
    let power = Aside::new(
        move || Ok(Box::new(Ina219::new(own.clone(), 0x40, Shunt(100.0)))),
        |meter: &mut Ina219<_>, ()| meter.read(),
        Err(Fault::Bus),
    );
    board.power = Some(power.late(true, there, |meter| Box::new(meter)));
    let own = on();
    let fan = Aside::new(
        move || Ok(Box::new(Fan::new(own.clone(), 0x4C, Emc2101))),
        |fan: &mut Fan<_, _>, duty| fan.set(duty),
        Ok(()),
    );
    board.fan = Some(fan.late(true, there, |fan| Box::new(fan)));
    let own = on();
    let display = Aside::new(
        move || Ok(Box::new(Ssd1306::new(own.clone(), 0x3C, DisplaySize128x32))),
        |display: &mut Ssd1306<_, _>, screen: Option<Screen>| display.show(screen.as_ref()),
        Ok(()),
    );
    board.display = Some(display.late(true, there, |display| {
        Box::new(AsideDisplay::new(display, (21, 3)))
    }));
    let own = on();
    let light = Aside::new(
        move || Ok(Box::new(Expander(own.clone()))),
        |light: &mut Expander, colour| light.set(colour),
        Ok(()),
    );
    board.light = Some(light.late(true, there, |light| Box::new(light)));
    board.privacy_switch = Some(switch(turned));
    board
}

/// Waits for a report.
async fn until(
    reports: &mut watch::Receiver<PanelReport>,
    what: &str,
    is: impl FnMut(&PanelReport) -> bool,
) {
    let told = timeout(Duration::from_secs(30), reports.wait_for(is)).await;
    drop(
        told.unwrap_or_else(|_| panic!("never: {what}"))
            .expect("the desk works"),
    );
}

fn is_wrong(report: &PanelReport, what: &str, why: &str) -> bool {
    let mut problems = report.board.problems.iter();
    problems.any(|of| (of.what.as_str(), of.why.as_str()) == (what, why))
}

#[tokio::test]
async fn the_switch_is_heard_while_every_device_of_a_bus_hangs_and_those_are_told_until_it_goes_on()
{
    let (bus, turned) = (Stuck::default(), watch::Sender::new(false));
    let desk = Desk::of(board(&bus, &turned), None, Readiness::to_nobody());
    let mut reports = desk.reports();
    let (ends, ended) = tokio::sync::oneshot::channel::<()>();
    let nobody = Arc::new(Link::to(PathBuf::from("/nowhere/socket")));
    let end = async {
        let _ = ended.await;
    };
    let checks = async {
        until(&mut reports, "it is off", |report| {
            report.private == Some(false)
        })
        .await;
        for on in [true, false] {
            turned.send_replace(on);
            until(&mut reports, "it is heard", |report| {
                report.private == Some(on)
            })
            .await;
        }
        for (what, why) in [
            ("case", "bus_error"),
            ("fan", "bus_error"),
            ("power", "bus_error"),
            ("display", "bus_error"),
            ("light", "bus_error"),
        ] {
            until(&mut reports, what, |report| is_wrong(report, what, why)).await;
        }
        assert_eq!(bus.waiting(), 5, "each on a thread of its own");
        turned.send_replace(true);
        until(&mut reports, "it is heard", |report| {
            report.private == Some(true)
        })
        .await;
        bus.let_go_on();
        until(&mut reports, "it answers again", |report| {
            is_wrong(report, "case", "recovering")
        })
        .await;
        ends.send(()).unwrap();
    };
    tokio::join!(desk.run(nobody, end), checks);
}

/// A fan whose driver has a fault of its own, which is gone after some turns.
struct Panics(Arc<Mutex<u32>>);

impl FanDrive for Panics {
    fn set(&mut self, _: Duty) -> Result<(), Fault> {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.saturating_sub(1);
        assert!(*left == 0, "a fault of the driver");
        Ok(())
    }
}

#[tokio::test]
async fn a_driver_that_panics_is_a_fault_until_it_does_not_and_nothing_else_is() {
    let turned = watch::Sender::new(false);
    let mut board = board(&Stuck::gone_on(), &turned);
    let (times, opened) = (Arc::new(Mutex::new(2)), Arc::new(AtomicU32::new(0)));
    let opens = opened.clone();
    let fan = Aside::new(
        move || {
            // So may be what opens it.
            assert!(opens.fetch_add(1, Ordering::Relaxed) > 0, "a fault, too");
            Ok(Box::new(Panics(times.clone())))
        },
        |fan: &mut Panics, duty| fan.set(duty),
        Ok(()),
    );
    board.fan = Some(fan.late(true, || Ok(()), |fan| Box::new(fan)));
    let desk = Desk::of(board, None, Readiness::to_nobody());
    let mut reports = desk.reports();
    let nobody = Arc::new(Link::to(PathBuf::from("/nowhere/socket")));
    let checks = async {
        until(&mut reports, "it is shown", |report| {
            is_wrong(report, "fan", "driver_failed")
        })
        .await;
        until(&mut reports, "it is over", |report| {
            report
                .board
                .problems
                .iter()
                .all(|of| of.what.as_str() != "fan")
        })
        .await;
        assert_eq!(opened.load(Ordering::Relaxed), 3, "anew after each");
    };
    tokio::select! {
        () = desk.run(nobody, std::future::pending()) => unreachable!("it has no end"),
        () = checks => {}
    }
}
