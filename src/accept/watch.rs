//! Defines the watch over a group: connections that wait while nobody accepts are found out, and the
//! worker that should have accepted is passed over.
//!
//! Invariant: while nobody connects nothing is looked at: the arbiter sleeps until a connection
//! comes, and then looks at intervals until it is quiet again.

use super::group::Group;
use super::words::Hold;

/// Between two looks, in milliseconds. A worker is found out after one to two of them.
const INTERVAL_MS: u64 = 50;

/// What the arbiter knows of a group's progress.
#[derive(Debug, Default)]
pub struct Watch {
    /// `None` while it is quiet.
    look_at_ms: Option<u64>,
    /// What the last look found: who was to accept, if somebody waited then.
    seen: Option<Hold>,
    waited: bool,
}

/// What a look has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing to tell.
    Fine,
    /// The worker in this seat did not accept, and is passed over until it shows that it lives.
    Revoked(usize),
}

impl Watch {
    /// Whether to wait for a connection; otherwise there is a next look.
    pub fn is_quiet(&self) -> bool {
        self.look_at_ms.is_none()
    }

    /// When to look.
    pub fn next_look_ms(&self) -> Option<u64> {
        self.look_at_ms
    }

    /// Somebody connects, or somebody says so: looks follow.
    pub fn wake(&mut self, group: &Group, now_ms: u64) {
        self.look_at_ms = Some(now_ms + INTERVAL_MS);
        self.seen = Some(group.hold());
        self.waited = true;
    }

    /// Looks, if it is time.
    pub fn look(&mut self, group: &Group, now_ms: u64) -> Verdict {
        if self.look_at_ms.is_none_or(|at_ms| now_ms < at_ms) {
            return Verdict::Fine;
        }
        let waits = group.waiting(0).is_some();
        let hold = group.hold();
        let moves = self.seen.replace(hold) != Some(hold);
        let waited = std::mem::replace(&mut self.waited, waits);
        if !waits && !moves {
            *self = Self::default();
            return Verdict::Fine;
        }
        self.look_at_ms = Some(now_ms + INTERVAL_MS);
        if moves || !(waited && waits) {
            return Verdict::Fine;
        }
        let revoked = group.revoke(hold);
        self.waited = false;
        revoked.map_or(Verdict::Fine, Verdict::Revoked)
    }
}
