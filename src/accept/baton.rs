//! Defines who may accept: the transitions of the baton and of the seats, on words of shared memory.
//!
//! One word names the holder of the baton. Only the holder accepts, and only the holder's bell is
//! armed, so that a connection wakes one process. Each worker says in the word of its seat whether
//! it has room and whether it is at work. Whoever worsens their own standing looks for a better
//! holder, and whoever betters it looks whether they are the better one; since all of these words
//! are sequentially consistent, at least one of two who do so at the same time sees the other.
//!
//! Invariant: when nobody is within a transition, the bell of the holder is armed if the holder has
//! room, all others are not, and nobody's standing is better than the holder's. A process may die
//! at any point of a transition: [`Baton::leave`] repairs what it has left. Nothing here waits, and
//! every loop is bounded, whatever others write.

use std::sync::atomic::Ordering::SeqCst;

use super::atomic::AtomicU64;
use super::terms::{Bells, Route, Turn};
use super::words::{ARBITER, BUSY, CONNECTIONS, Hold, NOBODY, OPEN, Standing};

/// How often somebody tries again who is disturbed by others. Each of these has got something done
/// meanwhile, so more means that a process writes nonsense.
const TRIES: usize = 64;
/// By so many connections a worker that is at work has to have fewer than another to be handed the
/// baton by it.
const MARGIN_AT_WORK: u64 = 8;

/// The baton of one group, as one process sees it.
#[derive(Debug)]
pub(super) struct Baton<'a, B> {
    pub(super) word: &'a AtomicU64,
    /// The highest seat that was ever taken: a hint where to look, for others can write it.
    pub(super) taken: &'a AtomicU64,
    /// The arbiter's seat first, which has no word of its own, then those of the workers.
    pub(super) seats: &'a [AtomicU64],
    pub(super) bells: &'a B,
    pub(super) route: Route,
}

impl<B: Bells> Baton<'_, B> {
    // What workers do, each for its own seat.

    /// The worker takes connections from now on.
    pub(super) fn open(&self, me: usize) -> Turn {
        self.seats[me].fetch_or(OPEN, SeqCst);
        self.take(me)
    }

    /// The worker has no room any more.
    ///
    /// Whether it has handed the baton on.
    pub(super) fn close(&self, me: usize) -> bool {
        self.seats[me].fetch_and(!OPEN, SeqCst);
        let handed = self.give_up(me);
        self.fit(me);
        handed
    }

    /// The worker is about to run a guest. Whether it has handed the baton on.
    pub(super) fn work(&self, me: usize) -> bool {
        if self.seats[me].load(SeqCst) & BUSY != 0 {
            return false;
        }
        self.seats[me].fetch_or(BUSY, SeqCst);
        // Whom the arbiter tells to accept would find then that it was woken for nothing.
        self.route != Route::Arbiter && self.give_up(me)
    }

    /// The worker has nothing to do.
    pub(super) fn rest(&self, me: usize) -> Turn {
        if self.seats[me].load(SeqCst) & BUSY == 0 {
            return Turn::Wait;
        }
        self.seats[me].fetch_and(!BUSY, SeqCst);
        match self.holds(me) {
            true => Turn::Wait,
            false => self.take(me),
        }
    }

    /// The worker has nothing to do, and another one, which holds the baton, may be waking up for a
    /// connection. To be woken takes longer than to serve most requests, so if a second connection
    /// waits, this worker borrows the baton and accepts that one. The first is the lender's, which
    /// accepts when its bell rings though it does not hold the baton.
    pub(super) fn borrow(&self, me: usize) -> Turn {
        let hold = self.load();
        let holder = hold.holder();
        let (its, mine) = (self.standing(holder), self.standing(me));
        let lends = holder != me && hold.lender().is_none() && its.rank == 2;
        // One that holds more connections already leaves them to others.
        let wants = mine.rank == 2 && !its.beats(mine, Some(0)) && self.route != Route::Arbiter;
        if lends && wants && self.bells.several_wait() && self.swap(hold, me, Some(holder)) {
            if self.bells.several_wait() {
                return Turn::Accept;
            }
            self.give_back(me);
        }
        Turn::Wait
    }

    /// Ends [`borrow`](Self::borrow). Whether there was something to give back.
    fn give_back(&self, me: usize) -> bool {
        let hold = self.load();
        let lender = hold.lender().filter(|_| hold.holder() == me);
        let given = lender.is_some_and(|lender| self.hand(hold, lender));
        if let Some(lender) = lender.filter(|_| given) {
            // It may have gone to work without knowing that it is the holder.
            self.improve(lender, None);
        }
        given
    }

    /// The worker holds so many connections.
    pub(super) fn count(&self, me: usize, connections: u64) {
        let word = self.seats[me].load(SeqCst);
        let difference = connections.min(CONNECTIONS) as i64 - (word & CONNECTIONS) as i64;
        // An addition, so that it disturbs no other bit.
        self.seats[me].fetch_add(difference as u64, SeqCst);
    }

    /// Whether the worker may accept.
    pub(super) fn may_accept(&self, me: usize) -> bool {
        let hold = self.load();
        hold.holder() == me || hold.lender() == Some(me)
    }

    fn holds(&self, me: usize) -> bool {
        self.load().holder() == me
    }

    /// Whether the worker takes connections, as others see it.
    pub(super) fn is_open(&self, me: usize) -> bool {
        self.seats[me].load(SeqCst) & OPEN != 0
    }

    /// Whether the worker is at work, as others see it.
    pub(super) fn is_busy(&self, me: usize) -> bool {
        self.seats[me].load(SeqCst) & BUSY != 0
    }

    /// The worker has tried to accept a connection: the next one goes to whoever is best.
    pub(super) fn pass(&self, me: usize) -> Turn {
        let hold = self.load();
        if hold.holder() != me {
            return Turn::Wait;
        }
        let passed = match self.route {
            Route::Arbiter => self.hand(hold, ARBITER),
            Route::Direct | Route::DirectOrArbiter => {
                // Of those who are at work, whoever rests first takes the baton.
                let at_work = self.standing(me).rank == 1;
                let margin = if at_work { MARGIN_AT_WORK } else { 0 };
                self.give_back(me) || self.improve(me, Some(margin))
            }
        };
        if passed {
            return Turn::Passed;
        }
        // Others can tell that it is not stuck.
        let hold = self.load();
        if hold.holder() == me {
            self.swap(hold, me, None);
        }
        self.go_on(me)
    }

    /// The worker's bell has rung for nothing: if it does not hold the baton, whoever took that
    /// could not silence the bell.
    pub(super) fn hush(&self, me: usize) {
        if !self.holds(me) {
            self.fit(me);
        }
    }

    /// The arbiter had found nobody, and there is somebody. Whether it is to be told.
    pub(super) fn ask(&self) -> bool {
        let hold = self.load();
        hold.holder() == NOBODY && self.swap(hold, ARBITER, None)
    }

    // What the arbiter does.

    /// The worker in this seat is gone, wherever it was.
    pub(super) fn leave(&self, seat: usize) {
        self.seats[seat].store(0, SeqCst);
        self.bells.disarm(seat);
        let hold = self.load();
        match self.route {
            Route::Direct | Route::DirectOrArbiter => self.improve_or_drop(seat),
            // The word that it had room may have been lost with it.
            Route::Arbiter if [seat, NOBODY].contains(&hold.holder()) => {
                self.hand(hold, ARBITER);
            }
            Route::Arbiter => {}
        }
        // It may have died between a change of the holder and that of the bells.
        self.fit(self.load().holder());
    }

    /// A connection waits, and the arbiter is to see to it. The worker that it has chosen: of equals
    /// the first after the `last` one. If the route is the arbiter's, it is to be told.
    pub(super) fn grant(&self, last: usize) -> Option<usize> {
        if self.route == Route::Arbiter {
            return self.choose(last);
        }
        let hold = self.load();
        if hold.holder() != ARBITER {
            return None;
        }
        let chosen = self.best(last, |_| true).map(|(best, _)| best);
        if self.hand(hold, chosen.unwrap_or(NOBODY))
            && let Some(chosen) = chosen
        {
            // It may have gone to work before it could see that it is the holder.
            self.improve(chosen, None);
        }
        chosen
    }

    /// Lets the bell of a worker ring that could not be told, if it is the holder still.
    pub(super) fn ring(&self, seat: usize) {
        self.fit(seat);
    }

    /// The arbiter has nobody to choose from, or nothing to choose for: it waits for its bell.
    pub(super) fn watch(&self) {
        self.fit(ARBITER);
    }

    /// What changes whenever a connection is accepted or somebody else is to do it.
    pub(super) fn hold(&self) -> Hold {
        self.load()
    }

    /// Connections have waited while `hold` has not changed: whoever should have accepted cannot.
    /// The seat of a worker that slept through it, which gets nothing more until it shows that it
    /// lives.
    pub(super) fn revoke(&self, hold: Hold) -> Option<usize> {
        let holder = hold.holder();
        if self.load() != hold {
            return None;
        }
        let slept = self.standing(holder).rank == 2;
        if slept && let Some(seat) = self.seats.get(holder) {
            seat.fetch_and(!OPEN, SeqCst);
        }
        match self.route {
            // It chooses again; whoever was told already and comes late finds that out.
            Route::Arbiter if holder != ARBITER => {
                self.hand(hold, ARBITER);
            }
            Route::Arbiter => self.fit(holder),
            Route::Direct | Route::DirectOrArbiter => {
                self.improve(holder, None);
                self.fit(holder);
            }
        }
        slept.then_some(holder)
    }

    // How it is done.

    fn load(&self) -> Hold {
        Hold(self.word.load(SeqCst))
    }

    fn standing(&self, seat: usize) -> Standing {
        match self.seats.get(seat).filter(|_| seat != ARBITER) {
            Some(word) => Standing::of(word.load(SeqCst)),
            None => Standing::NONE,
        }
    }

    /// Who is to follow this holder: the most suitable worker that can be woken from here, or for one
    /// that outranks it and cannot be, the arbiter. For less than that nobody waits for the arbiter,
    /// which may be blocked.
    fn next(&self, from: usize) -> Option<(usize, Standing)> {
        let near = self.best(from, |seat| self.bells.reaches(seat));
        if self.route == Route::Direct {
            return near;
        }
        let (best, standing) = self.best(from, |_| true)?;
        let far = if self.bells.reaches(best) {
            best
        } else {
            ARBITER
        };
        let is_as_good = |(_, it): &(usize, Standing)| far == ARBITER && it.rank >= standing.rank;
        near.filter(is_as_good).or(Some((far, standing)))
    }

    /// The most suitable of those who take connections; of equals the first after `seat`.
    fn best(&self, seat: usize, among: impl Fn(usize) -> bool) -> Option<(usize, Standing)> {
        let taken = usize::try_from(self.taken.load(SeqCst)).unwrap_or(usize::MAX);
        let workers = taken.min(self.seats.len().saturating_sub(1));
        let seats = (0..workers).map(|distance| 1 + (seat.min(workers) + distance) % workers);
        let standings = seats.map(|seat| (seat, self.standing(seat)));
        let open = standings.filter(|(seat, its)| its.rank > 0 && among(*seat));
        open.reduce(|one, it| if it.1.beats(one.1, Some(0)) { it } else { one })
    }

    fn swap(&self, hold: Hold, holder: usize, lender: Option<usize>) -> bool {
        let next = hold.next(holder, lender);
        self.word
            .compare_exchange(hold.0, next.0, SeqCst, SeqCst)
            .is_ok()
    }

    /// Makes somebody else the holder, if nobody else has done so since `hold` was read.
    fn hand(&self, hold: Hold, to: usize) -> bool {
        let handed = self.swap(hold, to, None);
        if handed {
            self.fit(hold.holder());
            self.fit(to);
            self.settle(hold.next(to, None));
        }
        handed
    }

    /// All bells have been seen to since that holder became one. Until then nobody takes the baton
    /// from it that has no need to: its bell may be about to be armed, and would ring for nothing.
    fn settle(&self, hold: Hold) {
        let _ = self
            .word
            .compare_exchange(hold.0, hold.settled().0, SeqCst, SeqCst);
    }

    /// Makes the bell of a seat fit the words: armed if and only if it is the holder's and the
    /// holder takes connections. Whoever changes one of the words calls this afterwards. It is done again until
    /// nothing has changed meanwhile, so the last who does it leaves the bell as it should be.
    fn fit(&self, seat: usize) {
        if seat >= self.seats.len() {
            return;
        }
        let should = || {
            let hold = self.load();
            let open = seat == ARBITER || self.standing(seat).rank > 0;
            (hold, hold.holder() == seat && open)
        };
        for _ in 0..TRIES {
            let before = should();
            if before.1 {
                self.bells.arm(seat);
            } else {
                self.bells.disarm(seat);
            }
            if should() == before {
                return;
            }
        }
    }

    /// As long as somebody is better than the holder `from`, and better than whoever follows, makes
    /// them the holder; if there is a margin, with fewer connections too. Whether it did.
    fn improve(&self, mut from: usize, mut margin: Option<u64>) -> bool {
        let mut improved = false;
        for _ in 0..TRIES {
            let hold = self.load();
            let Some((to, standing)) = self.next(from).filter(|_| hold.holder() == from) else {
                break;
            };
            if to == from || !standing.beats(self.standing(from), margin) {
                break;
            }
            if self.hand(hold, to) {
                if to == ARBITER {
                    return true;
                }
                // It may have gone to work before it could see that it is the holder.
                (from, margin, improved) = (to, None, true);
            }
        }
        improved
    }

    /// The same; if there is nobody, nobody holds the baton, and whoever has room next takes it.
    fn improve_or_drop(&self, from: usize) {
        if self.give_back(from) {
            return;
        }
        self.improve(from, None);
        let hold = self.load();
        if hold.holder() == from {
            self.hand(hold, NOBODY);
        }
    }

    /// A worker that holds the baton is worse than it was.
    fn give_up(&self, me: usize) -> bool {
        let hold = self.load();
        if hold.holder() != me {
            return false;
        }
        match self.route {
            Route::Arbiter => self.hand(hold, ARBITER),
            Route::Direct | Route::DirectOrArbiter => self.give_back(me) || self.improve(me, None),
        }
    }

    /// A worker is better than it was: it takes the baton from a holder that is not as good.
    fn take(&self, me: usize) -> Turn {
        for _ in 0..TRIES {
            let hold = self.load();
            let holder = hold.holder();
            if holder == me {
                return self.go_on(me);
            }
            if self.route == Route::Arbiter {
                return match holder == NOBODY && self.standing(me).rank > 0 {
                    true => Turn::Ask,
                    false => Turn::Wait,
                };
            }
            // The arbiter holds it for somebody who is idle, and is as fast as one who is at work,
            // unless a connection waits.
            let at_work = self.standing(me).rank == 1;
            let leaves = holder == ARBITER && at_work && !self.bells.anyone_waits();
            if leaves || !self.would_take(me, holder) {
                return Turn::Wait;
            }
            let turn = match self.standing(holder).rank {
                0 => self.hand(hold, me).then(|| self.go_on(me)),
                _ => self.take_from(me, hold),
            };
            if let Some(turn) = turn {
                return turn;
            }
        }
        Turn::Wait
    }

    fn would_take(&self, me: usize, holder: usize) -> bool {
        // One connection more or less is not worth it: that comes and goes.
        self.standing(me).beats(self.standing(holder), Some(1))
    }

    /// Takes the baton from a worker that takes connections, unless one may be waking it; `None` if
    /// others were faster. Before the baton moves it must be sure that no connection wakes that
    /// worker; and only one at a time tries, or another would arm its bell again meanwhile.
    fn take_from(&self, me: usize, hold: Hold) -> Option<Turn> {
        let holder = hold.holder();
        if self.standing(holder).rank == 2 && !hold.is_settled() {
            return Some(Turn::Wait);
        }
        if !self.swap(hold, holder, hold.lender()) {
            return None;
        }
        let trying = hold.next(holder, hold.lender());
        self.bells.disarm(holder);
        let asleep = self.standing(holder).rank == 2;
        if !self.would_take(me, holder) || (asleep && self.bells.anyone_waits()) {
            self.fit(holder);
            self.settle(trying);
            return Some(Turn::Wait);
        }
        let taken = self.swap(trying, me, None);
        self.fit(holder);
        taken.then(|| self.go_on(me))
    }

    /// A worker holds the baton: it accepts whoever waits already without being woken for it.
    fn go_on(&self, me: usize) -> Turn {
        if self.standing(me).rank > 0 && self.bells.anyone_waits() {
            return Turn::Accept;
        }
        self.fit(me);
        let hold = self.load();
        if hold.holder() == me {
            self.settle(hold);
        }
        Turn::Wait
    }

    /// The arbiter chooses the worker that is to accept.
    fn choose(&self, last: usize) -> Option<usize> {
        for _ in 0..TRIES {
            let hold = self.load();
            if hold.holder() != ARBITER {
                return None;
            }
            let Some((best, standing)) = self.best(last, |_| true) else {
                if self.hand(hold, NOBODY) {
                    self.best(last, |_| true)?;
                    self.ask();
                }
                continue;
            };
            if !self.swap(hold, best, None) {
                continue;
            }
            self.fit(ARBITER);
            let granted = hold.next(best, None);
            if self.standing(best).rank == standing.rank || !self.hand(granted, ARBITER) {
                return Some(best);
            }
        }
        None
    }
}
