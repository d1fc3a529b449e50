//! Defines what the streams of a connection, its transport and its task tell each other.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::budget::Budget;
use crate::http::frames::Seen;
use crate::worker::shared::Counted;

/// So many more requests may a client take back than it lets be answered: CVE-2023-44487.
const TAKEN_BACK_MAX: u32 = 100;
/// Bytes of all responses of a connection that may be made before the client takes them.
pub(super) const UNWRITTEN_MAX: usize = 256 << 10;
/// What a frame costs beside its content, about.
const FRAME_BYTES: usize = 100;
/// A request that is taken back later than this was meant.
const RAPID: Duration = Duration::from_secs(1);

/// What the streams of a connection tell it.
pub(super) struct Streams {
    open: Cell<usize>,
    /// When the last one ended, or the connection began.
    rested: Cell<Instant>,
    /// How many more requests were taken back than answered.
    taken_back: Cell<u32>,
    budget: Cell<Budget>,
    /// What the client does too much of.
    abuse: Cell<Option<&'static str>>,
    /// Bytes of responses that were made since all of them were written.
    unwritten: Cell<usize>,
    /// Told when all of them are.
    room: Notify,
    changed: Notify,
}

impl Streams {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            open: Cell::new(0),
            rested: Cell::new(now),
            taken_back: Cell::new(0),
            budget: Cell::new(Budget::new(now)),
            abuse: Cell::new(None),
            unwritten: Cell::new(0),
            room: Notify::new(),
            changed: Notify::new(),
        }
    }

    /// Waits until it is time to do something about the connection. `due` says when that is so, or is to
    /// be asked again, from when the last stream ended; `None` stands for streams that are open, and for
    /// no such time. Or until the client does too much of something.
    pub(super) async fn idle(&self, due: impl Fn(Option<Instant>) -> Option<Instant>) {
        loop {
            let changed = self.changed.notified();
            if self.abuse().is_some() {
                return;
            }
            let rested = (self.open.get() == 0).then(|| self.rested.get());
            let Some(due) = due(rested) else {
                changed.await;
                continue;
            };
            if due <= Instant::now() {
                return;
            }
            tokio::select! {
                biased;
                () = changed => {}
                () = tokio::time::sleep_until(due) => {}
            }
        }
    }

    /// Waits until no stream is open.
    pub(super) async fn end(&self) {
        loop {
            let changed = self.changed.notified();
            if self.open.get() == 0 {
                return;
            }
            changed.await;
        }
    }

    /// Waits until no stream is open and the connection's place is wanted for another.
    pub(super) async fn wanted(&self, counted: &Counted) {
        self.end().await;
        counted.rest();
        counted.is_wanted().await;
    }

    pub(super) fn open(&self) -> usize {
        self.open.get()
    }

    /// What the client does too much of, if it does.
    pub(super) fn abuse(&self) -> Option<&'static str> {
        self.abuse.get()
    }

    fn accuse(&self, abuse: &'static str) {
        self.abuse.set(Some(abuse));
        self.changed.notify_waiters();
    }

    pub(super) fn has_room(&self) -> bool {
        self.unwritten.get() < UNWRITTEN_MAX
    }

    /// Waits until more may be made for the client. It has no deadline: a client that takes nothing is
    /// left as a whole.
    pub(super) async fn room(&self) {
        loop {
            let room = self.room.notified();
            if self.has_room() {
                return;
            }
            room.await;
        }
    }

    /// All that was made is written, or will never be; whether it was anything.
    pub(super) fn drained(&self) -> bool {
        let was_any = self.unwritten.replace(0) > 0;
        if was_any {
            self.room.notify_waiters();
        }
        was_any
    }

    /// Something is so that changes when something is due.
    pub(super) fn stir(&self) {
        self.changed.notify_waiters();
    }

    /// Frames came from the client.
    pub(super) fn received(&self, seen: Seen) {
        let mut budget = self.budget.get();
        if budget.spend(seen.control, Instant::now()) {
            self.accuse("sends too many frames without content");
        }
        self.budget.set(budget);
    }

    /// A piece of a response is on its way, or its head.
    pub(super) fn sent(&self, bytes: usize) {
        self.unwritten
            .set(self.unwritten.get() + FRAME_BYTES + bytes);
        let mut budget = self.budget.get();
        budget.piece(bytes);
        self.budget.set(budget);
    }
}

/// A stream, while it is open.
pub(super) struct Open {
    streams: Rc<Streams>,
    began: Instant,
}

impl Open {
    pub(super) fn new(streams: &Rc<Streams>) -> Self {
        let mut budget = streams.budget.get();
        budget.request();
        streams.budget.set(budget);
        streams.open.set(streams.open.get() + 1);
        streams.changed.notify_waiters();
        Self {
            streams: Rc::clone(streams),
            began: Instant::now(),
        }
    }

    pub(super) fn streams(&self) -> &Rc<Streams> {
        &self.streams
    }

    pub(super) fn was_answered(&self) {
        let taken_back = &self.streams.taken_back;
        taken_back.set(taken_back.get().saturating_sub(1));
    }

    pub(super) fn was_taken_back(&self) {
        if self.began.elapsed() < RAPID {
            let taken_back = &self.streams.taken_back;
            taken_back.set(taken_back.get().saturating_add(1));
            if taken_back.get() > TAKEN_BACK_MAX {
                self.streams.accuse("takes back too many requests");
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.streams.open.set(self.streams.open.get() - 1);
        self.streams.rested.set(Instant::now());
        self.streams.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn more_is_made_when_all_is_written() {
        let mut cx = Context::from_waker(Waker::noop());
        let streams = Streams::new();
        assert!(!streams.drained(), "there was nothing");
        let mut made = 0;
        while streams.has_room() {
            streams.sent(1000);
            made += 1000;
        }
        assert!(made <= UNWRITTEN_MAX);
        let mut room = pin!(streams.room());
        assert!(room.as_mut().poll(&mut cx).is_pending());
        assert!(streams.drained());
        assert!(room.as_mut().poll(&mut cx).is_ready());
    }
}
