//! Defines how a request's body gets from the client to the guest: whole, or chunk by chunk while the
//! guest runs, and never more of it than the app's limit, nor slower than is allowed.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use wasmtime_wasi_http::Error as WasiError;

use super::side::{Broken, Incoming};

/// Where the chunks of a body go that arrives while the guest runs.
pub(super) type Chunks = mpsc::Sender<Result<Bytes, WasiError>>;

/// How long a body may keep us waiting before its rate counts.
const GRACE: Duration = Duration::from_secs(5);

/// How long a body may still keep us waiting: what comes of it earns more time.
struct Patience {
    /// Bytes in a second; none if there is time enough.
    rate: Option<u64>,
    left: Duration,
}

impl Patience {
    fn new(rate: Option<u64>) -> Self {
        Self { rate, left: GRACE }
    }

    /// The next piece, if it comes in time. Only the time of waiting for the client counts.
    async fn next(&mut self, from: &mut impl Incoming) -> Result<Option<Bytes>, Broken> {
        let Some(rate) = self.rate else {
            return from.next().await;
        };
        let before = Instant::now();
        let piece = timeout(self.left, from.next()).await;
        let piece = piece.map_err(|_| Broken::Late)??;
        let earned = piece.as_ref().map_or(0, Bytes::len) as f64 / rate as f64;
        let left = self.left.saturating_sub(before.elapsed());
        self.left = left.saturating_add(Duration::from_secs_f64(earned));
        Ok(piece)
    }
}

/// A body on its way to the guest.
pub(super) struct Pump<'a, I> {
    from: &'a mut I,
    /// Bytes that may still come.
    left: u64,
    patience: Patience,
}

impl<'a, I: Incoming> Pump<'a, I> {
    /// `limit` is in bytes, and `rate`, the least that is allowed, in bytes a second.
    pub(super) fn new(from: &'a mut I, limit: Option<u64>, rate: Option<u64>) -> Self {
        Self {
            from,
            left: limit.unwrap_or(u64::MAX),
            patience: Patience::new(rate),
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        let piece = self.patience.next(self.from).await?;
        let length = piece.as_ref().map_or(0, Bytes::len);
        let left = self.left.checked_sub(length as u64);
        self.left = left.ok_or(Broken::TooLarge)?;
        Ok(piece)
    }

    /// The whole body.
    pub(super) async fn whole(&mut self) -> Result<Bytes, Broken> {
        let Some(first) = self.next().await? else {
            return Ok(Bytes::new());
        };
        let Some(second) = self.next().await? else {
            return Ok(first);
        };
        let mut body = BytesMut::from(first);
        body.extend_from_slice(&second);
        while let Some(piece) = self.next().await? {
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    }

    /// Hands the body to the guest as it arrives, then watches the client. Returns only when the
    /// body breaks off or the client goes away.
    pub(super) async fn run(&mut self, mut guest: Option<Chunks>) -> Broken {
        loop {
            match self.next().await {
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
                broken = self.from.watch() => return broken,
            }
        }
        self.from.watch().await
    }
}

fn as_guest_sees(broken: &Broken) -> WasiError {
    match broken {
        Broken::Gone | Broken::Late => WasiError::ConnectionTerminated,
        Broken::Refused(_) => WasiError::HttpProtocolError,
        Broken::TooLarge => WasiError::HttpRequestBodySize(None),
    }
}
