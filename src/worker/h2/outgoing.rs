//! Defines a response of HTTP/2 on its way out.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{Response, StatusCode};

use super::streams::Streams;
use crate::http::error_page::ErrorPage;
use crate::http::head::Version;
use crate::http::response::{BodyLength, ResponseError, ResponseHead};
use crate::http::response_body::BodyEncoder;
use crate::worker::shared::Shared;
use crate::worker::side::{self, Unsent, WRITE_BYTES};
use crate::worker::wire::in_time;

/// So much of every response leaves its app whatever else waits for the client: a short one would count
/// as taken too slowly on a slow line, behind a long one.
const FREE_BYTES: usize = 4 << 10;

/// See [`side::Outgoing`].
pub(super) struct Outgoing {
    shared: Rc<Shared>,
    streams: Rc<Streams>,
    respond: SendResponse<Bytes>,
    /// Whether the request was HEAD.
    head_request: bool,
    /// A head that is held back, and what is held back of the body.
    head: Option<Response<()>>,
    output: BytesMut,
    body: Option<SendStream<Bytes>>,
    encoder: Option<BodyEncoder>,
    /// Bytes that need not wait for room.
    free: usize,
    has_ended: bool,
}

impl Outgoing {
    pub(super) fn new(
        shared: &Rc<Shared>,
        streams: &Rc<Streams>,
        respond: SendResponse<Bytes>,
        head_request: bool,
    ) -> Self {
        Self {
            shared: Rc::clone(shared),
            streams: Rc::clone(streams),
            respond,
            head_request,
            head: None,
            output: BytesMut::new(),
            body: None,
            encoder: None,
            free: FREE_BYTES,
            has_ended: false,
        }
    }

    /// Lets the client see that no more will come of a response that has begun, or of none.
    pub(super) fn cut(&mut self) {
        match &mut self.body {
            Some(body) => body.send_reset(Reason::INTERNAL_ERROR),
            None => self.respond.send_reset(Reason::INTERNAL_ERROR),
        }
    }

    fn send_head(&mut self, is_all: bool) -> io::Result<()> {
        if let Some(head) = self.head.take() {
            self.streams.sent(0);
            let body = self.respond.send_response(head, is_all).map_err(lost)?;
            self.body = Some(body);
            self.has_ended = is_all;
        }
        Ok(())
    }

    async fn send_end(&mut self) -> io::Result<()> {
        if !self.output.is_empty() {
            return self.send_output(true).await;
        }
        self.send_head(true)?;
        if let Some(body) = self.body.as_mut().filter(|_| !self.has_ended) {
            body.send_data(Bytes::new(), true).map_err(lost)?;
            self.has_ended = true;
        }
        Ok(())
    }

    async fn send_output(&mut self, is_last: bool) -> io::Result<()> {
        let output = self.output.split().freeze();
        self.send(output, is_last).await
    }

    /// Sends a piece as the client has room for it.
    async fn send(&mut self, mut data: Bytes, is_last: bool) -> io::Result<()> {
        self.send_head(false)?;
        let Some(body) = &mut self.body else {
            return Ok(());
        };
        while !data.is_empty() {
            let needs_room = data.len() > self.free;
            tokio::select! {
                biased;
                () = self.streams.room(), if needs_room => {}
                reset = poll_fn(|cx| body.poll_reset(cx)), if needs_room => {
                    return Err(lost(reset.map_or_else(|error| error, Into::into)));
                }
                else => {}
            }
            body.reserve_capacity(data.len());
            let room = poll_fn(|cx| body.poll_capacity(cx));
            let room = in_time(async { room.await.transpose().map_err(lost) }).await?;
            let room = room.ok_or(io::ErrorKind::BrokenPipe)?;
            // Others may have been faster.
            if needs_room && !self.streams.has_room() {
                continue;
            }
            let piece = data.split_to(room.min(data.len()));
            self.free = self.free.saturating_sub(piece.len());
            let ends = is_last && data.is_empty();
            self.streams.sent(piece.len());
            body.send_data(piece, ends).map_err(lost)?;
            self.has_ended = ends;
        }
        Ok(())
    }
}

impl side::Outgoing for Outgoing {
    async fn invite(&mut self) -> io::Result<()> {
        let mut invitation = Response::new(());
        *invitation.status_mut() = StatusCode::CONTINUE;
        self.respond.send_informational(invitation).map_err(lost)
    }

    fn head(
        &mut self,
        head: &http::response::Parts,
        body: BodyLength,
    ) -> Result<(), ResponseError> {
        let head = ResponseHead {
            status: head.status,
            headers: &head.headers,
            version: Version::Http2,
            head_request: self.head_request,
            keep_alive: true,
            body,
            date: &self.shared.date(),
            server: self.shared.server,
        };
        let (response, encoder) = head.response()?;
        (self.head, self.encoder) = (Some(response), Some(encoder));
        Ok(())
    }

    fn takes_body(&self) -> bool {
        let encoder = self.encoder.as_ref();
        encoder.is_some_and(|encoder| !encoder.is_forbidden())
    }

    async fn data(&mut self, data: Bytes) -> Result<(), Unsent> {
        let encoder = self.encoder.as_mut().ok_or(ResponseError::BodyEnded)?;
        if !encoder.encode(data.len())?.send() {
            return Ok(());
        }
        let is_last = encoder.remaining() == Some(0);
        if data.len() < WRITE_BYTES {
            self.output.extend_from_slice(&data);
            if self.output.len() >= WRITE_BYTES {
                self.send_output(is_last).await?;
            }
        } else {
            self.send_output(false).await?;
            self.send(data, is_last).await?;
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<(), Unsent> {
        let encoder = self.encoder.as_mut().ok_or(ResponseError::BodyEnded)?;
        encoder.finish()?;
        Ok(self.send_end().await?)
    }

    fn holds_back(&self) -> bool {
        self.head.is_some() || !self.output.is_empty()
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.send_output(false).await
    }

    fn has_begun(&self) -> bool {
        self.body.is_some()
    }

    async fn gone(&mut self) -> io::Error {
        let reset = match &mut self.body {
            Some(body) => poll_fn(|cx| body.poll_reset(cx)).await,
            None => poll_fn(|cx| self.respond.poll_reset(cx)).await,
        };
        match reset {
            Ok(reason) => lost(reason.into()),
            Err(error) => lost(error),
        }
    }

    fn refuse(&mut self, status: StatusCode, retry_after: Option<u64>) {
        let date = self.shared.date();
        let page = ErrorPage {
            status,
            advice: None,
            retry_after,
            head_request: self.head_request,
            date: &date,
            server: self.shared.server,
        };
        let (response, text) = page.response();
        // What there is of an app's response was not sent.
        self.output.clear();
        self.head = Some(response);
        // A client that is gone needs no answer.
        let _ = self.send_head(text.is_empty());
        if let Some(body) = self.body.as_mut().filter(|_| !text.is_empty()) {
            // It waits for room by itself, and is short.
            let _ = body.send_data(text, true);
        }
    }
}

fn lost(error: h2::Error) -> io::Error {
    match error.is_io() {
        true => error
            .into_io()
            .unwrap_or_else(|| io::ErrorKind::Other.into()),
        false => io::Error::other(error),
    }
}
