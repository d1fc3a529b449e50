//! Defines which of a worker's requests in flight the scoreboard shows.
//!
//! Invariant: what is shown is in flight: the request that has begun last, and when that has ended,
//! the one that has lasted longest. So whoever kills a worker does not blame a request that had been
//! answered.

use crate::scoreboard::Slot;

/// The requests in flight.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Those that have ended are kept for the room of their texts.
    entries: Vec<Entry>,
    /// The entries that have ended.
    free: Vec<usize>,
    /// The entry that is shown.
    shown: Option<usize>,
}

#[derive(Debug, Default)]
struct Entry {
    in_flight: bool,
    app: String,
    method: String,
    path: String,
    started_ms: u64,
}

impl Requests {
    /// Shows a request that begins. The result names it until it ends.
    pub(super) fn begin(
        &mut self,
        slot: &Slot,
        (app, method, path): (&str, &str, &str),
        now_ms: u64,
    ) -> usize {
        let number = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry::default());
            self.entries.len() - 1
        });
        if let Some(entry) = self.entries.get_mut(number) {
            entry.in_flight = true;
            let texts = [
                (&mut entry.app, app),
                (&mut entry.method, method),
                (&mut entry.path, path),
            ];
            for (kept, text) in texts {
                kept.clear();
                kept.push_str(text);
            }
            entry.started_ms = now_ms;
        }
        self.shown = Some(number);
        slot.begin_serving(app, method, path, now_ms);
        number
    }

    /// A request has ended: if it was the one that is shown, another is, or none.
    pub(super) fn end(&mut self, slot: &Slot, number: usize) {
        if let Some(entry) = self.entries.get_mut(number) {
            entry.in_flight = false;
            self.free.push(number);
        }
        if self.shown != Some(number) {
            return;
        }
        let others = self.free.len() < self.entries.len();
        let entries = self.entries.iter().enumerate().filter(|_| others);
        let in_flight = entries.filter(|(_, entry)| entry.in_flight);
        let oldest = in_flight.min_by_key(|(_, entry)| entry.started_ms);
        self.shown = oldest.map(|(number, _)| number);
        match oldest {
            Some((_, entry)) => {
                slot.begin_serving(&entry.app, &entry.method, &entry.path, entry.started_ms);
            }
            None => slot.end_serving(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoreboard::Scoreboard;

    #[test]
    fn what_is_shown_is_in_flight() {
        let board = Scoreboard::new(1).unwrap();
        let slot = board.slot(0);
        let shown = || {
            slot.serving()
                .map(|serving| (serving.request, serving.started_ms))
        };
        let some = |path: &str, started_ms| Some((format!("GET {path}"), started_ms));
        let mut requests = Requests::default();
        let mut begin = |path, now_ms| requests.begin(slot, ("app", "GET", path), now_ms);
        let (first, second, third) = (begin("/1", 1), begin("/2", 2), begin("/3", 3));
        assert_eq!(shown(), some("/3", 3), "the last");
        requests.end(slot, third);
        assert_eq!(shown(), some("/1", 1), "the oldest that is left");
        requests.end(slot, second);
        assert_eq!(shown(), some("/1", 1));
        assert_eq!(requests.begin(slot, ("app", "GET", "/4"), 4), second);
        assert_eq!(shown(), some("/4", 4));
        requests.end(slot, first);
        assert_eq!(shown(), some("/4", 4));
        requests.end(slot, second);
        assert_eq!(shown(), None);
        assert_eq!(requests.entries.len(), 3, "room is used again");
    }
}
