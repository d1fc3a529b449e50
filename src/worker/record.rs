//! Defines what is kept of a request while it is answered: its place on the scoreboard, and its line
//! of the access log.
//!
//! Invariant: a record that is dropped writes its line, whatever the way to there was. Without an
//! access log there is nothing to keep but the place.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};

use super::client::Client;
use super::shared::{Served, Shared};
use super::side::Request;
use crate::access::{self, Measures, Reason, Worker};
use crate::host::{Failure, Usage};
use crate::scoreboard::Entry;
use crate::sys::clock;

/// Most bytes of a line that could not be read which are kept; a record shows fewer.
const LINE_BYTES_MAX: usize = 2048;

/// The access log of this worker.
pub(super) struct AccessLog {
    log: RefCell<access::Log>,
    worker: Worker,
    measures: Measures,
    request_fields: Vec<HeaderName>,
    response_fields: Vec<HeaderName>,
}

impl AccessLog {
    pub(super) fn new(log: access::Log, worker: Worker) -> Self {
        let format = log.format();
        Self {
            measures: format.measures(),
            request_fields: format.request_fields().to_vec(),
            response_fields: format.response_fields().to_vec(),
            log: RefCell::new(log),
            worker,
        }
    }

    /// Writes to another file from now on.
    pub(super) fn replace_file(&self, file: std::os::fd::OwnedFd) -> std::io::Result<()> {
        self.log.borrow_mut().replace_file(file)
    }
}

/// A request's place on the scoreboard. It is free again when neither the request nor its guest
/// needs it.
pub(super) struct Place {
    shared: Rc<Shared>,
    /// `None` while there are too many requests.
    place: Cell<Option<usize>>,
    /// Whether it counts as one that has none.
    is_unplaced: Cell<bool>,
}

impl Place {
    fn new(shared: &Rc<Shared>) -> Self {
        shared.requests.borrow_mut().come(shared.slot());
        Self {
            shared: Rc::clone(shared),
            place: Cell::new(None),
            is_unplaced: Cell::new(true),
        }
    }

    fn take(&self, entry: &Entry<'_>, runs: bool) {
        let mut requests = self.shared.requests.borrow_mut();
        let place = requests.enter(self.shared.slot(), entry, runs);
        self.is_unplaced.set(place.is_none());
        self.place.set(place);
    }

    /// Nobody is to tell of the request any more.
    fn told(&self) {
        if self.is_unplaced.replace(false) {
            let mut requests = self.shared.requests.borrow_mut();
            requests.go(self.shared.slot());
        }
        self.change(|_, slot, place| slot.leave(place));
    }

    /// A guest runs for the request.
    pub(super) fn run(&self) {
        self.change(|requests, slot, place| requests.run(slot, place));
    }

    /// The guest has returned.
    pub(super) fn rest(&self) {
        self.change(|requests, slot, place| requests.rest(slot, place));
    }

    fn change(
        &self,
        change: impl FnOnce(&mut super::serving::Requests, &crate::scoreboard::Slot, usize),
    ) {
        if let Some(place) = self.place.get() {
            let mut requests = self.shared.requests.borrow_mut();
            change(&mut requests, self.shared.slot(), place);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.told();
        self.change(|requests, slot, place| requests.leave(slot, place));
    }
}

/// A request that is being answered.
pub(super) struct Record {
    open: Option<Box<Open>>,
    place: Option<Rc<Place>>,
}

/// What the line will tell.
struct Open {
    shared: Rc<Shared>,
    began: SystemTime,
    started: Instant,
    took: Option<Duration>,
    remote: Option<IpAddr>,
    client: Option<IpAddr>,
    tls: Option<&'static str>,
    asked: Asked,
    request_fields: Vec<Option<HeaderValue>>,
    response_fields: Vec<Option<HeaderValue>>,
    status: u16,
    body_bytes: u64,
    served: Option<Rc<Served>>,
    /// `Aborted` until it is known how the request ended.
    reason: Option<Reason>,
    queue: Option<Duration>,
    cpu: Option<Duration>,
    usage: Option<Arc<Usage>>,
}

enum Asked {
    Line(Vec<u8>),
    Head(Method, PathAndQuery, Version),
}

impl Record {
    /// A head has arrived.
    pub(super) fn new(shared: &Rc<Shared>, client: &Client, request: &Request) -> Self {
        let open = shared.access_log.as_ref().map(|log| {
            let parts = &request.parts;
            let asked = Asked::Head(parts.method.clone(), request.target(), parts.version);
            let mut open = Open::new(shared, client, asked);
            open.request_fields = values(&log.request_fields, &parts.headers);
            Box::new(open)
        });
        Self { open, place: None }
    }

    /// What has arrived is not a head. Only its first line is told, if it has one.
    pub(super) fn refuse(
        shared: &Rc<Shared>,
        client: &Client,
        received: &[u8],
        (status, reason): (StatusCode, Reason),
        took: Duration,
    ) {
        if shared.access_log.is_none() {
            return;
        }
        let mut lines = received.split(|byte| matches!(byte, b'\r' | b'\n'));
        let line = lines.find(|line| !line.is_empty()).unwrap_or_default();
        let line = &line[..line.len().min(LINE_BYTES_MAX)];
        let mut open = Open::new(shared, client, Asked::Line(line.to_owned()));
        open.began = open.began.checked_sub(took).unwrap_or(open.began);
        open.took = Some(took);
        (open.status, open.reason) = (status.as_u16(), Some(reason));
        open.write();
    }

    /// Who asks was found out, if proxies have told it.
    pub(super) fn came_from(&mut self, client: Option<IpAddr>) {
        if let Some(open) = &mut self.open {
            open.client = client;
        }
    }

    /// The app that answers it is found, or it is about to run: it gets a place, if it has none.
    pub(super) fn enter(
        &mut self,
        shared: &Rc<Shared>,
        served: &Rc<Served>,
        (request, target): (&Request, &PathAndQuery),
        runs: bool,
    ) {
        let place = self
            .place
            .get_or_insert_with(|| Rc::new(Place::new(shared)));
        if place.place.get().is_some() {
            return;
        }
        let entry = Entry {
            app: &served.name,
            method: request.parts.method.as_str(),
            target: target.as_str(),
            protocol: protocol(request.parts.version),
            tls: self.open.as_ref().and_then(|open| open.tls),
            remote: self.open.as_ref().and_then(|open| open.remote),
            client: self.open.as_ref().and_then(|open| open.client),
            started_ms: clock::monotonic_ms(),
        };
        place.take(&entry, runs);
        if let Some(open) = &mut self.open {
            open.served = Some(Rc::clone(served));
        }
    }

    /// Its place, once it has entered.
    pub(super) fn place(&self) -> Option<Rc<Place>> {
        self.place.clone()
    }

    /// Waits for its turn.
    pub(super) async fn in_queue<T>(&mut self, turn: impl Future<Output = T>) -> T {
        let Some(open) = self.open.as_mut().filter(|open| open.log().measures.queue) else {
            return turn.await;
        };
        let before = Instant::now();
        let result = turn.await;
        open.queue = Some(before.elapsed());
        result
    }

    /// What its instance is to be measured with, if the line tells of it.
    pub(super) fn usage(&mut self) -> Option<Arc<Usage>> {
        let open = self.open.as_mut();
        let open = open.filter(|open| open.log().measures.instance)?;
        open.usage = Some(Arc::default());
        open.usage.clone()
    }

    /// Lets a guest work for it whenever the future is polled.
    pub(super) async fn at_work<F: Future>(&mut self, shared: &Shared, guest: F) -> F::Output {
        let Some(open) = self.open.as_mut().filter(|open| open.log().measures.cpu) else {
            return shared.at_work(guest).await;
        };
        let mut guest = std::pin::pin!(guest);
        let metered = std::future::poll_fn(|cx| {
            let before = clock::thread_cpu();
            let result = guest.as_mut().poll(cx);
            let used = clock::thread_cpu().saturating_sub(before);
            open.cpu = Some(open.cpu.unwrap_or_default() + used);
            result
        });
        shared.at_work(metered).await
    }

    /// The app's response has this head.
    pub(super) fn respond(&mut self, head: &http::response::Parts) {
        let Some(open) = &mut self.open else { return };
        open.status = head.status.as_u16();
        open.response_fields = values(&open.log().response_fields, &head.headers);
        if let Some(place) = &self.place {
            place.change(|_, slot, place| slot.set_status(place, open.status));
        }
    }

    /// So much of the response's body was sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        if let Some(open) = &mut self.open {
            open.body_bytes += bytes as u64;
        }
    }

    /// The whole response is out.
    pub(super) fn done(&mut self) {
        if let Some(open) = &mut self.open {
            open.reason = None;
        }
    }

    /// The client gets an answer of ours.
    pub(super) fn turn_away(&mut self, status: StatusCode) {
        if let Some(open) = &mut self.open {
            (open.status, open.body_bytes) = (status.as_u16(), 0);
            open.response_fields.clear();
        }
    }

    /// Why there is no whole response. If the client has seen nothing of it, there is no status.
    pub(super) fn fail(&mut self, reason: Reason, has_begun: bool) {
        if let Some(open) = &mut self.open {
            open.reason = Some(reason);
            if !has_begun {
                (open.status, open.body_bytes) = (0, 0);
            }
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let Some(open) = &self.open else { return };
        open.write();
        // The guest may work on. Nobody is to tell of the request again.
        if let Some(place) = &self.place {
            place.told();
        }
    }
}

impl Open {
    fn new(shared: &Rc<Shared>, client: &Client, asked: Asked) -> Self {
        let remote = client.peer.map(|address| address.ip().to_canonical());
        Self {
            shared: Rc::clone(shared),
            began: SystemTime::now(),
            started: Instant::now(),
            took: None,
            remote,
            client: remote,
            tls: client.tls,
            asked,
            request_fields: Vec::new(),
            response_fields: Vec::new(),
            status: 0,
            body_bytes: 0,
            served: None,
            reason: Some(Reason::Aborted),
            queue: None,
            cpu: None,
            usage: None,
        }
    }

    /// There is no record that is open without a log.
    fn log(&self) -> &AccessLog {
        let log = self.shared.access_log.as_ref();
        log.expect("a record is opened for an access log")
    }

    fn write(&self) {
        let log = self.log();
        let request = match &self.asked {
            Asked::Line(line) if line.is_empty() => access::Request::Unknown,
            Asked::Line(line) => access::Request::Line(line),
            Asked::Head(method, target, version) => access::Request::Head {
                method: method.as_str(),
                target: target.as_str(),
                protocol: protocol(*version),
            },
        };
        let instance = self.usage.as_ref().and_then(|usage| usage.of_instance());
        let record = access::Record {
            began: self.began,
            took: self.took.unwrap_or_else(|| self.started.elapsed()),
            remote: self.remote,
            client: self.client,
            request,
            request_fields: &self.request_fields,
            response_fields: &self.response_fields,
            status: self.status,
            body_bytes: self.body_bytes,
            tls: self.tls,
            worker: log.worker,
            app: self.served.as_ref().map(|served| served.name.as_str()),
            reason: self.reason,
            queue: self.queue,
            instantiate: instance.map(|(instantiate, _)| instantiate),
            cpu: self.cpu,
            peak_memory: instance.map(|(_, peak_memory)| peak_memory),
            // An instance is made for one request.
            reuse: instance.map(|_| 1),
        };
        log.log.borrow_mut().write(&record);
    }
}

/// What the access log calls a failure of a guest.
pub(super) fn reason(failure: &Failure) -> Reason {
    match failure {
        Failure::Trap(_) => Reason::Trap,
        Failure::Memory { .. } => Reason::Memory,
        Failure::Cpu(_) => Reason::CpuTimeout,
        Failure::NoResponse | Failure::ErrorCode(_) => Reason::NoResponse,
        Failure::BadResponse(_) => Reason::BadResponse,
        Failure::Exhausted => Reason::NoInstance,
        Failure::Rights(_) => Reason::Rights,
    }
}

/// The first value of each field.
fn values(names: &[HeaderName], headers: &HeaderMap) -> Vec<Option<HeaderValue>> {
    names
        .iter()
        .map(|name| headers.get(name).cloned())
        .collect()
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}
