//! Defines how a request's body gets from the socket to the guest: whole, or chunk by chunk while the
//! guest runs, and never more of it than the app's limit.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use wasmtime_wasi_http::Error as WasiError;

use super::buffer::Buffer;
use super::wire::Wire;
use crate::http::body::{BodyDecoder, Step};
use crate::http::refusal::Refusal;

/// Bytes that may wait unread behind a request that is being answered: the start of the next ones.
const AHEAD_BYTES: usize = 64 << 10;

/// Why a body did not arrive.
#[derive(Debug)]
pub(super) enum Broken {
    /// The client is gone.
    Gone,
    /// It is not HTTP.
    Refused(Refusal),
    /// It is longer than the app's limit.
    TooLarge,
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// A body on its way in.
pub(super) struct Pump {
    decoder: BodyDecoder,
    /// Bytes that may still come.
    left: u64,
}

impl Pump {
    pub(super) fn new(decoder: BodyDecoder, limit: Option<u64>) -> Self {
        Self {
            decoder,
            left: limit.unwrap_or(u64::MAX),
        }
    }

    /// Whether the whole body was taken from the connection.
    pub(super) fn is_end(&self) -> bool {
        self.decoder.is_end()
    }

    /// The next piece; `None` is the end of the body.
    async fn next(&mut self, wire: &Wire, buffer: &mut Buffer) -> Result<Option<Bytes>, Broken> {
        loop {
            match self
                .decoder
                .decode(buffer.data())
                .map_err(Broken::Refused)?
            {
                Step::Data(range) => {
                    let piece = Bytes::copy_from_slice(&buffer.data()[range.clone()]);
                    buffer.consume(range.end);
                    self.left = self
                        .left
                        .checked_sub(piece.len() as u64)
                        .ok_or(Broken::TooLarge)?;
                    return Ok(Some(piece));
                }
                Step::End(used) => {
                    buffer.consume(used);
                    return Ok(None);
                }
                Step::NeedMore(used) => {
                    buffer.consume(used);
                    if !wire.fill(buffer).await? {
                        return Err(Broken::Gone);
                    }
                }
            }
        }
    }

    /// The whole body.
    pub(super) async fn whole(
        &mut self,
        wire: &Wire,
        buffer: &mut Buffer,
    ) -> Result<Bytes, Broken> {
        let Some(first) = self.next(wire, buffer).await? else {
            return Ok(Bytes::new());
        };
        let Some(second) = self.next(wire, buffer).await? else {
            return Ok(first);
        };
        let mut body = BytesMut::from(first);
        body.extend_from_slice(&second);
        while let Some(piece) = self.next(wire, buffer).await? {
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    }

    /// Hands the body to the guest as it arrives, then watches the connection. Returns only when
    /// the body breaks off or the client goes away.
    pub(super) async fn run(
        &mut self,
        wire: &Wire,
        buffer: &mut Buffer,
        mut guest: Option<mpsc::Sender<Result<Bytes, WasiError>>>,
    ) -> Broken {
        loop {
            match self.next(wire, buffer).await {
                Ok(Some(piece)) => {
                    let Some(open) = &guest else { continue };
                    if open.send(Ok(piece)).await.is_err() {
                        // The guest wants no more of it.
                        guest = None;
                    }
                }
                Ok(None) => break,
                Err(broken) => {
                    if let Some(open) = guest {
                        // A guest that no longer reads needs not know.
                        let _ = open.send(Err(as_guest_sees(&broken))).await;
                    }
                    return broken;
                }
            }
        }
        if let Some(open) = guest {
            tokio::select! {
                biased;
                // The end of the body; a guest that no longer reads needs not know.
                _ = open.send(Ok(Bytes::new())) => {}
                broken = watch(wire, buffer) => return broken,
            }
        }
        watch(wire, buffer).await
    }
}

/// Waits for the client to go away; what it sends meanwhile is the next request.
async fn watch(wire: &Wire, buffer: &mut Buffer) -> Broken {
    while buffer.data().len() < AHEAD_BYTES {
        match wire.fill(buffer).await {
            Ok(true) => {}
            Ok(false) | Err(_) => return Broken::Gone,
        }
    }
    std::future::pending().await
}

fn as_guest_sees(broken: &Broken) -> WasiError {
    match broken {
        Broken::Gone => WasiError::ConnectionTerminated,
        Broken::Refused(_) => WasiError::HttpProtocolError,
        Broken::TooLarge => WasiError::HttpRequestBodySize(None),
    }
}
