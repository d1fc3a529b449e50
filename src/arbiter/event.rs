//! Defines everything that can happen to the arbiter.
//!
//! Invariant: an event carries all that the decision about it needs, so that deciding reads no
//! clock, no descriptor and no shared memory.

use super::children::ChildId;
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
    /// A child that was to be spawned could not be, for want of processes or memory.
    SpawnFailed {
        /// Which.
        child: ChildId,
    },
    /// What the workers' heartbeat words say now: a worker, and until when it promised to live.
    Heartbeats(Vec<(ChildId, u64)>),
    /// All other events until now have been delivered: act on the deadlines that have passed.
    Tick,
}
