//! Defines the load: clients that ask and ask, each in its own way, and check every byte of what they
//! get.

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::client::{Connection, Idle, Response};
use crate::harness::pattern;
use crate::ledger::{Kind, Ledger};
use crate::random::Random;

/// Clients of each kind. Most of them wait most of the time: the machine is to be busy, not drowned.
const CLIENTS: [(Kind, usize); 4] = [
    (Kind::Fresh, 3),
    (Kind::KeepAlive, 4),
    (Kind::Streamed, 6),
    (Kind::Posted, 2),
];

/// A keep-alive client opens another connection after so many requests.
const REQUESTS_PER_CONNECTION: usize = 200;
/// A keep-alive client is idle for long once in so many requests.
const REST_EVERY: usize = 10;
const REST_MS: usize = 400;
/// Longest body that is posted: more than a socket takes at once.
const BODY_BYTES_MAX: usize = 512 << 10;

const STREAMED: &[u8] = b"GET /stream?n=20&interval_ms=20 HTTP/1.1\r\nHost: soak\r\n\r\n";

/// A client that goes on after whatever happens to one of its requests.
pub(crate) struct Caller {
    address: SocketAddr,
    ledger: Arc<Ledger>,
    kind: Kind,
    connection: Option<Connection>,
}

impl Caller {
    pub(crate) fn new(address: SocketAddr, ledger: &Arc<Ledger>, kind: Kind) -> Self {
        let ledger = Arc::clone(ledger);
        Self {
            address,
            ledger,
            kind,
            connection: None,
        }
    }

    /// Sends a request, reads its response, and enters what became of it.
    ///
    /// A request that is cut off before a byte of its response, on a connection that had been used
    /// before, is sent once more on a new one: the server may close an idle connection at any
    /// moment, and the client is to be ready for it (RFC 9112 section 9.3.1).
    fn ask(&mut self, request: &[u8], is_right: impl Fn(&Response) -> bool) {
        let mut is_retry = false;
        while let Some(mut connection) = self.connection() {
            let is_reused = connection.answered > 0;
            match connection.exchange(request) {
                Ok(response) => return self.check(connection, response, is_right),
                Err(_) if self.died(&connection) => return,
                Err(broken) if broken.before_response && is_reused && !is_retry => {
                    self.ledger.retried();
                    is_retry = true;
                }
                Err(broken) => return self.lost(&connection, broken.to_string()),
            }
        }
    }

    /// The connection to ask on: the one of the last request, if the server has not closed it.
    fn connection(&mut self) -> Option<Connection> {
        if let Some(connection) = self.connection.take() {
            match connection.idle() {
                Idle::Open => return Some(connection),
                Idle::Closed => self.ledger.closed_while_idle(),
                Idle::Spoilt(_) if self.died(&connection) => {}
                Idle::Spoilt(what) => self.lost(&connection, format!("while idle: {what}")),
            }
        }
        match Connection::open(self.address) {
            Ok(connection) => Some(connection),
            Err(error) => {
                let what = format!("cannot connect: {error}");
                self.ledger.lost(self.kind, 0, 0, what);
                None
            }
        }
    }

    /// Checks a response and keeps its connection if it can be used again.
    fn check(
        &mut self,
        connection: Connection,
        response: Response,
        is_right: impl Fn(&Response) -> bool,
    ) {
        if response.status == 200 && is_right(&response) {
            self.ledger.answered(self.kind);
        } else {
            let begin = &response.body[..response.body.len().min(80)];
            let text = String::from_utf8_lossy(begin);
            self.lost(&connection, format!("status {}: {text:?}", response.status));
        }
        if !response.is_last {
            self.connection = Some(connection);
        }
    }

    fn died(&self, connection: &Connection) -> bool {
        self.ledger
            .died_with_worker(self.kind, connection.port, connection.opened)
    }

    fn lost(&self, connection: &Connection, what: String) {
        self.ledger
            .lost(self.kind, connection.port, connection.answered, what);
    }
}

/// A request whose body is sent but for its end, so that the worker has to keep it.
pub(crate) struct Hog {
    caller: Caller,
    connection: Option<Connection>,
}

impl Hog {
    /// Begins a request with this body.
    pub(crate) fn begin(address: SocketAddr, ledger: &Arc<Ledger>, body: &[u8]) -> Self {
        let caller = Caller::new(address, ledger, Kind::Hog);
        let mut hog = Self {
            connection: None,
            caller,
        };
        let request = post(body);
        if let Some(mut connection) = hog.caller.connection() {
            match connection.send(&request[..request.len() - 1]) {
                Ok(()) => hog.connection = Some(connection),
                Err(broken) => hog.caller.lost(&connection, broken.to_string()),
            }
        }
        hog
    }

    /// Sends the end of the body, and checks that all of it comes back.
    pub(crate) fn end(mut self, body: &[u8]) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        match connection.exchange(&body[body.len() - 1..]) {
            Ok(response) => self.caller.check(connection, response, |response| {
                response.body.ends_with(body)
            }),
            Err(broken) => self.caller.lost(&connection, broken.to_string()),
        }
    }
}

fn post(body: &[u8]) -> Vec<u8> {
    let head = "POST /echo HTTP/1.1\r\nHost: soak\r\nContent-Length: ";
    let mut request = format!("{head}{}\r\n\r\n", body.len()).into_bytes();
    request.extend_from_slice(body);
    request
}

/// When the clients are to stop.
#[derive(Default)]
struct Closing {
    time: Mutex<bool>,
    told: Condvar,
}

impl Closing {
    /// Waits between two requests; false says that there is to be no other.
    fn pause(&self, moment: Duration) -> bool {
        let time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.told.wait_timeout_while(time, moment, |time| !*time);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn tell(&self) {
        *self.time.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.told.notify_all();
    }
}

/// Clients at work.
pub(crate) struct Load {
    ledger: Arc<Ledger>,
    closing: Arc<Closing>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(address: SocketAddr, ledger: &Arc<Ledger>, random: &mut Random) -> Self {
        let closing = Arc::new(Closing::default());
        let kinds = CLIENTS
            .iter()
            .flat_map(|(kind, count)| std::iter::repeat_n(*kind, *count));
        let clients = kinds.map(|kind| {
            let (closing, random) = (Arc::clone(&closing), random.fork());
            let caller = Caller::new(address, ledger, kind);
            std::thread::spawn(move || work(caller, &closing, random))
        });
        Self {
            clients: clients.collect(),
            ledger: Arc::clone(ledger),
            closing,
        }
    }

    /// Lets every client finish its request, and closes their connections.
    pub(crate) fn finish(mut self) {
        self.closing.tell();
        for client in self.clients.drain(..) {
            client.join().expect("a client does not panic");
        }
    }
}

/// The clients of a run that failed are not waited for.
impl Drop for Load {
    fn drop(&mut self) {
        self.closing.tell();
        if std::thread::panicking() {
            self.ledger.close();
        }
    }
}

fn work(mut caller: Caller, closing: &Closing, mut random: Random) {
    loop {
        let pause_ms = match caller.kind {
            Kind::Fresh => {
                caller.connection = None;
                caller.ask(&hello(), |response| response.body == b"hello\n");
                random.below(8)
            }
            Kind::KeepAlive => {
                let is_old = |open: &Connection| open.answered >= REQUESTS_PER_CONNECTION;
                if caller.connection.as_ref().is_some_and(is_old) {
                    caller.connection = None;
                }
                caller.ask(&hello(), |response| response.body == b"hello\n");
                match random.one_in(REST_EVERY) {
                    true => random.below(REST_MS),
                    false => random.below(8),
                }
            }
            Kind::Streamed => {
                if random.one_in(2) {
                    caller.connection = None;
                }
                let chunks: String = (0..20).map(|at| format!("chunk {at}\n")).collect();
                caller.ask(STREAMED, |response| response.body == chunks.as_bytes());
                random.below(20)
            }
            Kind::Posted | Kind::Hog => {
                caller.connection = None;
                let body = pattern(random.below(BODY_BYTES_MAX));
                caller.ask(&post(&body), |response| response.body.ends_with(&body));
                random.below(40)
            }
        };
        if !closing.pause(Duration::from_millis(pause_ms as u64)) {
            return;
        }
    }
}

fn hello() -> Vec<u8> {
    b"GET / HTTP/1.1\r\nHost: soak\r\n\r\n".to_vec()
}
