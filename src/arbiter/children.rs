//! Defines the registry of children: who holds which place, in which state.
//!
//! Invariant: a place holds at most one child, and a child that is gone, or not yet there, cannot
//! be found by its name.

use super::exit::ExitCode;

/// Where a child belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The one-off child that compiles components.
    Loader,
    /// A worker's slot, from 0. It outlives the worker.
    Slot(usize),
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
    /// Serving.
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

/// What the arbiter knows of one child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub id: ChildId,
    /// Its state.
    pub standing: Standing,
    /// When it was forked.
    pub spawned_ms: u64,
    /// When it became ready; for the loader, when it had handed over everything.
    pub ready_ms: Option<u64>,
    /// If its end has been ordered, and so is no failure: by when, if it was not told otherwise.
    pub leave_by_ms: Option<u64>,
    /// Why it cannot work, by its own word.
    pub failure: Option<ExitCode>,
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

    /// Whether its end has been ordered.
    pub fn is_leaving(&self) -> bool {
        self.leave_by_ms.is_some()
    }

    /// Moves the deadlines, if there are any, by time in which nothing could run.
    pub fn postpone(&mut self, by_ms: u64) {
        if self.is_watched() {
            self.forgiven_ms += by_ms;
        }
        self.leave_by_ms = self.leave_by_ms.map(|leave_by_ms| leave_by_ms + by_ms);
        match &mut self.standing {
            Standing::Booting {
                deadline_ms: Some(deadline_ms),
            }
            | Standing::Draining { deadline_ms }
            | Standing::Killed {
                kill_at_ms: Some(deadline_ms),
            } => *deadline_ms += by_ms,
            Standing::Booting { deadline_ms: None }
            | Standing::Ready
            | Standing::Killed { kill_at_ms: None } => {}
        }
    }

    /// Whether a heartbeat is expected of it.
    pub fn is_watched(&self) -> bool {
        self.ready_ms.is_some()
            && match (self.id.place, self.standing) {
                (Place::Loader, _) | (Place::Slot(_), Standing::Killed { .. }) => false,
                (
                    Place::Slot(_),
                    Standing::Booting { .. } | Standing::Ready | Standing::Draining { .. },
                ) => true,
            }
    }
}

/// A place for one child.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seat {
    /// Who is in it.
    pub child: Option<Record>,
    /// Before this time it stays empty.
    pub spawn_at_ms: u64,
    /// How many children in a row have failed in it.
    pub failures: u32,
}

/// Every place, and whoever is in it.
#[derive(Debug, Clone)]
pub struct Children {
    loader: Seat,
    slots: Vec<Seat>,
    serials: u64,
}

impl Children {
    /// A loader's place and `slots` slots, all empty.
    pub fn new(slots: usize) -> Self {
        Self {
            loader: Seat::default(),
            slots: vec![Seat::default(); slots],
            serials: 0,
        }
    }

    /// Makes sure that there are `slots` slots; they are never taken away.
    pub fn grow(&mut self, slots: usize) {
        if self.slots.len() < slots {
            self.slots.resize(slots, Seat::default());
        }
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The place.
    pub fn seat(&self, place: Place) -> &Seat {
        match place {
            Place::Loader => &self.loader,
            Place::Slot(slot) => &self.slots[slot],
        }
    }

    /// The place, to change.
    pub fn seat_mut(&mut self, place: Place) -> &mut Seat {
        match place {
            Place::Loader => &mut self.loader,
            Place::Slot(slot) => &mut self.slots[slot],
        }
    }

    /// Puts a new child into an empty place.
    pub fn enter(&mut self, place: Place, generation: u32, now_ms: u64) -> &mut Record {
        self.serials += 1;
        let id = ChildId {
            place,
            generation,
            serial: self.serials,
        };
        let seat = self.seat_mut(place);
        assert!(seat.child.is_none(), "two children in {place:?}");
        seat.child.insert(Record {
            id,
            standing: Standing::Booting { deadline_ms: None },
            spawned_ms: now_ms,
            ready_ms: None,
            leave_by_ms: None,
            failure: None,
            forgiven_ms: 0,
            pardon: None,
        })
    }

    /// The child with this name, if it lives.
    pub fn get_mut(&mut self, id: ChildId) -> Option<&mut Record> {
        let seat = match id.place {
            Place::Loader => Some(&mut self.loader),
            Place::Slot(slot) => self.slots.get_mut(slot),
        };
        seat?.child.as_mut().filter(|child| child.id == id)
    }

    /// Takes a child that is gone out of its place.
    pub fn leave(&mut self, id: ChildId) -> Option<Record> {
        self.get_mut(id)?;
        self.seat_mut(id.place).child.take()
    }

    /// All children, the loader first, then by slot.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.loader
            .child
            .iter()
            .chain(self.slots.iter().filter_map(|seat| seat.child.as_ref()))
    }

    /// All children, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Record> {
        let slots = self.slots.iter_mut().filter_map(|seat| seat.child.as_mut());
        self.loader.child.iter_mut().chain(slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_found_by_its_name_until_it_leaves() {
        let mut children = Children::new(2);
        let first = children.enter(Place::Slot(1), 1, 5).id;
        let loader = children.enter(Place::Loader, 1, 5).id;
        assert_eq!(
            children.get_mut(first).map(|child| child.spawned_ms),
            Some(5)
        );
        assert_eq!(
            children.iter().map(|child| child.id).collect::<Vec<_>>(),
            [loader, first]
        );
        assert_eq!(children.leave(first).map(|child| child.id), Some(first));
        assert_eq!(children.leave(first), None);
        let second = children.enter(Place::Slot(1), 1, 6).id;
        assert_ne!(first, second);
        assert_eq!(children.get_mut(first), None);
        assert!(children.get_mut(second).is_some());
        let nowhere = ChildId {
            place: Place::Slot(2),
            ..second
        };
        assert_eq!(children.get_mut(nowhere), None);
    }
}
