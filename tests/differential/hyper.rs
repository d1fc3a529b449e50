//! Defines what hyper makes of the bytes of one client.

use std::cell::RefCell;
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use ::hyper::body::Incoming;
use ::hyper::rt::{Read, ReadBufCursor, Write};
use ::hyper::server::conn::http1;
use ::hyper::service::service_fn;
use ::hyper::{Request, Response};
use http_body_util::{BodyExt, Empty};

use crate::account::{Exchange, Seen};

/// Polls that one connection may take: each has something to do, since nothing here waits.
const POLLS_MAX: usize = 10_000;

/// A client that has said all that it will say, and listens to nothing.
struct Client<'a>(&'a [u8]);

impl Read for Client<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let (now, later) = self.0.split_at(self.0.len().min(buf.remaining()));
        buf.put_slice(now);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

impl Write for Client<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Serves a connection on which `bytes` come, and then the end.
pub(crate) fn serve(bytes: &[u8]) -> Seen {
    let seen = Rc::new(RefCell::new(Seen::default()));
    let service = service_fn(|request: Request<Incoming>| {
        let seen = Rc::clone(&seen);
        async move {
            let (head, body) = request.into_parts();
            match body.collect().await {
                Ok(content) => seen.borrow_mut().requests.push(Exchange {
                    method: head.method.to_string(),
                    target: head
                        .uri
                        .path_and_query()
                        .map_or_else(String::new, |path| path.to_string()),
                    content: content.to_bytes().to_vec(),
                    host: None,
                }),
                Err(error) => seen.borrow_mut().refused |= is_refusal(&error),
            }
            Ok::<_, Infallible>(Response::new(Empty::<&[u8]>::new()))
        }
    });
    let mut server = http1::Builder::new();
    let connection = server
        .half_close(true)
        .serve_connection(Client(bytes), service);
    let mut connection = pin!(connection);
    let mut context = Context::from_waker(Waker::noop());
    let end = (0..POLLS_MAX).find_map(|_| match connection.as_mut().poll(&mut context) {
        Poll::Ready(end) => Some(end),
        Poll::Pending => None,
    });
    match end {
        Some(Ok(())) => {}
        Some(Err(error)) => seen.borrow_mut().refused |= is_refusal(&error),
        None => panic!("hyper waits: {}", bytes.escape_ascii()),
    }
    seen.take()
}

/// Whether an error says that the bytes were wrong, rather than that they ended too soon.
fn is_refusal(error: &::hyper::Error) -> bool {
    let mut causes = std::iter::successors(error.source(), |error| (*error).source());
    let cut = causes.any(|cause| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof)
    });
    !cut && !error.is_incomplete_message()
}
