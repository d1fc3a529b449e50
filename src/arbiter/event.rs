//! Defines everything that can happen to the arbiter.
//!
//! Invariant: an event carries all that the decision about it needs, so that deciding reads no
//! clock, no descriptor and no shared memory.

use super::children::ChildId;
use super::clients::ClientId;
use super::generation::Settings;
use crate::protocol::control::What;
use crate::protocol::message::FromChild;
use crate::sys::process::ExitReason;
use crate::sys::signals::Signal;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The arbiter received a signal. SIGCHLD arrives as [`ChildExited`](Self::ChildExited).
    Signal(Signal),
    /// A child is gone, and everything that it had said before has been delivered.
    ChildExited {
        /// Which.
        child: ChildId,
        /// How it ended.
        reason: ExitReason,
    },
    /// A child said something well formed. The sealed file of an artefact has been checked.
    FromChild {
        /// Who.
        child: ChildId,
        /// What.
        message: FromChild,
    },
    /// A child said something that is no message.
    Illegal {
        /// Who.
        child: ChildId,
    },
    /// A child has closed its end of the channel, or takes no messages any more.
    Hangup {
        /// Who.
        child: ChildId,
    },
    /// A child that was to be spawned could not be, for want of processes, memory or a program.
    SpawnFailed {
        /// Which.
        child: ChildId,
        /// Why.
        reason: String,
    },
    /// What the workers' heartbeat words say now: a worker, and until when it promised to live.
    Heartbeats(Vec<(ChildId, u64)>),
    /// How many bytes of memory workers have now.
    Memory(Vec<(ChildId, u64)>),
    /// The configuration has been read again, and new listeners are bound.
    Prepared {
        /// What it asks for.
        settings: Settings,
        /// Whether a listener of the current generation is not among those of the new one.
        abandons: bool,
    },
    /// The configuration could not be read again, or a listener not be bound.
    Unprepared {
        /// Why.
        reason: String,
    },
    /// A file that a generation was made from has changed.
    FilesChanged,
    /// The arbiter that started this one, of the program before, is gone.
    PredecessorGone,
    /// A control client wants something.
    Control {
        /// Who.
        client: ClientId,
        /// What.
        order: Order,
    },
    /// All other events until now have been delivered: act on the deadlines that have passed, and
    /// leave if a successor serves and nobody else is left. To be sent after each wake-up.
    Tick,
}

/// What a control client may want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// To be shown something.
    Show(What),
    /// So many workers more.
    WorkerAdd(u32),
    /// So many workers less.
    WorkerRemove(u32),
    /// That this worker finishes and is replaced; `None` if there is none with the number it gave.
    WorkerKill(Option<ChildId>),
    /// What SIGHUP does, and to hear how it went.
    Reload,
    /// What SIGUSR1 does.
    Reopen,
    /// What SIGUSR2 does, and to hear how it went.
    Upgrade,
    /// What SIGTERM does, or SIGQUIT.
    Shutdown {
        /// Whether to drop what is in flight.
        quick: bool,
    },
}
