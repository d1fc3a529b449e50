//! Defines how one request is answered, whatever protocol it came by: routed, admitted, run in a
//! guest, and its response sent while the guest still makes it.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery};
use http::{Method, StatusCode};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::admission::Permit;
use super::client::Client;
use super::patience::Pace;
use super::pump::{Ahead, Chunks, Pump};
use super::record::{Record, reason};
use super::respond::{Over, Sent, after_response, respond};
use super::shared::{InFlight, Served, Shared};
use super::side::{Broken, Incoming, Outgoing, Request};
use crate::access::Reason;
use crate::host::{Exchange, Failure, RequestBody};
use crate::http::head::Framing;
use crate::http::refusal::Refusal;

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
    /// What its app may take.
    time: Duration,
}

/// A request that a guest answers.
struct Running {
    asked: Asked,
    exchange: Exchange,
    pace: Rc<Pace>,
    /// When the guest's time is up, but for the time that the client takes.
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

    /// For want of something that there will be again.
    fn for_now(reason: Reason) -> Self {
        Self {
            retry_after: Some(RETRY_AFTER),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, reason)
        }
    }
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
    if let Err(refusal) = resolve(shared, client, &mut request, record) {
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
    // A worker that serves one request at a time has nobody else to serve while it waits.
    let pace = Rc::new(Pace::new(!shared.room.keeps_connections()));
    let mut pump = Pump::new(incoming, limit, shared, &pace);
    let (body, chunks) = match body(shared, &asked, request.framing, &mut pump).await {
        Ok(body) => body,
        Err(over) => return explain(&asked, over, outgoing, record),
    };
    let deadline = Instant::now() + asked.time;
    let turn = match admit(shared, &asked, deadline, &mut pump, (outgoing, record)).await {
        Ok(turn) => turn,
        Err(over) => return explain(&asked, over, outgoing, record),
    };
    let Some(permit) = turn else {
        let Asked {
            served,
            method,
            target,
            ..
        } = &asked;
        tracing::warn!(app = served.name, "{method} {target}: the queue is full");
        let full = TurnedAway::for_now(Reason::QueueFull);
        return Ok(turn_away(outgoing, &full, record));
    };
    record.enter(shared, &asked.served, (&request, &target), true);
    let in_flight = InFlight::new(shared, record.place());
    let request = http::Request::from_parts(request.parts, body);
    let held = (
        permit,
        in_flight,
        pace.hold_instance(asked.served.gate.id()),
    );
    let exchange = asked.served.app.answer(request, held, record.usage());
    let running = Running {
        asked,
        exchange,
        pace,
        deadline,
    };
    converse(shared, running, (pump, chunks), (outgoing, record)).await
}

/// Waits for leave to run a guest; `None` if there is none. Whoever goes away meanwhile holds no place in
/// the queue.
async fn admit(
    shared: &Shared,
    asked: &Asked,
    deadline: Instant,
    pump: &mut Pump<'_, impl Incoming>,
    (outgoing, record): (&mut impl Outgoing, &mut Record),
) -> Result<Option<Permit>, Over> {
    let turn = async {
        // There would be none for its response either.
        let has_memory = || !shared.memory.is_short();
        if !shared.waiting.until_there_is_memory(has_memory).await {
            return Err(Over::Broken(Broken::NoRoom));
        }
        let turn = timeout_at(deadline, asked.served.gate.enter(&shared.waiting));
        Ok(turn.await.ok().flatten())
    };
    tokio::select! {
        biased;
        error = outgoing.gone() => Err(Over::Lost(error)),
        turn = record.in_queue(turn) => turn,
        broken = pump.watch() => Err(Over::Broken(broken)),
    }
}

/// Puts what is known of the client into its request, and into its record.
fn resolve(
    shared: &Shared,
    client: &Client,
    request: &mut Request,
    record: &mut Record,
) -> Result<(), Refusal> {
    let (parts, authority) = (&mut request.parts, &mut request.authority);
    let forwarding = &shared.forwarding;
    let found = forwarding.resolve(parts, authority, &client.forwarder, &client.scheme)?;
    record.came_from(found);
    Ok(())
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
        time: served.limits.timeout.unwrap_or(FOR_EVER),
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

/// The body as the guest will read it. Its beginning is waited for, so that a client that has only
/// begun to send takes no instance from others; all of it is, if the guest takes it whole.
async fn body(
    shared: &Shared,
    asked: &Asked,
    framing: Framing,
    pump: &mut Pump<'_, impl Incoming>,
) -> Result<(RequestBody, Option<Chunks>), Over> {
    let left = match framing {
        Framing::None => Some(0),
        Framing::Length(length) => Some(length),
        Framing::Chunked => None,
    };
    let most = asked.served.limits.read_ahead;
    let takes_all = asked.served.app.wants_whole_body() || left.is_some_and(|left| left <= most);
    let ahead = pump.ahead(if takes_all { u64::MAX } else { most });
    let ahead = match shared.min_body_rate {
        Some(_) if shared.room.keeps_connections() => ahead.await,
        Some(_) | None => timeout(asked.time, ahead)
            .await
            .unwrap_or(Err(Broken::Late)),
    };
    let Ahead { bytes, is_whole } = ahead.map_err(Over::Broken)?;
    if is_whole {
        return Ok((RequestBody::whole(bytes), None));
    }
    let (sender, chunks) = mpsc::channel(1);
    if !bytes.is_empty() {
        // There is room for one.
        let _ = sender.try_send(Ok(bytes));
    }
    let starved = Arc::default();
    let body = RequestBody::Streamed {
        chunks,
        left,
        starved: Arc::clone(&starved),
    };
    Ok((body, Some(Chunks { sender, starved })))
}

/// Runs the guest, lets its request body in and its response out, until all of it is done, the
/// client is gone or the time is up.
async fn converse(
    shared: &Rc<Shared>,
    mut running: Running,
    (mut pump, chunks): (Pump<'_, impl Incoming>, Option<Chunks>),
    (outgoing, record): (&mut impl Outgoing, &mut Record),
) -> io::Result<Outcome> {
    let Running { pace, deadline, .. } = &running;
    let (pace, deadline) = (Rc::clone(pace), *deadline);
    let response = respond(
        (shared, &pace),
        &running.asked.served,
        &mut running.exchange,
        (outgoing, record),
    );
    let sent = tokio::select! {
        biased;
        sent = response => sent,
        broken = pump.run(chunks) => Err(Over::Broken(broken)),
        () = pace.time_is_up(deadline) => Err(Over::Late),
    };
    match sent {
        Err(over) => explain(&running.asked, over, outgoing, record),
        Ok(sent) => {
            record.done();
            finish(shared, running, sent);
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
                Broken::MadeWay => {
                    tracing::warn!(app, "{method} {target}: the client is slow and others wait");
                    TurnedAway::new(StatusCode::REQUEST_TIMEOUT, Reason::SlowClient)
                }
                Broken::NoRoom => {
                    tracing::warn!(app, "{method} {target}: no body-memory is left");
                    TurnedAway::for_now(Reason::BodyMemory)
                }
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
fn finish(shared: &Rc<Shared>, running: Running, sent: Sent) {
    let Running {
        asked,
        mut exchange,
        pace,
        deadline,
    } = running;
    if exchange.is_finished() {
        return;
    }
    let deadline = pace.deadline(deadline);
    let shared = Rc::clone(shared);
    tokio::task::spawn_local(async move {
        let app = &asked.served.name;
        match timeout_at(deadline, shared.at_work(exchange.finish())).await {
            Ok(Ok(())) => {}
            // Many guests take that for the end of all.
            Ok(Err(failure @ Failure::Trap(_))) if sent == Sent::Head => {
                tracing::debug!(app, "its body was not wanted: {failure}");
            }
            Ok(Err(failure)) => after_response(app, &failure),
            Err(_) => after_response(app, &"time limit reached"),
        }
    });
}
