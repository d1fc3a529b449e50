//! Defines how children end: by order, by themselves, or by force, and what follows.
//!
//! Invariant: failures end the server only before the first worker was ready; afterwards they cost
//! the slot a wait.

use super::action::{Action, Notice};
use super::children::{ChildId, Place, Record, Standing, WORKER};
use super::exit::ExitCode;
use super::role::{BackOff, millis};
use super::state::State;
use crate::protocol::message::ToChild;
use crate::sys::process::ExitReason;
use crate::sys::signals::Signal;

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
        if self.stopping.is_some() {
            return;
        }
        let in_peace = done && !killed;
        let of_candidate = self
            .candidate
            .as_ref()
            .is_some_and(|candidate| candidate.number == id.generation);
        match id.place {
            Place::Successor => {
                let why = (!in_peace).then(|| why_it_ended(&child, reason));
                self.on_successor_lost(&child, why, actions);
            }
            Place::Loader if in_peace => {
                if let Some(generation) = self.generation_mut(id.generation) {
                    generation.loaded = true;
                }
            }
            Place::Loader | Place::Slot { .. } if of_candidate && !child.is_leaving() => {
                let code = failure_code(&child, reason);
                let why = why_it_ended(&child, reason);
                self.fail_candidate(now_ms, code, why, actions);
            }
            Place::Loader => {}
            Place::Slot { .. } => self.empty_slot(now_ms, &child, in_peace, actions),
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
        let Some(generation) = self.generation_mut(child.id.generation) else {
            return;
        };
        let stable_ms = millis(generation.back_off(child.id.place).stable);
        let seat = generation.seat_mut(child.id.place);
        let served_ms = child
            .ready_ms
            .map_or(0, |ready_ms| now_ms.saturating_sub(ready_ms));
        if served_ms >= stable_ms {
            seat.failures = 0;
        }
        if !child.is_leaving() && !in_peace {
            self.back_off(now_ms, child.id, 0, actions);
        }
    }

    fn back_off(&mut self, now_ms: u64, id: ChildId, least_ms: u64, actions: &mut Vec<Action>) {
        let Some(generation) = self.generation_mut(id.generation) else {
            return;
        };
        let back_off = generation.back_off(id.place);
        let seat = generation.seat_mut(id.place);
        let delay_ms = back_off.delay_ms(seat.failures).max(least_ms);
        seat.failures = seat.failures.saturating_add(1);
        seat.spawn_at_ms = now_ms + delay_ms;
        if delay_ms > 0 {
            actions.push(Action::Log(Notice::BackOff(id, delay_ms)));
        }
    }

    pub(super) fn on_spawn_failed(
        &mut self,
        now_ms: u64,
        id: ChildId,
        reason: String,
        actions: &mut Vec<Action>,
    ) {
        let Some(child) = self.children.leave(id) else {
            return;
        };
        actions.push(Action::Log(Notice::NotStarted(id, reason.clone())));
        if self.stopping.is_some() {
            return;
        }
        let candidate = self.candidate.as_ref().map(|candidate| candidate.number);
        if id.place == Place::Successor {
            self.on_successor_lost(&child, Some(reason), actions);
        } else if self.current.is_some() && candidate == Some(id.generation) {
            let why = format!("{} cannot be started: {reason}", what(id.place));
            self.fail_candidate(now_ms, ExitCode::Failure, why, actions);
        } else {
            // Not at once even the first time: the shortage does not pass that quickly.
            let first = |back_off: BackOff| millis(back_off.first);
            let generation = self.generation_mut(id.generation);
            let least_ms = generation.map_or(0, |it| first(it.back_off(id.place)));
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

    /// Punishes a child that has said what it may not say.
    pub(super) fn condemn(&mut self, id: ChildId, actions: &mut Vec<Action>) {
        if let Some(child) = self.children.get_mut(id)
            && !matches!(child.standing, Standing::Killed { .. })
        {
            actions.push(Action::Log(Notice::Illegal(id)));
            child.verdict = Some("sent an illegal message");
            kill(child, actions);
        }
    }
}

/// Orders a child to finish what is in flight and to end, unless it is ending already. One of a
/// generation up to `abandoned` must also take whoever still waits to be accepted: nobody else will.
pub(super) fn finish(
    child: &mut Record,
    leave_by_ms: u64,
    abandoned: u32,
    actions: &mut Vec<Action>,
) {
    let deadline_ms = match child.standing {
        Standing::Booting { .. } | Standing::Ready => {
            let order = if child.id.generation <= abandoned {
                ToChild::Drain
            } else {
                ToChild::Retire
            };
            actions.push(Action::Send(child.id, order));
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
    let earlier_ms = child.leave_by_ms.unwrap_or(leave_by_ms);
    child.leave_by_ms = Some(earlier_ms.min(leave_by_ms));
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
    let by_word = child.failure.as_ref().map(|(code, _)| *code);
    by_word
        .or(by_status)
        .unwrap_or(default_code(child.id.place))
}

/// Why a child failed, for whoever ordered what it was started for.
fn why_it_ended(child: &Record, reason: ExitReason) -> String {
    let what = what(child.id.place);
    match (&child.failure, child.verdict) {
        (Some((_, reason)), _) => reason.clone(),
        (None, Some(verdict)) => format!("{what} {verdict}"),
        (None, None) if reason.is_out_of_cpu_time() => {
            format!("{what} needed more CPU time than compile-timeout allows")
        }
        (None, None) => format!("{what} died: {reason}"),
    }
}

fn what(place: Place) -> String {
    match place {
        Place::Loader => "the loader".to_owned(),
        Place::Successor => "the new program".to_owned(),
        Place::Slot { role: WORKER, slot } => format!("the worker in slot {slot}"),
        Place::Slot { slot, .. } => format!("the child in slot {slot}"),
    }
}

pub(super) fn default_code(place: Place) -> ExitCode {
    match place {
        Place::Loader => ExitCode::AppLoad,
        Place::Successor | Place::Slot { .. } => ExitCode::WorkerBoot,
    }
}
