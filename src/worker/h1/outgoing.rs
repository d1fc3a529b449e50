//! Defines a response of HTTP/1.1 on its way out: small ones leave in one write with their head.

use std::io;

use bytes::{Bytes, BytesMut};
use http::StatusCode;

use crate::http::error_page::ErrorPage;
use crate::http::head::Version;
use crate::http::response::{BodyLength, CONTINUE, ResponseError, ResponseHead};
use crate::http::response_body::BodyEncoder;
use crate::worker::shared::Shared;
use crate::worker::side::{self, Unsent, WRITE_BYTES};
use crate::worker::wire::Wire;

/// See [`side::Outgoing`].
pub(super) struct Outgoing<'a> {
    pub(super) shared: &'a Shared,
    pub(super) wire: &'a Wire,
    /// What is held back.
    pub(super) output: &'a mut BytesMut,
    pub(super) version: Version,
    /// Whether the request was HEAD.
    pub(super) head_only: bool,
    /// Whether the client lets the connection live on.
    pub(super) keep_alive: bool,
    encoder: Option<BodyEncoder>,
    begun: bool,
}

impl<'a> Outgoing<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        wire: &'a Wire,
        output: &'a mut BytesMut,
        (version, head_only, keep_alive): (Version, bool, bool),
    ) -> Self {
        Self {
            shared,
            wire,
            output,
            version,
            head_only,
            keep_alive,
            encoder: None,
            begun: false,
        }
    }

    /// Whether the response, which has ended, lets the connection be used again.
    pub(super) fn keeps_connection(&self) -> bool {
        let encoder = self.encoder.as_ref();
        encoder.is_some_and(|encoder| !encoder.must_close())
    }

    /// Whether the end of the connection would be taken for the end of the response.
    pub(super) fn ends_with_connection(&self) -> bool {
        let encoder = self.encoder.as_ref();
        encoder.is_some_and(BodyEncoder::ends_with_connection)
    }

    async fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.begun = true;
        self.wire.write(self.output, data).await
    }
}

impl side::Outgoing for Outgoing<'_> {
    async fn invite(&mut self) -> io::Result<()> {
        let mut invitation = BytesMut::from(CONTINUE);
        self.wire.write(&mut invitation, &[]).await
    }

    fn head(
        &mut self,
        head: &http::response::Parts,
        body: BodyLength,
    ) -> Result<(), ResponseError> {
        let head = ResponseHead {
            status: head.status,
            headers: &head.headers,
            version: self.version,
            head_request: self.head_only,
            keep_alive: self.keep_alive && self.shared.keeps_connections(),
            body,
            date: &self.shared.date(),
            server: self.shared.server,
        };
        self.encoder = Some(head.encode(self.output)?);
        Ok(())
    }

    fn takes_body(&self) -> bool {
        let encoder = self.encoder.as_ref();
        encoder.is_some_and(|encoder| !encoder.is_forbidden())
    }

    async fn data(&mut self, data: Bytes) -> Result<(), Unsent> {
        let encoder = self.encoder.as_mut().ok_or(ResponseError::BodyEnded)?;
        let framed = encoder.encode(data.len())?;
        if !framed.send() {
            return Ok(());
        }
        self.output.extend_from_slice(framed.prefix());
        if data.len() < WRITE_BYTES {
            self.output.extend_from_slice(&data);
        } else {
            self.write(&data).await?;
        }
        self.output.extend_from_slice(framed.suffix());
        if self.output.len() >= WRITE_BYTES {
            self.write(&[]).await?;
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<(), Unsent> {
        let encoder = self.encoder.as_mut().ok_or(ResponseError::BodyEnded)?;
        self.output.extend_from_slice(encoder.finish()?);
        Ok(self.write(&[]).await?)
    }

    fn holds_back(&self) -> bool {
        !self.output.is_empty()
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.write(&[]).await
    }

    fn has_begun(&self) -> bool {
        self.begun
    }

    /// The request's side reads the connection, and tells.
    async fn gone(&mut self) -> io::Error {
        std::future::pending().await
    }

    /// The connection closes after it.
    fn refuse(&mut self, status: StatusCode, retry_after: Option<u64>) {
        // What there is of an app's response was not written.
        self.output.clear();
        let date = self.shared.date();
        let page = ErrorPage {
            status,
            advice: None,
            retry_after,
            head_request: self.head_only,
            date: &date,
            server: self.shared.server,
        };
        page.encode(self.output);
    }
}
