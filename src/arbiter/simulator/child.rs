//! Defines the children of the simulated world: what they do by themselves, and how they take
//! what the arbiter does to them.

use super::World;
use crate::arbiter::children::{ChildId, Place, WORKER};
use crate::arbiter::event::Event;
use crate::protocol::message::{FromChild, ToChild};
use crate::scoreboard::NEVER;
use crate::sys::process::ExitReason;
use crate::sys::signals::Signal;

/// A killed process is gone after at most so long.
pub(super) const DEATH_MS: u64 = 20;
/// How late a child may beat before its heartbeat is missed by its own fault.
const BEAT_MS: u64 = 400;

/// SplitMix64: a seeded stream of numbers.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `low` to `high`, both included.
    pub(super) fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.within(1, 100) <= chance
    }

    pub(super) fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.within(0, choices.len() as u64 - 1) as usize].clone()
    }
}

/// What a child does at some time of its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deed {
    Say(FromChild),
    Garble,
    HangUp,
    /// It stops to beat, and heeds nothing but SIGKILL and, perhaps, SIGABRT.
    Freeze,
    Exit(ExitReason),
}

/// A child of the simulated world.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) row: Option<usize>,
    pub(super) spawned_ms: u64,
    pub(super) ready_ms: u64,
    /// Whether it takes connections when it is ready.
    pub(super) accepts: bool,
    /// How long it may take to be ready.
    pub(super) boot_limit_ms: u64,
    /// What it was told, and when, and how long it may take to do it.
    pub(super) told: Option<(ToChild, u64, u64)>,
    /// By time; not sorted.
    pub(super) agenda: Vec<(u64, Deed)>,
    pub(super) heeds_order: bool,
    pub(super) heeds_quit: bool,
    pub(super) heeds_abort: bool,
    pub(super) frozen_ms: Option<u64>,
    /// Time that the arbiter did not see, and by which it may be late to notice.
    pub(super) excused_ms: u64,
    pub(super) asleep: bool,
    /// Whether it may say what it may not.
    pub(super) lies: bool,
    /// From when on it has too much memory.
    pub(super) leaks_ms: u64,
    /// In how many samples in a row it had too much memory, and whether those were enough.
    pub(super) heavy: u32,
    pub(super) was_heavy: bool,
    /// Its channel still has both ends.
    pub(super) connected: bool,
    /// What it has said that the arbiter must remember.
    pub(super) said_ready: bool,
    pub(super) said_loaded: bool,
    pub(super) said_retire: bool,
    pub(super) failed_with: Option<u8>,
    /// Whether its replacement has begun.
    pub(super) worn: bool,
    pub(super) signalled: bool,
    pub(super) killed: bool,
}

impl Model {
    /// Whether it is ready and goes on, as far as anybody can know.
    pub(super) fn serves(&self) -> bool {
        let gone = self.signalled || !self.connected || self.failed_with.is_some();
        self.said_ready && self.told.is_none() && !gone
    }

    /// Whether a loader that ends so has done what it should.
    pub(super) fn has_loaded(&self, reason: ExitReason) -> bool {
        self.said_loaded && reason == ExitReason::Exited(0) && !self.signalled
    }

    /// Its time stands still.
    pub(super) fn sleep(&mut self, time_ms: u64) {
        self.spawned_ms += time_ms;
        if let Some((_, at_ms, _)) = &mut self.told {
            *at_ms += time_ms;
        }
        let agenda = self.agenda.iter_mut();
        agenda.for_each(|(at_ms, _)| *at_ms += time_ms);
    }

    pub(super) fn memory_at(&self, now_ms: u64) -> u64 {
        let is_peak = !(now_ms / 1000).is_multiple_of(7);
        if now_ms >= self.leaks_ms && is_peak {
            150
        } else {
            50
        }
    }
}

impl World {
    fn new_model(&mut self, boot_limit_ms: u64) -> Model {
        let bad = self.trouble;
        Model {
            row: None,
            spawned_ms: self.now_ms,
            ready_ms: NEVER,
            accepts: true,
            boot_limit_ms,
            told: None,
            agenda: Vec::new(),
            heeds_order: !self.numbers.percent(bad),
            heeds_quit: !self.numbers.percent(bad),
            heeds_abort: self.numbers.percent(50),
            frozen_ms: None,
            excused_ms: 0,
            asleep: self.numbers.percent(30),
            lies: false,
            leaks_ms: NEVER,
            heavy: 0,
            was_heavy: false,
            connected: true,
            said_ready: false,
            said_loaded: false,
            said_retire: false,
            failed_with: None,
            worn: false,
            signalled: false,
            killed: false,
        }
    }

    fn any_end(&mut self) -> ExitReason {
        match self.numbers.within(1, 3) {
            1 => ExitReason::Signaled(11),
            _ => ExitReason::Exited(self.numbers.one_of(&[0, 1, 3, 4, 5, 255])),
        }
    }

    pub(super) fn new_loader(&mut self, generation: u32) -> Model {
        let settings = &self.plan(generation).settings;
        let (apps, limit_ms) = (settings.apps, settings.load_timeout_ms);
        let mut model = self.new_model(limit_ms.unwrap_or(NEVER));
        let mut at_ms = self.now_ms;
        for app in 0..apps.unwrap_or(0) {
            at_ms += self.numbers.within(0, 3000);
            model
                .agenda
                .push((at_ms, Deed::Say(FromChild::Artefact { app })));
        }
        model.agenda.push((at_ms + 1, Deed::Say(FromChild::Loaded)));
        model
            .agenda
            .push((at_ms + 2, Deed::Exit(ExitReason::Exited(0))));
        // A world that ends in the loader is a short one: there must not be too many.
        if self.numbers.percent(self.trouble / 3) {
            if self.numbers.percent(20) {
                // An artefact is missing, or the word that there are no more.
                model.agenda.remove(0);
                model.lies = true;
            } else {
                self.spoil(&mut model, at_ms + 2);
            }
        }
        model
    }

    pub(super) fn new_worker(&mut self, id: ChildId) -> Model {
        let limit_ms = self.plan(id.generation).settings.boot_timeout_ms;
        let mut model = self.new_model(limit_ms);
        if let Some(reason) = self.curse {
            let boot_ms = self.now_ms + 1;
            let life = [Deed::Say(FromChild::Ready), Deed::Exit(reason)];
            model.agenda.extend((boot_ms..).zip(life));
            return model;
        }
        let ready_ms = self.now_ms + self.numbers.within(1, 900);
        model.agenda.push((ready_ms, Deed::Say(FromChild::Ready)));
        if !self.is_calm && id.place.role() == Some(WORKER) {
            if self.numbers.percent(20) {
                let worn_ms = ready_ms + self.numbers.one_of(&[0, 10, 1000, 20_000]);
                model.agenda.push((worn_ms, Deed::Say(FromChild::Retire)));
            }
            if self.numbers.percent(20) {
                model.leaks_ms = ready_ms + self.numbers.within(0, 30_000);
            }
        }
        if self.numbers.percent(self.trouble) {
            let until_ms = ready_ms + self.numbers.one_of(&[0, 100, 5000, 60_000]);
            self.spoil(&mut model, until_ms);
        }
        model
    }

    pub(super) fn new_successor(&mut self) -> Model {
        let limit_ms = self.current().settings.upgrade_timeout_ms;
        let mut model = self.new_model(limit_ms);
        let ready_ms = self.now_ms + self.numbers.within(1, 2900);
        model.agenda.push((ready_ms, Deed::Say(FromChild::Ready)));
        if self.numbers.percent(30) {
            self.spoil(&mut model, ready_ms);
        } else if self.numbers.percent(50) {
            let until_ms = ready_ms + self.numbers.one_of(&[0, 100, 5000, 60_000]);
            self.spoil(&mut model, until_ms);
        }
        model
    }

    /// Something goes wrong, at some time until `until_ms`.
    fn spoil(&mut self, model: &mut Model, until_ms: u64) {
        let at_ms = self.numbers.within(self.now_ms, until_ms);
        let agenda = &mut model.agenda;
        match self.numbers.within(1, 8) {
            1 => {
                model.lies = true;
                agenda.push((at_ms, Deed::Garble));
            }
            2 => agenda.push((at_ms, Deed::HangUp)),
            3 => agenda.push((at_ms, Deed::Freeze)),
            4 => {
                model.lies = true;
                let app = self.numbers.within(0, 4) as u32;
                let failed = FromChild::Failed {
                    code: 0,
                    reason: String::new(),
                };
                let nonsense = [
                    FromChild::Ready,
                    FromChild::Loaded,
                    FromChild::Artefact { app },
                    FromChild::Retire,
                    FromChild::Accept,
                    FromChild::Alive { now_ms: at_ms },
                    failed,
                ];
                agenda.push((at_ms, Deed::Say(self.numbers.one_of(&nonsense))));
            }
            5 => {
                let code = self.numbers.one_of(&[0, 1, 3, 4, 5, 6, 9]);
                let reason = "no such file".to_owned();
                // If it was ready before, that is a lie.
                model.lies = true;
                agenda.retain(|(other_ms, _)| *other_ms < at_ms);
                agenda.push((at_ms, Deed::Say(FromChild::Failed { code, reason })));
                let ends_ms = at_ms + self.numbers.one_of(&[1, 1, 1, 5000]);
                agenda.push((ends_ms, Deed::Exit(ExitReason::Exited(i32::from(code)))));
            }
            6 => agenda.retain(|(other_ms, _)| *other_ms < at_ms),
            _ => {
                agenda.retain(|(other_ms, _)| *other_ms < at_ms);
                let reason = self.any_end();
                model.agenda.push((at_ms, Deed::Exit(reason)));
            }
        }
    }

    pub(super) fn act(&mut self, id: ChildId, deed: Deed) {
        let now_ms = self.now_ms;
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        match deed {
            Deed::Say(_) | Deed::Garble | Deed::HangUp if !child.connected => {}
            Deed::Say(message) => {
                match &message {
                    FromChild::Ready => {
                        child.said_ready = true;
                        child.ready_ms = child.ready_ms.min(now_ms);
                    }
                    FromChild::Loaded => child.said_loaded = true,
                    // Too early, it is a lie.
                    FromChild::Retire => child.said_retire = child.said_ready,
                    // Too late, it is a lie.
                    FromChild::Failed { code, .. } if !child.said_ready && !child.said_loaded => {
                        child.failed_with = child.failed_with.or(Some(*code));
                    }
                    FromChild::Failed { .. }
                    | FromChild::Artefact { .. }
                    | FromChild::Accept
                    | FromChild::Alive { .. } => {}
                }
                if message == FromChild::Ready
                    && id.place == Place::Successor
                    && child.serves()
                    && self.held == super::plans::Held::Leaving
                {
                    self.tally.add("an upgrade that is automatic");
                }
                self.step(Event::FromChild { child: id, message });
            }
            Deed::Garble => self.step(Event::Illegal { child: id }),
            Deed::HangUp => {
                child.connected = false;
                self.step(Event::Hangup { child: id });
            }
            Deed::Freeze => {
                child.frozen_ms = Some(now_ms);
                child.agenda.clear();
            }
            Deed::Exit(reason) => {
                // The kernel closes the channel first, and the arbiter may see it first.
                if child.connected && self.numbers.percent(50) {
                    self.act(id, Deed::HangUp);
                }
                self.bury(id, reason);
            }
        }
    }

    pub(super) fn next_deed(&mut self) -> Option<(ChildId, Deed)> {
        let due = self.children.iter().flat_map(|(id, child)| {
            let agenda = child.agenda.iter().enumerate();
            agenda.map(move |(index, (at_ms, _))| (*at_ms, *id, index))
        });
        let (at_ms, id, index) = due.min()?;
        if at_ms > self.now_ms {
            return None;
        }
        Some((id, self.children.get_mut(&id)?.agenda.remove(index).1))
    }

    /// Until when the child has promised to live.
    pub(super) fn word(&self, id: ChildId) -> u64 {
        let timeout_ms = self.heartbeat_timeout_ms(id);
        match self.children.get(&id) {
            Some(Model {
                frozen_ms: Some(at_ms),
                ..
            }) => at_ms.saturating_add(timeout_ms),
            Some(Model { asleep: true, .. }) | None => NEVER,
            Some(_) => self
                .now_ms
                .saturating_sub(BEAT_MS)
                .saturating_add(timeout_ms),
        }
    }

    /// The child is told to finish, with the arbiter's patience.
    pub(super) fn finish(&mut self, id: ChildId, order: ToChild, patience_ms: u64) {
        let takes_ms = self.numbers.one_of(&[0, 1, 50, 2000, 20_000]);
        let slow_ms = if self.numbers.percent(self.trouble) {
            40_000
        } else {
            0
        };
        let end = if self.numbers.percent(self.trouble) {
            self.any_end()
        } else {
            ExitReason::Exited(0)
        };
        let now_ms = self.now_ms;
        let child = self.living(id);
        let fresh = child.told.is_none() && !child.signalled;
        child.told = Some((order, now_ms, patience_ms));
        if child.heeds_order && child.frozen_ms.is_none() {
            let booted_ms = child.agenda.iter().map(|(at_ms, _)| *at_ms).max();
            let end_ms = now_ms.max(booted_ms.unwrap_or(now_ms)) + takes_ms + slow_ms;
            child.agenda.push((end_ms, Deed::Exit(end)));
        }
        self.check(fresh, "a child that is ending is told to finish");
    }

    pub(super) fn kill(&mut self, id: ChildId, signal: Signal) {
        let after_ms = self.numbers.within(0, DEATH_MS);
        let end_ms = self.now_ms + after_ms;
        let (now_ms, timeout_ms) = (self.now_ms, self.heartbeat_timeout_ms(id));
        let child = self.living(id);
        let was_killed = child.killed;
        child.signalled = true;
        let heeds = match signal {
            Signal::Kill => {
                child.killed = true;
                // It may have ended just before.
                let ends = |(at_ms, deed): &(u64, Deed)| {
                    matches!(deed, Deed::Exit(_)) && *at_ms <= now_ms + 1
                };
                child.agenda.retain(ends);
                child.agenda.is_empty()
            }
            Signal::Quit => child.heeds_quit && child.frozen_ms.is_none(),
            Signal::Abrt => child.heeds_abort,
            other => panic!("{other:?} is never sent"),
        };
        if heeds {
            let reason = match signal {
                Signal::Kill => ExitReason::Signaled(9),
                Signal::Abrt => ExitReason::Signaled(6),
                _ => ExitReason::Exited(0),
            };
            child.agenda.push((end_ms, Deed::Exit(reason)));
        }
        let frozen_ms = child.frozen_ms;
        let silent = frozen_ms.is_some_and(|at_ms| now_ms >= at_ms.saturating_add(timeout_ms));
        self.check(!was_killed, "a killed child is sent a signal");
        self.check(
            signal != Signal::Abrt || silent,
            "a worker that lives is aborted",
        );
    }
}
