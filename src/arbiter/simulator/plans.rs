//! Defines the generations of the simulated world: what each is made from, and how far it has come.

use std::collections::BTreeSet;
use std::time::Duration;

use super::World;
use super::child::Numbers;
use crate::arbiter::children::{ChildId, Place, WORKER};
use crate::arbiter::generation::{MemoryLimit, Settings, Staffing, Upgrade};
use crate::arbiter::role::BackOff;
use crate::scoreboard::NEVER;

/// Whether the workers are held back, once nothing is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    No,
    /// Until a reload.
    Winch,
    /// Until the end.
    Leaving,
}

/// A generation that the state was told of.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) settings: Settings,
    pub(super) abandons: bool,
    /// How many workers it is to have; that can be changed.
    pub(super) workers: usize,
    /// The apps whose artefacts are kept.
    pub(super) kept: BTreeSet<u32>,
    /// Whether its loader has done all it should.
    pub(super) is_loaded: bool,
    /// Since when it serves.
    pub(super) adopted_ms: u64,
}

impl Made {
    /// Any at all; one that follows another is as an operator would change that.
    pub(super) fn new(numbers: &mut Numbers, before: Option<&Settings>) -> Self {
        let settings = match before {
            Some(before) if numbers.percent(60) => before.clone(),
            _ => any_settings(numbers),
        };
        Self {
            workers: settings.roles[WORKER].count,
            abandons: before.is_some() && numbers.percent(20),
            kept: BTreeSet::new(),
            is_loaded: settings.apps.is_none(),
            adopted_ms: 0,
            settings,
        }
    }

    /// How many children of a role there should be.
    pub(super) fn wanted(&self, role: usize) -> usize {
        match role {
            WORKER => self.workers,
            _ => self.settings.roles.get(role).map_or(0, |role| role.count),
        }
    }

    /// How many slots there are.
    pub(super) fn slots(&self) -> usize {
        let roles = 0..self.settings.roles.len();
        roles.map(|role| self.wanted(role)).sum()
    }

    /// How many workers must be ready in any case.
    pub(super) fn quorum(&self) -> usize {
        self.workers
            .saturating_sub(self.settings.max_unavailable)
            .max(1)
    }
}

fn any_settings(numbers: &mut Numbers) -> Settings {
    let back_off = BackOff {
        stable: Duration::from_secs(numbers.within(1, 20)),
        ..BackOff::default()
    };
    let staffing = |count: u64| Staffing {
        count: count as usize,
        back_off,
    };
    let mut roles = vec![staffing(numbers.within(1, 6))];
    while roles.len() < 3 && numbers.percent(25) {
        roles.push(staffing(numbers.within(0, 2)));
    }
    Settings {
        roles,
        apps: numbers.percent(85).then(|| numbers.within(0, 3) as u32),
        boot_timeout_ms: numbers.within(1000, 10_000),
        load_timeout_ms: numbers.percent(80).then_some(20_000),
        heartbeat_timeout_ms: numbers
            .percent(80)
            .then(|| 2000 * (1 + numbers.within(0, 14))),
        graceful_timeout_ms: numbers.one_of(&[0, 1, 3000, 30_000]),
        max_unavailable: numbers.one_of(&[0, 0, 0, 1, 2, 10]),
        max_lifetime_ms: numbers
            .percent(20)
            .then(|| numbers.one_of(&[1, 20_000, 20_000, 20_000, 60_000, 60_000, 60_000, 60_000])),
        memory: numbers.percent(30).then(|| MemoryLimit {
            bytes: 100,
            samples: numbers.within(1, 3) as u32,
            interval_ms: numbers.within(500, 8000),
        }),
        upgrade: numbers.one_of(&[Upgrade::Auto, Upgrade::Manual]),
        upgrade_timeout_ms: numbers.within(3000, 20_000),
        loader_back_off: BackOff::default(),
        fixed_workers: false,
    }
}

impl World {
    pub(super) fn plan(&self, generation: u32) -> &Made {
        self.plans.get(&generation).expect("it was told of it")
    }

    pub(super) fn plan_mut(&mut self, generation: u32) -> &mut Made {
        self.plans.get_mut(&generation).expect("it was told of it")
    }

    /// What serves, or before that, what is to.
    pub(super) fn current(&self) -> &Made {
        self.plan(self.serving.unwrap_or(1))
    }

    /// How many workers must serve, whatever is ordered.
    pub(super) fn needed(&self, role: usize, may_miss: bool) -> usize {
        let made = self.current();
        let missing = if may_miss && role == WORKER {
            made.settings.max_unavailable
        } else {
            0
        };
        made.wanted(role).saturating_sub(missing)
    }

    /// How many children of a role serve, of generations that have taken over.
    pub(super) fn count_serving(&self, role: usize) -> usize {
        let newest = self.serving.unwrap_or(0);
        self.count(role, |id| id.generation <= newest)
    }

    pub(super) fn count(&self, role: usize, counts: impl Fn(&ChildId) -> bool) -> usize {
        let children = self.children.iter();
        children
            .filter(|(id, child)| id.place.role() == Some(role) && child.serves() && counts(id))
            .count()
    }

    /// Whether the successor lives, and if so whether it serves.
    pub(super) fn successor(&self) -> Option<bool> {
        let mut unborn = self.unborn.iter();
        if unborn.any(|id| id.place == Place::Successor) {
            return Some(false);
        }
        let mut children = self.children.iter();
        let (_, child) = children.find(|(id, _)| id.place == Place::Successor)?;
        Some(child.serves())
    }

    /// Whether there should be no workers now.
    pub(super) fn is_held(&self) -> bool {
        self.held != Held::No && self.successor() != Some(false)
    }

    pub(super) fn heartbeat_timeout_ms(&self, id: ChildId) -> u64 {
        let made = self.plans.get(&id.generation);
        made.and_then(|made| made.settings.heartbeat_timeout_ms)
            .unwrap_or(NEVER)
    }
}
