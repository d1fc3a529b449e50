//! Defines the terms of the baton's transitions: what they need of the kernel, who chooses, and what
//! a worker is to do.

/// What wakes the holders.
pub(super) trait Bells {
    /// Makes the bell ring when a connection waits, at once if one does.
    fn arm(&self, seat: usize);
    /// Makes it silent.
    fn disarm(&self, seat: usize);
    /// Whether this process can do so.
    fn reaches(&self, seat: usize) -> bool;
    /// Whether a connection waits now.
    fn anyone_waits(&self) -> bool;
    /// Whether more than one does, as far as the kernel tells.
    fn several_wait(&self) -> bool;
}

/// Who chooses the next holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// The holder before.
    Direct,
    /// The holder before, or the arbiter where that one cannot wake whom it would choose.
    DirectOrArbiter,
    /// The arbiter, for each connection.
    Arbiter,
}

/// What a worker is to do about the listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing, unless its bell rings.
    Wait,
    /// It holds the baton and a connection waits: accept it.
    Accept,
    /// The arbiter has found nobody, and waits to hear from one who has room.
    Ask,
    /// Nothing: it has handed the baton on.
    Passed,
}
