//! Defines a worker's place in its group: what it says of itself, and what it is to do about the
//! listeners.
//!
//! Invariant: the worker's own word is written by this worker; the arbiter clears it when the worker
//! is gone, and takes the room of one that does not show that it lives, which the next sign of life
//! brings back.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

use super::group::Group;
use super::terms::Turn;
use crate::sys::bell::Bell;

/// The place of one worker.
#[derive(Debug)]
pub struct Seat {
    group: Group,
    number: usize,
    /// Whether the worker has room, by its own account.
    has_room: AtomicBool,
    /// Whether it has slept since it was last asked.
    slept: AtomicBool,
    /// The baton when the worker last came to rest.
    seen: AtomicU64,
}

impl Seat {
    /// A seat in a group, for a worker that does not take connections yet. For the worker's process.
    pub fn new(group: Group, number: usize) -> Self {
        Self {
            group,
            number,
            has_room: AtomicBool::new(false),
            slept: AtomicBool::new(false),
            seen: AtomicU64::new(0),
        }
    }

    /// What rings when the worker is to accept.
    pub fn bell(&self) -> Option<Arc<Bell>> {
        self.group.bell(self.number).cloned()
    }

    /// The worker takes connections, or no more. Whether it has handed the baton on, and what it
    /// is to do.
    pub fn set_room(&self, has_room: bool) -> Turn {
        self.has_room.store(has_room, Relaxed);
        match has_room {
            true => self.group.baton().open(self.number),
            false if self.group.baton().close(self.number) => Turn::Passed,
            false => Turn::Wait,
        }
    }

    /// Whether the worker takes connections.
    pub fn has_room(&self) -> bool {
        self.has_room.load(Relaxed)
    }

    /// The worker holds so many connections.
    pub fn set_connections(&self, count: u64) {
        self.group.baton().count(self.number, count);
    }

    /// The worker is about to run a guest. Whether it has handed the baton on.
    pub fn work(&self) -> bool {
        self.group.baton().work(self.number)
    }

    /// The worker has nothing to do and is about to sleep. What it is to do instead.
    pub fn rest(&self) -> Turn {
        self.slept.store(true, Relaxed);
        let baton = self.group.baton();
        if self.has_room() && !baton.is_open(self.number) {
            return baton.open(self.number);
        }
        let turn = baton.rest(self.number);
        // Where nobody accepts, nobody waits for long.
        let hold = baton.hold().0;
        if turn != Turn::Wait || self.seen.swap(hold, Relaxed) == hold {
            return turn;
        }
        baton.borrow(self.number)
    }

    /// Whether the worker has slept since it last took a connection, and done nothing else since.
    pub fn was_asleep(&self) -> bool {
        self.slept.load(Relaxed) && !self.group.baton().is_busy(self.number)
    }

    /// Whether the worker may accept.
    pub fn may_accept(&self) -> bool {
        self.group.baton().may_accept(self.number)
    }

    /// Which listener has a connection that waits, of `first` and those after it.
    pub fn waiting(&self, first: usize) -> Option<usize> {
        match self.group.listeners() {
            // To accept tells as much.
            [_] => Some(0),
            _ => self.group.waiting(first),
        }
    }

    /// The worker has tried to accept: the next connection goes to whoever is best.
    pub fn pass(&self) -> Turn {
        self.slept.store(false, Relaxed);
        self.group.baton().pass(self.number)
    }

    /// The bell of this worker has rung for nothing: if it does not hold the baton, it is made silent.
    pub fn hush(&self) {
        self.group.baton().hush(self.number);
    }

    /// The arbiter has found nobody to accept: whether it is to be told of this worker. If that
    /// cannot be said, [`ring_for_arbiter`](Self::ring_for_arbiter).
    pub fn ask(&self) -> bool {
        self.group.baton().ask()
    }

    /// Writes nonsense where others read.
    #[cfg(test)]
    pub(crate) fn scribble(&self, number: impl FnMut() -> u64) {
        self.group.scribble(number);
    }

    /// Rings the arbiter's bell if a connection waits.
    pub fn ring_for_arbiter(&self) {
        self.group.baton().watch();
    }
}
