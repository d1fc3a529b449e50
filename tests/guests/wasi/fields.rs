//! Defines an app that tries out fields that it should not be able to set, and answers with a line
//! for each, `NAME: ` and what the host said: `ok`, or the error.

use wasip2::http::types::{Fields, IncomingRequest, ResponseOutparam};

guests::wasi!(handle);

const ATTEMPTS: &[(&str, &[u8])] = &[
    ("connection", b"close"),
    ("keep-alive", b"timeout=1000"),
    ("proxy-connection", b"close"),
    ("transfer-encoding", b"chunked"),
    ("upgrade", b"websocket"),
    ("host", b"elsewhere"),
    ("http2-settings", b"x"),
    ("x bad", b"one"),
    ("", b"one"),
    ("x-crlf", b"one\r\nx-smuggled: two"),
    ("x-nul", b"one\0two"),
    ("x-good", b"one"),
];

fn handle(_: IncomingRequest, outparam: ResponseOutparam) {
    let lines = ATTEMPTS
        .iter()
        .map(|(name, value)| match Fields::new().append(name, value) {
            Ok(()) => format!("{name}: ok\n"),
            Err(error) => format!("{name}: {error:?}\n"),
        });
    guests::answer(outparam, 200, lines.collect::<String>());
}
