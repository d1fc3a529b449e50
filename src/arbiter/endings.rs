//! Defines how children end: by order, by themselves, or by force, and what follows.
//!
//! Invariant: failures end the server only before the first worker was ready; afterwards they cost
//! the slot a wait.

use super::action::{Action, Notice, Urgency};
use super::children::{ChildId, Place, Record, Standing};
use super::exit::ExitCode;
use super::role::{BackOff, millis};
use super::state::{Phase, State};
use crate::protocol::message::ToChild;
use crate::sys::process::ExitReason;
use crate::sys::signals::Signal;

/// Two forks in a slot are at least so far apart when the first child left in peace: a worker that
/// retires at once must not keep the machine busy with forking.
const RETIRE_MS: u64 = 100;

impl State {
    pub(super) fn on_exit(
        &mut self,
        now_ms: u64,
        id: ChildId,
        reason: ExitReason,
        actions: &mut Vec<Action>,
    ) {
        let Some(child) = self.children.leave(id) else {
            return;
        };
        let killed = matches!(child.standing, Standing::Killed { .. });
        let done =
            reason == ExitReason::Exited(0) && (child.ready_ms.is_some() || child.is_leaving());
        // What was killed, or has said why it fails, has been logged already.
        let explained = killed || child.failure.is_some();
        actions.push(Action::Log(match (explained, done) {
            (true, _) => Notice::Ended(id, reason),
            (false, true) => Notice::Left(id, reason),
            (false, false) => Notice::Died(id, reason),
        }));
        let in_peace = done && !killed;
        let code = failure_code(&child, reason);
        match (self.phase, id.place) {
            (Phase::Stopping { .. }, Place::Loader | Place::Slot(_)) => {}
            (Phase::Starting | Phase::Running, Place::Loader) if in_peace => self.loaded = true,
            (Phase::Starting | Phase::Running, Place::Loader) => {
                self.stop(now_ms, Urgency::Quick, code, actions);
            }
            (Phase::Starting, Place::Slot(_)) if !child.is_leaving() => {
                self.stop(now_ms, Urgency::Quick, code, actions);
            }
            (Phase::Starting | Phase::Running, Place::Slot(_)) => {
                self.empty_slot(now_ms, &child, in_peace, actions);
            }
        }
    }

    /// Decides when the slot that `child` has left is filled again.
    fn empty_slot(
        &mut self,
        now_ms: u64,
        child: &Record,
        in_peace: bool,
        actions: &mut Vec<Action>,
    ) {
        let stable_ms = millis(self.back_off_of(child.id.place).stable);
        let seat = self.children.seat_mut(child.id.place);
        let served_ms = child
            .ready_ms
            .map_or(0, |ready_ms| now_ms.saturating_sub(ready_ms));
        if served_ms >= stable_ms {
            seat.failures = 0;
        }
        if child.is_leaving() || in_peace {
            seat.spawn_at_ms = child.spawned_ms + RETIRE_MS;
        } else {
            self.back_off(now_ms, child.id, 0, actions);
        }
    }

    fn back_off_of(&self, place: Place) -> BackOff {
        match place {
            Place::Loader => self.settings.loader_back_off,
            Place::Slot(_) => self.settings.worker_back_off,
        }
    }

    fn back_off(&mut self, now_ms: u64, id: ChildId, least_ms: u64, actions: &mut Vec<Action>) {
        let back_off = self.back_off_of(id.place);
        let seat = self.children.seat_mut(id.place);
        let delay_ms = back_off.delay_ms(seat.failures).max(least_ms);
        seat.failures = seat.failures.saturating_add(1);
        seat.spawn_at_ms = now_ms + delay_ms;
        if delay_ms > 0 {
            actions.push(Action::Log(Notice::BackOff(id, delay_ms)));
        }
    }

    pub(super) fn on_spawn_failed(&mut self, now_ms: u64, id: ChildId, actions: &mut Vec<Action>) {
        if self.children.leave(id).is_some() {
            // Not at once even the first time: the shortage does not pass that quickly.
            let least_ms = millis(self.back_off_of(id.place).first);
            self.back_off(now_ms, id, least_ms, actions);
        }
    }

    /// Gives a child that shows that it is ending a moment to do so.
    pub(super) fn expect_end(&mut self, now_ms: u64, id: ChildId, patience_ms: u64) {
        let Some(child) = self.children.get_mut(id) else {
            return;
        };
        let soon_ms = now_ms + patience_ms;
        match child.standing {
            Standing::Booting { .. } | Standing::Ready => {
                child.standing = Standing::Draining {
                    deadline_ms: soon_ms,
                };
            }
            Standing::Draining { deadline_ms } => {
                child.standing = Standing::Draining {
                    deadline_ms: deadline_ms.min(soon_ms),
                };
            }
            Standing::Killed { .. } => {}
        }
    }

    pub(super) fn condemn(&mut self, id: ChildId, notice: Notice, actions: &mut Vec<Action>) {
        if let Some(child) = self.children.get_mut(id)
            && !matches!(child.standing, Standing::Killed { .. })
        {
            actions.push(Action::Log(notice));
            kill(child, actions);
        }
    }
}

/// Orders a worker to finish what is in flight and to end.
pub(super) fn drain(child: &mut Record, leave_by_ms: u64, actions: &mut Vec<Action>) {
    let deadline_ms = match child.standing {
        Standing::Booting { .. } | Standing::Ready => {
            actions.push(Action::Send(child.id, ToChild::Drain));
            // One that hangs while it boots gets no more time by being told to end.
            child
                .deadline()
                .map_or(leave_by_ms, |boot_ms| boot_ms.min(leave_by_ms))
        }
        Standing::Draining {
            deadline_ms: earlier_ms,
        } => earlier_ms.min(leave_by_ms),
        Standing::Killed { .. } => return,
    };
    child.leave_by_ms = Some(leave_by_ms);
    child.standing = Standing::Draining { deadline_ms };
}

/// Orders a worker to drop what is in flight and to end.
pub(super) fn quit(child: &mut Record, kill_at_ms: u64, actions: &mut Vec<Action>) {
    child.leave_by_ms = Some(kill_at_ms);
    if child.ready_ms.is_none() {
        // It serves nothing, and may be far from looking at signals.
        return kill(child, actions);
    }
    // Being told to hurry gives no more time to one that was about to be killed.
    let kill_at_ms = child
        .deadline()
        .map_or(kill_at_ms, |earlier_ms| earlier_ms.min(kill_at_ms));
    match child.standing {
        Standing::Booting { .. } | Standing::Ready | Standing::Draining { .. } => {
            actions.push(Action::Kill(child.id, Signal::Quit));
        }
        Standing::Killed {
            kill_at_ms: Some(_),
        } => {}
        Standing::Killed { kill_at_ms: None } => return,
    }
    child.standing = Standing::Killed {
        kill_at_ms: Some(kill_at_ms),
    };
}

pub(super) fn kill(child: &mut Record, actions: &mut Vec<Action>) {
    let killed = Standing::Killed { kill_at_ms: None };
    if child.standing != killed {
        child.standing = killed;
        actions.push(Action::Kill(child.id, Signal::Kill));
    }
}

/// The code with which the server ends if this child's failure ends it.
fn failure_code(child: &Record, reason: ExitReason) -> ExitCode {
    let by_status = match reason {
        ExitReason::Exited(status) => u8::try_from(status).ok().and_then(ExitCode::from_child),
        ExitReason::Signaled(_) => None,
    };
    child
        .failure
        .or(by_status)
        .unwrap_or(default_code(child.id.place))
}

pub(super) fn default_code(place: Place) -> ExitCode {
    match place {
        Place::Loader => ExitCode::AppLoad,
        Place::Slot(_) => ExitCode::WorkerBoot,
    }
}
