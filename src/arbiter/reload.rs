//! Defines how one generation follows another.
//!
//! Invariant: the generation that serves is not touched before the next one has its quorum of ready
//! workers; whatever fails before that ends the reload, and nothing else.

use super::action::{Action, Notice, Urgency};
use super::children::{Place, Record, WORKER};
use super::endings::{finish, kill};
use super::exit::ExitCode;
use super::generation::{Generation, Settings};
use super::orders::{LEAVING, RELOADING, STARTING, STOPPING};
use super::state::{Phase, State};
use super::upgrade::Hold;

/// How long files must have been left alone before they count as written.
const SETTLE_MS: u64 = 300;

impl State {
    /// Begins a reload.
    pub(super) fn reload(&mut self, actions: &mut Vec<Action>) -> Result<(), &'static str> {
        match self.phase() {
            Phase::Stopping { .. } => Err(STOPPING),
            Phase::Starting => Err(STARTING),
            Phase::Reloading => Err(RELOADING),
            Phase::Upgrading if self.serving_successor().is_none() => {
                Err("an upgrade is under way")
            }
            Phase::Upgrading if self.hold == Hold::Leaving => Err(LEAVING),
            Phase::Running | Phase::Upgrading => {
                self.generations += 1;
                self.preparing = true;
                self.reload_at_ms = None;
                actions.push(Action::Log(Notice::Reloading(self.generations)));
                actions.push(Action::Prepare(self.generations));
                Ok(())
            }
        }
    }

    /// Begins a reload, or if one is under way, has another follow: the files may have changed
    /// since it read them.
    pub(super) fn reload_or_later(
        &mut self,
        actions: &mut Vec<Action>,
    ) -> Result<(), &'static str> {
        match self.phase() {
            Phase::Starting | Phase::Reloading => self.reload_again = true,
            Phase::Upgrading if self.serving_successor().is_none() => self.reload_again = true,
            Phase::Running | Phase::Upgrading | Phase::Stopping { .. } => {
                return self.reload(actions);
            }
        }
        Ok(())
    }

    pub(super) fn on_prepared(
        &mut self,
        settings: Settings,
        abandons: bool,
        actions: &mut Vec<Action>,
    ) {
        if !std::mem::take(&mut self.preparing) {
            return;
        }
        if self.stopping.is_some() {
            return actions.push(Action::Discard(self.generations));
        }
        self.candidate = Some(Generation::new(self.generations, settings, abandons));
    }

    pub(super) fn on_unprepared(&mut self, reason: String, actions: &mut Vec<Action>) {
        if std::mem::take(&mut self.preparing) && self.stopping.is_none() {
            self.end_reload(Err(reason), actions);
        }
    }

    pub(super) fn on_files_changed(&mut self, now_ms: u64) {
        // Who writes a big file makes it wait for each piece; the last one counts.
        self.reload_at_ms = Some(now_ms + SETTLE_MS);
    }

    /// Begins the reload that is due, if it can be begun.
    pub(super) fn reload_if_due(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        let settled = self.reload_at_ms.is_some_and(|at_ms| at_ms <= now_ms);
        if settled {
            self.reload_at_ms = None;
            self.reload_again = true;
        }
        if self.reload_again && self.reload(actions).is_ok() {
            self.reload_again = false;
        }
    }

    /// Makes the candidate the current generation, once enough of it is ready.
    pub(super) fn promote_candidate(&mut self, actions: &mut Vec<Action>) {
        let Some(candidate) = &self.candidate else {
            return;
        };
        let number = candidate.number;
        let ready = |role| self.children.serving(role, number..=number);
        // At the start nobody waits to be relieved, and the first who is ready can serve.
        let enough = match &self.current {
            None => ready(WORKER) > 0,
            Some(_) => {
                let mut others = candidate.wanted.iter().enumerate().skip(1);
                ready(WORKER) >= candidate.quorum()
                    && others.all(|(role, count)| ready(role) >= *count)
            }
        };
        if !enough {
            return;
        }
        if candidate.abandons {
            self.abandoned = number - 1;
        }
        let before = self.current.take();
        self.current = self.candidate.take();
        if before.is_none() {
            return actions.push(Action::Announce);
        }
        if self.hold == Hold::Winch {
            self.hold = Hold::No;
        }
        actions.push(Action::Adopt(number));
        actions.push(Action::Log(Notice::Generation(number)));
        self.end_reload(Ok(number), actions);
    }

    /// What the failure of a child of the candidate leads to.
    pub(super) fn fail_candidate(
        &mut self,
        now_ms: u64,
        code: ExitCode,
        reason: String,
        actions: &mut Vec<Action>,
    ) {
        if self.current.is_none() {
            return self.stop(now_ms, Urgency::Quick, code, &reason, actions);
        }
        let leave_by_ms = now_ms + self.graceful_timeout_ms();
        let abandoned = self.abandoned();
        let Some(number) = self.candidate.take().map(|candidate| candidate.number) else {
            return;
        };
        let of_candidate = |child: &&mut Record| child.id.generation == number;
        for child in self.children.iter_mut().filter(of_candidate) {
            match child.id.place {
                Place::Loader => kill(child, actions),
                // It may be ready already, whether it has been heard or not.
                Place::Slot { .. } => finish(child, leave_by_ms, abandoned, actions),
                Place::Successor => {}
            }
        }
        actions.push(Action::Discard(number));
        self.end_reload(Err(reason), actions);
    }

    /// Forgets the generation that is being made beside another, and all that was to follow.
    pub(super) fn abandon_reload(&mut self, actions: &mut Vec<Action>) {
        if self.current.is_some()
            && let Some(candidate) = self.candidate.take()
        {
            actions.push(Action::Discard(candidate.number));
        }
        self.reload_again = false;
        self.reload_at_ms = None;
    }

    fn end_reload(&mut self, result: Result<u32, String>, actions: &mut Vec<Action>) {
        let answer = match result {
            Ok(number) => Ok(format!("generation {number} serves")),
            Err(reason) => {
                let notice = Notice::ReloadFailed(self.generations, reason.clone());
                actions.push(Action::Log(notice));
                Err(reason)
            }
        };
        self.answer_waiting(&answer, actions);
    }
}
