//! Defines the table that the workers write and the arbiter reads: who lives, and doing what.
//!
//! Invariant: it holds numbers and bounded text, no pointers, and each field has one writer: the
//! worker in the slot, but for what only the arbiter can know. The arbiter resets a slot while it is empty, and trusts nothing it reads:
//! numbers only decide about the slot's own worker, and text is made printable.

mod words;

use std::io;
use std::net::IpAddr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64, fence};

use crate::sys::shared::{Shared, plain_struct};
use words::{Address, WORD_BYTES, get, get_word, put, put_word};

/// Requests of one worker that a slot has room for. It has more than the default of an app's
/// `requests-in-flight`; a worker with more requests tells the others to nobody.
pub const PLACES: usize = 128;
/// Most bytes of method and path that are told of a request; the rest is cut.
pub const LINE_BYTES_MAX: usize = LINE_WORDS * WORD_BYTES;
/// Most bytes of an app's name that are told of a request; the rest is cut.
pub const APP_BYTES_MAX: usize = APP_WORDS * WORD_BYTES;
/// The heartbeat deadline of a worker that sleeps: it never passes.
pub const NEVER: u64 = u64::MAX;

const WORD_BITS: usize = u64::BITS as usize;
const LINE_WORDS: usize = 24;
const APP_WORDS: usize = 4;
/// How often a reader tries again when the writer was at work; then it takes what there is.
const READS_MAX: u32 = 64;

plain_struct! {
    /// A number that one process adds to and others read.
    #[derive(Debug)]
    pub struct Counter {
        value: AtomicU64,
    }
}

impl Counter {
    /// Adds to it. There is one writer, so this need not be a locked instruction.
    pub fn add(&self, count: u64) {
        self.value
            .store(self.value.load(Relaxed).wrapping_add(count), Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.value.load(Relaxed)
    }
}

plain_struct! {
    /// What one worker has done since it was started.
    #[derive(Debug)]
    pub struct Counters {
        /// Requests that it has begun to answer.
        pub requests: Counter,
        /// Connections that it has accepted.
        pub accepted: Counter,
        /// Times that it was woken to accept a connection.
        pub wakeups: Counter,
        /// Of these, those in which there was none.
        pub spurious: Counter,
        /// Times that it made another worker, or the arbiter, the one that accepts.
        pub handed_on: Counter,
        /// Connections that it accepted without having been woken, since it was awake.
        pub pulled: Counter,
        /// Milliseconds in which it had no room for a connection, until it last had.
        pub parked_ms: Counter,
        /// Times that it did not accept though it should have. The arbiter counts these.
        pub revocations: Counter,
    }
}

impl Counters {
    /// All of them.
    fn all(&self) -> [&Counter; 8] {
        [
            &self.requests,
            &self.accepted,
            &self.wakeups,
            &self.spurious,
            &self.handed_on,
            &self.pulled,
            &self.parked_ms,
            &self.revocations,
        ]
    }
}

plain_struct! {
    /// What one worker tells about itself. A slot outlives the worker in it.
    #[derive(Debug)]
    #[repr(align(64))]
    pub struct Slot {
        alive_until_ms: AtomicU64,
        connections: AtomicU64,
        in_flight: AtomicU64,
        unplaced: AtomicU64,
        full_since_ms: AtomicU64,
        /// What it has done.
        pub counters: Counters,
        /// Odd while requests are being written.
        version: AtomicU32,
        /// One more than the place that is shown; 0 for none.
        shown: AtomicU32,
        /// A bit for each place that has a request.
        taken: [AtomicU64; PLACES / WORD_BITS],
        requests: [Request; PLACES],
    }
}

plain_struct! {
    /// A request in flight.
    #[derive(Debug)]
    struct Request {
        started_ms: AtomicU64,
        protocol: AtomicU64,
        tls: AtomicU64,
        remote: Address,
        client: Address,
        status: AtomicU32,
        app_bytes: AtomicU32,
        line_bytes: AtomicU32,
        app: [AtomicU64; APP_WORDS],
        /// Method and target.
        line: [AtomicU64; LINE_WORDS],
    }
}

impl Request {
    fn read(&self) -> LeftBehind {
        let line = get(&self.line, self.line_bytes.load(Relaxed));
        let (method, target) = line.split_once(' ').unwrap_or((&line, ""));
        LeftBehind {
            app: get(&self.app, self.app_bytes.load(Relaxed)),
            method: method.to_owned(),
            target: target.to_owned(),
            protocol: get_word(&self.protocol),
            tls: Some(get_word(&self.tls)).filter(|version| !version.is_empty()),
            remote: self.remote.get(),
            client: self.client.get(),
            status: u16::try_from(self.status.load(Relaxed)).unwrap_or(0),
            started_ms: self.started_ms.load(Relaxed),
        }
    }
}

/// What a worker tells of a request.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Name of the app.
    pub app: &'a str,
    /// The method.
    pub method: &'a str,
    /// The path with its query.
    pub target: &'a str,
    /// Such as `HTTP/1.1`; at most eight bytes.
    pub protocol: &'a str,
    /// The version of TLS that it came over, such as `TLSv1.3`; at most eight bytes.
    pub tls: Option<&'a str>,
    /// Who has connected, unless it is by a Unix socket.
    pub remote: Option<IpAddr>,
    /// Who asks, as far as that was found out.
    pub client: Option<IpAddr>,
    /// When it began, in milliseconds of [`monotonic_ms`](crate::sys::clock::monotonic_ms).
    pub started_ms: u64,
}

/// A request that a worker did not finish, in the worker's words: bounded, but not printable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftBehind {
    /// Name of the app.
    pub app: String,
    /// The method.
    pub method: String,
    /// The path with its query.
    pub target: String,
    /// Such as `HTTP/1.1`.
    pub protocol: String,
    /// The version of TLS that it came over.
    pub tls: Option<String>,
    /// Who had connected, unless it was by a Unix socket.
    pub remote: Option<IpAddr>,
    /// Who asked, as far as that was found out.
    pub client: Option<IpAddr>,
    /// The status that the client has got; 0 for none.
    pub status: u16,
    /// When it began, in milliseconds of [`monotonic_ms`](crate::sys::clock::monotonic_ms).
    pub started_ms: u64,
}

/// What a worker said that it is serving, made printable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// Name of the app.
    pub app: String,
    /// Method and path.
    pub request: String,
    /// When it began, in milliseconds of [`monotonic_ms`](crate::sys::clock::monotonic_ms).
    pub started_ms: u64,
}

/// The slots of all workers.
#[derive(Debug)]
pub struct Scoreboard(Shared<Slot>);

impl Scoreboard {
    /// A table of `slots` slots, shared with every child that is forked later. One has to be reset
    /// before it is used: so memory is needed for those alone.
    pub fn new(slots: usize) -> io::Result<Self> {
        Ok(Self(Shared::new(slots)?))
    }

    /// The slot with this number. Panics if there is none.
    pub fn slot(&self, slot: usize) -> &Slot {
        &self.0[slot]
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.0.len()
    }
}

impl Slot {
    /// Makes the slot that of a worker which has done nothing. For the arbiter, while it is empty.
    pub fn reset(&self) {
        self.alive_until_ms.store(NEVER, Relaxed);
        for number in [&self.connections, &self.in_flight, &self.unplaced] {
            number.store(0, Relaxed);
        }
        self.full_since_ms.store(0, Relaxed);
        for counter in self.counters.all() {
            counter.value.store(0, Relaxed);
        }
        self.shown.store(0, Relaxed);
        for word in &self.taken {
            word.store(0, Relaxed);
        }
        // A worker that died while it wrote has left an odd version.
        self.version.store(0, Release);
    }

    /// The worker promises to call this again before `deadline_ms`, of the monotonic clock, or to
    /// be killed. [`NEVER`] says that it sleeps until something happens.
    pub fn set_alive_until(&self, deadline_ms: u64) {
        self.alive_until_ms.store(deadline_ms, Release);
    }

    /// The deadline that the worker has given itself.
    pub fn alive_until(&self) -> u64 {
        self.alive_until_ms.load(Acquire)
    }

    /// Says how many connections are open.
    pub fn set_connections(&self, count: u64) {
        self.connections.store(count, Relaxed);
    }

    /// How many connections are open.
    pub fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// Says how many requests are being served.
    pub fn set_in_flight(&self, count: u64) {
        self.in_flight.store(count, Relaxed);
    }

    /// How many requests are being served.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    /// Says how many requests there are for which there is no place.
    pub fn set_unplaced(&self, count: u64) {
        self.unplaced.store(count, Relaxed);
    }

    /// How many requests there are for which there is no place.
    pub fn unplaced(&self) -> u64 {
        self.unplaced.load(Relaxed)
    }

    /// Says whether there is room for another connection, at `now_ms` of the monotonic clock.
    pub fn set_room(&self, has_room: bool, now_ms: u64) {
        let since_ms = match has_room {
            true => 0,
            // The clock does not begin at a moment at which anybody serves.
            false => now_ms.max(1),
        };
        match self.full_since_ms.swap(since_ms, Relaxed) {
            0 => {}
            before_ms => self
                .counters
                .parked_ms
                .add(now_ms.saturating_sub(before_ms)),
        }
    }

    /// Milliseconds in which there was no room for a connection, until `now_ms`.
    pub fn parked_ms(&self, now_ms: u64) -> u64 {
        let this_time = match self.full_since_ms.load(Relaxed) {
            0 => 0,
            since_ms => now_ms.saturating_sub(since_ms),
        };
        self.counters.parked_ms.get().wrapping_add(this_time)
    }

    /// Says that the worker has a request in this place, so that whoever ends the worker can name
    /// it. The place must be free, and below [`PLACES`].
    pub fn enter(&self, place: usize, entry: &Entry<'_>) {
        let Some(at) = self.requests.get(place) else {
            return;
        };
        self.write(|| {
            at.app_bytes
                .store(put(&at.app, [entry.app.as_bytes()]), Relaxed);
            let line = [entry.method.as_bytes(), b" ", entry.target.as_bytes()];
            at.line_bytes.store(put(&at.line, line), Relaxed);
            put_word(&at.protocol, entry.protocol);
            put_word(&at.tls, entry.tls.unwrap_or_default());
            at.remote.set(entry.remote);
            at.client.set(entry.client);
            at.status.store(0, Relaxed);
            at.started_ms.store(entry.started_ms, Relaxed);
            self.mark(place, true);
        });
    }

    /// Says which place is shown of a worker that serves: the one that it turned to last.
    pub fn show(&self, place: Option<usize>) {
        let shown = place.and_then(|place| u32::try_from(place + 1).ok());
        self.write(|| self.shown.store(shown.unwrap_or(0), Relaxed));
    }

    /// Says that the client has got this status.
    pub fn set_status(&self, place: usize, status: u16) {
        if let Some(at) = self.requests.get(place) {
            at.status.store(u32::from(status), Relaxed);
        }
    }

    /// Says that the request in this place is over.
    pub fn leave(&self, place: usize) {
        self.write(|| self.mark(place, false));
    }

    /// There is one writer, so this need not be a locked instruction.
    fn mark(&self, place: usize, taken: bool) {
        if let Some(word) = self.taken.get(place / WORD_BITS) {
            let bit = 1 << (place % WORD_BITS);
            let others = word.load(Relaxed) & !bit;
            word.store(if taken { others | bit } else { others }, Release);
        }
    }

    fn is_taken(&self, place: usize) -> bool {
        let word = self.taken.get(place / WORD_BITS);
        word.is_some_and(|word| word.load(Acquire) >> (place % WORD_BITS) & 1 == 1)
    }

    /// The requests of a worker that has ended, as it has left them: the worker has chosen all of
    /// it.
    pub fn left_behind(&self) -> Vec<LeftBehind> {
        let places = self.requests.iter().enumerate();
        let taken = places.filter(|(place, _)| self.is_taken(*place));
        taken.map(|(_, at)| at.read()).collect()
    }

    /// What the worker serves, if anything. Best effort: of a worker that died while it wrote, or
    /// that writes without end, the parts may not belong together.
    pub fn serving(&self) -> Option<Serving> {
        let mut read = self.read();
        for _ in 0..READS_MAX {
            let (before, after, serving) = read;
            if before == after && before % 2 == 0 {
                return serving;
            }
            std::hint::spin_loop();
            read = self.read();
        }
        read.2
    }

    /// A sequence lock with one writer: readers see an odd or another version if they overlap.
    fn write(&self, change: impl FnOnce()) {
        let version = self.version.load(Relaxed) | 1;
        self.version.store(version, Relaxed);
        fence(Release);
        change();
        self.version.store(version.wrapping_add(1), Release);
    }

    fn read(&self) -> (u32, u32, Option<Serving>) {
        let before = self.version.load(Acquire);
        let shown = self.shown.load(Relaxed) as usize;
        let at = shown.checked_sub(1).and_then(|at| self.requests.get(at));
        let serving = at.map(|at| Serving {
            app: printable(&get(&at.app, at.app_bytes.load(Relaxed))),
            request: printable(&get(&at.line, at.line_bytes.load(Relaxed))),
            started_ms: at.started_ms.load(Relaxed),
        });
        fence(Acquire);
        (before, self.version.load(Relaxed), serving)
    }
}

/// `text` with control characters and backslashes escaped, so that it is one line that a terminal
/// obeys no part of.
pub fn printable(text: &str) -> String {
    let mut printed = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unprintable(character) {
            printed.extend(character.escape_default());
        } else {
            printed.push(character);
        }
    }
    printed
}

fn is_unprintable(character: char) -> bool {
    // Besides the control characters, those that break a line or turn the direction of the text.
    character.is_control()
        || matches!(character, '\\' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// Turns to a request, in the first place.
    fn serve(slot: &Slot, app: &str, method: &str, target: &str, started_ms: u64) {
        slot.enter(0, &entry(app, method, target, started_ms));
        slot.show(Some(0));
    }

    fn entry<'a>(app: &'a str, method: &'a str, target: &'a str, started_ms: u64) -> Entry<'a> {
        Entry {
            app,
            method,
            target,
            protocol: "HTTP/1.1",
            tls: None,
            remote: None,
            client: None,
            started_ms,
        }
    }

    #[test]
    fn a_new_slot_is_asleep_and_idle() {
        let board = Scoreboard::new(3).unwrap();
        assert_eq!(board.slots(), 3);
        let slot = board.slot(2);
        slot.reset();
        assert_eq!((slot.alive_until(), slot.serving()), (NEVER, None));
        assert_eq!((slot.connections(), slot.in_flight()), (0, 0));
    }

    #[test]
    fn numbers_are_those_of_the_last_worker_until_the_reset() {
        let board = Scoreboard::new(1).unwrap();
        let slot = board.slot(0);
        slot.set_alive_until(7);
        slot.set_connections(5);
        slot.set_in_flight(2);
        slot.counters.requests.add(1);
        slot.counters.accepted.add(1);
        slot.counters.accepted.add(1);
        serve(slot, "blog", "GET", "/", 1);
        // The worker dies in the middle of a change.
        slot.version.store(slot.version.load(Relaxed) | 1, Relaxed);
        let numbers = || (slot.counters.requests.get(), slot.counters.accepted.get());
        assert_eq!(numbers(), (1, 2));
        assert_eq!(slot.serving().unwrap().app, "blog");
        slot.reset();
        assert_eq!((numbers(), slot.in_flight()), ((0, 0), 0));
        assert_eq!(
            (slot.connections(), slot.alive_until(), slot.serving()),
            (0, NEVER, None)
        );
    }

    #[test]
    fn time_without_room_is_added_up() {
        let board = Scoreboard::new(1).unwrap();
        let slot = board.slot(0);
        slot.set_room(true, 5);
        assert_eq!(slot.parked_ms(9), 0);
        slot.set_room(false, 10);
        assert_eq!(slot.parked_ms(12), 2);
        slot.set_room(true, 15);
        slot.set_room(false, 100);
        slot.set_room(false, 101);
        assert_eq!(slot.parked_ms(103), 8);
        slot.reset();
        assert_eq!(slot.parked_ms(200), 0);
    }

    #[test]
    fn text_is_cut_at_its_bound_and_made_printable() {
        let board = Scoreboard::new(1).unwrap();
        let slot = board.slot(0);
        let check = |app: &str, path: &str, expect_app: &str, expect: &str| {
            serve(slot, app, "GET", path, 42);
            let serving = slot.serving().unwrap();
            assert_eq!(
                (serving.app.as_str(), serving.request.as_str()),
                (expect_app, expect)
            );
            assert_eq!(serving.started_ms, 42);
        };
        check("blog", "/x", "blog", "GET /x");
        check("", "", "", "GET ");
        check(
            "b\x1b[2J",
            "/\r\nroot: ok",
            "b\\u{1b}[2J",
            "GET /\\r\\nroot: ok",
        );
        check("a\u{202e}b", "/\\n", "a\\u{202e}b", "GET /\\\\n");
        let long = "a".repeat(1000);
        check(
            &long,
            &long,
            &long[..APP_BYTES_MAX],
            &format!("GET {}", &long[..LINE_BYTES_MAX - 4]),
        );
        // A character that the bound cuts in two.
        let cut = format!("{}é", "a".repeat(31));
        check(&cut, "/", &format!("{}\u{fffd}", "a".repeat(31)), "GET /");
        slot.show(None);
        assert_eq!(slot.serving(), None);
    }

    #[test]
    fn lengths_that_a_worker_made_up_are_bounded() {
        let board = Scoreboard::new(1).unwrap();
        let slot = board.slot(0);
        serve(slot, "blog", "GET", "/", 0);
        let at = &slot.requests[0];
        at.app_bytes.store(u32::MAX, Relaxed);
        at.line_bytes.store(u32::MAX, Relaxed);
        let serving = slot.serving().unwrap();
        assert!(serving.app.starts_with("blog\\u{0}"));
        assert!(serving.request.len() <= LINE_BYTES_MAX * "\\u{0}".len());
        for shown in [PLACES as u32 + 1, u32::MAX] {
            slot.shown.store(shown, Relaxed);
            assert_eq!(slot.serving(), None);
        }
        at.status.store(u32::MAX, Relaxed);
        at.protocol.store(u64::MAX, Relaxed);
        slot.taken
            .iter()
            .for_each(|word| word.store(u64::MAX, Relaxed));
        let left_behind = slot.left_behind();
        assert_eq!(left_behind.len(), PLACES);
        let first = &left_behind[0];
        assert_eq!((first.status, first.remote), (0, None));
        assert!(first.target.len() <= LINE_BYTES_MAX);
        // Places that there are not change nothing.
        slot.enter(PLACES, &entry("blog", "GET", "/", 0));
        slot.set_status(PLACES, 200);
        slot.leave(PLACES);
    }

    #[test]
    fn what_a_worker_leaves_behind_is_every_request_that_is_not_over() {
        let board = Scoreboard::new(1).unwrap();
        let slot = board.slot(0);
        let (v4, v6) = ("192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap());
        let last = PLACES - 1;
        for (place, remote) in [(0, Some(v4)), (63, None), (64, Some(v6)), (last, None)] {
            let target = format!("/{place}?a b");
            let entry = Entry {
                remote,
                client: remote.map(|_| v6),
                protocol: "HTTP/2",
                tls: remote.map(|_| "TLSv1.3"),
                ..entry("blog", "GET", &target, place as u64)
            };
            slot.enter(place, &entry);
        }
        slot.set_status(64, 200);
        slot.leave(63);
        // It dies in the middle of a change.
        slot.version.store(slot.version.load(Relaxed) | 1, Relaxed);
        let left_behind = |place: usize, remote: Option<IpAddr>, status| LeftBehind {
            app: "blog".to_owned(),
            method: "GET".to_owned(),
            target: format!("/{place}?a b"),
            protocol: "HTTP/2".to_owned(),
            tls: remote.map(|_| "TLSv1.3".to_owned()),
            remote,
            client: remote.map(|_| v6),
            status,
            started_ms: place as u64,
        };
        let expect = [
            left_behind(0, Some(v4), 0),
            left_behind(64, Some(v6), 200),
            left_behind(last, None, 0),
        ];
        assert_eq!(slot.left_behind(), expect);
        slot.reset();
        assert_eq!(slot.left_behind(), []);
        // A place that is used again has nothing of before.
        slot.enter(64, &entry("a", "PUT", "/", 1));
        let again = slot.left_behind().remove(0);
        assert_eq!((again.status, again.tls), (0, None));
        assert_eq!((again.remote, again.client), (None, None));
    }

    #[test]
    fn a_reader_never_sees_two_requests_mixed() {
        let board = Scoreboard::new(1).unwrap();
        let slot = board.slot(0);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    serve(slot, "one", "GET", "/111111111111", 1);
                    serve(slot, "two", "PUT", "/222222222222", 2);
                }
            });
            for _ in 0..20_000 {
                let (before, after, serving) = slot.read();
                if before != after || before % 2 != 0 {
                    continue;
                }
                let expect = match serving.as_ref().map(|serving| serving.started_ms) {
                    Some(1) => Some(("one", "GET /111111111111")),
                    Some(2) => Some(("two", "PUT /222222222222")),
                    other => {
                        assert_eq!(other, None);
                        None
                    }
                };
                let found = serving
                    .as_ref()
                    .map(|it| (it.app.as_str(), it.request.as_str()));
                assert_eq!(found, expect);
            }
            stop.store(true, Relaxed);
        });
    }
}
