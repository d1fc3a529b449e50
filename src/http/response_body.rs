//! Defines how the content of a response is framed.
//!
//! Invariant: a connection is fit for another request only after a body that ended exactly where
//! its head said; any other end must be visible to the client as a cut connection.

use super::response::ResponseError;

/// Hexadecimal digits of 64 bits, and CRLF.
const PREFIX_BYTES: usize = 18;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Content-Length: bytes still to come.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
    /// The end of the connection is the end of the body.
    UntilClose,
    /// No content may follow this head, whatever the app gives.
    Forbidden,
}

/// Frames the content of one response (RFC 9112 sections 6 and 7.1).
///
/// It touches no data: it says what goes before and after each piece.
#[derive(Debug, Clone)]
pub struct BodyEncoder {
    kind: Kind,
    keep_alive: bool,
    finished: bool,
}

/// What surrounds one piece of content on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    prefix: [u8; PREFIX_BYTES],
    prefix_start: usize,
    suffix: &'static [u8],
    send: bool,
}

impl Frame {
    /// Bytes to write before the piece.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix[self.prefix_start..]
    }

    /// Bytes to write after the piece.
    pub fn suffix(&self) -> &'static [u8] {
        self.suffix
    }

    /// Whether to write the piece at all. Content of an answer that has none (to HEAD, or with
    /// status 204, 205 or 304) is dropped.
    pub fn send(&self) -> bool {
        self.send
    }

    /// The piece as it is.
    fn plain(send: bool) -> Self {
        Self {
            prefix: [0; PREFIX_BYTES],
            prefix_start: PREFIX_BYTES,
            suffix: b"",
            send,
        }
    }

    /// The piece as one chunk.
    fn chunk(mut len: usize) -> Self {
        let mut prefix = [0; PREFIX_BYTES];
        let mut start = PREFIX_BYTES - 2;
        prefix[start..].copy_from_slice(b"\r\n");
        while len > 0 {
            start -= 1;
            prefix[start] = b"0123456789abcdef"[len & 0xf];
            len >>= 4;
        }
        Self {
            prefix,
            prefix_start: start,
            suffix: b"\r\n",
            send: true,
        }
    }
}

impl BodyEncoder {
    pub(super) fn new(kind: Kind, keep_alive: bool) -> Self {
        Self {
            kind,
            keep_alive: keep_alive && kind != Kind::UntilClose,
            finished: false,
        }
    }

    /// Frames a piece of `data_len` bytes. Nothing surrounds an empty piece: an empty chunk would
    /// end the body.
    ///
    /// # Errors
    ///
    /// [`ResponseError::BodyTooLong`] if the head promised fewer bytes, and
    /// [`ResponseError::BodyEnded`] after [`BodyEncoder::finish`]. The piece must not be written.
    pub fn encode(&mut self, data_len: usize) -> Result<Frame, ResponseError> {
        if self.finished {
            return Err(ResponseError::BodyEnded);
        }
        match &mut self.kind {
            Kind::Length(left) => {
                let len = data_len as u64;
                *left = left
                    .checked_sub(len)
                    .ok_or_else(|| ResponseError::BodyTooLong {
                        excess: len - *left,
                    })?;
                Ok(Frame::plain(data_len > 0))
            }
            Kind::Chunked if data_len > 0 => Ok(Frame::chunk(data_len)),
            Kind::Chunked => Ok(Frame::plain(false)),
            Kind::UntilClose => Ok(Frame::plain(data_len > 0)),
            Kind::Forbidden => Ok(Frame::plain(false)),
        }
    }

    /// Ends the body and answers with the bytes that say so.
    ///
    /// # Errors
    ///
    /// [`ResponseError::BodyTooShort`] if the head promised more bytes, and
    /// [`ResponseError::BodyEnded`] the second time. The connection must then be cut.
    pub fn finish(&mut self) -> Result<&'static [u8], ResponseError> {
        if self.finished {
            return Err(ResponseError::BodyEnded);
        }
        match self.kind {
            Kind::Length(missing) if missing > 0 => Err(ResponseError::BodyTooShort { missing }),
            Kind::Length(_) | Kind::UntilClose | Kind::Forbidden => {
                self.finished = true;
                Ok(b"")
            }
            Kind::Chunked => {
                self.finished = true;
                Ok(b"0\r\n\r\n")
            }
        }
    }

    /// Whether no content may follow the head (to HEAD, or with status 204, 205 or 304), so that the
    /// app's need not even be asked for.
    pub fn is_forbidden(&self) -> bool {
        self.kind == Kind::Forbidden
    }

    /// Whether only the end of the connection tells the client that the body is whole, so that one
    /// that is not must end in another way.
    pub fn ends_with_connection(&self) -> bool {
        self.kind == Kind::UntilClose
    }

    /// Bytes still to come if the head told how many.
    pub fn remaining(&self) -> Option<u64> {
        match self.kind {
            Kind::Length(left) => Some(left),
            Kind::Forbidden => Some(0),
            Kind::Chunked | Kind::UntilClose => None,
        }
    }

    /// Whether the connection must be closed if the exchange ends now: because the head said so,
    /// or because the body has not been finished.
    pub fn must_close(&self) -> bool {
        !self.keep_alive || !self.finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks() {
        let mut encoder = BodyEncoder::new(Kind::Chunked, true);
        let cases: [(usize, &[u8], &[u8], bool); 6] = [
            (0, b"", b"", false),
            (1, b"1\r\n", b"\r\n", true),
            (15, b"f\r\n", b"\r\n", true),
            (16, b"10\r\n", b"\r\n", true),
            (0xABCDE, b"abcde\r\n", b"\r\n", true),
            (usize::MAX, b"ffffffffffffffff\r\n", b"\r\n", true),
        ];
        for (len, prefix, suffix, send) in cases {
            let frame = encoder.encode(len).unwrap();
            assert_eq!(
                (frame.prefix(), frame.suffix(), frame.send()),
                (prefix, suffix, send)
            );
        }
        assert!(encoder.must_close());
        assert_eq!(encoder.finish(), Ok(b"0\r\n\r\n".as_slice()));
        assert!(!encoder.must_close());
        assert_eq!(encoder.finish(), Err(ResponseError::BodyEnded));
        assert_eq!(encoder.encode(1), Err(ResponseError::BodyEnded));
    }

    #[test]
    fn lengths_are_kept() {
        let mut encoder = BodyEncoder::new(Kind::Length(3), true);
        let frame = encoder.encode(2).unwrap();
        assert_eq!(
            (frame.prefix(), frame.suffix(), frame.send()),
            (&b""[..], &b""[..], true)
        );
        assert_eq!(
            encoder.encode(4),
            Err(ResponseError::BodyTooLong { excess: 3 })
        );
        assert_eq!(
            encoder.finish(),
            Err(ResponseError::BodyTooShort { missing: 1 })
        );
        assert!(encoder.must_close());
        assert_eq!(encoder.remaining(), Some(1));
        encoder.encode(1).unwrap();
        assert_eq!(encoder.finish(), Ok(b"".as_slice()));
        assert!(!encoder.must_close());
    }

    #[test]
    fn forbidden_content_is_dropped_and_close_delimited_content_closes() {
        let mut encoder = BodyEncoder::new(Kind::Forbidden, true);
        assert!(!encoder.encode(5).unwrap().send());
        assert_eq!(encoder.finish(), Ok(b"".as_slice()));
        assert!(!encoder.must_close());
        let mut encoder = BodyEncoder::new(Kind::UntilClose, true);
        assert!(encoder.encode(5).unwrap().send());
        assert_eq!(encoder.finish(), Ok(b"".as_slice()));
        assert!(encoder.must_close());
        let mut encoder = BodyEncoder::new(Kind::Length(0), false);
        assert_eq!(encoder.finish(), Ok(b"".as_slice()));
        assert!(encoder.must_close());
    }
}
