//! Defines which requests of a worker the scoreboard holds, and which of them it shows.
//!
//! Invariant: what is shown runs in a guest: the request that has begun last, and when that has
//! ended, the one that has lasted longest. So whoever kills a worker does not blame a request that
//! had been answered.

use crate::scoreboard::{Entry, PLACES, Slot};

/// So many places are left to requests that run: those that wait for a body or for their turn may be
/// many more than there are places.
const RESERVED: usize = PLACES / 2;

/// The places of the scoreboard's row.
#[derive(Debug)]
pub(super) struct Requests {
    free: Vec<usize>,
    /// Requests without a place.
    unplaced: u64,
    /// The turn of each place whose request runs; the oldest has the smallest.
    running: [Option<u64>; PLACES],
    turns: u64,
    shown: Option<usize>,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            free: (0..PLACES).rev().collect(),
            unplaced: 0,
            running: [None; PLACES],
            turns: 0,
            shown: None,
        }
    }
}

impl Requests {
    /// A request comes, which has no place yet.
    pub(super) fn come(&mut self, slot: &Slot) {
        self.unplaced += 1;
        slot.set_unplaced(self.unplaced);
    }

    /// A request goes, or gets a place, that had none.
    pub(super) fn go(&mut self, slot: &Slot) {
        self.unplaced = self.unplaced.saturating_sub(1);
        slot.set_unplaced(self.unplaced);
    }

    /// Gives a request that has come a place, if there is one for it: it waits, or is about to run.
    pub(super) fn enter(&mut self, slot: &Slot, entry: &Entry<'_>, runs: bool) -> Option<usize> {
        if !runs && self.free.len() <= RESERVED {
            return None;
        }
        let place = self.free.pop()?;
        slot.enter(place, entry);
        self.go(slot);
        Some(place)
    }

    /// A guest runs for the request in this place: it is shown.
    pub(super) fn run(&mut self, slot: &Slot, place: usize) {
        self.turns += 1;
        if let Some(turn) = self.running.get_mut(place) {
            *turn = Some(self.turns);
            self.shown = Some(place);
            slot.show(self.shown);
        }
    }

    /// The guest has returned: if its request was the one that is shown, another is, or none.
    pub(super) fn rest(&mut self, slot: &Slot, place: usize) {
        if let Some(turn) = self.running.get_mut(place) {
            *turn = None;
        }
        if self.shown != Some(place) {
            return;
        }
        let running = self.running.iter().enumerate();
        let oldest = running.filter_map(|(place, turn)| Some((turn.as_ref()?, place)));
        self.shown = oldest.min().map(|(_, place)| place);
        slot.show(self.shown);
    }

    /// The request in this place is over.
    pub(super) fn leave(&mut self, slot: &Slot, place: usize) {
        self.rest(slot, place);
        slot.leave(place);
        self.free.push(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoreboard::Scoreboard;

    fn enter(requests: &mut Requests, slot: &Slot, target: &str) -> Option<usize> {
        let entry = Entry {
            app: "app",
            method: "GET",
            target,
            protocol: "HTTP/1.1",
            tls: None,
            remote: None,
            client: None,
            started_ms: 1,
        };
        requests.come(slot);
        requests.enter(slot, &entry, true)
    }

    #[test]
    fn those_that_run_have_places_left() {
        let board = Scoreboard::new(1).unwrap();
        let slot = board.slot(0);
        let mut requests = Requests::default();
        let entry = Entry {
            app: "app",
            method: "GET",
            target: "/",
            protocol: "HTTP/1.1",
            tls: None,
            remote: None,
            client: None,
            started_ms: 1,
        };
        let waiting: Vec<_> = (0..PLACES)
            .map(|_| {
                requests.come(slot);
                requests.enter(slot, &entry, false)
            })
            .collect();
        let placed = waiting.iter().flatten().count();
        assert_eq!(placed, PLACES - RESERVED);
        assert_eq!(slot.unplaced(), RESERVED as u64);
        for _ in 0..RESERVED {
            assert!(requests.enter(slot, &entry, true).is_some(), "it runs now");
        }
        assert_eq!(slot.unplaced(), 0);
        requests.come(slot);
        assert_eq!(requests.enter(slot, &entry, true), None);
        assert_eq!(slot.unplaced(), 1);
        requests.go(slot);
        assert_eq!(slot.unplaced(), 0);
    }

    #[test]
    fn what_is_shown_runs() {
        let board = Scoreboard::new(1).unwrap();
        let slot = board.slot(0);
        let shown = || slot.serving().map(|serving| serving.request);
        let some = |path: &str| Some(format!("GET {path}"));
        let mut requests = Requests::default();
        let places = ["/1", "/2", "/3"].map(|path| enter(&mut requests, slot, path).unwrap());
        assert_eq!(shown(), None, "they wait");
        for place in places {
            requests.run(slot, place);
        }
        let [first, second, third] = places;
        assert_eq!(shown(), some("/3"), "the last");
        requests.rest(slot, third);
        assert_eq!(shown(), some("/1"), "the oldest that is left");
        requests.leave(slot, third);
        requests.leave(slot, second);
        assert_eq!(shown(), some("/1"));
        assert_eq!(enter(&mut requests, slot, "/4"), Some(second));
        requests.run(slot, second);
        assert_eq!(shown(), some("/4"));
        requests.leave(slot, first);
        assert_eq!(shown(), some("/4"));
        assert_eq!(slot.left_behind().len(), 1);
        requests.leave(slot, second);
        assert_eq!((shown(), slot.left_behind().len()), (None, 0));
    }

    #[test]
    fn there_are_so_many_places_and_each_can_be_used_again() {
        let board = Scoreboard::new(1).unwrap();
        let slot = board.slot(0);
        let mut requests = Requests::default();
        for _ in 0..2 {
            let all: Vec<usize> = (0..PLACES)
                .map(|_| enter(&mut requests, slot, "/").unwrap())
                .collect();
            assert_eq!(slot.left_behind().len(), PLACES);
            assert_eq!(enter(&mut requests, slot, "/"), None);
            all.into_iter()
                .for_each(|place| requests.leave(slot, place));
            assert_eq!(slot.left_behind().len(), 0);
        }
    }
}
