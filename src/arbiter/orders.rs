//! Defines what those who are in charge may order: by signal, or through the control socket.
//!
//! Invariant: an order that cannot be carried out now changes nothing, and whoever gave it is told
//! why.

use super::action::{Action, Notice, Urgency};
use super::children::{ChildId, Place, SLOTS_MAX, Standing, WORKER};
use super::clients::ClientId;
use super::endings::{finish, kill, quit};
use super::event::Order;
use super::exit::ExitCode;
use super::state::State;
use super::upgrade::Hold;
use crate::protocol::message::FromChild;
use crate::sys::signals::Signal;

/// How long a worker may take to clean up at a quick stop, before SIGKILL.
const QUIT_MS: u64 = 2000;

/// Why nothing else is begun during a stop.
pub(super) const STOPPING: &str = "the server is stopping";
/// Why an order comes too early.
pub(super) const STARTING: &str = "the server is still starting";
/// Why nothing else is begun during a reload.
pub(super) const RELOADING: &str = "a reload is under way";
/// Why nothing else is begun while a successor takes over.
pub(super) const LEAVING: &str = "this server is leaving to the new program";

impl State {
    pub(super) fn on_signal(&mut self, now_ms: u64, signal: Signal, actions: &mut Vec<Action>) {
        let done = match signal {
            Signal::Term => return self.on_stop_order(now_ms, Urgency::Graceful, actions),
            Signal::Int | Signal::Quit => {
                return self.on_stop_order(now_ms, Urgency::Quick, actions);
            }
            Signal::Ttin => self.change_workers(1, actions),
            Signal::Ttou => self.change_workers(-1, actions),
            Signal::Hup => self.reload_or_later(actions),
            Signal::Usr1 => {
                actions.push(Action::ReopenLogs(None));
                Ok(())
            }
            Signal::Usr2 => self.upgrade(now_ms, actions),
            Signal::Winch => self.hold_workers(actions),
            // Not the arbiter's to decide about, or never received.
            Signal::Chld | Signal::Abrt | Signal::Kill | Signal::Prof => Ok(()),
        };
        if let Err(why) = done {
            actions.push(Action::Log(Notice::Ignored(signal.name(), why)));
        }
    }

    pub(super) fn on_order(
        &mut self,
        now_ms: u64,
        client: ClientId,
        order: Order,
        actions: &mut Vec<Action>,
    ) {
        let workers = |state: &Self| format!("workers: {}", state.workers());
        let answer = match order {
            Order::Show(what) => return actions.push(Action::Show(client, what)),
            Order::WorkerAdd(count) => self
                .change_workers(i64::from(count), actions)
                .map(|()| workers(self)),
            Order::WorkerRemove(count) => self
                .change_workers(-i64::from(count), actions)
                .map(|()| workers(self)),
            Order::WorkerKill(child) => self
                .replace_now(now_ms, child, actions)
                .map(|()| "the worker finishes, and another takes its place".to_owned()),
            Order::Reopen => return actions.push(Action::ReopenLogs(Some(client))),
            Order::Shutdown { quick } => {
                let answer = "the server is stopping".to_owned();
                actions.push(Action::Reply(client, Ok(answer)));
                let urgency = if quick {
                    Urgency::Quick
                } else {
                    Urgency::Graceful
                };
                return self.on_stop_order(now_ms, urgency, actions);
            }
            Order::Reload => match self.reload(actions) {
                Ok(()) => return self.waiting.push(client),
                Err(why) => Err(why),
            },
            Order::Upgrade => match self.upgrade(now_ms, actions) {
                Ok(()) => return self.waiting.push(client),
                Err(why) => Err(why),
            },
        };
        actions.push(Action::Reply(client, answer.map_err(str::to_owned)));
    }

    /// Tells whoever waits for a reload or an upgrade how it went.
    pub(super) fn answer_waiting(
        &mut self,
        answer: &Result<String, String>,
        actions: &mut Vec<Action>,
    ) {
        let waiting = std::mem::take(&mut self.waiting);
        actions.extend(
            waiting
                .into_iter()
                .map(|client| Action::Reply(client, answer.clone())),
        );
    }

    fn on_stop_order(&mut self, now_ms: u64, urgency: Urgency, actions: &mut Vec<Action>) {
        let (urgency, code) = match self.stopping {
            None => (urgency, ExitCode::Ok),
            Some((Urgency::Graceful, code)) => (Urgency::Quick, code),
            Some((Urgency::Quick | Urgency::Now, code)) => (Urgency::Now, code),
        };
        self.stop(now_ms, urgency, code, "it was told to stop", actions);
    }

    /// Begins to stop, or goes on with more urgency.
    pub(super) fn stop(
        &mut self,
        now_ms: u64,
        urgency: Urgency,
        code: ExitCode,
        reason: &str,
        actions: &mut Vec<Action>,
    ) {
        let begun = self.stopping.replace((urgency, code)).is_some();
        actions.push(Action::Log(Notice::Stopping(urgency)));
        let successor = self.serving_successor();
        let shared = successor.is_some() || self.circumstances.predecessor;
        if !begun {
            if !std::mem::replace(&mut self.told_predecessor, true) {
                let (code, reason) = (code.number(), reason.to_owned());
                actions.push(Action::TellPredecessor(FromChild::Failed { code, reason }));
            }
            self.abandon_reload(actions);
            if self.hold != Hold::Leaving {
                actions.extend(successor.map(|id| Action::Log(Notice::HandingOver(id))));
            }
            actions.push(Action::CloseListeners { unlink: !shared });
            self.answer_waiting(&Err(STOPPING.to_owned()), actions);
        }
        let leave_by_ms = now_ms + self.graceful_timeout_ms();
        let abandoned = self.abandoned();
        for child in self.children.iter_mut() {
            match (child.id.place, urgency) {
                (Place::Successor, _) if child.standing == Standing::Ready => {}
                (
                    Place::Loader | Place::Successor,
                    Urgency::Graceful | Urgency::Quick | Urgency::Now,
                )
                | (Place::Slot { .. }, Urgency::Now) => kill(child, actions),
                (Place::Slot { .. }, Urgency::Graceful) => {
                    finish(child, leave_by_ms, abandoned, actions);
                }
                (Place::Slot { .. }, Urgency::Quick) => quit(child, now_ms + QUIT_MS, actions),
            }
        }
    }

    fn change_workers(&mut self, by: i64, actions: &mut Vec<Action>) -> Result<(), &'static str> {
        if self.stopping.is_some() {
            return Err(STOPPING);
        }
        // A reload brings them back, in the number that is wanted then.
        if self.is_held() && self.candidate.is_none() {
            return Err(match self.hold {
                Hold::Leaving => LEAVING,
                Hold::No | Hold::Winch => "the workers are held back; SIGHUP brings them back",
            });
        }
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let both = [self.current.as_ref(), self.candidate.as_ref()];
        for generation in both.into_iter().flatten() {
            if generation.settings.fixed_workers {
                return Err("each worker has a queue of its own: reload with another number");
            }
            let all: usize = generation.wanted.iter().sum();
            if number(generation.wanted[WORKER]) + by < 1 {
                return Err("one worker is the least");
            }
            if number(all) + by > number(SLOTS_MAX) {
                return Err("there can be no more than 1024");
            }
        }
        let both = [self.current.as_mut(), self.candidate.as_mut()];
        for generation in both.into_iter().flatten() {
            let wanted = &mut generation.wanted[WORKER];
            *wanted = usize::try_from(number(*wanted) + by).unwrap_or(1);
        }
        actions.push(Action::Log(Notice::Workers(self.workers())));
        Ok(())
    }

    fn replace_now(
        &mut self,
        now_ms: u64,
        child: Option<ChildId>,
        actions: &mut Vec<Action>,
    ) -> Result<(), &'static str> {
        if self.stopping.is_some() {
            return Err(STOPPING);
        }
        let leave_by_ms = now_ms + self.graceful_timeout_ms();
        let abandoned = self.abandoned();
        let child = child.and_then(|id| self.children.get_mut(id));
        match child.map(|child| (child.standing, child)) {
            Some((Standing::Booting { .. } | Standing::Ready, child)) => {
                finish(child, leave_by_ms, abandoned, actions);
                Ok(())
            }
            Some((Standing::Draining { .. } | Standing::Killed { .. }, _)) => {
                Err("that worker is leaving already")
            }
            None => Err("no worker has that process number"),
        }
    }
}
