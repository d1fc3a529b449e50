//! Defines what the arbiter decides: a pure function from time and event to actions.
//!
//! Invariant: it performs nothing, reads no clock and never waits; a stop is a phase in which
//! events are handled like in any other. Each child that is not serving has a deadline.

use std::collections::BTreeSet;

use super::action::{Action, Notice, Urgency};
use super::children::{ChildId, Children, Place, Standing};
use super::endings::{default_code, drain, kill, quit};
use super::event::Event;
use super::exit::ExitCode;
use super::role::BackOff;
use crate::protocol::message::FromChild;
use crate::sys::signals::Signal;

/// Most slots, and so most workers.
pub const SLOTS_MAX: usize = 1024;
/// How long a child may take to end after it has said, or shown, that it will.
const LEAVE_MS: u64 = 1000;
/// How long the loader may take to end after it has handed over everything: it unmaps a lot.
const LOADER_LEAVE_MS: u64 = 5000;
/// How long a worker may take to clean up at a quick stop, before SIGKILL.
const QUIT_MS: u64 = 2000;

/// What the decisions depend on besides events. Times are in milliseconds.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Workers at the start.
    pub workers: usize,
    /// Artefacts that the loader hands over: one for each app.
    pub apps: u32,
    /// From fork to Ready.
    pub boot_timeout_ms: u64,
    /// From the loader's fork to its last artefact.
    pub load_timeout_ms: Option<u64>,
    /// Between two heartbeats of a worker that is not asleep; only decides how often to check, for
    /// the worker sets its own deadline.
    pub heartbeat_timeout_ms: Option<u64>,
    /// From the order to drain to SIGKILL.
    pub graceful_timeout_ms: u64,
    /// When a loader could not be forked.
    pub loader_back_off: BackOff,
    /// When a worker has failed or could not be forked.
    pub worker_back_off: BackOff,
}

/// What the server as a whole is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No worker has been ready yet: failures end the server.
    Starting,
    /// A worker has been ready: failures are survived.
    Running,
    /// It ends with this code when the last child has left.
    Stopping {
        /// How much patience is left.
        urgency: Urgency,
        /// The result.
        code: ExitCode,
    },
}

/// Everything the arbiter knows.
#[derive(Debug, Clone)]
pub struct State {
    pub(super) settings: Settings,
    pub(super) phase: Phase,
    generation: u32,
    pub(super) children: Children,
    /// How many workers there should be: the slots below this number.
    pub(super) workers: usize,
    /// Which apps' artefacts the loader has handed over.
    artefacts: BTreeSet<u32>,
    /// Whether the loader is done.
    pub(super) loaded: bool,
    pub(super) heartbeat_at_ms: u64,
    /// When the driver was last asked to wake up.
    pub(super) asked_ms: Option<u64>,
    /// When the last event was.
    pub(super) seen_ms: u64,
    /// How many times in a row the driver woke up late.
    pub(super) late_in_a_row: u32,
    exited: bool,
}

impl State {
    /// Before anything has happened. The first event, which may be a Tick, starts the loader.
    pub fn new(settings: Settings) -> Self {
        assert!(
            (1..=SLOTS_MAX).contains(&settings.workers),
            "{} workers",
            settings.workers
        );
        Self {
            phase: Phase::Starting,
            generation: 1,
            children: Children::new(settings.workers),
            workers: settings.workers,
            artefacts: BTreeSet::new(),
            loaded: false,
            heartbeat_at_ms: 0,
            asked_ms: None,
            seen_ms: 0,
            late_in_a_row: 0,
            exited: false,
            settings,
        }
    }

    /// Decides what follows from `event`, which happens at `now_ms` of a clock that never goes
    /// back. Appends to `actions`, which are to be performed in order.
    pub fn step(&mut self, now_ms: u64, event: Event, actions: &mut Vec<Action>) {
        if self.exited {
            return;
        }
        self.forgive_lost_time(now_ms);
        match event {
            Event::Signal(signal) => self.on_signal(now_ms, signal, actions),
            Event::ChildExited { child, reason } => self.on_exit(now_ms, child, reason, actions),
            Event::FromChild { child, message } => {
                self.on_message(now_ms, child, message, actions);
            }
            Event::Illegal { child } => self.condemn(child, Notice::Illegal(child), actions),
            Event::Hangup { child } => self.expect_end(now_ms, child, LEAVE_MS),
            Event::SpawnFailed { child } => self.on_spawn_failed(now_ms, child, actions),
            Event::Heartbeats(words) => self.on_heartbeats(now_ms, &words, actions),
            Event::Tick => self.on_tick(now_ms, actions),
        }
        match self.phase {
            Phase::Starting | Phase::Running => self.fill_places(now_ms, actions),
            Phase::Stopping { code, .. } => self.exit_if_alone(code, actions),
        }
        self.asked_ms = self.next_deadline();
    }

    /// What the server is doing.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    fn on_message(
        &mut self,
        now_ms: u64,
        id: ChildId,
        message: FromChild,
        actions: &mut Vec<Action>,
    ) {
        let all_handed_over = self.artefacts.len() == self.settings.apps as usize;
        let Some(child) = self.children.get_mut(id) else {
            return;
        };
        let speaks = match child.standing {
            // What it said before it was killed may still arrive.
            Standing::Killed { .. } => return,
            Standing::Booting { .. } | Standing::Draining { .. } => {
                child.ready_ms.is_none() && child.failure.is_none()
            }
            Standing::Ready => false,
        };
        match (message, id.place) {
            (FromChild::Ready, Place::Slot(_)) if speaks => self.on_ready(now_ms, id, actions),
            (FromChild::Artefact { app }, Place::Loader)
                if speaks && app < self.settings.apps && self.artefacts.insert(app) =>
            {
                actions.push(Action::KeepArtefact(app));
            }
            (FromChild::Loaded, Place::Loader) if speaks && all_handed_over => {
                self.on_loaded(now_ms, id, actions);
            }
            (FromChild::Failed { code, reason }, Place::Loader | Place::Slot(_)) if speaks => {
                let default = default_code(id.place);
                child.failure = Some(ExitCode::from_child(code).unwrap_or(default));
                actions.push(Action::Log(Notice::Failed(id, reason)));
                self.expect_end(now_ms, id, LEAVE_MS);
            }
            (
                FromChild::Ready
                | FromChild::Artefact { .. }
                | FromChild::Loaded
                | FromChild::Failed { .. },
                Place::Loader | Place::Slot(_),
            ) => self.condemn(id, Notice::Illegal(id), actions),
        }
    }

    fn on_loaded(&mut self, now_ms: u64, id: ChildId, actions: &mut Vec<Action>) {
        actions.push(Action::Log(Notice::Loaded(id, self.artefacts.len())));
        if let Some(child) = self.children.get_mut(id) {
            child.ready_ms = Some(now_ms);
        }
        self.expect_end(now_ms, id, LOADER_LEAVE_MS);
    }

    fn on_ready(&mut self, now_ms: u64, id: ChildId, actions: &mut Vec<Action>) {
        if !self.watches_heartbeats() {
            self.heartbeat_at_ms = now_ms + self.heartbeat_interval_ms();
        }
        let Some(child) = self.children.get_mut(id) else {
            return;
        };
        child.ready_ms = Some(now_ms);
        match (child.standing, child.leave_by_ms) {
            (Standing::Booting { .. }, _) => child.standing = Standing::Ready,
            // It was told to end while it booted: now it has the time of any other that drains.
            (Standing::Draining { .. }, Some(deadline_ms)) => {
                child.standing = Standing::Draining { deadline_ms };
            }
            (Standing::Draining { .. } | Standing::Ready | Standing::Killed { .. }, _) => {}
        }
        actions.push(Action::Log(Notice::Ready(
            id,
            now_ms.saturating_sub(child.spawned_ms),
        )));
        if self.phase == Phase::Starting {
            self.phase = Phase::Running;
            actions.push(Action::Announce);
        }
    }

    fn on_signal(&mut self, now_ms: u64, signal: Signal, actions: &mut Vec<Action>) {
        match signal {
            Signal::Term => self.on_stop_signal(now_ms, Urgency::Graceful, actions),
            Signal::Int | Signal::Quit => self.on_stop_signal(now_ms, Urgency::Quick, actions),
            Signal::Ttin => self.one_worker_more(actions),
            Signal::Ttou => self.one_worker_less(now_ms, actions),
            // What they order comes with a reload, log files and an upgrade. They must not kill.
            Signal::Hup | Signal::Usr1 | Signal::Usr2 | Signal::Winch => {}
            // Not the arbiter's to decide about, or never received.
            Signal::Chld | Signal::Abrt | Signal::Kill | Signal::Prof => {}
        }
    }

    fn on_stop_signal(&mut self, now_ms: u64, urgency: Urgency, actions: &mut Vec<Action>) {
        let (urgency, code) = match self.phase {
            Phase::Starting | Phase::Running => (urgency, ExitCode::Ok),
            Phase::Stopping {
                urgency: Urgency::Graceful,
                code,
            } => (Urgency::Quick, code),
            Phase::Stopping {
                urgency: Urgency::Quick | Urgency::Now,
                code,
            } => (Urgency::Now, code),
        };
        self.stop(now_ms, urgency, code, actions);
    }

    fn one_worker_more(&mut self, actions: &mut Vec<Action>) {
        if self.is_open() && self.workers < SLOTS_MAX {
            self.workers += 1;
            self.children.grow(self.workers);
            actions.push(Action::Log(Notice::Workers(self.workers)));
        }
    }

    fn one_worker_less(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        if self.is_open() && self.workers > 1 {
            self.workers -= 1;
            actions.push(Action::Log(Notice::Workers(self.workers)));
            let deadline_ms = now_ms + self.settings.graceful_timeout_ms;
            let seat = self.children.seat_mut(Place::Slot(self.workers));
            if let Some(child) = &mut seat.child {
                drain(child, deadline_ms, actions);
            }
        }
    }

    /// Whether children may be started.
    pub(super) fn is_open(&self) -> bool {
        match self.phase {
            Phase::Starting | Phase::Running => true,
            Phase::Stopping { .. } => false,
        }
    }

    /// Begins to stop, or goes on with more urgency.
    pub(super) fn stop(
        &mut self,
        now_ms: u64,
        urgency: Urgency,
        code: ExitCode,
        actions: &mut Vec<Action>,
    ) {
        let begun = !self.is_open();
        self.phase = Phase::Stopping { urgency, code };
        actions.push(Action::Log(Notice::Stopping(urgency)));
        if !begun {
            actions.push(Action::CloseListeners);
        }
        let drained_ms = now_ms + self.settings.graceful_timeout_ms;
        for child in self.children.iter_mut() {
            match (child.id.place, urgency) {
                (Place::Loader, Urgency::Graceful | Urgency::Quick | Urgency::Now)
                | (Place::Slot(_), Urgency::Now) => kill(child, actions),
                (Place::Slot(_), Urgency::Graceful) => drain(child, drained_ms, actions),
                (Place::Slot(_), Urgency::Quick) => quit(child, now_ms + QUIT_MS, actions),
            }
        }
    }

    fn fill_places(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        let due = |place: &Place| self.children.seat(*place).spawn_at_ms <= now_ms;
        let places: Vec<Place> = self.empty_places().filter(due).collect();
        for place in places {
            let timeout_ms = match place {
                Place::Loader => self.settings.load_timeout_ms,
                Place::Slot(_) => Some(self.settings.boot_timeout_ms),
            };
            let deadline_ms = timeout_ms.map(|timeout_ms| now_ms + timeout_ms);
            let child = self.children.enter(place, self.generation, now_ms);
            child.standing = Standing::Booting { deadline_ms };
            actions.push(Action::Spawn(child.id));
        }
    }

    fn exit_if_alone(&mut self, code: ExitCode, actions: &mut Vec<Action>) {
        if self.children.iter().next().is_none() {
            self.exited = true;
            actions.push(Action::Log(Notice::Stopped(code)));
            actions.push(Action::Exit(code));
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
