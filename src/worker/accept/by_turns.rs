//! Defines how a worker accepts that takes turns with others: it tries when its bell rings, when it
//! finds that a connection waits which it may take, or when the arbiter says so.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::{Attempt, attempt};
use crate::accept::{Seat, Turn};
use crate::sys::socket::Listener;
use crate::sys::watch::watch;
use crate::worker::shared::Shared;

/// Takes connections until the worker drains. Returns the listeners.
pub(super) async fn run(
    shared: &Rc<Shared>,
    seat: Arc<Seat>,
    listeners: Vec<Listener>,
) -> io::Result<Vec<Listener>> {
    let bell = seat.bell();
    let bell = watch(bell.ok_or_else(|| io::Error::other("there is no bell for this worker"))?)?;
    let mut turns = Turns {
        shared,
        seat,
        listeners,
        first: 0,
    };
    loop {
        let drain = shared.drain.notified();
        if shared.is_draining() {
            return Ok(turns.listeners);
        }
        let rang = tokio::select! {
            biased;
            () = shared.room.due.notified() => false,
            ready = bell.readable() => {
                ready?.clear_ready();
                bell.get_ref().answer()?;
                true
            }
            () = drain => continue,
        };
        let told = shared.room.was_told();
        turns.first = told.unwrap_or(turns.first) % turns.listeners.len().max(1);
        turns.take(rang || told.is_some()).await;
    }
}

struct Turns<'a> {
    shared: &'a Rc<Shared>,
    seat: Arc<Seat>,
    listeners: Vec<Listener>,
    /// Which listener is looked at first, so that none is passed over for ever.
    first: usize,
}

impl Turns<'_> {
    /// Accepts as long as it is this worker's turn. `called` says that somebody called it to.
    async fn take(&mut self, called: bool) {
        let counters = &self.shared.slot().counters;
        let mut woken = called && self.seat.was_asleep();
        counters.wakeups.add(u64::from(woken));
        if !self.seat.may_accept() {
            counters.spurious.add(u64::from(woken));
            if called {
                self.seat.hush();
            }
            return self.ask();
        }
        loop {
            match self.attempt() {
                Attempt::Accepted => counters.pulled.add(u64::from(!woken)),
                Attempt::Nobody => counters.spurious.add(u64::from(woken)),
                Attempt::Refused => {}
            }
            woken = false;
            match self.seat.pass() {
                Turn::Wait => return,
                Turn::Passed => return counters.handed_on.add(1),
                Turn::Ask => return self.ask(),
                // Others may get idle meanwhile: one connection a turn.
                Turn::Accept => tokio::task::yield_now().await,
            }
            if !self.seat.may_accept() {
                return;
            }
        }
    }

    /// If the arbiter has found nobody, it hears of this worker.
    fn ask(&self) {
        if self.shared.room.is_there() {
            self.shared.ask(&self.seat);
        }
    }

    fn attempt(&mut self) -> Attempt {
        if !self.shared.room.is_there() {
            return Attempt::Refused;
        }
        let Some(at) = self.seat.waiting(self.first) else {
            return Attempt::Nobody;
        };
        self.first = (at + 1) % self.listeners.len();
        attempt(self.shared, &self.listeners[at])
    }
}
