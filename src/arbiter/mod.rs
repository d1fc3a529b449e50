//! Defines the supervisor: it starts children, watches them and ends them, and never serves.
//!
//! Invariant: one thread, no runtime, and no byte of a client. All decisions are made by
//! [`State::step`](state::State::step), a pure function; the driver in `perform` waits for events
//! and carries out actions.

pub mod action;
pub mod builder;
pub mod children;
pub mod clients;
mod endings;
pub mod event;
pub mod exit;
mod family;
pub mod generation;
mod log;
mod log_files;
mod orders;
mod patience;
mod perform;
pub mod plan;
mod plans;
mod reload;
pub mod role;
mod show;
#[cfg(test)]
mod simulator;
mod staffing;
pub mod state;
mod systemd;
mod upgrade;
mod usher;

pub use action::Notice;
pub use builder::{Arbiter, Builder, CONTROL_MODE, Error};
pub use exit::ExitCode;
pub use generation::Upgrade;
pub use log::Who;
pub use plan::{Description, MaxMemory, Measure, Plan};
pub use role::{Child, Role};
