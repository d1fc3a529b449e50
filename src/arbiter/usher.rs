//! Defines the arbiter's part in accepting: it gives workers their seats, lets one of them accept
//! where they cannot agree on it themselves, and finds out who does not.
//!
//! Invariant: a connection is not the arbiter's to touch, and what a worker has written in the shared
//! words costs the arbiter no more than a bounded number of steps.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use tracing::warn;

use super::action::Notice;
use super::children::{ChildId, Place, WORKER};
use super::perform::Driver;
use super::plan::Plan;
use crate::accept::{Granted, Group, SEATS_MAX, Seat, Verdict, Watch};
use crate::protocol::message::ToChild;
use crate::sys::clock::monotonic_ms;
use crate::sys::process::{is_for_want_of_files, open_files_max};

/// A bell that rings in vain so often is not listened to before the next look: a worker could make it
/// ring without end.
const IN_VAIN_MAX: u32 = 16;

/// The workers of a plan, as far as they accept.
#[derive(Debug)]
pub(super) struct Usher {
    group: Group,
    seats: BTreeMap<ChildId, usize>,
    watch: Watch,
    /// How often its bell has rung for nothing since the last look.
    in_vain: u32,
    /// Those who were passed over and have not shown that they live.
    doubted: BTreeSet<ChildId>,
}

impl Usher {
    /// For the workers of a plan; `None` if the kernel is to choose among them, or there is nothing
    /// to accept.
    pub(super) fn new(plan: &Plan) -> io::Result<Option<Self>> {
        let listeners = plan.listeners.iter().filter(|open| open.role == WORKER);
        let listeners = listeners.map(|open| open.listener.try_clone());
        let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
        let Some(through) = plan.accept.filter(|_| !listeners.is_empty()) else {
            return Ok(None);
        };
        let group = Group::new(through, listeners, plan.workers);
        Ok(Some(Self {
            group: group.map_err(|error| explain(error, plan.workers))?,
            seats: BTreeMap::new(),
            watch: Watch::default(),
            in_vain: 0,
            doubted: BTreeSet::new(),
        }))
    }

    /// Finds a seat for a worker that is about to be forked.
    fn admit(&mut self, child: ChildId) -> io::Result<()> {
        let mut seats = 1..SEATS_MAX;
        let seat = seats.find(|seat| !self.seats.values().any(|taken| taken == seat));
        let seat = seat.ok_or_else(|| io::Error::other("there are too many workers"))?;
        self.group.admit(seat)?;
        self.seats.insert(child, seat);
        Ok(())
    }

    /// What the worker gets, in its own process.
    pub(super) fn into_seat(self, child: ChildId) -> Option<Seat> {
        let seat = self.seats.get(&child).copied()?;
        Some(Seat::new(self.group, seat))
    }

    fn leave(&mut self, child: ChildId) {
        self.doubted.remove(&child);
        if let Some(seat) = self.seats.remove(&child) {
            self.group.leave(seat);
        }
    }

    /// A worker may have written in seats that nobody has, and so made others believe in somebody there.
    fn vacate(&self) {
        let taken = self.seats.values().copied().collect();
        self.group.vacate_all_but(&taken);
    }

    fn who(&self, seat: usize) -> Option<ChildId> {
        let mut seats = self.seats.iter();
        seats.find(|(_, taken)| **taken == seat).map(|(id, _)| *id)
    }

    /// What to wait for: its bell, and while all is quiet anybody who connects.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let quiet = self.watch.is_quiet();
        let listeners = self.group.listeners().iter().filter(move |_| quiet);
        let bell = (self.in_vain < IN_VAIN_MAX).then(|| self.group.arbiters_bell());
        bell.into_iter().chain(listeners.map(AsFd::as_fd))
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.watch.next_look_ms()
    }
}

/// Says how many descriptors workers take, where there are too few.
fn explain(error: io::Error, workers: usize) -> io::Error {
    match (is_for_want_of_files(&error), open_files_max()) {
        (true, Ok(max)) => {
            // A bell and a channel for each.
            let least = 2 * workers;
            io::Error::other(format!(
                "{error}: {workers} workers take more than {least}, and the limit is {max}"
            ))
        }
        _ => error,
    }
}

impl Driver {
    /// Gives a worker a seat before it is forked.
    pub(super) fn admit(&mut self, id: ChildId) -> io::Result<()> {
        match self.usher(id) {
            Some(usher) => usher.admit(id),
            None => Ok(()),
        }
    }

    /// A child is gone, or was never there.
    pub(super) fn dismiss(&mut self, id: ChildId) {
        if let Some(usher) = self.usher(id) {
            usher.leave(id);
        }
    }

    fn usher(&mut self, id: ChildId) -> Option<&mut Usher> {
        let serves = matches!(id.place, Place::Slot { role: WORKER, .. });
        self.usher_of(id.generation).filter(|_| serves)
    }

    /// Somebody connects, or a bell rings: see to it that somebody accepts.
    pub(super) fn attend(&mut self, generation: u32) {
        if let Some(usher) = self.usher_of(generation)
            && usher.watch.is_quiet()
        {
            usher.watch.wake(&usher.group, monotonic_ms());
        }
        self.grant(generation);
    }

    fn usher_of(&mut self, generation: u32) -> Option<&mut Usher> {
        self.plans.get_mut(&generation)?.usher.as_mut()
    }

    /// Tells one worker to accept, if that is the arbiter's to do.
    pub(super) fn grant(&mut self, generation: u32) {
        let Some(usher) = self.usher_of(generation) else {
            return;
        };
        let (seat, listener) = match usher.group.grant() {
            Granted::NobodyWaits => return usher.in_vain += 1,
            Granted::Seen => return,
            Granted::Tell { seat, listener } => (seat, listener),
        };
        let child = usher.who(seat);
        let listener = u16::try_from(listener).unwrap_or(0);
        let told = child.is_some_and(|child| self.try_send(child, &ToChild::Accept { listener }));
        // A channel that is full delays no connection.
        if !told && let Some(usher) = self.usher_of(generation) {
            usher.group.ring(seat);
        }
    }

    /// A worker says that it lives; that is news only of one that was passed over.
    pub(super) fn believe(&mut self, child: ChildId) {
        if self
            .usher(child)
            .is_some_and(|usher| usher.doubted.remove(&child))
        {
            self.tell(&Notice::Lives(child));
        }
    }

    /// Looks whether those who should accept do.
    pub(super) fn look_at_listeners(&mut self) {
        let now_ms = monotonic_ms();
        let generations: Vec<u32> = self.plans.keys().copied().collect();
        for generation in generations {
            let Some(usher) = self.usher_of(generation) else {
                continue;
            };
            if usher
                .watch
                .next_look_ms()
                .is_some_and(|at_ms| at_ms <= now_ms)
            {
                usher.in_vain = 0;
            }
            let Verdict::Revoked(seat) = usher.watch.look(&usher.group, now_ms) else {
                continue;
            };
            let Some(child) = usher.who(seat) else {
                usher.vacate();
                continue;
            };
            usher.doubted.insert(child);
            warn!(
                "{} did not accept a connection: passing it over",
                self.who(child)
            );
            if let Some(row) = self.family.row(child) {
                self.scoreboard.slot(row).counters.revocations.add(1);
            }
            self.try_send(child, &ToChild::Revoke);
        }
    }
}
