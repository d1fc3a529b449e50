//! Defines a connection's transport as HTTP/2 uses it: what passes through is measured, since the `h2`
//! crate does not tell.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::streams::Streams;
use crate::http::frames::FrameCounter;
use crate::worker::socket::Transport;

/// So many frames are read before others have their turn.
const TURN_FRAMES: u32 = 200;

/// One of several handles of a transport that is measured.
#[derive(Clone)]
pub(super) struct Measured(Rc<RefCell<Inner>>);

struct Inner {
    transport: Transport,
    /// What was read already: it is read first.
    first: Bytes,
    frames: FrameCounter,
    /// Frames that were read since others had their turn.
    turn: u32,
    streams: Rc<Streams>,
}

impl Measured {
    pub(super) fn new(transport: Transport, first: Bytes, streams: &Rc<Streams>) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            transport,
            first,
            frames: FrameCounter::default(),
            turn: 0,
            streams: Rc::clone(streams),
        })))
    }
}

impl Inner {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.transport).poll_read(cx, buffer);
        }
        let count = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first[..count]);
        self.first.advance(count);
        Poll::Ready(Ok(()))
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Whoever does too much of something is read no more.
        if self.streams.abuse().is_some() {
            return Poll::Pending;
        }
        if self.turn >= TURN_FRAMES {
            self.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let received = self.poll_receive(cx, buffer);
        if received.is_pending() {
            self.turn = 0;
        }
        ready!(received)?;
        let seen = self.frames.count(&buffer.filled()[before..]);
        self.turn += seen.frames;
        self.streams.received(seen);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Measured {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Measured {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let inner = &mut *self.0.borrow_mut();
        Pin::new(&mut inner.transport).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let inner = &mut *self.0.borrow_mut();
        Pin::new(&mut inner.transport).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.borrow_mut();
        Pin::new(&mut inner.transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.borrow_mut();
        Pin::new(&mut inner.transport).poll_shutdown(cx)
    }
}
