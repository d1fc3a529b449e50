//! Defines what the arbiter says to its children, to the arbiter of the next program and to control
//! clients, and what they say to it.
//!
//! Invariant: the messages are closed enums in bounded frames. Whatever bytes arrive, they either
//! are exactly one message or an error.

pub mod control;
pub mod error;
pub mod frame;
pub mod message;
pub mod report;
pub mod upgrade;
