//! Defines the arbiter's patience: deadlines, heartbeats, and time in which nothing could run.
//!
//! Invariant: no child is given up before its deadline has passed while the arbiter was awake.

use super::action::{Action, Notice};
use super::children::{ChildId, Pardon, Record, Standing, WORKER};
use super::endings::kill;
use super::state::State;
use crate::sys::signals::Signal;

/// How long a silent worker has for its last words, from SIGABRT to SIGKILL.
const ABORT_MS: u64 = 1000;
/// An arbiter that wakes so much later than it asked to was stopped, and its children perhaps too.
const LATE_MS: u64 = 1000;
/// Only so many times in a row is it believed.
const LATE_IN_A_ROW_MAX: u32 = 3;
/// The heartbeat is checked so often within its timeout,
const HEARTBEAT_CHECKS: u64 = 8;
/// but no more often than this,
const HEARTBEAT_CHECK_MIN_MS: u64 = 250;
/// and no less.
const HEARTBEAT_CHECK_MAX_MS: u64 = 5000;

impl State {
    /// When to send the next [`Tick`](super::event::Event::Tick), unless something else happens
    /// before.
    pub fn next_deadline(&self) -> Option<u64> {
        let children = self.children.iter().filter_map(Record::deadline);
        let watchdog = self.circumstances.watchdog_ms.map(|_| self.watchdog_at_ms);
        let open = self.stopping.is_none();
        let reload = self.reload_at_ms.filter(|_| open);
        let old = self.next_old_ms().filter(|_| open);
        let spawns = self.vacancies().into_iter().map(|(_, _, due_ms)| due_ms);
        let single = [
            self.heartbeat_at_ms,
            self.memory_at_ms,
            watchdog,
            reload,
            old,
        ];
        let single = single.into_iter().flatten();
        children.chain(single).chain(spawns).min()
    }

    /// Whether to send [`Heartbeats`](super::event::Event::Heartbeats) now, before the Tick.
    pub fn wants_heartbeats(&self, now_ms: u64) -> bool {
        self.heartbeat_at_ms.is_some_and(|at_ms| at_ms <= now_ms)
    }

    /// The workers whose heartbeat is watched.
    pub fn watched(&self) -> impl Iterator<Item = ChildId> {
        self.children
            .iter()
            .filter(|child| child.is_watched())
            .map(|child| child.id)
    }

    /// Whether to send [`Memory`](super::event::Event::Memory) now, before the Tick.
    pub fn wants_memory(&self, now_ms: u64) -> bool {
        self.memory_at_ms.is_some_and(|at_ms| at_ms <= now_ms)
    }

    /// The workers whose memory is watched.
    pub fn weighed(&self) -> impl Iterator<Item = ChildId> {
        let ready = |child: &&Record| {
            child.id.place.role() == Some(WORKER) && child.standing == Standing::Ready
        };
        self.children.iter().filter(ready).map(|child| child.id)
    }

    /// How often to look at the heartbeats, if there are any to look at.
    fn heartbeat_interval_ms(&self) -> Option<u64> {
        let timeout_ms = self.newest()?.settings.heartbeat_timeout_ms?;
        self.watched().next()?;
        let often_ms = timeout_ms / HEARTBEAT_CHECKS;
        Some(often_ms.clamp(HEARTBEAT_CHECK_MIN_MS, HEARTBEAT_CHECK_MAX_MS))
    }

    /// How often to look at the memory, if there is any to look at.
    fn memory_interval_ms(&self) -> Option<u64> {
        let limit = self.current.as_ref()?.settings.memory?;
        self.weighed().next()?;
        self.stopping.is_none().then_some(limit.interval_ms)
    }

    /// Sees to it that what is to be watched is looked at in time, and nothing else.
    pub(super) fn plan_looks(&mut self, now_ms: u64) {
        let next_ms = |planned_ms: Option<u64>, every_ms: Option<u64>| {
            let latest_ms = now_ms + every_ms?;
            Some(planned_ms.map_or(latest_ms, |at_ms| at_ms.min(latest_ms)))
        };
        self.heartbeat_at_ms = next_ms(self.heartbeat_at_ms, self.heartbeat_interval_ms());
        self.memory_at_ms = next_ms(self.memory_at_ms, self.memory_interval_ms());
    }

    /// After the arbiter was stopped, or the machine too busy to run it, deadlines move by the time
    /// since it last saw anything: the children may have been stopped as well, and must get a
    /// chance to show that they live. On a machine that is always too busy that has an end, or
    /// nobody would ever kill the worker that makes it so.
    pub(super) fn forgive_lost_time(&mut self, now_ms: u64) {
        let seen_ms = std::mem::replace(&mut self.seen_ms, now_ms);
        let Some(asked_ms) = self.asked_ms.filter(|asked_ms| *asked_ms <= now_ms) else {
            return;
        };
        // Of the events that one wake-up brings, the first alone can be late.
        let late_ms = now_ms.saturating_sub(asked_ms.max(seen_ms));
        if late_ms > LATE_MS {
            self.late_in_a_row = self.late_in_a_row.saturating_add(1);
            if self.late_in_a_row <= LATE_IN_A_ROW_MAX {
                let unseen_ms = now_ms.saturating_sub(seen_ms);
                self.children
                    .iter_mut()
                    .for_each(|child| child.postpone(unseen_ms));
            }
        } else if seen_ms < asked_ms {
            self.late_in_a_row = 0;
        }
    }

    pub(super) fn on_tick(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        if let Some(every_ms) = self
            .circumstances
            .watchdog_ms
            .filter(|_| now_ms >= self.watchdog_at_ms)
        {
            self.watchdog_at_ms = now_ms + every_ms;
            actions.push(Action::PetWatchdog);
        }
        for child in self.children.iter_mut() {
            if child
                .deadline()
                .is_none_or(|deadline_ms| now_ms < deadline_ms)
            {
                continue;
            }
            let (notice, verdict) = match child.standing {
                Standing::Booting { .. } => (Notice::TooSlow(child.id), "was not ready in time"),
                Standing::Draining { .. } if child.is_leaving() => {
                    (Notice::Unfinished(child.id), "did not finish in time")
                }
                Standing::Draining { .. } | Standing::Ready | Standing::Killed { .. } => {
                    (Notice::Lingers(child.id), "did not end in time")
                }
            };
            child.verdict.get_or_insert(verdict);
            actions.push(Action::Log(notice));
            kill(child, actions);
        }
    }

    pub(super) fn on_heartbeats(
        &mut self,
        now_ms: u64,
        words: &[(ChildId, u64)],
        actions: &mut Vec<Action>,
    ) {
        self.heartbeat_at_ms = None;
        for &(id, word_ms) in words {
            let Some(child) = self.children.get_mut(id).filter(|child| child.is_watched()) else {
                continue;
            };
            let pardon = child.pardon.filter(|pardon| pardon.word_ms == word_ms);
            let until_ms = pardon.map_or(word_ms, |pardon| pardon.until_ms);
            let forgiven_ms = std::mem::take(&mut child.forgiven_ms);
            if forgiven_ms > 0 {
                let until_ms = until_ms.saturating_add(forgiven_ms);
                child.pardon = Some(Pardon { word_ms, until_ms });
            } else if until_ms <= now_ms {
                actions.push(Action::Log(Notice::Silent(id)));
                actions.push(Action::Kill(id, Signal::Abrt));
                child.verdict = Some("missed its heartbeat");
                child.standing = Standing::Killed {
                    kill_at_ms: Some(now_ms + ABORT_MS),
                };
            }
        }
    }
}
