//! Defines how much memory the bodies that wait for their clients may take in a worker: those of
//! requests that are not whole yet, and those of responses that are taken slowly.

use std::cell::Cell;
use std::rc::Rc;

use super::patience::Pace;

/// Bytes of each body that may take the whole of the memory; what is longer leaves a quarter free, so
/// that long bodies do not keep short ones out.
const SHORT_BYTES: u64 = 64 << 10;

/// The memory of one worker.
pub(super) struct Memory {
    max: u64,
    used: Cell<u64>,
}

impl Memory {
    /// `max` is in bytes.
    pub(super) fn new(max: u64) -> Rc<Self> {
        Rc::new(Self {
            max,
            used: Cell::new(0),
        })
    }

    /// Whether there is room for a body that grows from one length to another.
    fn has_room(&self, from: u64, to: u64) -> bool {
        let max = if to > SHORT_BYTES {
            most_of(self.max)
        } else {
            self.max
        };
        self.used.get().saturating_add(to - from) <= max
    }

    /// Whether more is used than there should be.
    pub(super) fn is_short(&self) -> bool {
        self.used.get() > self.max
    }
}

/// What long bodies may take of a memory, in bytes.
pub(crate) fn most_of(max: u64) -> u64 {
    max - max / 4
}

/// The memory that a body of a request takes; it is given back when this is dropped.
pub(super) struct Kept {
    memory: Rc<Memory>,
    pace: Rc<Pace>,
    bytes: u64,
}

impl Kept {
    pub(super) fn new(memory: &Rc<Memory>, pace: &Rc<Pace>) -> Self {
        Self {
            memory: Rc::clone(memory),
            pace: Rc::clone(pace),
            bytes: 0,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes more, if there is room.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let has_room = self.memory.has_room(self.bytes, self.bytes + bytes as u64);
        if has_room {
            self.take(bytes);
        }
        has_room
    }

    /// Takes more, which is there already.
    pub(super) fn take(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        self.bytes += bytes;
        self.memory.used.set(self.memory.used.get() + bytes);
        self.pace.memory.set(self.pace.memory.get() + bytes);
    }

    /// Gives some of it back.
    pub(super) fn give_back(&mut self, bytes: usize) {
        self.release(bytes as u64);
    }

    /// Gives all of it back.
    pub(super) fn clear(&mut self) {
        self.release(self.bytes);
    }

    fn release(&mut self, bytes: u64) {
        self.bytes -= bytes;
        self.memory.used.set(self.memory.used.get() - bytes);
        self.pace.memory.set(self.pace.memory.get() - bytes);
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
        let mut short = Kept::new(&memory, &pace);
        assert!(short.grow(64 << 10), "there is a quarter left");
        assert!(!short.grow(1 << 10), "it is a long one now");
        drop(long);
        assert!(short.grow(1 << 10), "there is room again");
    }

    #[test]
    fn what_is_there_already_is_counted_and_given_back() {
        let memory = Memory::new(1000);
        let pace = Rc::default();
        let mut kept = Kept::new(&memory, &pace);
        kept.take(1001);
        assert!(memory.is_short());
        kept.give_back(1);
        assert!(!memory.is_short());
        assert!(!Kept::new(&memory, &pace).grow(1));
    }
}
