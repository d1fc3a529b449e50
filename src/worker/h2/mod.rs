//! Defines the life of an HTTP/2 connection: its streams are answered beside each other, each like a
//! request of HTTP/1.1.
//!
//! Frames, flow control and field compression are the business of the `h2` crate, and so are its limits
//! on continuations, resets that wait to be accepted, and small frames. Ours are in `streams` and below.

mod budget;
mod incoming;
mod outgoing;
mod streams;
mod transport;

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::uri::PathAndQuery;
use http::{Method, Request};
use tokio::time::{Instant, timeout_at};

use super::answer::{Outcome, answer};
use super::client::Client;
use super::connection::Begun;
use super::record::Record;
use super::shared::{Counted, LEAVE, Shared};
use super::side::{self, Outgoing as _};
use crate::access;
use crate::config::Http2;
use crate::http::h2::check;
use incoming::Incoming;
use outgoing::Outgoing;
use streams::{Open, Streams, UNWRITTEN_MAX};
use transport::Measured;

/// A head may be so many times too long and be answered by us, with a line in the access log. What is
/// longer is answered by the `h2` crate, which keeps no more of it.
const ANSWERED: u32 = 2;
/// Bytes that a client may send on a connection that was told nothing (RFC 9113 section 6.9.2), and
/// those that it may send at most.
const CONNECTION_WINDOW: std::ops::RangeInclusive<u32> = 65_535..=0x7fff_ffff;

/// Serves a connection to its end.
pub(super) async fn serve(begun: Begun) -> io::Result<()> {
    let Begun {
        shared,
        client,
        transport,
        mut input,
        deadline,
        counted,
    } = begun;
    let first = Bytes::copy_from_slice(input.data());
    input.consume(first.len());
    let streams = Rc::new(Streams::new());
    let io = Measured::new(transport, first, &streams);
    let handshake = settings(&shared).handshake(io.clone());
    let connection = timeout_at(deadline, handshake).await;
    let connection = connection.map_err(|_| io::ErrorKind::TimedOut)?;
    let connection = connection.map_err(io::Error::other)?;
    let client = Rc::new(client);
    let ends = (&streams, &io);
    run(&shared, &client, ends, connection, deadline, counted).await
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
    let streams = if one { 1 } else { max_concurrent_streams };
    // Room for the windows of all streams: one that its app does not read takes none from the others.
    let all = initial_window_size.saturating_mul(streams);
    let all = all.clamp(*CONNECTION_WINDOW.start(), *CONNECTION_WINDOW.end());
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(streams)
        .initial_window_size(initial_window_size)
        .initial_connection_window_size(all)
        .max_frame_size(max_frame_size)
        .max_header_list_size(max_header_list_size.saturating_mul(ANSWERED))
        .max_send_buffer_size(UNWRITTEN_MAX);
    builder
}

async fn run(
    shared: &Rc<Shared>,
    client: &Rc<Client>,
    (streams, io): (&Rc<Streams>, &Measured),
    mut connection: Connection<Measured, Bytes>,
    deadline: Instant,
    mut counted: Counted,
) -> io::Result<()> {
    // Since when the client knows that the connection ends.
    let mut leaving = None;
    let (mut has_asked, mut closing) = (false, false);
    loop {
        let drain = shared.drain.notified();
        let is_last = has_asked && !shared.keeps_connections();
        if leaving.is_none() && (shared.is_draining() || is_last) {
            leaving = Some(Instant::now());
            connection.graceful_shutdown();
        }
        let due = |rested: Option<Instant>| {
            let waits = io.due(leaving.is_some() && rested.is_some());
            if waits.is_some() {
                return waits;
            }
            let rested = rested?.max(io.taken_at());
            Some(match leaving {
                None if !has_asked => deadline,
                None => rested + shared.keep_alive,
                Some(since) => since.max(rested) + LEAVE,
            })
        };
        tokio::select! {
            biased;
            accepted = next(&mut connection, io) => {
                let Some(accepted) = accepted else { return Ok(()) };
                let (request, respond) = accepted.map_err(io::Error::other)?;
                has_asked = true;
                counted.work();
                take(shared, client, streams, request, respond);
            },
            () = drain, if leaving.is_none() => {}
            // One that has only just come is about to ask.
            () = streams.wanted(&counted), if leaving.is_none() && has_asked => {
                leaving = Some(Instant::now());
                connection.graceful_shutdown();
            }
            () = streams.end(), if leaving.is_some() && !closing => {
                // The last word was said.
                counted.close();
                closing = true;
            }
            () = streams.idle(due) => {
                if let Some(abuse) = streams.abuse() {
                    tracing::debug!(%client, "{abuse}");
                    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    return closed(&mut connection).await;
                }
                // It has left, or takes nothing of what waits for it.
                if leaving.is_some() || io.due(false).is_some() {
                    return Ok(());
                }
                leaving = Some(Instant::now());
                connection.graceful_shutdown();
            }
        }
    }
}

/// The next request. While there is none, all that can be written is.
async fn next(
    connection: &mut Connection<Measured, Bytes>,
    io: &Measured,
) -> Option<Result<(Request<RecvStream>, SendResponse<Bytes>), h2::Error>> {
    poll_fn(|cx| {
        let accepted = connection.poll_accept(cx);
        if accepted.is_pending() {
            io.settle();
        }
        accepted
    })
    .await
}

/// Answers a request beside the others. What was taken back may still be on its way out of here, so
/// that there can be more than the client has open.
fn take(
    shared: &Rc<Shared>,
    client: &Rc<Client>,
    streams: &Rc<Streams>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let stream = Open::new(streams);
    if streams.open() > shared.http2.max_concurrent_streams as usize {
        respond.send_reset(Reason::REFUSED_STREAM);
        return stream.was_taken_back();
    }
    let answered = answer_one(
        Rc::clone(shared),
        Rc::clone(client),
        request,
        respond,
        stream,
    );
    tokio::task::spawn_local(answered);
}

/// Lets the last frames out.
async fn closed(connection: &mut Connection<Measured, Bytes>) -> io::Result<()> {
    let closed = poll_fn(|cx| connection.poll_closed(cx));
    // Whether it takes them is its own business.
    let _ = tokio::time::timeout(LEAVE, closed).await;
    Ok(())
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
    let mut outgoing = Outgoing::new(&shared, stream.streams(), respond, head_request);
    let meaning = check(
        &mut parts,
        client.scheme.clone(),
        !body.is_end_stream(),
        (&shared.http, shared.http2.max_header_list_size as usize),
    );
    let meaning = match meaning {
        Ok(meaning) => meaning,
        Err(refusal) => {
            let status = refusal.status.as_u16();
            tracing::debug!(%client, "refused with {status}: {}", refusal.reason);
            // As HTTP/1.1 would have it; CONNECT names an authority alone.
            let target = parts.uri.path_and_query().map(PathAndQuery::as_str);
            let target = target.map_or_else(|| parts.uri.to_string(), str::to_owned);
            let line = format!("{} {target} HTTP/2.0", parts.method);
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
        Ok(Outcome::Responded | Outcome::TurnedAway) => {
            stream.was_answered();
            // Its line needs not wait.
            drop(record);
            incoming.linger().await;
        }
        // What failed or was left in the middle of its response was wanted.
        Ok(Outcome::Cut) => {
            if !outgoing.has_begun() {
                stream.was_taken_back();
            }
            outgoing.cut();
        }
        Err(error) => {
            tracing::debug!(%client, "stream lost: {error}");
            if !outgoing.has_begun() {
                stream.was_taken_back();
            }
        }
    }
}
