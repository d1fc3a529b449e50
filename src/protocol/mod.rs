//! Defines what the arbiter and its children say to each other.
//!
//! Invariant: the messages are closed enums in bounded frames. Whatever bytes arrive, they either
//! are exactly one message or an error.

pub mod error;
pub mod frame;
pub mod message;
