//! Defines whether a worker has room for another connection, and how those with whom it shares the
//! listeners hear of it.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Weak};

use tokio::sync::Notify;

use super::idle::Idle;
use super::kind::{Kind, Load};
use crate::accept::{Seat, Turn};
use crate::scoreboard::Slot;
use crate::sys::clock;

/// The room of a worker.
pub(super) struct Room {
    kind: Box<dyn Kind>,
    load: Cell<Load>,
    /// Whether it takes connections at all: not before it is ready, nor when it drains.
    accepts: Cell<bool>,
    /// Whether the kernel refuses it connections, for want of descriptors or memory.
    starves: Cell<bool>,
    has_room: Cell<bool>,
    has_opened: Cell<bool>,
    pub(super) idle: Idle,
    /// Told when there is room again, and when a connection ends.
    pub(super) changed: Notify,
    /// Its place among those who agree on who accepts; none if they do not, or it drains.
    seat: RefCell<Option<Arc<Seat>>>,
    /// Told when there is something to do about the listeners that the bell does not tell.
    pub(super) due: Arc<Notify>,
    /// The listener that the arbiter has told of, if that is so because of it.
    told: Cell<Option<usize>>,
}

impl Room {
    pub(super) fn new(kind: Box<dyn Kind>, seat: Option<Arc<Seat>>, due: Arc<Notify>) -> Self {
        Self {
            kind,
            load: Cell::default(),
            accepts: Cell::new(false),
            starves: Cell::new(false),
            has_room: Cell::new(false),
            has_opened: Cell::new(false),
            idle: Idle::default(),
            changed: Notify::new(),
            seat: RefCell::new(seat),
            due,
            told: Cell::new(None),
        }
    }

    pub(super) fn is_there(&self) -> bool {
        self.has_room.get()
    }

    /// Waits until there is room.
    pub(super) async fn wait_for_it(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_there() {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn keeps_connections(&self) -> bool {
        self.kind.keeps_connections()
    }

    pub(super) fn load(&self) -> Load {
        self.load.get()
    }

    pub(super) fn seat(&self) -> Option<Arc<Seat>> {
        self.seat.borrow().clone()
    }

    /// Whether it has ever taken connections.
    pub(super) fn has_opened(&self) -> bool {
        self.has_opened.get()
    }

    /// Begins to take connections.
    pub(super) fn open(&self, slot: &Slot) {
        self.accepts.set(true);
        self.has_opened.set(true);
        self.review(slot);
    }

    /// Takes no more connections, and lets go of the shared listeners.
    pub(super) fn close(&self, slot: &Slot) {
        self.accepts.set(false);
        self.review(slot);
        self.seat.take();
        self.changed.notify_waiters();
    }

    /// The kernel refuses connections, or may not any more.
    pub(super) fn set_starves(&self, starves: bool, slot: &Slot) {
        self.starves.set(starves);
        self.review(slot);
    }

    /// The load changes.
    pub(super) fn change(&self, slot: &Slot, change: impl FnOnce(&mut Load)) {
        let before = self.load.get();
        let mut load = before;
        change(&mut load);
        self.load.set(load);
        if load.connections != before.connections {
            slot.set_connections(load.connections as u64);
            if let Some(seat) = &*self.seat.borrow() {
                seat.set_connections(load.connections as u64);
            }
        }
        if load.in_flight != before.in_flight {
            slot.set_in_flight(load.in_flight);
        }
        self.review(slot);
        self.make_room();
        if load.connections < before.connections {
            self.changed.notify_waiters();
        }
    }

    /// If the worker is full, asks for the place of whoever has been idle for longest: nobody comes to
    /// a full worker, so to wait for somebody would be to wait for ever.
    pub(super) fn make_room(&self) {
        let mut load = self.load.get();
        while self.accepts.get() && self.kind.is_full(load) && self.idle.ask() {
            load.leaving += 1;
        }
        self.load.set(load);
    }

    /// Sees whether there is room, and says so if that has changed.
    fn review(&self, slot: &Slot) {
        let accepts = self.accepts.get() && !self.starves.get();
        let has_room = accepts && self.kind.has_room(self.load.get());
        if self.has_room.replace(has_room) == has_room {
            return;
        }
        slot.set_room(has_room, clock::monotonic_ms());
        if has_room {
            self.changed.notify_waiters();
        }
        if let Some(seat) = &*self.seat.borrow() {
            match seat.set_room(has_room) {
                Turn::Wait => {}
                Turn::Passed => slot.counters.handed_on.add(1),
                Turn::Accept | Turn::Ask => self.due.notify_one(),
            }
        }
    }

    /// A guest is about to run: somebody who is idle should accept meanwhile.
    pub(super) fn work(&self, slot: &Slot) {
        let seat = self.seat.borrow();
        if seat.as_ref().is_some_and(|seat| seat.work()) {
            slot.counters.handed_on.add(1);
        }
    }

    /// The arbiter says that a connection waits on this listener.
    pub(super) fn tell(&self, listener: usize) {
        self.told.set(Some(listener));
        self.due.notify_one();
    }

    /// Of which listener the arbiter has told since this was last asked.
    pub(super) fn was_told(&self) -> Option<usize> {
        self.told.take()
    }
}

/// What to do whenever the event loop has nothing else to do.
pub(super) fn at_rest(seat: Option<&Arc<Seat>>, due: &Arc<Notify>) -> impl Fn() + use<> {
    // It must not keep the listeners open when the worker has let go of them.
    let seat = seat.map_or_else(Weak::new, Arc::downgrade);
    let due = Arc::clone(due);
    move || match seat.upgrade().map_or(Turn::Wait, |seat| seat.rest()) {
        Turn::Wait | Turn::Passed => {}
        Turn::Accept | Turn::Ask => due.notify_one(),
    }
}
