//! Defines the life of an HTTP/2 connection: its streams are answered beside each other, each like a
//! request of HTTP/1.1.
//!
//! Frames, flow control and field compression are the business of the `h2` crate, and so are its limits
//! on continuations, resets that wait to be accepted, and small frames. Ours are below.

mod incoming;
mod outgoing;

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{Method, Request};
use tokio::sync::Notify;

use super::answer::{Outcome, answer};
use super::client::Client;
use super::connection::Begun;
use super::record::Record;
use super::shared::Shared;
use super::side::{self, Outgoing as _};
use super::socket::Rewound;
use crate::access;
use crate::config::Http2;
use crate::http::h2::check;
use incoming::Incoming;
use outgoing::Outgoing;

/// Bytes of all requests of a connection that may come before they are asked for.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Most bytes of one response that wait for the client's room.
const SEND_BUFFER: usize = 64 << 10;
/// So many more requests may a client take back than it lets be answered: CVE-2023-44487.
const TAKEN_BACK_MAX: u32 = 100;
/// How long a client may take to see that the connection ends, or the next bytes of what it was to get.
const LEAVE: Duration = Duration::from_secs(2);

/// What the streams of a connection tell it.
#[derive(Default)]
struct Streams {
    open: Cell<usize>,
    /// How many more requests were taken back than answered.
    taken_back: Cell<u32>,
    changed: Notify,
}

impl Streams {
    /// Waits until no stream has been open for so long, or the client takes back too many.
    async fn idle(&self, limit: Duration) {
        loop {
            let changed = self.changed.notified();
            if self.is_abused() {
                return;
            }
            if self.open.get() > 0 {
                changed.await;
                continue;
            }
            tokio::select! {
                biased;
                () = changed => {}
                () = tokio::time::sleep(limit) => return,
            }
        }
    }

    fn is_abused(&self) -> bool {
        self.taken_back.get() > TAKEN_BACK_MAX
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(begun: Begun) -> io::Result<()> {
    let Begun {
        shared,
        client,
        transport,
        mut input,
        counted: _counted,
    } = begun;
    let first = Bytes::copy_from_slice(input.data());
    input.consume(first.len());
    let written = Rc::new(Cell::new(0));
    let io = Rewound {
        first,
        transport,
        written: Rc::clone(&written),
    };
    let handshake = settings(&shared).handshake(io);
    let connection = tokio::time::timeout(shared.head_timeout, handshake).await;
    let connection = connection.map_err(|_| io::ErrorKind::TimedOut)?;
    let connection = connection.map_err(io::Error::other)?;
    run(&shared, &Rc::new(client), connection, &written).await
}

fn settings(shared: &Shared) -> Builder {
    let Http2 {
        max_concurrent_streams,
        initial_window_size,
        max_frame_size,
        max_header_list_size,
        ..
    } = shared.http2;
    // A worker that serves one request at a time does so here too.
    let one = !shared.room.keeps_connections();
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(if one { 1 } else { max_concurrent_streams })
        .initial_window_size(initial_window_size)
        .initial_connection_window_size(initial_window_size.max(CONNECTION_WINDOW))
        .max_frame_size(max_frame_size)
        .max_header_list_size(max_header_list_size)
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

async fn run(
    shared: &Rc<Shared>,
    client: &Rc<Client>,
    mut connection: Connection<Rewound, Bytes>,
    written: &Cell<u64>,
) -> io::Result<()> {
    let streams = Rc::new(Streams::default());
    // A client that has only just come may take as long for its first request as in HTTP/1.1.
    let (mut leaving, mut patience) = (false, shared.head_timeout);
    loop {
        let drain = shared.drain.notified();
        if shared.draining.get() && !leaving {
            (leaving, patience) = (true, LEAVE);
            connection.graceful_shutdown();
        }
        tokio::select! {
            biased;
            accepted = connection.accept() => match accepted {
                None => return Ok(()),
                Some(accepted) => {
                    let (request, respond) = accepted.map_err(io::Error::other)?;
                    shared.heartbeat.beat();
                    let stream = Open::new(&streams);
                    let answered = answer_one(Rc::clone(shared), Rc::clone(client), request, respond, stream);
                    tokio::task::spawn_local(answered);
                    if !leaving {
                        patience = shared.keep_alive;
                    }
                    if !shared.keeps_connections() && !leaving {
                        (leaving, patience) = (true, LEAVE);
                        connection.graceful_shutdown();
                    }
                }
            },
            () = drain, if !leaving => {}
            () = streams.idle(patience) => {
                if streams.is_abused() {
                    tracing::debug!(%client, "takes back too many requests");
                    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    return closed(&mut connection).await;
                }
                // A slow client may still be taking the ends of its responses.
                let taken = written.replace(0);
                if !leaving {
                    (leaving, patience) = (true, LEAVE);
                    connection.graceful_shutdown();
                } else if taken == 0 {
                    return Ok(());
                }
            }
        }
    }
}

/// Lets the last frames out.
async fn closed(connection: &mut Connection<Rewound, Bytes>) -> io::Result<()> {
    let closed = std::future::poll_fn(|cx| connection.poll_closed(cx));
    // Whether it takes them is its own business.
    let _ = tokio::time::timeout(LEAVE, closed).await;
    Ok(())
}

/// A stream, while it is open.
struct Open(Rc<Streams>);

impl Open {
    fn new(streams: &Rc<Streams>) -> Self {
        streams.open.set(streams.open.get() + 1);
        streams.changed.notify_waiters();
        Self(Rc::clone(streams))
    }

    fn was_answered(&self) {
        self.0
            .taken_back
            .set(self.0.taken_back.get().saturating_sub(1));
    }

    fn was_taken_back(&self) {
        self.0
            .taken_back
            .set(self.0.taken_back.get().saturating_add(1));
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.changed.notify_waiters();
    }
}

async fn answer_one(
    shared: Rc<Shared>,
    client: Rc<Client>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    stream: Open,
) {
    let (mut parts, body) = request.into_parts();
    let head_request = parts.method == Method::HEAD;
    let mut outgoing = Outgoing::new(&shared, respond, head_request);
    let meaning = check(
        &mut parts,
        client.scheme.clone(),
        !body.is_end_stream(),
        &shared.http,
    );
    let meaning = match meaning {
        Ok(meaning) => meaning,
        Err(refusal) => {
            let status = refusal.status.as_u16();
            tracing::debug!(%client, "refused with {status}: {}", refusal.reason);
            let line = format!("{} {} HTTP/2.0", parts.method, parts.uri);
            let why = (refusal.status, access::Reason::Malformed);
            Record::refuse(&shared, &client, line.as_bytes(), why, Duration::ZERO);
            outgoing.refuse(refusal.status, None);
            return stream.was_answered();
        }
    };
    let request = side::Request {
        parts,
        authority: Some(meaning.authority),
        framing: meaning.framing,
        expects_continue: meaning.expect_continue,
    };
    let mut incoming = Incoming(body);
    let mut record = Record::new(&shared, &client, &request);
    let sides = (&mut incoming, &mut outgoing);
    match answer(&shared, &client, request, sides, &mut record).await {
        Ok(Outcome::Responded | Outcome::TurnedAway) => stream.was_answered(),
        Ok(Outcome::Cut) => {
            outgoing.cut();
            stream.was_taken_back();
        }
        Err(error) => {
            tracing::debug!(%client, "stream lost: {error}");
            stream.was_taken_back();
        }
    }
}
