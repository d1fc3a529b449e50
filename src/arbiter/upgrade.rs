//! Defines how one program follows another on the same listeners, seen from both.
//!
//! Invariant: the old server does not finish before the new one has said that its workers are
//! ready, and when the new one ends, the old one has all its workers again.

use super::action::{Action, Notice};
use super::children::{ChildId, Place, Record, Standing, WORKER};
use super::generation::Upgrade;
use super::orders::{RELOADING, STARTING, STOPPING};
use super::state::{Phase, State};
use crate::protocol::message::FromChild;

/// Whether the workers are held back, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// They are not.
    No,
    /// SIGWINCH was received: the arbiter stays, and can bring them back.
    Winch,
    /// The server leaves as soon as the successor serves and all is finished.
    Leaving,
}

impl State {
    /// Starts the new program.
    pub(super) fn upgrade(
        &mut self,
        now_ms: u64,
        actions: &mut Vec<Action>,
    ) -> Result<(), &'static str> {
        match self.phase() {
            Phase::Stopping { .. } => return Err(STOPPING),
            Phase::Starting => return Err(STARTING),
            Phase::Reloading => return Err(RELOADING),
            Phase::Upgrading => return Err("the new program has been started already"),
            Phase::Running => {}
        }
        if self.circumstances.predecessor {
            return Err("the server that started this one has not left yet");
        }
        let Some(current) = &self.current else {
            return Err(STARTING);
        };
        let timeout_ms = current.settings.upgrade_timeout_ms;
        let (number, mode) = (current.number, current.settings.upgrade);
        if let Some(child) = self.children.enter(Place::Successor, number, now_ms) {
            child.standing = Standing::Booting {
                deadline_ms: Some(now_ms + timeout_ms),
            };
            actions.push(Action::Log(Notice::Upgrading(child.id)));
            actions.push(Action::Spawn(child.id, None));
        }
        if mode == Upgrade::Auto {
            self.hold = Hold::Leaving;
        }
        Ok(())
    }

    /// SIGWINCH: the workers finish, the arbiter stays.
    pub(super) fn hold_workers(&mut self, actions: &mut Vec<Action>) -> Result<(), &'static str> {
        let upgrades = self.children.successor().is_some();
        match self.phase() {
            Phase::Stopping { .. } => return Err(STOPPING),
            Phase::Starting => return Err(STARTING),
            Phase::Running | Phase::Reloading if !upgrades && !self.circumstances.daemon => {
                return Err("the server is no daemon, and no upgrade is under way");
            }
            Phase::Reloading => return Err(RELOADING),
            Phase::Running | Phase::Upgrading => {}
        }
        if !self.told_predecessor {
            return Err("the server that started this one waits for these workers");
        }
        self.hold = Hold::Winch;
        actions.push(Action::Log(Notice::Held));
        Ok(())
    }

    /// Whether no worker should be there now.
    pub(super) fn is_held(&self) -> bool {
        match self.hold {
            Hold::No => false,
            // While the successor starts, somebody must serve.
            Hold::Winch | Hold::Leaving => {
                self.children.successor().is_none() || self.serving_successor().is_some()
            }
        }
    }

    /// The successor, if it serves.
    pub(super) fn serving_successor(&self) -> Option<ChildId> {
        let child = self.children.successor()?;
        (child.standing == Standing::Ready).then_some(child.id)
    }

    pub(super) fn on_successor_ready(
        &mut self,
        now_ms: u64,
        id: ChildId,
        actions: &mut Vec<Action>,
    ) {
        let Some(child) = self.children.get_mut(id) else {
            return;
        };
        child.ready_ms = Some(now_ms);
        child.standing = Standing::Ready;
        actions.push(Action::Log(Notice::Upgraded(id)));
        let answer = match self.hold {
            Hold::Leaving => {
                actions.push(Action::Log(Notice::HandingOver(id)));
                "the new program serves; the old one finishes and leaves"
            }
            Hold::No | Hold::Winch => "the new program serves; the old one stays until it is told",
        };
        self.answer_waiting(&Ok(answer.to_owned()), actions);
    }

    /// The successor is gone: this server goes on, whatever it was about to do for its sake. `why`
    /// is `None` if it was told to leave.
    pub(super) fn on_successor_lost(
        &mut self,
        successor: &Record,
        why: Option<String>,
        actions: &mut Vec<Action>,
    ) {
        self.hold = Hold::No;
        let Some(why) = why else {
            return actions.push(Action::Log(Notice::SuccessorLeft(successor.id)));
        };
        let notice = Notice::UpgradeFailed(successor.id, why.clone());
        actions.push(Action::Log(notice));
        // Once it has been ready, whoever waits does not wait for it.
        if successor.ready_ms.is_none() {
            self.answer_waiting(&Err(why), actions);
        }
    }

    /// Leaves, once the successor serves and nobody else is left. To be asked when all news has
    /// been heard: the end of the successor may be among it.
    pub(super) fn leave_if_done(&mut self, actions: &mut Vec<Action>) {
        let leaving = self.hold == Hold::Leaving && self.serving_successor().is_some();
        if leaving
            && self
                .children
                .iter()
                .all(|child| child.id.place == Place::Successor)
        {
            self.leave_to_successor(actions);
        }
    }

    /// Tells the predecessor as soon as this server can do without it.
    pub(super) fn tell_predecessor(&mut self, actions: &mut Vec<Action>) {
        let Some(current) = self.current.as_ref().filter(|_| !self.told_predecessor) else {
            return;
        };
        if self.children.serving(WORKER, 1..=current.number) >= current.quorum() {
            self.told_predecessor = true;
            actions.push(Action::TellPredecessor(FromChild::Ready));
        }
    }

    pub(super) fn on_predecessor_gone(&mut self, actions: &mut Vec<Action>) {
        if std::mem::take(&mut self.circumstances.predecessor) {
            self.told_predecessor = true;
            actions.push(Action::Promote);
            actions.push(Action::Log(Notice::Promoted));
        }
    }
}
