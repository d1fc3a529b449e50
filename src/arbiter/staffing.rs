//! Defines how the slots are kept filled: who is missing is started, and whoever is too many, too
//! old or worn is told to finish once it can be done without.
//!
//! Invariant: nobody is told to finish for age, wear, a smaller number or a new generation as long
//! as that would leave fewer ready workers than there should be, by more than the configuration
//! allows.

use std::collections::BTreeSet;

use super::action::{Action, Notice};
use super::children::{ChildId, Place, Record, Standing, WORKER, Wear};
use super::endings::finish;
use super::state::State;
use crate::protocol::message::ToChild;

/// Of so many workers, one at a time is replaced for wear.
const REPLACED_SHARE: usize = 8;
/// Two forks in a slot are at least so far apart, unless the first child has failed, for which
/// there is a policy: workers that retire at once must not keep the machine busy with forking.
const PACE_MS: u64 = 100;

impl State {
    /// Does what is to be done whatever has happened, until the server stops.
    pub(super) fn settle(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        self.promote_candidate(actions);
        self.let_serve(actions);
        self.replace_worn(now_ms, actions);
        self.relieve(now_ms, actions);
        self.fill_places(now_ms, actions);
        self.tell_predecessor(actions);
        self.reload_if_due(now_ms, actions);
    }

    /// Places that wait for a child, with the generation that it would be of and when it is due.
    pub(super) fn vacancies(&self) -> Vec<(Place, u32, u64)> {
        if self.stopping.is_some() {
            return Vec::new();
        }
        let is_held = self.is_held();
        let current = self.current.iter().filter(|_| !is_held);
        let holds_place = |child: &&Record| !child.is_leaving() && !child.replaced;
        let taken: BTreeSet<(Place, u32)> = self
            .children
            .iter()
            .filter(holds_place)
            .map(|child| (child.id.place, child.id.generation))
            .collect();
        // One loader at a time, for it uses all CPUs; they come first in the order of children.
        let first = self.children.iter().next();
        let loads = first.is_some_and(|child| child.id.place == Place::Loader);
        let rows_left = self.children.free_row().is_some();
        let mut vacant = Vec::new();
        for generation in current.chain(&self.candidate) {
            let number = generation.number;
            let free = generation.places().filter(|place| match place {
                Place::Loader | Place::Successor => !loads,
                Place::Slot { .. } => rows_left && !taken.contains(&(*place, number)),
            });
            vacant.extend(free.map(|place| (place, number, generation.seat(place).spawn_at_ms)));
        }
        vacant
    }

    /// Lets the workers that were made beside another generation take connections, once theirs is
    /// the current one: before that it may fail yet, and nobody may have been answered by it.
    fn let_serve(&mut self, actions: &mut Vec<Action>) {
        let current = self.current.as_ref().map(|current| current.number);
        for child in self.children.iter_mut() {
            let is_ready = child.standing == Standing::Ready && !child.serves;
            if is_ready && Some(child.id.generation) == current {
                child.serves = true;
                actions.push(Action::Send(child.id, ToChild::Serve));
            }
        }
    }

    fn fill_places(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        let current = self.current.as_ref().map(|current| current.number);
        for (place, number, due_ms) in self.vacancies() {
            if due_ms > now_ms {
                continue;
            }
            let Some(generation) = self.generation_mut(number) else {
                continue;
            };
            generation.seat_mut(place).spawn_at_ms = now_ms + PACE_MS;
            let timeout_ms = generation.boot_timeout_ms(place);
            let Some(child) = self.children.enter(place, number, now_ms) else {
                return;
            };
            child.standing = Standing::Booting {
                deadline_ms: timeout_ms.map(|timeout_ms| now_ms + timeout_ms),
            };
            let is_beside = current.is_some_and(|current| current != number);
            child.serves = !is_beside || place.role() != Some(WORKER);
            actions.push(Action::Spawn(child.id, child.row));
        }
    }

    /// Tells those that are not to go on to finish, once they can be done without: the worn, those
    /// in slots that are too many, and the older generations.
    fn relieve(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        let leave_by_ms = now_ms + self.graceful_timeout_ms();
        let (is_held, abandoned) = (self.is_held(), self.abandoned());
        let (mut number, mut missing, mut wanted) = (0, 0, Vec::new());
        if let Some(current) = &self.current {
            (number, missing) = (current.number, current.settings.max_unavailable);
            wanted.clone_from(&current.wanted);
        }
        let serving = |role| self.children.serving(role, 1..=number);
        let mut serving: Vec<usize> = (0..wanted.len()).map(serving).collect();
        if is_held {
            wanted.fill(0);
        }
        let candidate = self.candidate.as_ref();
        let has_replacement = self.ready_replacements(number);
        for child in self.children.iter_mut() {
            let is_ready = match child.standing {
                Standing::Booting { .. } => false,
                Standing::Ready => true,
                // It ends in any case, and if it fails, that must not look like an order.
                Standing::Draining { .. } | Standing::Killed { .. } => continue,
            };
            let Place::Slot { role, slot } = child.id.place else {
                continue;
            };
            let generation = child.id.generation;
            if let Some(candidate) = candidate.filter(|it| it.number == generation) {
                // Nobody relies on it yet.
                if slot >= candidate.wanted[role] {
                    finish(child, leave_by_ms, abandoned, actions);
                }
                continue;
            }
            let wanted = wanted.get(role).copied().unwrap_or(0);
            let is_outdated = generation < number;
            let is_replaced = child.replaced && has_replacement.contains(&child.id.place);
            if !is_outdated && !is_replaced && slot < wanted {
                continue;
            }
            let may_miss = if is_outdated && role == WORKER {
                missing
            } else {
                0
            };
            let needed = wanted.saturating_sub(may_miss);
            if let Some(serving) = serving.get_mut(role).filter(|_| is_ready) {
                if *serving <= needed {
                    continue;
                }
                *serving -= 1;
            }
            finish(child, leave_by_ms, abandoned, actions);
        }
    }

    /// The places of worn workers of this generation whose replacement is ready.
    fn ready_replacements(&self, number: u32) -> BTreeSet<Place> {
        let ready = |child: &&Record| {
            child.standing == Standing::Ready && child.id.generation == number && !child.replaced
        };
        // Mostly nobody is worn.
        let any_worn = self.children.iter().any(|child| child.replaced);
        let ready = self.children.iter().filter(ready).filter(|_| any_worn);
        ready.map(|child| child.id.place).collect()
    }

    /// A worker is to be replaced though nothing is wrong with it. Whether it may be.
    pub(super) fn on_worn(&mut self, id: ChildId, wear: Wear) -> bool {
        let Some(child) = self
            .children
            .get_mut(id)
            .filter(|child| child.ready_ms.is_some())
        else {
            return false;
        };
        child.worn = child.worn.or(Some(wear));
        true
    }

    pub(super) fn on_memory(&mut self, samples: &[(ChildId, u64)]) {
        let Some(limit) = self
            .current
            .as_ref()
            .and_then(|current| current.settings.memory)
        else {
            return;
        };
        self.memory_at_ms = None;
        for &(id, bytes) in samples {
            let Some(child) = self.children.get_mut(id) else {
                continue;
            };
            if bytes <= limit.bytes {
                child.heavy = 0;
                continue;
            }
            child.heavy = child.heavy.saturating_add(1);
            if child.heavy >= limit.samples {
                child.worn = child.worn.or(Some(Wear::Memory(bytes)));
            }
        }
    }

    /// Begins to replace worn workers, a few at a time: their successors need memory as well.
    fn replace_worn(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        let mut room = self.replacements_left();
        let Some(current) = &self.current else {
            return;
        };
        let (number, lifetime_ms) = (current.number, current.settings.max_lifetime_ms);
        for child in self.children.iter_mut() {
            let is_current = child.id.generation == number && child.standing == Standing::Ready;
            if !is_current || child.replaced {
                continue;
            }
            let old = child
                .old_at_ms(lifetime_ms)
                .is_some_and(|at_ms| at_ms <= now_ms);
            let wear = child.worn.or(old.then_some(Wear::Age));
            if let Some(wear) = wear.filter(|_| room > 0) {
                room -= 1;
                child.worn = Some(wear);
                child.replaced = true;
                actions.push(Action::Log(Notice::Worn(child.id, wear)));
            }
        }
    }

    /// How many more workers may be replaced for wear now.
    fn replacements_left(&self) -> usize {
        let Some(current) = self.current.as_ref().filter(|_| !self.is_held()) else {
            return 0;
        };
        let most = (current.wanted[WORKER] / REPLACED_SHARE).max(1);
        let under_way = |child: &&Record| child.replaced && !child.is_leaving();
        most.saturating_sub(self.children.iter().filter(under_way).count())
    }

    /// When the next worker becomes too old, if it could be replaced then.
    pub(super) fn next_old_ms(&self) -> Option<u64> {
        let current = self.current.as_ref()?;
        let lifetime_ms = current.settings.max_lifetime_ms;
        let ages = |child: &&Record| {
            child.id.generation == current.number
                && child.standing == Standing::Ready
                && !child.replaced
        };
        let old = self.children.iter().filter(ages);
        old.filter_map(|child| child.old_at_ms(lifetime_ms))
            .min()
            .filter(|_| self.replacements_left() > 0)
    }
}
