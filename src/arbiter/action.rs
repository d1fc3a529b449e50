//! Defines everything that the arbiter can decide to do.
//!
//! Invariant: an action names a child that has not been reported gone, and performing it cannot
//! block.

use super::children::ChildId;
use super::exit::ExitCode;
use crate::protocol::message::ToChild;
use crate::sys::process::ExitReason;
use crate::sys::signals::Signal;

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Fork this child.
    Spawn(ChildId),
    /// Say this on the child's channel.
    Send(ChildId, ToChild),
    /// Send the child this signal.
    Kill(ChildId, Signal),
    /// Keep the artefact that came with the loader's last message, as that of this app.
    KeepArtefact(u32),
    /// Tell whoever waits that the server serves: the first worker is ready.
    Announce,
    /// Close the arbiter's copies of the listeners.
    CloseListeners,
    /// Write a line to the log.
    Log(Notice),
    /// There is no child left: end with this code.
    Exit(ExitCode),
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A worker is ready, so many milliseconds after its fork.
    Ready(ChildId, u64),
    /// The loader has handed over so many artefacts.
    Loaded(ChildId, usize),
    /// A child ended as it should.
    Left(ChildId, ExitReason),
    /// A child ended on its own, and should not have.
    Died(ChildId, ExitReason),
    /// A child ended after it was killed, or after it had said why it fails.
    Ended(ChildId, ExitReason),
    /// A child said why it cannot work.
    Failed(ChildId, String),
    /// A child was not ready, or not done, in time and is killed.
    TooSlow(ChildId),
    /// A worker missed its heartbeat and is aborted.
    Silent(ChildId),
    /// A worker did not finish within the graceful timeout and is killed.
    Unfinished(ChildId),
    /// A child did not end after it should have, and is killed.
    Lingers(ChildId),
    /// A child said something that it may not say, and is killed.
    Illegal(ChildId),
    /// A slot will be filled again only after so many milliseconds.
    BackOff(ChildId, u64),
    /// A signal has changed how many workers there should be.
    Workers(usize),
    /// The stop has begun.
    Stopping(Urgency),
    /// The server ends with this code.
    Stopped(ExitCode),
}

/// How a stop treats what is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// It is finished, within the graceful timeout.
    Graceful,
    /// It is dropped; the workers clean up.
    Quick,
    /// The workers are killed.
    Now,
}
