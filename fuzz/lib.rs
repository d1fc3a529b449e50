//! What the fuzz targets share: the server's HTTP, and how an input is read.

#[allow(dead_code, reason = "what only the server uses")]
#[path = "../src/http/mod.rs"]
pub mod http;
#[cfg(not(test))]
#[path = "../src/http/replay.rs"]
pub mod replay;

use ::http::Request;
use ::http::request::Parts;

use self::http::limits::Limits;
#[cfg(not(test))]
use self::http::{body, head, limits, refusal, response, target};

/// No request, chunk or target begins with it.
const MARK: u8 = 0xff;

/// As far as any setting goes.
pub const CEILINGS: Limits = Limits {
    request_line_bytes: 0,
    fields: 0,
    field_bytes: 0,
};

/// What a fuzzer made, taken apart.
pub struct Input<'a> {
    /// What a client sends.
    pub bytes: &'a [u8],
    /// The limits that hold for it.
    pub limits: Limits,
    /// Where it is cut for the comparison with the whole, within its length.
    pub cut: usize,
}

impl<'a> Input<'a> {
    /// Reads an input. Most are what a client sends, as it is, so that the corpus of `tests/http`
    /// can be a seed; one that begins with 0xff has the limits and the cut in the next four bytes.
    pub fn read(input: &'a [u8]) -> Self {
        let (bytes, limits, cut) = match input {
            [MARK, line, fields, field, cut, bytes @ ..] => {
                let limits = Limits {
                    request_line_bytes: (*line).into(),
                    fields: (*fields).into(),
                    field_bytes: (*field).into(),
                };
                (bytes, limits, usize::from(*cut))
            }
            bytes => (bytes, Limits::default(), bytes.len() / 2),
        };
        Self {
            bytes,
            limits,
            cut: cut.min(bytes.len()),
        }
    }

    /// The bytes whole, in two pieces, and one by one.
    pub fn cuts(&self) -> [Vec<&'a [u8]>; 3] {
        let (before, after) = self.bytes.split_at(self.cut);
        [
            vec![self.bytes],
            vec![before, after],
            self.bytes.chunks(1).collect(),
        ]
    }
}

/// Reads a head that HTTP/2 could have, and whether content follows, from what looks like HTTP/1.1:
/// a line that begins with a method and a URI, lines with fields, an empty line, content.
pub fn request(input: &[u8]) -> Option<(Parts, bool)> {
    let mut lines = input.split(|byte| *byte == b'\n');
    let mut words = lines.next()?.trim_ascii_end().split(|byte| *byte == b' ');
    let (method, uri) = (words.next()?, words.next()?);
    let mut request = Request::builder().method(method).uri(uri);
    for line in lines.by_ref() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        // Another space is the value's.
        request = request.header(name, value.strip_prefix(b" ").unwrap_or(value));
    }
    let has_content = lines.next().is_some_and(|content| !content.is_empty());
    let (parts, ()) = request.body(()).ok()?.into_parts();
    Some((parts, has_content))
}
