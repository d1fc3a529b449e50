//! Defines the head of a request and how it is read from bytes.
//!
//! Invariant: a [`Head`] exists only for bytes that RFC 9110 and RFC 9112 let nobody read in a
//! second way. httparse does the tokenising; it is more lenient than that, so each of its
//! leniencies is closed here: bare line feeds, any number of empty lines before the request, and
//! silence about limits.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Uri};

use super::fields::Fields;
use super::limits::Limits;
use super::refusal::Refusal;
use super::scan::{Scan, skip_empty_lines};
use super::target::{self, Target};

/// The first byte of a TLS connection, whose first record is a handshake (RFC 8446 section 5.1).
pub const TLS_HANDSHAKE: u8 = 22;
/// Fields that are parsed without a heap allocation; the default limit fits.
const INLINE_FIELDS: usize = 128;

/// The protocol versions that are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2, of which only the head's meaning is our business: see [`super::h2`].
    Http2,
}

impl From<Version> for http::Version {
    fn from(version: Version) -> Self {
        match version {
            Version::Http10 => Self::HTTP_10,
            Version::Http11 => Self::HTTP_11,
            Version::Http2 => Self::HTTP_2,
        }
    }
}

/// How the body of a request is delimited (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Neither Content-Length nor Transfer-Encoding: there is no body.
    None,
    /// A body of so many bytes.
    Length(u64),
    /// A body in chunks.
    Chunked,
}

impl Framing {
    /// Whether the body can hold a byte.
    pub fn has_content(self) -> bool {
        match self {
            Self::None | Self::Length(0) => false,
            Self::Length(_) | Self::Chunked => true,
        }
    }
}

/// The head of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// The method; an unknown one is left to the app.
    pub method: Method,
    /// The form that the target had.
    pub target: Target,
    /// The scheme of an absolute target.
    pub scheme: Option<Scheme>,
    /// Whom the client wants: from an absolute target, else from Host. Always there in HTTP/1.1.
    pub authority: Option<Authority>,
    /// The path as the client wrote it, with its query; `*` for [`Target::Asterisk`].
    pub path_and_query: PathAndQuery,
    /// The version that the client speaks.
    pub version: Version,
    /// All fields, those that the server reads itself included. Host is that of an absolute
    /// target, if the target was one, so nobody can take the other for it.
    pub headers: HeaderMap,
    /// How the body is delimited.
    pub framing: Framing,
    /// Whether the client lets the connection live on after this exchange.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
}

impl Head {
    /// The authority as text, empty if there is none.
    pub fn authority_str(&self) -> &str {
        self.authority.as_ref().map_or("", Authority::as_str)
    }

    /// The target URI (RFC 9110 section 7.1), put together without parsing or copying. Unless the
    /// target says its scheme, it is `scheme`.
    ///
    /// It has a scheme and an authority only if there is an authority and the target is not `*`.
    pub fn uri(&self, scheme: Scheme) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = Some(self.path_and_query.clone());
        if self.target != Target::Asterisk && self.authority.is_some() {
            parts.scheme = Some(self.scheme.clone().unwrap_or(scheme));
            parts.authority.clone_from(&self.authority);
        }
        Uri::from_parts(parts).expect("scheme and authority are set together, beside a path")
    }
}

/// Reads one head from the start of `buf`.
///
/// Answers with the head and the number of bytes that it took, or `None` if `buf` holds only the
/// beginning of one. Each call starts over: a reader that gets a head in pieces keeps a
/// [`HeadScanner`] instead.
///
/// # Errors
///
/// The [`Refusal`] for the first fault; limits are enforced before the head is complete.
pub fn parse(buf: &[u8], limits: &Limits) -> Result<Option<(Head, usize)>, Refusal> {
    HeadScanner::default().parse(buf, limits)
}

/// Whether `buf` holds anything of a request: the empty lines that may come before one are nothing
/// (RFC 9112 section 2.2).
///
/// # Errors
///
/// The [`Refusal`] of what begins no request, or of too many empty lines.
pub fn has_begun(buf: &[u8]) -> Result<bool, Refusal> {
    Ok(skip_empty_lines(buf)?.is_some())
}

/// Whether `buf` begins with the method HEAD, whatever else is wrong with the request: then an answer
/// to it has no content (RFC 9110 section 9.3.2).
pub fn is_head(buf: &[u8]) -> bool {
    matches!(skip_empty_lines(buf), Ok(Some(start)) if buf[start..].starts_with(b"HEAD "))
}

/// Reads heads from a buffer that grows, and remembers how far it has searched.
///
/// A head that comes whole is tokenised once. One that comes in n pieces costs three passes over
/// its bytes, for every n. The answer does not depend on how the bytes were cut.
#[derive(Debug, Clone, Default)]
pub struct HeadScanner {
    scan: Scan,
}

impl HeadScanner {
    /// Reads a head from the start of `buf`, which must hold the bytes of the last call and may
    /// hold more. After a head the scanner is ready for the next one, at the start of a buffer
    /// without the bytes that the head took.
    ///
    /// # Errors
    ///
    /// As for [`parse`].
    pub fn parse(&mut self, buf: &[u8], limits: &Limits) -> Result<Option<(Head, usize)>, Refusal> {
        if buf.len() < self.scan.seen() {
            // Not the buffer of the last call: what was learnt says nothing about this one.
            self.scan = Scan::default();
        }
        if self.scan.is_fresh() {
            let Some(start) = skip_empty_lines(buf)? else {
                return Ok(None);
            };
            if let Some(answer) = parse_whole(&buf[start..], start, limits) {
                return answer.map(|(head, len)| Some((head, start + len)));
            }
        }
        let Some(extent) = self.scan.advance(buf, limits)? else {
            return Ok(None);
        };
        self.scan = Scan::default();
        let head = parse_scanned(&buf[extent.start..extent.end], extent.fields)?;
        Ok(Some((head, extent.end)))
    }
}

/// Tries to read a head in one pass. `None` means that the scanner has to look: the head is
/// incomplete, faulty or beyond a limit, and only the scanner finds the first fault.
///
/// `skipped` bytes before the head count towards the limit on it.
fn parse_whole(
    buf: &[u8],
    skipped: usize,
    limits: &Limits,
) -> Option<Result<(Head, usize), Refusal>> {
    let mut storage = [const { MaybeUninit::uninit() }; INLINE_FIELDS];
    let slots = limits.fields_max().min(INLINE_FIELDS);
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(buf, &mut storage[..slots]) {
        Ok(httparse::Status::Complete(len))
            if skipped + len <= limits.head_bytes_max()
                && is_strict(&request, &buf[..len], limits) =>
        {
            Some(build(&request, &buf[..len]).map(|head| (head, len)))
        }
        Ok(_) | Err(_) => None,
    }
}

/// Reads a head whose lines the scanner has accepted.
fn parse_scanned(head: &[u8], fields: usize) -> Result<Head, Refusal> {
    let mut inline = [const { MaybeUninit::uninit() }; INLINE_FIELDS];
    let mut heap = Vec::new();
    let storage = if fields <= INLINE_FIELDS {
        &mut inline[..fields]
    } else {
        heap.resize(fields, MaybeUninit::uninit());
        &mut heap[..]
    };
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, storage) {
        Ok(httparse::Status::Complete(len)) if len == head.len() => build(&request, head),
        Ok(_) => Err(Refusal::bad_request("malformed head")),
        Err(error) => Err(Refusal::bad_request(match error {
            httparse::Error::HeaderName => "malformed field name",
            httparse::Error::HeaderValue => "malformed field value",
            httparse::Error::Token => "malformed method or target",
            httparse::Error::Version => "malformed version",
            httparse::Error::NewLine
            | httparse::Error::Status
            | httparse::Error::TooManyHeaders => "malformed head",
        })),
    }
}

/// Whether what httparse took for a head, all of `head`, keeps to the limits and has CRLF at the
/// end of every line. The offsets of the parts tell, so no byte is searched again.
fn is_strict(request: &httparse::Request<'_, '_>, head: &[u8], limits: &Limits) -> bool {
    const VERSION_LEN: usize = " HTTP/1.1".len();
    let Some(path) = request.path else {
        return false;
    };
    let is_crlf = |at: usize| head.get(at..at + 2) == Some(b"\r\n");
    let line_len = offset(head, path.as_bytes()) + path.len() + VERSION_LEN;
    let mut line_start = line_len + 2;
    let field_ok = |field: &httparse::Header<'_>| {
        debug_assert_eq!(offset(head, field.name.as_bytes()), line_start);
        // The value ends at the line end but for whitespace, which nothing else can hide in.
        let value_end = match field.value {
            [] => line_start + field.name.len() + 1,
            value => offset(head, value) + value.len(),
        };
        let blank = |byte: &&u8| matches!(**byte, b' ' | b'\t');
        let line_end = value_end + head[value_end..].iter().take_while(blank).count();
        let field_len = line_end - line_start;
        line_start = line_end + 2;
        field_len <= limits.field_bytes_max() && is_crlf(line_end)
    };
    line_len <= limits.request_line_max()
        && is_crlf(line_len)
        && request.headers.iter().all(field_ok)
        && is_crlf(head.len() - 2)
}

/// Offset of `part` in `whole`, of which it is a piece.
fn offset(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize
}

/// Checks what the tokens mean and makes the head of them.
fn build(request: &httparse::Request<'_, '_>, head: &[u8]) -> Result<Head, Refusal> {
    const INCOMPLETE: Refusal = Refusal::bad_request("malformed head");
    let method = request.method.ok_or(INCOMPLETE)?;
    let path = request.path.ok_or(INCOMPLETE)?;
    let version = match request.version {
        Some(1) => Version::Http11,
        Some(0) => Version::Http10,
        // The scanner has refused every other version.
        Some(_) | None => return Err(INCOMPLETE),
    };
    let method = Method::from_bytes(method.as_bytes())
        .map_err(|_| Refusal::bad_request("malformed method"))?;
    // The one copy: every value below is a reference into it.
    let shared = Bytes::copy_from_slice(head);
    let slice = |part: &[u8]| match part {
        [] => Bytes::new(),
        part => {
            let start = offset(head, part);
            shared.slice(start..start + part.len())
        }
    };
    let parts = target::parse(&method, slice(path.as_bytes()))?;
    let mut fields = Fields::default();
    let mut headers = collect(request.headers, slice, &mut fields)?;
    let host = fields.host().map(target::parse_host).transpose()?;
    if host.is_none() && version == Version::Http11 {
        return Err(Refusal::bad_request("HTTP/1.1 without Host"));
    }
    if let Some(authority) = &parts.authority {
        // RFC 9112 section 3.2.2: what the field says must be ignored.
        let host = HeaderValue::from_str(authority.as_str())
            .map_err(|_| Refusal::bad_request("malformed authority"))?;
        headers
            .try_insert(HOST, host)
            .map_err(|_| Refusal::fields_too_large("too many fields"))?;
    }
    let framing = fields.framing(version)?;
    Ok(Head {
        method,
        target: parts.form,
        scheme: parts.scheme,
        authority: parts.authority.or(host),
        path_and_query: parts.path_and_query,
        version,
        headers,
        framing,
        keep_alive: fields.keep_alive(version),
        expect_continue: fields.expect_continue(version, framing)?,
    })
}

/// Moves the fields into a map and notes those that the server reads itself.
fn collect(
    lines: &[httparse::Header<'_>],
    slice: impl Fn(&[u8]) -> Bytes,
    fields: &mut Fields,
) -> Result<HeaderMap, Refusal> {
    let mut headers = HeaderMap::with_capacity(lines.len());
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes())
            .map_err(|_| Refusal::bad_request("malformed field name"))?;
        let value = slice(line.value);
        fields.note(&name, &value)?;
        let value = HeaderValue::from_maybe_shared(value)
            .map_err(|_| Refusal::bad_request("malformed field value"))?;
        headers
            .try_append(name, value)
            .map_err(|_| Refusal::fields_too_large("too many fields"))?;
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"GET /a?b HTTP/1.1\r\nHost: h:1\r\nA: b\r\n\r\n";

    #[test]
    fn a_strict_head_within_the_limits_takes_one_pass() {
        let limits = Limits::default();
        assert!(
            matches!(parse_whole(REQUEST, 0, &limits), Some(Ok((_, len))) if len == REQUEST.len())
        );
        let lenient: [&[u8]; 5] = [
            b"GET /a?b HTTP/1.1\nHost: h:1\r\nA: b\r\n\r\n",
            b"GET /a?b HTTP/1.1\r\nHost: h:1\nA: b\r\n\r\n",
            b"GET /a?b HTTP/1.1\r\nHost: h:1\r\nA: b\n\r\n",
            b"GET /a?b HTTP/1.1\r\nHost: h:1\r\nA:\n\r\n",
            b"GET /a?b HTTP/1.1\r\nHost: h:1\r\nA: b\r\n\n",
        ];
        for head in lenient {
            assert!(
                parse_whole(head, 0, &limits).is_none(),
                "{}",
                head.escape_ascii()
            );
            let status = parse(head, &limits).map_err(|refusal| refusal.status.as_u16());
            assert_eq!(status, Err(400), "{}", head.escape_ascii());
        }
        for tight in [
            Limits {
                request_line_bytes: 16,
                ..limits
            },
            Limits {
                fields: 1,
                ..limits
            },
            Limits {
                field_bytes: 8,
                ..limits
            },
        ] {
            assert!(parse_whole(REQUEST, 0, &tight).is_none(), "{tight:?}");
        }
    }

    #[test]
    fn the_limit_on_the_whole_head_does_not_depend_on_how_it_comes() {
        let limits = Limits {
            request_line_bytes: 0,
            fields: 0,
            field_bytes: 0,
        };
        for (skipped, excess) in [(0, 0), (0, 1), (4, 0), (4, 1), (8, 1)] {
            let mut head = b"\r\n".repeat(skipped / 2);
            head.extend_from_slice(b"GET / HTTP/1.1\r\nHost: h\r\n");
            let size = limits.head_bytes_max() + excess;
            while head.len() < size - 4 {
                let line = (size - 4 - head.len()).min(60_000);
                head.extend_from_slice(b"a:");
                head.resize(head.len() + line.saturating_sub(2), b'a');
                head.extend_from_slice(b"\r\n");
            }
            head.truncate(size - 4);
            head.extend_from_slice(b"\r\n\r\n");
            let whole = parse(&head, &limits);
            let mut scanner = HeadScanner::default();
            assert_eq!(scanner.parse(&head[..100], &limits), Ok(None));
            assert_eq!(scanner.parse(&head, &limits), whole, "{skipped} {excess}");
            let status = whole.map(|_| ()).map_err(|refusal| refusal.status.as_u16());
            let expected = if excess == 0 { Ok(()) } else { Err(431) };
            assert_eq!(status, expected, "{skipped} {excess}");
        }
    }

    #[test]
    fn what_a_beginning_tells() {
        let cases: [(&[u8], Option<bool>, bool); 9] = [
            (b"", Some(false), false),
            (b"\r", Some(false), false),
            (b"\r\n\r\n", Some(false), false),
            (b"\r\nG", Some(true), false),
            (b"\r\nHEAD ", Some(true), true),
            (b"HEAD / HTTP/9\n", Some(true), true),
            (b"HEADS / HTTP/1.1", Some(true), false),
            (b"\nHEAD / HTTP/1.1", None, false),
            (b"\r\n\r\n\r\n\r\n\r\n", None, false),
        ];
        for (bytes, begun, head) in cases {
            let shown = bytes.escape_ascii();
            assert_eq!(has_begun(bytes).ok(), begun, "{shown}");
            assert_eq!(is_head(bytes), head, "{shown}");
        }
    }

    #[test]
    fn one_scanner_reads_many_heads() {
        let limits = Limits::default();
        let mut scanner = HeadScanner::default();
        for cut in 0..REQUEST.len() {
            assert_eq!(scanner.parse(&REQUEST[..cut], &limits), Ok(None), "{cut}");
            let (head, len) = scanner.parse(REQUEST, &limits).unwrap().unwrap();
            assert_eq!((head.authority_str(), len), ("h:1", REQUEST.len()));
        }
        assert_eq!(scanner.parse(&REQUEST[..30], &limits), Ok(None));
        let shorter = b"GET / HTTP/1.0\r\n\r\n";
        let (head, len) = scanner.parse(shorter, &limits).unwrap().unwrap();
        assert_eq!((head.version, len), (Version::Http10, shorter.len()));
    }

    #[test]
    fn uris() {
        let cases: [(&str, &str); 5] = [
            ("GET /a?b HTTP/1.1\r\nHost: h:1\r\n\r\n", "https://h:1/a?b"),
            ("GET //a HTTP/1.1\r\nHost: h\r\n\r\n", "https://h//a"),
            ("GET http://i?q HTTP/1.1\r\nHost: h\r\n\r\n", "http://i/?q"),
            ("GET /a HTTP/1.0\r\n\r\n", "/a"),
            ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "*"),
        ];
        for (request, uri) in cases {
            let (head, _) = parse(request.as_bytes(), &Limits::default())
                .unwrap()
                .unwrap();
            assert_eq!(head.uri(Scheme::HTTPS).to_string(), uri);
        }
    }
}
