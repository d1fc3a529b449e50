//! Defines HTTP/1.1 without input and output: bytes go in, a head and pieces of content come out,
//! and a response becomes bytes.
//!
//! Invariant: nothing here owns a socket, reads a clock or knows of wasm, and every buffer and
//! counter is bounded by [`limits::Limits`] or by a constant. A request that two implementations
//! could read differently is refused, never repaired (RFC 9112 section 11).
//!
//! The way of one exchange: [`head::HeadScanner`] until it answers with a [`head::Head`], a
//! [`body::BodyDecoder`] for the content that the head announces, then [`response::ResponseHead`]
//! and the [`response_body::BodyEncoder`] that it returns. A [`refusal::Refusal`] at any step is
//! answered with an [`error_page::ErrorPage`] and ends the connection. [`h2`] makes of HTTP/2 what
//! an app may take for the same.

pub mod body;
pub mod date;
pub mod error_page;
mod fields;
pub mod forwarded;
pub mod frames;
pub mod h2;
pub mod head;
pub mod limits;
pub mod proxy_protocol;
pub mod refusal;
pub mod response;
pub mod response_body;
mod scan;
pub mod target;

#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
pub mod replay;
