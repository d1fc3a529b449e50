//! Defines what must hold in the simulated world, found from what its children have lived through
//! rather than from what the state remembers of it.

use super::child::{DEATH_MS, Model};
use super::{TRACE_LINES, World};
use crate::arbiter::action::{Action, Notice, Urgency};
use crate::arbiter::children::{ChildId, Place, Standing};
use crate::arbiter::exit::ExitCode;
use crate::arbiter::state::{Phase, SLOTS_MAX};
use crate::protocol::message::ToChild;
use crate::scoreboard::NEVER;
use crate::sys::process::ExitReason;

/// The longest time between two looks at the heartbeats.
const HEARTBEAT_CHECK_MS: u64 = 5000;

impl World {
    /// A worker that serves and does not beat any more is noticed in time.
    pub(super) fn check_heartbeats(&mut self) {
        let Some(timeout_ms) = self.settings.heartbeat_timeout_ms else {
            return;
        };
        let standing = |id: &ChildId| {
            let seat = self.state.children.seat(id.place);
            seat.child.as_ref().map(|child| child.standing)
        };
        let overdue = self.children.iter().any(|(id, child)| {
            let limit_ms = timeout_ms + HEARTBEAT_CHECK_MS + child.excused_ms;
            let silent = child
                .frozen_ms
                .is_some_and(|at_ms| self.now_ms > at_ms + limit_ms);
            silent && standing(id) == Some(Standing::Ready)
        });
        self.check(!overdue, "a silent worker is not noticed");
    }

    /// Whether the end of this child must end the server, and with which code. Found from what the
    /// child has lived through, not from what the state remembers of it.
    pub(super) fn must_stop(
        &mut self,
        id: ChildId,
        child: &Model,
        reason: ExitReason,
    ) -> Option<ExitCode> {
        let standing = self
            .state
            .children
            .get_mut(id)
            .map(|record| (record.standing, record.is_leaving()));
        let (standing, leaving) = standing.expect("a living child has a record");
        let judged = matches!(standing, Standing::Killed { .. });
        let by_status = match reason {
            ExitReason::Exited(status) => ExitCode::from_child(status as u8),
            ExitReason::Signaled(_) => None,
        };
        let by_word = child.failed_with.map(ExitCode::from_child);
        match id.place {
            Place::Loader => {
                let good = child.said_loaded && reason == ExitReason::Exited(0) && !judged;
                let by_word = by_word.map(|code| code.unwrap_or(ExitCode::AppLoad));
                (!good).then_some(by_word.or(by_status).unwrap_or(ExitCode::AppLoad))
            }
            Place::Slot(_) => {
                let fatal = self.state.phase() == Phase::Starting && !leaving;
                let by_word = by_word.map(|code| code.unwrap_or(ExitCode::WorkerBoot));
                fatal.then_some(by_word.or(by_status).unwrap_or(ExitCode::WorkerBoot))
            }
        }
    }

    /// Does what the arbiter says. Returns a child that could not be forked.
    pub(super) fn perform(&mut self, action: Action) -> Option<ChildId> {
        self.check(
            self.history.exited.is_none(),
            "there is an action after the exit",
        );
        match action {
            Action::Spawn(id) => return self.spawn(id),
            Action::Send(id, ToChild::Drain) => self.drain(id),
            Action::Kill(id, signal) => self.kill(id, signal),
            Action::KeepArtefact(app) => {
                let new = self.history.kept.insert(app);
                self.check(new, "an artefact is kept twice");
                self.check(app < self.settings.apps, "an artefact of no app is kept");
            }
            Action::Announce => {
                self.check(!self.history.announced, "it is announced twice");
                let ready = self.children.values().any(|child| child.said_ready);
                self.check(ready, "it is announced before a worker is ready");
                self.history.announced = true;
            }
            Action::CloseListeners => {
                self.check(!self.history.closed, "the listeners are closed twice");
                self.history.closed = true;
            }
            Action::Log(notice) => self.read(&notice),
            Action::Exit(code) => {
                self.check(self.children.is_empty(), "it exits before its children");
                self.check(self.history.verdict == Some(code), "the exit code is wrong");
                self.check(self.history.closed, "it exits with open listeners");
                self.history.exited = Some(code);
                self.tally.exits.insert(code.number());
            }
        }
        None
    }

    pub(super) fn spawn(&mut self, id: ChildId) -> Option<ChildId> {
        let stopping = matches!(self.state.phase(), Phase::Stopping { .. });
        self.check(!stopping, "a child is started during the stop");
        let free = self.children.keys().all(|other| other.place != id.place);
        self.check(free, "two children are in one place");
        match id.place {
            Place::Loader => self.check(!self.history.loaded, "it loads twice"),
            Place::Slot(slot) => {
                self.history.loaded = true;
                let kept = self.history.kept.len() == self.settings.apps as usize;
                self.check(kept, "a worker is started without its artefacts");
                self.check(slot < self.history.workers, "a worker too many is started");
            }
        }
        self.check_pace(id.place);
        if self.numbers.percent(self.trouble / 5) {
            return Some(id);
        }
        let model = match id.place {
            Place::Loader => self.new_loader(),
            Place::Slot(_) => self.new_worker(),
        };
        self.children.insert(id, model);
        None
    }

    /// However its children fail, a slot does not keep the machine busy with forking.
    pub(super) fn check_pace(&mut self, place: Place) {
        let spawns = self.history.spawns.entry(place).or_default();
        spawns.push_back(self.now_ms);
        if spawns.len() > 20 {
            spawns.pop_front();
        }
        let times: Vec<u64> = spawns.iter().copied().collect();
        let took = |count: usize| {
            times
                .len()
                .checked_sub(count)
                .map(|at| self.now_ms - times[at])
        };
        self.check(
            took(20).is_none_or(|ms| ms >= 1500),
            "a slot is filled too often",
        );
        // The sum of the waits from 100 ms to 12.8 s.
        let crashes = matches!(self.curse, Some(reason) if reason != ExitReason::Exited(0));
        let hurry = crashes && took(10).is_some_and(|ms| ms < 20_000);
        self.check(!hurry, "there is no back-off");
    }

    pub(super) fn living(&mut self, id: ChildId) -> &mut Model {
        let known = self.children.contains_key(&id);
        self.check(known, "an action is about a child that does not live");
        self.children.get_mut(&id).expect("it was just found")
    }

    /// Patience must not end early, whatever the clock did.
    pub(super) fn read(&mut self, notice: &Notice) {
        let now_ms = self.now_ms;
        let text = format!("{notice:?}");
        let kind = text.split('(').next().unwrap_or_default();
        if !self.tally.notices.contains(kind) {
            self.tally.notices.insert(kind.to_owned());
        }
        match notice {
            Notice::TooSlow(id) => {
                let limit_ms = match id.place {
                    Place::Loader => self.settings.load_timeout_ms.unwrap_or(NEVER),
                    Place::Slot(_) => self.settings.boot_timeout_ms,
                };
                let booted_ms = now_ms - self.living(*id).spawned_ms;
                self.check(
                    booted_ms >= limit_ms,
                    "a child is killed before its boot timeout",
                );
            }
            Notice::Unfinished(id) => {
                let (graceful_ms, boot_ms) = (
                    self.settings.graceful_timeout_ms,
                    self.settings.boot_timeout_ms,
                );
                let stopping = matches!(self.state.phase(), Phase::Stopping { .. });
                let child = self.living(*id);
                // One that hung up, or failed, and was then to be drained has no such time.
                let drained = child
                    .drained_ms
                    .is_none_or(|at_ms| now_ms - at_ms >= graceful_ms);
                let booted = !child.said_ready && now_ms - child.spawned_ms >= boot_ms;
                let gone = !child.connected || child.failed_with.is_some();
                self.check(
                    drained || booted || gone || stopping,
                    "a worker is killed before the graceful timeout",
                );
            }
            Notice::Stopping(urgency) => {
                let patience_ms = match urgency {
                    // From here each child is given up within this time, or was before.
                    Urgency::Graceful => self.settings.graceful_timeout_ms.max(1000),
                    Urgency::Quick => 2000,
                    Urgency::Now => 0,
                };
                let over_ms = now_ms + patience_ms + DEATH_MS + 1000;
                let first = !self.history.closed;
                let earlier_ms = if first {
                    NEVER
                } else {
                    self.history.over_by_ms
                };
                self.history.over_by_ms = over_ms.min(earlier_ms);
            }
            _ => {}
        }
    }

    pub(super) fn check_all(&mut self) {
        let records: Vec<_> = self.state.children.iter().cloned().collect();
        let stopping = matches!(self.state.phase(), Phase::Stopping { .. });
        self.check(
            self.state.children.slots() <= SLOTS_MAX,
            "there are too many slots",
        );
        let overdue = stopping && self.now_ms > self.history.over_by_ms;
        self.check(
            !overdue || self.history.exited.is_some(),
            "the stop takes too long",
        );
        self.check(
            !stopping || self.history.verdict.is_some(),
            "it stops without a reason",
        );
        self.check(
            stopping || self.history.verdict.is_none(),
            "it goes on with a reason to stop",
        );
        let running = self.state.phase() == Phase::Running;
        self.check(
            !running || self.history.announced,
            "it runs and nobody was told",
        );
        for record in &records {
            let unlimited = record.id.place == Place::Loader
                && self.settings.load_timeout_ms.is_none()
                && record.standing == Standing::Booting { deadline_ms: None };
            let killed = self
                .children
                .get(&record.id)
                .is_some_and(|child| child.killed);
            let bounded = record.deadline().is_some() || killed || unlimited;
            let serves = record.standing == Standing::Ready;
            self.check(
                serves || bounded,
                "a child that does not serve has no deadline",
            );
            if let (Place::Slot(slot), Standing::Booting { .. } | Standing::Ready) =
                (record.id.place, record.standing)
            {
                self.check(slot < self.history.workers, "a worker too many serves on");
            }
        }
    }

    pub(super) fn note(&mut self, line: String) {
        if self.trace.len() == TRACE_LINES {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{:>9} {line}", self.now_ms));
    }

    #[track_caller]
    pub(super) fn check(&self, holds: bool, what: &str) {
        if !holds {
            let trace: Vec<&str> = self.trace.iter().map(String::as_str).collect();
            let (seed, trace) = (self.seed, trace.join("\n"));
            panic!("{what}\nSIMULATION_SEED={seed} SIMULATION_STEPS=1 to see it again\n{trace}");
        }
    }
}
