//! Defines what must hold in the simulated world at all times, found from what its children have
//! lived through rather than from what the state remembers of it.

use super::World;
use super::child::Model;
use super::plans::Held;
use crate::arbiter::children::{ChildId, Place, Standing, WORKER};
use crate::arbiter::event::Order;
use crate::arbiter::exit::ExitCode;
use crate::arbiter::state::Phase;
use crate::scoreboard::NEVER;
use crate::sys::process::ExitReason;

/// From SIGABRT to SIGKILL.
const ABORT_MS: u64 = 1000;

impl World {
    /// Whether the end of this child must end the server, and with which code.
    pub(super) fn must_stop(
        &self,
        id: ChildId,
        child: &Model,
        reason: ExitReason,
    ) -> Option<ExitCode> {
        if self.history.announced || self.is_stopping() || child.told.is_some() {
            return None;
        }
        let default = match id.place {
            Place::Loader if child.has_loaded(reason) => return None,
            Place::Loader => ExitCode::AppLoad,
            Place::Successor | Place::Slot { .. } => ExitCode::WorkerBoot,
        };
        let by_status = match reason {
            ExitReason::Exited(status) => ExitCode::from_child(status as u8),
            ExitReason::Signaled(_) => None,
        };
        let by_word = child.failed_with.map(ExitCode::from_child);
        let by_word = by_word.map(|code| code.unwrap_or(default));
        Some(by_word.or(by_status).unwrap_or(default))
    }

    /// Whether the end of this child must end the reload.
    pub(super) fn must_fail(&self, id: ChildId, child: &Model, reason: ExitReason) -> bool {
        let reloads = self.history.announced && self.candidate == Some(id.generation);
        let well = match id.place {
            Place::Loader => child.has_loaded(reason),
            Place::Slot { .. } => child.told.is_some(),
            Place::Successor => true,
        };
        reloads && !well && !self.is_stopping()
    }

    pub(super) fn check_after_tick(&mut self) {
        if self.history.exited.is_some() {
            return;
        }
        let deadline_ms = self.state.next_deadline().unwrap_or(NEVER);
        self.check(
            deadline_ms > self.now_ms,
            "a deadline is left after the tick",
        );
        self.check_heartbeats();
        self.check_age(deadline_ms);
        let overdue = self.children.values().any(|child| {
            let told = child.told.filter(|_| !child.killed);
            told.is_some_and(|(_, at_ms, patience_ms)| {
                self.now_ms > at_ms + patience_ms + ABORT_MS + child.excused_ms
            })
        });
        self.check(!overdue, "a child is not killed in time");
        if let Some(every_ms) = self.circumstances.watchdog_ms {
            let petted_ms = self.history.petted_ms.unwrap_or(0);
            self.check(
                self.now_ms - petted_ms < every_ms,
                "the watchdog is forgotten",
            );
        }
        let leaves = self.held == Held::Leaving && self.successor() == Some(true);
        let alone = self.children.len() == 1;
        self.check(!leaves || !alone, "it stays for no reason");
    }

    /// A worker that serves and does not beat any more is noticed in time.
    fn check_heartbeats(&self) {
        let made = self.current();
        let Some(timeout_ms) = made.settings.heartbeat_timeout_ms else {
            return;
        };
        let interval_ms = (timeout_ms / 8).clamp(250, 5000);
        let overdue = self.children.iter().any(|(id, child)| {
            // After lost time the first look is a pardon.
            let looks = if child.excused_ms > 0 { 2 } else { 1 };
            let limit_ms = looks * interval_ms + child.excused_ms;
            let limit_ms = limit_ms.saturating_add(self.heartbeat_timeout_ms(*id));
            let since_ms = child.frozen_ms.map(|at_ms| at_ms.max(made.adopted_ms));
            let silent = since_ms.is_some_and(|at_ms| self.now_ms > at_ms.saturating_add(limit_ms));
            silent && child.serves() && id.place != Place::Successor
        });
        self.check(!overdue, "a silent worker is not noticed");
    }

    /// A worker that becomes too old is noticed even if nothing else happens.
    fn check_age(&self, deadline_ms: u64) {
        let lifetime_ms = self.current().settings.max_lifetime_ms.unwrap_or(NEVER);
        let one_by_one = self.children.values().filter(|child| child.worn).count() == 0;
        if !one_by_one || self.is_held() || self.is_stopping() {
            return;
        }
        let ages = self.children.iter().filter(|(id, child)| {
            id.place.role() == Some(WORKER) && Some(id.generation) == self.serving && child.serves()
        });
        let first_ms = ages.map(|(_, child)| child.ready_ms.saturating_add(lifetime_ms));
        let in_time = first_ms.min().is_none_or(|at_ms| deadline_ms <= at_ms);
        self.check(in_time, "nobody looks who is too old");
    }

    pub(super) fn check_all(&mut self) {
        self.check_stop();
        self.check_phase();
        if self.history.exited.is_none() {
            self.check_children();
            self.check_clients();
        }
    }

    fn check_stop(&self) {
        let stopping = self.is_stopping();
        let exited = self.history.exited.is_some();
        let overdue = stopping && self.now_ms > self.history.over_by_ms;
        self.check(!overdue || exited, "the stop takes too long");
        let judged = self.history.verdict.is_some();
        self.check(!stopping || judged, "it stops without a reason");
        self.check(stopping || !judged, "it goes on with a reason to stop");
    }

    fn check_phase(&mut self) {
        let phase = self.state.phase();
        let makes = self.candidate.is_some() || self.preparing.is_some();
        let upgrades = self.successor().is_some();
        let (fits, name) = match phase {
            Phase::Starting => (!self.history.announced, "phase starting"),
            Phase::Reloading => (makes, "phase reloading"),
            Phase::Upgrading => (upgrades && !makes, "phase upgrading"),
            Phase::Running => (!upgrades && !makes, "phase running"),
            Phase::Stopping { .. } => (true, "phase stopping"),
        };
        let told =
            self.history.announced || matches!(phase, Phase::Starting | Phase::Stopping { .. });
        self.check(told, "it runs and nobody was told");
        self.check(fits, "the phase is wrong");
        self.tally.add(name);
    }

    fn check_children(&self) {
        let mut known = 0;
        for record in self.state.children.iter() {
            let Some(child) = self.children.get(&record.id) else {
                let unborn = self.unborn.contains(&record.id);
                self.check(unborn, "somebody is remembered who is gone");
                continue;
            };
            known += 1;
            let serves = record.standing == Standing::Ready;
            self.check(serves == child.serves(), "it is mistaken about who serves");
            let current = self.serving == Some(record.id.generation);
            let let_in = !current || child.accepts || !serves || self.is_stopping();
            self.check(
                let_in,
                "a worker of the generation that serves is not let in",
            );
            let early = self.candidate == Some(record.id.generation) && self.history.announced;
            let is_worker = record.id.place.role() == Some(WORKER);
            let let_in = is_worker && early && child.accepts;
            self.check(!let_in, "a worker is let in before its generation serves");
            let unlimited = record.id.place == Place::Loader
                && child.boot_limit_ms == NEVER
                && record.standing == Standing::Booting { deadline_ms: None };
            let bounded = record.deadline().is_some() || child.killed || unlimited;
            self.check(
                serves || bounded,
                "a child that does not serve has no deadline",
            );
            self.check(record.row == child.row, "a child has got another's row");
        }
        self.check(known == self.children.len(), "somebody is forgotten");
    }

    /// Who waits for an answer waits for something that will end.
    fn check_clients(&self) {
        let reloads = self.candidate.is_some() || self.preparing.is_some();
        let upgrades = self.successor() == Some(false);
        let waits = |order: &Order| match order {
            Order::Reload => reloads && self.history.announced,
            Order::Upgrade => upgrades,
            _ => false,
        };
        let stopping = self.is_stopping();
        let fine = self.pending.values().all(|order| waits(order) && !stopping);
        self.check(fine, "a client waits for nothing");
    }

    /// After a long calm nothing is under way, and there is exactly who should be there.
    pub(super) fn check_calm(&mut self) {
        let exited = self.history.exited.is_some();
        if exited || !self.history.announced {
            return;
        }
        self.check(!self.is_stopping(), "it is never done with stopping");
        if let Some(number) = self.candidate
            && self.plan(number).settings.load_timeout_ms.is_none()
        {
            // A loader may take as long as it likes.
            return;
        }
        self.tally.add("a calm");
        let idle = self.candidate.is_none() && self.preparing.is_none();
        self.check(idle, "a reload never ends");
        self.check(self.successor() != Some(false), "an upgrade never ends");
        self.check(self.held != Held::Leaving, "it never leaves");
        self.check(self.pending.is_empty(), "a client waits for ever");
        self.check(!self.history.owes_reload, "a reload was forgotten");
        self.check(
            self.history.told_predecessor,
            "the predecessor waits for ever",
        );
        let is_held = self.is_held();
        let ages = self.current().settings.max_lifetime_ms.is_some() && !is_held;
        let mut wanted = 0;
        for role in 0..self.current().settings.roles.len() {
            let count = if is_held { 0 } else { self.needed(role, false) };
            let serving = self.count(role, |id| Some(id.generation) == self.serving);
            let enough = serving >= count && (ages || serving == count);
            self.check(enough, "too few workers, or too many, serve after a calm");
            wanted += count;
        }
        let others = self
            .children
            .keys()
            .filter(|id| id.place != Place::Successor);
        let others = others.count();
        self.check(ages || others == wanted, "somebody is left over");
    }
}
