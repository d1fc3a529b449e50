//! Defines the two sides of an exchange that a client sees, whatever protocol it speaks: its request
//! coming in and the response going out.
//!
//! Invariant: whoever answers knows nothing of the protocol, and whoever speaks the protocol knows
//! nothing of guests.

use std::io;

use bytes::Bytes;
use http::StatusCode;
use http::uri::{Authority, PathAndQuery};

use crate::http::head::Framing;
use crate::http::refusal::Refusal;
use crate::http::response::{BodyLength, ResponseError};

/// Output that is worth a write of its own, in bytes: less is held back until more comes, so that a
/// small response leaves at once, or not at all if its app fails.
pub(super) const WRITE_BYTES: usize = 16 << 10;

/// A request, but for its body.
pub(super) struct Request {
    /// Its method, target, version and fields.
    pub(super) parts: http::request::Parts,
    /// Whom the client wants.
    pub(super) authority: Option<Authority>,
    /// How the end of the body is known.
    pub(super) framing: Framing,
    /// Whether the client waits to be asked for the body.
    pub(super) expects_continue: bool,
}

impl Request {
    /// The path as the client wrote it, with its query.
    pub(super) fn target(&self) -> PathAndQuery {
        let target = self.parts.uri.path_and_query().cloned();
        target.unwrap_or_else(|| PathAndQuery::from_static("/"))
    }
}

/// Why a body did not arrive.
#[derive(Debug)]
pub(super) enum Broken {
    /// The client is gone.
    Gone,
    /// It is not HTTP.
    Refused(Refusal),
    /// It is longer than the app's limit.
    TooLarge,
    /// It took too long.
    Late,
    /// It was slow, and others needed what its request held.
    MadeWay,
    /// There is no memory for it.
    NoRoom,
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// Why a response did not get out.
#[derive(Debug)]
pub(super) enum Unsent {
    /// The client or the network.
    Lost(io::Error),
    /// It is none that can be sent.
    Bad(ResponseError),
}

impl From<io::Error> for Unsent {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

impl From<ResponseError> for Unsent {
    fn from(error: ResponseError) -> Self {
        Self::Bad(error)
    }
}

/// The body of a request on its way in.
pub(super) trait Incoming {
    /// The next piece; `None` is the end of the body.
    async fn next(&mut self) -> Result<Option<Bytes>, Broken>;

    /// Waits, after the end of the body, for the client to go away.
    async fn watch(&mut self) -> Broken;
}

/// A response on its way out. What is handed over may be held back until it is flushed or ended.
pub(super) trait Outgoing {
    /// Asks for the request's body (RFC 9110 section 10.1.1).
    async fn invite(&mut self) -> io::Result<()>;

    /// The head of an app's response.
    fn head(&mut self, head: &http::response::Parts, body: BodyLength)
    -> Result<(), ResponseError>;

    /// Whether a body may follow the head that was handed over (RFC 9110 section 6.4.1).
    fn takes_body(&self) -> bool;

    /// A piece of its body.
    async fn data(&mut self, data: Bytes) -> Result<(), Unsent>;

    /// The end of its body; nothing is held back after it.
    async fn end(&mut self) -> Result<(), Unsent>;

    /// Whether something waits for [`flush`](Self::flush).
    fn holds_back(&self) -> bool;

    /// Sends what was held back.
    async fn flush(&mut self) -> io::Result<()>;

    /// Whether the client may have seen the start of a response.
    fn has_begun(&self) -> bool;

    /// Waits for the client to want no more of the response, where the other side does not tell.
    async fn gone(&mut self) -> io::Error;

    /// An answer of our own, in place of an app's that has not begun.
    fn refuse(&mut self, status: StatusCode, retry_after: Option<u64>);
}
