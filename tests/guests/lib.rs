//! Defines what the guests for `wasi:http` share: their export, their parameters, and a response
//! body that is easy to write. Nothing in here is a behaviour of its own.

use std::fmt::Display;
use std::str::FromStr;

use wasip2::cli::{stderr, stdout};
use wasip2::clocks::monotonic_clock;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

/// The most that one read asks for, in bytes.
pub const READ_MAX: u64 = 64 * 1024;

/// Makes the named function, from a request and its outparam, the app for
/// `wasi:http/incoming-handler`.
#[macro_export]
macro_rules! wasi {
    ($handle:path) => {
        struct App;

        impl wasip2::exports::http::incoming_handler::Guest for App {
            fn handle(
                request: wasip2::http::types::IncomingRequest,
                outparam: wasip2::http::types::ResponseOutparam,
            ) {
                $handle(request, outparam);
            }
        }

        wasip2::http::proxy::export!(App);
    };
}

/// The decoded value of a query parameter.
pub fn parameter(request: &IncomingRequest, name: &str) -> Option<String> {
    let target = request.path_with_query().unwrap_or_default();
    rgunicorn_guest::Request::new("GET", &target).parameter(name)
}

/// A query parameter of the type that `default` has. Traps when it is there and is none, so that a
/// test with a slip of the pen does not pass.
pub fn number<T: FromStr>(request: &IncomingRequest, name: &str, default: T) -> T {
    match parameter(request, name) {
        Some(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
        None => default,
    }
}

/// A response body whose head has been handed to the host. Dropped without
/// [`finish`](Body::finish), it is cut off.
pub struct Body {
    // Dropped in this order: a stream is the child of its body.
    stream: OutputStream,
    body: OutgoingBody,
}

impl Body {
    /// Writes all of `bytes`, waiting for room as often as needed.
    pub fn write(&self, mut bytes: &[u8]) -> Result<(), StreamError> {
        while !bytes.is_empty() {
            let room = usize::try_from(self.stream.check_write()?).unwrap_or(usize::MAX);
            if room == 0 {
                self.stream.subscribe().block();
                continue;
            }
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.stream.write(now)?;
            bytes = rest;
        }
        Ok(())
    }

    /// Waits until the host has taken all that was written.
    pub fn flush(&self) -> Result<(), StreamError> {
        self.stream.blocking_flush()
    }

    /// Writes a line and waits until the host has taken it.
    pub fn line(&self, line: impl Display) -> Result<(), StreamError> {
        self.write(format!("{line}\n").as_bytes())?;
        self.flush()
    }

    /// Moves all of `from` to the client.
    pub fn copy(&self, from: &InputStream) -> Result<(), StreamError> {
        loop {
            match self.stream.blocking_splice(from, READ_MAX) {
                Ok(_) => {}
                Err(StreamError::Closed) => return Ok(()),
                Err(failed) => return Err(failed),
            }
        }
    }

    /// Says that the body is whole, with these trailers. What the host has against it is its own
    /// affair: it is the server's answer that the tests look at.
    pub fn finish(self, trailers: Option<Fields>) {
        let Self { stream, body } = self;
        drop(stream);
        let _ = OutgoingBody::finish(body, trailers);
    }
}

/// Hands the head to the host and returns the body that follows.
pub fn begin(outparam: ResponseOutparam, status: u16, fields: &[(&str, &str)]) -> Body {
    let list: Vec<_> = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
        .collect();
    let response = OutgoingResponse::new(Fields::from_list(&list).expect("the fields are allowed"));
    response
        .set_status_code(status)
        .expect("the status is allowed");
    let body = response.body().expect("a new response has a body");
    ResponseOutparam::set(outparam, Ok(response));
    let stream = body.write().expect("a new body has a stream");
    Body { stream, body }
}

/// Answers with plain text.
pub fn answer(outparam: ResponseOutparam, status: u16, text: impl Display) {
    let body = begin(
        outparam,
        status,
        &[("content-type", "text/plain; charset=utf-8")],
    );
    // Fails only when the client is gone.
    let _ = body.write(text.to_string().as_bytes());
    body.finish(None);
}

/// Waits in a call to the host.
pub fn sleep_ms(milliseconds: u64) {
    monotonic_clock::subscribe_duration(milliseconds * 1_000_000).block();
}

/// The byte at `offset` of the bodies that have no meaning.
pub fn filler(offset: u64) -> u8 {
    b'a' + u8::try_from(offset % 26).expect("less than 26")
}

/// Writes a line to the guest's standard output.
pub fn print(line: impl Display) {
    let _ = stdout::get_stdout().blocking_write_and_flush(format!("{line}\n").as_bytes());
}

/// Writes a line to the guest's standard error.
pub fn print_error(line: impl Display) {
    let _ = stderr::get_stderr().blocking_write_and_flush(format!("{line}\n").as_bytes());
}

/// Ends the instance with a trap.
pub fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    unreachable!("guests run in wasm");
}

/// Runs for ever in the guest's own code.
pub fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns).wrapping_add(1);
    }
}

/// Grows the memory by a mebibyte as often as asked, touches each page, and returns how often it
/// was allowed.
pub fn grow_mib(times: u64) -> u64 {
    const PAGES: usize = 16;
    (0..times)
        .take_while(|_| grow(PAGES))
        .fold(0, |grown, _| grown + 1)
}

#[cfg(target_arch = "wasm32")]
fn grow(pages: usize) -> bool {
    const PAGE_BYTES: usize = 64 * 1024;
    let before = core::arch::wasm32::memory_grow(0, pages);
    if before == usize::MAX {
        return false;
    }
    for page in before..before + pages {
        // SAFETY: the page was just added, so it is there, and nothing else refers to it.
        unsafe { ((page * PAGE_BYTES) as *mut u8).write_volatile(1) };
    }
    true
}

#[cfg(not(target_arch = "wasm32"))]
fn grow(_: usize) -> bool {
    unreachable!("guests run in wasm");
}
