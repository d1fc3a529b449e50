//! Defines how one request is answered, whatever protocol it came by: routed, admitted, run in a
//! guest, and its response sent while the guest still makes it.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery};
use http::{Method, StatusCode};
use http_body::Body;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::client::Client;
use super::pump::{Chunks, Pump};
use super::record::{Record, reason};
use super::shared::{InFlight, Served, Shared};
use super::side::{Broken, Incoming, Outgoing, Request, Unsent};
use crate::access::Reason;
use crate::host::{Exchange, Failure, RequestBody, ResponseBody};
use crate::http::head::Framing;
use crate::http::refusal::Refusal;
use crate::http::response::{BodyLength, ResponseError};

/// A body up to this size is waited for before an instance is made, so that a slow client holds
/// none. In bytes.
const SMALL_BODY_BYTES: u64 = 64 << 10;
/// Seconds after which a client that was turned away may try again.
const RETRY_AFTER: u64 = 1;
/// Stands in for a deadline where the app has none.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Its response is out.
    Responded,
    /// The client got an answer of ours.
    TurnedAway,
    /// The response broke off: the client must be able to tell.
    Cut,
}

/// A request, as far as its answer depends on it.
struct Asked {
    served: Rc<Served>,
    method: Method,
    target: PathAndQuery,
    deadline: Instant,
}

/// Why a request is answered by nobody but us.
struct TurnedAway {
    status: StatusCode,
    reason: Reason,
    /// Seconds after which the client may try again.
    retry_after: Option<u64>,
}

impl TurnedAway {
    fn new(status: StatusCode, reason: Reason) -> Self {
        Self {
            status,
            reason,
            retry_after: None,
        }
    }
}

/// Why there is no whole response.
enum Over {
    /// The client or the network.
    Lost(io::Error),
    /// The guest.
    Failed(Failure),
    /// The request did not come to its end.
    Broken(Broken),
    /// The time is up.
    Late,
}

impl From<Failure> for Over {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<io::Error> for Over {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

impl From<Unsent> for Over {
    fn from(unsent: Unsent) -> Self {
        match unsent {
            Unsent::Lost(error) => Self::Lost(error),
            Unsent::Bad(error) => Self::Failed(bad(error)),
        }
    }
}

/// What an app did wrong that made a response none.
fn bad(error: ResponseError) -> Failure {
    Failure::BadResponse(match error {
        ResponseError::BodyTooLong { .. } => "it is longer than its Content-Length",
        ResponseError::BodyTooShort { .. } => "it is shorter than its Content-Length",
        ResponseError::BodyEnded => "it goes on after its end",
        ResponseError::Status(_)
        | ResponseError::ContentLength
        | ResponseError::LengthMismatch { .. }
        | ResponseError::HeadTooLarge => "its head cannot be sent",
    })
}

/// Answers one request, and says in its record what came of it. Fails when the client can no longer
/// be reached.
pub(super) async fn answer(
    shared: &Rc<Shared>,
    client: &Client,
    mut request: Request,
    (incoming, outgoing): (&mut impl Incoming, &mut impl Outgoing),
    record: &mut Record,
) -> io::Result<Outcome> {
    // As the client wrote it.
    let target = request.target();
    if let Err(refusal) = resolve(shared, client, &mut request) {
        let status = refusal.status;
        tracing::debug!(%client, "refused with {}: {}", status.as_u16(), refusal.reason);
        let turned_away = TurnedAway::new(status, Reason::Malformed);
        return Ok(turn_away(outgoing, &turned_away, record));
    }
    let (asked, limit) = match find(shared, &request) {
        Ok(found) => found,
        Err(turned_away) => return Ok(turn_away(outgoing, &turned_away, record)),
    };
    record.enter(shared, &asked.served, (&request, &target), false);
    if request.expects_continue
        && let Err(error) = outgoing.invite().await
    {
        return explain(&asked, Over::Lost(error), outgoing, record);
    }
    let mut pump = Pump::new(incoming, limit, shared.min_body_rate);
    let (body, chunks) = match body(&asked, request.framing, &mut pump).await {
        Ok(body) => body,
        Err(over) => return explain(&asked, over, outgoing, record),
    };
    let turn = timeout_at(asked.deadline, asked.served.gate.enter());
    // Who has gone away must not hold a place in the queue.
    let turn = match record.in_queue(unless_gone(outgoing, turn)).await {
        Ok(turn) => turn,
        Err(error) => return explain(&asked, Over::Lost(error), outgoing, record),
    };
    let Ok(Some(permit)) = turn else {
        let Asked {
            served,
            method,
            target,
            ..
        } = &asked;
        tracing::warn!(app = served.name, "{method} {target}: the queue is full");
        let full = TurnedAway {
            retry_after: Some(RETRY_AFTER),
            ..TurnedAway::new(StatusCode::SERVICE_UNAVAILABLE, Reason::QueueFull)
        };
        return Ok(turn_away(outgoing, &full, record));
    };
    record.enter(shared, &asked.served, (&request, &target), true);
    let in_flight = InFlight::new(shared, record.place());
    let request = http::Request::from_parts(request.parts, body);
    let held = (permit, in_flight);
    let exchange = asked.served.app.answer(request, held, record.usage());
    converse(shared, asked, exchange, (pump, chunks), (outgoing, record)).await
}

/// Puts what is known of the client into its request.
fn resolve(shared: &Shared, client: &Client, request: &mut Request) -> Result<(), Refusal> {
    let (parts, authority) = (&mut request.parts, &mut request.authority);
    let forwarding = &shared.forwarding;
    forwarding.resolve(parts, authority, &client.forwarder, &client.scheme)
}

/// Finds the app that is asked for, and how long the body may be.
fn find(shared: &Shared, request: &Request) -> Result<(Asked, Option<u64>), TurnedAway> {
    let host = request.authority.as_ref().map_or("", Authority::host);
    let target = request.target();
    let served = shared.routes.find(host, target.path());
    let no_app = || TurnedAway::new(StatusCode::NOT_FOUND, Reason::NoApp);
    let served = served.cloned().ok_or_else(no_app)?;
    let mut limit = served.limits.request_body;
    if served.app.wants_whole_body() {
        let whole = served.limits.buffered_body;
        limit = Some(limit.map_or(whole, |limit| limit.min(whole)));
    }
    if let (Framing::Length(length), Some(limit)) = (request.framing, limit)
        && length > limit
    {
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        return Err(TurnedAway::new(status, Reason::BodyTooLarge));
    }
    let asked = Asked {
        deadline: Instant::now() + served.limits.timeout.unwrap_or(FOR_EVER),
        method: request.parts.method.clone(),
        target,
        served,
    };
    Ok((asked, limit))
}

/// Ends a request that no guest answers.
fn turn_away(
    outgoing: &mut impl Outgoing,
    turned_away: &TurnedAway,
    record: &mut Record,
) -> Outcome {
    record.fail(turned_away.reason, false);
    record.turn_away(turned_away.status);
    outgoing.refuse(turned_away.status, turned_away.retry_after);
    Outcome::TurnedAway
}

/// The body as the guest will read it. A small one is waited for, and so is any that the guest
/// takes whole.
async fn body(
    asked: &Asked,
    framing: Framing,
    pump: &mut Pump<'_, impl Incoming>,
) -> Result<(RequestBody, Option<Chunks>), Over> {
    let (left, small) = match framing {
        Framing::None => (Some(0), true),
        Framing::Length(length) => (Some(length), length <= SMALL_BODY_BYTES),
        Framing::Chunked => (None, false),
    };
    if !small && !asked.served.app.wants_whole_body() {
        let (sender, chunks) = mpsc::channel(1);
        return Ok((RequestBody::Streamed { chunks, left }, Some(sender)));
    }
    if !framing.has_content() {
        return Ok((RequestBody::whole(Bytes::new()), None));
    }
    match timeout_at(asked.deadline, pump.whole()).await {
        Ok(Ok(bytes)) => Ok((RequestBody::whole(bytes), None)),
        Ok(Err(broken)) => Err(Over::Broken(broken)),
        Err(_) => Err(Over::Broken(Broken::Late)),
    }
}

/// Runs the guest, lets its request body in and its response out, until all of it is done, the
/// client is gone or the time is up.
async fn converse(
    shared: &Rc<Shared>,
    asked: Asked,
    mut exchange: Exchange,
    (mut pump, chunks): (Pump<'_, impl Incoming>, Option<Chunks>),
    (outgoing, record): (&mut impl Outgoing, &mut Record),
) -> io::Result<Outcome> {
    let over = tokio::select! {
        biased;
        result = respond(shared, &asked, &mut exchange, (outgoing, record)) => result.err(),
        broken = pump.run(chunks) => Some(Over::Broken(broken)),
        () = tokio::time::sleep_until(asked.deadline) => Some(Over::Late),
    };
    match over {
        Some(over) => explain(&asked, over, outgoing, record),
        None => {
            record.done();
            finish(shared, exchange, &asked);
            Ok(Outcome::Responded)
        }
    }
}

/// Logs why there is no whole response, and tells the client if it has not seen the start of one.
fn explain(
    asked: &Asked,
    over: Over,
    outgoing: &mut impl Outgoing,
    record: &mut Record,
) -> io::Result<Outcome> {
    let Asked {
        served,
        method,
        target,
        ..
    } = asked;
    let app = served.name.as_str();
    let turned_away = match over {
        Over::Lost(error) => {
            record.fail(Reason::ClientGone, outgoing.has_begun());
            return Err(error);
        }
        Over::Failed(failure) => {
            tracing::warn!(app, "{method} {target}: {failure}");
            TurnedAway {
                retry_after: matches!(failure, Failure::Exhausted).then_some(RETRY_AFTER),
                ..TurnedAway::new(failure.status(), reason(&failure))
            }
        }
        Over::Late => {
            tracing::warn!(app, "{method} {target}: time limit reached");
            TurnedAway::new(StatusCode::GATEWAY_TIMEOUT, Reason::Timeout)
        }
        Over::Broken(broken) => {
            tracing::debug!(app, "{method} {target}: request body: {broken:?}");
            match broken {
                Broken::Gone => {
                    record.fail(Reason::ClientGone, outgoing.has_begun());
                    return Ok(Outcome::Cut);
                }
                Broken::Refused(refusal) => TurnedAway::new(refusal.status, Reason::Malformed),
                Broken::TooLarge => {
                    TurnedAway::new(StatusCode::PAYLOAD_TOO_LARGE, Reason::BodyTooLarge)
                }
                Broken::Late => TurnedAway::new(StatusCode::REQUEST_TIMEOUT, Reason::BodyTimeout),
            }
        }
    };
    if outgoing.has_begun() {
        record.fail(turned_away.reason, true);
        return Ok(Outcome::Cut);
    }
    Ok(turn_away(outgoing, &turned_away, record))
}

/// A guest may work on after its response; it does so beside the connection, within its deadline.
fn finish(shared: &Rc<Shared>, mut exchange: Exchange, asked: &Asked) {
    if exchange.is_finished() {
        return;
    }
    let (app, deadline) = (Rc::clone(&asked.served), asked.deadline);
    let shared = Rc::clone(shared);
    tokio::task::spawn_local(async move {
        match timeout_at(deadline, shared.at_work(exchange.finish())).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => tracing::warn!(app = app.name, "after the response: {failure}"),
            Err(_) => tracing::warn!(app = app.name, "after the response: time limit reached"),
        }
    });
}

/// Sends the guest's response as it is made.
async fn respond(
    shared: &Shared,
    asked: &Asked,
    exchange: &mut Exchange,
    (outgoing, record): (&mut impl Outgoing, &mut Record),
) -> Result<(), Over> {
    let response = record.at_work(shared, exchange.head());
    let response = unless_gone(outgoing, response).await??;
    let (head, mut body) = response.into_parts();
    outgoing.head(&head, length(&body)).map_err(|error| {
        tracing::debug!("the response cannot be sent: {error}");
        bad(error)
    })?;
    record.respond(&head);
    let mut left = asked.served.limits.response_body.unwrap_or(u64::MAX);
    loop {
        let frame = record.at_work(shared, exchange.frame(&mut body));
        let frame = if outgoing.holds_back() {
            match at_once(frame).await {
                Some(frame) => frame,
                None => {
                    outgoing.flush().await?;
                    continue;
                }
            }
        } else {
            unless_gone(outgoing, frame).await?
        };
        let Some(frame) = frame else { break };
        // Trailers are not passed on.
        let data = frame?.into_data().unwrap_or_default();
        left = left
            .checked_sub(data.len() as u64)
            .ok_or(Failure::BadResponse(
                "it is longer than response-body-limit",
            ))?;
        let bytes = data.len();
        outgoing.data(data).await?;
        record.sent(bytes);
    }
    Ok(outgoing.end().await?)
}

/// Lets the guest work while the client is there.
async fn unless_gone<T>(
    outgoing: &mut impl Outgoing,
    guest: impl Future<Output = T>,
) -> io::Result<T> {
    tokio::select! {
        biased;
        made = guest => Ok(made),
        error = outgoing.gone() => Err(error),
    }
}

fn length(body: &ResponseBody) -> BodyLength {
    if body.is_end_stream() {
        return BodyLength::None;
    }
    body.size_hint()
        .exact()
        .map_or(BodyLength::Unknown, BodyLength::Known)
}

/// The value of a future if it has one now.
async fn at_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
