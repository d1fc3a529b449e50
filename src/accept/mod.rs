//! Defines herd-free accept: how the workers of a group and the arbiter agree on which of them takes
//! the next connection, so that it wakes one worker, and that is one which has room.
//!
//! Invariant: what is agreed is in shared memory and in the kernel's bells; no message is needed
//! where the workers choose among themselves, and nobody waits for anybody.

mod atomic;
mod baton;
mod group;
mod seat;
mod terms;
mod watch;
mod words;

pub use group::{Granted, Group, SEATS_MAX, Through};
pub use seat::Seat;
pub use terms::Turn;
pub use watch::{Verdict, Watch};
