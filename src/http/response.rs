//! Defines how the head of a response is written.
//!
//! Invariant: framing, persistence and connection fields come from the server alone; what an app
//! says about them is dropped or must agree. An app cannot make a client wait for bytes that
//! never come, or take the rest of one response for the next.

use bytes::BytesMut;
use http::header::{CONTENT_LENGTH, DATE, HeaderMap, HeaderValue, SERVER};
use http::{HeaderName, StatusCode};

use super::fields::parse_length;
use super::head::Version;
use super::response_body::{BodyEncoder, Kind};
use super::scan::is_control;

/// The interim answer to `Expect: 100-continue` (RFC 9110 section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Largest head that an app can send: far above what any client takes.
const HEAD_BYTES_MAX: usize = 256 * 1024;
/// Decimal digits of 64 bits.
const DECIMAL_BYTES: usize = 20;

/// A response of an app that cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The status is 101, or interim towards a client that speaks HTTP/1.0.
    #[error("cannot send status {0}")]
    Status(StatusCode),
    /// Content-Length is not one number, or there are several.
    #[error("invalid content-length in the response")]
    ContentLength,
    /// Content-Length is not the length of the body.
    #[error("response declares content-length {declared} for a body of {actual} bytes")]
    LengthMismatch {
        /// What the field says.
        declared: u64,
        /// How long the body is.
        actual: u64,
    },
    /// The head is larger than 256 KiB.
    #[error("response head too large")]
    HeadTooLarge,
    /// The body is longer than the head said.
    #[error("response body is {excess} bytes longer than its content-length")]
    BodyTooLong {
        /// Bytes beyond the end.
        excess: u64,
    },
    /// The body is shorter than the head said.
    #[error("response body is {missing} bytes shorter than its content-length")]
    BodyTooShort {
        /// Bytes that never came.
        missing: u64,
    },
    /// Something was to be written after the end of the body.
    #[error("response body has ended")]
    BodyEnded,
}

/// What is known of a response body before its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none.
    None,
    /// It has so many bytes.
    Known(u64),
    /// The app makes it as it goes.
    Unknown,
}

/// The head of a response, and what decides its framing.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'a> {
    /// The status that the app chose.
    pub status: StatusCode,
    /// The fields that the app gave.
    pub headers: &'a HeaderMap,
    /// The version of the request.
    pub version: Version,
    /// Whether the request was HEAD.
    pub head_request: bool,
    /// Whether client and server both let the connection live on.
    pub keep_alive: bool,
    /// What is known of the body.
    pub body: BodyLength,
    /// The value of Date, unless the app gave one: see [`super::date::imf_fixdate`].
    pub date: &'a [u8],
    /// The value of Server, unless the app gave one.
    pub server: Option<&'a str>,
}

/// What the server adds to the app's head, and the framing that follows from it.
struct Plan {
    length: Option<u64>,
    kind: Kind,
}

impl ResponseHead<'_> {
    /// Appends the head to `out` and answers with the encoder for its body.
    ///
    /// Connection, Keep-Alive, Proxy-Connection, TE, Trailer, Transfer-Encoding and Upgrade are
    /// the server's and are dropped (RFC 9110 section 7.6.1). Content-Length is written once,
    /// where the status and method permit it (section 8.6). A body of unknown length is chunked,
    /// or ends with the connection towards HTTP/1.0 (RFC 9112 sections 6.1 and 6.3). The status
    /// line always says HTTP/1.1 (section 2.3). An interim head (1xx) holds the app's fields
    /// and nothing else, and says nothing of the connection.
    ///
    /// # Errors
    ///
    /// A [`ResponseError`] if the app's response cannot be sent; `out` is then as it was.
    pub fn encode(&self, out: &mut BytesMut) -> Result<BodyEncoder, ResponseError> {
        let plan = self.plan()?;
        let before = out.len();
        let written = self.write(&plan, out);
        if written.is_err() {
            out.truncate(before);
        }
        written.map(|()| BodyEncoder::new(plan.kind, self.keep_alive))
    }

    /// The same head for HTTP/2, whose fields others write (RFC 9113 section 8.3.2).
    ///
    /// # Errors
    ///
    /// As for [`encode`](Self::encode).
    pub fn response(&self) -> Result<(http::Response<()>, BodyEncoder), ResponseError> {
        let plan = self.plan()?;
        let mut own = OwnFields {
            date: true,
            server: true,
        };
        let mut response = http::Response::new(());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let mut bytes = 0;
        for (name, value) in self.headers {
            if own.takes(name) {
                bytes += name.as_str().len() + value.len();
                if bytes > HEAD_BYTES_MAX || headers.try_append(name, value.clone()).is_err() {
                    return Err(ResponseError::HeadTooLarge);
                }
            }
        }
        let mut add = |name, value: &[u8]| {
            // A value that cannot stand in a field is left out, as in HTTP/1.1.
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.insert(name, value);
            }
        };
        if let Some(length) = plan.length {
            add(CONTENT_LENGTH, decimal(length, &mut [0; DECIMAL_BYTES]));
        }
        if own.date {
            add(DATE, self.date);
        }
        if let Some(server) = self.server.filter(|_| own.server) {
            add(SERVER, server.as_bytes());
        }
        Ok((response, BodyEncoder::new(plan.kind, true)))
    }

    /// Decides the framing (RFC 9112 section 6.3, RFC 9110 sections 8.6, 9.3.2 and 15).
    fn plan(&self) -> Result<Plan, ResponseError> {
        let declared = declared_length(self.headers)?;
        let forbidden = |length| {
            Ok(Plan {
                length,
                kind: Kind::Forbidden,
            })
        };
        let exact = |length| {
            Ok(Plan {
                length: Some(length),
                kind: Kind::Length(length),
            })
        };
        let known = match self.body {
            BodyLength::None => Some(0),
            BodyLength::Known(length) => Some(length),
            BodyLength::Unknown => None,
        };
        if self.status.is_informational() {
            let upgrade = self.status == StatusCode::SWITCHING_PROTOCOLS;
            if upgrade || self.version == Version::Http10 {
                return Err(ResponseError::Status(self.status));
            }
            return forbidden(None);
        }
        match self.status {
            StatusCode::NO_CONTENT => return forbidden(None),
            StatusCode::NOT_MODIFIED => return forbidden(declared),
            StatusCode::RESET_CONTENT => return forbidden(Some(0)),
            _ => {}
        }
        if self.head_request {
            // No body here does not mean that GET would have none: then better say nothing.
            return forbidden(declared.or(known.filter(|length| *length > 0)));
        }
        match (known, declared) {
            (Some(actual), Some(declared)) if actual != declared => {
                Err(ResponseError::LengthMismatch { declared, actual })
            }
            (Some(length), _) | (None, Some(length)) => exact(length),
            (None, None) => Ok(Plan {
                length: None,
                kind: match self.version {
                    Version::Http11 => Kind::Chunked,
                    // HTTP/2 has a stream for each, whose end is seen.
                    Version::Http10 | Version::Http2 => Kind::UntilClose,
                },
            }),
        }
    }

    fn write(&self, plan: &Plan, out: &mut BytesMut) -> Result<(), ResponseError> {
        let mut own = OwnFields {
            date: true,
            server: true,
        };
        let end = out.len() + HEAD_BYTES_MAX;
        status_line(out, self.status);
        for (name, value) in self.headers {
            if own.takes(name) {
                put_field(out, name.as_str(), value.as_bytes());
                if out.len() > end {
                    return Err(ResponseError::HeadTooLarge);
                }
            }
        }
        if !self.status.is_informational() {
            self.write_own(plan, &own, out);
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Writes the fields that are the server's.
    fn write_own(&self, plan: &Plan, own: &OwnFields, out: &mut BytesMut) {
        if let Some(length) = plan.length {
            put_field(
                out,
                "content-length",
                decimal(length, &mut [0; DECIMAL_BYTES]),
            );
        } else if plan.kind == Kind::Chunked {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        put_origin(
            out,
            Some(self.date).filter(|_| own.date),
            self.server.filter(|_| own.server),
        );
        if !self.keep_alive || plan.kind == Kind::UntilClose {
            out.extend_from_slice(b"connection: close\r\n");
        } else if self.version == Version::Http10 {
            out.extend_from_slice(b"connection: keep-alive\r\n");
        }
    }
}

/// Which of the fields that an app may set itself are still the server's to write.
struct OwnFields {
    date: bool,
    server: bool,
}

impl OwnFields {
    /// Whether a field of the app goes into the head.
    fn takes(&mut self, name: &HeaderName) -> bool {
        match name.as_str() {
            "date" => std::mem::take(&mut self.date),
            "server" => std::mem::take(&mut self.server),
            "connection" | "content-length" | "keep-alive" | "proxy-connection" | "te"
            | "trailer" | "transfer-encoding" | "upgrade" => false,
            _ => true,
        }
    }
}

/// The Content-Length that an app gave, if it gave one.
fn declared_length(headers: &HeaderMap) -> Result<Option<u64>, ResponseError> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => parse_length(value.as_bytes())
            .map(Some)
            .ok_or(ResponseError::ContentLength),
        (Some(_), Some(_)) => Err(ResponseError::ContentLength),
    }
}

/// Writes a status line (RFC 9112 section 4). An unknown status has an empty reason.
fn status_line(out: &mut BytesMut, status: StatusCode) {
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(status.canonical_reason().unwrap_or("").as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes Date and Server. A value that cannot stand in a field is left out: both come from
/// outside this room.
fn put_origin(out: &mut BytesMut, date: Option<&[u8]>, server: Option<&str>) {
    let valid = |value: &&[u8]| !value.is_empty() && !value.iter().copied().any(is_control);
    if let Some(date) = date.filter(valid) {
        put_field(out, "date", date);
    }
    if let Some(server) = server.map(str::as_bytes).filter(valid) {
        put_field(out, "server", server);
    }
}

fn put_field(out: &mut BytesMut, name: &str, value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes a number into `digits`, from its end.
fn decimal(mut value: u64, digits: &mut [u8; DECIMAL_BYTES]) -> &[u8] {
    let mut start = DECIMAL_BYTES;
    loop {
        start -= 1;
        digits[start] = b"0123456789"[(value % 10) as usize];
        value /= 10;
        if value == 0 {
            return &digits[start..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        headers
    }

    fn head(status: u16, headers: &HeaderMap, body: BodyLength) -> ResponseHead<'_> {
        ResponseHead {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            version: Version::Http11,
            head_request: false,
            keep_alive: true,
            body,
            date: b"D",
            server: Some("S"),
        }
    }

    fn text(head: &ResponseHead<'_>) -> Result<(String, bool), ResponseError> {
        let mut out = BytesMut::from(&b"before|"[..]);
        let answer = head.encode(&mut out);
        let text = String::from_utf8(out.to_vec()).unwrap();
        let written = text.strip_prefix("before|").unwrap();
        if answer.is_err() {
            assert_eq!(written, "");
        }
        let encoder = answer?;
        let mut finished = encoder.clone();
        while let Some(left @ 1..) = finished.remaining() {
            finished.encode(usize::try_from(left).unwrap()).unwrap();
        }
        finished.finish().unwrap();
        Ok((written.replace("\r\n", "|"), finished.must_close()))
    }

    #[test]
    fn framing() {
        use BodyLength::{Known, None as Nothing, Unknown};
        let none = map(&[]);
        let five = map(&[("content-length", "5")]);
        // status, fields, body, HEAD, the fields before Date
        let cases: [(u16, &HeaderMap, BodyLength, bool, &str); 19] = [
            (200, &none, Nothing, false, "200 OK|content-length: 0|"),
            (200, &none, Known(12), false, "200 OK|content-length: 12|"),
            (200, &five, Known(5), false, "200 OK|content-length: 5|"),
            (200, &five, Unknown, false, "200 OK|content-length: 5|"),
            (
                200,
                &none,
                Unknown,
                false,
                "200 OK|transfer-encoding: chunked|",
            ),
            (200, &none, Nothing, true, "200 OK|"),
            (200, &none, Known(0), true, "200 OK|"),
            (200, &none, Known(7), true, "200 OK|content-length: 7|"),
            (200, &none, Unknown, true, "200 OK|"),
            (200, &five, Nothing, true, "200 OK|content-length: 5|"),
            (204, &none, Nothing, false, "204 No Content|"),
            (204, &five, Known(5), false, "204 No Content|"),
            (
                205,
                &none,
                Known(5),
                false,
                "205 Reset Content|content-length: 0|",
            ),
            (
                304,
                &five,
                Nothing,
                false,
                "304 Not Modified|content-length: 5|",
            ),
            (304, &none, Known(9), false, "304 Not Modified|"),
            (
                304,
                &five,
                Nothing,
                true,
                "304 Not Modified|content-length: 5|",
            ),
            (
                404,
                &none,
                Known(1),
                false,
                "404 Not Found|content-length: 1|",
            ),
            (299, &none, Known(1), false, "299 |content-length: 1|"),
            (999, &none, Known(1), false, "999 |content-length: 1|"),
        ];
        for (status, headers, body, head_request, expected) in cases {
            let head = ResponseHead {
                head_request,
                ..head(status, headers, body)
            };
            let expected = format!("HTTP/1.1 {expected}date: D|server: S||");
            assert_eq!(text(&head), Ok((expected, false)), "{status} {body:?}");
        }
    }

    #[test]
    fn persistence() {
        use BodyLength::{Known, Unknown};
        let none = map(&[]);
        let cases = [
            (Version::Http11, true, Known(1), "", false),
            (Version::Http11, false, Known(1), "connection: close|", true),
            (Version::Http11, false, Unknown, "connection: close|", true),
            (
                Version::Http10,
                true,
                Known(1),
                "connection: keep-alive|",
                false,
            ),
            (Version::Http10, false, Known(1), "connection: close|", true),
            (Version::Http10, true, Unknown, "connection: close|", true),
        ];
        for (version, keep_alive, body, expected, close) in cases {
            let head = ResponseHead {
                version,
                keep_alive,
                ..head(200, &none, body)
            };
            let (text, must_close) = text(&head).unwrap();
            assert!(text.ends_with(&format!("server: S|{expected}|")), "{text}");
            assert_eq!(
                text.contains("transfer-encoding"),
                !text.contains("content-length") && version == Version::Http11
            );
            assert_eq!(must_close, close, "{text}");
        }
    }

    #[test]
    fn fields_of_the_app() {
        let headers = map(&[
            ("connection", "close, x-hop"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "gzip"),
            ("upgrade", "h2c"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("date", "mine"),
            ("date", "again"),
            ("server", "mine"),
            ("x-empty", ""),
        ]);
        let (text, _) = text(&head(200, &headers, BodyLength::Known(1))).unwrap();
        assert_eq!(
            text,
            "HTTP/1.1 200 OK|set-cookie: a=1|set-cookie: b=2|date: mine|server: mine|\
             x-empty: |content-length: 1||"
        );
    }

    #[test]
    fn without_a_server_name_and_with_values_that_no_field_can_hold() {
        let none = map(&[]);
        for server in [None, Some(""), Some("a\r\nb: c")] {
            let head = ResponseHead {
                server,
                date: b"\n",
                ..head(204, &none, BodyLength::None)
            };
            assert_eq!(text(&head).unwrap().0, "HTTP/1.1 204 No Content||");
        }
    }

    #[test]
    fn interim_heads() {
        let hints = map(&[
            ("link", "</a>"),
            ("content-length", "3"),
            ("connection", "x"),
        ]);
        let early = head(103, &hints, BodyLength::None);
        assert_eq!(
            text(&early).unwrap().0,
            "HTTP/1.1 103 Early Hints|link: </a>||"
        );
        let old = ResponseHead {
            version: Version::Http10,
            ..early
        };
        assert_eq!(text(&old), Err(ResponseError::Status(early.status)));
        let switching = head(101, &hints, BodyLength::None);
        assert_eq!(
            text(&switching),
            Err(ResponseError::Status(switching.status))
        );
    }

    #[test]
    fn wrong_lengths() {
        use BodyLength::{Known, None as Nothing, Unknown};
        let mismatch = |declared, actual| Err(ResponseError::LengthMismatch { declared, actual });
        let invalid = Err(ResponseError::ContentLength);
        let cases: [(&[(&str, &str)], BodyLength, _); 7] = [
            (&[("content-length", "5")], Known(4), mismatch(5, 4)),
            (&[("content-length", "5")], Nothing, mismatch(5, 0)),
            (&[("content-length", "0")], Known(1), mismatch(0, 1)),
            (&[("content-length", "+5")], Known(5), invalid.clone()),
            (&[("content-length", "")], Unknown, invalid.clone()),
            (
                &[("content-length", "5"), ("content-length", "5")],
                Known(5),
                invalid.clone(),
            ),
            (&[("content-length", "5, 5")], Known(5), invalid),
        ];
        for (lines, body, expected) in cases {
            let lines: Vec<_> = lines.to_vec();
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                );
            }
            assert_eq!(text(&head(200, &headers, body)), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_head_beyond_any_reason_is_an_error() {
        let mut headers = HeaderMap::new();
        for _ in 0..5 {
            headers.append("x", HeaderValue::from_bytes(&[b'x'; 50 * 1024]).unwrap());
        }
        assert!(text(&head(200, &headers, BodyLength::None)).is_ok());
        headers.append("x", HeaderValue::from_bytes(&[b'x'; 50 * 1024]).unwrap());
        let answer = text(&head(200, &headers, BodyLength::None));
        assert_eq!(answer, Err(ResponseError::HeadTooLarge));
    }

    #[test]
    fn decimals() {
        for value in [0, 9, 10, 1234567890, u64::MAX] {
            let mut digits = [0; DECIMAL_BYTES];
            assert_eq!(decimal(value, &mut digits), value.to_string().as_bytes());
        }
    }
}
