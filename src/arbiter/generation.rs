//! Defines a generation: what one reading of the configuration asks for, and how far it has come.
//!
//! Invariant: a generation is complete when its loader has handed over everything and has left;
//! before that none of its slots is filled.

use std::collections::{BTreeMap, BTreeSet};

use super::children::{Place, WORKER};
use super::role::BackOff;

/// What the decisions about a generation depend on besides events. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The children of each role: the workers first, then those of the other roles of the plan.
    pub roles: Vec<Staffing>,
    /// Artefacts that the loader hands over, one for each app; `None` if there is no loader.
    pub apps: Option<u32>,
    /// From fork to Ready.
    pub boot_timeout_ms: u64,
    /// From the loader's fork to its last artefact.
    pub load_timeout_ms: Option<u64>,
    /// Between two heartbeats of a worker that is not asleep; only decides how often to check, for
    /// the worker sets its own deadline.
    pub heartbeat_timeout_ms: Option<u64>,
    /// From the order to finish to SIGKILL.
    pub graceful_timeout_ms: u64,
    /// Workers that may be missing while this generation takes over.
    pub max_unavailable: usize,
    /// Age at which a worker is replaced.
    pub max_lifetime_ms: Option<u64>,
    /// Memory at which a worker is replaced.
    pub memory: Option<MemoryLimit>,
    /// What follows when the program has been started anew.
    pub upgrade: Upgrade,
    /// From the start of the new program until its workers are ready.
    pub upgrade_timeout_ms: u64,
    /// When a loader could not be forked.
    pub loader_back_off: BackOff,
    /// Whether there are just as many workers as `roles` says, since each has something of its own.
    pub fixed_workers: bool,
}

/// How many children of a role there are, and what follows the end of one that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Staffing {
    /// How many.
    pub count: usize,
    /// When one that has failed or could not be forked is followed by another.
    pub back_off: BackOff,
}

/// When a worker has too much memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimit {
    /// More than this is too much.
    pub bytes: u64,
    /// So many times in a row: a peak is not yet a leak.
    pub samples: u32,
    /// Between two samples.
    pub interval_ms: u64,
}

/// What follows when the workers of the new program are ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// The old server finishes and leaves.
    Auto,
    /// Both serve until one is told to leave, as in gunicorn.
    Manual,
}

/// What a slot of a generation has been through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seat {
    /// Before this time no child is put in.
    pub spawn_at_ms: u64,
    /// How many children in a row have failed in it.
    pub failures: u32,
}

/// One generation.
#[derive(Debug, Clone)]
pub struct Generation {
    /// Which; the first is 1.
    pub number: u32,
    /// What it is to be.
    pub settings: Settings,
    /// Whether it does without a listener that the one before had, so that whoever still waits
    /// there must be taken by those who leave.
    pub abandons: bool,
    /// How many children of each role there should be.
    pub wanted: Vec<usize>,
    /// Which apps' artefacts the loader has handed over.
    pub artefacts: BTreeSet<u32>,
    /// Whether there is nothing left to load.
    pub loaded: bool,
    seats: BTreeMap<Place, Seat>,
}

impl Generation {
    /// One of which nothing exists yet.
    pub fn new(number: u32, settings: Settings, abandons: bool) -> Self {
        Self {
            number,
            abandons,
            wanted: settings.roles.iter().map(|role| role.count).collect(),
            artefacts: BTreeSet::new(),
            loaded: settings.apps.is_none(),
            seats: BTreeMap::new(),
            settings,
        }
    }

    /// Every place that is to be filled now: the loader's, and once that is done the slots.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        let loader = (!self.loaded).then_some(Place::Loader);
        let roles = self.wanted.iter().enumerate().filter(|_| self.loaded);
        let slots = roles.flat_map(|(role, count)| (0..*count).map(move |slot| (role, slot)));
        loader
            .into_iter()
            .chain(slots.map(|(role, slot)| Place::Slot { role, slot }))
    }

    /// Whether the loader has handed over an artefact for each app.
    pub fn has_all_artefacts(&self) -> bool {
        self.settings
            .apps
            .is_none_or(|apps| self.artefacts.len() == apps as usize)
    }

    /// How many workers must be ready before this generation takes over from another.
    pub fn quorum(&self) -> usize {
        let missing = self.settings.max_unavailable;
        self.wanted[WORKER].saturating_sub(missing).max(1)
    }

    /// What `place` has been through.
    pub fn seat(&self, place: Place) -> Seat {
        self.seats.get(&place).copied().unwrap_or_default()
    }

    /// What `place` has been through, to change.
    pub fn seat_mut(&mut self, place: Place) -> &mut Seat {
        self.seats.entry(place).or_default()
    }

    /// What follows a failure in `place`.
    pub fn back_off(&self, place: Place) -> BackOff {
        let role = place.role().and_then(|role| self.settings.roles.get(role));
        role.map_or(self.settings.loader_back_off, |role| role.back_off)
    }

    /// The longest that a child in `place` may take until it is ready.
    pub fn boot_timeout_ms(&self, place: Place) -> Option<u64> {
        match place {
            Place::Loader => self.settings.load_timeout_ms,
            Place::Successor => Some(self.settings.upgrade_timeout_ms),
            Place::Slot { .. } => Some(self.settings.boot_timeout_ms),
        }
    }
}
