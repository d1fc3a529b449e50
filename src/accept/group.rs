//! Defines a group: the workers that accept from the same listeners, and the arbiter among them.
//!
//! Invariant: the words are shared by all processes that were forked since the group was made, and
//! a bell by those that were forked since it was made. The arbiter, which makes them, has all.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use super::baton::Baton;
use super::terms::{Bells, Route};
use super::words::{ARBITER, Hold, NO_HOLDER};
use crate::sys::bell::Bell;
use crate::sys::poll::{self, Watched};
use crate::sys::process;
use crate::sys::shared::Shared;
use crate::sys::socket::Listener;

/// Most seats of workers.
pub const SEATS_MAX: usize = 3 * 1024;
/// Bells are made for as many workers as there are at first and so many more, to be added later...
const SPARE: usize = 16;
/// ... unless that takes more than this part of the descriptors that a process may have.
const SPARE_SHARE: usize = 16;
/// With more bells than this, only those that are armed are attached to the listeners.
const ATTACHED_MAX: usize = 64;

/// The first word is the baton, the second counts the seats that were ever taken.
const BATON: usize = 0;
const TAKEN: usize = 1;
const FIRST: usize = 2;

/// How a connection comes to its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    /// Through whoever accepted the one before, or the arbiter for a worker that only it can wake.
    WorkersOrArbiter,
    /// Through whoever accepted the one before.
    Workers,
    /// Through the arbiter.
    Arbiter,
}

impl Through {
    fn route(self) -> Route {
        match self {
            Self::WorkersOrArbiter => Route::DirectOrArbiter,
            Self::Workers => Route::Direct,
            Self::Arbiter => Route::Arbiter,
        }
    }
}

/// What has come of looking for somebody who accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granted {
    /// Nobody is needed.
    NobodyWaits,
    /// Somebody knows, or nobody has room.
    Seen,
    /// The worker in this seat is to be told that a connection waits on this listener.
    Tell {
        /// The worker's.
        seat: usize,
        /// In the order of the group's.
        listener: usize,
    },
}

/// Workers that accept from the same listeners.
#[derive(Debug)]
pub struct Group {
    words: Shared<AtomicU64>,
    listeners: Vec<Listener>,
    /// By seat; the arbiter's is the first.
    bells: Vec<Arc<Bell>>,
    many: bool,
    through: Through,
    /// The worker that the arbiter has told to accept last.
    granted: AtomicUsize,
    /// Which listener the arbiter looks at first, so that none is passed over for ever.
    first: AtomicUsize,
}

impl Group {
    /// A group for so many workers at first, who listen to these. For the arbiter, before it
    /// forks any of them.
    ///
    /// # Errors
    /// For want of memory or descriptors.
    pub fn new(through: Through, listeners: Vec<Listener>, workers: usize) -> io::Result<Self> {
        // Some are replaced before they are gone.
        let seats = workers + workers.div_ceil(8) + 1;
        let mut group = Self {
            words: Shared::new(FIRST + 1 + SEATS_MAX)?,
            listeners,
            bells: Vec::new(),
            many: seats > ATTACHED_MAX,
            through,
            granted: AtomicUsize::new(ARBITER),
            first: AtomicUsize::new(0),
        };
        group.words[BATON].store(NO_HOLDER, SeqCst);
        group.make_bells(seats + spare(workers)?)?;
        if through == Through::Arbiter {
            // There is nobody to give it up.
            group.baton().ask();
            group.baton().watch();
        }
        Ok(group)
    }

    /// Sees to it that a worker can take a seat: without a bell it could not be woken.
    ///
    /// # Errors
    /// For want of memory or descriptors.
    pub fn admit(&mut self, seat: usize) -> io::Result<()> {
        self.make_bells(seat)?;
        self.words[TAKEN].fetch_max(seat as u64, SeqCst);
        Ok(())
    }

    /// Those who are forked before the bell of a seat is made cannot wake who is in it.
    fn make_bells(&mut self, last: usize) -> io::Result<()> {
        while self.bells.len() <= last {
            let many = self.many || self.bells.len() > ATTACHED_MAX;
            self.bells.push(Arc::new(Bell::new(many)?));
        }
        Ok(())
    }

    /// What wakes the arbiter when it is to see to a connection: watch it for reading.
    pub fn arbiters_bell(&self) -> BorrowedFd<'_> {
        self.bells[ARBITER].as_fd()
    }

    /// The listeners.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// The arbiter's bell rings, or a worker says that it has room: sees to it that somebody accepts.
    pub fn grant(&self) -> Granted {
        let baton = self.baton();
        let Some(listener) = self.waiting(self.first.load(SeqCst)) else {
            baton.watch();
            return Granted::NobodyWaits;
        };
        let Some(seat) = baton.grant(self.granted.load(SeqCst)) else {
            baton.watch();
            return Granted::Seen;
        };
        self.granted.store(seat, SeqCst);
        self.first.store(listener + 1, SeqCst);
        match self.through {
            Through::Arbiter => Granted::Tell { seat, listener },
            Through::Workers | Through::WorkersOrArbiter => Granted::Seen,
        }
    }

    /// Rings the bell of a worker that could not be told.
    pub fn ring(&self, seat: usize) {
        self.baton().ring(seat);
    }

    /// The worker in this seat is gone.
    pub fn leave(&self, seat: usize) {
        self.baton().leave(seat);
    }

    /// Nobody is in any other seat.
    pub fn vacate_all_but(&self, taken: &BTreeSet<usize>) {
        for seat in (1..=SEATS_MAX).filter(|seat| !taken.contains(seat)) {
            self.words[FIRST + seat].store(0, SeqCst);
        }
    }

    /// Writes nonsense, as a worker could that does what somebody else wants.
    #[cfg(test)]
    pub(super) fn scribble(&self, mut number: impl FnMut() -> u64) {
        let at = number() as usize % self.words.len();
        let small = number() % 8;
        let word = match number() % 4 {
            0 => small,
            1 => super::words::OPEN | small,
            2 => super::words::OPEN | super::words::BUSY | small,
            _ => number(),
        };
        self.words[at].store(word, SeqCst);
    }

    /// What changes whenever a connection is accepted or somebody else is to do it.
    pub(super) fn hold(&self) -> Hold {
        self.baton().hold()
    }

    /// See [`Baton::revoke`].
    pub(super) fn revoke(&self, hold: Hold) -> Option<usize> {
        self.baton().revoke(hold)
    }

    pub(super) fn bell(&self, seat: usize) -> Option<&Arc<Bell>> {
        self.bells.get(seat)
    }

    pub(super) fn baton(&self) -> Baton<'_, Self> {
        Baton {
            word: &self.words[BATON],
            taken: &self.words[TAKEN],
            seats: &self.words[FIRST..],
            bells: self,
            route: self.through.route(),
        }
    }

    /// Which listener has a connection that waits, of `first` and those after it.
    pub(super) fn waiting(&self, first: usize) -> Option<usize> {
        let order = (0..self.listeners.len()).map(|at| (first + at) % self.listeners.len());
        let mut watched: Vec<Watched<'_>> = order
            .clone()
            .map(|at| Watched::readable(self.listeners[at].as_fd()))
            .collect();
        let ready = poll::wait(&mut watched, Some(Duration::ZERO)).unwrap_or(0);
        let mut found = order.zip(&watched).filter(|_| ready > 0);
        found
            .find(|(_, watched)| watched.is_ready())
            .map(|(at, _)| at)
    }
}

/// For how many workers that are added later bells are made: one that is not used costs a descriptor.
fn spare(workers: usize) -> io::Result<usize> {
    let share = process::open_files_max()? / SPARE_SHARE as u64;
    let share = usize::try_from(share).unwrap_or(usize::MAX);
    Ok((workers + SPARE).min(share))
}

impl Bells for Group {
    fn arm(&self, seat: usize) {
        if let Some(Err(error)) = self.bells.get(seat).map(|bell| bell.arm(&self.listeners)) {
            // The arbiter finds out that nobody accepts.
            tracing::warn!("cannot wait for connections: {error}");
        }
    }

    fn disarm(&self, seat: usize) {
        if let Some(Err(error)) = self
            .bells
            .get(seat)
            .map(|bell| bell.disarm(&self.listeners))
        {
            tracing::warn!("cannot stop waiting for connections: {error}");
        }
    }

    fn reaches(&self, seat: usize) -> bool {
        seat < self.bells.len()
    }

    fn anyone_waits(&self) -> bool {
        self.waiting(0).is_some()
    }

    fn several_wait(&self) -> bool {
        let waiting = self.listeners.iter().filter_map(Listener::waiting);
        waiting.fold(0, u32::saturating_add) > 1
    }
}
