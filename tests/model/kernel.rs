//! Defines the part of the kernel that the baton relies on: a queue of connections, and bells that can be armed from any
//! process and ring while the queue is not empty.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use loom::sync::{Arc, Mutex};

use super::atomic::AtomicU64;
use super::baton::Baton;
use super::terms::{Bells, Route, Turn};
use super::words::{ARBITER, NO_HOLDER};

/// Workers at most; the arbiter has a seat too.
pub(crate) const SEATS: usize = 4;

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bell {
    armed: bool,
    /// Its process waits for it, and for other things.
    sleeps: bool,
    /// It has rung while its process slept.
    woke: bool,
}

impl Bell {
    fn ring(&mut self) {
        self.woke |= self.armed && self.sleeps;
    }
}

#[derive(Debug, Default)]
pub(crate) struct Inside {
    pub(crate) waiting: u32,
    pub(crate) bells: [Bell; SEATS],
    /// How many connections each worker has accepted; it keeps them.
    accepted: [u64; SEATS],
}

/// All processes, and the kernel.
#[derive(Debug)]
pub(crate) struct World {
    word: AtomicU64,
    taken: AtomicU64,
    seats: [AtomicU64; SEATS],
    kernel: Mutex<Inside>,
    route: Route,
    /// Whether every process has every bell.
    all_reach: AtomicBool,
}

/// The bells as a process reaches them that dies after a number of calls.
#[derive(Debug)]
pub(crate) struct Reach<'a> {
    kernel: &'a Mutex<Inside>,
    left: std::cell::Cell<u32>,
    /// Seats from this one on are not reached.
    beyond: usize,
}

/// What a process that dies unwinds with.
pub(crate) struct Killed;

impl Reach<'_> {
    fn call(&self) {
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => std::panic::resume_unwind(Box::new(Killed)),
        }
    }
}

impl Bells for Reach<'_> {
    fn arm(&self, seat: usize) {
        self.call();
        if !self.reaches(seat) {
            return;
        }
        let mut inside = self.kernel.lock().unwrap();
        inside.bells[seat].armed = true;
        if inside.waiting > 0 {
            inside.bells[seat].ring();
        }
    }

    fn disarm(&self, seat: usize) {
        self.call();
        if !self.reaches(seat) {
            return;
        }
        let mut inside = self.kernel.lock().unwrap();
        inside.bells[seat].armed = false;
    }

    fn reaches(&self, seat: usize) -> bool {
        seat < self.beyond
    }

    fn anyone_waits(&self) -> bool {
        self.call();
        self.kernel.lock().unwrap().waiting > 0
    }

    fn several_wait(&self) -> bool {
        self.call();
        self.kernel.lock().unwrap().waiting > 1
    }
}

impl World {
    /// Workers in the seats from 1, `open` of them with room and idle; the first holds the baton.
    pub(crate) fn new(route: Route, open: usize) -> Arc<Self> {
        let world = Self {
            word: AtomicU64::new(NO_HOLDER),
            taken: AtomicU64::new(SEATS as u64 - 1),
            seats: std::array::from_fn(|_| AtomicU64::new(0)),
            kernel: Mutex::new(Inside::default()),
            route,
            all_reach: AtomicBool::new(true),
        };
        for seat in 1..=open {
            world.run(|baton| baton.open(seat));
            world.sleep(seat);
        }
        if route == Route::Arbiter {
            world.run(|baton| (baton.ask(), baton.watch()));
        }
        Arc::new(world)
    }

    /// Lets a process make a transition.
    pub(crate) fn run<T>(&self, transition: impl FnOnce(&Baton<'_, Reach<'_>>) -> T) -> T {
        self.run_reaching(SEATS, transition)
    }

    /// The same for a process that does not have the bells from `beyond` on.
    pub(crate) fn run_reaching<T>(
        &self,
        beyond: usize,
        transition: impl FnOnce(&Baton<'_, Reach<'_>>) -> T,
    ) -> T {
        self.all_reach.fetch_and(beyond >= SEATS, Relaxed);
        self.run_until(u32::MAX, beyond, transition)
            .unwrap_or_else(|Killed| unreachable!())
    }

    /// The same for a process that is killed at its `calls`th call of the kernel, if it comes to that.
    pub(crate) fn run_until<T>(
        &self,
        calls: u32,
        beyond: usize,
        transition: impl FnOnce(&Baton<'_, Reach<'_>>) -> T,
    ) -> Result<T, Killed> {
        let bells = Reach {
            kernel: &self.kernel,
            left: calls.into(),
            beyond,
        };
        let baton = Baton {
            word: &self.word,
            taken: &self.taken,
            seats: &self.seats,
            bells: &bells,
            route: self.route,
        };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| transition(&baton)));
        result.map_err(|reason| match reason.downcast::<Killed>() {
            Ok(killed) => *killed,
            Err(other) => std::panic::resume_unwind(other),
        })
    }

    /// A worker has so many connections.
    pub(crate) fn hold(&self, seat: usize, connections: u64) {
        self.kernel.lock().unwrap().accepted[seat] = connections;
        self.run(|baton| baton.count(seat, connections));
    }

    /// A client connects.
    pub(crate) fn connect(&self) {
        let mut inside = self.kernel.lock().unwrap();
        inside.waiting += 1;
        inside.bells.iter_mut().for_each(Bell::ring);
    }

    /// A worker's event loop turns: if its bell rings it does what the server does, accepts one
    /// connection and passes. Whether it was woken for nothing.
    pub(crate) fn turn(&self, seat: usize) -> bool {
        let mut inside = self.kernel.lock().unwrap();
        let waits = inside.waiting > 0;
        let bell = &mut inside.bells[seat];
        let woke = std::mem::take(&mut bell.woke);
        bell.sleeps = false;
        // An event loop that does not sleep hears of what is so when it looks.
        let hears = woke || (bell.armed && waits);
        drop(inside);
        let vain = hears && !self.answer(seat) && woke;
        self.sleep(seat);
        vain
    }

    /// A worker does something, and so does not sleep.
    pub(crate) fn wake(&self, seat: usize) {
        let bell = &mut self.kernel.lock().unwrap().bells[seat];
        (bell.sleeps, bell.woke) = (false, false);
    }

    /// A worker goes to sleep, if nothing is to be heard.
    pub(crate) fn sleep(&self, seat: usize) {
        let mut inside = self.kernel.lock().unwrap();
        inside.bells[seat].sleeps = true;
        if inside.waiting > 0 {
            inside.bells[seat].ring();
        }
    }

    /// Whether a connection was there for the worker whose bell has rung.
    fn answer(&self, seat: usize) -> bool {
        if !self.run(|baton| baton.may_accept(seat)) {
            self.run(|baton| baton.hush(seat));
            return false;
        }
        let accepted = self.accept(seat);
        let turn = self.run(|baton| baton.pass(seat));
        self.follow(seat, turn);
        accepted
    }

    /// What the server does when a transition says that a connection waits.
    pub(crate) fn follow(&self, seat: usize, mut turn: Turn) {
        while turn == Turn::Accept && self.run(|baton| baton.may_accept(seat)) {
            self.accept(seat);
            turn = self.run(|baton| baton.pass(seat));
        }
        if turn == Turn::Ask && self.run(|baton| baton.ask()) {
            // The message arrives.
            self.run(|baton| baton.watch());
        }
    }

    /// A worker has got a message that it may accept.
    pub(crate) fn granted(&self, seat: usize) {
        if self.run(|baton| baton.may_accept(seat)) {
            self.accept(seat);
            let turn = self.run(|baton| baton.pass(seat));
            self.follow(seat, turn);
        }
    }

    fn accept(&self, seat: usize) -> bool {
        let mut inside = self.kernel.lock().unwrap();
        let one = inside.waiting > 0;
        inside.waiting -= u32::from(one);
        inside.accepted[seat] += u64::from(one);
        let connections = inside.accepted[seat];
        drop(inside);
        if one {
            self.run(|baton| baton.count(seat, connections));
        }
        one
    }

    /// The arbiter's loop turns: if its bell rings, it sees to it.
    pub(crate) fn arbitrate(&self) {
        let inside = self.kernel.lock().unwrap();
        let hears = inside.bells[ARBITER].armed && inside.waiting > 0;
        drop(inside);
        if hears {
            self.grant();
        }
    }

    /// The arbiter lets a worker accept, if it finds one.
    pub(crate) fn grant(&self) {
        let granted = self.run(|baton| baton.grant(ARBITER));
        if let Some(seat) = granted.filter(|_| self.route == Route::Arbiter) {
            self.granted(seat);
        }
    }

    /// Everybody goes on until nothing happens any more: then nobody waits who could be accepted.
    /// How many were woken for nothing.
    pub(crate) fn go_on(&self) -> usize {
        let mut vain = 0;
        self.at_rest();
        for _ in 0..SEATS {
            self.arbitrate();
            vain += (1..SEATS).filter(|seat| self.turn(*seat)).count();
            self.at_rest();
        }
        let waiting = self.kernel.lock().unwrap().waiting;
        let open = (1..SEATS).any(|seat| self.run(|baton| baton.is_open(seat)));
        assert!(waiting == 0 || !open, "{waiting} wait and nobody is woken");
        vain
    }

    /// Everybody sleeps: what has been told to whom?
    fn at_rest(&self) {
        let inside = self.kernel.lock().unwrap();
        let holder = (self.word.load(SeqCst) & 0xffff) as usize;
        drop(inside);
        let open = |seat: usize| self.run(|baton| baton.is_open(seat));
        let busy = |seat: usize| self.run(|baton| baton.is_busy(seat));
        let rank = |seat: usize| {
            if open(seat) {
                2 - u8::from(busy(seat))
            } else {
                0
            }
        };
        let best = (1..SEATS).map(rank).max().unwrap_or(0);
        let inside = self.kernel.lock().unwrap();
        for (seat, bell) in inside.bells.iter().enumerate() {
            let should = seat == holder && (seat == ARBITER || open(seat));
            // Who cannot be reached cannot be silenced, and is woken in vain once.
            let may = should || !self.all_reach.load(Relaxed);
            assert!(
                bell.armed == should || bell.armed && may,
                "the bell of seat {seat}, while {holder} holds: {inside:?}"
            );
            assert!(
                !bell.armed || inside.waiting == 0 || bell.woke || !bell.sleeps,
                "nobody was told: {inside:?}"
            );
        }
        if (1..SEATS).contains(&holder) {
            assert_eq!(rank(holder), best, "the holder {holder} is not the best");
        } else if holder != ARBITER {
            assert_eq!(best, 0, "nobody holds, though somebody has room");
        }
    }
}
