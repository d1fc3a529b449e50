//! Defines how much memory the bodies that wait for their clients may take in a worker: those of
//! requests that are not whole yet, and those of responses that are taken slowly.

use std::cell::Cell;
use std::rc::Rc;

use super::patience::Pace;

/// Bytes of each request's body that have memory of their own, so that long bodies and responses do not
/// keep short ones out.
const SHORT_BYTES: u64 = 64 << 10;

/// The memory of one worker.
pub(super) struct Memory {
    short: Pool,
    long: Pool,
}

/// A part of it.
struct Pool {
    max: u64,
    used: Cell<u64>,
}

impl Pool {
    fn new(max: u64) -> Self {
        Self {
            max,
            used: Cell::new(0),
        }
    }

    fn has_room(&self, bytes: u64) -> bool {
        bytes == 0 || self.used.get().saturating_add(bytes) <= self.max
    }

    fn is_short(&self) -> bool {
        self.used.get() > self.max
    }

    fn take(&self, bytes: u64) {
        self.used.set(self.used.get() + bytes);
    }

    fn give_back(&self, bytes: u64) {
        self.used.set(self.used.get() - bytes);
    }
}

impl Memory {
    /// `max` is in bytes. A quarter is for the beginnings of bodies.
    pub(super) fn new(max: u64) -> Rc<Self> {
        let short = max / 4;
        Rc::new(Self {
            short: Pool::new(short),
            long: Pool::new(max - short),
        })
    }

    /// Whether more is used than there should be.
    pub(super) fn is_short(&self) -> bool {
        self.long.is_short()
    }
}

/// The memory that a body of a request or of its response takes; it is given back when this is dropped.
pub(super) struct Kept {
    memory: Rc<Memory>,
    pace: Rc<Pace>,
    /// Of either part.
    short: u64,
    long: u64,
}

impl Kept {
    pub(super) fn new(memory: &Rc<Memory>, pace: &Rc<Pace>) -> Self {
        Self {
            memory: Rc::clone(memory),
            pace: Rc::clone(pace),
            short: 0,
            long: 0,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.short + self.long
    }

    /// Takes more for a request's body, if there is room.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let short = (bytes as u64).min(SHORT_BYTES.saturating_sub(self.short));
        let long = bytes as u64 - short;
        let has_room = self.memory.short.has_room(short) && self.memory.long.has_room(long);
        if has_room {
            self.memory.short.take(short);
            self.short += short;
            self.pace.memory.set(self.pace.memory.get() + short);
            self.take(long);
        }
        has_room
    }

    /// Takes more for a response, which is there already.
    pub(super) fn take(&mut self, bytes: u64) {
        self.long += bytes;
        self.memory.long.take(bytes);
        self.pace.memory.set(self.pace.memory.get() + bytes);
    }

    /// Gives some of that back.
    pub(super) fn give_back(&mut self, bytes: u64) {
        self.long -= bytes;
        self.memory.long.give_back(bytes);
        self.pace.memory.set(self.pace.memory.get() - bytes);
    }

    /// Gives all of it back.
    pub(super) fn clear(&mut self) {
        self.give_back(self.long);
        let short = std::mem::take(&mut self.short);
        self.memory.short.give_back(short);
        self.pace.memory.set(self.pace.memory.get() - short);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::{Kept, Memory};

    #[test]
    fn long_bodies_leave_room_for_short_ones() {
        let memory = Memory::new(1 << 20);
        let pace = Rc::default();
        let mut long = Kept::new(&memory, &pace);
        assert!(long.grow(760 << 10));
        assert!(!long.grow(100 << 10));
        long.take(100 << 10);
        assert!(memory.is_short());
        let mut short = Kept::new(&memory, &pace);
        assert!(short.grow(64 << 10), "a quarter is for it");
        assert!(!short.grow(1 << 10), "it is a long one now");
        drop(long);
        assert!(short.grow(1 << 10), "there is room again");
    }

    #[test]
    fn what_is_there_already_is_counted_and_given_back() {
        let memory = Memory::new(1000);
        let pace = Rc::default();
        let mut kept = Kept::new(&memory, &pace);
        kept.take(751);
        assert!(memory.is_short());
        kept.give_back(1);
        assert!(!memory.is_short());
        assert!(Kept::new(&memory, &pace).grow(1), "a quarter is for it");
    }
}
