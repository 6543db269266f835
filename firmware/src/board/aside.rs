//! A device that is asked on a thread of its own: a bus that is stuck keeps who asks for a second, or for ever.
//!
//! In: how to open it, and what to have it do. Out: what it said last, at once, or the [`Fault`] of one that has not answered
//! for [`ANSWERS_WITHIN`]; so what is read is no older than that and the time between two askings. The thread starts when it
//! is asked for the first time, as a process with threads cannot be sealed. A driver that panics is a fault, and is opened anew.
//! Must never keep its caller waiting, but at its end: a fan is left full.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cloister_control::device::{FanDrive, Fault, PowerMeter, StatusLight, Tachometer, Thermometer};
use cloister_control::light::Rgb;
use cloister_control::units::{Celsius, Duty, Rpm, Watts};

use super::{Board, Display, Late, Screen};

/// Most adapters give up after a second.
pub const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// How long it may take to let go of its device.
const ENDS_WITHIN: Duration = Duration::from_secs(2);
/// Before a driver that has panicked is asked again; twice as long each time, and not longer than the second.
const RESTS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Drivers keep little, a picture of a display at most.
const STACK: usize = 256 * 1024;

/// A device of which `Q` is wanted, and which says `A`.
pub struct Aside<Q, A>(Rc<Asked<Q, A>>);

struct Asked<Q, A> {
    shared: Arc<Shared<Q, A>>,
    /// What the thread will do, until it was started.
    work: Cell<Option<Box<dyn FnOnce() + Send>>>,
}

struct Shared<Q, A> {
    state: Mutex<State<Q, A>>,
    changed: Condvar,
}

struct State<Q, A> {
    /// What is to be done next: only the last wish counts.
    wanted: Option<Q>,
    /// Since when something was wanted without an answer.
    since: Option<Instant>,
    said: Result<A, Fault>,
    /// Nobody asks any more.
    left: bool,
    /// The device was let go of.
    ended: bool,
}

impl<Q: Send + 'static, A: Clone + Send + 'static> Aside<Q, A> {
    /// One that is opened on its thread, and does what is wanted there. Until it has answered it says `said`.
    pub fn new<D: ?Sized + 'static>(
        open: impl FnMut() -> Result<Box<D>, Fault> + Send + 'static,
        act: impl Fn(&mut D, Q) -> Result<A, Fault> + Send + 'static,
        said: Result<A, Fault>,
    ) -> Self {
        let state = State {
            wanted: None,
            since: None,
            said,
            left: false,
            ended: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let own = shared.clone();
        let work = move || {
            let open = Rc::new(RefCell::new(open));
            let rests = Cell::new(RESTS.0);
            let works = || {
                let open = open.clone();
                let mut device = Late::new(true, move || (*open.borrow_mut())());
                while let Some(wanted) = own.next() {
                    let said = device.ask(|device| act(device, wanted));
                    let said = said.expect("it is expected");
                    if said.is_ok() {
                        rests.set(RESTS.0);
                    }
                    own.answers(said);
                }
            };
            // Nothing of a device that has panicked is used again.
            while catch_unwind(AssertUnwindSafe(works)).is_err() {
                own.answers(Err(Fault::Driver));
                own.rests(rests.replace((2 * rests.get()).min(RESTS.1)));
            }
            own.lock().ended = true;
            own.changed.notify_all();
        };
        let work: Box<dyn FnOnce() + Send> = Box::new(work);
        Self(Rc::new(Asked {
            shared,
            work: Cell::new(Some(work)),
        }))
    }

    /// As a device of a board; one that is not `expected` is missed only once it was `there`.
    pub fn late<D: ?Sized + 'static>(
        self,
        expected: bool,
        there: impl Fn() -> Result<(), Fault> + 'static,
        as_what: fn(Self) -> Box<D>,
    ) -> Late<D> {
        Late::new(expected, move || {
            there()?;
            Ok(as_what(Self(self.0.clone())))
        })
    }

    fn ask(&self, wanted: Q) -> Result<A, Fault> {
        if let Some(work) = self.0.work.take() {
            let thread = thread::Builder::new().stack_size(STACK);
            let thread = thread.name("device".to_owned()).spawn(work);
            thread.expect("the kernel gives a thread");
        }
        let mut state = self.0.shared.lock();
        state.wanted = Some(wanted);
        state.since.get_or_insert_with(Instant::now);
        self.0.shared.changed.notify_all();
        state.says()
    }

    fn says(&self) -> Result<A, Fault> {
        self.0.shared.lock().says()
    }
}

impl<Q, A: Clone> State<Q, A> {
    fn says(&self) -> Result<A, Fault> {
        match self.since {
            Some(since) if self.said.is_ok() && since.elapsed() >= ANSWERS_WITHIN => {
                Err(Fault::Bus)
            }
            _ => self.said.clone(),
        }
    }
}

impl<Q, A> Shared<Q, A> {
    fn lock(&self) -> MutexGuard<'_, State<Q, A>> {
        // No state is left half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next wish; none when nobody asks any more.
    fn next(&self) -> Option<Q> {
        let idle = |state: &mut State<Q, A>| state.wanted.is_none() && !state.left;
        let waited = self.changed.wait_while(self.lock(), idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.wanted.take()
    }

    /// Does nothing for so long, unless nobody asks any more.
    fn rests(&self, time: Duration) {
        let asks = |state: &mut State<Q, A>| !state.left;
        drop(self.changed.wait_timeout_while(self.lock(), time, asks));
    }

    fn answers(&self, said: Result<A, Fault>) {
        let mut state = self.lock();
        state.said = said;
        state.since = state.wanted.is_some().then(Instant::now);
    }
}

impl<Q, A> Drop for Asked<Q, A> {
    fn drop(&mut self) {
        let was_started = self.work.take().is_none();
        let mut state = self.shared.lock();
        state.left = true;
        self.shared.changed.notify_all();
        if was_started {
            let ends = |state: &mut State<Q, A>| !state.ended;
            // What hangs is left behind.
            let _ = self
                .shared
                .changed
                .wait_timeout_while(state, ENDS_WITHIN, ends);
        }
    }
}

impl Board {
    /// Binds what is read, by reading it once here. Where it is and why it would be absent are for its finding.
    pub(super) fn reads<D: ?Sized + 'static, A: Clone + fmt::Display + Send + 'static>(
        &mut self,
        what: &'static str,
        does: &str,
        (place, why): (&str, &str),
        mut open: impl FnMut() -> Result<Box<D>, Fault> + Send + 'static,
        read: fn(&mut D) -> Result<A, Fault>,
    ) -> Aside<(), A> {
        let now = open().and_then(|mut device| read(&mut device));
        let does = now.as_ref().map(|now| format!("{does}; now {now}"));
        self.looked(what, place, does.map_err(|fault| *fault), why);
        Aside::new(open, move |device, ()| read(device), now)
    }

    /// Binds what is told something, by opening it once here.
    pub(super) fn tells<D: ?Sized + 'static, Q: Send + 'static>(
        &mut self,
        what: &'static str,
        does: &str,
        (place, why): (&str, &str),
        mut open: impl FnMut() -> Result<Box<D>, Fault> + Send + 'static,
        tell: fn(&mut D, Q) -> Result<(), Fault>,
    ) -> Aside<Q, ()> {
        let there = open().map(drop);
        self.looked(what, place, there.map(|()| does.to_owned()), why);
        Aside::new(open, tell, there)
    }
}

impl Thermometer for Aside<(), Celsius> {
    fn read(&mut self) -> Result<Celsius, Fault> {
        self.ask(())
    }
}

impl PowerMeter for Aside<(), Watts> {
    fn read(&mut self) -> Result<Watts, Fault> {
        self.ask(())
    }
}

impl Tachometer for Aside<(), Rpm> {
    fn read(&mut self) -> Result<Rpm, Fault> {
        self.ask(())
    }
}

impl FanDrive for Aside<Duty, ()> {
    fn set(&mut self, duty: Duty) -> Result<(), Fault> {
        self.ask(duty)
    }
}

impl StatusLight for Aside<Rgb, ()> {
    fn set(&mut self, colour: Rgb) -> Result<(), Fault> {
        self.ask(colour)
    }
}

/// A display of this size, as [`Display::size`] has it.
pub struct AsideDisplay {
    device: Aside<Option<Screen>, ()>,
    size: (usize, usize),
    sent: Option<Option<Screen>>,
}

impl AsideDisplay {
    /// One of which nobody knows what it shows.
    pub fn new(device: Aside<Option<Screen>, ()>, size: (usize, usize)) -> Self {
        Self {
            device,
            size,
            sent: None,
        }
    }
}

impl Display for AsideDisplay {
    fn size(&self) -> (usize, usize) {
        self.size
    }

    fn show(&mut self, screen: Option<&Screen>) -> Result<(), Fault> {
        if self
            .sent
            .as_ref()
            .is_some_and(|sent| sent.as_ref() == screen)
        {
            return self.device.says();
        }
        self.sent = Some(screen.cloned());
        self.device.ask(screen.cloned())
    }
}
