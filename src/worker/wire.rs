//! Defines a connection's socket on the event loop: reads and writes that wait for the kernel, and
//! nothing that knows of HTTP.

use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::unix::AsyncFd;

use super::buffer::Buffer;
use crate::sys::stream::Stream;
use crate::sys::watch::watch;

/// How long a client may take no byte of a response.
const STALLED: Duration = Duration::from_secs(30);
/// How long, and for how many bytes, a closing connection listens on, so that the client gets to
/// read our last words before a reset (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 64 << 10;

/// A socket that waits.
pub(super) struct Wire(AsyncFd<Stream>);

impl Wire {
    pub(super) fn new(stream: Stream) -> io::Result<Self> {
        watch(stream).map(Self)
    }

    /// Adds what arrives to the buffer; `false` is the end of the stream.
    pub(super) async fn fill(&self, buffer: &mut Buffer) -> io::Result<bool> {
        loop {
            let mut ready = self.0.readable().await?;
            let bytes = buffer.room();
            let room = bytes.capacity() - bytes.len();
            match self.0.get_ref().read_to_spare(bytes) {
                Ok(count) => {
                    // A short read has emptied the socket: to ask once more would cost a call.
                    if count > 0 && count < room {
                        ready.clear_ready();
                    }
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Adds what has arrived already to the buffer; whether there was anything.
    pub(super) fn fill_now(&self, buffer: &mut Buffer) -> bool {
        let bytes = buffer.room();
        matches!(self.0.get_ref().read_to_spare(bytes), Ok(count) if count > 0)
    }

    /// Writes all of `head` and then of `data`, and leaves `head` empty.
    pub(super) async fn write(&self, head: &mut BytesMut, mut data: &[u8]) -> io::Result<()> {
        while !head.is_empty() || !data.is_empty() {
            let written = match self.try_write(head, data) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut ready = tokio::time::timeout(STALLED, self.0.writable())
                        .await
                        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                    match self.try_write(head, data) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            ready.clear_ready();
                            0
                        }
                        other => other?,
                    }
                }
                other => other?,
            };
            let of_head = written.min(head.len());
            head.advance(of_head);
            data = &data[written - of_head..];
        }
        head.clear();
        Ok(())
    }

    fn try_write(&self, head: &[u8], data: &[u8]) -> io::Result<usize> {
        match (head.is_empty(), data.is_empty()) {
            (_, true) => self.0.get_ref().write(head),
            (true, false) => self.0.get_ref().write(data),
            (false, false) => self
                .0
                .get_ref()
                .write_vectored(&[IoSlice::new(head), IoSlice::new(data)]),
        }
    }

    /// Closes politely: says that nothing more will come, and reads on for a while.
    pub(super) async fn linger(&self) {
        if self.0.get_ref().shutdown_write().is_err() {
            return;
        }
        let drained = async {
            let mut dropped = 0;
            let mut buffer = Buffer::default();
            while dropped < LINGER_BYTES && matches!(self.fill(&mut buffer).await, Ok(true)) {
                dropped += buffer.data().len();
                let received = buffer.data().len();
                buffer.consume(received);
            }
        };
        let _ = tokio::time::timeout(LINGER, drained).await;
    }
}
