//! Defines an app that answers with fields that it should not: `?kind=` names which.

use rgunicorn_guest::{Request, Response};

rgunicorn_guest::serve!(app);

fn app(request: Request) -> Response {
    let response = Response::text("fields\n");
    match request.parameter("kind").as_deref() {
        Some("crlf") => response.with_header("x-bad", "one\r\nx-smuggled: two"),
        Some("lf") => response.with_header("x-bad", "one\nx-smuggled: two"),
        Some("nul") => response.with_header("x-bad", "one\0two"),
        Some("name") => response.with_header("x bad", "one"),
        Some("colon") => response.with_header("x-bad: one\r\nx-smuggled", "two"),
        Some("empty") => response.with_header("", "one"),
        Some("big") => response.with_header("x-big", vec![b'x'; 1 << 20]),
        Some("many") => (0..10_000).fold(response, |response, n| {
            response.with_header(&format!("x-{n}"), "one")
        }),
        Some("framing") => response
            .with_header("Content-Length", "1000")
            .with_header("Transfer-Encoding", "gzip, chunked")
            .with_header("Connection", "close")
            .with_header("Keep-Alive", "timeout=1000")
            .with_header("Upgrade", "websocket")
            .with_header("Date", "yesterday"),
        Some("server") => response.with_header("Server", "guest"),
        Some("good") => response
            .with_header("X-Two", "first")
            .with_header("X-Two", "second")
            .with_header("x-empty", ""),
        other => panic!("no such kind: {other:?}"),
    }
}
