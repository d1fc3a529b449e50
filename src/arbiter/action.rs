//! Defines everything that the arbiter can decide to do.
//!
//! Invariant: an action names a child that has not been reported gone, and performing it cannot
//! block.

use super::children::{ChildId, Wear};
use super::clients::ClientId;
use super::exit::ExitCode;
use crate::protocol::control::What;
use crate::protocol::message::{FromChild, ToChild};
use crate::sys::process::ExitReason;
use crate::sys::signals::Signal;

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start this child. It writes that row of the scoreboard, if it has one.
    Spawn(ChildId, Option<usize>),
    /// Say this on the child's channel.
    Send(ChildId, ToChild),
    /// Send the child this signal.
    Kill(ChildId, Signal),
    /// Keep the artefact that came with the loader's last message, as that of this app.
    KeepArtefact(ChildId, u32),
    /// Tell whoever waits that the server serves: the first worker is ready.
    Announce,
    /// Read the configuration again and bind what is new in it. An
    /// [`Event::Prepared`](super::event::Event::Prepared) or `Unprepared` follows.
    Prepare(u32),
    /// A worker of this generation has room: a connection that waits is to be accepted.
    Grant(u32),
    /// A worker says that it lives.
    Believe(ChildId),
    /// The plan of this generation is the current one: let go of what only the one before needed.
    Adopt(u32),
    /// Let go of the plan of this generation and of what was bound for it.
    Discard(u32),
    /// Close the arbiter's copies of the listeners.
    CloseListeners {
        /// Whether nobody goes on listening, so that socket files are removed.
        unlink: bool,
    },
    /// Open the log file again, hand it to the children, and tell this control client how it went.
    ReopenLogs(Option<ClientId>),
    /// Tell the predecessor how this server's start goes.
    TellPredecessor(FromChild),
    /// The predecessor has gone: take over its name.
    Promote,
    /// Tell a control client how it went: done, or refused.
    Reply(ClientId, Result<String, String>),
    /// Show a control client something.
    Show(ClientId, What),
    /// Tell the service manager's watchdog that the arbiter lives.
    PetWatchdog,
    /// Write a line to the log, and tell those who observe.
    Log(Notice),
    /// There is no child left: end with this code.
    Exit(ExitCode),
}

/// A line of the log, and what an embedder can observe.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A child has been forked.
    Started(ChildId),
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
    /// A child could not be started.
    NotStarted(ChildId, String),
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
    /// A worker that did not accept a connection, and was passed over, shows that it lives.
    Lives(ChildId),
    /// A slot will be filled again only after so many milliseconds.
    BackOff(ChildId, u64),
    /// A worker is replaced though nothing is wrong with it.
    Worn(ChildId, Wear),
    /// The number of workers that there should be has been changed.
    Workers(usize),
    /// A reload has begun: this generation is being made.
    Reloading(u32),
    /// A reload has failed, for this reason; the generation before goes on.
    ReloadFailed(u32, String),
    /// This generation serves from now on.
    Generation(u32),
    /// The new program is being started.
    Upgrading(ChildId),
    /// The new program does not serve, for this reason; this server goes on.
    UpgradeFailed(ChildId, String),
    /// The new program has left as it was told to; this server goes on.
    SuccessorLeft(ChildId),
    /// The new program serves.
    Upgraded(ChildId),
    /// The new program goes on alone: this server finishes and leaves.
    HandingOver(ChildId),
    /// The server that started this one has left.
    Promoted,
    /// The workers are told to finish, and none is started until SIGHUP.
    Held,
    /// A signal or an order has no effect now, for this reason.
    Ignored(&'static str, &'static str),
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
