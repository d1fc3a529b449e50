//! Defines the supervisor: it starts children, watches them and ends them, and never serves.
//!
//! Invariant: one thread, no runtime, and no byte of a client. All decisions are made by
//! [`State::step`](state::State::step), a pure function; the driver in `perform` waits for events
//! and carries out actions.

pub mod action;
pub mod builder;
pub mod children;
mod endings;
pub mod event;
pub mod exit;
mod log;
mod patience;
mod perform;
pub mod role;
#[cfg(test)]
mod simulator;
pub mod state;

pub use builder::{Arbiter, Error};
pub use exit::ExitCode;
pub use role::Role;
