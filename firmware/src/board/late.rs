//! A device that may come later, go away, and come back.
//!
//! In: how to open it. Out: what it does, or the [`Fault`] for which it does not. What fails is closed, and opened anew, by
//! whatever number the kernel has for it then. Must never be missed where nobody expects it: what a board's table names and
//! this machine never had is no fault.

use std::time::Duration;

use cloister_control::device::Fault;
use tokio::time::{Instant, sleep_until};

use super::Contact;

/// How long to wait before it is opened again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// The same, while nobody expects it.
const LOOKS_EVERY: Duration = Duration::from_secs(10);

type Open<D> = Box<dyn FnMut() -> Result<Box<D>, Fault>>;

/// A device `D` and how to open it.
pub struct Late<D: ?Sized> {
    open: Open<D>,
    device: Result<Box<D>, Fault>,
    /// Of one that is not open.
    again_at: Instant,
    expected: bool,
}

impl<D: ?Sized> Late<D> {
    /// One that is opened when it is asked for the first time. It is missed if it is `expected`, or once it was open.
    pub fn new(expected: bool, open: impl FnMut() -> Result<Box<D>, Fault> + 'static) -> Self {
        Self {
            open: Box::new(open),
            device: Err(Fault::Absent),
            again_at: Instant::now(),
            expected,
        }
    }

    /// One that cannot be opened as it is wired.
    pub fn never(fault: Fault) -> Self {
        Self::new(true, move || Err(fault))
    }

    /// Has it do something; nothing where nobody misses it.
    ///
    /// # Errors
    /// It cannot be opened, or fails.
    pub fn ask<T>(
        &mut self,
        act: impl FnOnce(&mut D) -> Result<T, Fault>,
    ) -> Option<Result<T, Fault>> {
        if self.device.is_err() && Instant::now() >= self.again_at {
            self.device = (self.open)();
            self.expected |= self.device.is_ok();
        }
        let was_open = self.device.is_ok();
        let done = match &mut self.device {
            Ok(device) => act(device),
            Err(fault) => Err(*fault),
        };
        if let Err(fault) = &done
            && (was_open || Instant::now() >= self.again_at)
        {
            self.device = Err(*fault);
            let rest = if self.expected {
                AGAIN_AFTER
            } else {
                LOOKS_EVERY
            };
            self.again_at = Instant::now() + rest;
        }
        self.expected.then_some(done)
    }

    /// Why it is not open, if it is not.
    pub fn fault(&self) -> Option<Fault> {
        self.device.as_ref().err().copied()
    }
}

impl Late<dyn Contact> {
    /// Waits until it may have changed, or may be there again. May be dropped at any time.
    pub async fn changed(&mut self) {
        match &mut self.device {
            Ok(contact) => contact.changed().await,
            Err(_) => sleep_until(self.again_at).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use tokio::time::advance;

    use super::*;

    /// A device that is there when the first says so, and how often it was opened.
    type Told = (Rc<Cell<Result<(), Fault>>>, Rc<Cell<u32>>, Late<u32>);

    fn device(expected: bool) -> Told {
        let there = Rc::new(Cell::new(Err(Fault::Denied)));
        let opened = Rc::new(Cell::new(0));
        let (is_there, opens) = (there.clone(), opened.clone());
        let late = Late::new(expected, move || {
            opens.set(opens.get() + 1);
            is_there.get().map(|()| Box::new(7))
        });
        (there, opened, late)
    }

    fn read(late: &mut Late<u32>) -> Option<Result<u32, Fault>> {
        late.ask(|device| Ok(*device))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_wired_and_comes_later_is_a_fault_until_then_and_is_looked_for_once_a_second() {
        let (there, opened, mut late) = device(true);
        for _ in 0..9 {
            assert_eq!(read(&mut late), Some(Err(Fault::Denied)));
        }
        assert_eq!(opened.get(), 1);
        there.set(Ok(()));
        advance(AGAIN_AFTER).await;
        assert_eq!(read(&mut late), Some(Ok(7)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_opened_anew() {
        let (there, opened, mut late) = device(true);
        there.set(Ok(()));
        assert_eq!(read(&mut late), Some(Ok(7)));
        let fails = late.ask(|_| Err::<(), _>(Fault::Bus));
        assert_eq!(fails, Some(Err(Fault::Bus)));
        there.set(Err(Fault::Absent));
        assert_eq!(read(&mut late), Some(Err(Fault::Bus)), "not yet");
        advance(AGAIN_AFTER).await;
        assert_eq!(read(&mut late), Some(Err(Fault::Absent)));
        there.set(Ok(()));
        advance(AGAIN_AFTER).await;
        assert_eq!(read(&mut late), Some(Ok(7)));
        assert_eq!(opened.get(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_expects_is_missed_only_once_it_was_there() {
        let (there, opened, mut late) = device(false);
        assert_eq!(read(&mut late), None);
        advance(AGAIN_AFTER).await;
        assert_eq!((read(&mut late), opened.get()), (None, 1));
        there.set(Ok(()));
        advance(LOOKS_EVERY).await;
        assert_eq!(read(&mut late), Some(Ok(7)));
        assert_eq!(
            late.ask(|_| Err::<(), _>(Fault::Bus)),
            Some(Err(Fault::Bus))
        );
    }
}
