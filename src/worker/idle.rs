//! Defines which connections of a worker are idle, in the order in which they began to be: when the
//! worker is full, the one that has been so for longest is asked for its place.
//!
//! Invariant: to come, to go and to find the longest cost the same however many there are, and nothing
//! is allocated for it once as many were idle before.

use std::cell::RefCell;
use std::task::{Context, Poll, Waker};

/// Where nobody is: behind the last one, and so before the first.
const ENDS: usize = 0;

/// The idle connections.
pub(super) struct Idle(RefCell<Ring>);

/// The places of the connections, linked to a ring.
struct Ring {
    places: Vec<Place>,
    free: Vec<usize>,
}

#[derive(Default)]
struct Place {
    before: usize,
    after: usize,
    /// Whether it was asked to leave; it is out of the ring then.
    is_asked: bool,
    /// Who is to be told of that.
    waker: Option<Waker>,
}

impl Default for Idle {
    fn default() -> Self {
        Self(RefCell::new(Ring {
            places: vec![Place::default()],
            free: Vec::new(),
        }))
    }
}

impl Idle {
    /// A connection begins to be idle. Returns its place, until it is given back.
    pub(super) fn enter(&self) -> usize {
        self.0.borrow_mut().enter()
    }

    /// Gives a place back. Whether its connection was asked to leave meanwhile.
    pub(super) fn leave(&self, at: usize) -> bool {
        self.0.borrow_mut().leave(at)
    }

    /// Asks the connection to leave that has been idle for longest; whether there is one.
    pub(super) fn ask(&self) -> bool {
        let Some(waker) = self.0.borrow_mut().ask() else {
            return false;
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Whether the connection in this place is asked to leave.
    pub(super) fn poll_asked(&self, at: usize, cx: &Context<'_>) -> Poll<()> {
        self.0.borrow_mut().poll_asked(at, cx)
    }
}

impl Ring {
    fn enter(&mut self) -> usize {
        let at = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            self.places.len() - 1
        });
        let last = self.places[ENDS].before;
        self.places[at] = Place {
            before: last,
            after: ENDS,
            ..Place::default()
        };
        self.places[last].after = at;
        self.places[ENDS].before = at;
        at
    }

    fn leave(&mut self, at: usize) -> bool {
        self.free.push(at);
        self.places[at].waker = None;
        let is_asked = self.places[at].is_asked;
        if !is_asked {
            self.unlink(at);
        }
        is_asked
    }

    fn ask(&mut self) -> Option<Option<Waker>> {
        let longest = self.places[ENDS].after;
        if longest == ENDS {
            return None;
        }
        self.unlink(longest);
        let place = &mut self.places[longest];
        place.is_asked = true;
        Some(place.waker.take())
    }

    fn poll_asked(&mut self, at: usize, cx: &Context<'_>) -> Poll<()> {
        let place = &mut self.places[at];
        if place.is_asked {
            return Poll::Ready(());
        }
        match &mut place.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn unlink(&mut self, at: usize) {
        let (before, after) = (self.places[at].before, self.places[at].after);
        self.places[before].after = after;
        self.places[after].before = before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_asked(idle: &Idle, at: usize) -> bool {
        let cx = Context::from_waker(Waker::noop());
        idle.poll_asked(at, &cx).is_ready()
    }

    #[test]
    fn the_longest_is_asked_first_and_each_once() {
        let idle = Idle::default();
        assert!(!idle.ask(), "nobody is idle");
        let [first, second, third] = [(); 3].map(|()| idle.enter());
        assert!(!idle.leave(second), "it was not asked");
        let fourth = idle.enter();
        for (at, later) in [(first, third), (third, fourth)] {
            assert!(idle.ask());
            assert!(is_asked(&idle, at) && !is_asked(&idle, later));
        }
        assert!(idle.leave(first), "it was asked");
        let again = idle.enter();
        assert!(!is_asked(&idle, again), "a place begins anew");
        assert!(idle.ask() && idle.ask() && !idle.ask());
        for at in [third, fourth, again] {
            assert!(idle.leave(at));
        }
        assert!(!idle.ask());
    }

    #[test]
    fn places_are_used_again() {
        let idle = Idle::default();
        for _ in 0..100 {
            let all = [(); 5].map(|()| idle.enter());
            assert!(idle.ask());
            all.into_iter().for_each(|at| _ = idle.leave(at));
        }
        assert_eq!(idle.0.borrow().places.len(), 6);
    }
}
