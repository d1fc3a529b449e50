//! Defines what the control socket shows: numbers of the state, the scoreboard and the kernel, put
//! together.
//!
//! Invariant: nothing here is decided upon, and no text of a child or a client leaves unprintable.

use std::collections::BTreeMap;

use super::action::Notice;
use super::children::{Place, Record, Standing, WORKER};
use super::log::Who;
use super::perform::{Driver, phase_name};
use crate::protocol::control::What;
use crate::protocol::report::{
    AcceptReport, ArbiterReport, ExitReport, ListenerReport, Report, ServingReport, Stats,
    WorkerReport,
};
use crate::scoreboard::{NEVER, Slot};
use crate::sys::clock::monotonic_ms;
use crate::sys::process;

/// How the last child of a slot ended.
#[derive(Debug, Clone)]
struct LastExit {
    pid: u32,
    reason: String,
    at_ms: u64,
}

/// What workers have done.
#[derive(Debug, Clone, Copy, Default)]
struct Numbers {
    requests: u64,
    accepted: u64,
    accepting: AcceptReport,
}

impl Numbers {
    fn of(slot: &Slot) -> Self {
        let counters = &slot.counters;
        Self {
            requests: counters.requests.get(),
            accepted: counters.accepted.get(),
            accepting: AcceptReport {
                wakeups: counters.wakeups.get(),
                spurious: counters.spurious.get(),
                handed_on: counters.handed_on.get(),
                pulled: counters.pulled.get(),
                parked_ms: slot.parked_ms(monotonic_ms()),
                revocations: counters.revocations.get(),
            },
        }
    }

    /// Adds what others have done; they may have written any number.
    fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.requests, other.requests),
            (&mut self.accepted, other.accepted),
            (&mut self.accepting.wakeups, other.accepting.wakeups),
            (&mut self.accepting.spurious, other.accepting.spurious),
            (&mut self.accepting.handed_on, other.accepting.handed_on),
            (&mut self.accepting.pulled, other.accepting.pulled),
            (&mut self.accepting.parked_ms, other.accepting.parked_ms),
            (&mut self.accepting.revocations, other.accepting.revocations),
        ];
        for (sum, number) in pairs {
            *sum = sum.wrapping_add(number);
        }
    }
}

/// What has happened so far.
#[derive(Debug)]
pub(super) struct Counters {
    started_ms: u64,
    reloads: u64,
    reloads_failed: u64,
    upgrades: u64,
    restarts: u64,
    /// Of children that are gone.
    gone: Numbers,
    /// By role and slot.
    last_exits: BTreeMap<(usize, usize), LastExit>,
}

impl Counters {
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            started_ms: now_ms,
            reloads: 0,
            reloads_failed: 0,
            upgrades: 0,
            restarts: 0,
            gone: Numbers::default(),
            last_exits: BTreeMap::new(),
        }
    }

    /// Counts what a notice tells of.
    pub(super) fn count(&mut self, notice: &Notice, who: Option<&Who>) {
        let end = if let Notice::Died(_, reason) = notice {
            self.restarts += 1;
            format!("died: {reason}")
        } else if let Notice::Ended(_, reason) = notice {
            self.restarts += 1;
            format!("was ended: {reason}")
        } else if let Notice::Left(_, reason) = notice {
            format!("left: {reason}")
        } else {
            self.reloads += u64::from(matches!(notice, Notice::Generation(_)));
            self.reloads_failed += u64::from(matches!(notice, Notice::ReloadFailed(..)));
            self.upgrades += u64::from(matches!(notice, Notice::Upgraded(_)));
            return;
        };
        if let Some(who) = who
            && let (Place::Slot { role, slot }, Some(pid)) = (who.id.place, who.pid)
        {
            let exit = LastExit {
                pid: pid.number(),
                reason: end,
                at_ms: monotonic_ms(),
            };
            self.last_exits.insert((role, slot), exit);
        }
    }

    /// Keeps the numbers of a child that is gone.
    pub(super) fn leave(&mut self, slot: &Slot) {
        self.gone.add(&Numbers::of(slot));
    }
}

impl Driver {
    /// What a control client asked to be shown.
    pub(super) fn report(&self, what: What) -> Report {
        let is = |which| what == which || what == What::All;
        let plan = self.plans.values().next().map(|loaded| &loaded.plan);
        Report {
            arbiter: is(What::Stats).then(|| self.arbiter_report()),
            workers: is(What::Workers).then(|| self.worker_reports()),
            apps: is(What::Apps)
                .then(|| plan.map_or(Vec::new(), |plan| plan.description.apps.clone())),
            listeners: is(What::Listeners).then(|| self.listener_reports()),
            config: (what == What::Config)
                .then(|| plan.map_or(String::new(), |plan| plan.description.config.clone())),
            stats: is(What::Stats).then(|| self.stats()),
        }
    }

    fn arbiter_report(&self) -> ArbiterReport {
        let successor = self.state.children().successor();
        let successor = successor.and_then(|child| self.family.pid(child.id));
        ArbiterReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: process::own_pid().number(),
            phase: phase_name(self.state.phase()).to_owned(),
            generation: self.state.generation(),
            uptime_ms: monotonic_ms().saturating_sub(self.counters.started_ms),
            workers_wanted: self.state.workers() as u64,
            successor_pid: successor.map(|pid| pid.number()),
            predecessor_pid: self
                .surroundings
                .predecessor
                .as_ref()
                .map(|_| process::parent_pid().number()),
        }
    }

    fn worker_reports(&self) -> Vec<WorkerReport> {
        let in_slots = |child: &&Record| matches!(child.id.place, Place::Slot { .. });
        let mut reports: Vec<WorkerReport> = self
            .state
            .children()
            .iter()
            .filter(in_slots)
            .map(|child| self.worker_report(child))
            .collect();
        for (place, generation, _) in self.state.vacancies() {
            if let Place::Slot { role, slot } = place {
                let name = self.role_name(role);
                let last_exit = self.last_exit(role, slot);
                reports.push(WorkerReport::waiting(
                    name,
                    slot as u64,
                    generation,
                    last_exit,
                ));
            }
        }
        reports.sort_by(|one, other| {
            (&one.role, one.slot, one.generation).cmp(&(&other.role, other.slot, other.generation))
        });
        reports
    }

    fn worker_report(&self, child: &Record) -> WorkerReport {
        let now_ms = monotonic_ms();
        let (role, slot) = match child.id.place {
            Place::Slot { role, slot } => (role, slot),
            Place::Loader | Place::Successor => (WORKER, 0),
        };
        let numbers = child.row.map(|row| self.scoreboard.slot(row));
        let pid = self.family.pid(child.id);
        let serving = numbers
            .and_then(Slot::serving)
            .map(|serving| ServingReport {
                app: serving.app,
                request: serving.request,
                age_ms: now_ms.saturating_sub(serving.started_ms),
            });
        let alive_until = numbers.map_or(NEVER, Slot::alive_until);
        let done = numbers.map_or_else(Numbers::default, Numbers::of);
        WorkerReport {
            role: self.role_name(role).to_owned(),
            slot: slot as u64,
            pid: pid.map(|pid| pid.number()),
            generation: child.id.generation,
            state: state_name(child).to_owned(),
            age_ms: now_ms.saturating_sub(child.spawned_ms),
            requests: done.requests,
            connections: numbers.map_or(0, Slot::connections),
            accepted: done.accepted,
            in_flight: numbers.map_or(0, Slot::in_flight),
            serving,
            memory_bytes: pid.and_then(|pid| process::resident_bytes(pid).ok()),
            heartbeat_ms: (alive_until != NEVER).then(|| alive_until.saturating_sub(now_ms)),
            last_exit: self.last_exit(role, slot),
            accepting: done.accepting,
        }
    }

    fn role_name(&self, role: usize) -> &'static str {
        let plans = self.plans.values().rev();
        let mut roles = plans.filter_map(|loaded| loaded.plan.slot_role(role));
        roles.next().map_or("child", |role| role.name)
    }

    fn last_exit(&self, role: usize, slot: usize) -> Option<ExitReport> {
        let exit = self.counters.last_exits.get(&(role, slot))?;
        Some(ExitReport {
            pid: exit.pid,
            reason: exit.reason.clone(),
            ago_ms: monotonic_ms().saturating_sub(exit.at_ms),
        })
    }

    fn listener_reports(&self) -> Vec<ListenerReport> {
        let plan = self.plans.values().next();
        let plan = plan.map(|loaded| &loaded.plan);
        let listeners = plan.into_iter().flat_map(|plan| {
            let listeners = plan.listeners();
            listeners.map(move |(key, listener)| (plan.url(listener), key, listener))
        });
        listeners
            .map(|(address, key, listener)| {
                let queue = listener.queue();
                ListenerReport {
                    address,
                    key: key.to_owned(),
                    queue: queue.map(|queue| queue.waiting),
                    queue_max: queue.map(|queue| queue.limit),
                    overflows: queue.and_then(|queue| queue.overflows),
                }
            })
            .collect()
    }

    fn stats(&self) -> Stats {
        let children = self.state.children();
        let rows = children.iter().filter_map(|child| child.row);
        let slots: Vec<&Slot> = rows.map(|row| self.scoreboard.slot(row)).collect();
        let sum = |number: fn(&Slot) -> u64| {
            let numbers = slots.iter().map(|slot| number(slot));
            numbers.fold(0, u64::wrapping_add)
        };
        let mut done = self.counters.gone;
        slots.iter().for_each(|slot| done.add(&Numbers::of(slot)));
        let counters = &self.counters;
        Stats {
            uptime_ms: monotonic_ms().saturating_sub(counters.started_ms),
            generation: self.state.generation(),
            reloads: counters.reloads,
            reloads_failed: counters.reloads_failed,
            upgrades: counters.upgrades,
            restarts: counters.restarts,
            workers_ready: children.serving(WORKER, 0..=u32::MAX) as u64,
            connections: sum(Slot::connections),
            in_flight: sum(Slot::in_flight),
            requests: done.requests,
            accepted: done.accepted,
            accepting: done.accepting,
        }
    }
}

/// The state of a child, as operators call it.
fn state_name(child: &Record) -> &'static str {
    match child.standing {
        Standing::Booting { .. } => "booting",
        Standing::Ready if child.replaced => "worn",
        Standing::Ready => "ready",
        Standing::Draining { .. } => "draining",
        Standing::Killed { .. } => "killed",
    }
}
