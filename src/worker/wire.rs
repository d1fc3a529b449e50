//! Defines a connection as HTTP/1.1 uses it: reads and writes that wait for the kernel, and nothing
//! that knows of HTTP. Without TLS they are system calls on the buffers of the caller.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::buffer::Buffer;
use super::socket::{Socket, Transport, unsent};
use crate::sys::stream::Stream;

/// How long a client may take no byte of a response.
pub(super) const STALLED: Duration = Duration::from_secs(30);
/// How often it is looked meanwhile whether it has.
const LOOKS: u32 = 3;
/// How long a closing connection listens on, so that the client gets to read our last words before a
/// reset (RFC 9112 section 9.6): without a byte, and in all.
const LINGER_SILENCE: Duration = Duration::from_secs(2);
const LINGER: Duration = Duration::from_secs(30);

/// A connection that is read and written at the same time, by one task.
pub(super) enum Wire {
    Plain(AsyncFd<Stream>),
    Tls(RefCell<Transport>),
}

impl From<Transport> for Wire {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Plain(Socket(stream)) => Self::Plain(stream),
            transport @ Transport::Tls(_) => Self::Tls(RefCell::new(transport)),
        }
    }
}

impl From<Wire> for Transport {
    fn from(wire: Wire) -> Self {
        match wire {
            Wire::Plain(stream) => Self::Plain(Socket(stream)),
            Wire::Tls(transport) => transport.into_inner(),
        }
    }
}

impl Wire {
    /// Adds what arrives to the buffer; `false` is the end of the stream.
    pub(super) async fn fill(&self, buffer: &mut Buffer) -> io::Result<bool> {
        match self {
            Self::Plain(stream) => fill(stream, buffer.room()).await,
            Self::Tls(transport) => {
                let room = buffer.room();
                poll_fn(|cx| poll_fill(transport, cx, room)).await
            }
        }
    }

    /// Adds what has arrived already to the buffer; whether there was anything.
    pub(super) fn fill_now(&self, buffer: &mut Buffer) -> bool {
        let room = buffer.room();
        match self {
            Self::Plain(stream) => {
                matches!(stream.get_ref().read_to_spare(room), Ok(count) if count > 0)
            }
            Self::Tls(transport) => {
                let mut cx = Context::from_waker(Waker::noop());
                matches!(poll_fill(transport, &mut cx, room), Poll::Ready(Ok(true)))
            }
        }
    }

    /// Writes all of `head` and then of `data`, and leaves `head` empty.
    pub(super) async fn write(&self, head: &mut BytesMut, mut data: &[u8]) -> io::Result<()> {
        while !head.is_empty() || !data.is_empty() {
            let written = match self {
                Self::Plain(stream) => write(stream, head, data).await?,
                Self::Tls(transport) => {
                    let next = if head.is_empty() { data } else { &head[..] };
                    let write = poll_fn(|cx| {
                        let mut transport = transport.borrow_mut();
                        Pin::new(&mut *transport).poll_write(cx, next)
                    });
                    while_taken(|| transport.borrow().unsent(), write).await?
                }
            };
            let of_head = written.min(head.len());
            head.advance(of_head);
            data = &data[written - of_head..];
        }
        head.clear();
        if let Self::Tls(transport) = self {
            let flush = poll_fn(|cx| Pin::new(&mut *transport.borrow_mut()).poll_flush(cx));
            while_taken(|| transport.borrow().unsent(), flush).await?;
        }
        Ok(())
    }

    /// With TLS, says that the end is the end and that nobody has cut it off (RFC 8446 section 6.1), if
    /// the client lets that out at once.
    pub(super) fn end(&self) {
        if let Self::Tls(transport) = self {
            let mut cx = Context::from_waker(Waker::noop());
            let mut transport = transport.borrow_mut();
            // The connection is over in any case.
            let _ = Pin::new(&mut *transport).poll_shutdown(&mut cx);
        }
    }

    /// Lets the client see that something is missing. Over TLS it does, since no end was said.
    pub(super) fn break_off(&self) {
        if let Self::Plain(stream) = self {
            // A Unix socket cannot.
            let _ = stream.get_ref().break_off();
        }
    }

    /// Closes politely: says that nothing more will come, and reads on for a while, whatever a client
    /// may still have to send that does not look before it has sent it all.
    pub(super) async fn linger(&self) {
        let closed = match self {
            Self::Plain(stream) => stream.get_ref().shutdown_write(),
            Self::Tls(transport) => {
                let close = poll_fn(|cx| Pin::new(&mut *transport.borrow_mut()).poll_shutdown(cx));
                in_time(close).await
            }
        };
        if closed.is_err() {
            return;
        }
        let drained = async {
            let mut buffer = Buffer::default();
            while let Ok(Ok(true)) = timeout(LINGER_SILENCE, self.fill(&mut buffer)).await {
                buffer.consume(buffer.data().len());
                // Whoever pours does not keep the others of the worker waiting.
                yield_now().await;
            }
        };
        let _ = timeout(LINGER, drained).await;
    }
}

/// Waits for what a client must let happen.
pub(super) async fn in_time<T>(what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let result = timeout(STALLED, what).await;
    result.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Waits for what a client must let happen, for as long as it takes something of what is `unsent` in the
/// kernel: that there is room again is told when there is much of it only.
async fn while_taken<T>(
    unsent: impl Fn() -> usize,
    what: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let mut what = pin!(what);
    let (mut left, mut vain) = (None, 0);
    loop {
        if let Ok(result) = timeout(STALLED / LOOKS, what.as_mut()).await {
            return result;
        }
        let now = unsent();
        vain = if left.is_some_and(|left| now < left) {
            0
        } else {
            vain + 1
        };
        if vain >= LOOKS {
            return Err(io::ErrorKind::TimedOut.into());
        }
        left = Some(now);
    }
}

async fn fill(stream: &AsyncFd<Stream>, room: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        let mut ready = stream.readable().await?;
        let space = room.capacity() - room.len();
        match stream.get_ref().read_to_spare(room) {
            Ok(count) => {
                // A short read has emptied the socket: to ask once more would cost a call.
                if count > 0 && count < space {
                    ready.clear_ready();
                }
                return Ok(count > 0);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            Err(error) => return Err(error),
        }
    }
}

/// The transport is borrowed for no longer than this, so that a write can wait beside a read.
fn poll_fill(
    transport: &RefCell<Transport>,
    cx: &mut Context<'_>,
    room: &mut Vec<u8>,
) -> Poll<io::Result<bool>> {
    let mut transport = transport.borrow_mut();
    let read = pin!(transport.read_buf(room));
    read.poll(cx).map_ok(|count| count > 0)
}

async fn write(stream: &AsyncFd<Stream>, head: &[u8], data: &[u8]) -> io::Result<usize> {
    match try_write(stream.get_ref(), head, data) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let mut ready = while_taken(|| unsent(stream), stream.writable()).await?;
            match try_write(stream.get_ref(), head, data) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                    Ok(0)
                }
                other => other,
            }
        }
        other => other,
    }
}

fn try_write(stream: &Stream, head: &[u8], data: &[u8]) -> io::Result<usize> {
    match (head.is_empty(), data.is_empty()) {
        (_, true) => stream.write(head),
        (true, false) => stream.write(data),
        (false, false) => stream.write_vectored(&[IoSlice::new(head), IoSlice::new(data)]),
    }
}
