//! Defines the body of an HTTP/1.1 request on its way in.

use bytes::Bytes;

use crate::http::body::{BodyDecoder, Step};
use crate::worker::buffer::Buffer;
use crate::worker::side::{self, Broken};
use crate::worker::wire::Wire;

/// Bytes that may wait unread behind a request that is being answered: the start of the next ones.
const AHEAD_BYTES: usize = 64 << 10;

/// See [`side::Incoming`].
pub(super) struct Incoming<'a> {
    pub(super) wire: &'a Wire,
    pub(super) buffer: &'a mut Buffer,
    pub(super) decoder: BodyDecoder,
}

impl Incoming<'_> {
    /// Whether nothing of the body has arrived.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.data().is_empty()
    }

    /// Whether the whole body was taken from the connection.
    pub(super) fn is_end(&self) -> bool {
        self.decoder.is_end()
    }
}

impl side::Incoming for Incoming<'_> {
    async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            let step = self.decoder.decode(self.buffer.data());
            match step.map_err(Broken::Refused)? {
                Step::Data(range) => {
                    let piece = Bytes::copy_from_slice(&self.buffer.data()[range.clone()]);
                    self.buffer.consume(range.end);
                    return Ok(Some(piece));
                }
                Step::End(used) => {
                    self.buffer.consume(used);
                    return Ok(None);
                }
                Step::NeedMore(used) => {
                    self.buffer.consume(used);
                    if !self.wire.fill(self.buffer).await? {
                        return Err(Broken::Gone);
                    }
                }
            }
        }
    }

    /// What the client sends meanwhile is the next request.
    async fn watch(&mut self) -> Broken {
        while self.buffer.data().len() < AHEAD_BYTES {
            match self.wire.fill(self.buffer).await {
                Ok(true) => {}
                Ok(false) | Err(_) => return Broken::Gone,
            }
        }
        std::future::pending().await
    }
}
