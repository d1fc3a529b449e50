//! Defines how a guest's response gets to the client: as it is made, and, where the client is slow, ahead
//! of the client, so that the guest is done the sooner and its instance is free for others.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;

use super::memory::Kept;
use super::patience::{Ended, Needed, Pace, Patience, at_once};
use super::record::Record;
use super::shared::{Served, Shared};
use super::side::{Broken, Outgoing, Unsent};
use crate::host::{Exchange, Failure, ResponseBody};
use crate::http::response::{BodyLength, ResponseError};

/// What a guest may make of its response ahead of its client, in bytes.
const AHEAD_BYTES: u64 = 1 << 20;
/// How often it is looked whether there is memory again.
const LOOK: Duration = Duration::from_millis(500);
/// What a piece that waits takes beside its bytes.
const PIECE_COST: usize = 128;
/// A response is sent in pieces of this size at most: it may break off at any time, and what has got
/// out of it is told. In bytes.
const PIECE_BYTES: usize = 64 << 10;

/// What became of the body that a guest made for its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// All of it was taken.
    Whole,
    /// It was left, since the response has none: the guest finds nobody who takes it.
    Head,
}

/// Why there is no whole response.
pub(super) enum Over {
    /// The client or the network.
    Lost(io::Error),
    /// The guest.
    Failed(Failure),
    /// The request did not come to its end.
    Broken(Broken),
    /// The time is up.
    Late,
}

impl From<Failure> for Over {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<io::Error> for Over {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

impl From<Unsent> for Over {
    fn from(unsent: Unsent) -> Self {
        match unsent {
            Unsent::Lost(error) => Self::Lost(error),
            Unsent::Bad(error) => Self::Failed(bad(error)),
        }
    }
}

impl From<Ended> for Over {
    fn from(ended: Ended) -> Self {
        Self::Broken(ended.into())
    }
}

/// What an app did wrong that made a response none.
fn bad(error: ResponseError) -> Failure {
    Failure::BadResponse(match error {
        ResponseError::BodyTooLong { .. } => "it is longer than its Content-Length",
        ResponseError::BodyTooShort { .. } => "it is shorter than its Content-Length",
        ResponseError::BodyEnded => "it goes on after its end",
        ResponseError::Status(_)
        | ResponseError::ContentLength
        | ResponseError::LengthMismatch { .. }
        | ResponseError::HeadTooLarge => "its head cannot be sent",
    })
}

/// Sends the guest's response as it is made.
pub(super) async fn respond(
    (shared, pace): (&Shared, &Rc<Pace>),
    served: &Served,
    exchange: &mut Exchange,
    (outgoing, record): (&mut impl Outgoing, &mut Record),
) -> Result<Sent, Over> {
    let response = record.at_work(shared, exchange.head());
    let response = unless_gone(outgoing, response).await??;
    let (head, mut body) = response.into_parts();
    outgoing.head(&head, length(&body)).map_err(|error| {
        tracing::debug!("the response cannot be sent: {error}");
        bad(error)
    })?;
    record.respond(&head);
    if !outgoing.takes_body() {
        let frame = record.at_work(shared, exchange.frame(&mut body));
        let sent = leave_body(at_once(frame).await)?;
        outgoing.end().await?;
        return Ok(sent);
    }
    let making = Making {
        shared,
        pace,
        exchange,
        record,
        body,
        left: served.limits.response_body.unwrap_or(u64::MAX),
        app: &served.name,
        ahead: VecDeque::new(),
        is_made: false,
        kept: Kept::new(&shared.memory, pace),
    };
    let mut response = Response {
        making,
        patience: Patience::new(shared.min_body_rate),
        unearned: 0,
    };
    while let Some(mut data) = response.next(outgoing).await? {
        while !data.is_empty() {
            let held = data.len();
            let piece = data.split_to(held.min(PIECE_BYTES));
            let bytes = piece.len();
            response.let_out(bytes, held, outgoing.data(piece)).await?;
            response.making.record.sent(bytes);
        }
    }
    response.let_out(0, 0, outgoing.end()).await?;
    Ok(Sent::Whole)
}

/// Looks at what a guest has made by now of a body that nobody gets. If it has failed already, that is
/// its own fault; but how long its body is, and whether it is that long, is nobody's business.
fn leave_body<T>(frame: Option<Option<Result<T, Failure>>>) -> Result<Sent, Failure> {
    match frame {
        Some(None) => Ok(Sent::Whole),
        Some(Some(Ok(_) | Err(Failure::ErrorCode(_)))) | None => Ok(Sent::Head),
        Some(Some(Err(failure))) => Err(failure),
    }
}

/// A response on its way from the guest to the client.
struct Response<'a> {
    making: Making<'a>,
    patience: Patience,
    /// Bytes that were handed over and may not have got out yet: they earn time as soon as the client is
    /// waited for.
    unearned: usize,
}

/// A response as its guest makes it.
struct Making<'a> {
    shared: &'a Shared,
    pace: &'a Rc<Pace>,
    exchange: &'a mut Exchange,
    record: &'a mut Record,
    app: &'a str,
    body: ResponseBody,
    /// How much longer it may get, in bytes.
    left: u64,
    /// What was made ahead of the client.
    ahead: VecDeque<Bytes>,
    /// Whether the guest has made all of it.
    is_made: bool,
    /// For what waits for the client.
    kept: Kept,
}

impl Response<'_> {
    /// The next piece, if there is one; before the guest is waited for, what was held back goes out.
    async fn next(&mut self, outgoing: &mut impl Outgoing) -> Result<Option<Bytes>, Over> {
        loop {
            if let Some(piece) = self.making.made_ahead() {
                return Ok(piece);
            }
            let making = &mut self.making;
            if !outgoing.holds_back() {
                return unless_gone(outgoing, making.make()).await?;
            }
            if let Some(made) = at_once(making.make()).await {
                return made;
            }
            let flush = async { Ok(outgoing.flush().await?) };
            self.let_out(0, 0, flush).await?;
        }
    }

    /// Waits until so many bytes are out, of those that are held; if the client makes it wait, the guest
    /// works on.
    async fn let_out(
        &mut self,
        bytes: usize,
        held: usize,
        out: impl Future<Output = Result<(), Unsent>>,
    ) -> Result<(), Over> {
        let Self {
            making,
            patience,
            unearned,
        } = self;
        making.pace.passes(bytes);
        *unearned = (*unearned + bytes).min(PIECE_BYTES);
        let mut out = pin!(out);
        if let Some(result) = at_once(out.as_mut()).await {
            return Ok(result?);
        }
        making.keep(held);
        patience.allow(std::mem::take(unearned));
        let who = (&making.shared.waiting, making.pace);
        let result = tokio::select! {
            biased;
            sent = patience.wait(who, out) => sent?,
            over = making.work_ahead() => return Err(over),
        };
        making.kept.give_back(held as u64);
        Ok(result?)
    }
}

impl Making<'_> {
    /// What was made ahead of the client: a piece, or the end.
    fn made_ahead(&mut self) -> Option<Option<Bytes>> {
        if let Some(piece) = self.ahead.pop_front() {
            self.kept.give_back((piece.len() + PIECE_COST) as u64);
            return Some(Some(piece));
        }
        self.is_made.then_some(None)
    }

    /// Lets the guest make the next piece; `None` is the end.
    async fn make(&mut self) -> Result<Option<Bytes>, Over> {
        let frame = self.exchange.frame(&mut self.body);
        let Some(frame) = self.record.at_work(self.shared, frame).await else {
            self.is_made = true;
            return Ok(None);
        };
        // Trailers are not passed on.
        let data = frame?.into_data().unwrap_or_default();
        let left = self.left.checked_sub(data.len() as u64);
        self.left = left.ok_or(Failure::BadResponse(
            "it is longer than response-body-limit",
        ))?;
        Ok(Some(data))
    }

    /// Lets the guest work ahead of the client, as far as there is room. Returns only if it fails.
    async fn work_ahead(&mut self) -> Over {
        while !self.is_made && self.has_room() {
            match self.make().await {
                Ok(Some(piece)) if !piece.is_empty() => {
                    self.keep(piece.len() + PIECE_COST);
                    self.ahead.push_back(piece);
                }
                Ok(_) => {}
                Err(over) => return over,
            }
        }
        if self.is_made && !self.exchange.is_finished() {
            let rest = self.record.at_work(self.shared, self.exchange.finish());
            if let Err(failure) = rest.await {
                after_response(self.app, &failure);
            }
        }
        let _blocked = self.pace.block();
        // Whoever comes to wait when memory is short sees to it that this has an end.
        while self.shared.memory.is_short() {
            self.shared.waiting.make_way(Needed::Memory);
            tokio::time::sleep(LOOK).await;
        }
        std::future::pending().await
    }

    fn has_room(&self) -> bool {
        self.kept.bytes() < AHEAD_BYTES && !self.shared.memory.is_short()
    }

    /// Counts what waits for the client. It is there already, so that others may have to make way.
    fn keep(&mut self, bytes: usize) {
        self.kept.take(bytes as u64);
        if self.shared.memory.is_short() {
            self.shared.waiting.make_way(Needed::Memory);
        }
    }
}

/// Tells what went wrong with a guest whose response was not spoiled by it.
pub(super) fn after_response(app: &str, why: &dyn fmt::Display) {
    tracing::warn!(app, "after the response: {why}");
}

/// Lets the guest work while the client is there.
async fn unless_gone<T>(
    outgoing: &mut impl Outgoing,
    guest: impl Future<Output = T>,
) -> io::Result<T> {
    tokio::select! {
        biased;
        made = guest => Ok(made),
        error = outgoing.gone() => Err(error),
    }
}

fn length(body: &ResponseBody) -> BodyLength {
    if body.is_end_stream() {
        return BodyLength::None;
    }
    body.size_hint()
        .exact()
        .map_or(BodyLength::Unknown, BodyLength::Known)
}
