//! Defines the body of an HTTP/2 request on its way in.

use bytes::Bytes;
use h2::RecvStream;

use crate::worker::side::{self, Broken};

/// See [`side::Incoming`].
pub(super) struct Incoming(pub(super) RecvStream);

impl side::Incoming for Incoming {
    /// The client may send more only when what it has sent was taken, so that no more than a window
    /// of it waits.
    async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        match self.0.data().await {
            None => Ok(None),
            Some(Ok(piece)) => {
                // It fails where the stream has ended: then nothing more comes.
                let _ = self.0.flow_control().release_capacity(piece.len());
                Ok(Some(piece))
            }
            Some(Err(_)) => Err(Broken::Gone),
        }
    }

    /// The other side tells.
    async fn watch(&mut self) -> Broken {
        std::future::pending().await
    }
}
