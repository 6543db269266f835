//! Whether `serve` goes as slowly as it was asked to.
//!
//! It is told within moments, and tells its listeners within three seconds. One that lost what it was told is told again
//! before this is a fault; a faster engine than the law asks for is one that heats the box, a slower one answers too late.

use crate::thermal::Throttle;
use crate::units::Millis;

/// How long `serve` may go otherwise than asked before that is a fault.
pub const WITHIN: Millis = Millis::seconds(8);

/// What was asked for, and since when it is not so.
#[derive(Clone, Copy, Debug, Default)]
pub struct Obeyed {
    asked: Throttle,
    not_since: Option<Millis>,
}

impl Obeyed {
    /// Takes what is asked for now, and what `serve` says that it follows, if it says anything. Gives whether it has done
    /// otherwise for too long.
    pub fn ignored(&mut self, now: Millis, asked: Throttle, serve: Option<Throttle>) -> bool {
        let is_new = core::mem::replace(&mut self.asked, asked) != asked;
        match serve {
            Some(serve) if serve != asked => {
                let since = self.not_since.filter(|_| !is_new).unwrap_or(now);
                self.not_since = Some(since);
                now.since(since) >= WITHIN
            }
            _ => {
                self.not_since = None;
                false
            }
        }
    }
}
