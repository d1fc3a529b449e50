//! Defines what kinds of workers there are: how much each does at the same time.
//!
//! A kind is one file and one line in [`of`].

mod many;
mod one;

use crate::config::{Config, WorkerClass};

/// What a worker has to do at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Connections that it holds.
    pub(super) connections: usize,
    /// Of these, those on which the last word was said, and which only have to be closed.
    pub(super) closing: usize,
    /// Of these, those that were idle and have been asked for their place.
    pub(super) leaving: usize,
    /// Requests that it is answering.
    pub(super) in_flight: u64,
}

/// So many connections that only have to be closed take nobody's place: a client that is slow to close
/// does not keep the worker.
const CLOSING_MAX: usize = 64;

/// A kind of worker.
pub(super) trait Kind {
    /// Whether a worker with this load may accept another connection. It gets none before.
    fn has_room(&self, load: Load) -> bool;

    /// Whether a worker with this load wants the place of a connection that is idle.
    fn is_full(&self, load: Load) -> bool;

    /// Whether a connection may serve another request after the first.
    fn keeps_connections(&self) -> bool;
}

/// The kind of worker that the configuration asks for.
pub(super) fn of(config: &Config) -> Box<dyn Kind> {
    match config.worker_class {
        WorkerClass::Async => Box::new(many::Many {
            connections_max: config.worker_connections as usize,
            in_flight_max: u64::from(config.worker_requests),
        }),
        WorkerClass::Sync => Box::new(one::One),
    }
}
