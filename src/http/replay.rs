//! Defines what the server would make of all that one client sends, without a connection: for
//! tests, fuzz targets and comparisons, which give it the bytes whole or in pieces.
//!
//! Invariant: [`Account::check`] holds for the account of any bytes, under any limits.

use bytes::BytesMut;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri};

use super::body::{BodyDecoder, Step};
use super::head::{Framing, Head, HeadScanner, Version};
use super::limits::Limits;
use super::refusal::Refusal;
use super::response::{BodyLength, ResponseHead};
use super::target::Target;

/// As far as any setting goes.
const CEILINGS: Limits = Limits {
    request_line_bytes: 0,
    fields: 0,
    field_bytes: 0,
};

/// What came of the bytes of one client.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    /// The requests whose heads were accepted, in order.
    pub requests: Vec<Request>,
    /// What came after them.
    pub end: End,
}

/// A request whose head was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Its head.
    pub head: Head,
    /// Its content, as far as that came.
    pub content: Vec<u8>,
    /// Whether the content came to its end.
    pub complete: bool,
}

/// How the bytes of a client end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// After a request; another may follow.
    Idle,
    /// In the middle of a request.
    Unfinished,
    /// After a request that ends the connection; whatever follows is not looked at.
    Close,
    /// With bytes that are refused.
    Refused(Refusal),
}

impl Account {
    /// Checks what must hold for the account of any bytes.
    ///
    /// # Panics
    ///
    /// If an accepted request could be read in a second way, is beyond the limits, or is another
    /// one when it is written and read again.
    pub fn check(&self, limits: &Limits) {
        for (index, request) in self.requests.iter().enumerate() {
            request.check(limits);
            let last = index + 1 == self.requests.len();
            assert!(request.complete || last);
            assert!(request.head.keep_alive || last);
        }
        let complete = self.requests.iter().take_while(|request| request.complete);
        let written: Vec<u8> = complete.clone().flat_map(Request::encode).collect();
        let again = replay([&written[..]], &CEILINGS);
        assert!(again.requests.iter().eq(complete), "{again:?} of {self:?}");
        assert!(matches!(again.end, End::Idle | End::Close), "{again:?}");
    }
}

impl Request {
    /// The request as a careful client would have sent it.
    pub fn encode(&self) -> Vec<u8> {
        let head = &self.head;
        let origin = match &head.scheme {
            Some(scheme) if head.target == Target::Absolute => {
                format!("{scheme}://{}", head.authority_str())
            }
            Some(_) | None => String::new(),
        };
        let version = match head.version {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
        };
        let path = &head.path_and_query;
        let mut out = format!("{} {origin}{path} {version}\r\n", head.method).into_bytes();
        for (name, value) in &head.headers {
            let line = [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"];
            out.extend(line.concat());
        }
        out.extend_from_slice(b"\r\n");
        match head.framing {
            Framing::Chunked => out.extend(encode_chunks([&self.content[..]])),
            Framing::None | Framing::Length(_) => out.extend_from_slice(&self.content),
        }
        out
    }

    fn check(&self, limits: &Limits) {
        let head = &self.head;
        let values = |name: &HeaderName| {
            let all = head.headers.get_all(name).iter();
            all.map(|value| value.as_bytes()).collect::<Vec<_>>()
        };
        let hosts = values(&HOST).len();
        assert!(hosts <= 1 && head.authority.is_some() == (hosts == 1));
        assert!(head.authority.is_some() || head.version == Version::Http10);
        let (lengths, codings) = (values(&CONTENT_LENGTH), values(&TRANSFER_ENCODING));
        match head.framing {
            Framing::None => assert!(lengths.is_empty() && codings.is_empty()),
            Framing::Length(length) => {
                let [text] = lengths[..] else {
                    panic!("{head:?}")
                };
                let digits = str::from_utf8(text).map(|text| text.trim_start_matches('0'));
                assert_eq!(length.to_string().trim_start_matches('0'), digits.unwrap());
                assert!(codings.is_empty() && self.content.len() as u64 <= length);
            }
            Framing::Chunked => {
                assert!(lengths.is_empty() && head.version == Version::Http11);
                assert!(
                    matches!(&codings[..], [coding] if coding.eq_ignore_ascii_case(b"chunked"))
                );
            }
        }
        assert!(!head.expect_continue || head.framing.has_content());
        // Host is put in, if only an absolute target says it.
        let added = usize::from(head.authority.is_some());
        assert!(head.headers.len() <= limits.fields_max() + added);
        for (name, value) in &head.headers {
            let value = value.as_bytes();
            // The Host of an absolute target stands in the request line.
            let max = limits.field_bytes_max().max(limits.request_line_max());
            assert!(name.as_str().len() + 1 + value.len() <= max);
            assert!(
                value
                    .iter()
                    .all(|byte| *byte == b'\t' || !byte.is_ascii_control())
            );
            assert_eq!(value, value.trim_ascii());
        }
        self.check_target();
    }

    fn check_target(&self) {
        let (head, path) = (&self.head, self.head.path_and_query.as_str());
        assert!(head.method != Method::CONNECT);
        assert!(
            path.bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'#')
        );
        match head.target {
            Target::Asterisk => assert!(path == "*" && head.method == Method::OPTIONS),
            Target::Origin | Target::Absolute => assert!(path.starts_with('/')),
        }
        if let Some(authority) = &head.authority {
            assert!(!authority.host().is_empty());
            assert!(
                !authority
                    .as_str()
                    .contains(['@', '/', '?', ' ', ',', '%', '\\'])
            );
        }
        let uri = head.uri(Scheme::HTTP);
        assert_eq!(uri.to_string().parse::<Uri>().ok(), Some(uri));
    }
}

/// Reads what one client sends, in these pieces.
pub fn replay<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &Limits) -> Account {
    let mut connection = Connection {
        limits: *limits,
        ..Connection::default()
    };
    let mut end = None;
    for piece in pieces {
        connection.buffer.extend_from_slice(piece);
        end = connection.drive();
        if end.is_some() {
            break;
        }
    }
    let idle = connection.body.is_none() && connection.buffer.is_empty();
    Account {
        requests: connection.requests,
        end: end.unwrap_or(if idle { End::Idle } else { End::Unfinished }),
    }
}

#[derive(Default)]
struct Connection {
    limits: Limits,
    buffer: Vec<u8>,
    heads: HeadScanner,
    /// Takes the content of the last request, which is not complete.
    body: Option<BodyDecoder>,
    requests: Vec<Request>,
}

impl Connection {
    /// Goes on until more bytes are needed, or with the end until there is one.
    fn drive(&mut self) -> Option<End> {
        loop {
            let last = self.requests.last();
            if self.body.is_none() && last.is_some_and(|request| !request.head.keep_alive) {
                return Some(End::Close);
            }
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(refusal) => return Some(End::Refused(refusal)),
            }
        }
    }

    /// Takes one step; says whether it was possible.
    fn advance(&mut self) -> Result<bool, Refusal> {
        let (Some(body), Some(request)) = (&mut self.body, self.requests.last_mut()) else {
            let Some((head, consumed)) = self.heads.parse(&self.buffer, &self.limits)? else {
                return Ok(false);
            };
            self.buffer.drain(..consumed);
            self.body = Some(BodyDecoder::new(head.framing, &self.limits));
            self.requests.push(Request {
                head,
                content: Vec::new(),
                complete: false,
            });
            return Ok(true);
        };
        let step = body.decode(&self.buffer)?;
        let consumed = step.consumed();
        match step {
            Step::Data(range) => request.content.extend_from_slice(&self.buffer[range]),
            Step::NeedMore(_) => {}
            Step::End(_) => {
                request.complete = true;
                self.body = None;
            }
        }
        self.buffer.drain(..consumed);
        Ok(self.body.is_none() || consumed > 0)
    }
}

/// What came of a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The content, as far as it came.
    pub content: Vec<u8>,
    /// How many bytes the body has, once it came to its end.
    pub end: Result<Option<usize>, Refusal>,
}

/// Reads a body in these pieces, which may go on after it.
pub fn decode<'a>(
    framing: Framing,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: &Limits,
) -> Decoded {
    let mut decoder = BodyDecoder::new(framing, limits);
    let (mut content, mut consumed) = (Vec::new(), 0);
    for mut piece in pieces {
        while !piece.is_empty() && !decoder.is_end() {
            let step = match decoder.decode(piece) {
                Ok(step) => step,
                Err(refusal) => {
                    let end = Err(refusal);
                    return Decoded { content, end };
                }
            };
            let used = step.consumed();
            if let Step::Data(range) = step {
                content.extend_from_slice(&piece[range]);
            }
            piece = &piece[used..];
            consumed += used;
        }
    }
    let end = Ok(decoder.is_end().then_some(consumed));
    Decoded { content, end }
}

/// The body of a response whose length nobody knew, made of these pieces.
pub fn encode_chunks<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let head = ResponseHead {
        status: StatusCode::OK,
        headers: &HeaderMap::new(),
        version: Version::Http11,
        head_request: false,
        keep_alive: true,
        body: BodyLength::Unknown,
        date: b"",
        server: None,
    };
    let mut encoder = head.encode(&mut BytesMut::new()).unwrap();
    let mut body = Vec::new();
    for piece in pieces {
        let frame = encoder.encode(piece.len()).unwrap();
        assert_eq!(frame.send(), !piece.is_empty());
        body.extend_from_slice(frame.prefix());
        body.extend_from_slice(piece);
        body.extend_from_slice(frame.suffix());
    }
    body.extend_from_slice(encoder.finish().unwrap());
    assert!(!encoder.must_close());
    body
}
