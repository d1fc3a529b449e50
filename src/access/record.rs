//! Defines what is known of a request when its line is written.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::HeaderValue;

/// A request that is over, however it ended.
///
/// What is `None` was not found out: the request did not get that far, or nobody asked for it.
#[derive(Debug)]
pub struct Record<'a> {
    /// When its head was there.
    pub began: SystemTime,
    /// From then to its end.
    pub took: Duration,
    /// Who connected, or whom the PROXY protocol named; `None` on a Unix socket.
    pub remote: Option<IpAddr>,
    /// Who asked, as the app was told; `None` if a proxy did not say.
    pub client: Option<IpAddr>,
    /// What was asked for.
    pub request: Request<'a>,
    /// The fields of the request that the format shows, in the order of
    /// [`Format::request_fields`](super::Format::request_fields).
    pub request_fields: &'a [Option<HeaderValue>],
    /// The same of the response, as its app made it.
    pub response_fields: &'a [Option<HeaderValue>],
    /// The status that was sent to the client; 0 if none was.
    pub status: u16,
    /// Bytes of the body that were sent, without the framing.
    pub body_bytes: u64,
    /// The version of TLS that it came over.
    pub tls: Option<&'a str>,
    /// Who served it.
    pub worker: Worker,
    /// Name of the app that it was for.
    pub app: Option<&'a str>,
    /// Why it has no whole answer of an app.
    pub reason: Option<Reason>,
    /// How long it waited for one of the app's places.
    pub queue: Option<Duration>,
    /// How long it took to make the instance.
    pub instantiate: Option<Duration>,
    /// CPU time of the guest and of what the host did for it.
    pub cpu: Option<Duration>,
    /// The most linear memory that the guest had, in bytes.
    pub peak_memory: Option<u64>,
    /// Which request of its instance it was, from 1.
    pub reuse: Option<u64>,
}

/// What a client asked for.
#[derive(Debug, Clone, Copy)]
pub enum Request<'a> {
    /// Nothing that could be called a line.
    Unknown,
    /// The first line, of a head that could not be read.
    Line(&'a [u8]),
    /// A head.
    Head {
        /// The method.
        method: &'a str,
        /// The path as the client wrote it, with its query.
        target: &'a str,
        /// Such as `HTTP/1.1`.
        protocol: &'a str,
    },
}

/// Who served a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worker {
    /// Number of its process.
    pub pid: u32,
    /// Its slot.
    pub slot: usize,
    /// Its generation.
    pub generation: u32,
}

/// Why a request has no whole answer of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The client's bytes are not a request that is served.
    Malformed,
    /// The head did not come in time.
    HeadTimeout,
    /// No app has a route for it.
    NoApp,
    /// The body did not come in time.
    BodyTimeout,
    /// The body is longer than the app's limit.
    BodyTooLarge,
    /// The queue of the app is full, or did not move in time.
    QueueFull,
    /// The worker had no instance left.
    NoInstance,
    /// The worker had no memory left for the body.
    BodyMemory,
    /// The client was slow, and others needed what its request held.
    SlowClient,
    /// The client went away, or stopped to take the response.
    ClientGone,
    /// The app's time limit was reached.
    Timeout,
    /// The app's limit of CPU time was reached.
    CpuTimeout,
    /// The app's memory limit was reached.
    Memory,
    /// The guest trapped.
    Trap,
    /// The guest returned without a response, or with an error.
    NoResponse,
    /// The guest's response is not HTTP.
    BadResponse,
    /// A right that the app has could not be given to it.
    Rights,
    /// The worker was told to end at once.
    Aborted,
    /// The arbiter killed the worker.
    Killed,
    /// The worker died.
    Crashed,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 20] = [
        Self::Malformed,
        Self::HeadTimeout,
        Self::NoApp,
        Self::BodyTimeout,
        Self::BodyTooLarge,
        Self::QueueFull,
        Self::NoInstance,
        Self::BodyMemory,
        Self::SlowClient,
        Self::ClientGone,
        Self::Timeout,
        Self::CpuTimeout,
        Self::Memory,
        Self::Trap,
        Self::NoResponse,
        Self::BadResponse,
        Self::Rights,
        Self::Aborted,
        Self::Killed,
        Self::Crashed,
    ];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::HeadTimeout => "head-timeout",
            Self::NoApp => "no-app",
            Self::BodyTimeout => "body-timeout",
            Self::BodyTooLarge => "body-too-large",
            Self::QueueFull => "queue-full",
            Self::NoInstance => "no-instance",
            Self::BodyMemory => "body-memory",
            Self::SlowClient => "slow-client",
            Self::ClientGone => "client-gone",
            Self::Timeout => "timeout",
            Self::CpuTimeout => "cpu-timeout",
            Self::Memory => "memory",
            Self::Trap => "trap",
            Self::NoResponse => "no-response",
            Self::BadResponse => "bad-response",
            Self::Rights => "rights",
            Self::Aborted => "aborted",
            Self::Killed => "killed",
            Self::Crashed => "crashed",
        }
    }
}

/// The path and the query of a target, which has a `?` between them if there is a query.
pub(super) fn split_target(target: &str) -> (&str, &str) {
    target.split_once('?').unwrap_or((target, ""))
}
