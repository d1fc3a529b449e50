//! Defines tests over many made-up inputs. Every failure names the seed that repeats it.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::uri::Scheme;
use http::{HeaderMap, StatusCode};

use super::body::{BodyDecoder, Step};
use super::corpus_tests::corpus;
use super::head::{Framing, HeadScanner, Version, parse};
use super::limits::Limits;
use super::replay::replay;
use super::response::{BodyLength, ResponseHead};

/// SplitMix64: small, and the same numbers everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
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

/// Encodes content in random pieces as a response of unknown length; answers with the body alone.
fn encode_chunked(content: &[u8], random: &mut Random) -> Vec<u8> {
    let headers = HeaderMap::new();
    let head = ResponseHead {
        status: StatusCode::OK,
        headers: &headers,
        version: Version::Http11,
        head_request: false,
        keep_alive: true,
        body: BodyLength::Unknown,
        date: b"",
        server: None,
    };
    let mut out = BytesMut::new();
    let mut encoder = head.encode(&mut out).unwrap();
    let mut body = Vec::new();
    for piece in random.cut(content) {
        let frame = encoder.encode(piece.len()).unwrap();
        assert!(frame.send());
        body.extend_from_slice(frame.prefix());
        body.extend_from_slice(piece);
        body.extend_from_slice(frame.suffix());
    }
    body.extend_from_slice(encoder.finish().unwrap());
    assert!(!encoder.must_close());
    body
}

#[test]
fn what_is_encoded_in_chunks_is_decoded() {
    for seed in 0..500 {
        let mut random = Random(seed);
        let len = random.below(600);
        let content: Vec<u8> = (0..len).map(|_| random.byte()).collect();
        let body = encode_chunked(&content, &mut random);
        let mut decoder = BodyDecoder::new(Framing::Chunked, &Limits::default());
        let mut decoded = Vec::new();
        for piece in random.cut(&body) {
            let mut rest = piece;
            while !rest.is_empty() {
                assert!(!decoder.is_end(), "seed {seed}");
                let step = decoder.decode(rest).unwrap();
                let consumed = step.consumed();
                if let Step::Data(range) = step {
                    decoded.extend_from_slice(&rest[range]);
                }
                rest = &rest[consumed..];
            }
        }
        assert!(decoder.is_end(), "seed {seed}");
        assert_eq!(decoded, content, "seed {seed}");
    }
}

/// Damages the corpus at random: nothing panics, and the cut never changes the answer.
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
    }
}

/// An accepted head holds nothing that could not be written again without changing its meaning.
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
        assert!(head.authority.is_some(), "seed {seed}");
        let lengths = head.headers.get_all("content-length").iter().count();
        assert_eq!(head.framing == Framing::None, lengths == 0, "seed {seed}");
        let lines = bytes.split(|byte| *byte == b'\n').count();
        assert_eq!(head.headers.len(), lines - 3, "seed {seed}");
        assert!(
            head.headers
                .values()
                .all(|value| !value.as_bytes().contains(&b'\r'))
        );
        let uri = head.uri(Scheme::HTTP);
        assert_eq!(
            uri.to_string().parse::<http::Uri>().ok(),
            Some(uri),
            "seed {seed}"
        );
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
