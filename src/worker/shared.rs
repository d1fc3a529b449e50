//! Defines what all connections of a worker share: its apps, its limits, its counters, and whether it
//! drains.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::admission::Gate;
use super::memory::Memory;
use super::patience::Waiting;
use super::record::{AccessLog, Place};
use super::room::Room;
use super::route::Routes;
use super::serving::Requests;
use crate::accept::Seat;
use crate::config;
use crate::host;
use crate::http::date::{DATE_BYTES, imf_fixdate};
use crate::http::forwarded::Forwarding;
use crate::http::limits::Limits;
use crate::http::proxy_protocol::Versions;
use crate::protocol::message::FromChild;
use crate::scoreboard::{Scoreboard, Slot};
use crate::sys::channel::Channel;
use crate::sys::clock;
use crate::sys::random::random;

/// How long a client may take to see that its connection ends.
pub(super) const LEAVE: Duration = Duration::from_secs(2);
/// Value of the Server field.
const SERVER: &str = "rgunicorn";

/// A connection that is idle for less time than this is between two requests.
const PAUSE: Duration = Duration::from_secs(1);

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
    /// There if TLS is spoken.
    pub(super) tls: Option<TlsAcceptor>,
    /// What may be agreed on with TLS.
    pub(super) http_protocols: config::HttpProtocols,
    pub(super) http2: config::Http2,
    /// The value of Server, if it is sent.
    pub(super) server: Option<&'static str>,
    /// Whose word is taken about clients.
    pub(super) forwarding: Forwarding,
    /// How connections from which networks begin, if they do.
    pub(super) proxy_protocol: Option<(Versions, Vec<IpNet>)>,
    pub(super) keep_alive: Duration,
    pub(super) head_timeout: Duration,
    /// Bytes of a body in a second, at least.
    pub(super) min_body_rate: Option<u64>,
    pub(super) room: Room,
    pub(super) heartbeat: Heartbeat,
    /// When the drain began.
    draining: Cell<Option<Instant>>,
    /// Whether nobody accepts from the listeners after this worker.
    pub(super) last_to_listen: Cell<bool>,
    /// The longest queue of a listener.
    pub(super) backlog: u32,
    worn: Worn,
    /// Told when the worker begins to drain.
    pub(super) drain: Notify,
    /// Whether it was said already that connections cannot be accepted.
    complained: Cell<bool>,
    channel: Rc<Channel>,
    /// Told when there is a request in flight and there was none.
    busy: Notify,
    pub(super) requests: RefCell<Requests>,
    /// Those that wait for their clients.
    pub(super) waiting: Waiting,
    /// For bodies that wait for their clients.
    pub(super) memory: Rc<Memory>,
    pub(super) access_log: Option<AccessLog>,
    date: RefCell<(u64, [u8; DATE_BYTES])>,
}

impl Shared {
    pub(super) fn new(
        config: &config::Config,
        tls: Option<TlsAcceptor>,
        routes: Routes<Served>,
        heartbeat: Heartbeat,
        room: Room,
        access_log: Option<AccessLog>,
        channel: &Rc<Channel>,
    ) -> Self {
        let bytes = |setting: u32| setting as usize;
        Self {
            routes,
            http: Limits {
                request_line_bytes: bytes(config.limit_request_line),
                fields: bytes(config.limit_request_fields),
                field_bytes: bytes(config.limit_request_field_size),
            },
            tls,
            http_protocols: config.tls.http_protocols,
            http2: config.http2.clone(),
            server: config.server_header.then_some(SERVER),
            forwarding: Forwarding::new(
                config.proxies.forwarded_allow_ips.clone(),
                &config.proxies.secure_scheme_headers,
                &config.proxies.root_path,
            ),
            proxy_protocol: proxy_protocol(config),
            keep_alive: config.keep_alive,
            head_timeout: config.head_timeout,
            min_body_rate: config.min_body_rate,
            room,
            heartbeat,
            draining: Cell::new(None),
            last_to_listen: Cell::new(false),
            backlog: config.backlog,
            worn: Worn::after(
                config.max_requests,
                config.max_requests_jitter,
                Rc::clone(channel),
            ),
            drain: Notify::new(),
            complained: Cell::new(false),
            channel: Rc::clone(channel),
            busy: Notify::new(),
            requests: RefCell::default(),
            waiting: Waiting::default(),
            memory: Memory::new(config.body_memory),
            access_log,
            date: RefCell::new((0, imf_fixdate(0))),
        }
    }

    pub(super) fn connections(&self) -> usize {
        self.room.load().connections
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.room.load().in_flight
    }

    /// Whether a connection may be used again after its response.
    pub(super) fn keeps_connections(&self) -> bool {
        !self.is_draining() && !self.keep_alive.is_zero() && self.room.keeps_connections()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.get().is_some()
    }

    /// Waits for a client on whose connection nothing is being answered: for the first that it says, or
    /// for its goodbye. During a drain that is no longer than a request takes that is on its way
    /// already; then it is `None`.
    pub(super) async fn unless_leaving<T>(&self, word: impl Future<Output = T>) -> Option<T> {
        let came = Instant::now();
        let left = async {
            let since = loop {
                let drain = self.drain.notified();
                match self.draining.get() {
                    Some(since) => break since,
                    None => drain.await,
                }
            };
            tokio::time::sleep_until(since.max(came) + LEAVE).await;
        };
        tokio::select! {
            biased;
            said = word => Some(said),
            () = left => None,
        }
    }

    /// Takes connections from now on, unless it was told to end meanwhile.
    pub(super) fn open(&self) {
        if !self.is_draining() {
            self.room.open(self.slot());
        }
    }

    /// Takes connections though it drains.
    pub(super) fn open_again(&self) {
        self.room.open(self.slot());
    }

    /// Takes no more connections; if nobody else does, whoever waits is taken still.
    pub(super) fn begin_drain(&self, last_to_listen: bool) {
        self.last_to_listen.set(last_to_listen);
        self.draining.set(Some(Instant::now()));
        self.room.close(self.slot());
        self.drain.notify_waiters();
    }

    /// Leaves the connections to others, without an end of what is in flight.
    pub(super) fn accept_no_more(&self) {
        self.room.close(self.slot());
    }

    /// The kernel cannot give this worker connections for now, or perhaps again.
    pub(super) fn set_starves(&self, starves: bool) {
        self.room.set_starves(starves, self.slot());
    }

    /// Whether to complain that connections cannot be accepted: not about each of them.
    pub(super) fn complain_of_accept(&self) -> bool {
        !self.complained.replace(true)
    }

    /// Says that this worker has room, if the arbiter waits to hear that of somebody.
    pub(super) fn ask(&self, seat: &Seat) {
        if seat.ask()
            && !matches!(
                self.channel.send(&FromChild::Accept.encode(), &[]),
                Ok(true)
            )
        {
            // A channel that is full delays no connection.
            seat.ring_for_arbiter();
        }
    }

    /// Tells the arbiter, which doubts it, that this worker lives.
    pub(super) fn say_alive(&self) {
        let now_ms = clock::monotonic_ms();
        // If it cannot be said, the arbiter hears of it when this worker accepts.
        let _ = self
            .channel
            .send(&FromChild::Alive { now_ms }.encode(), &[]);
    }

    /// Lets a guest run on whenever the future is polled.
    pub(super) async fn at_work<F: Future>(&self, guest: F) -> F::Output {
        let mut guest = std::pin::pin!(guest);
        poll_fn(|cx| {
            self.room.work(self.slot());
            guest.as_mut().poll(cx)
        })
        .await
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

    pub(super) fn slot(&self) -> &Slot {
        self.heartbeat.slot()
    }
}

/// Which versions of the PROXY protocol are spoken, and by whom.
fn proxy_protocol(config: &config::Config) -> Option<(Versions, Vec<IpNet>)> {
    let versions = match config.proxies.protocol {
        config::ProxyProtocol::Off => return None,
        config::ProxyProtocol::V1 => Versions::V1,
        config::ProxyProtocol::V2 => Versions::V2,
        config::ProxyProtocol::Auto => Versions::Any,
    };
    Some((versions, config.proxies.protocol_allow_from.clone()))
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
pub(super) struct Counted {
    shared: Rc<Shared>,
    closing: bool,
    /// Its place among those that are idle, and when it came there.
    idle: Cell<Option<usize>>,
    idle_since: Cell<Instant>,
}

impl Counted {
    pub(super) fn new(shared: &Rc<Shared>) -> Self {
        shared.complained.set(false);
        shared.slot().counters.accepted.add(1);
        shared
            .room
            .change(shared.slot(), |load| load.connections += 1);
        Self {
            shared: Rc::clone(shared),
            closing: false,
            idle: Cell::new(None),
            idle_since: Cell::new(Instant::now()),
        }
    }

    /// The connection is idle from now on, if it was not: its place may be wanted for another.
    pub(super) fn rest(&self) {
        let room = &self.shared.room;
        if self.idle.get().is_none() {
            self.idle.set(Some(room.idle.enter()));
            self.idle_since.set(Instant::now());
            room.make_room();
        }
    }

    /// Waits, while the connection is idle, until its place is wanted; but not at once, or busy clients
    /// would find their connections closed as they ask again.
    pub(super) async fn is_wanted(&self) {
        let room = &self.shared.room;
        poll_fn(|cx| match self.idle.get() {
            Some(place) => room.idle.poll_asked(place, cx),
            None => Poll::Pending,
        })
        .await;
        tokio::time::sleep_until(self.idle_since.get() + PAUSE).await;
    }

    /// The connection is not idle any more: if its place was wanted, another's is.
    pub(super) fn work(&self) {
        if self.rises() {
            let shared = &self.shared;
            shared.room.change(shared.slot(), |load| load.leaving -= 1);
        }
    }

    /// Whether it was asked to leave.
    fn rises(&self) -> bool {
        let place = self.idle.take();
        place.is_some_and(|place| self.shared.room.idle.leave(place))
    }

    /// The last word was said: the connection has only to be closed.
    pub(super) fn close(&mut self) {
        self.closing = true;
        let leaves = self.rises();
        let shared = &self.shared;
        shared.room.change(shared.slot(), |load| {
            load.closing += 1;
            load.leaving -= usize::from(leaves);
        });
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let leaves = self.rises();
        let shared = &self.shared;
        shared.room.change(shared.slot(), |load| {
            load.connections -= 1;
            load.closing -= usize::from(self.closing);
            load.leaving -= usize::from(leaves);
        });
    }
}

/// A request, while an instance works on it.
pub(super) struct InFlight {
    shared: Rc<Shared>,
    place: Option<Rc<Place>>,
}

impl InFlight {
    pub(super) fn new(shared: &Rc<Shared>, place: Option<Rc<Place>>) -> Self {
        let slot = shared.slot();
        if shared.in_flight() == 0 {
            shared.busy.notify_one();
        }
        shared.room.change(slot, |load| load.in_flight += 1);
        slot.counters.requests.add(1);
        shared.worn.count();
        if let Some(place) = &place {
            place.run();
        }
        Self {
            shared: Rc::clone(shared),
            place,
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared
            .room
            .change(shared.slot(), |load| load.in_flight -= 1);
        if let Some(place) = &self.place {
            place.rest();
        }
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

    /// Does the work of an event loop, and moves the deadline with each turn of it: one that never runs
    /// out of work never parks, whatever the work is, and nothing else would show that it turns.
    pub(super) async fn with_each_turn<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|cx| {
            self.beat();
            work.as_mut().poll(cx)
        })
        .await
    }

    /// Moves the deadline.
    fn beat(&self) {
        if let Some(timeout) = self.timeout {
            let timeout = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            self.slot()
                .set_alive_until(clock::monotonic_ms().saturating_add(timeout));
        }
    }

    /// Lets the event loop turn as often as it takes while requests are in flight, though it may have
    /// to wait for something else. An idle worker is not woken.
    pub(super) async fn keep_up(shared: Rc<Shared>) {
        let Some(timeout) = shared.heartbeat.timeout else {
            return;
        };
        loop {
            shared.busy.notified().await;
            while shared.in_flight() > 0 {
                tokio::time::sleep(timeout / BEATS).await;
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
