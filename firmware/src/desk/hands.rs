//! Does what the laws decide, and nothing twice.
//!
//! In: [`Outputs`] and a [`Board`]. Out: light, fan, display, watchdog; which of them do not do what they should.

use cloister_control::Outputs;
use cloister_control::device::Fault;
use cloister_control::light::Rgb;
use cloister_control::units::Duty;
use tracing::warn;

use crate::board::{Board, Screen};

/// What was done last.
#[derive(Default)]
pub struct Hands {
    light: Option<(Rgb, Option<Fault>)>,
    display: Option<Fault>,
    fan: Option<Result<(), Fault>>,
    watchdog: Option<Fault>,
    fed: bool,
}

impl Hands {
    /// Shines, and shows what is drawn for a display of a size. After a measurement it drives the fan and feeds, too.
    pub fn act(
        &mut self,
        board: &mut Board,
        outputs: &Outputs,
        draw: impl Fn((usize, usize)) -> Option<Screen>,
        measured: bool,
    ) {
        if measured {
            self.drive(board, outputs.fan);
            if let Some(dog) = &mut board.watchdog {
                if outputs.feed {
                    self.watchdog = dog.ask(|dog| dog.feed()).and_then(Result::err);
                } else if self.fed {
                    warn!(
                        "serve shows no life: its watchdog is fed no more, and soon resets the machine"
                    );
                }
                self.fed = outputs.feed;
            }
        }
        // A light that was without power meanwhile shines again.
        let stays = |(colour, _)| colour == outputs.light && !measured;
        if let Some(light) = &mut board.light
            && !self.light.is_some_and(stays)
        {
            let done = light.ask(|light| light.set(outputs.light));
            self.light = Some((outputs.light, done.and_then(Result::err)));
        }
        if let Some(display) = &mut board.display {
            let done = display.ask(|display| display.show(draw(display.size()).as_ref()));
            self.display = done.and_then(Result::err);
        }
    }

    /// Drives the fan; gives whether that worked, nothing on a board that has none.
    pub fn drive(&mut self, board: &mut Board, duty: Duty) -> Option<Result<(), Fault>> {
        self.fan = board
            .fan
            .as_mut()
            .and_then(|fan| fan.ask(|fan| fan.set(duty)));
        self.fan
    }

    /// Whether the fan could be driven when that was tried last. It is full before anything is known.
    pub fn fan(&mut self, board: &mut Board) -> Option<Result<(), Fault>> {
        self.fan.or_else(|| self.drive(board, Duty::FULL))
    }

    /// Whether there is a fan.
    pub fn has_fan(&self) -> bool {
        self.fan.is_some()
    }

    /// What does not do what it should, but for what the laws see by themselves.
    pub fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let faults = [
            ("light", self.light.and_then(|(_, fault)| fault)),
            ("display", self.display),
            ("watchdog", self.watchdog),
        ];
        let faults = faults.into_iter();
        faults
            .filter_map(|(what, fault)| Some((what, fault?.name())))
            .collect()
    }

    /// Nobody watches any more: the fan is full, and the box dark.
    pub fn let_go(self, board: &mut Board) {
        if let Some(fan) = &mut board.fan {
            let _ = fan.ask(|fan| fan.set(Duty::FULL));
        }
        if let Some(light) = &mut board.light {
            let _ = light.ask(|light| light.set(Rgb::BLACK));
        }
        if let Some(display) = &mut board.display {
            let _ = display.ask(|display| display.show(None));
        }
    }
}
