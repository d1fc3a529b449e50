//! Defines what the arbiter decides: a pure function from time and event to actions.
//!
//! Invariant: it performs nothing, reads no clock and never waits; a reload, an upgrade and a stop
//! are phases in which events are handled like in any other. Each child that is not serving has a
//! deadline.

use super::action::{Action, Notice, Urgency};
use super::children::{ChildId, Children, Place, Standing, WORKER, Wear};
use super::clients::ClientId;
use super::endings::default_code;
use super::event::Event;
use super::exit::ExitCode;
use super::generation::{Generation, Settings};
use super::upgrade::Hold;
use crate::protocol::message::FromChild;

/// How long a child may take to end after it has said, or shown, that it will.
pub(super) const LEAVE_MS: u64 = 1000;
/// How long the loader may take to end after it has handed over everything: it unmaps a lot.
const LOADER_LEAVE_MS: u64 = 5000;

/// What the decisions depend on for as long as the arbiter lives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// Whether the server runs in the background, without a terminal whose window could change.
    pub daemon: bool,
    /// Whether an arbiter of the program before has started this one, and waits.
    pub predecessor: bool,
    /// How often the service manager wants to hear that the arbiter lives, in milliseconds.
    pub watchdog_ms: Option<u64>,
}

/// What the server as a whole is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No worker has been ready yet: failures end the server.
    Starting,
    /// A worker has been ready: failures are survived.
    Running,
    /// The next generation is being made, beside the one that serves.
    Reloading,
    /// The next program has been started, and lives beside this one.
    Upgrading,
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
    pub(super) circumstances: Circumstances,
    /// How the stop goes, once it has begun.
    pub(super) stopping: Option<(Urgency, ExitCode)>,
    /// The generation that serves; `None` until the first worker is ready.
    pub(super) current: Option<Generation>,
    /// The generation that is being made.
    pub(super) candidate: Option<Generation>,
    /// Whether the configuration is being read for the next generation.
    pub(super) preparing: bool,
    /// Whether another reload is to follow.
    pub(super) reload_again: bool,
    /// When changed files have settled.
    pub(super) reload_at_ms: Option<u64>,
    /// Children of generations up to this one listen where nobody else does any more.
    pub(super) abandoned: u32,
    pub(super) hold: Hold,
    /// Whether the predecessor knows how the start went.
    pub(super) told_predecessor: bool,
    /// The control clients that wait for a reload or an upgrade to end.
    pub(super) waiting: Vec<ClientId>,
    pub(super) children: Children,
    pub(super) generations: u32,
    /// When to look at the heartbeats next, if there are any to look at.
    pub(super) heartbeat_at_ms: Option<u64>,
    /// When to look at the memory next.
    pub(super) memory_at_ms: Option<u64>,
    pub(super) watchdog_at_ms: u64,
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
    pub fn new(circumstances: Circumstances, settings: Settings) -> Self {
        Self {
            circumstances,
            stopping: None,
            current: None,
            candidate: Some(Generation::new(1, settings, false)),
            preparing: false,
            reload_again: false,
            reload_at_ms: None,
            abandoned: 0,
            hold: Hold::No,
            told_predecessor: !circumstances.predecessor,
            waiting: Vec::new(),
            children: Children::default(),
            generations: 1,
            heartbeat_at_ms: None,
            memory_at_ms: None,
            watchdog_at_ms: 0,
            asked_ms: None,
            seen_ms: 0,
            late_in_a_row: 0,
            exited: false,
        }
    }

    /// Decides what follows from `event`, which happens at `now_ms` of a clock that never goes
    /// back. Appends to `actions`, which are to be performed in order.
    pub fn step(&mut self, now_ms: u64, event: Event, actions: &mut Vec<Action>) {
        if self.exited {
            return;
        }
        self.forgive_lost_time(now_ms);
        let is_tick = event == Event::Tick;
        match event {
            Event::Signal(signal) => self.on_signal(now_ms, signal, actions),
            Event::ChildExited { child, reason } => self.on_exit(now_ms, child, reason, actions),
            Event::FromChild { child, message } => {
                self.on_message(now_ms, child, message, actions);
            }
            Event::Illegal { child } => self.condemn(child, actions),
            Event::Hangup { child } => self.expect_end(now_ms, child, LEAVE_MS),
            Event::SpawnFailed { child, reason } => {
                self.on_spawn_failed(now_ms, child, reason, actions);
            }
            Event::Heartbeats(words) => self.on_heartbeats(now_ms, &words, actions),
            Event::Memory(samples) => self.on_memory(&samples),
            Event::Prepared { settings, abandons } => self.on_prepared(settings, abandons, actions),
            Event::Unprepared { reason } => self.on_unprepared(reason, actions),
            Event::FilesChanged => self.on_files_changed(now_ms),
            Event::PredecessorGone => self.on_predecessor_gone(actions),
            Event::Control { client, order } => self.on_order(now_ms, client, order, actions),
            Event::Tick => self.on_tick(now_ms, actions),
        }
        match self.stopping {
            None => {
                self.settle(now_ms, actions);
                if is_tick {
                    self.leave_if_done(actions);
                }
            }
            Some((_, code)) => self.exit_if_alone(code, actions),
        }
        self.plan_looks(now_ms);
        self.asked_ms = self.next_deadline();
    }

    /// What the server is doing.
    pub fn phase(&self) -> Phase {
        match (self.stopping, &self.current) {
            (Some((urgency, code)), _) => Phase::Stopping { urgency, code },
            (None, None) => Phase::Starting,
            (None, Some(_)) if self.preparing || self.candidate.is_some() => Phase::Reloading,
            (None, Some(_)) if self.children.successor().is_some() => Phase::Upgrading,
            (None, Some(_)) => Phase::Running,
        }
    }

    /// The number of the generation that serves, or that is to be the first.
    pub fn generation(&self) -> u32 {
        self.newest().map_or(0, |generation| generation.number)
    }

    /// How many workers there should be.
    pub fn workers(&self) -> usize {
        self.newest().map_or(0, |generation| generation.wanted[0])
    }

    /// Everything known of each child.
    pub fn children(&self) -> &Children {
        &self.children
    }

    /// The generation that serves, or before there is one, that is to be the first.
    pub(super) fn newest(&self) -> Option<&Generation> {
        self.current.as_ref().or(self.candidate.as_ref())
    }

    pub(super) fn generation_mut(&mut self, number: u32) -> Option<&mut Generation> {
        let both = [self.current.as_mut(), self.candidate.as_mut()];
        let mut both = both.into_iter().flatten();
        both.find(|generation| generation.number == number)
    }

    /// Up to which generation children listen where nobody else of this server does any more: all,
    /// if none of its workers is to go on. A successor may do without an address that it has.
    pub(super) fn abandoned(&self) -> u32 {
        if self.stopping.is_some() || self.is_held() {
            u32::MAX
        } else {
            self.abandoned
        }
    }

    pub(super) fn graceful_timeout_ms(&self) -> u64 {
        self.newest()
            .map_or(0, |generation| generation.settings.graceful_timeout_ms)
    }

    fn on_message(
        &mut self,
        now_ms: u64,
        id: ChildId,
        message: FromChild,
        actions: &mut Vec<Action>,
    ) {
        let Some(child) = self.children.get(id) else {
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
        let serves = child.ready_ms.is_some();
        let legal = match (message, id.place) {
            (FromChild::Ready, Place::Slot { .. }) if speaks => {
                self.on_ready(now_ms, id, actions);
                true
            }
            (FromChild::Ready, Place::Successor) if speaks => {
                self.on_successor_ready(now_ms, id, actions);
                true
            }
            (FromChild::Artefact { app }, Place::Loader) if speaks => {
                self.on_artefact(id, app, actions)
            }
            (FromChild::Loaded, Place::Loader) if speaks => self.on_loaded(now_ms, id, actions),
            (
                FromChild::Failed { code, reason },
                Place::Loader | Place::Successor | Place::Slot { .. },
            ) if speaks => {
                self.on_failed(now_ms, id, code, reason, actions);
                true
            }
            (FromChild::Retire, Place::Slot { .. }) => self.on_worn(id, Wear::Requests),
            (FromChild::Accept, Place::Slot { role: WORKER, .. }) if serves => {
                actions.push(Action::Grant(id.generation));
                true
            }
            (FromChild::Alive { .. }, Place::Slot { role: WORKER, .. }) if serves => {
                actions.push(Action::Believe(id));
                true
            }
            (
                FromChild::Ready
                | FromChild::Artefact { .. }
                | FromChild::Loaded
                | FromChild::Failed { .. }
                | FromChild::Retire
                | FromChild::Accept
                | FromChild::Alive { .. },
                Place::Loader | Place::Successor | Place::Slot { .. },
            ) => false,
        };
        if !legal {
            self.condemn(id, actions);
        }
    }

    fn on_failed(
        &mut self,
        now_ms: u64,
        id: ChildId,
        code: u8,
        reason: String,
        actions: &mut Vec<Action>,
    ) {
        let code = ExitCode::from_child(code).unwrap_or(default_code(id.place));
        if let Some(child) = self.children.get_mut(id) {
            child.failure = Some((code, reason.clone()));
        }
        // The end of a reload or an upgrade tells the reason, once.
        let serves = self.current.as_ref().map(|current| current.number);
        let is_told =
            id.place == Place::Successor || serves.is_some_and(|serves| serves < id.generation);
        if !is_told {
            actions.push(Action::Log(Notice::Failed(id, reason)));
        }
        self.expect_end(now_ms, id, LEAVE_MS);
    }

    /// Whether the artefact is one that is still missing.
    fn on_artefact(&mut self, id: ChildId, app: u32, actions: &mut Vec<Action>) -> bool {
        let Some(generation) = self.generation_mut(id.generation) else {
            // The reload is over, and its loader does not know it yet.
            return true;
        };
        let apps = generation.settings.apps.unwrap_or(0);
        let wanted = app < apps && generation.artefacts.insert(app);
        if wanted {
            actions.push(Action::KeepArtefact(id, app));
        }
        wanted
    }

    /// Whether the loader has handed over everything.
    fn on_loaded(&mut self, now_ms: u64, id: ChildId, actions: &mut Vec<Action>) -> bool {
        let artefacts = match self.generation_mut(id.generation) {
            Some(generation) if generation.has_all_artefacts() => generation.artefacts.len(),
            Some(_) => return false,
            None => return true,
        };
        actions.push(Action::Log(Notice::Loaded(id, artefacts)));
        if let Some(child) = self.children.get_mut(id) {
            child.ready_ms = Some(now_ms);
        }
        self.expect_end(now_ms, id, LOADER_LEAVE_MS);
        true
    }

    fn on_ready(&mut self, now_ms: u64, id: ChildId, actions: &mut Vec<Action>) {
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
    }

    fn exit_if_alone(&mut self, code: ExitCode, actions: &mut Vec<Action>) {
        // A successor that serves outlives this arbiter; another has been killed and is awaited.
        let mut others = self.children.iter().filter(|child| {
            child.id.place != Place::Successor || child.standing != Standing::Ready
        });
        if others.next().is_none() {
            self.exited = true;
            actions.push(Action::Log(Notice::Stopped(code)));
            actions.push(Action::Exit(code));
        }
    }

    /// Ends, since the successor goes on alone.
    pub(super) fn leave_to_successor(&mut self, actions: &mut Vec<Action>) {
        self.exited = true;
        actions.push(Action::Log(Notice::Stopped(ExitCode::Ok)));
        actions.push(Action::Exit(ExitCode::Ok));
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
