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
    /// The guest.
    Failed(Failure),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// Answers one request.
pub(super) async fn answer(connection: &mut Connection, head: Head) -> io::Result<Next> {
    let head_only = head.method == Method::HEAD;
    let host = head
        .authority
        .as_ref()
        .map_or("", |authority| authority.host());
    let Some(served) = connection
        .shared
        .routes
        .find(host, head.path_and_query.path())
        .cloned()
    else {
        return Ok(turn_away(
            connection,
            StatusCode::NOT_FOUND,
            head_only,
            None,
        ));
    };
    let limit = if served.app.wants_whole_body() {
        let whole = served.limits.buffered_body;
        Some(
            served
                .limits
                .request_body
                .map_or(whole, |limit| limit.min(whole)),
        )
    } else {
        served.limits.request_body
    };
    if let (Framing::Length(length), Some(limit)) = (head.framing, limit)
        && length > limit
    {
        return Ok(turn_away(
            connection,
            StatusCode::PAYLOAD_TOO_LARGE,
            head_only,
            None,
        ));
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
fn turn_away(
    connection: &mut Connection,
    status: StatusCode,
    head_only: bool,
    retry: Option<u64>,
) -> Next {
    connection.refuse(status, head_only, retry);
    Next::Close
}

/// Gets the request its body, as far as that is waited for, and its place.
async fn admit(
    connection: &mut Connection,
    head: Head,
    asked: Asked,
    limit: Option<u64>,
) -> io::Result<Next> {
    let head_only = asked.method == Method::HEAD;
    if head.expect_continue && connection.input.data().is_empty() {
        connection.output.extend_from_slice(CONTINUE);
        connection.wire.write(&mut connection.output, &[]).await?;
    }
    let mut pump = Pump::new(
        BodyDecoder::new(head.framing, &connection.shared.http),
        limit,
    );
    let (body, chunks) = match body(connection, &asked, head.framing, &mut pump).await {
        Ok(body) => body,
        Err(next) => return Ok(next),
    };
    let Ok(Some(permit)) = timeout_at(asked.deadline, asked.served.gate.enter()).await else {
        tracing::warn!(
            app = asked.served.name,
            "{} {}: the queue is full",
            asked.method,
            asked.path
        );
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return Ok(turn_away(connection, status, head_only, Some(RETRY_AFTER)));
    };
    let name = &asked.served.name;
    let in_flight = InFlight::new(&connection.shared, name, asked.method.as_str(), &asked.path);
    let exchange = asked
        .served
        .app
        .answer(request(head, body), (permit, in_flight));
    converse(connection, asked, exchange, pump, chunks).await
}

/// Where the chunks of a body go that arrives while the guest runs.
type Chunks = Option<mpsc::Sender<Result<Bytes, wasmtime_wasi_http::Error>>>;

/// The body as the guest will read it. A small one is waited for, and so is any that the guest
/// takes whole.
async fn body(
    connection: &mut Connection,
    asked: &Asked,
    framing: Framing,
    pump: &mut Pump,
) -> Result<(RequestBody, Chunks), Next> {
    let (length, small) = match framing {
        Framing::None => (Some(0), true),
        Framing::Length(length) => (Some(length), length <= SMALL_BODY_BYTES),
        Framing::Chunked => (None, false),
    };
    if !small && !asked.served.app.wants_whole_body() {
        let (sender, chunks) = mpsc::channel(1);
        return Ok((
            RequestBody::Streamed {
                chunks,
                left: length,
            },
            Some(sender),
        ));
    }
    if !framing.has_content() {
        return Ok((RequestBody::whole(Bytes::new()), None));
    }
    let head_only = asked.method == Method::HEAD;
    let arrival = pump.whole(&connection.wire, &mut connection.input);
    match timeout_at(asked.deadline, arrival).await {
        Ok(Ok(bytes)) => Ok((RequestBody::whole(bytes), None)),
        Ok(Err(broken)) => Err(refuse_broken(connection, &broken, head_only)),
        Err(_) => Err(turn_away(
            connection,
            StatusCode::REQUEST_TIMEOUT,
            head_only,
            None,
        )),
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

/// Why a conversation with a guest is over.
enum Over {
    /// The response is out; whether the connection may be used again.
    Responded(bool),
    /// The response did not come to its end.
    Ended(Ended),
    /// The request did not come to its end.
    Broken(Broken),
    /// The time is up.
    Late,
}

/// Runs the guest, lets its request body in and its response out, until all of it is done, the
/// client is gone or the time is up.
async fn converse(
    connection: &mut Connection,
    asked: Asked,
    mut exchange: Exchange,
    mut pump: Pump,
    chunks: Chunks,
) -> io::Result<Next> {
    let mut begun = false;
    let over = {
        let Connection {
            shared,
            wire,
            input,
            output,
            ..
        } = &mut *connection;
        let respond = respond(shared, wire, output, &asked, &mut exchange, &mut begun);
        tokio::select! {
            biased;
            result = respond => result.map_or_else(Over::Ended, Over::Responded),
            broken = pump.run(wire, input, chunks) => Over::Broken(broken),
            () = tokio::time::sleep_until(asked.deadline) => Over::Late,
        }
    };
    if let Over::Responded(keep_alive) = over {
        finish(&connection.shared, exchange, &asked);
        return Ok(match (pump.is_end(), keep_alive) {
            (true, true) => Next::Reuse,
            (true, false) if !asked.keep_alive && connection.input.data().is_empty() => Next::Leave,
            // What is left of the request would be taken for the next one.
            (true | false, _) => Next::Close,
        });
    }
    explain(connection, &asked, over, begun)
}

/// Logs why there is no whole response, and tells the client if it has not seen the start of one.
fn explain(
    connection: &mut Connection,
    asked: &Asked,
    over: Over,
    begun: bool,
) -> io::Result<Next> {
    let (app, method, path) = (asked.served.name.as_str(), &asked.method, &asked.path);
    let mut retry = None;
    let status = match over {
        Over::Responded(_) => return Ok(Next::Close),
        Over::Ended(Ended::Lost(error)) => return Err(error),
        Over::Ended(Ended::Failed(failure)) => {
            tracing::warn!(app, "{method} {path}: {failure}");
            retry = matches!(failure, Failure::Exhausted).then_some(RETRY_AFTER);
            failure.status()
        }
        Over::Late => {
            tracing::warn!(app, "{method} {path}: time limit reached");
            StatusCode::GATEWAY_TIMEOUT
        }
        Over::Broken(broken) => {
            tracing::debug!(app, "{method} {path}: request body: {broken:?}");
            match (begun, broken) {
                (true, _) | (false, Broken::Gone) => return Ok(Next::Cut),
                (false, Broken::Refused(refusal)) => refusal.status,
                (false, Broken::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            }
        }
    };
    if begun {
        return Ok(Next::Cut);
    }
    // What there is of the guest's own response was not written.
    connection.output.clear();
    Ok(turn_away(
        connection,
        status,
        asked.method == Method::HEAD,
        retry,
    ))
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

/// Writes the guest's response as it is made. Answers whether the connection may be used again.
async fn respond(
    shared: &Rc<Shared>,
    wire: &Wire,
    output: &mut BytesMut,
    asked: &Asked,
    exchange: &mut Exchange,
    begun: &mut bool,
) -> Result<bool, Ended> {
    let response = shared
        .at_work(exchange.head())
        .await
        .map_err(Ended::Failed)?;
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
        Ended::Failed(Failure::BadResponse("its head cannot be sent"))
    })?;
    let to = (wire, output);
    stream(
        shared,
        to,
        asked,
        exchange,
        (&mut body, &mut encoder),
        begun,
    )
    .await?;
    Ok(!encoder.must_close())
}

/// Writes the body; small responses leave in one write with their head.
async fn stream(
    shared: &Shared,
    (wire, output): (&Wire, &mut BytesMut),
    asked: &Asked,
    exchange: &mut Exchange,
    (body, encoder): (&mut ResponseBody, &mut BodyEncoder),
    begun: &mut bool,
) -> Result<(), Ended> {
    let mut left = asked.served.limits.response_body.unwrap_or(u64::MAX);
    loop {
        let frame = if output.is_empty() {
            shared.at_work(exchange.frame(body)).await
        } else {
            match at_once(shared.at_work(exchange.frame(body))).await {
                Some(frame) => frame,
                None => {
                    *begun = true;
                    wire.write(output, &[]).await?;
                    continue;
                }
            }
        };
        let data = match frame {
            None => break,
            Some(Err(failure)) => return Err(Ended::Failed(failure)),
            // Trailers are not passed on.
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        let bad = |reason| Ended::Failed(Failure::BadResponse(reason));
        left = left
            .checked_sub(data.len() as u64)
            .ok_or_else(|| bad("it is longer than response-body-limit"))?;
        let framed = encoder
            .encode(data.len())
            .map_err(|_| bad("it is longer than its Content-Length"))?;
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
    let end = encoder.finish().map_err(|_| {
        Ended::Failed(Failure::BadResponse(
            "it is shorter than its Content-Length",
        ))
    })?;
    output.extend_from_slice(end);
    *begun = true;
    Ok(wire.write(output, &[]).await?)
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
