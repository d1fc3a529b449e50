//! Defines the requests that the servers are compared by: good ones, and good ones with a few things wrong.

use crate::random::Random;

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
const TARGETS: [&str; 9] = [
    "/",
    "/a/b?c=d&e",
    "/%41%2f?%20",
    "/a;b=c/:@!$&'()*+,",
    "/?/?",
    "//a",
    "http://example.com/a?b",
    "http://example.com:80",
    "http://OTHER.example./",
];
const FIELDS: [&str; 9] = [
    "Accept: */*",
    "User-Agent: a/1 (b; c)",
    "Cookie: a=b; c=d",
    "X-Empty:",
    "X-Tab:\ta\tb",
    "X-Text: caf\u{e9}",
    "Connection: keep-alive",
    "Expect: 100-continue",
    "x!#$%&'*+-.^_`|~0: v",
];

const ODD_METHODS: [&str; 9] = [
    "get", "G-T", "M_1", "", "GET\t", "GE(T", "PRI", "CONNECT", "G\u{e9}T",
];
const ODD_TARGETS: [&str; 27] = [
    "*",
    "",
    "a",
    "example.com:80",
    "/a b",
    "/#a",
    "/a\tb",
    "/\u{e9}",
    "/<a>",
    "/\"",
    "/{a}|^`\\",
    "/%zz",
    "/%00",
    "/../..",
    "/a/../b//c",
    "?a",
    "HTTP://EXAMPLE.com/",
    "https://example.com/",
    "ftp://example.com/",
    "http:///a",
    "http://a@example.com/",
    "http://example.com?a",
    "http://example.com:99999/",
    "http://[::1]:80/a",
    "http://[::g]/",
    "http://exa%6dple.com/",
    "http://example.com\\a",
];
const ODD_VERSIONS: [&str; 12] = [
    "HTTP/1.0",
    "HTTP/1.2",
    "HTTP/0.9",
    "HTTP/2.0",
    "HTTP/1",
    "HTTP/1.10",
    "HTTP/01.1",
    "http/1.1",
    "HTTP/1.1 ",
    " HTTP/1.1",
    "HTP/1.1",
    "",
];
const ODD_FIELDS: [&str; 58] = [
    "Host: other.example",
    "Host:",
    "Host: a b",
    "Host: a@b",
    "Host: a/b",
    "Host: a,b",
    "Host: a:99999",
    "Host: a:b",
    "Host: a:",
    "Host: [::1]:80",
    "Host: [::1",
    "Host: a%41",
    "Host: \u{e9}",
    "Content-Length: 0",
    "Content-Length: 3",
    "Content-Length: 003",
    "Content-Length: +3",
    "Content-Length: -3",
    "Content-Length: 3, 3",
    "Content-Length: 3,4",
    "Content-Length: 0x3",
    "Content-Length: 3 3",
    "Content-Length:",
    "Content-Length: 3_0",
    "Content-Length: 99999999999999999999",
    "Content-Length: 18446744073709551615",
    "Content_Length: 3",
    "Content-Length : 3",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: Chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, gzip",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunkedx",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: chunked;a=b",
    "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding: x chunked",
    "Transfer-Encoding:\x0bchunked",
    "Transfer-Encoding:",
    "Transfer-Encoding : chunked",
    "Transfer_Encoding: chunked",
    "Connection: close",
    "Connection: x, CLOSE",
    "Connection: closed",
    "Expect: x",
    "Trailer: Content-Length",
    "Upgrade: h2c",
    "X: \u{7f}",
    "X\u{0}: a",
    "(X): a",
    ": a",
    "no colon",
];
const ODD_LINE_ENDS: [&str; 6] = ["\n", "\r", "\r\r\n", "\n\r", "\r\n ", "\r\n\r\n"];
const ODD_COLONS: [&str; 6] = [" : ", "\t:", ":", ":  \t", " ", "::"];
const ODD_SIZES: [&str; 25] = [
    "+3",
    "-3",
    "0x3",
    "3 ",
    " 3",
    "3\t",
    "3 ;a",
    "3;a",
    "3;a=\"b;c\"",
    "3;\"",
    "3;\n",
    "3;\r",
    "3;\0",
    "03",
    "3g",
    "3_0",
    "3,3",
    "3.0",
    "",
    "g",
    "ffffffffffffffff3",
    "0000000000000000000000003",
    "4",
    "2",
    "0",
];
const ODD_ENDS_OF_DATA: [&str; 6] = ["", "\n", "\r", "XX", "\n\r", "\r\n\r\n"];
const ODD_TRAILERS: [&str; 8] = [
    "A: b\r\n",
    "Content-Length: 3\r\n",
    "A : b\r\n",
    "A: b\n",
    " A: b\r\n",
    "no colon\r\n",
    ": b\r\n",
    "A: \0\r\n",
];
const BYTES: &[u8] = b"\r\n\t :;,\0\x0b\x7f\x80\xff/*?#@[]%09aAfFgZ\"\\";

/// A request in parts, each of which can be spoilt.
struct Draft {
    method: String,
    target: String,
    version: String,
    fields: Vec<String>,
    colon: Option<(usize, &'static str)>,
    line_end: Option<(usize, &'static str)>,
    body: Body,
}

enum Body {
    None,
    Plain(Vec<u8>),
    Chunked {
        chunks: Vec<Chunk>,
        trailers: String,
        last: &'static str,
    },
}

struct Chunk {
    size: String,
    data: Vec<u8>,
    end: &'static str,
}

fn pick<'a>(random: &mut Random, words: &[&'a str]) -> &'a str {
    words[random.below(words.len())]
}

/// Bytes that a client could send.
pub(crate) fn generate(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=random.below(3) {
        if random.one_in(12) {
            bytes.extend(b"\r\n".repeat(1 + random.below(4)));
        }
        let mut draft = Draft::good(random);
        for _ in 0..random.below(3) {
            draft.spoil(random);
        }
        bytes.extend(draft.write());
    }
    if random.one_in(4) {
        damage(&mut bytes, random);
    }
    bytes
}

/// Changes, adds, takes away or cuts off one byte.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len());
    let byte = BYTES[random.below(BYTES.len())];
    match random.below(8) {
        0..3 => bytes[at] = byte,
        3..6 => bytes.insert(at, byte),
        6 => drop(bytes.remove(at)),
        _ => bytes.truncate(at),
    }
}

impl Draft {
    fn good(random: &mut Random) -> Self {
        let mut fields = vec!["Host: example.com".to_owned()];
        for _ in 0..random.below(3) {
            fields.push(pick(random, &FIELDS).to_owned());
        }
        let content: Vec<u8> = match random.below(3) {
            0 => b"hello".to_vec(),
            1 => b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            _ => b"0\r\n\r\n".to_vec(),
        };
        let body = match random.below(3) {
            0 => Body::None,
            1 => {
                fields.push(format!("Content-Length: {}", content.len()));
                Body::Plain(content)
            }
            _ => {
                fields.push("Transfer-Encoding: chunked".to_owned());
                Body::chunked(&content, random)
            }
        };
        random.shuffle(&mut fields);
        Self {
            method: pick(random, &METHODS).to_owned(),
            target: pick(random, &TARGETS).to_owned(),
            version: "HTTP/1.1".to_owned(),
            fields,
            colon: None,
            line_end: None,
            body,
        }
    }

    /// Puts one thing wrong, or at least odd.
    fn spoil(&mut self, random: &mut Random) {
        let line = random.below(self.fields.len().max(1));
        match random.below(12) {
            0 => self.method = pick(random, &ODD_METHODS).to_owned(),
            1 | 2 => self.target = pick(random, &ODD_TARGETS).to_owned(),
            3 => self.version = pick(random, &ODD_VERSIONS).to_owned(),
            4 | 5 => self
                .fields
                .insert(line, pick(random, &ODD_FIELDS).to_owned()),
            6 if line < self.fields.len() => drop(self.fields.remove(line)),
            7 if line < self.fields.len() => self.fields.push(self.fields[line].clone()),
            8 => self.colon = Some((line, pick(random, &ODD_COLONS))),
            9 => {
                let line = random.below(self.fields.len() + 2);
                self.line_end = Some((line, pick(random, &ODD_LINE_ENDS)));
            }
            _ => self.body.spoil(random),
        }
    }

    fn write(&self) -> Vec<u8> {
        let mut lines = vec![format!("{} {} {}", self.method, self.target, self.version)];
        lines.extend(self.fields.iter().cloned());
        if let Some((line, colon)) = self.colon
            && let Some(text) = lines.get_mut(line + 1)
        {
            *text = text.replacen(": ", colon, 1);
        }
        lines.push(String::new());
        let mut out = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            out.extend_from_slice(line.as_bytes());
            let odd = self.line_end.filter(|(odd, _)| *odd == at);
            out.extend_from_slice(odd.map_or("\r\n", |(_, end)| end).as_bytes());
        }
        self.body.write(&mut out);
        out
    }
}

impl Body {
    fn chunked(content: &[u8], random: &mut Random) -> Self {
        let pieces = content.chunks(1 + random.below(content.len()));
        let chunks = pieces.map(|data| Chunk {
            size: format!("{:x}", data.len()),
            data: data.to_vec(),
            end: "\r\n",
        });
        Self::Chunked {
            chunks: chunks.collect(),
            trailers: String::new(),
            last: "0\r\n",
        }
    }

    fn spoil(&mut self, random: &mut Random) {
        match self {
            Self::None => *self = Self::Plain(b"abc".to_vec()),
            Self::Plain(content) if random.one_in(2) => content.push(b'x'),
            Self::Plain(content) => drop(content.pop()),
            Self::Chunked {
                chunks,
                trailers,
                last,
            } => {
                let at = random.below(chunks.len());
                match random.below(6) {
                    0 => chunks[at].end = pick(random, &ODD_ENDS_OF_DATA),
                    1 => trailers.push_str(pick(random, &ODD_TRAILERS)),
                    2 => {
                        *last = pick(
                            random,
                            &["", "0\n", "00\r\n", "0 \r\n", "0;a\r\n", "-0\r\n"],
                        )
                    }
                    3 => chunks[at].size.push_str(pick(
                        random,
                        &[" ", ";a", " ; a = \"b\"", "\t;", ";a\n", ";\"\r\n"],
                    )),
                    _ => chunks[at].size = pick(random, &ODD_SIZES).to_owned(),
                }
            }
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::None => {}
            Self::Plain(content) => out.extend_from_slice(content),
            Self::Chunked {
                chunks,
                trailers,
                last,
            } => {
                for Chunk { size, data, end } in chunks {
                    out.extend_from_slice(size.as_bytes());
                    out.extend_from_slice(b"\r\n");
                    out.extend_from_slice(data);
                    out.extend_from_slice(end.as_bytes());
                }
                out.extend_from_slice(last.as_bytes());
                out.extend_from_slice(trailers.as_bytes());
                out.extend_from_slice(b"\r\n");
            }
        }
    }
}
