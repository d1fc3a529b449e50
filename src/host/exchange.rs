//! Defines the course of one request in a guest: its body going in, its response coming out, and the
//! guest running in between, all driven by whoever polls the exchange.
//!
//! Nothing is spawned: dropping the exchange is cancelling the guest.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::sync::{mpsc, oneshot};
use wasmtime_wasi_http::Error as WasiError;

use super::error::Failure;

/// Body of a response, as the guest makes it.
pub type ResponseBody = UnsyncBoxBody<Bytes, WasiError>;

/// Where a guest's response goes.
pub(super) type Reply = oneshot::Sender<Result<http::Response<ResponseBody>, Failure>>;

/// Body of a request, as the guest reads it.
pub enum RequestBody {
    /// All of it is here.
    Whole(Option<Bytes>),
    /// It arrives by and by.
    Streamed {
        /// What arrives; an error or an empty chunk ends it.
        chunks: mpsc::Receiver<Result<Bytes, WasiError>>,
        /// Bytes that are still to come, if that is known.
        left: Option<u64>,
        /// Set while the guest waits for more than has arrived.
        starved: Arc<AtomicBool>,
    },
}

impl RequestBody {
    /// A body that is here whole.
    #[must_use]
    pub fn whole(bytes: Bytes) -> Self {
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }

    /// The bytes of a body that is here whole; nothing for one that is not.
    pub(super) fn into_whole(self) -> Bytes {
        match self {
            Self::Whole(bytes) => bytes.unwrap_or_default(),
            Self::Streamed { .. } => Bytes::new(),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = WasiError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WasiError>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed {
                chunks,
                left,
                starved,
            } => {
                let chunk = chunks.poll_recv(cx);
                starved.store(chunk.is_pending(), Ordering::Relaxed);
                chunk.map(|chunk| match chunk {
                    Some(Ok(end)) if end.is_empty() => {
                        *left = Some(0);
                        None
                    }
                    Some(Ok(bytes)) => {
                        *left = left.map(|left| left.saturating_sub(bytes.len() as u64));
                        Some(Ok(Frame::data(bytes)))
                    }
                    Some(Err(error)) => Some(Err(error)),
                    None if *left == Some(0) => None,
                    // Nobody reads the connection any more: a part must not pass for the whole.
                    None => Some(Err(WasiError::ConnectionTerminated)),
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Streamed {
                left: Some(left), ..
            } => SizeHint::with_exact(*left),
            Self::Streamed { left: None, .. } => SizeHint::default(),
        }
    }
}

type Guest = Pin<Box<dyn Future<Output = Result<(), Failure>>>>;

/// What is wrong with a status that no answer has.
pub(super) const NOT_FINAL: &str = "the status is not within 200 to 599";

/// An interim response is not an answer: the next one on the connection would be taken for it.
fn only_final(
    response: http::Response<ResponseBody>,
) -> Result<http::Response<ResponseBody>, Failure> {
    match response.status().as_u16() {
        200..600 => Ok(response),
        _ => Err(Failure::BadResponse(NOT_FINAL)),
    }
}

/// A request that a guest is answering.
pub struct Exchange {
    /// Gone when the guest has returned.
    guest: Option<Guest>,
    /// Why the guest did not return as it should, until that is told.
    failure: Option<Failure>,
    head: oneshot::Receiver<Result<http::Response<ResponseBody>, Failure>>,
    /// Whether the guest can no longer answer.
    head_closed: bool,
}

impl Exchange {
    pub(super) fn new<F>(start: impl FnOnce(Reply) -> F) -> Self
    where
        F: Future<Output = Result<(), Failure>> + 'static,
    {
        let (reply, head) = oneshot::channel();
        Self {
            guest: Some(Box::pin(start(reply))),
            failure: None,
            head,
            head_closed: false,
        }
    }

    /// Lets the guest run until its response has a head. The body is polled with [`Self::frame`].
    ///
    /// # Errors
    /// Why there will be no response.
    pub async fn head(&mut self) -> Result<http::Response<ResponseBody>, Failure> {
        poll_fn(|cx| {
            self.run(cx);
            // A receiver that has told of the end must not be asked again.
            if !self.head_closed {
                match Pin::new(&mut self.head).poll(cx) {
                    Poll::Ready(Ok(result)) => return Poll::Ready(result.and_then(only_final)),
                    Poll::Ready(Err(_)) => self.head_closed = true,
                    Poll::Pending => {}
                }
            }
            match self.head_closed && self.guest.is_none() {
                true => Poll::Ready(Err(self.failure.take().unwrap_or(Failure::NoResponse))),
                false => Poll::Pending,
            }
        })
        .await
    }

    /// Lets the guest run until a part of the body is made; `None` is the end of it. What the guest
    /// made before it failed comes before the failure.
    ///
    /// # Errors
    /// Why the body ends before it should.
    pub async fn frame(
        &mut self,
        body: &mut ResponseBody,
    ) -> Option<Result<Frame<Bytes>, Failure>> {
        poll_fn(|cx| {
            self.run(cx);
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
                // A trap breaks the body off too, and is the better explanation.
                Poll::Ready(Some(Err(error))) => {
                    let failure = self.failure.take();
                    Poll::Ready(Some(Err(
                        failure.unwrap_or_else(|| Failure::ErrorCode(error.to_string()))
                    )))
                }
                Poll::Ready(None) => Poll::Ready(self.failure.take().map(Err)),
                Poll::Pending => match self.failure.take() {
                    Some(failure) => Poll::Ready(Some(Err(failure))),
                    None => Poll::Pending,
                },
            }
        })
        .await
    }

    /// Lets the guest run until it returns: it may work on after its response.
    ///
    /// # Errors
    /// When it traps.
    pub async fn finish(&mut self) -> Result<(), Failure> {
        poll_fn(|cx| {
            self.run(cx);
            match (self.failure.take(), &self.guest) {
                (Some(failure), _) => Poll::Ready(Err(failure)),
                (None, None) => Poll::Ready(Ok(())),
                (None, Some(_)) => Poll::Pending,
            }
        })
        .await
    }

    /// Whether the guest has returned, and there is nothing left to tell of how it did.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.guest.is_none() && self.failure.is_none()
    }

    /// Runs the guest as far as it gets now.
    fn run(&mut self, cx: &mut Context<'_>) {
        let Some(guest) = &mut self.guest else { return };
        if let Poll::Ready(result) = guest.as_mut().poll(cx) {
            self.guest = None;
            self.failure = result.err();
        }
    }
}
