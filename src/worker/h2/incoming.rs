//! Defines the body of an HTTP/2 request on its way in.

use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;

use crate::worker::side::{self, Broken};

/// How long a client may go on with a body that nobody needs any more, and for how many bytes beyond
/// its window.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

/// See [`side::Incoming`].
pub(super) struct Incoming(pub(super) RecvStream);

impl Incoming {
    /// Lets a client read its response before the reset that ends a body half way (RFC 9113 section
    /// 8.1): some take the one for the other.
    pub(super) async fn linger(&mut self) {
        let rest = async {
            let mut left = LINGER_BYTES;
            while let Some(Ok(piece)) = self.0.data().await {
                if let Some(less) = left.checked_sub(piece.len()) {
                    left = less;
                    let _ = self.0.flow_control().release_capacity(piece.len());
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, rest).await;
    }
}

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
