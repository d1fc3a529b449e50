//! Defines the accounts of a run: what became of every request.
//!
//! Invariant: a request that was not answered is a loss, unless its connection is known to have been
//! in the hands of a worker at the moment when that was killed; each such connection excuses one
//! request.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Losses that are told one by one.
const LOSSES_SHOWN: usize = 30;

/// What the load asks for, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// On a connection of its own.
    Fresh,
    /// One of many on a connection.
    KeepAlive,
    /// A response that takes a while.
    Streamed,
    /// With a body, which comes back.
    Posted,
    /// A body that is held back, so that it fills the worker's memory.
    Hog,
}

/// A request that was not answered as it should have been.
#[derive(Debug)]
struct Loss {
    kind: Kind,
    at: Duration,
    during: String,
    port: u16,
    before: usize,
    what: String,
}

impl fmt::Display for Loss {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:.3} s, during {}: {:?}, port {}, {} answered before on it: {}",
            self.at.as_secs_f64(),
            self.during,
            self.kind,
            self.port,
            self.before,
            self.what
        )
    }
}

/// The connections that workers held when they were killed together.
#[derive(Debug)]
struct Killing {
    at: Instant,
    ports: BTreeSet<u16>,
}

/// The accounts.
#[derive(Debug)]
pub(crate) struct Ledger {
    started: Instant,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    answered: BTreeMap<Kind, u64>,
    died_with_worker: BTreeMap<Kind, u64>,
    closed_while_idle: u64,
    retried: u64,
    losses: Vec<Loss>,
    losses_left_out: u64,
    killings: Vec<Killing>,
    operations: BTreeMap<&'static str, u64>,
    during: String,
    is_closed: bool,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            books: Mutex::default(),
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what is being done to the server from now on.
    pub(crate) fn during(&self, what: String) {
        self.books().during = what;
    }

    /// Counts something that was done to the server.
    pub(crate) fn done(&self, what: &'static str, times: usize) {
        *self.books().operations.entry(what).or_default() += times as u64;
    }

    pub(crate) fn answered(&self, kind: Kind) {
        *self.books().answered.entry(kind).or_default() += 1;
    }

    /// How many requests have been answered so far.
    pub(crate) fn answers(&self) -> u64 {
        self.books().answered.values().sum()
    }

    /// A connection was found closed before the next request was sent on it.
    pub(crate) fn closed_while_idle(&self) {
        self.books().closed_while_idle += 1;
    }

    /// A request met the close of its connection, which had been used before, and is sent again.
    pub(crate) fn retried(&self) {
        self.books().retried += 1;
    }

    /// Enters the connections of workers that have been stopped and will be killed next.
    pub(crate) fn will_kill(&self, ports: BTreeSet<u16>) {
        let at = Instant::now();
        self.books().killings.push(Killing { at, ports });
    }

    /// Whether a connection was in the hands of a worker that was killed.
    pub(crate) fn died_with_worker(&self, kind: Kind, port: u16, opened: Instant) -> bool {
        let mut books = self.books();
        let mut later = books
            .killings
            .iter_mut()
            .filter(|killing| killing.at >= opened);
        let died = later.any(|killing| killing.ports.remove(&port));
        if died {
            *books.died_with_worker.entry(kind).or_default() += 1;
        }
        died
    }

    /// Enters a request that must not have been lost.
    pub(crate) fn lost(&self, kind: Kind, port: u16, before: usize, what: String) {
        let at = self.started.elapsed();
        let mut books = self.books();
        if books.is_closed {
            return;
        }
        if books.losses.len() == LOSSES_SHOWN {
            books.losses_left_out += 1;
            return;
        }
        let during = books.during.clone();
        books.losses.push(Loss {
            kind,
            at,
            during,
            port,
            before,
            what,
        });
    }

    /// The run has failed and the server is about to be killed: what is lost from here on says
    /// nothing.
    pub(crate) fn close(&self) {
        self.books().is_closed = true;
    }

    /// The losses, a line for each; empty if there was none.
    pub(crate) fn losses(&self) -> String {
        let books = self.books();
        let mut text = String::new();
        for loss in &books.losses {
            writeln!(text, "    {loss}").expect("a string takes it");
        }
        if books.losses_left_out > 0 {
            writeln!(text, "    and {} more", books.losses_left_out).expect("a string takes it");
        }
        text
    }

    /// All of it, for a person.
    pub(crate) fn summary(&self) -> String {
        let books = self.books();
        let counts = |map: &BTreeMap<Kind, u64>| {
            map.iter()
                .map(|(kind, n)| format!("{kind:?} {n}"))
                .collect::<Vec<_>>()
        };
        let operations = books
            .operations
            .iter()
            .map(|(what, n)| format!("{what} {n}"));
        format!(
            "soak: {:.1} s\n  answered: {}\n  died with a killed worker: {}\n  lost otherwise: {}\n  \
             closed while idle: {}, sent again: {}\n  done: {}\n",
            self.started.elapsed().as_secs_f64(),
            counts(&books.answered).join(", "),
            counts(&books.died_with_worker).join(", "),
            books.losses.len() as u64 + books.losses_left_out,
            books.closed_while_idle,
            books.retried,
            operations.collect::<Vec<_>>().join(", "),
        )
    }
}

#[test]
fn a_killed_worker_excuses_one_request_on_each_connection_that_it_held() {
    let ledger = Ledger::new();
    let opened = Instant::now();
    ledger.will_kill([1000, 1001].into());
    assert!(ledger.died_with_worker(Kind::Fresh, 1000, opened));
    assert!(!ledger.died_with_worker(Kind::Fresh, 1000, opened), "twice");
    assert!(
        !ledger.died_with_worker(Kind::Fresh, 1002, opened),
        "not its own"
    );
    let later = Instant::now();
    assert!(
        !ledger.died_with_worker(Kind::Fresh, 1001, later),
        "the port's next connection"
    );
    assert_eq!(ledger.losses(), "");
    ledger.lost(Kind::Fresh, 1002, 0, "reset".to_owned());
    assert!(ledger.losses().contains("port 1002"));
}
