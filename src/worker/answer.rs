//! Defines how one request is answered: routed, admitted, run in a guest, and its response written
//! while the guest still makes it.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use http_body::Body;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::connection::{Connection, Next};
use super::pump::{Broken, Pump};
use super::shared::{InFlight, SERVER, Served, Shared};
use super::wire::Wire;
use crate::host::{Exchange, Failure, RequestBody, ResponseBody};
use crate::http::body::BodyDecoder;
use crate::http::head::{Framing, Head, Version};
use crate::http::response::{BodyLength, ResponseHead};
use crate::http::response_body::BodyEncoder;

/// What a client is told before it sends a body that it asked about (RFC 9110 section 10.1.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// A body up to this size is waited for before an instance is made, so that a slow client holds
/// none. In bytes.
const SMALL_BODY_BYTES: u64 = 64 << 10;
/// Output that is worth a write of its own, in bytes.
const WRITE_BYTES: usize = 16 << 10;
/// Seconds after which a client that was turned away may try again.
const RETRY_AFTER: u64 = 1;
/// Stands in for a deadline where the app has none.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// A request, as far as its answer depends on it.
struct Asked {
    served: Rc<Served>,
    method: Method,
    path: String,
    version: Version,
    keep_alive: bool,
    deadline: Instant,
}

/// Why a response did not come to its end.
enum Ended {
    /// The client or the network.
    Lost(io::Error),
    /// The guest, and whether the client has seen the beginning of a response.
    Failed { failure: Failure, begun: bool },
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// Answers one request.
pub(super) async fn answer(connection: &mut Connection, head: Head) -> io::Result<Next> {
    let head_only = head.method == Method::HEAD;
    let host = head.authority.as_ref().map_or("", |authority| authority.host());
    let Some(served) = connection.shared.routes.find(host, head.path_and_query.path()).cloned() else {
        return Ok(turn_away(connection, StatusCode::NOT_FOUND, head_only, None));
    };
    let limit = if served.app.wants_whole_body() {
        let whole = served.limits.buffered_body;
        Some(served.limits.request_body.map_or(whole, |limit| limit.min(whole)))
    } else {
        served.limits.request_body
    };
    if let (Framing::Length(length), Some(limit)) = (head.framing, limit)
        && length > limit
    {
        return Ok(turn_away(connection, StatusCode::PAYLOAD_TOO_LARGE, head_only, None));
    }
    let asked = Asked {
        deadline: Instant::now() + served.limits.timeout.unwrap_or(FOR_EVER),
        method: head.method.clone(),
        path: head.path_and_query.as_str().to_owned(),
        version: head.version,
        keep_alive: head.keep_alive,
        served,
    };
    admit(connection, head, asked, limit).await
}

/// Ends a request that no guest sees.
fn turn_away(connection: &mut Connection, status: StatusCode, head_only: bool, retry: Option<u64>) -> Next {
    connection.refuse(status, head_only, retry);
    Next::Close
}

/// Gets the request its place, and its body if that is small.
async fn admit(connection: &mut Connection, head: Head, asked: Asked, limit: Option<u64>) -> io::Result<Next> {
    let head_only = asked.method == Method::HEAD;
    if head.expect_continue && connection.input.data().is_empty() {
        connection.output.extend_from_slice(CONTINUE);
        connection.wire.write(&mut connection.output, &[]).await?;
    }
    let mut pump = Pump::new(BodyDecoder::new(head.framing, &connection.shared.http), limit);
    let whole = match head.framing {
        Framing::None => true,
        Framing::Length(length) => length <= SMALL_BODY_BYTES || asked.served.app.wants_whole_body(),
        Framing::Chunked => asked.served.app.wants_whole_body(),
    };
    let mut body = None;
    if whole && head.framing.has_content() {
        let arrival = timeout_at(asked.deadline, pump.whole(&connection.wire, &mut connection.input));
        match arrival.await {
            Ok(Ok(bytes)) => body = Some(RequestBody::whole(bytes)),
            Ok(Err(broken)) => return Ok(refuse_broken(connection, &broken, head_only)),
            Err(_) => return Ok(turn_away(connection, StatusCode::REQUEST_TIMEOUT, head_only, None)),
        }
    } else if whole {
        body = Some(RequestBody::whole(Bytes::new()));
    }
    let permit = match timeout_at(asked.deadline, asked.served.gate.enter()).await {
        Ok(Some(permit)) => permit,
        Ok(None) | Err(_) => {
            tracing::warn!(app = asked.served.name, "{} {}: the queue is full", asked.method, asked.path);
            return Ok(turn_away(connection, StatusCode::SERVICE_UNAVAILABLE, head_only, Some(RETRY_AFTER)));
        }
    };
    let (body, chunks) = match body {
        Some(body) => (body, None),
        None => {
            let (sender, chunks) = mpsc::channel(1);
            (RequestBody::Streamed { chunks, left: pump_length(head.framing) }, Some(sender))
        }
    };
    let in_flight = InFlight::new(&connection.shared, &asked.served.name, asked.method.as_str(), &asked.path);
    let exchange = asked.served.app.answer(request(head, body), (permit, in_flight));
    converse(connection, asked, exchange, pump, chunks).await
}

fn pump_length(framing: Framing) -> Option<u64> {
    match framing {
        Framing::None => Some(0),
        Framing::Length(length) => Some(length),
        Framing::Chunked => None,
    }
}

fn request(head: Head, body: RequestBody) -> http::Request<RequestBody> {
    let mut request = http::Request::new(body);
    *request.uri_mut() = head.uri(http::uri::Scheme::HTTP);
    *request.method_mut() = head.method;
    *request.headers_mut() = head.headers;
    request
}

fn refuse_broken(connection: &mut Connection, broken: &Broken, head_only: bool) -> Next {
    match broken {
        Broken::Gone => Next::Cut,
        Broken::Refused(refusal) => turn_away(connection, refusal.status, head_only, None),
        Broken::TooLarge => turn_away(connection, StatusCode::PAYLOAD_TOO_LARGE, head_only, None),
    }
}

/// Runs the guest, lets its request body in and its response out, until all of it is done, the
/// client is gone or the time is up.
async fn converse(
    connection: &mut Connection,
    asked: Asked,
    mut exchange: Exchange,
    mut pump: Pump,
    chunks: Option<mpsc::Sender<Result<Bytes, wasmtime_wasi_http::Error>>>,
) -> io::Result<Next> {
    let head_only = asked.method == Method::HEAD;
    let mut begun = false;
    let ended = {
        let Connection { shared, wire, input, output, .. } = &mut *connection;
        let mut respond = pin!(respond(shared, wire, output, &asked, &mut exchange, &mut begun));
        let mut watch = pin!(pump.run(wire, input, chunks));
        tokio::select! {
            biased;
            result = &mut respond => Ok(result),
            broken = &mut watch => Err(Some(broken)),
            () = tokio::time::sleep_until(asked.deadline) => Err(None),
        }
    };
    let app = asked.served.name.as_str();
    let (method, path) = (&asked.method, &asked.path);
    match ended {
        Ok(Ok(keep_alive)) => {
            finish(exchange, &asked);
            // What is left of the request would be taken for the next one.
            Ok(if keep_alive && pump.is_end() { Next::Reuse } else { Next::Close })
        }
        Ok(Err(Ended::Lost(error))) => Err(error),
        Ok(Err(Ended::Failed { failure, begun })) => {
            tracing::warn!(app, "{method} {path}: {failure}");
            let retry = matches!(failure, Failure::Exhausted).then_some(RETRY_AFTER);
            Ok(if begun { Next::Cut } else { turn_away(connection, failure.status(), head_only, retry) })
        }
        Err(None) => {
            tracing::warn!(app, "{method} {path}: time limit reached");
            Ok(if begun { Next::Cut } else { replace(connection, StatusCode::GATEWAY_TIMEOUT, head_only) })
        }
        Err(Some(broken)) => {
            tracing::debug!(app, "{method} {path}: request body: {broken:?}");
            Ok(if begun { Next::Cut } else { refuse_broken(connection, &broken, head_only) })
        }
    }
}

/// Puts our own answer in place of what was not yet written of the guest's.
fn replace(connection: &mut Connection, status: StatusCode, head_only: bool) -> Next {
    connection.output.clear();
    turn_away(connection, status, head_only, None)
}

/// A guest may work on after its response; it does so beside the connection, within its deadline.
fn finish(mut exchange: Exchange, asked: &Asked) {
    if exchange.is_finished() {
        return;
    }
    let (app, deadline) = (Rc::clone(&asked.served), asked.deadline);
    tokio::task::spawn_local(async move {
        match timeout_at(deadline, exchange.finish()).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => tracing::warn!(app = app.name, "after the response: {failure}"),
            Err(_) => tracing::warn!(app = app.name, "after the response: time limit reached"),
        }
    });
}

/// Writes the guest's response as it is made. Answers whether the connection may be used again.
async fn respond(
    shared: &Rc<Shared>,
    wire: &Wire,
    output: &mut BytesMut,
    asked: &Asked,
    exchange: &mut Exchange,
    begun: &mut bool,
) -> Result<bool, Ended> {
    let unbegun = |failure| Ended::Failed { failure, begun: false };
    let response = exchange.head().await.map_err(unbegun)?;
    let (parts, mut body) = response.into_parts();
    let head = ResponseHead {
        status: parts.status,
        headers: &parts.headers,
        version: asked.version,
        head_request: asked.method == Method::HEAD,
        keep_alive: asked.keep_alive && shared.keeps_connections(),
        body: length(&body),
        date: &shared.date(),
        server: Some(SERVER),
    };
    let mut encoder = head.encode(output).map_err(|error| {
        tracing::debug!("the response cannot be sent: {error}");
        unbegun(Failure::BadResponse("its head cannot be sent"))
    })?;
    if let Err(ended) = stream(wire, output, asked, exchange, (&mut body, &mut encoder), begun).await {
        // Nothing of it was sent: the client can still be told what happened.
        if !*begun {
            output.clear();
        }
        return Err(ended);
    }
    Ok(!encoder.must_close())
}

/// Writes the body; small responses leave in one write with their head.
async fn stream(
    wire: &Wire,
    output: &mut BytesMut,
    asked: &Asked,
    exchange: &mut Exchange,
    (body, encoder): (&mut ResponseBody, &mut BodyEncoder),
    begun: &mut bool,
) -> Result<(), Ended> {
    let mut left = asked.served.limits.response_body.unwrap_or(u64::MAX);
    loop {
        let frame = if output.is_empty() {
            exchange.frame(body).await
        } else {
            match at_once(exchange.frame(body)).await {
                Some(frame) => frame,
                None => {
                    *begun = true;
                    wire.write(output, &[]).await?;
                    continue;
                }
            }
        };
        let failed = |failure, begun| Ended::Failed { failure, begun };
        let data = match frame {
            None => break,
            Some(Err(failure)) => return Err(failed(failure, *begun)),
            // Trailers are not passed on.
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        let bad = |reason| failed(Failure::BadResponse(reason), *begun);
        left = left.checked_sub(data.len() as u64).ok_or_else(|| bad("it is longer than response-body-limit"))?;
        let framed = encoder.encode(data.len()).map_err(|_| bad("it is longer than its Content-Length"))?;
        if !framed.send() {
            continue;
        }
        output.extend_from_slice(framed.prefix());
        if data.len() < WRITE_BYTES {
            output.extend_from_slice(&data);
        } else {
            *begun = true;
            wire.write(output, &data).await?;
        }
        output.extend_from_slice(framed.suffix());
        if output.len() >= WRITE_BYTES {
            *begun = true;
            wire.write(output, &[]).await?;
        }
    }
    let end = encoder.finish().map_err(|_| Ended::Failed {
        failure: Failure::BadResponse("it is shorter than its Content-Length"),
        begun: *begun,
    })?;
    output.extend_from_slice(end);
    *begun = true;
    Ok(wire.write(output, &[]).await?)
}

fn length(body: &ResponseBody) -> BodyLength {
    if body.is_end_stream() {
        return BodyLength::None;
    }
    body.size_hint().exact().map_or(BodyLength::Unknown, BodyLength::Known)
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
