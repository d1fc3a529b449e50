//! Defines a connection's transport as HTTP/2 uses it: what passes through is measured, since the `h2`
//! crate does not tell.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::streams::Streams;
use crate::http::frames::FrameCounter;
use crate::worker::socket::Transport;
use crate::worker::wire::STALLED;

/// So many frames are read before others have their turn.
const TURN_FRAMES: u32 = 200;
/// So often it is looked how much the client has taken, while that matters: the kernel does not tell.
const LOOK: Duration = Duration::from_millis(500);

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
    output: Output,
}

/// How far output has got.
struct Output {
    /// Bytes that were written.
    written: u64,
    /// Whether there are more, which have to wait.
    is_blocked: bool,
    /// So many are all of the responses that have been made.
    responses: u64,
    /// Bytes that the client has taken, as far as was seen, and when that was seen.
    taken: u64,
    taken_at: Instant,
}

impl Output {
    fn new(now: Instant) -> Self {
        Self {
            written: 0,
            is_blocked: false,
            responses: 0,
            taken: 0,
            taken_at: now,
        }
    }

    /// So many bytes are unsent in the kernel.
    fn look(&mut self, unsent: usize, now: Instant) {
        let taken = self.written.saturating_sub(unsent as u64);
        if taken > self.taken {
            (self.taken, self.taken_at) = (taken, now);
        }
    }

    /// Whether the client has to take something still.
    fn waits(&self) -> bool {
        self.is_blocked || self.taken < self.responses
    }

    /// When output that waits is to be looked at again, or given up.
    fn due(&self, now: Instant) -> Option<Instant> {
        let again = (self.taken_at + STALLED).min(now + LOOK);
        self.waits().then_some(again)
    }
}

impl Measured {
    pub(super) fn new(transport: Transport, first: Bytes, streams: &Rc<Streams>) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            transport,
            first,
            frames: FrameCounter::default(),
            turn: 0,
            streams: Rc::clone(streams),
            output: Output::new(Instant::now()),
        })))
    }

    /// There is nothing more to write for now, unless it has to wait.
    pub(super) fn settle(&self) {
        let inner = &mut *self.0.borrow_mut();
        if !inner.output.is_blocked && inner.streams.drained() {
            inner.output.responses = inner.output.written;
        }
    }

    /// If the client has something to take still: when to ask again, or, once it has taken nothing for
    /// too long, since when that is so. What is left to the kernel counts to the end only.
    pub(super) fn due(&self, to_the_end: bool) -> Option<Instant> {
        let inner = &mut *self.0.borrow_mut();
        let output = &inner.output;
        let may_wait = output.is_blocked || to_the_end && output.waits();
        if !may_wait {
            return None;
        }
        inner.look();
        inner.output.due(Instant::now())
    }

    /// When the client was last seen to take something for which it was waited.
    pub(super) fn taken_at(&self) -> Instant {
        self.0.borrow().output.taken_at
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

impl Drop for Inner {
    fn drop(&mut self) {
        // Nobody waits for room in what is gone.
        self.streams.drained();
    }
}

impl Inner {
    fn look(&mut self) {
        self.output.look(self.transport.unsent(), Instant::now());
    }

    /// Takes note of how a write has ended, or a flush, which writes nothing more.
    fn wrote(&mut self, written: &Poll<io::Result<usize>>) {
        let was_blocked = self.output.is_blocked;
        self.output.is_blocked = written.is_pending();
        if let Poll::Ready(Ok(count)) = written {
            self.output.written += *count as u64;
        }
        if self.output.is_blocked && !was_blocked {
            // Its time counts from here.
            self.look();
            self.streams.stir();
        }
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
        let written = Pin::new(&mut inner.transport).poll_write(cx, bytes);
        inner.wrote(&written);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let inner = &mut *self.0.borrow_mut();
        let written = Pin::new(&mut inner.transport).poll_write_vectored(cx, buffers);
        inner.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.borrow_mut();
        let flushed = Pin::new(&mut inner.transport).poll_flush(cx);
        let flushed = flushed.map_ok(|()| 0);
        inner.wrote(&flushed);
        flushed.map_ok(|_| ())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.borrow_mut();
        Pin::new(&mut inner.transport).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes, and takes as much as is left unsent.
    fn output(written: u64, unsent: usize, now: Instant) -> Output {
        let mut output = Output::new(now);
        output.written = written;
        output.responses = written;
        output.look(unsent, now);
        output
    }

    #[test]
    fn who_takes_something_is_waited_for_and_who_takes_nothing_is_left() {
        let began = Instant::now();
        let mut now = began;
        let mut output = output(1000, 1000, now);
        for unsent in (1..1000).rev() {
            now += STALLED - LOOK;
            output.look(unsent, now);
            assert!(output.due(now).is_some_and(|due| due > now), "{unsent}");
        }
        // What is written meanwhile is not what the client takes.
        for pongs in 1..100 {
            now += LOOK;
            output.written += 17;
            output.look(1 + 17 * pongs, now);
        }
        assert!(output.due(now).is_some_and(|due| due <= now));
    }

    #[test]
    fn who_has_taken_all_responses_is_not_waited_for() {
        let now = Instant::now();
        let mut output = output(1000, 0, now);
        assert_eq!(output.due(now), None);
        output.written += 17;
        output.look(17, now);
        assert_eq!(output.due(now), None);
        output.is_blocked = true;
        assert_eq!(output.due(now), Some(now + LOOK));
    }
}
