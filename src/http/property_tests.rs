//! Defines tests over many made-up inputs. Every failure names the seed that repeats it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::corpus_tests::corpus;
use super::head::{Framing, Head, HeadScanner, Version, parse};
use super::limits::Limits;
use super::proxy_protocol::{self, HEADER_BYTES_MAX, Header, Malformed, Versions};
use super::replay::{Account, End, Request, decode, encode_chunks, replay};
use super::response::{BodyLength, ResponseHead};
use super::target::Target;

/// SplitMix64: small, and the same numbers everywhere.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn chance(&mut self) -> bool {
        self.below(2) == 0
    }

    /// Fewer than `end` bytes.
    fn bytes(&mut self, end: usize) -> Vec<u8> {
        (0..self.below(end)).map(|_| self.byte()).collect()
    }

    /// Cuts bytes into random pieces.
    fn cut<'a>(&mut self, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(1 + self.below(bytes.len().min(40)));
            pieces.push(piece);
            bytes = rest;
        }
        pieces
    }
}

#[test]
fn what_is_encoded_in_chunks_is_decoded() {
    for seed in 0..500 {
        let mut random = Random(seed);
        let content = random.bytes(600);
        let body = encode_chunks(random.cut(&content));
        let pieces = random.cut(&body);
        let decoded = decode(Framing::Chunked, pieces, &Limits::default());
        assert_eq!(decoded.end, Ok(Some(body.len())), "seed {seed}");
        assert_eq!(decoded.content, content, "seed {seed}");
    }
}

/// A response that an app could give, fields that are not its own to set among them.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    content: Vec<u8>,
    known: bool,
    head_request: bool,
    keep_alive: bool,
    version: Version,
}

impl Answer {
    fn random(random: &mut Random) -> Self {
        const STATUSES: [u16; 9] = [200, 200, 200, 204, 205, 304, 404, 503, 999];
        const FIELDS: [(&str, &str); 9] = [
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=9"),
            ("trailer", "x"),
            ("upgrade", "h2c"),
            ("x", "y"),
            ("empty", ""),
            ("date", "today"),
        ];
        let mut headers = HeaderMap::new();
        for _ in 0..random.below(4) {
            let (name, value) = FIELDS[random.below(FIELDS.len())];
            let name = HeaderName::from_static(name);
            headers.append(name, HeaderValue::from_static(value));
        }
        Self {
            status: StatusCode::from_u16(STATUSES[random.below(STATUSES.len())]).unwrap(),
            headers,
            content: random.bytes(8),
            known: random.chance(),
            head_request: random.below(4) == 0,
            keep_alive: random.below(4) > 0,
            version: if random.below(4) > 0 {
                Version::Http11
            } else {
                Version::Http10
            },
        }
    }

    /// Appends the response to `out`; says whether the connection may go on, or nothing if the
    /// response cannot be sent.
    fn encode(&self, random: &mut Random, out: &mut BytesMut) -> Option<bool> {
        let head = ResponseHead {
            status: self.status,
            headers: &self.headers,
            version: self.version,
            head_request: self.head_request,
            keep_alive: self.keep_alive,
            body: if self.known {
                BodyLength::Known(self.content.len() as u64)
            } else {
                BodyLength::Unknown
            },
            date: b"now",
            server: None,
        };
        let mut encoder = head.encode(out).ok()?;
        for piece in random.cut(&self.content) {
            let frame = encoder.encode(piece.len()).ok()?;
            if frame.send() {
                out.extend_from_slice(frame.prefix());
                out.extend_from_slice(piece);
                out.extend_from_slice(frame.suffix());
            }
        }
        out.extend_from_slice(encoder.finish().ok()?);
        Some(!encoder.must_close())
    }

    /// The content that a client is to find.
    fn visible(&self) -> &[u8] {
        let none = [204, 205, 304].contains(&self.status.as_u16()) || self.head_request;
        if none { b"" } else { &self.content }
    }
}

/// Reads one response as RFC 9112 section 6.3 tells a client to; answers with its content, the
/// bytes after it, and whether the connection may go on.
fn read_response<'a>(bytes: &'a [u8], answer: &Answer) -> (Vec<u8>, &'a [u8], bool) {
    let mut storage = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut storage);
    let parsed = response.parse(bytes).unwrap();
    let httparse::Status::Complete(head) = parsed else {
        panic!("{}", bytes.escape_ascii())
    };
    assert_eq!(response.code, Some(answer.status.as_u16()));
    let values = |wanted: &str| {
        let fields = response.headers.iter();
        let values: Vec<&[u8]> = fields
            .filter(|field| field.name.eq_ignore_ascii_case(wanted))
            .map(|field| field.value)
            .collect();
        assert!(values.len() <= 1, "{wanted} twice");
        values.first().copied()
    };
    let (length, coding) = (values("content-length"), values("transfer-encoding"));
    assert!(length.is_none() || coding.is_none());
    let forgets = values("connection") == Some(b"close");
    let rest = &bytes[head..];
    let status = answer.status.as_u16();
    let framing = if answer.head_request || status == 204 || status == 304 {
        Framing::None
    } else if coding.is_some() {
        assert!(answer.version == Version::Http11);
        Framing::Chunked
    } else if let Some(length) = length {
        Framing::Length(str::from_utf8(length).unwrap().parse().unwrap())
    } else {
        assert!(forgets, "a body until the end of a connection that goes on");
        return (rest.to_vec(), b"", false);
    };
    let body = decode(framing, [rest], &Limits::default());
    let used = if framing.has_content() {
        body.end.unwrap().unwrap()
    } else {
        0
    };
    (body.content, &rest[used..], !forgets)
}

/// Whatever an app answers, a client finds each content, and where the next response begins.
#[test]
fn responses_that_are_encoded_are_found_by_a_client() {
    let mut sent = 0;
    for seed in 0..20_000 {
        let mut random = Random(seed);
        let (mut out, mut answers) = (BytesMut::new(), Vec::new());
        let mut open = true;
        while open && answers.len() < 4 {
            let answer = Answer::random(&mut random);
            let before = out.len();
            match answer.encode(&mut random, &mut out) {
                Some(goes_on) => {
                    open = goes_on;
                    answers.push(answer);
                }
                // What was begun and cannot be ended is cut off.
                None => out.truncate(before),
            }
        }
        sent += answers.len();
        let mut rest = &out[..];
        for (index, answer) in answers.iter().enumerate() {
            let (content, after, goes_on) = read_response(rest, answer);
            assert_eq!(content, answer.visible(), "seed {seed}");
            assert_eq!(goes_on, open || index + 1 < answers.len(), "seed {seed}");
            rest = after;
        }
        assert_eq!(rest, b"", "seed {seed}");
    }
    assert!(sent > 40_000, "{sent}");
}

/// A request of tokens, with any framing.
fn random_request(random: &mut Random) -> Request {
    const METHODS: [&str; 4] = ["GET", "POST", "DELETE", "x-y"];
    const PATHS: [&str; 4] = ["/", "/a/../b?c=%00", "//c|d", "/?http://e/"];
    const SCHEMES: [&str; 2] = ["http", "https"];
    const HOSTS: [&str; 4] = ["a", "a.example:80", "[::1]", "192.0.2.1:0"];
    let content = random.bytes(40);
    let mut lines = vec![("accept".to_owned(), "*/*, a;q=0".to_owned())];
    let framing = match random.below(3) {
        0 => Framing::None,
        1 => Framing::Length(content.len() as u64),
        _ => Framing::Chunked,
    };
    match framing {
        Framing::None => {}
        Framing::Length(length) => lines.push(("content-length".to_owned(), length.to_string())),
        Framing::Chunked => lines.push(("transfer-encoding".to_owned(), "Chunked".to_owned())),
    }
    for _ in 0..random.below(4) {
        let name = format!("x-{}", random.below(3));
        lines.insert(
            random.below(lines.len()),
            (name, "v".repeat(random.below(9))),
        );
    }
    let authority = HOSTS[random.below(HOSTS.len())];
    let absolute = random.chance();
    lines.insert(
        random.below(lines.len()),
        ("host".to_owned(), authority.to_owned()),
    );
    let header = |(name, value): (String, String)| {
        (
            HeaderName::try_from(name).unwrap(),
            HeaderValue::try_from(value).unwrap(),
        )
    };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.into_iter().map(header) {
        headers.append(name, value);
    }
    Request {
        head: Head {
            method: METHODS[random.below(METHODS.len())].parse().unwrap(),
            target: if absolute {
                Target::Absolute
            } else {
                Target::Origin
            },
            scheme: absolute.then(|| SCHEMES[random.below(SCHEMES.len())].parse().unwrap()),
            authority: Some(authority.parse().unwrap()),
            path_and_query: PATHS[random.below(PATHS.len())].parse().unwrap(),
            version: Version::Http11,
            headers,
            framing,
            keep_alive: true,
            expect_continue: false,
        },
        content: if framing == Framing::None {
            Vec::new()
        } else {
            content
        },
        complete: true,
    }
}

#[test]
fn requests_that_are_encoded_are_read_as_they_were() {
    for seed in 0..5000 {
        let mut random = Random(seed);
        let requests: Vec<Request> = (0..=random.below(3))
            .map(|_| random_request(&mut random))
            .collect();
        let bytes: Vec<u8> = requests.iter().flat_map(Request::encode).collect();
        let account = replay(random.cut(&bytes), &Limits::default());
        let expected = Account {
            requests,
            end: End::Idle,
        };
        assert_eq!(account, expected, "seed {seed}");
        account.check(&Limits::default());
    }
}

/// Damages the corpus at random: nothing panics, the cut never changes the answer, and what is
/// accepted has one meaning.
#[test]
fn damaged_requests_get_one_answer_however_they_are_cut() {
    const BYTES: &[u8] = b"\r\n\t :;,\0\x7f\x80\xff/*?#@[]%09aAfFgZ\"";
    let mut entries = corpus("valid");
    entries.extend(corpus("invalid"));
    for seed in 0..20_000 {
        let mut random = Random(seed);
        let entry = &entries[random.below(entries.len())];
        let mut bytes = entry.bytes.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] = BYTES[random.below(BYTES.len())],
                1 => bytes.insert(at, BYTES[random.below(BYTES.len())]),
                2 if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => bytes[at] = random.byte(),
            }
        }
        let whole = replay([&bytes[..]], &entry.limits);
        let pieces = replay(random.cut(&bytes), &entry.limits);
        let single = replay(bytes.chunks(1), &entry.limits);
        assert_eq!(whole, pieces, "seed {seed}, from {}", entry.name);
        assert_eq!(whole, single, "seed {seed}, from {}", entry.name);
        whole.check(&entry.limits);
    }
}

/// One changed byte in a good request: often accepted, and then with one meaning.
#[test]
fn accepted_heads_are_unambiguous() {
    let limits = Limits::default();
    let mut accepted = 0;
    for seed in 0..20_000 {
        let mut random = Random(seed);
        let mut bytes =
            b"POST /p?q HTTP/1.1\r\nHost: h:1\r\nContent-Length: 3\r\nA: b c\r\n\r\n".to_vec();
        let at = random.below(bytes.len());
        bytes[at] = random.byte();
        let Ok(Some((head, consumed))) = parse(&bytes, &limits) else {
            continue;
        };
        accepted += 1;
        assert_eq!(consumed, bytes.len(), "seed {seed}");
        let lines = bytes.split(|byte| *byte == b'\n').count();
        assert_eq!(head.headers.len(), lines - 3, "seed {seed}");
        replay([&bytes[..]], &limits).check(&limits);
    }
    assert!(accepted > 1000, "{accepted}");
}

/// A head of the largest size, fed in the smallest pieces: a cost that grew with the square of
/// the size would take hours.
#[test]
fn feeding_byte_by_byte_is_linear() {
    let limits = Limits::default();
    let mut head = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
    for _ in 0..99 {
        head.extend_from_slice(b"x: ");
        head.resize(head.len() + 8187, b'x');
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    let started = Instant::now();
    let mut scanner = HeadScanner::default();
    for end in 1..head.len() {
        assert_eq!(scanner.parse(&head[..end], &limits), Ok(None));
    }
    let (parsed, consumed) = scanner.parse(&head, &limits).unwrap().unwrap();
    assert_eq!((parsed.headers.len(), consumed), (100, head.len()));
    assert!(started.elapsed() < Duration::from_secs(60));
}

/// A header as a proxy writes it, and what it says.
fn proxy_header(random: &mut Random) -> (Vec<u8>, Header) {
    let mut socket = |six: bool| {
        let octets: [u8; 16] = std::array::from_fn(|_| random.byte());
        let four = [octets[0], octets[1], octets[2], octets[3]];
        let address = if six {
            IpAddr::from(Ipv6Addr::from(octets))
        } else {
            IpAddr::from(four)
        };
        SocketAddr::new(address, u16::from_be_bytes([octets[4], octets[5]]))
    };
    let six = socket(false).port() % 2 == 0;
    let (source, destination) = (socket(six), socket(six));
    let header = Header::Relayed {
        source,
        destination,
    };
    if random.below(2) == 0 {
        let protocol = if six { "TCP6" } else { "TCP4" };
        let (from, to) = (source.ip(), destination.ip());
        let ports = format!("{} {}", source.port(), destination.port());
        return (
            format!("PROXY {protocol} {from} {to} {ports}\r\n").into(),
            header,
        );
    }
    let octets = |socket: SocketAddr| match socket.ip() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let mut rest = [octets(source), octets(destination)].concat();
    rest.extend(source.port().to_be_bytes());
    rest.extend(destination.port().to_be_bytes());
    rest.extend((0..random.below(300)).map(|_| random.byte()));
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    bytes.push(if six { 0x21 } else { 0x11 });
    bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    bytes.extend(rest);
    (bytes, header)
}

/// What is answered when bytes come one after the other.
fn by_byte(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let answers = (0..=bytes.len()).map(|end| proxy_protocol::parse(&bytes[..end], Versions::Any));
    let mut answers = answers.skip_while(|answer| *answer == Ok(None));
    answers.next().unwrap_or(Ok(None))
}

#[test]
fn what_a_proxy_writes_is_read_however_it_is_cut() {
    for seed in 0..2000 {
        let (bytes, header) = proxy_header(&mut Random(seed));
        let expect = Ok(Some((header, bytes.len())));
        assert_eq!(by_byte(&bytes), expect, "seed {seed}");
        let more = [&bytes[..], b"GET / HTTP/1.1\r\n"].concat();
        let whole = proxy_protocol::parse(&more, Versions::Any);
        assert_eq!(whole, expect, "seed {seed}");
    }
}

#[test]
fn damaged_proxy_headers_get_one_answer_however_they_are_cut() {
    let mut refused = 0;
    for seed in 0..20_000 {
        let mut random = Random(seed);
        let (mut bytes, _) = proxy_header(&mut random);
        let at = random.below(bytes.len());
        match random.below(3) {
            0 => bytes[at] = random.byte(),
            1 => bytes.insert(at, random.byte()),
            _ => drop(bytes.remove(at)),
        }
        bytes.extend((0..random.below(100)).map(|_| random.byte()));
        let whole = proxy_protocol::parse(&bytes, Versions::Any);
        assert_eq!(whole, by_byte(&bytes), "seed {seed}");
        refused += usize::from(whole.is_err());
    }
    assert!(refused > 1000, "{refused}");
}

#[test]
fn a_proxy_header_is_bounded() {
    for start in [&b"PROXY UNKNOWN "[..], b"\r\n\r\n\0\r\nQUIT\n\x21\0\x10\0"] {
        let mut bytes = start.to_vec();
        bytes.resize(HEADER_BYTES_MAX, b'x');
        let answer = proxy_protocol::parse(&bytes, Versions::Any);
        assert_ne!(answer, Ok(None), "{}", start.escape_ascii());
    }
}
