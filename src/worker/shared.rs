//! Defines what all connections of a worker share: its apps, its limits, its counters, and whether it
//! drains.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use super::admission::Gate;
use super::route::Routes;
use super::serving::Requests;
use crate::config;
use crate::host;
use crate::http::date::{DATE_BYTES, imf_fixdate};
use crate::http::limits::Limits;
use crate::protocol::message::FromChild;
use crate::scoreboard::{Scoreboard, Slot};
use crate::sys::channel::Channel;
use crate::sys::clock;
use crate::sys::random::random;

/// Value of the Server field.
pub(super) const SERVER: &str = "rgunicorn";

/// Signs of life within the heartbeat's timeout.
const BEATS: u32 = 4;

/// An app as requests see it.
pub(super) struct Served {
    pub(super) name: String,
    pub(super) app: Rc<host::App>,
    pub(super) limits: config::AppLimits,
    pub(super) gate: Gate,
}

/// What a worker's connections share.
pub(super) struct Shared {
    pub(super) routes: Routes<Served>,
    pub(super) http: Limits,
    pub(super) keep_alive: Duration,
    pub(super) head_timeout: Duration,
    pub(super) connections_max: usize,
    pub(super) heartbeat: Heartbeat,
    pub(super) draining: Cell<bool>,
    /// Whether nobody accepts from the listeners after this worker.
    pub(super) last_to_listen: Cell<bool>,
    /// The longest queue of a listener.
    pub(super) backlog: u32,
    worn: Worn,
    /// Told when the worker begins to drain.
    pub(super) drain: Notify,
    /// Told when a connection ends.
    pub(super) room: Notify,
    /// Told when there is a request in flight and there was none.
    busy: Notify,
    connections: Cell<usize>,
    in_flight: Cell<u64>,
    requests: RefCell<Requests>,
    date: RefCell<(u64, [u8; DATE_BYTES])>,
}

impl Shared {
    pub(super) fn new(
        config: &config::Config,
        routes: Routes<Served>,
        heartbeat: Heartbeat,
        worn: Worn,
    ) -> Self {
        let bytes = |setting: u32| setting as usize;
        Self {
            routes,
            http: Limits {
                request_line_bytes: bytes(config.limit_request_line),
                fields: bytes(config.limit_request_fields),
                field_bytes: bytes(config.limit_request_field_size),
            },
            keep_alive: config.keep_alive,
            head_timeout: config.head_timeout,
            connections_max: bytes(config.worker_connections),
            heartbeat,
            draining: Cell::new(false),
            last_to_listen: Cell::new(false),
            backlog: config.backlog,
            worn,
            drain: Notify::new(),
            room: Notify::new(),
            busy: Notify::new(),
            connections: Cell::new(0),
            in_flight: Cell::new(0),
            requests: RefCell::default(),
            date: RefCell::new((0, imf_fixdate(0))),
        }
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.get()
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.get()
    }

    /// Whether a connection may be used again after its response.
    pub(super) fn keeps_connections(&self) -> bool {
        !self.draining.get() && !self.keep_alive.is_zero()
    }

    /// Takes no more connections; if nobody else does, whoever waits is taken still.
    pub(super) fn begin_drain(&self, last_to_listen: bool) {
        self.last_to_listen.set(last_to_listen);
        self.draining.set(true);
        self.drain.notify_waiters();
        self.room.notify_waiters();
    }

    /// The value of Date, made once a second (RFC 9110 section 6.6.1).
    pub(super) fn date(&self) -> [u8; DATE_BYTES] {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let mut date = self.date.borrow_mut();
        if date.0 != now {
            *date = (now, imf_fixdate(now));
        }
        date.1
    }

    fn slot(&self) -> &Slot {
        self.heartbeat.slot()
    }
}

/// How many more requests the worker answers before it asks to be replaced.
pub(super) struct Worn {
    left: Cell<u64>,
    channel: Rc<Channel>,
}

impl Worn {
    /// After `max` requests, and up to `jitter` more, so that workers that started together are not
    /// replaced together; `None` is never.
    pub(super) fn after(max: Option<u64>, jitter: u64, channel: Rc<Channel>) -> Self {
        let more = random() % jitter.saturating_add(1);
        // Nothing is left to count from the start if there is no limit.
        let left = max.map_or(0, |max| max.saturating_add(more));
        Self {
            left: Cell::new(left),
            channel,
        }
    }

    fn count(&self) {
        if let Some(left) = self.left.get().checked_sub(1) {
            self.left.set(left);
            if left == 0 {
                // It serves on until the arbiter tells it to stop. If the arbiter is gone, that is
                // found out elsewhere.
                let _ = self.channel.send(&FromChild::Retire.encode(), &[]);
            }
        }
    }
}

/// A connection, while it is counted.
pub(super) struct Counted(Rc<Shared>);

impl Counted {
    pub(super) fn new(shared: &Rc<Shared>) -> Self {
        shared.connections.set(shared.connections.get() + 1);
        shared
            .slot()
            .set_connections(shared.connections.get() as u64);
        shared.slot().count_accepted();
        Self(Rc::clone(shared))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
        self.0
            .slot()
            .set_connections(self.0.connections.get() as u64);
        self.0.room.notify_waiters();
    }
}

/// A request, while an instance works on it.
pub(super) struct InFlight {
    shared: Rc<Shared>,
    /// Its name among the requests in flight.
    request: usize,
}

impl InFlight {
    pub(super) fn new(shared: &Rc<Shared>, app: &str, method: &str, path: &str) -> Self {
        let slot = shared.slot();
        shared.heartbeat.beat();
        if shared.in_flight.replace(shared.in_flight.get() + 1) == 0 {
            shared.busy.notify_one();
        }
        slot.set_in_flight(shared.in_flight.get());
        slot.count_request();
        shared.worn.count();
        let now_ms = clock::monotonic_ms();
        let mut requests = shared.requests.borrow_mut();
        let request = requests.begin(slot, (app, method, path), now_ms);
        Self {
            shared: Rc::clone(shared),
            request,
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.in_flight.set(shared.in_flight.get() - 1);
        shared.slot().set_in_flight(shared.in_flight.get());
        let mut requests = shared.requests.borrow_mut();
        requests.end(shared.slot(), self.request);
    }
}

/// The worker's sign of life: a deadline in shared memory that it moves whenever it turns.
#[derive(Clone)]
pub(super) struct Heartbeat {
    scoreboard: Arc<Scoreboard>,
    row: usize,
    timeout: Option<Duration>,
}

impl Heartbeat {
    pub(super) fn new(scoreboard: Arc<Scoreboard>, row: usize, timeout: Option<Duration>) -> Self {
        Self {
            scoreboard,
            row,
            timeout,
        }
    }

    fn slot(&self) -> &Slot {
        self.scoreboard.slot(self.row)
    }

    /// Moves the deadline.
    pub(super) fn beat(&self) {
        if let Some(timeout) = self.timeout {
            let timeout = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            self.slot()
                .set_alive_until(clock::monotonic_ms().saturating_add(timeout));
        }
    }

    /// Beats as often as it takes while requests are in flight: an event loop that never runs out of
    /// work never parks, and nothing else would show that it turns. An idle worker is not woken.
    pub(super) async fn keep_up(shared: Rc<Shared>) {
        let Some(timeout) = shared.heartbeat.timeout else {
            return;
        };
        loop {
            shared.busy.notified().await;
            while shared.in_flight() > 0 {
                tokio::time::sleep(timeout / BEATS).await;
                shared.heartbeat.beat();
            }
        }
    }

    /// Says that the worker sleeps until something happens, and owes no sign of life; but while
    /// requests are in flight it does, or nobody would see that it was stopped meanwhile.
    pub(super) fn sleep(&self) {
        if self.slot().in_flight() == 0 {
            self.slot().set_alive_until(crate::scoreboard::NEVER);
        }
    }
}
