//! Defines how a request's body gets from the client to the guest: whole, or chunk by chunk while the
//! guest runs, and never more of it than the app's limit, nor slower than is allowed.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use wasmtime_wasi_http::Error as WasiError;

use super::memory::Kept;
use super::patience::{Ended, Pace, Patience};
use super::shared::Shared;
use super::side::{Broken, Incoming};

/// Where the chunks of a body go that arrives while the guest runs.
pub(super) struct Chunks {
    pub(super) sender: mpsc::Sender<Result<Bytes, WasiError>>,
    /// Whether the guest has looked for more than there is.
    pub(super) starved: Arc<AtomicBool>,
}

/// What was read of a body before its guest is started.
pub(super) struct Ahead {
    pub(super) bytes: Bytes,
    /// Whether that is all of it.
    pub(super) is_whole: bool,
}

/// A body on its way to the guest.
pub(super) struct Pump<'a, I> {
    from: &'a mut I,
    /// Bytes that may still come.
    left: u64,
    shared: &'a Shared,
    pace: Rc<Pace>,
    patience: Patience,
    /// For what is read ahead.
    kept: Kept,
}

impl<'a, I: Incoming> Pump<'a, I> {
    /// `limit` is in bytes.
    pub(super) fn new(
        from: &'a mut I,
        limit: Option<u64>,
        shared: &'a Shared,
        pace: &Rc<Pace>,
    ) -> Self {
        Self {
            from,
            left: limit.unwrap_or(u64::MAX),
            shared,
            pace: Rc::clone(pace),
            patience: Patience::new(shared.min_body_rate),
            kept: Kept::new(&shared.memory, pace),
        }
    }

    /// The next piece, if it comes in time. Only the time of waiting for the client counts.
    async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        let who = (&self.shared.waiting, &self.pace);
        let piece = self.patience.wait(who, self.from.next()).await??;
        let length = piece.as_ref().map_or(0, Bytes::len);
        self.patience.earn(length);
        self.pace.passes(length);
        let left = self.left.checked_sub(length as u64);
        self.left = left.ok_or(Broken::TooLarge)?;
        Ok(piece)
    }

    /// Reads until the end of the body, or until `most` bytes are there.
    pub(super) async fn ahead(&mut self, most: u64) -> Result<Ahead, Broken> {
        let mut first = Bytes::new();
        // For what does not come in one piece.
        let mut bytes = BytesMut::new();
        while self.kept.bytes() < most {
            let Some(piece) = self.next().await? else {
                return Ok(Ahead::new(first, bytes, true));
            };
            self.keep(piece.len()).await?;
            if first.is_empty() && bytes.is_empty() {
                first = piece;
                continue;
            }
            if bytes.is_empty() {
                bytes.extend_from_slice(&std::mem::take(&mut first));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(Ahead::new(first, bytes, false))
    }

    /// Takes memory for what has come, if there is some.
    async fn keep(&mut self, bytes: usize) -> Result<(), Broken> {
        let kept = &mut self.kept;
        let is_there = self
            .shared
            .waiting
            .until_there_is_memory(|| kept.grow(bytes));
        is_there.await.then_some(()).ok_or(Broken::NoRoom)
    }

    /// The next piece; without one the guest cannot go on if it has read all that came before.
    async fn next_for(&mut self, guest: &Option<Chunks>) -> Result<Option<Bytes>, Broken> {
        let pace = Rc::clone(&self.pace);
        let mut blocked = None;
        let mut next = pin!(self.next());
        poll_fn(|cx| {
            let piece = next.as_mut().poll(cx);
            let is_starved = guest.as_ref().is_some_and(Chunks::is_starved);
            if piece.is_pending() && is_starved && blocked.is_none() {
                blocked = Some(pace.block());
            }
            piece
        })
        .await
    }

    /// Waits for the client to go away, while nothing of it is wanted yet.
    pub(super) async fn watch(&mut self) -> Broken {
        self.from.watch().await
    }

    /// Hands the body to the guest as it arrives, then watches the client. Returns only when the
    /// body breaks off or the client goes away.
    pub(super) async fn run(&mut self, mut guest: Option<Chunks>) -> Broken {
        // What was read ahead is the guest's.
        self.kept.clear();
        loop {
            match self.next_for(&guest).await {
                Ok(Some(piece)) => {
                    let Some(open) = &guest else { continue };
                    let sent = tokio::select! {
                        biased;
                        sent = open.sender.send(Ok(piece)) => sent,
                        broken = self.from.watch() => return broken,
                    };
                    if sent.is_err() {
                        // The guest wants no more of it.
                        guest = None;
                    }
                }
                Ok(None) => break,
                Err(broken) => {
                    if let Some(open) = guest {
                        // A guest that does not read needs not know.
                        let _ = open.sender.try_send(Err(as_guest_sees(&broken)));
                    }
                    return broken;
                }
            }
        }
        if let Some(open) = guest {
            tokio::select! {
                biased;
                // The end of the body; a guest that no longer reads needs not know.
                _ = open.sender.send(Ok(Bytes::new())) => {}
                broken = self.from.watch() => return broken,
            }
        }
        self.from.watch().await
    }
}

impl Chunks {
    fn is_starved(&self) -> bool {
        self.starved.load(Ordering::Relaxed)
    }
}

impl From<Ended> for Broken {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::TooSlow => Self::Late,
            Ended::MadeWay => Self::MadeWay,
        }
    }
}

impl Ahead {
    fn new(first: Bytes, more: BytesMut, is_whole: bool) -> Self {
        Self {
            bytes: if more.is_empty() {
                first
            } else {
                more.freeze()
            },
            is_whole,
        }
    }
}

fn as_guest_sees(broken: &Broken) -> WasiError {
    match broken {
        Broken::Gone | Broken::Late | Broken::MadeWay | Broken::NoRoom => {
            WasiError::ConnectionTerminated
        }
        Broken::Refused(_) => WasiError::HttpProtocolError,
        Broken::TooLarge => WasiError::HttpRequestBodySize(None),
    }
}
