//! Defines the registry of children: who holds which place, in which state.
//!
//! Invariant: a child that is gone, or not yet there, cannot be found by its name, and no two
//! children write the same row of the scoreboard.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::exit::ExitCode;

/// Most slots of all roles together.
pub const SLOTS_MAX: usize = 1024;
/// Most children in slots: a generation that leaves may still be there when the next one serves,
/// and some that finish slowly from before.
pub const ROWS_MAX: usize = 3 * SLOTS_MAX;

/// The role that serves; how many of it there are can be changed while the server runs.
pub const WORKER: usize = 0;

/// Where a child belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The one-off child that compiles components.
    Loader,
    /// The arbiter of the program that is to follow this one.
    Successor,
    /// A slot of a role. It outlives the children in it.
    Slot {
        /// Which role, in the order of the plan; [`WORKER`] is the first.
        role: usize,
        /// Which of its slots, from 0.
        slot: usize,
    },
}

impl Place {
    /// A worker's slot.
    pub const fn worker(slot: usize) -> Self {
        Self::Slot { role: WORKER, slot }
    }

    /// The role of whoever is in a slot.
    pub fn role(self) -> Option<usize> {
        match self {
            Self::Loader | Self::Successor => None,
            Self::Slot { role, .. } => Some(role),
        }
    }
}

/// The name of one child, never used again for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildId {
    /// Where it belongs.
    pub place: Place,
    /// Of which generation it is; 1 until the first reload.
    pub generation: u32,
    /// Which child of this arbiter it is, in the order of their forks.
    pub serial: u64,
}

/// In which state a child is. With the empty place, these are the states of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Forked, and not ready yet; killed at the deadline.
    Booting {
        /// Milliseconds; `None` for a loader without a limit.
        deadline_ms: Option<u64>,
    },
    /// Serving, or about to, when its generation does.
    Ready,
    /// Told to end, or about to; killed at the deadline.
    Draining {
        /// Milliseconds.
        deadline_ms: u64,
    },
    /// Given up: whatever it says is ignored, and it gets no message.
    Killed {
        /// When it gets SIGKILL, in milliseconds; `None` once it has.
        kill_at_ms: Option<u64>,
    },
}

/// Heartbeat deadline of a worker that could not keep it because nothing ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pardon {
    /// The word that is forgiven.
    pub word_ms: u64,
    /// The deadline in its place.
    pub until_ms: u64,
}

/// Why a worker that does nothing wrong is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wear {
    /// It has answered as many requests as it may.
    Requests,
    /// It is as old as it may become.
    Age,
    /// It has used so many bytes of memory, several times in a row.
    Memory(u64),
}

/// What the arbiter knows of one child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub id: ChildId,
    /// Which row of the scoreboard it writes; only what is in a slot has one.
    pub row: Option<usize>,
    /// Its state.
    pub standing: Standing,
    /// When it was forked.
    pub spawned_ms: u64,
    /// Whether it takes connections as soon as it is ready, or was told to take them.
    pub serves: bool,
    /// When it became ready; for the loader, when it had handed over everything.
    pub ready_ms: Option<u64>,
    /// If its end has been ordered, and so is no failure: by when, if it was not told otherwise.
    pub leave_by_ms: Option<u64>,
    /// Why it cannot work, by its own word: the code that the server should end with, and the reason.
    pub failure: Option<(ExitCode, String)>,
    /// Why the arbiter has given it up, if it has and there is a reason to tell.
    pub verdict: Option<&'static str>,
    /// Why it is to be replaced, if it is.
    pub worn: Option<Wear>,
    /// Whether its replacement has begun: it serves until that is ready.
    pub replaced: bool,
    /// How many times in a row it had more memory than it may have.
    pub heavy: u32,
    /// Time in which nothing could run, to be added to the next heartbeat word.
    pub forgiven_ms: u64,
    /// See [`Pardon`].
    pub pardon: Option<Pardon>,
}

impl Record {
    /// When the arbiter loses patience with it.
    pub fn deadline(&self) -> Option<u64> {
        match self.standing {
            Standing::Booting { deadline_ms } => deadline_ms,
            Standing::Ready => None,
            Standing::Draining { deadline_ms } => Some(deadline_ms),
            Standing::Killed { kill_at_ms } => kill_at_ms,
        }
    }

    /// When it becomes too old, if it ages.
    pub fn old_at_ms(&self, lifetime_ms: Option<u64>) -> Option<u64> {
        match self.id.place {
            Place::Slot { role: WORKER, .. } => Some(self.ready_ms?.saturating_add(lifetime_ms?)),
            Place::Loader | Place::Successor | Place::Slot { .. } => None,
        }
    }

    /// Whether its end has been ordered.
    pub fn is_leaving(&self) -> bool {
        self.leave_by_ms.is_some()
    }

    /// Moves the deadlines, if there are any, by time in which nothing could run.
    pub fn postpone(&mut self, by_ms: u64) {
        if self.is_watched() {
            self.forgiven_ms = self.forgiven_ms.saturating_add(by_ms);
        }
        let later = |at_ms: u64| at_ms.saturating_add(by_ms);
        self.leave_by_ms = self.leave_by_ms.map(later);
        match &mut self.standing {
            Standing::Booting {
                deadline_ms: Some(deadline_ms),
            }
            | Standing::Draining { deadline_ms }
            | Standing::Killed {
                kill_at_ms: Some(deadline_ms),
            } => *deadline_ms = later(*deadline_ms),
            Standing::Booting { deadline_ms: None }
            | Standing::Ready
            | Standing::Killed { kill_at_ms: None } => {}
        }
    }

    /// Whether a heartbeat is expected of it.
    pub fn is_watched(&self) -> bool {
        self.ready_ms.is_some()
            && match (self.id.place, self.standing) {
                (Place::Loader | Place::Successor, _)
                | (Place::Slot { .. }, Standing::Killed { .. }) => false,
                (
                    Place::Slot { .. },
                    Standing::Booting { .. } | Standing::Ready | Standing::Draining { .. },
                ) => true,
            }
    }
}

/// Every child that lives.
#[derive(Debug, Clone)]
pub struct Children {
    living: BTreeMap<ChildId, Record>,
    free_rows: BTreeSet<usize>,
    serials: u64,
}

impl Default for Children {
    /// Nobody.
    fn default() -> Self {
        Self {
            living: BTreeMap::new(),
            free_rows: (0..ROWS_MAX).collect(),
            serials: 0,
        }
    }
}

impl Children {
    /// Lets a new child in, with the lowest free row if it belongs in a slot. `None` if all rows
    /// are taken.
    pub fn enter(&mut self, place: Place, generation: u32, now_ms: u64) -> Option<&mut Record> {
        let row = match place {
            Place::Loader | Place::Successor => None,
            Place::Slot { .. } => Some(self.free_rows.pop_first()?),
        };
        self.serials += 1;
        let id = ChildId {
            place,
            generation,
            serial: self.serials,
        };
        let record = Record {
            id,
            row,
            standing: Standing::Booting { deadline_ms: None },
            spawned_ms: now_ms,
            serves: true,
            ready_ms: None,
            leave_by_ms: None,
            failure: None,
            verdict: None,
            worn: None,
            replaced: false,
            heavy: 0,
            forgiven_ms: 0,
            pardon: None,
        };
        Some(self.living.entry(id).or_insert(record))
    }

    /// The lowest row that nobody writes.
    pub fn free_row(&self) -> Option<usize> {
        self.free_rows.first().copied()
    }

    /// The child with this name, if it lives.
    pub fn get(&self, id: ChildId) -> Option<&Record> {
        self.living.get(&id)
    }

    /// The child with this name, to change.
    pub fn get_mut(&mut self, id: ChildId) -> Option<&mut Record> {
        self.living.get_mut(&id)
    }

    /// Takes out a child that is gone.
    pub fn leave(&mut self, id: ChildId) -> Option<Record> {
        let child = self.living.remove(&id)?;
        self.free_rows.extend(child.row);
        Some(child)
    }

    /// All children: the loader, the successor, then by role and slot, the older first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.living.values()
    }

    /// All children, to change.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Record> {
        self.living.values_mut()
    }

    /// How many children of `role` in these generations serve and have not been told to end.
    pub fn serving(&self, role: usize, generations: RangeInclusive<u32>) -> usize {
        let counts = |child: &&Record| {
            child.id.place.role() == Some(role)
                && child.standing == Standing::Ready
                && generations.contains(&child.id.generation)
        };
        self.iter().filter(counts).count()
    }

    /// The arbiter of the next program, if there is one.
    pub fn successor(&self) -> Option<&Record> {
        self.iter().find(|child| child.id.place == Place::Successor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_found_by_its_name_until_it_leaves() {
        let mut children = Children::default();
        let first = children.enter(Place::worker(1), 1, 5).unwrap().id;
        let loader = children.enter(Place::Loader, 1, 5).unwrap().id;
        assert_eq!(children.get(first).map(|child| child.spawned_ms), Some(5));
        assert_eq!(
            children.iter().map(|child| child.id).collect::<Vec<_>>(),
            [loader, first]
        );
        assert_eq!(children.leave(first).map(|child| child.id), Some(first));
        assert_eq!(children.leave(first), None);
        let second = children.enter(Place::worker(1), 1, 6).unwrap().id;
        assert_ne!(first, second);
        assert_eq!(children.get_mut(first), None);
        assert!(children.get_mut(second).is_some());
    }

    #[test]
    fn children_of_one_slot_have_rows_of_their_own() {
        let mut children = Children::default();
        let mut enter = |place| {
            let child = children.enter(place, 1, 0).unwrap();
            (child.id, child.row)
        };
        let (old, row) = enter(Place::worker(0));
        assert_eq!(row, Some(0));
        assert_eq!(enter(Place::worker(0)).1, Some(1));
        assert_eq!(enter(Place::Loader).1, None);
        assert_eq!(enter(Place::Slot { role: 1, slot: 0 }).1, Some(2));
        children.leave(old);
        assert_eq!(children.free_row(), Some(0), "the lowest free row");
    }

    #[test]
    fn rows_are_bounded() {
        let mut children = Children::default();
        for _ in 0..ROWS_MAX {
            assert!(children.enter(Place::worker(0), 1, 0).is_some());
        }
        assert!(children.enter(Place::worker(0), 1, 0).is_none());
        assert!(children.enter(Place::Loader, 1, 0).is_some());
    }
}
