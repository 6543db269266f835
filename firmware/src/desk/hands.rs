//! Does what the laws decide, and nothing twice.
//!
//! In: [`Outputs`] and a [`Board`]. Out: light, fan, display, watchdog; which of them do not do what they should.

use cloister_control::Outputs;
use cloister_control::device::Fault;
use cloister_control::light::Rgb;
use cloister_control::units::Duty;
use tokio::time::Instant;

use crate::board::{Board, Screen};

/// What was done last.
#[derive(Default)]
pub struct Hands {
    light: Option<(Rgb, Option<Fault>)>,
    screen: Option<(Option<Screen>, Option<Fault>)>,
    fan: Option<Result<(), Fault>>,
    fed: Option<(Instant, Option<Fault>)>,
}

impl Hands {
    /// Shines, shows and feeds. After a measurement it drives the fan, too, and tries again what failed.
    pub fn act(
        &mut self,
        board: &mut Board,
        outputs: &Outputs,
        screen: Option<Screen>,
        measured: bool,
    ) {
        if measured && let Some(fan) = &mut board.fan {
            self.fan = Some(fan.set(outputs.fan));
        }
        let again = |fault: Option<Fault>| measured && fault.is_some();
        let stays = |(colour, fault)| colour == outputs.light && !again(fault);
        if let Some(light) = &mut board.light
            && !self.light.is_some_and(stays)
        {
            self.light = Some((outputs.light, light.set(outputs.light).err()));
        }
        let stays =
            |(shown, fault): &(Option<Screen>, Option<Fault>)| *shown == screen && !again(*fault);
        if let Some(display) = &mut board.display
            && !self.screen.as_ref().is_some_and(stays)
        {
            let fault = display.show(screen.as_ref()).err();
            self.screen = Some((screen, fault));
        }
        if let Some(guard) = &mut board.watchdog
            && outputs.feed
        {
            let now = Instant::now();
            let due = |(fed, _): (Instant, _)| now - fed >= guard.timeout / 4;
            if self.fed.is_none_or(due) {
                self.fed = Some((now, guard.device.feed().err()));
            }
        }
    }

    /// Whether the fan could be driven when that was tried last; nothing on a board that has none.
    pub fn fan(&self, board: &Board) -> Option<Result<(), Fault>> {
        board.fan.is_some().then(|| self.fan.unwrap_or(Ok(())))
    }

    /// What does not do what it should, but for what the laws see by themselves.
    pub fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let faults = [
            ("light", self.light.and_then(|(_, fault)| fault)),
            (
                "display",
                self.screen.as_ref().and_then(|(_, fault)| *fault),
            ),
            ("watchdog", self.fed.and_then(|(_, fault)| fault)),
        ];
        let faults = faults.into_iter();
        faults
            .filter_map(|(what, fault)| Some((what, fault?.name())))
            .collect()
    }

    /// Nobody watches any more: the fan is full, and the box dark.
    pub fn let_go(self, board: &mut Board) {
        if let Some(fan) = &mut board.fan {
            let _ = fan.set(Duty::FULL);
        }
        if let Some(light) = &mut board.light {
            let _ = light.set(Rgb::BLACK);
        }
        if let Some(display) = &mut board.display {
            let _ = display.show(None);
        }
    }
}
